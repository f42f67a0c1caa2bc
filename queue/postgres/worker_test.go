package postgres_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/queue"
)

const patience = 20 * time.Second

// worker runs jobs of kind "test" and notes their payloads.
type worker struct {
	mu   sync.Mutex
	ran  []string
	stop func()
}

// watch starts a worker, which ends with the test.
func watch(t testing.TB, q queue.Queue, change func(*queue.RunOptions)) *worker {
	w := &worker{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	options := []queue.RunOption{queue.With(func(o *queue.RunOptions) { o.Poll, o.Initial = 50*time.Millisecond, 10*time.Millisecond })}
	if change != nil {
		options = append(options, queue.With(change))
	}
	go func() {
		done <- q.Run(ctx, map[string]queue.Handler{"test": func(_ context.Context, d queue.Delivery) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ran = append(w.ran, string(d.Payload))
			return nil
		}}, options...)
	}()
	w.stop = sync.OnceFunc(func() { cancel(); require.NoError(t, <-done) })
	t.Cleanup(w.stop)
	return w
}

func (w *worker) payloads() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.ran)
}

func (w *worker) await(t testing.TB, n int) []string {
	t.Helper()
	eventually(t, func() bool { return len(w.payloads()) >= n })
	return w.payloads()
}

// idle waits until it has certainly looked, and found nothing.
func (w *worker) idle(t testing.TB) {
	t.Helper()
	time.Sleep(150 * time.Millisecond)
}

func eventually(t testing.TB, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "not within %v", patience)
	}
}

func stats(t testing.TB, q queue.Queue) queue.Stats {
	t.Helper()
	s, err := q.Stats(t.Context())
	require.NoError(t, err)
	return s
}

func empty(t testing.TB, q queue.Queue) {
	t.Helper()
	eventually(t, func() bool { s := stats(t, q); return s.Ready+s.Waiting+s.Running == 0 })
}

// runAll runs all that is there.
func runAll(t testing.TB, q queue.Queue) {
	t.Helper()
	w := watch(t, q, nil)
	empty(t, q)
	w.stop()
}

// terminate ends connections of which a condition on pg_stat_activity holds, and
// says how many.
func terminate(t testing.TB, pool *pgxpool.Pool, where string, args ...any) (n int) {
	t.Helper()
	err := pool.QueryRow(t.Context(), "select count(pg_terminate_backend(pid)) from pg_stat_activity where "+where, args...).Scan(&n)
	require.NoError(t, err)
	return n
}
