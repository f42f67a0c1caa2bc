package resilience_test

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// One fault.Unavailable after four failures of another kind, all of one class, is
// no outage: a class without a failure of its own must stay closed.
func TestOneUnavailableDoesNotShutTheClassesThatDidNotFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, quiet(), &provider{})
		for range 4 {
			_ = as(t.Context(), g, opCommit, fault.New(fault.Uncertain, nil))
			require.NoError(t, as(t.Context(), g, opLook, nil))
		}
		_ = as(t.Context(), g, opCommit, fault.New(fault.Unavailable, nil))
		assert.Equal(t, resilience.Open, of(g, "commit").State)
		require.NoError(t, as(t.Context(), g, opLook, nil), "look-ups never failed")
	})
}

// Five probes that don't reach the provider, then the first failure of another
// class, which reached it.
func TestFailedProbesDoNotCountForAnotherClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, quiet(), &provider{})
		for range 5 {
			_ = as(t.Context(), g, opCommit, fault.New(fault.Uncertain, nil))
		}
		for range 5 {
			time.Sleep(40 * time.Second)
			_ = as(t.Context(), g, opCommit, fault.New(fault.Unavailable, nil))
		}
		_ = as(t.Context(), g, opLook, fault.New(fault.Uncertain, nil)) // its first, by a time-out
		assert.Equal(t, resilience.Closed, of(g, "read").State)
	})
}

// A class first used late in an outage may probe when the others may.
func TestAClassFirstUsedInAnOutageProbesWithTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := quiet()
		p.Breaker.Jitter = 0
		g := group(t, p, &provider{})
		for range 5 {
			_ = as(t.Context(), g, opLook, fault.New(fault.Unavailable, nil))
		}
		time.Sleep(29 * time.Second)
		never := resilience.Op{Name: "test.report", Class: "report", Safety: fault.Read}
		require.ErrorIs(t, as(t.Context(), g, never, nil), resilience.ErrOpen)
		time.Sleep(2 * time.Second)
		require.NoError(t, as(t.Context(), g, opLook, nil))
		assert.Equal(t, resilience.HalfOpen, of(g, "report").State)
		require.NoError(t, as(t.Context(), g, never, nil), "its state is shown as half-open")
	})
}

// A member whose own policy has no hedge isn't hedged.
func TestAMemberWithoutAHedgeOfItsOwnIsNotHedgedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := resilience.Default
		p := &provider{fn: steady(10 * time.Millisecond)}
		of := resilience.Default
		of.Hedge = resilience.Hedge{After: time.Second}
		g, err := resilience.New(of, []resilience.Member[asker]{{Name: "a", Provider: p, Policy: &own}})
		require.NoError(t, err)
		for range 10 {
			_, err = resilience.Call(t.Context(), g, resilience.Op{Name: "x", Safety: fault.Read}, asker.Ask, "q")
			require.NoError(t, err)
		}
		synctest.Wait()
		assert.EqualValues(t, 10, p.calls.Load())
	})
}

// An attempt that began under an adaptive limit and ends under a fixed one must
// not put the old limit in force again.
func TestALimitOfAFormerPolicyIsGone(t *testing.T) {
	for name, c := range map[string]int{"a fixed limit": 5, "no limit": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := resilience.Default
				p.Adaptive = resilience.Adaptive{Max: 50}
				g := group(t, p, &provider{fn: steady(time.Second)})
				done := make(chan error)
				go func() { done <- ask(t.Context(), g) }()
				synctest.Wait()
				p.Adaptive, p.Concurrency = resilience.Adaptive{}, c
				require.NoError(t, g.SetPolicy(p))
				assert.Equal(t, c, g.Inspect()[0].Limit)
				require.NoError(t, <-done)
				assert.Equal(t, c, g.Inspect()[0].Limit, "after an attempt of the old policy ended")
			})
		})
	}
}

// A Decide hook that panics is the caller's bug, and leaves nothing taken. It is
// asked with an error without a cause before the attempt.
func TestAPanicOfDecideBeforeTheAttemptLeavesNothingTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Concurrency = 1
		p.MaxWait = 0
		g := group(t, p, &provider{}, &provider{})
		op := opAsk
		op.Decide = func(f *fault.Error, v fault.Verdict) fault.Verdict {
			if f.Err.Error() == "" { // a nil pointer where there is no cause
				v.Failover = false
			}
			return v
		}
		assert.Panics(t, func() { _, _ = resilience.Call(t.Context(), g, op, asker.Ask, "q") })
		assert.Zero(t, g.Inspect()[0].InFlight)
		require.NoError(t, ask(t.Context(), g))
		assert.Zero(t, g.Inspect()[0].InFlight)
	})
}

