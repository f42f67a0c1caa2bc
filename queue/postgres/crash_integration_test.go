package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
)

// fates is what a test knows of its jobs.
type fates struct {
	mu       sync.Mutex
	enqueued map[string]string // by id: "acknowledged", "refused", "nobody knows"
	runs     map[string]int    // handlers begun
	settled  map[string]bool   // the worker was told so
	again    []string          // begun after that
}

func (f *fates) enqueue(ctx context.Context, q queue.Queue, j queue.Job) {
	_, err := q.Enqueue(ctx, j)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		f.enqueued[j.ID] = "acknowledged"
	case errors.Is(err, fault.Unavailable):
		f.enqueued[j.ID] = "refused"
	default:
		f.enqueued[j.ID] = "nobody knows"
	}
}

func (f *fates) handle(_ context.Context, d queue.Delivery) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.runs[d.ID]++
	if f.settled[d.ID] {
		f.again = append(f.again, d.ID)
	}
	if d.Attempt == 1 && rand.N(10) == 0 {
		return errors.New("boom")
	}
	return nil
}

func (f *fates) observe(e queue.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.Type == queue.Finished {
		f.settled[e.ID] = true
	}
}

// POSTGRES_KILLS=50 makes it longer.
func TestIntegrationTheServerIsKilledUnderLoad(t *testing.T) {
	kills := 5
	if n, err := strconv.Atoi(os.Getenv("POSTGRES_KILLS")); err == nil {
		kills = n
	}
	s := newServer(t)
	f := &fates{enqueued: map[string]string{}, runs: map[string]int{}, settled: map[string]bool{}}
	queues := []queue.Queue{open(t, connectTo(t, s.url), "q"), open(t, connectTo(t, s.url), "q")} // as two processes have them
	for _, q := range queues {
		ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan error, 1)
		go func() {
			done <- q.Run(ctx, map[string]queue.Handler{"test": f.handle}, queue.With(func(o *queue.RunOptions) {
				o.Lease, o.Poll, o.Initial, o.Longest, o.Observe = 2*time.Second, 200*time.Millisecond, 10*time.Millisecond, 50*time.Millisecond, f.observe
			}))
		}()
		t.Cleanup(func() { stop(); require.NoError(t, <-done) })
	}
	loading, stop := context.WithCancel(t.Context())
	var enqueuers sync.WaitGroup
	for n := range 4 {
		enqueuers.Go(func() {
			for i := 0; loading.Err() == nil; i++ {
				j := queue.Job{ID: fmt.Sprintf("%d-%d", n, i), Kind: "test"}
				if i%2 == 0 {
					j.Key = fmt.Sprint("key ", i%16)
				}
				if i%5 == 0 {
					j.DedupeKey = j.ID
				}
				f.enqueue(t.Context(), queues[n%2], j)
				time.Sleep(rand.N(5 * time.Millisecond))
			}
		})
	}
	for range kills {
		time.Sleep(500*time.Millisecond + rand.N(500*time.Millisecond))
		s.kill(t)
		time.Sleep(rand.N(200 * time.Millisecond))
		s.start(t)
	}
	time.Sleep(500 * time.Millisecond)
	stop()
	enqueuers.Wait()
	empty(t, queues[0])
	f.check(t, kills)
}

func (f *fates) check(t *testing.T, kills int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	count := map[string]int{}
	for id, fate := range f.enqueued {
		count[fate]++
		switch runs := f.runs[id]; {
		case fate == "acknowledged" && runs == 0:
			count["lost"]++
		case fate == "refused" && runs > 0:
			count["refused and run"]++
		case runs > 1:
			count["run again"]++
		}
	}
	assert.Zero(t, count["lost"], "what was acknowledged has run")
	assert.Zero(t, count["refused and run"], "what was refused as not stored wasn't")
	assert.Empty(t, f.again, "what was settled never runs again")
	assert.Greater(t, count["acknowledged"], 100)
	t.Logf("%d kills: %d jobs acknowledged, %d refused, %d of which nobody knows; lost %d; run after they were settled %d; run more than once %d, a tenth failed by itself",
		kills, count["acknowledged"], count["refused"], count["nobody knows"], count["lost"], len(f.again), count["run again"])
}
