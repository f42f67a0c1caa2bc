package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/postgres"
)

// The delicate moment of a key is when its last job is settled, or cancelled,
// while the next one is being enqueued. Here that happens all the time: two
// enqueuers for each key, of which each waits for its job to be done before it
// enqueues the next, in transactions and without, some of it cancelled, and
// workers in two pools. Nothing may be stuck in the end, run twice, or run beside
// another of its key.
func TestIntegrationKeysThatRunEmptyAllTheTime(t *testing.T) {
	const keys, enqueuersPerKey, each = 8, 2, 100
	pools := []*pgxpool.Pool{connect(t), connect(t)}
	name := schema(t, pools[0])
	queues := []*postgres.Queue{open(t, pools[0], name), open(t, pools[1], name)}
	l := &ledger{busy: map[string]bool{}, ran: map[string]int{}, done: map[string]chan struct{}{}}
	for _, q := range append(queues, queues...) {
		work(t, q, l.handle(t))
	}
	var cancelled atomic.Int64
	var all sync.WaitGroup
	for n := range keys * enqueuersPerKey {
		all.Go(func() {
			for i := range each {
				job := queue.Job{ID: fmt.Sprintf("%d-%d", n, i), Kind: "test", Key: fmt.Sprint("key ", n%keys)}
				done := l.expect(job.ID)
				if i%3 == 0 {
					assert.NoError(t, enqueueTx(t.Context(), queues[i%2], pools[i%2], job))
				} else {
					_, err := queues[i%2].Enqueue(t.Context(), job)
					assert.NoError(t, err)
				}
				if i%5 == 0 {
					ok, err := queues[i%2].Cancel(t.Context(), job.ID)
					if assert.NoError(t, err) && ok[0] {
						cancelled.Add(1)
						continue
					}
				}
				select {
				case <-done:
				case <-time.After(patience):
					t.Errorf("%s of %s is stuck", job.ID, job.Key)
					return
				}
			}
		})
	}
	all.Wait()
	empty(t, queues[0])
	l.mu.Lock()
	defer l.mu.Unlock()
	assert.Equal(t, keys*enqueuersPerKey*each, len(l.ran)+int(cancelled.Load()), "what was enqueued has run or was cancelled")
	t.Logf("%d jobs of %d keys ran, %d were cancelled", len(l.ran), keys, cancelled.Load())
}

// ledger sees what runs.
type ledger struct {
	mu   sync.Mutex
	busy map[string]bool          // by key
	ran  map[string]int           // by id
	done map[string]chan struct{} // by id
}

func (l *ledger) expect(id string) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done[id] = make(chan struct{})
	return l.done[id]
}

func (l *ledger) handle(t *testing.T) queue.Handler {
	return func(_ context.Context, d queue.Delivery) error {
		l.mu.Lock()
		assert.False(t, l.busy[d.Key], "two of %s at once", d.Key)
		l.busy[d.Key] = true
		l.ran[d.ID]++
		assert.Equal(t, 1, l.ran[d.ID], "%s ran again", d.ID)
		l.mu.Unlock()
		if rand.N(4) == 0 {
			time.Sleep(rand.N(time.Millisecond))
		}
		l.mu.Lock()
		l.busy[d.Key] = false
		close(l.done[d.ID])
		l.mu.Unlock()
		return nil
	}
}

// enqueueTx holds its transaction open for a moment.
func enqueueTx(ctx context.Context, q *postgres.Queue, pool *pgxpool.Pool, job queue.Job) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := q.Tx(tx).Enqueue(ctx, job); err != nil {
		return err
	}
	time.Sleep(rand.N(3 * time.Millisecond))
	return tx.Commit(ctx)
}

// work runs a handler until the test ends.
func work(t *testing.T, q queue.Queue, h queue.Handler) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- q.Run(ctx, map[string]queue.Handler{"test": h}, queue.With(func(o *queue.RunOptions) { o.Poll = 100 * time.Millisecond }))
	}()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
}

// Each of the two has a pool and a worker of its own, and neither polls.
func TestIntegrationOneProcessWakesTheOther(t *testing.T) {
	one, two := connect(t), connect(t)
	name := schema(t, one)
	from, to := open(t, one, name), open(t, two, name)
	w := watch(t, to, func(o *queue.RunOptions) { o.Poll = time.Hour })
	listening(t, one, name, 1)
	for i := range 20 {
		_, err := from.Enqueue(t.Context(), queue.Job{Kind: "test", Key: fmt.Sprint(i % 2)})
		require.NoError(t, err)
		w.await(t, i+1)
	}
}

// listening waits until so many connections listen to name, and says which.
func listening(t *testing.T, pool *pgxpool.Pool, name string, n int) (pids []uint32) {
	t.Helper()
	eventually(t, func() bool {
		rows, err := pool.Query(t.Context(), "select pid from pg_stat_activity where query = $1 and state = 'idle'", "listen "+name)
		require.NoError(t, err)
		pids = nil
		for rows.Next() {
			var pid uint32
			require.NoError(t, rows.Scan(&pid))
			pids = append(pids, pid)
		}
		return rows.Err() == nil && len(pids) == n
	})
	return pids
}