// limiter lets all through, and counts.
type limiter struct {
	taken atomic.Int64
	take  func() time.Duration
}

func (l *limiter) Take(context.Context, string) (time.Duration, error) {
	if l.take != nil {
		if d := l.take(); d > 0 {
			return d, nil
		}
	}
	l.taken.Add(1)
	return 0, nil
}

func (l *limiter) TakeN(_ context.Context, _ string, n int) (time.Duration, error) {
	l.taken.Add(int64(n))
	return 0, nil
}

func (l *limiter) Settle(_ context.Context, _ string, n int) error { l.taken.Add(int64(n)); return nil }

// Refused probes and full bulkheads don't drain a limit that lives elsewhere.
func TestWhatIsRefusedDoesNotDrainALimiterFromElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{}
		p := quiet()
		p.Limiter = l
		slow := &provider{}
		g := group(t, p, slow)
		for range 5 {
			_ = as(t.Context(), g, opAsk, fault.New(fault.Unavailable, nil))
		}
		time.Sleep(40 * time.Second)
		slow.fn = steady(2 * time.Second)
		go func() { _ = ask(t.Context(), g) }()
		synctest.Wait()
		before := l.taken.Load()
		for range 100 {
			_ = ask(t.Context(), g)
		}
		assert.Equal(t, before, l.taken.Load(), "none of the 100 refused was sent")
		time.Sleep(3 * time.Second)
	})
}

// A wait before a retry leaves time for the backup.
func TestWaitsBeforeRetriesLeaveTimeForTheBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Backoff.Jitter = 0
		backup := &provider{fn: steady(50 * time.Millisecond)}
		g := group(t, p, &provider{fn: answers(fault.Unavailable)}, backup)
		require.NoError(t, within(t, 320*time.Millisecond, g, opAsk))
	})
}

func TestARetryAfterOfThePrimaryLeavesTimeForTheBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fault.New(fault.Unavailable, nil)
		f.RetryAfter = 900 * time.Millisecond
		g := group(t, resilience.Default, &provider{fn: func(context.Context) error { return f }}, &provider{fn: steady(110 * time.Millisecond)})
		require.NoError(t, within(t, time.Second, g, opAsk))
	})
}

// A wait that ends with the deadline is no attempt: nobody could answer in a
// nanosecond, and a Once operation would be uncertain for nothing.
func TestNoAttemptBeginsAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Rate, p.Burst, p.Total, p.Timeout = 2, 1, 500*time.Millisecond, 500*time.Millisecond
		p.Retries = 0
		var last time.Duration
		pr := &provider{fn: func(ctx context.Context) error {
			at, _ := ctx.Deadline()
			last = time.Until(at)
			if last < time.Millisecond {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}
		g := group(t, p, pr)
		require.NoError(t, askOnce(t.Context(), g))
		err := askOnce(t.Context(), g)
		assert.False(t, fault.MayHaveActed(err), "%v; the attempt had %v", err, last)
	})
}

// Weights that add up to more than an int.
func TestWeightsDoNotOverflow(t *testing.T) {
	p := resilience.Default
	p.Route, p.Weights = resilience.Weighted, map[string]int{"p0": math.MaxInt, "p1": math.MaxInt}
	if p.Validate() != nil {
		return
	}
	g := group(t, p, &provider{}, &provider{})
	assert.NotPanics(t, func() { _ = ask(t.Context(), g) })
}

// A refused second attempt costs no retry.
func TestARefusedHedgeCostsNoRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := hedgedPolicy()
		p.RetryBudget = 0.01
		p.Concurrency = 1
		g := group(t, p, &provider{fn: steady(p.Hedge.After * 3)})
		before := g.Inspect()[0].RetriesLeft
		for range 5 {
			_, err := resilience.Call(t.Context(), g, resilience.Op{Name: "x", Safety: fault.Read}, asker.Ask, "q")
			require.NoError(t, err)
		}
		synctest.Wait()
		assert.Equal(t, before, g.Inspect()[0].RetriesLeft, "no second attempt was made")
	})
}

