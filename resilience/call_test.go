package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// provider answers what its function says, and counts.
type provider struct {
	calls atomic.Int64
	fn    func(ctx context.Context) error
}

func (p *provider) Ask(ctx context.Context, _ string) (string, error) {
	p.calls.Add(1)
	if p.fn == nil {
		return "ok", nil
	}
	return "ok", p.fn(ctx)
}

func hang(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func answers(k fault.Kind) func(context.Context) error {
	return func(context.Context) error { return fault.New(k, nil) }
}

type asker interface {
	Ask(ctx context.Context, q string) (string, error)
}

func group(t *testing.T, p resilience.Policy, members ...asker) *resilience.Group[asker] {
	t.Helper()
	var all []resilience.Member[asker]
	for i, m := range members {
		all = append(all, resilience.Member[asker]{Name: fmt.Sprintf("p%d", i), Provider: m})
	}
	g, err := resilience.New(p, all)
	require.NoError(t, err)
	return g
}

var opAsk = resilience.Op{Name: "test.ask", Safety: fault.AtLeastOnce}

func ask(ctx context.Context, g *resilience.Group[asker]) error {
	_, err := resilience.Call(ctx, g, opAsk, asker.Ask, "q")
	return err
}

// nested is a Client made of a group.
type nested struct{ *resilience.Group[asker] }

func (n nested) Ask(ctx context.Context, q string) (string, error) {
	return resilience.Call(ctx, n.Group, opAsk, asker.Ask, q)
}

func TestTrap01AWindowNoLongerThanTheAttemptIsRefused(t *testing.T) {
	p := resilience.Default
	p.Breaker.Window = p.Timeout
	assert.ErrorContains(t, p.Validate(), "at least twice Timeout")
	assert.NoError(t, resilience.Default.Validate())
}

func TestTrap02CallsInFlightDoNotDiluteTheFailureRatio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Retries, p.Breaker.InARow, p.Timeout, p.Breaker.Window = 0, 0, 5*time.Second, 20*time.Second
		hanging := make(chan struct{})
		var hangs atomic.Bool
		hangs.Store(true)
		one := &provider{fn: func(context.Context) error {
			if hangs.Load() {
				<-hanging
				return nil
			}
			return fault.New(fault.Unavailable, nil)
		}}
		g := group(t, p, one)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { _ = ask(t.Context(), g) })
		}
		synctest.Wait()
		hangs.Store(false)
		for range 10 {
			_ = ask(t.Context(), g)
		}
		assert.Equal(t, resilience.Open, g.Inspect()[0].State)
		close(hanging)
		wg.Wait()
	})
}

func TestTrap03ARatioWithoutAMinimumOfCallsIsRefused(t *testing.T) {
	p := resilience.Default
	p.Breaker.MinCalls = 0
	assert.ErrorContains(t, p.Validate(), "MinCalls")
}

func opened(t *testing.T, then func(context.Context) error) (*resilience.Group[asker], *provider) {
	p := resilience.Default
	p.Retries = 0
	one := &provider{fn: answers(fault.Unavailable)}
	g := group(t, p, one)
	for range 5 {
		require.Error(t, ask(t.Context(), g))
	}
	require.Equal(t, resilience.Open, g.Inspect()[0].State)
	require.ErrorIs(t, ask(t.Context(), g), resilience.ErrOpen)
	time.Sleep(34 * time.Second) // 30 s and at most a tenth of jitter, on a fake clock
	one.fn = then
	return g, one
}

func TestTrap04AProbeThatHangsPanicsOrExitsDoesNotStickTheBreaker(t *testing.T) {
	probes := map[string]func(context.Context) error{
		"hangs":  hang,
		"panics": func(context.Context) error { panic("boom") },
		"exits":  func(context.Context) error { runtime.Goexit(); return nil },
	}
	for name, probe := range probes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, one := opened(t, probe)
				var wg sync.WaitGroup
				wg.Go(func() {
					defer func() { _ = recover() }()
					_ = ask(t.Context(), g)
				})
				wg.Wait()
				assert.Equal(t, resilience.Open, g.Inspect()[0].State)
				time.Sleep(34 * time.Second)
				one.fn = nil
				require.NoError(t, ask(t.Context(), g))
				assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
			})
		})
	}
}

func TestTrap05APanicIsCountedReleasesItsSlotAndGoesOn(t *testing.T) {
	p := resilience.Default
	p.Concurrency = 1
	one := &provider{fn: func(context.Context) error { panic("boom") }}
	g := group(t, p, one)
	assert.PanicsWithValue(t, "boom", func() { _ = ask(t.Context(), g) })
	assert.Equal(t, 1, g.Inspect()[0].Failures)
	assert.Zero(t, g.Inspect()[0].InFlight)
}

