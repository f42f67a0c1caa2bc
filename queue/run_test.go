package queue_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/queuetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBoom = errors.New("boom")

// trouble is a store that fails as it is told.
type trouble struct {
	*queuetest.Memory
	mu     sync.Mutex
	claim  error
	settle func([]queue.Settlement) error
	claims []time.Time
	asked  []int // how many jobs each claim asked for
}

func (s *trouble) Claim(ctx context.Context, c queue.Claim) ([]queue.Claimed, error) {
	s.mu.Lock()
	s.claims, s.asked = append(s.claims, time.Now()), append(s.asked, c.N)
	err := s.claim
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return s.Memory.Claim(ctx, c)
}

func (s *trouble) Settle(ctx context.Context, now time.Time, all []queue.Settlement) ([]bool, error) {
	s.mu.Lock()
	fails := s.settle
	s.mu.Unlock()
	if fails != nil {
		if err := fails(all); err != nil {
			return nil, err
		}
	}
	return s.Memory.Settle(ctx, now, all)
}

func (s *trouble) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// bench is a worker on a troubled store, in a bubble.
type bench struct {
	*queue.Engine
	store  *trouble
	mu     sync.Mutex
	events []queue.Event
	stop   func()
}

func (b *bench) seen() []queue.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events)
}

func (b *bench) types() string {
	out := []string{}
	for _, e := range b.seen() {
		out = append(out, string(e.Type))
	}
	return strings.Join(out, ", ")
}

func (b *bench) enqueue(t *testing.T, jobs ...queue.Job) {
	t.Helper()
	_, err := b.Enqueue(t.Context(), jobs...)
	require.NoError(t, err)
}

func inBubble(t *testing.T, h queue.Handler, change func(*queue.RunOptions), test func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{store: &trouble{Memory: &queuetest.Memory{}}}
		e, err := queue.NewEngine(b.store)
		require.NoError(t, err)
		b.Engine = e
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- e.Run(ctx, map[string]queue.Handler{"test": h}, queue.With(func(o *queue.RunOptions) {
				o.Observe = func(e queue.Event) { b.mu.Lock(); b.events = append(b.events, e); b.mu.Unlock() }
			}), change)
		}()
		b.stop = sync.OnceFunc(func() { cancel(); assert.NoError(t, <-done) })
		synctest.Wait()
		test(t, b)
		b.stop()
	})
}

// rest lets time pass, and all end what they do then.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func asIs(*queue.RunOptions) {}

func done(context.Context, queue.Delivery) error { return nil }

func job() queue.Job { return queue.Job{Kind: "test"} }

func TestAStoreThatFailsIsAskedOncePerPollAndReported(t *testing.T) {
	inBubble(t, done, asIs, func(t *testing.T, b *bench) {
		b.store.set(func() { b.store.claim = errBoom })
		b.enqueue(t, job()) // it is due, and wakes
		rest(21 * time.Second)
		b.store.set(func() {
			assert.Len(t, b.store.claims, 1+5, "one when it was well, then one every 5 s")
			b.store.claim = nil
		})
		for _, e := range b.seen() {
			assert.Equal(t, queue.StoreFailed, e.Type)
			assert.ErrorIs(t, e.Err, errBoom)
			assert.Equal(t, 5*time.Second, e.Wait)
		}
		rest(5 * time.Second)
		assert.True(t, strings.HasSuffix(b.types(), "store failed, finished"), b.types())
	})
}

func TestWhatAHandlerDidIsNotedAgainUntilTheStoreTakesIt(t *testing.T) {
	ran := 0
	h := func(context.Context, queue.Delivery) error { ran++; return nil }
	inBubble(t, h, asIs, func(t *testing.T, b *bench) {
		failures := 5
		b.store.set(func() {
			b.store.settle = func([]queue.Settlement) error {
				if failures--; failures >= 0 {
					return fault.New(fault.Unavailable, errBoom)
				}
				return nil
			}
		})
		b.enqueue(t, job())
		rest(10 * time.Second)
		assert.Equal(t, "store failed, store failed, store failed, store failed, store failed, finished", b.types())
		assert.Equal(t, 1, ran)
		waits := []time.Duration{}
		for _, e := range b.seen()[:5] {
			waits = append(waits, e.Wait)
		}
		assert.Equal(t, []time.Duration{50e6, 100e6, 200e6, 400e6, 800e6}, waits)
	})
}

func TestWhatCanNotBeNotedWithinTheLeaseRunsAgain(t *testing.T) {
	ran := 0
	h := func(context.Context, queue.Delivery) error { ran++; return nil }
	inBubble(t, h, asIs, func(t *testing.T, b *bench) {
		b.store.set(func() { b.store.settle = func([]queue.Settlement) error { return errBoom } })
		b.enqueue(t, job())
		rest(59 * time.Second)
		assert.Equal(t, 1, ran)
		b.store.set(func() { b.store.settle = nil })
		rest(6 * time.Second)
		assert.Contains(t, b.types(), "lease lost")
		assert.True(t, strings.HasSuffix(b.types(), "finished"), b.types())
		assert.Equal(t, 2, ran)
	})
}

