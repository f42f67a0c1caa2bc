package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
)

// shift is a worker that goes on until stop, and what it was told.
type shift struct {
	mu     sync.Mutex
	ran    []string // payloads, in their order
	events []queue.Event
	stop   func()
}

// work runs a queue; h may be nil.
func work(t *testing.T, q *Queue, h queue.Handler, change func(*queue.RunOptions)) *shift {
	t.Helper()
	s := &shift{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- q.Run(ctx, map[string]queue.Handler{"test": func(ctx context.Context, d queue.Delivery) error {
			s.mu.Lock()
			s.ran = append(s.ran, string(d.Payload[:min(len(d.Payload), 20)]))
			s.mu.Unlock()
			if h == nil {
				return nil
			}
			return h(ctx, d)
		}}, func(o *queue.RunOptions) {
			o.Poll, o.Initial, o.Longest, o.Lease = 20*time.Millisecond, time.Millisecond, time.Millisecond, time.Second
			o.Observe = func(e queue.Event) { s.mu.Lock(); s.events = append(s.events, e); s.mu.Unlock() }
			change(o)
		})
	}()
	s.stop = sync.OnceFunc(func() { cancel(); assert.NoError(t, <-done) })
	t.Cleanup(s.stop)
	return s
}

func asIs(*queue.RunOptions) {}

func (s *shift) payloads() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ran)
}

// failures are what the store answered to the worker.
func (s *shift) failures() (all []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if e.Type == queue.StoreFailed {
			all = append(all, e.Err)
		}
	}
	return all
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, 20*time.Second, 5*time.Millisecond, what)
}

func stats(t *testing.T, q *Queue) queue.Stats {
	t.Helper()
	s, err := q.Stats(t.Context())
	require.NoError(t, err)
	return s
}

func awaitEmpty(t *testing.T, q *Queue) {
	t.Helper()
	eventually(t, "all is done", func() bool { s := stats(t, q); return s.Ready+s.Waiting+s.Running == 0 })
}

func job(payload string) queue.Job { return queue.Job{Kind: "test", Payload: []byte(payload)} }

func enqueue(t *testing.T, q *Queue, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		_, err := q.Enqueue(t.Context(), job(p))
		require.NoError(t, err)
	}
}

// other is a connection to the file that isn't the queue's, as another process
// has it.
func other(t *testing.T, path string) *sql.Conn {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, errors.Join(conn.Close(), db.Close())) })
	return conn
}

func do(t *testing.T, conn *sql.Conn, statement string, args ...any) {
	t.Helper()
	_, err := conn.ExecContext(t.Context(), statement, args...)
	require.NoError(t, err)
}

// impatient is a queue that waits that long for a lock.
func impatient(t *testing.T, path string, patience time.Duration) *Queue {
	t.Helper()
	q, err := open(t.Context(), path, patience)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, q.Close(context.WithoutCancel(t.Context()))) })
	return q
}

func TestALockedFileIsUnavailableAndNothingIsStoredOrLost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	q := impatient(t, path, 50*time.Millisecond)
	enqueue(t, q, "before")
	locker := other(t, path)
	do(t, locker, "BEGIN IMMEDIATE")

	_, err := q.Enqueue(t.Context(), job("refused"))
	assert.ErrorIs(t, err, fault.Unavailable)
	assert.ErrorContains(t, err, path+": another connection has locked it")
	assert.ErrorContains(t, err, "SQLITE_BUSY", "the cause")
	assert.ErrorIs(t, q.Discard(t.Context(), "a"), fault.Unavailable)
	assert.Equal(t, 1, stats(t, q).Ready, "who reads doesn't wait")

	s := work(t, q, nil, asIs)
	eventually(t, "the worker is told", func() bool { return len(s.failures()) >= 3 })
	for _, err := range s.failures() {
		assert.ErrorIs(t, err, fault.Unavailable)
	}
	assert.Empty(t, s.payloads())
	do(t, locker, "ROLLBACK")
	awaitEmpty(t, q)
	enqueue(t, q, "after")
	awaitEmpty(t, q)
	s.stop()
	assert.Equal(t, []string{"before", "after"}, s.payloads())
}

func TestALockThatEndsInTimeIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	q := impatient(t, path, 20*time.Second)
	locker := other(t, path)
	do(t, locker, "BEGIN IMMEDIATE")
	var all sync.WaitGroup
	all.Go(func() { enqueue(t, q, "patient") })

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := q.Enqueue(ctx, job("gone"))
	assert.ErrorIs(t, err, fault.Canceled, "who gives up leaves at once, and nothing is stored")
	do(t, locker, "COMMIT")
	all.Wait()
	assert.Equal(t, 1, stats(t, q).Ready)
}

// A job that was done while the file was locked isn't done again when the lock
// ends within its lease.
func TestAJobThatEndsWhileTheFileIsLockedIsSettledLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	q := impatient(t, path, 50*time.Millisecond)
	enqueue(t, q, "a")
	locker := other(t, path)
	locked := make(chan struct{})
	s := work(t, q, func(context.Context, queue.Delivery) error {
		do(t, locker, "BEGIN IMMEDIATE")
		close(locked)
		return nil
	}, func(o *queue.RunOptions) { o.Workers, o.Lease = 1, time.Minute })
	<-locked
	eventually(t, "the worker can't say that it is done", func() bool { return len(s.failures()) >= 2 })
	do(t, locker, "ROLLBACK")
	awaitEmpty(t, q)
	s.stop()
	assert.Equal(t, []string{"a"}, s.payloads())
}