func TestTrap06ARateLimitOfOursDoesNotCountAgainstTheProvider(t *testing.T) {
	p := resilience.Default
	p.Rate, p.Burst, p.MaxWait = 0.001, 1, 0
	g := group(t, p, &provider{})
	require.NoError(t, ask(t.Context(), g))
	for range 20 {
		require.ErrorIs(t, ask(t.Context(), g), resilience.ErrLimited)
	}
	assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
	assert.Zero(t, g.Inspect()[0].Failures)
}

func TestTrap07NoWaitReachesBeyondTheDeadlineOrLosesTheLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Backoff = resilience.Backoff{Initial: 10 * time.Second}
		cause := errors.New("the last error")
		one := &provider{fn: func(context.Context) error { return fault.New(fault.Unavailable, cause) }}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		assert.ErrorIs(t, ask(ctx, group(t, p, one)), cause)
		assert.Zero(t, time.Since(start))
		cancel()
		assert.ErrorIs(t, ask(ctx, group(t, p, one)), fault.Canceled)
		assert.EqualValues(t, 1, one.calls.Load(), "a cancelled call asks nobody")
	})
}

func TestTrap08RetryAfterIsReadAsSecondsAndDateAndIsCapped(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	for value, want := range map[string]time.Duration{
		"7": 7 * time.Second, "99999999": fault.MaxRetryAfter, "-1": 0, "soon": 0,
		now.Add(9 * time.Second).UTC().Format(http.TimeFormat): 9 * time.Second,
	} {
		assert.Equal(t, want, fault.RetryAfter(http.Header{"Retry-After": {value}}, now), value)
	}
}

// Callers with 2 s give the primary a share of 1 s, which says something about it
// once its usual answer is known.
func TestTrap15AHangingPrimaryOpensAfterFiveSerialCalls(t *testing.T) {
	for name, caller := range map[string]time.Duration{"no deadline": 0, "2 s": 2 * time.Second} {
		for _, shape := range []string{"flat", "nested"} {
			t.Run(name+" "+shape, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					one, two := &provider{}, &provider{}
					g := group(t, resilience.Default, one, two)
					if shape == "nested" {
						g = group(t, resilience.Default, nested{g})
					}
					require.NoError(t, ask(t.Context(), g))
					one.fn = hang
					start := time.Now()
					for range 20 {
						ctx, cancel := t.Context(), context.CancelFunc(func() {})
						if caller > 0 {
							ctx, cancel = context.WithTimeout(ctx, caller)
						}
						require.NoError(t, ask(ctx, g))
						cancel()
					}
					assert.EqualValues(t, 1+5, one.calls.Load())
					assert.EqualValues(t, 20, two.calls.Load())
					want := 15 * time.Second
					if caller > 0 {
						want = 5 * time.Second
					}
					assert.Equal(t, want, time.Since(start))
				})
			})
		}
	}
}

func TestTrap16EveryCallerWithTwoSecondsReachesTheBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Breaker = resilience.Breaker{}
		g := group(t, p, &provider{fn: hang}, &provider{})
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				assert.NoError(t, ask(ctx, g))
			})
		}
		wg.Wait()
	})
}

func TestTrap17NestingNeitherMultipliesAttemptsNorShortensTheInnerFailover(t *testing.T) {
	run := func(t *testing.T, deep int) (int64, time.Duration) {
		one, two := &provider{fn: hang}, &provider{fn: answers(fault.Unavailable)}
		g := group(t, resilience.Default, one, two)
		for range deep {
			g = group(t, resilience.Default, nested{g})
		}
		start := time.Now()
		err := ask(t.Context(), g)
		f, ok := fault.As(err)
		require.True(t, ok)
		assert.EqualValues(t, one.calls.Load()+two.calls.Load(), f.Attempts)
		assert.ErrorIs(t, err, fault.Uncertain)
		return one.calls.Load() + two.calls.Load(), time.Since(start).Truncate(time.Second)
	}
	synctest.Test(t, func(t *testing.T) {
		flat, took := run(t, 0)
		for deep := 1; deep <= 3; deep++ {
			n, d := run(t, deep)
			assert.Equal(t, flat, n)
			assert.Equal(t, took, d)
		}
		assert.EqualValues(t, 4, flat)
	})
}

func TestTrap18AChildOfTheAttemptsContextCostsNoGoroutine(t *testing.T) {
	one := &provider{fn: func(ctx context.Context) error {
		_ = ctx.Done()
		before := runtime.NumGoroutine()
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		_ = child.Done()
		assert.Equal(t, before, runtime.NumGoroutine())
		return nil
	}}
	require.NoError(t, ask(t.Context(), group(t, resilience.Default, one)))
}