func TestAHandlerIsToldThatItsLeaseWasLost(t *testing.T) {
	cause := make(chan error, 10)
	h := func(ctx context.Context, d queue.Delivery) error {
		if d.Attempt > 1 {
			return nil
		}
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return nil
	}
	inBubble(t, h, asIs, func(t *testing.T, b *bench) {
		b.enqueue(t, job())
		synctest.Wait()
		// Another worker whose clock is an hour ahead takes it.
		future := time.Now().Add(2 * time.Minute)
		taken, err := b.store.Memory.Claim(t.Context(), queue.Claim{Now: future, Until: future.Add(time.Second), Kinds: []string{"test"}, N: 1})
		require.NoError(t, err)
		require.Len(t, taken, 1)
		rest(20 * time.Second) // a third of the lease
		require.Len(t, cause, 1)
		assert.ErrorIs(t, <-cause, queue.ErrLeaseLost)
		rest(3 * time.Minute)
		assert.Equal(t, "lease lost, finished", b.types())
	})
}

// The first attempt of a job goes on after its lease, so that the same worker
// claims it again: what the first says and does must not touch the second.
func TestAJobThatAWorkerHasTwiceKeepsTheLeaseOfTheSecond(t *testing.T) {
	var mu sync.Mutex
	attempts := []int{}
	h := func(_ context.Context, d queue.Delivery) error {
		mu.Lock()
		attempts = append(attempts, d.Attempt)
		mu.Unlock()
		if d.Attempt == 1 {
			time.Sleep(100 * time.Second) // deaf to its context
			return nil
		}
		time.Sleep(200 * time.Second)
		return nil
	}
	inBubble(t, h, asIs, func(t *testing.T, b *bench) {
		deaf := true
		b.store.set(func() {
			b.store.settle = func(all []queue.Settlement) error {
				if deaf && all[0].Outcome == queue.Extend {
					return errBoom
				}
				return nil
			}
		})
		b.enqueue(t, job())
		rest(70 * time.Second) // the second has begun
		b.store.set(func() { deaf = false })
		rest(250 * time.Second)
		assert.Equal(t, []int{1, 2}, attempts)
		assert.True(t, strings.HasSuffix(b.types(), "lease lost, finished"), b.types())
	})
}

func TestAWorkerAsksForAsManyJobsAsItHasPlaces(t *testing.T) {
	h := func(context.Context, queue.Delivery) error { time.Sleep(time.Second); return nil }
	inBubble(t, h, func(o *queue.RunOptions) { o.Workers = 3 }, func(t *testing.T, b *bench) {
		b.enqueue(t, job(), job(), job(), job())
		rest(10 * time.Second)
		b.store.set(func() {
			assert.Equal(t, 3, slices.Max(b.store.asked))
			assert.NotContains(t, b.store.asked, 0)
			// One when it was idle, one that takes three, one that takes the fourth, and then every 5 s.
			assert.LessOrEqual(t, len(b.store.asked), 8)
		})
		assert.Equal(t, strings.Repeat(", finished", 4)[2:], b.types())
	})
}

func TestNothingIsClaimedAfterTheEnd(t *testing.T) {
	h := func(context.Context, queue.Delivery) error { time.Sleep(10 * time.Second); return nil }
	for range 50 { // the end and a free place come at the same time
		inBubble(t, h, func(o *queue.RunOptions) { o.Workers = 1 }, func(t *testing.T, b *bench) {
			b.enqueue(t, job(), job())
			time.Sleep(10 * time.Second)
			b.stop()
			s, err := b.Stats(t.Context())
			require.NoError(t, err)
			assert.Equal(t, 2, s.Ready+strings.Count(b.types(), string(queue.Finished)), "what was begun was finished, the rest is untouched")
			assert.Zero(t, s.Running)
		})
	}
}

