package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/eapache/go-resiliency/deadline"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/resilience"
)

// constant backs off by the same time each time.
func constant(d time.Duration) retrypolicy.RetryPolicy[*answer] {
	return retrypolicy.NewBuilder[*answer]().WithMaxRetries(retries).WithDelay(d).Build()
}

// onceHung hangs at the first attempt and answers then.
func onceHung() *counted {
	p := counting(nil)
	p.does(func(ctx context.Context, q *query) (*answer, error) {
		if p.n.Load() == 1 {
			return hangs(ctx, q)
		}
		return ok, nil
	})
	return p
}

// waitsEnd cancels a call after a second of each of its waits, and says how long
// each took to end.
func waitsEnd(t *testing.T, waits ...func(context.Context) error) string {
	for _, w := range waits {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		assert.Equal(t, time.Second, took(func() { require.Error(t, w(ctx)) }))
	}
	return fmt.Sprintf("all %d end at once", len(waits))
}

// waitSituations are the rest of the section.
var waitSituations = []situation{
	{
		when: "the first attempt times out and the second would answer",
		ours: func(t *testing.T) string {
			p := onceHung()
			require.NoError(t, oursDo(t.Context(), ours(t, nil, p), opWrite))
			return fmt.Sprintf("answered by attempt %d", p.n.Load())
		},
		failsafe: func(t *testing.T) string {
			p := onceHung()
			require.NoError(t, failsafeWith(failsafeRetry(), failsafeBreaker(), timeout.New[*answer](attemptLimit))(t.Context(), p))
			return fmt.Sprintf("answered by attempt %d", p.n.Load())
		},
	},
	{
		when: "the caller cancels during an attempt, a wait before a retry, for the rate limit, for a slot, and while the backup works (resilience4j#626)",
		ours: func(t *testing.T) string {
			wait := func(change func(*resilience.Policy), before bool, all ...provider) func(context.Context) error {
				return func(ctx context.Context) error {
					g := ours(t, change, all...)
					if before { // somebody who takes the token or the slot
						go func() { _ = oursAsk(ctx, g, &query{}) }()
						synctest.Wait()
					}
					return oursAsk(ctx, g, &query{})
				}
			}
			return waitsEnd(t,
				wait(nil, false, hangs),
				wait(func(p *resilience.Policy) { p.Backoff = resilience.Backoff{Initial: 10 * time.Second} }, false, down),
				wait(func(p *resilience.Policy) { p.Rate, p.Burst, p.MaxWait = 0.1, 1, time.Minute }, true, fast),
				wait(func(p *resilience.Policy) { p.Concurrency, p.MaxWait = 1, time.Minute }, true, hangs),
				wait(noRetries, false, down, hangs),
			)
		},
		failsafe: func(t *testing.T) string {
			limit := ratelimiter.NewBurstyBuilder[*answer](1, time.Minute).WithMaxWaitTime(time.Hour).Build()
			limit.TryAcquirePermit()
			slots := bulkhead.NewBuilder[*answer](1).WithMaxWaitTime(time.Hour).Build()
			slots.TryAcquirePermit()
			second := fallback.NewWithFunc(func(x failsafe.Execution[*answer]) (*answer, error) { return hangs(x.Context(), nil) })
			wait := func(p failsafe.Policy[*answer], of provider) func(context.Context) error {
				return func(ctx context.Context) error { return failsafeWith(p)(ctx, of) }
			}
			return waitsEnd(t, wait(timeout.New[*answer](attemptLimit), hangs), wait(constant(10*time.Second), down), wait(limit, fast), wait(slots, fast), wait(second, down))
		},
	},
	{
		when: "the caller cancels an attempt, and looks at the error",
		ours: func(t *testing.T) string {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			err := oursAsk(ctx, ours(t, nil, hangs), &query{})
			return fmt.Sprintf("cancelled: %v; timed out: %v", is(err, context.Canceled), is(err, resilience.ErrTimeout))
		},
		failsafe: func(t *testing.T) string {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			err := failsafeAsk(ctx, failsafeCall(), hangs, &query{})
			return fmt.Sprintf("cancelled: %v; timed out: %v", is(err, context.Canceled), is(err, timeout.ErrExceeded))
		},
	},
	{
		when: "a provider ignores its context for 20 s under a limit of 3 s",
		ours: func(t *testing.T) string {
			g := ours(t, noRetries, takes(20*time.Second, nil))
			return "its caller is back after " + took(func() { _ = oursAsk(t.Context(), g, &query{}) }).String()
		},
		failsafe: func(t *testing.T) string {
			call := failsafeWith(timeout.New[*answer](attemptLimit))
			return "its caller is back after " + took(func() { _ = call(t.Context(), takes(20*time.Second, nil)) }).String()
		},
		others: []named{{"go-resiliency", func(*testing.T) string {
			var working atomic.Bool
			working.Store(true)
			d := took(func() {
				_ = deadline.New(attemptLimit).Run(func(<-chan struct{}) error {
					time.Sleep(20 * time.Second)
					working.Store(false)
					return nil
				})
			})
			s := fmt.Sprintf("back after %v", d)
			if working.Load() {
				s += ", and the work goes on unseen"
			}
			time.Sleep(time.Minute) // it ends here
			return s
		}}},
	},
	{
		when: "ten retries wait 1 s, doubled to at most 3 s, with jitter (cenkalti/backoff#117)",
		ours: func(t *testing.T) string {
			longest := time.Duration(0)
			p := resilience.Default
			p.Breaker, p.RetryBudget = resilience.Breaker{}, 0
			p.Retries, p.Total, p.Backoff = 10, 0, resilience.Backoff{Initial: time.Second, Max: 3 * time.Second, Jitter: 0.5}
			g, err := resilience.New(p, []resilience.Member[provider]{{Name: "a", Provider: down}}, resilience.ObserverFunc(
				func(_ context.Context, e resilience.Event) {
					if e.Type == resilience.RetryScheduled {
						longest = max(longest, e.Delay)
					}
				}))
			require.NoError(t, err)
			times(50, func() error { return oursAsk(t.Context(), g, &query{}) })
			return bound(longest)
		},
		failsafe: func(t *testing.T) string {
			longest := time.Duration(0)
			r := retrypolicy.NewBuilder[*answer]().WithMaxRetries(10).WithBackoff(time.Second, 3*time.Second).WithJitterFactor(0.5).
				OnRetryScheduled(func(e failsafe.ExecutionScheduledEvent[*answer]) { longest = max(longest, e.Delay) }).Build()
			call := failsafeWith(r)
			times(50, func() error { return call(t.Context(), down) })
			return bound(longest)
		},
		others: []named{{"backoff", func(*testing.T) string {
			longest := time.Duration(0)
			for range 50 {
				b := backoff.NewExponentialBackOff(backoff.WithInitialInterval(time.Second), backoff.WithMaxInterval(3*time.Second), backoff.WithMaxElapsedTime(0))
				for range 10 {
					longest = max(longest, b.NextBackOff())
				}
			}
			return bound(longest)
		}}},
	},
	{
		when: "100 calls fail one after the other, two retries each, a budget of a fifth",
		ours: func(t *testing.T) string {
			p := counting(down)
			g := ours(t, func(p *resilience.Policy) { p.Breaker = resilience.Breaker{} }, p)
			times(100, func() error { return oursAsk(t.Context(), g, &query{}) })
			return fmt.Sprintf("%d attempts: a reserve of ten, and one for five calls", p.n.Load())
		},
		failsafe: func(t *testing.T) string {
			p := counting(down)
			call := failsafeWith(retrypolicy.NewBuilder[*answer]().WithMaxRetries(retries).WithDelay(firstWait).WithBudget(budget.New()).Build())
			times(100, func() error { return call(t.Context(), p) })
			return fmt.Sprintf("%d attempts: its budget is of what runs at a time", p.n.Load())
		},
	},
	{
		when: "… all at the same time",
		ours: func(t *testing.T) string {
			p := counting(takes(time.Second, errDown))
			g := ours(t, func(p *resilience.Policy) { p.Breaker = resilience.Breaker{} }, p)
			atOnce(100, func() error { return oursAsk(t.Context(), g, &query{}) })
			return between(t, p.n.Load())
		},
		failsafe: func(t *testing.T) string {
			p := counting(takes(time.Second, errDown))
			call := failsafeWith(retrypolicy.NewBuilder[*answer]().WithMaxRetries(retries).WithDelay(firstWait).WithBudget(budget.New()).Build())
			atOnce(100, func() error { return call(t.Context(), p) })
			return between(t, p.n.Load())
		},
	},
}

func bound(longest time.Duration) string {
	if longest > 3*time.Second {
		return "more than 3 s"
	}
	return "at most 3 s"
}

// between is a class of figures that depend on who comes first.
func between(t *testing.T, n int64) string {
	t.Logf("%d attempts", n)
	switch {
	case n <= 110:
		return "at most 110 attempts"
	case n <= 150:
		return "110 to 150 attempts"
	}
	return "more than 150 attempts"
}