func TestIntegrationAListenerThatWasKilledListensAgain(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	from, to := open(t, pool, name), open(t, connect(t), name)
	w := watch(t, to, func(o *queue.RunOptions) { o.Poll = time.Hour })
	for i := range 3 {
		pids := listening(t, pool, name, 1)
		require.Equal(t, 1, terminate(t, pool, "pid = any($1)", pids))
		// While nobody listens, a job comes. The new connection finds it.
		_, err := from.Enqueue(t.Context(), queue.Job{Kind: "test", Payload: []byte("unheard")})
		require.NoError(t, err)
		w.await(t, 2*i+1)
		require.NotEqual(t, pids, listening(t, pool, name, 1))
		_, err = from.Enqueue(t.Context(), queue.Job{Kind: "test", Payload: []byte("heard")})
		require.NoError(t, err)
		w.await(t, 2*i+2)
	}
}

func TestIntegrationWithoutAListenerWorkersPoll(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	from, to := open(t, pool, name), open(t, connect(t), name)
	require.NoError(t, to.Close(t.Context()), "it no longer listens")
	w := watch(t, to, nil)
	w.idle(t)
	_, err := from.Enqueue(t.Context(), queue.Job{Kind: "test"})
	require.NoError(t, err)
	w.await(t, 1)
	require.NoError(t, from.Close(t.Context()))
	_, err = from.Enqueue(t.Context(), queue.Job{Kind: "test"})
	require.NoError(t, err, "what was closed still enqueues")
	w.await(t, 2)
}

func TestIntegrationManyProcessesMakeTheTablesAtOnce(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			q, err := postgres.Open(t.Context(), pool, postgres.WithSchema(name))
			if assert.NoError(t, err) {
				assert.NoError(t, q.Close(t.Context()))
			}
		})
	}
	all.Wait()
}

// A service may have no right to make tables, once they are there.
func TestIntegrationTablesThatAreThereNeedNoRightToMakeThem(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	open(t, pool, name)
	role := "user_of_" + name
	for _, sql := range []string{
		"create role " + role + " login",
		"grant usage on schema " + name + " to " + role,
		"grant select on " + name + ".migrations to " + role,
		"grant select, insert, update, delete on " + name + ".jobs, " + name + ".dedupe to " + role,
	} {
		_, err := pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		_, err := pool.Exec(context.WithoutCancel(t.Context()), "drop owned by "+role+"; drop role "+role)
		require.NoError(t, err)
	})
	cfg := pool.Config()
	cfg.ConnConfig.User = role
	poor, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(poor.Close)
	q := open(t, poor, name)
	_, err = q.Enqueue(t.Context(), queue.Job{Kind: "test", Key: "k", DedupeKey: "d"})
	require.NoError(t, err)
	runAll(t, q)
	_, err = postgres.Open(t.Context(), poor, postgres.WithSchema(name+"_other"))
	require.ErrorContains(t, err, "permission denied")
}

// The database's defaults are not those that the locks need.
func TestIntegrationTheDefaultIsolationDoesNotMatter(t *testing.T) {
	pool := connect(t)
	cfg := pool.Config()
	cfg.ConnConfig.RuntimeParams["default_transaction_isolation"] = "serializable"
	strict, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(strict.Close)
	q := open(t, strict, schema(t, pool))
	w := watch(t, q, nil)
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for range 20 {
				_, err := q.Enqueue(t.Context(), queue.Job{Kind: "test", Key: fmt.Sprint(n % 2)})
				assert.NoError(t, err)
			}
		})
	}
	all.Wait()
	w.await(t, 160)
}

func TestIntegrationAnErrorMaySayAnything(t *testing.T) {
	pool := connect(t)
	q := open(t, pool, schema(t, pool))
	_, err := q.Enqueue(t.Context(), queue.Job{Kind: "test", MaxAttempts: 2})
	require.NoError(t, err)
	work(t, q, func(context.Context, queue.Delivery) error {
		return errors.New("\x00 and \xff" + strings.Repeat("é", 600))
	})
	eventually(t, func() bool { return stats(t, q).Dead == 1 })
	dead, err := q.Dead(t.Context(), "", 1)
	require.NoError(t, err)
	assert.Contains(t, dead[0].Reason, "� and �é")
}

func TestIntegrationOldDedupeKeysAreSweptUp(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	q := open(t, pool, name)
	var jobs []queue.Job
	for i := range 2500 {
		jobs = append(jobs, queue.Job{Kind: "test", DedupeKey: fmt.Sprint(i), DedupeFor: time.Millisecond})
	}
	_, err := q.Enqueue(t.Context(), append(jobs, queue.Job{Kind: "test", DedupeKey: "lives"})...)
	require.NoError(t, err)
	runAll(t, q)
	watch(t, q, func(o *queue.RunOptions) { o.Poll = 10 * time.Millisecond })
	eventually(t, func() bool {
		var n int
		require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from "+name+".dedupe").Scan(&n))
		return n == 1
	})
}
