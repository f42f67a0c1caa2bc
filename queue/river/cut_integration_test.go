package river_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/river"
)

// fates is what a test knows of its jobs.
type fates struct {
	mu       sync.Mutex
	enqueued map[string]string // by id: "acknowledged", "refused", "nobody knows"
	runs     map[string]int
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
	return nil
}

// A claim whose answer is lost leaves its jobs to River's rescuer, so this takes
// half a minute.
func TestIntegrationConnectionsAreCutUnderLoad(t *testing.T) {
	t.Parallel()
	const cuts = 15
	pool := connect(t)
	name := schema(t, pool)
	cfg := pool.Config()
	cfg.ConnConfig.RuntimeParams["application_name"] = name
	frail, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(frail.Close)
	q := open(t, frail, name)
	f := &fates{enqueued: map[string]string{}, runs: map[string]int{}}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx, map[string]queue.Handler{"test": f.handle}, hasty) }()
	loading, unload := context.WithCancel(t.Context())
	var enqueuers sync.WaitGroup
	for n := range 4 {
		enqueuers.Go(func() {
			for i := 0; loading.Err() == nil; i++ {
				j := queue.Job{ID: fmt.Sprintf("%d-%d", n, i), Kind: "test"}
				if i%3 == 0 {
					j.DedupeKey = j.ID
				}
				f.enqueue(t.Context(), q, j)
				time.Sleep(rand.N(10 * time.Millisecond))
			}
		})
	}
	ended := 0
	for range cuts {
		time.Sleep(100*time.Millisecond + rand.N(100*time.Millisecond))
		var n int
		require.NoError(t, pool.QueryRow(t.Context(), "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = $1", name).Scan(&n))
		ended += n
	}
	unload()
	enqueuers.Wait()
	empty(t, open(t, pool, name, river.WithConfig(leads)))
	stop()
	require.NoError(t, <-done)
	f.check(t, ended)
}

func (f *fates) check(t *testing.T, ended int) {
	t.Helper()
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
	assert.Greater(t, count["acknowledged"], 50)
	t.Logf("%d connections ended: %d jobs acknowledged, %d refused, %d of which nobody knows; lost %d, run again %d",
		ended, count["acknowledged"], count["refused"], count["nobody knows"], count["lost"], count["run again"])
}
