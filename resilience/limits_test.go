package resilience_test

import (
	"context"
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

func TestTrap08AWaitBeforeARetryNeverExceedsItsMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Retries, p.RetryBudget, p.Total, p.Breaker = 10, 0, 0, resilience.Breaker{}
		p.Backoff = resilience.Backoff{Initial: time.Second, Max: 3 * time.Second, Jitter: 1}
		var waits []time.Duration
		g, err := resilience.New(p, []resilience.Member[asker]{{Name: "a", Provider: &provider{fn: answers(fault.Unavailable)}}},
			resilience.ObserverFunc(func(_ context.Context, e resilience.Event) {
				if e.Type == resilience.RetryScheduled {
					waits = append(waits, e.Delay)
				}
			}))
		require.NoError(t, err)
		for range 20 {
			require.Error(t, ask(t.Context(), g))
		}
		require.Len(t, waits, 200)
		for _, w := range waits {
			assert.LessOrEqual(t, w, 3*time.Second)
		}
	})
}

func TestTrap08ARetryAfterBeyondThePatienceIsNotWaitedForButReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &provider{fn: func(context.Context) error {
			return &fault.Error{Kind: fault.RateLimited, RetryAfter: 20 * time.Second}
		}}
		start := time.Now()
		err := ask(t.Context(), group(t, resilience.Default, one))
		f, ok := fault.As(err)
		require.True(t, ok)
		assert.Equal(t, fault.RateLimited, f.Kind)
		assert.Equal(t, 20*time.Second, f.RetryAfter)
		assert.EqualValues(t, 1, one.calls.Load())
		assert.Zero(t, time.Since(start))
	})
}

// It can't be taken from its goroutine, so its slot stays taken while it works.
func TestTrap10AProviderThatIgnoresItsContextKeepsItsSlotUntilItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Concurrency, p.Retries = 1, 0
		one := &provider{fn: func(ctx context.Context) error { time.Sleep(20 * time.Second); return ctx.Err() }}
		g := group(t, p, one)
		var wg sync.WaitGroup
		wg.Go(func() { assert.ErrorIs(t, ask(t.Context(), g), resilience.ErrTimeout) })
		time.Sleep(10 * time.Second)
		assert.Equal(t, 1, g.Inspect()[0].InFlight)
		assert.ErrorIs(t, ask(t.Context(), g), resilience.ErrFull)
		wg.Wait()
		assert.Zero(t, g.Inspect()[0].InFlight)
		assert.Equal(t, 1, g.Inspect()[0].InARow, "its time was up, which counts")
	})
}

func TestTrap11CallsNeverWaitForEachOther(t *testing.T) {
	for name, half := range map[string]bool{"closed": false, "half-open": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := resilience.Default
				p.Retries, p.Breaker.Probes = 0, 4
				one := &provider{fn: answers(fault.Unavailable)}
				g := group(t, p, one)
				if half {
					for range 5 {
						_ = ask(t.Context(), g)
					}
					time.Sleep(34 * time.Second)
				}
				one.fn = func(context.Context) error { time.Sleep(100 * time.Millisecond); return nil }
				start := time.Now()
				var wg sync.WaitGroup
				for range 4 {
					wg.Go(func() { assert.NoError(t, ask(t.Context(), g)) })
				}
				wg.Wait()
				assert.Equal(t, 100*time.Millisecond, time.Since(start))
			})
		})
	}
}

func TestTrap13OneCallersCancellationNeverReachesAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &provider{fn: func(ctx context.Context) error {
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		g := group(t, resilience.Default, one)
		leader, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { assert.ErrorIs(t, ask(leader, g), fault.Canceled) })
		for range 10 {
			wg.Go(func() { assert.NoError(t, ask(t.Context(), g)) })
		}
		time.Sleep(500 * time.Millisecond)
		cancel()
		wg.Wait()
		assert.Zero(t, g.Inspect()[0].Failures)
	})
}

func TestACanceledProbeLeavesItsPlaceToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, one := opened(t, hang)
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			require.ErrorIs(t, ask(ctx, g), fault.Canceled)
			assert.Equal(t, resilience.HalfOpen, g.Inspect()[0].State)
		}
		one.fn = nil
		require.NoError(t, ask(t.Context(), g))
		assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
	})
}

// calls through a rate limit of ten at once, after something has refused many.
func admitted(t *testing.T, g *resilience.Group[asker]) (n int) {
	for range 20 {
		if err := ask(t.Context(), g); err == nil {
			n++
		} else {
			assert.ErrorIs(t, err, resilience.ErrLimited)
		}
	}
	return n
}

func TestWhatOtherLimitsRefuseDoesNotDrainTheRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Rate, p.Burst, p.MaxWait, p.Concurrency = 1e-6, 10, 0, 1
		release := make(chan struct{})
		one := &provider{fn: func(context.Context) error { <-release; return nil }}
		g := group(t, p, one)
		var wg sync.WaitGroup
		wg.Go(func() { assert.NoError(t, ask(t.Context(), g)) })
		synctest.Wait()
		for range 50 {
			require.ErrorIs(t, ask(t.Context(), g), resilience.ErrFull)
		}
		close(release)
		wg.Wait()
		assert.Equal(t, 9, admitted(t, g))
	})
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Rate, p.Burst, p.MaxWait, p.Retries = 1e-6, 16, 0, 0
		one := &provider{fn: answers(fault.Unavailable)}
		g := group(t, p, one)
		for range 5 {
			_ = ask(t.Context(), g)
		}
		time.Sleep(34 * time.Second)
		one.fn = func(context.Context) error { time.Sleep(time.Second); return nil }
		var wg sync.WaitGroup
		var refused atomic.Int64
		for range 50 {
			wg.Go(func() {
				if ask(t.Context(), g) != nil {
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, 49, refused.Load(), "one probe")
		assert.Equal(t, 10, admitted(t, g), "16 less five failures and a probe")
	})
}

func TestOnlyTheLastProviderWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Rate, p.Burst = 2, 1
		one, two := &provider{}, &provider{}
		g := group(t, p, one, two)
		start := time.Now()
		for range 2 {
			require.NoError(t, ask(t.Context(), g))
		}
		assert.Zero(t, time.Since(start), "the backup takes over at once")
		require.NoError(t, ask(t.Context(), g))
		assert.Equal(t, 500*time.Millisecond, time.Since(start), "then its limit is waited for")
		assert.EqualValues(t, 2, two.calls.Load())
	})
}

func TestASlowSuccessCountsAsAFailureOfTheRatioAndIsNoneInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Breaker.SlowAfter = time.Second
		one := &provider{fn: func(context.Context) error { time.Sleep(1100 * time.Millisecond); return nil }}
		g := group(t, p, one)
		for range 9 {
			require.NoError(t, ask(t.Context(), g))
		}
		assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
		require.NoError(t, ask(t.Context(), g))
		assert.Equal(t, resilience.Open, g.Inspect()[0].State, "ten of ten")
	})
}

func TestAnImpatientCallerDoesNotOpenTheBreakerOfAHealthyProvider(t *testing.T) {
	for name, backups := range map[string]int{"alone": 0, "with a backup": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				steady := func(ctx context.Context) error {
					select {
					case <-time.After(200 * time.Millisecond):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				members := []asker{&provider{fn: steady}}
				for range backups {
					members = append(members, &provider{fn: steady})
				}
				g := group(t, resilience.Default, members...)
				for range 50 {
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					require.Error(t, ask(ctx, g))
					cancel()
				}
				for _, s := range g.Inspect() {
					assert.Equal(t, resilience.Closed, s.State)
					assert.Zero(t, s.Failures)
				}
			})
		})
	}
}

func TestAPolicyThatCannotWorkIsRefusedWithTheReason(t *testing.T) {
	for why, spoil := range map[string]func(*resilience.Policy){
		"a duration is negative":                 func(p *resilience.Policy) { p.Timeout = -1 },
		"longer than Total":                      func(p *resilience.Policy) { p.Timeout, p.Breaker.Window = time.Minute, time.Hour },
		"Retries must be 0 to 10":                func(p *resilience.Policy) { p.Retries = 11 },
		"would hammer":                           func(p *resilience.Policy) { p.Backoff = resilience.Backoff{} },
		"Backoff.Max is shorter":                 func(p *resilience.Policy) { p.Backoff.Max = 1 },
		"Backoff.Jitter must be":                 func(p *resilience.Policy) { p.Backoff.Jitter = 1.1 },
		"RetryBudget must be":                    func(p *resilience.Policy) { p.RetryBudget = -0.1 },
		"a limit is negative":                    func(p *resilience.Policy) { p.Concurrency = -1 },
		"never let a call through":               func(p *resilience.Policy) { p.Rate = 1 },
		"a figure of Breaker is negative":        func(p *resilience.Policy) { p.Breaker.Probes = -1 },
		"Breaker.Ratio and Breaker.Jitter":       func(p *resilience.Policy) { p.Breaker.Jitter = 2 },
		"for how long does it stay open":         func(p *resilience.Policy) { p.Breaker.OpenFor = 0 },
		"a hanging probe would keep it":          func(p *resilience.Policy) { p.Timeout = 0 },
		"would open at the first failure":        func(p *resilience.Policy) { p.Breaker.MinCalls = 1 },
		"slow failures leave it before they add": func(p *resilience.Policy) { p.Breaker.Window = 5 * time.Second },
		"no call could be slow":                  func(p *resilience.Policy) { p.Breaker.SlowAfter = p.Timeout },
	} {
		p := resilience.Default
		spoil(&p)
		assert.ErrorContains(t, p.Validate(), why)
	}
	assert.NoError(t, resilience.Default.Validate())
	assert.NoError(t, resilience.Policy{}.Validate(), "everything off")
}

func TestNewRefusesMembersThatCannotBeToldApart(t *testing.T) {
	for why, members := range map[string][]resilience.Member[asker]{
		"at least one member":       nil,
		"has no name":               {{Provider: &provider{}}},
		"must be 1 to 64":           {{Name: "a/b", Provider: &provider{}}},
		`two members are named "a"`: {{Name: "a", Provider: &provider{}}, {Name: "a", Provider: &provider{}}},
		"has no provider":           {{Name: "a"}},
		`member "b"`:                {{Name: "b", Provider: &provider{}, Policy: &resilience.Policy{Retries: -1}}},
	} {
		_, err := resilience.New(resilience.Default, members)
		assert.ErrorContains(t, err, why)
	}
}

func TestRetriesEndWithTheBudget(t *testing.T) {
	p := resilience.Default
	p.Breaker, p.Backoff = resilience.Breaker{}, resilience.Backoff{Initial: 1}
	one := &provider{fn: answers(fault.Unavailable)}
	g := group(t, p, one)
	for range 100 {
		_ = ask(t.Context(), g)
	}
	// a reserve of ten, and one for each five calls
	assert.LessOrEqual(t, one.calls.Load(), int64(100+10+20))
	assert.Greater(t, one.calls.Load(), int64(110))
}