// Calls that never reach the provider pay nothing into its budget.
func TestRefusedCallsPayNoRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Breaker = resilience.Breaker{}
		p.RetryBudget = 0.2
		g := group(t, p, &provider{fn: answers(fault.Unavailable)})
		for range 20 {
			_ = ask(t.Context(), g)
		}
		left := g.Inspect()[0].RetriesLeft
		require.NoError(t, g.Switch("p0", resilience.ForcedOpen))
		for range 100 {
			_ = ask(t.Context(), g)
		}
		assert.Equal(t, left, g.Inspect()[0].RetriesLeft, "100 calls that were refused")
	})
}

// The counts of an equal or another policy begin anew everywhere.
func TestCountsBeginAnewWhereThePolicyIsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := quiet()
		g := group(t, p, &provider{})
		for range 4 {
			_ = as(t.Context(), g, opLook, fault.New(fault.Unavailable, nil))
		}
		p.Breaker.OpenFor = time.Minute
		require.NoError(t, g.SetPolicy(p))
		_ = as(t.Context(), g, opLook, fault.New(fault.Unavailable, nil))
		assert.Equal(t, resilience.Closed, of(g, "read").State, "one failure since")
	})
}

// Attempts of former rules have no say under the new ones.
func TestAttemptsOfFormerRulesOpenNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := quiet()
		g := group(t, p, &provider{fn: func(context.Context) error {
			time.Sleep(time.Second)
			return fault.New(fault.Unavailable, nil)
		}})
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() { _ = ask(t.Context(), g) })
		}
		synctest.Wait()
		p.Breaker.InARow = 1000
		require.NoError(t, g.SetPolicy(p))
		wg.Wait()
		assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
	})
}

// Drain ends when the last attempt has, also where somebody switched the provider
// back meanwhile.
func TestADrainEndsAlsoWhereTheModeWasChangedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, resilience.Default, &provider{fn: steady(time.Second)})
		go func() { _ = ask(t.Context(), g) }()
		synctest.Wait()
		drained := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		go func() { drained <- g.Drain(ctx, "p0") }()
		synctest.Wait()
		require.NoError(t, g.Switch("p0", resilience.Automatic))
		begun := time.Now()
		require.NoError(t, <-drained)
		assert.Equal(t, time.Second, time.Since(begun))
	})
}

// The state of an inner Group without observers of its own is told to the outer
// one's, as its attempts are.
func TestStateChangesOfAnInnerGroupReachTheOuterObservers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := map[resilience.EventType]int{}
		inner := nested{group(t, quiet(), &provider{fn: answers(fault.Unavailable)})}
		g := observed(t, quiet(), resilience.ObserverFunc(func(_ context.Context, e resilience.Event) { seen[e.Type]++ }), inner)
		for range 6 {
			_ = ask(t.Context(), g)
		}
		assert.Equal(t, 5, seen[resilience.AttemptEnded])
		assert.Equal(t, 1, seen[resilience.StateChanged])
	})
}

// twice asks the Client that it decorates once more after a failure.
type twice struct{ nested }

func (d twice) Unwrap() asker { return d.nested }

func (d twice) Ask(ctx context.Context, q string) (string, error) {
	op := resilience.Op{Name: "test.once", Safety: fault.Once}
	r, err := resilience.Call(ctx, d.Group, op, asker.Ask, q)
	if err != nil {
		r, err = resilience.Call(ctx, d.Group, op, asker.Ask, q)
	}
	return r, err
}

// What an earlier call inside the attempt has left open holds for the whole.
func TestADecoratorThatAsksTwiceHidesNoUncertainAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := script(fault.New(fault.Uncertain, nil), fault.New(fault.Unavailable, nil))
		p := quiet()
		p.Retries = 0
		b := &provider{}
		g := group(t, p, twice{nested{group(t, p, a)}}, b)
		err := askOnce(t.Context(), g)
		assert.Zero(t, b.calls.Load(), "the first provider may have acted")
		assert.True(t, fault.MayHaveActed(err))
	})
}

// A limit "without end" that is an int but no float64's int.
func TestAHugeAdaptiveLimitDoesNotPanic(t *testing.T) {
	p := resilience.Default
	p.Adaptive = resilience.Adaptive{Max: math.MaxInt, Initial: math.MaxInt}
	if p.Validate() != nil {
		return
	}
	assert.NotPanics(t, func() { _ = ask(t.Context(), group(t, p, &provider{})) })
}
