package resilience_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// The situations that the test suites of failsafe-go, gobreaker, opossum,
// resilience4j and Polly know, where no other test here is about them.

// after is a provider that does the one thing at its first calls and answers from
// then on.
func after(n int64, first func(context.Context) error) *provider {
	p := &provider{}
	p.fn = func(ctx context.Context) error {
		if p.calls.Load() <= n {
			return first(ctx)
		}
		return nil
	}
	return p
}

// failsafe-go: the time limit of an attempt is not that of the call.
func TestAnAttemptThatTimesOutIsRepeatedWhereThereIsNoBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := after(1, hang)
		start := time.Now()
		require.NoError(t, ask(t.Context(), group(t, resilience.Default, one)))
		assert.EqualValues(t, 2, one.calls.Load())
		assert.InDelta(t, 3100*time.Millisecond, time.Since(start), float64(50*time.Millisecond), "an attempt and a wait")
	})
}

// opossum: one fallback for one time-out.
func TestTheBackupIsAskedOnceWhereThePrimaryTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &provider{fn: hang}, &provider{}
		start := time.Now()
		require.NoError(t, ask(t.Context(), group(t, resilience.Default, one, two)))
		assert.EqualValues(t, 1, one.calls.Load())
		assert.EqualValues(t, 1, two.calls.Load())
		time.Sleep(time.Hour)
		assert.EqualValues(t, 1, two.calls.Load())
		assert.Equal(t, time.Hour+3*time.Second, time.Since(start))
	})
}

// failsafe-go: cancellation during the fallback; the other waits are in
// TestACancellationEndsEveryWaitAtOnceAndNeverCounts.
func TestACancellationWhileTheBackupWorksEndsTheCallAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, resilience.Default, &provider{fn: answers(fault.Unsupported)}, &provider{fn: hang})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		assert.ErrorIs(t, ask(ctx, g), fault.Canceled)
		assert.Equal(t, time.Second, time.Since(start))
		for _, s := range g.Inspect() {
			assert.Zero(t, s.Failures)
			assert.Zero(t, s.InFlight)
		}
	})
}

// Polly: who cancels is told so, and who is timed out too.
func TestACallersCancellationIsNoTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Retries = 0
		g := group(t, p, &provider{fn: hang})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		err := ask(ctx, g)
		assert.ErrorIs(t, err, fault.Canceled)
		assert.ErrorIs(t, err, context.Canceled)
		assert.NotErrorIs(t, err, resilience.ErrTimeout)

		err = ask(t.Context(), g)
		assert.ErrorIs(t, err, fault.Uncertain)
		assert.ErrorIs(t, err, resilience.ErrTimeout)
		assert.NotErrorIs(t, err, fault.Canceled)
	})
}

// failsafe-go 134: what an attempt has left behind is told to stop, even where it
// went well, and whether or not it had asked for Done.
func TestTheContextOfAnAttemptEndsWithIt(t *testing.T) {
	for name, used := range map[string]bool{"Done used": true, "Done unused": false} {
		t.Run(name, func(t *testing.T) {
			var left, child context.Context
			g := group(t, resilience.Default, &provider{fn: func(ctx context.Context) error {
				if left = ctx; used {
					var stop context.CancelFunc
					child, stop = context.WithCancel(ctx) //nolint:fatcontext // it is what is looked at
					t.Cleanup(stop)
				}
				return nil
			}})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			require.NoError(t, ask(ctx, g))
			require.NoError(t, ctx.Err(), "the caller's goes on")
			assert.Error(t, left.Err())
			select {
			case <-left.Done():
			default:
				t.Error("Done isn't closed")
			}
			if used {
				assert.Error(t, child.Err())
			}
		})
	}
}

type valueKey struct{}

// failsafe-go 136: calls at one time share no context.
func TestEachOfManyCallsAtOnceHasTheValuesOfItsOwnContext(t *testing.T) {
	seen := make(chan int, 100)
	g := group(t, resilience.Default, &provider{fn: func(ctx context.Context) error {
		seen <- ctx.Value(valueKey{}).(int)
		return nil
	}})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() { assert.NoError(t, ask(context.WithValue(t.Context(), valueKey{}, i), g)) })
	}
	wg.Wait()
	sum := 0
	for range 100 {
		sum += <-seen
	}
	assert.Equal(t, 99*100/2, sum)
}

// opossum: the volume threshold.
func TestFewerCallsThanTheMinimumNeverOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Retries, p.Breaker.InARow = 0, 0
		g := group(t, p, &provider{fn: answers(fault.Unavailable)})
		for range p.Breaker.MinCalls - 1 {
			require.Error(t, ask(t.Context(), g))
		}
		assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
		require.Error(t, ask(t.Context(), g))
		assert.Equal(t, resilience.Open, g.Inspect()[0].State)
	})
}

