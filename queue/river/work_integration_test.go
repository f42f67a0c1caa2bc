package river_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	riverqueue "github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/river"
)

func TestIntegrationAKeyIsRefusedByName(t *testing.T) {
	pool := connect(t)
	q := open(t, pool, schema(t, pool))
	_, err := q.Enqueue(t.Context(), queue.Job{Kind: "test", DedupeKey: "d"}, queue.Job{Kind: "test", Key: "k"})
	require.ErrorIs(t, err, fault.Unsupported)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	var field *queue.FieldError
	require.ErrorAs(t, err, &field)
	assert.Equal(t, "key", field.Field)
	assert.Equal(t, queue.Stats{}, stats(t, q))
	assert.False(t, enqueue(t, q, queue.Job{Kind: "test", DedupeKey: "d"})[0].Duplicate)
}

func TestIntegrationPrioritiesAreRivers(t *testing.T) {
	pool := connect(t)
	q := open(t, pool, schema(t, pool))
	for _, p := range []int{-10, 0, 3, 10} {
		enqueue(t, q, queue.Job{Kind: "test", Priority: p, Payload: fmt.Append(nil, p)})
	}
	w := watch(t, q, nil, func(o *queue.RunOptions) { o.Workers = 1 })
	assert.Equal(t, []string{"10", "3", "0", "-10"}, w.await(t, 4))
	for _, d := range w.deliveries() {
		assert.Equal(t, string(d.Payload), fmt.Sprint(d.Priority), "the handler sees what was enqueued")
	}
	empty(t, q)
	w.stop()
	for _, e := range w.saw() {
		assert.Equal(t, queue.Finished, e.Type, "River has nothing to complain of: %v", e.Err)
	}
}

func TestIntegrationAHandlerHasItsLease(t *testing.T) {
	pool := connect(t)
	q := open(t, pool, schema(t, pool))
	enqueue(t, q, queue.Job{Kind: "test"})
	causes := make(chan error, 1)
	w := watch(t, q, func(ctx context.Context, d queue.Delivery) error {
		if d.Attempt > 1 {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
		}
		causes <- context.Cause(ctx)
		return ctx.Err()
	}, func(o *queue.RunOptions) { o.Lease = time.Second })
	start := time.Now()
	require.ErrorIs(t, <-causes, queue.ErrLeaseLost)
	assert.GreaterOrEqual(t, time.Since(start), 900*time.Millisecond)
	w.await(t, 2)
	second := w.deliveries()[1]
	assert.Equal(t, 2, second.Attempt, "the attempt counts, though River doesn't count what is cancelled by itself")
	assert.Equal(t, "context canceled", second.LastError)
	empty(t, q)
}

