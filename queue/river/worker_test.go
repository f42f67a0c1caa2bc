package river_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/queue"
)

const patience = 90 * time.Second // River's leader looks for dead workers every 30 seconds

// worker runs jobs of kind "test" and notes them.
type worker struct {
	mu     sync.Mutex
	ran    []queue.Delivery
	events []queue.Event
	stop   func()
}

// watch starts a worker, which ends with the test. Its jobs end as then says.
func watch(t testing.TB, q queue.Queue, then func(context.Context, queue.Delivery) error, change func(*queue.RunOptions)) *worker {
	t.Helper()
	w := &worker{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	options := queue.With(func(o *queue.RunOptions) {
		o.Poll, o.Initial, o.Longest, o.Observe = 50*time.Millisecond, 10*time.Millisecond, 20*time.Millisecond, w.observe
		if change != nil {
			change(o)
		}
	})
	go func() {
		done <- q.Run(ctx, map[string]queue.Handler{"test": func(ctx context.Context, d queue.Delivery) error {
			w.mu.Lock()
			w.ran = append(w.ran, d)
			w.mu.Unlock()
			if then == nil {
				return nil
			}
			return then(ctx, d)
		}}, options)
	}()
	w.stop = sync.OnceFunc(func() { cancel(); require.NoError(t, <-done) })
	t.Cleanup(w.stop)
	return w
}

func (w *worker) observe(e queue.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

func (w *worker) saw() []queue.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.events)
}

func (w *worker) deliveries() []queue.Delivery {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.ran)
}

func (w *worker) payloads() (out []string) {
	for _, d := range w.deliveries() {
		out = append(out, string(d.Payload))
	}
	return out
}

func (w *worker) await(t testing.TB, n int) []string {
	t.Helper()
	eventually(t, func() bool { return len(w.deliveries()) >= n })
	return w.payloads()
}

// idle waits until it has certainly looked, and found nothing.
func (w *worker) idle(t testing.TB) {
	t.Helper()
	time.Sleep(200 * time.Millisecond)
}

func eventually(t testing.TB, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
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

func enqueue(t testing.TB, q queue.Queue, jobs ...queue.Job) []queue.Enqueued {
	t.Helper()
	out, err := q.Enqueue(t.Context(), jobs...)
	require.NoError(t, err)
	return out
}

func awaitDead(t testing.TB, q queue.DeadLetters, n int) (dead []queue.Dead) {
	t.Helper()
	eventually(t, func() bool {
		var err error
		dead, err = q.Dead(t.Context(), "", 100)
		require.NoError(t, err)
		return len(dead) >= n
	})
	return dead
}