// gobreaker: the rolling window.
func TestOldFailuresLeaveTheWindowOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Retries, p.Breaker.InARow, p.Breaker.Window = 0, 0, 10*time.Second
		g := group(t, p, &provider{fn: answers(fault.Unavailable)})
		for range 30 { // seven of them are in a window of ten seconds at any time
			require.Error(t, ask(t.Context(), g))
			assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
			assert.LessOrEqual(t, g.Inspect()[0].Failures, 7)
			time.Sleep(1500 * time.Millisecond)
		}
	})
}

// gobreaker: generations.
func TestAnAnswerFromBeforeTheBreakerOpenedSaysNothingAfterIt(t *testing.T) {
	for name, late := range map[string]error{"a success": nil, "a failure": fault.New(fault.Unavailable, nil)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := resilience.Default
				p.Retries, p.Timeout, p.Total, p.Breaker.Window = 0, time.Minute, 0, 2*time.Minute
				one := &provider{}
				g := group(t, p, one)
				one.fn = func(context.Context) error { time.Sleep(50 * time.Second); return late }
				var wg sync.WaitGroup
				wg.Go(func() { _ = ask(t.Context(), g) })
				synctest.Wait()

				one.fn = answers(fault.Unavailable)
				for range 5 {
					_ = ask(t.Context(), g)
				}
				require.Equal(t, resilience.Open, g.Inspect()[0].State)
				time.Sleep(34 * time.Second)
				one.fn = func(context.Context) error { time.Sleep(30 * time.Second); return nil }
				wg.Go(func() { assert.NoError(t, ask(t.Context(), g)) })
				time.Sleep(20 * time.Second)
				assert.Equal(t, resilience.HalfOpen, g.Inspect()[0].State, "the late one neither closes nor opens it")
				wg.Wait()
				assert.Equal(t, resilience.Closed, g.Inspect()[0].State, "the probe does")
			})
		})
	}
}

// gobreaker: excluded and successful together; resilience4j: the permission of an
// ignored error is released.
func TestAFaultOfTheRequestNeitherCountsNorClearsNorKeepsAProbesPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Retries = 0
		one := &provider{}
		g := group(t, p, one)
		for range 2 {
			one.fn = answers(fault.Unavailable)
			for range 2 {
				require.Error(t, ask(t.Context(), g))
			}
			one.fn = answers(fault.Invalid)
			require.ErrorIs(t, ask(t.Context(), g), fault.Invalid)
		}
		assert.Equal(t, 4, g.Inspect()[0].InARow, "not cleared")
		one.fn = answers(fault.Unavailable)
		require.Error(t, ask(t.Context(), g))
		require.Equal(t, resilience.Open, g.Inspect()[0].State)

		time.Sleep(34 * time.Second)
		one.fn = answers(fault.Invalid)
		for range 3 {
			require.ErrorIs(t, ask(t.Context(), g), fault.Invalid)
			assert.Equal(t, resilience.HalfOpen, g.Inspect()[0].State)
		}
		one.fn = nil
		require.NoError(t, ask(t.Context(), g))
		assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
	})
}

// Polly: half-open keeps the break duration.
func TestAFailedProbeOpensForTheSameTimeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Retries, p.Breaker.Jitter = 0, 0
		one := &provider{fn: answers(fault.Unavailable)}
		g := group(t, p, one)
		for range 5 {
			require.Error(t, ask(t.Context(), g))
		}
		for range 4 {
			assert.Equal(t, p.Breaker.OpenFor, g.Inspect()[0].OpenFor)
			time.Sleep(p.Breaker.OpenFor - 1)
			require.ErrorIs(t, ask(t.Context(), g), resilience.ErrOpen)
			time.Sleep(time.Nanosecond)
			before := one.calls.Load()
			require.NotErrorIs(t, ask(t.Context(), g), resilience.ErrOpen)
			assert.EqualValues(t, 1, one.calls.Load()-before)
		}
	})
}

// opossum, resilience4j: half-open closes when all its calls went well, and opens
// at the first that did not.
func TestAllProbesMustSucceedAndOneFailureOpens(t *testing.T) {
	for name, c := range map[string]struct {
		succeed int64
		want    resilience.State
	}{
		"two of three": {2, resilience.HalfOpen}, "three of three": {3, resilience.Closed}, "the third fails": {-2, resilience.Open},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := resilience.Default
				p.Retries, p.Breaker.Probes = 0, 3
				one := &provider{fn: answers(fault.Unavailable)}
				g := group(t, p, one)
				for range 5 {
					require.Error(t, ask(t.Context(), g))
				}
				time.Sleep(34 * time.Second)
				one.fn = nil
				for range max(c.succeed, -c.succeed) {
					require.NoError(t, ask(t.Context(), g))
				}
				if c.succeed < 0 {
					one.fn = answers(fault.Unavailable)
					require.Error(t, ask(t.Context(), g))
				}
				assert.Equal(t, c.want, g.Inspect()[0].State)
			})
		})
	}
}