func TestIntegrationWhatRiverCancelsAndRetries(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	q := open(t, pool, name)
	team := teams(t, name)
	out := enqueue(t, q, queue.Job{Kind: "test", Payload: []byte("runs")}, queue.Job{Kind: "test", Payload: []byte("waits"), NotBefore: time.Now().Add(time.Hour)})
	w := watch(t, q, func(ctx context.Context, d queue.Delivery) error {
		if string(d.Payload) == "runs" && d.Attempt == 1 {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return nil
	}, nil)
	w.await(t, 1)
	for _, j := range list(t, team) {
		_, err := team.JobCancel(t.Context(), j)
		require.NoError(t, err)
	}
	dead := awaitDead(t, q, 2)
	reasons := map[string]string{}
	for _, d := range dead {
		reasons[d.ID] = d.Reason
	}
	assert.Contains(t, reasons[out[0].ID], "cancel", "one that ran is told to end, and isn't tried again")
	assert.Equal(t, "cancelled", reasons[out[1].ID])
	for _, j := range list(t, team) {
		_, err := team.JobRetry(t.Context(), j)
		require.NoError(t, err)
	}
	w.await(t, 3)
	empty(t, q)
	for _, d := range w.deliveries()[1:] {
		if d.ID == out[0].ID {
			assert.Equal(t, 2, d.Attempt, "what is retried there goes on counting")
		}
	}
}

// teams is a client of the team's, which doesn't work.
func teams(t *testing.T, name string) *riverqueue.Client[pgx.Tx] {
	t.Helper()
	c, err := riverqueue.NewClient(riverpgxv5.New(connect(t)), &riverqueue.Config{Schema: name})
	require.NoError(t, err)
	return c
}

func list(t *testing.T, c *riverqueue.Client[pgx.Tx]) (ids []int64) {
	t.Helper()
	jobs, err := c.JobList(t.Context(), riverqueue.NewJobListParams())
	require.NoError(t, err)
	for _, j := range jobs.Jobs {
		assert.Equal(t, "integrations:test", j.Kind)
		assert.Equal(t, river.DefaultQueue, j.Queue)
		ids = append(ids, j.ID)
	}
	return ids
}

func TestIntegrationWhatCanNotBeReadIsADeadLetterAndStays(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	q := open(t, pool, name)
	for _, row := range []string{
		`'[1]', '{}'`, `'{"id":"mine","payload":"?"}', '{"integrations":{"id":"mine"}}'`, `'{"id":"other","payload":"AGE="}', '{"integrations":{"id":"mine-too"}}'`,
	} {
		_, err := pool.Exec(t.Context(), `insert into `+name+`.river_job (queue, kind, max_attempts, args, metadata) values ('integrations', 'integrations:test', 25, `+row+`)`)
		require.NoError(t, err)
	}
	w := watch(t, q, nil, nil)
	check := func() (ids []string) {
		for _, d := range awaitDead(t, q, 3) {
			assert.True(t, strings.HasPrefix(d.Reason, queue.ReasonUnreadable), d.Reason)
			assert.Empty(t, d.Payload)
			ids = append(ids, d.ID)
		}
		return ids
	}
	ids := check()
	assert.ElementsMatch(t, []string{"river-1", "mine", "mine-too"}, ids)
	require.NoError(t, q.Replay(t.Context(), ids...))
	assert.ElementsMatch(t, ids, check())
	w.stop()
	assert.Empty(t, w.deliveries())
	var args string
	require.NoError(t, pool.QueryRow(t.Context(), `select args from `+name+`.river_job where id = 1`).Scan(&args))
	assert.Equal(t, "[1]", args, "what may be read by another version is as it was")
	require.NoError(t, q.Discard(t.Context(), "river-1", "mine"))
	assert.Len(t, awaitDead(t, q, 1), 1)
}

func TestIntegrationAnErrorMaySayAnything(t *testing.T) {
	pool := connect(t)
	q := open(t, pool, schema(t, pool))
	enqueue(t, q, queue.Job{Kind: "test", MaxAttempts: 2})
	watch(t, q, func(context.Context, queue.Delivery) error {
		return errors.New("\x00 and \xff" + strings.Repeat("é", 600))
	}, nil)
	assert.Contains(t, awaitDead(t, q, 1)[0].Reason, "� and �é")
}

func TestIntegrationOneDedupeKeyIsTakenOnce(t *testing.T) {
	pool := connect(t)
	q := open(t, pool, schema(t, pool))
	var fresh atomic.Int64
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 20 {
				// In both orders, so that two wait for one another.
				a, b := queue.Job{Kind: "test", DedupeKey: fmt.Sprint("a", i)}, queue.Job{Kind: "test", DedupeKey: fmt.Sprint("b", i)}
				if n%2 == 0 {
					a, b = b, a
				}
				out, err := q.Enqueue(t.Context(), a, b)
				if !assert.NoError(t, err) {
					return
				}
				for _, o := range out {
					if !o.Duplicate {
						fresh.Add(1)
					}
				}
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, 40, fresh.Load())
	assert.Equal(t, 40, stats(t, q).Ready)
}

func TestIntegrationAnIDIsTakenOnce(t *testing.T) {
	pool := connect(t)
	q := open(t, pool, schema(t, pool))
	var taken atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 20 {
				_, err := q.Enqueue(t.Context(), queue.Job{Kind: "test", ID: fmt.Sprint("id-", i)}, queue.Job{Kind: "test"})
				if err == nil {
					taken.Add(1)
				} else {
					assert.ErrorIs(t, err, fault.Conflict)
				}
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, 20, taken.Load())
	assert.Equal(t, 40, stats(t, q).Ready)
}

func TestIntegrationTwoQueuesOfOneRiverAreApart(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	one, two := open(t, pool, name), open(t, pool, name, river.WithQueue("mail-2"))
	job := queue.Job{Kind: "test", ID: "mine", DedupeKey: "once"}
	for _, q := range []*river.Queue{one, two} {
		assert.False(t, enqueue(t, q, job)[0].Duplicate)
	}
	w := watch(t, two, nil, nil)
	w.await(t, 1)
	empty(t, two)
	assert.Equal(t, 1, stats(t, one).Ready)
	assert.Len(t, w.deliveries(), 1)
}

func TestIntegrationTheLargestPayload(t *testing.T) {
	pool := connect(t)
	q := open(t, pool, schema(t, pool))
	large := bytes.Repeat([]byte("0123456789abcdef"), queue.MaxPayload/16)
	enqueue(t, q, queue.Job{Kind: "test", Payload: large})
	w := watch(t, q, nil, nil)
	w.await(t, 1)
	assert.True(t, bytes.Equal(large, w.deliveries()[0].Payload))
	empty(t, q)
}

func TestIntegrationRiverThatCanNotBeReachedIsReported(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	lost := connect(t)
	q := open(t, lost, name)
	lost.Close()
	w := watch(t, q, nil, nil)
	eventually(t, func() bool { return len(w.saw()) > 2 })
	for _, e := range w.saw() {
		assert.Equal(t, queue.StoreFailed, e.Type)
		require.Error(t, e.Err)
	}
	_, err := q.Enqueue(t.Context(), queue.Job{Kind: "test"})
	require.ErrorIs(t, err, fault.Unavailable)
	_, err = q.Stats(t.Context())
	require.Error(t, err)
	w.stop()
}

func TestIntegrationRunRefusesWhatRiverWould(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for says, change := range map[string]func(c *riverqueue.Config){
		"RescueStuckJobsAfter": func(c *riverqueue.Config) { c.RescueStuckJobsAfter = time.Second }, // the lease is a minute
		"kind": func(c *riverqueue.Config) {
			c.Workers = riverqueue.NewWorkers()
			require.NoError(t, river.Register(c.Workers, "test"))
		},
	} {
		q := open(t, pool, name, river.WithConfig(change))
		err := q.Run(ctx, map[string]queue.Handler{"test": func(context.Context, queue.Delivery) error { return nil }})
		require.ErrorIs(t, err, fault.Invalid)
		require.ErrorContains(t, err, says)
	}
}

func TestIntegrationAShortWaitNeedsNoPollOfOurs(t *testing.T) {
	pool := connect(t)
	q := open(t, pool, schema(t, pool))
	enqueue(t, q, queue.Job{Kind: "test"})
	start := time.Now()
	watch(t, q, func(_ context.Context, d queue.Delivery) error {
		if d.Attempt == 1 {
			return queue.RetryAfter(errors.New("busy"), 300*time.Millisecond)
		}
		return nil
	}, func(o *queue.RunOptions) { o.Poll = time.Hour }).await(t, 2)
	assert.Less(t, time.Since(start), 20*time.Second)
}