func TestACancellationEndsEveryWaitAtOnceAndNeverCounts(t *testing.T) {
	waits := map[string]func(*resilience.Policy) *provider{
		"attempt": func(*resilience.Policy) *provider { return &provider{fn: hang} },
		"backoff": func(p *resilience.Policy) *provider {
			p.Backoff.Initial = 2 * time.Second
			return &provider{fn: answers(fault.Unavailable)}
		},
		"rate limit": func(p *resilience.Policy) *provider {
			p.Rate, p.Burst, p.MaxWait = 0.2, 1, 10*time.Second
			return &provider{}
		},
		"slot": func(p *resilience.Policy) *provider {
			p.Concurrency, p.MaxWait = 1, 10*time.Second
			return &provider{fn: hang}
		},
	}
	for name, set := range waits {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := resilience.Default
				one := set(&p)
				g := group(t, p, one)
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				for range 2 {
					wg.Go(func() { _ = ask(ctx, g) })
				}
				time.Sleep(time.Second)
				start := time.Now()
				cancel()
				wg.Wait()
				assert.Zero(t, time.Since(start))
				if name != "backoff" { // there the failures were real ones
					assert.Zero(t, g.Inspect()[0].Failures)
				}
				assert.Zero(t, g.Inspect()[0].InFlight)
			})
		})
	}
}

func TestHalfOpenNeverAdmitsMoreProbesThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int64
		g, one := opened(t, func(context.Context) error {
			n := running.Add(1)
			most.Store(max(most.Load(), n))
			time.Sleep(time.Second)
			running.Add(-1)
			return fault.New(fault.Unavailable, nil)
		})
		before := one.calls.Load()
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { _ = ask(t.Context(), g) })
		}
		wg.Wait()
		assert.EqualValues(t, 1, most.Load())
		assert.EqualValues(t, 1, one.calls.Load()-before)
	})
}

func TestARateLimitedPrimaryIsPausedForAllCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &provider{fn: func(context.Context) error { return &fault.Error{Kind: fault.RateLimited, RetryAfter: 7 * time.Second} }}
		two := &provider{}
		g := group(t, resilience.Default, one, two)
		start := time.Now()
		for range 10 {
			require.NoError(t, ask(t.Context(), g))
		}
		assert.Zero(t, time.Since(start))
		assert.EqualValues(t, 1, one.calls.Load())
		time.Sleep(7 * time.Second)
		require.NoError(t, ask(t.Context(), g))
		assert.EqualValues(t, 1, one.calls.Load(), "it lasts a little longer, so that not all come back at once")
		time.Sleep(700 * time.Millisecond)
		require.NoError(t, ask(t.Context(), g))
		assert.EqualValues(t, 2, one.calls.Load())
	})
}

func TestThePermanentFaultOfARequestNeverFailsOverOrCounts(t *testing.T) {
	for _, k := range []fault.Kind{fault.Invalid, fault.NotFound, fault.Conflict, fault.Rejected} {
		one, two := &provider{fn: answers(k)}, &provider{}
		g := group(t, resilience.Default, one, two)
		for range 20 {
			require.ErrorIs(t, ask(t.Context(), g), k)
		}
		assert.Zero(t, two.calls.Load(), k)
		assert.Zero(t, g.Inspect()[0].Failures, k)
	}
}

func TestTheErrorOfAFailedCallListsEveryProvider(t *testing.T) {
	p := resilience.Default
	p.Retries = 0
	g := group(t, p, &provider{fn: answers(fault.Denied)}, &provider{fn: answers(fault.Unavailable)})
	err := ask(t.Context(), group(t, p, nested{g}))
	assert.EqualError(t, err, "test.ask: unavailable after 2 attempts: p0/p0: denied; p0/p1: unavailable")
	assert.ErrorIs(t, err, fault.Unavailable)
	assert.NotErrorIs(t, err, fault.Denied)
}

func TestTheHappyPathMakesOneAllocationSixWithDoneAndAnOpenBreakerNone(t *testing.T) {
	p := resilience.Default
	p.Rate, p.Burst, p.Concurrency = 1e9, 1<<30, 10
	g := group(t, p, &provider{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { _ = ask(ctx, g) }), 1.0)
	usesDone := group(t, p, &provider{fn: func(ctx context.Context) error { _ = ctx.Done(); return nil }})
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { _ = ask(ctx, usesDone) }), 6.0)
	p.Retries = 0
	broken := group(t, p, &provider{fn: answers(fault.Unavailable)})
	for range 5 {
		_ = ask(ctx, broken)
	}
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = ask(ctx, broken) }))
}