// full fills a queue until it takes no more, and checks what it then does. The
// jobs whose payloads it gives were acknowledged.
func full(t *testing.T, q *Queue) (stored []string) {
	t.Helper()
	large := func(name string) queue.Job { return job(fmt.Sprintf("%-20s", name) + strings.Repeat("x", 50_000)) }
	var err error
	for n := 0; err == nil; n++ {
		require.Less(t, n, 1000, "it is full in the end")
		if _, err = q.Enqueue(t.Context(), large(fmt.Sprint("one ", n))); err == nil {
			stored = append(stored, fmt.Sprintf("%-20s", fmt.Sprint("one ", n)))
		}
	}
	assert.ErrorIs(t, err, fault.Unavailable)
	assert.ErrorContains(t, err, q.store.path+": there is no room for it")
	assert.False(t, fault.MayHaveActed(err))

	batch := []queue.Job{job("a small one, too"), job("and another")}
	for n := range 50 {
		batch = append(batch, large(fmt.Sprint("batch ", n)))
	}
	_, err = q.Enqueue(t.Context(), batch...)
	assert.ErrorIs(t, err, fault.Unavailable)
	assert.Equal(t, len(stored), stats(t, q).Ready, "nothing is half stored")

	var all sync.WaitGroup
	var mu sync.Mutex
	for n := range 16 { // who shares a transaction with one that has no room isn't lied to
		all.Go(func() {
			j := job(fmt.Sprintf("%-20s", fmt.Sprint("at once ", n)))
			if n%2 == 0 {
				j = large(fmt.Sprint("at once ", n))
			}
			_, err := q.Enqueue(t.Context(), j)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				stored = append(stored, string(j.Payload[:20]))
			} else {
				assert.ErrorIs(t, err, fault.Unavailable)
			}
		})
	}
	all.Wait()
	assert.Equal(t, len(stored), stats(t, q).Ready)
	return stored
}

// delivered checks that these were done, once each, and nothing else.
func delivered(t *testing.T, s *shift, want []string) {
	t.Helper()
	got := s.payloads()
	slices.Sort(got)
	want = slices.Sorted(slices.Values(want))
	assert.Equal(t, want, got)
}

func TestAFileThatMayNotGrowStoresNothingByHalvesAndWorksAgainWhenItMay(t *testing.T) {
	q := file(t)
	limit := func(pages int) {
		_, err := q.store.writer.session.conn.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", pages))
		require.NoError(t, err)
	}
	limit(300)
	stored := full(t, q)
	limit(10_000)
	enqueue(t, q, "room again          ")
	s := work(t, q, nil, asIs)
	awaitEmpty(t, q)
	s.stop()
	delivered(t, s, append(stored, "room again          "))
}

// A file is changed as no program of ours does it.
func TestWhatWasStoredAndMakesNoSenseIsADeadLetter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	q := at(t, path)
	for _, id := range []string{"version", "empty", "gone", "fine"} {
		_, err := q.Enqueue(t.Context(), queue.Job{ID: id, Kind: "test", Payload: []byte(id)})
		require.NoError(t, err)
	}
	const of = " (SELECT seq FROM queue_jobs WHERE id = ?)"
	conn := other(t, path)
	do(t, conn, "UPDATE queue_payloads SET data = x'09' WHERE seq ="+of, "version")
	do(t, conn, "UPDATE queue_payloads SET data = x'' WHERE seq ="+of, "empty")
	do(t, conn, "DELETE FROM queue_payloads WHERE seq ="+of, "gone")
	s := work(t, q, nil, asIs)
	awaitEmpty(t, q)
	s.stop()
	assert.Equal(t, []string{"fine"}, s.payloads())
	assert.Empty(t, s.failures())
	dead, err := q.Dead(t.Context(), "", 10)
	require.NoError(t, err)
	ids := []string{}
	for _, d := range dead {
		ids = append(ids, d.ID)
		assert.Contains(t, d.Reason, queue.ReasonUnreadable)
	}
	assert.ElementsMatch(t, []string{"version", "empty", "gone"}, ids)
}

func TestOpenSaysWhatIsWrongWithAFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	later := filepath.Join(dir, "later.db")
	at(t, later)
	do(t, other(t, later), "UPDATE queue_schema SET version = 99")
	for name, c := range map[string]struct {
		path string
		kind fault.Kind
		says string
	}{
		"no path":              {"", fault.Invalid, "the path of a file is required"},
		"memory":               {":memory:", fault.Invalid, "the path of a file is required"},
		"no such folder":       {filepath.Join(dir, "no", "queue.db"), fault.Unavailable, "queue.db: "},
		"a folder":             {dir, fault.Unavailable, dir + ": "},
		"no database":          {write("text.db", strings.Repeat("no database ", 1000)), fault.Invalid, "text.db: "},
		"from a later release": {later, fault.Unsupported, "version 99, this program knows 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), c.path)
			assert.ErrorIs(t, err, c.kind)
			assert.ErrorContains(t, err, c.says)
		})
	}
}

func TestAClosedQueueIsUnavailable(t *testing.T) {
	q, err := Open(t.Context(), filepath.Join(t.TempDir(), "queue.db"))
	require.NoError(t, err)
	require.NoError(t, q.Close(t.Context()))
	_, err = q.Enqueue(t.Context(), job("a"))
	assert.ErrorIs(t, err, fault.Unavailable)
	_, err = q.Stats(t.Context())
	assert.ErrorIs(t, err, fault.Unavailable)
}

// What SQLite leaves beside a file goes with the last connection that is closed.
func TestAClosedQueueKeepsNoFileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	q, err := Open(t.Context(), path)
	require.NoError(t, err)
	enqueue(t, q, "a", "b")
	s := work(t, q, nil, asIs)
	awaitEmpty(t, q)
	s.stop()
	assert.FileExists(t, path+"-wal")
	require.NoError(t, q.Close(t.Context()))
	assert.NoFileExists(t, path+"-wal")
	assert.NoFileExists(t, path+"-shm")
}
