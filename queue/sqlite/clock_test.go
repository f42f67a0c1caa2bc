package sqlite

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/queue"
)

// clock is one that jumps.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) jump(d time.Duration) { c.ahead.Add(int64(d)) }

// orphan leaves a job to a worker that is never heard of again, for a lease of a
// minute.
func orphan(t *testing.T, q *Queue, c *clock) {
	t.Helper()
	enqueue(t, q, "orphan")
	now := c.now()
	claimed, err := q.store.Claim(t.Context(), queue.Claim{Now: now, Until: now.Add(time.Minute), Kinds: []string{"test"}, N: 1})
	require.NoError(t, err)
	require.Len(t, claimed, 1)
}

func TestAClockThatJumpsLosesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		jump      time.Duration
		at, later []string // what runs right after the jump, and what when the clock is where it was, a minute on
	}{
		"back by a minute":     {-time.Minute, []string{"ready"}, []string{"orphan", "delayed"}},
		"back by half an hour": {-30 * time.Minute, []string{"ready"}, []string{"orphan", "delayed"}},
		"back by a day":        {-24 * time.Hour, []string{"orphan", "ready"}, []string{"delayed"}}, // no lease is so long
		"forward by a day":     {24 * time.Hour, []string{"orphan", "ready", "delayed"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var clock clock
			path := filepath.Join(t.TempDir(), "queue.db")
			q := at(t, path, queue.WithClock(clock.now))
			orphan(t, q, &clock)
			delayed := job("delayed")
			delayed.NotBefore = clock.now().Add(50 * time.Second)
			_, err := q.Enqueue(t.Context(), job("ready"), delayed)
			require.NoError(t, err)

			clock.jump(c.jump)
			s := work(t, q, nil, asIs)
			eventually(t, "what is due is done", func() bool { return len(s.payloads()) == len(c.at) })
			time.Sleep(100 * time.Millisecond) // nothing else may come, and the file is a real one
			assert.ElementsMatch(t, c.at, s.payloads())
			enqueue(t, q, "new") // and what comes after the jump doesn't wait for the clock
			eventually(t, "a new job is done", func() bool { return len(s.payloads()) == len(c.at)+1 })

			clock.jump(time.Minute - c.jump)
			awaitEmpty(t, q)
			s.stop()
			assert.ElementsMatch(t, append(append([]string{"new"}, c.at...), c.later...), s.payloads())
			assert.Zero(t, stats(t, q))
		})
	}
}

// A holder that lives keeps its job over a jump of less than a lease's limit; over
// a longer one another may begin it, and one of both settles it.
func TestAJobThatRunsOutlastsAClockThatJumps(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		jump time.Duration
		most int
	}{
		"back by half an hour": {-30 * time.Minute, 1},
		"back by a day":        {-24 * time.Hour, 2},
		"forward by a day":     {24 * time.Hour, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var clock clock
			q := at(t, filepath.Join(t.TempDir(), "queue.db"), queue.WithClock(clock.now))
			enqueue(t, q, "long")
			begun := make(chan struct{}, 10)
			end := make(chan struct{})
			h := func(ctx context.Context, _ queue.Delivery) error {
				begun <- struct{}{}
				select {
				case <-end:
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			lease := func(o *queue.RunOptions) { o.Lease = 5 * time.Second }
			one, two := work(t, q, h, lease), work(t, q, h, lease)
			<-begun
			clock.jump(c.jump)
			time.Sleep(2 * time.Second) // a sign of life, and time in which another may take it
			close(end)
			awaitEmpty(t, q)
			one.stop()
			two.stop()
			runs := len(one.payloads()) + len(two.payloads())
			assert.GreaterOrEqual(t, runs, 1)
			assert.LessOrEqual(t, runs, c.most)
			assert.Zero(t, stats(t, q), "neither lost nor dead")
		})
	}
}