func TestWaitsDoubleUpToTheLongestAndSpreadByHalf(t *testing.T) {
	for name, o := range map[string]queue.RunOptions{
		"defaults":      {Initial: time.Second, Longest: time.Hour},
		"long ones":     {Initial: 20 * time.Hour, Longest: 1000 * time.Hour},
		"the longest":   {Initial: 1 << 62, Longest: 1 << 62},
		"the shortest":  {Initial: 1, Longest: 1},
		"all the same":  {Initial: time.Minute, Longest: time.Minute},
		"a nanosecond+": {Initial: 1, Longest: 1000 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			j := job()
			j.MaxAttempts = 70
			h := func(context.Context, queue.Delivery) error { return errBoom }
			inBubble(t, h, func(r *queue.RunOptions) {
				r.Initial, r.Longest, r.Lease, r.Poll = o.Initial, o.Longest, time.Hour, 1000*time.Hour
			}, func(t *testing.T, b *bench) {
				b.enqueue(t, j)
				rest(10 * 365 * 24 * time.Hour)
				for _, e := range b.seen() {
					if e.Type != queue.Retried {
						continue
					}
					want := time.Duration(min(float64(o.Initial)*math.Pow(2, float64(e.Attempt-1)), float64(o.Longest)))
					assert.GreaterOrEqual(t, e.Wait, want/2, "attempt %d", e.Attempt)
					assert.LessOrEqual(t, e.Wait, want, "attempt %d", e.Attempt)
				}
				assert.NotEmpty(t, b.seen())
			})
		})
	}
}

func TestAnEventSaysWhatBecameOfAnAttempt(t *testing.T) {
	h := func(_ context.Context, d queue.Delivery) error {
		time.Sleep(2 * time.Second)
		if d.Attempt == 1 {
			return queue.RetryAfter(errBoom, 7*time.Second)
		}
		return queue.Bury(errBoom)
	}
	inBubble(t, h, asIs, func(t *testing.T, b *bench) {
		j := job()
		j.ID = "one"
		b.enqueue(t, j)
		rest(time.Minute)
		e := b.seen()
		require.Len(t, e, 2)
		for i, want := range []queue.Event{
			{Type: queue.Retried, ID: "one", Kind: "test", Attempt: 1, Took: 2 * time.Second, Wait: 7 * time.Second},
			{Type: queue.Died, ID: "one", Kind: "test", Attempt: 2, Took: 2 * time.Second},
		} {
			assert.ErrorIs(t, e[i].Err, errBoom)
			e[i].Err = nil
			assert.Equal(t, want, e[i])
		}
	})
}

func TestALongErrorIsCutBeforeItIsStored(t *testing.T) {
	h := func(context.Context, queue.Delivery) error { return queue.Bury(errors.New(strings.Repeat("x", 1e6))) }
	inBubble(t, h, asIs, func(t *testing.T, b *bench) {
		b.enqueue(t, job())
		rest(time.Second)
		dead, err := b.Dead(t.Context(), "", 1)
		require.NoError(t, err)
		require.Len(t, dead, 1)
		assert.Less(t, len(dead[0].Reason), 1100)
	})
}

func TestADrainEndsAlsoWhereTheStoreIsGone(t *testing.T) {
	h := func(ctx context.Context, _ queue.Delivery) error { <-ctx.Done(); return nil }
	inBubble(t, h, func(o *queue.RunOptions) { o.Drain = time.Second }, func(t *testing.T, b *bench) {
		b.enqueue(t, job())
		synctest.Wait()
		b.store.set(func() { b.store.settle = func([]queue.Settlement) error { return errBoom } })
		start := time.Now()
		b.stop()
		assert.LessOrEqual(t, time.Since(start), time.Minute, "the lease")
	})
}

func TestWrongRunOptionsAreRefused(t *testing.T) {
	for name, change := range map[string]func(*queue.RunOptions){
		"no worker":             func(o *queue.RunOptions) { o.Workers = 0 },
		"a lease too short":     func(o *queue.RunOptions) { o.Lease = time.Second - 1 },
		"a lease too long":      func(o *queue.RunOptions) { o.Lease = queue.MaxLease + 1 },
		"a drain in the past":   func(o *queue.RunOptions) { o.Drain = -1 },
		"no first wait":         func(o *queue.RunOptions) { o.Initial = 0 },
		"a longest under it":    func(o *queue.RunOptions) { o.Longest = o.Initial - 1 },
		"no time between polls": func(o *queue.RunOptions) { o.Poll = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := queue.NewRunOptions(change)
			assert.ErrorContains(t, err, "queue: ")
			q := queuetest.New()
			assert.Error(t, q.Run(t.Context(), map[string]queue.Handler{"test": done}, change))
		})
	}
	o, err := queue.NewRunOptions()
	require.NoError(t, err)
	assert.Equal(t, []any{8, time.Minute, 30 * time.Second, time.Second, time.Hour, 5 * time.Second},
		[]any{o.Workers, o.Lease, o.Drain, o.Initial, o.Longest, o.Poll})
}

func TestAVerdictOfAHandlerIsStillItsError(t *testing.T) {
	for _, err := range []error{queue.RetryAfter(errBoom, time.Second), queue.Bury(errBoom), fmt.Errorf("more: %w", queue.Bury(errBoom))} {
		assert.ErrorIs(t, err, errBoom)
		assert.Contains(t, err.Error(), "boom")
	}
}
