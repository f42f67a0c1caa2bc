package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/eapache/go-resiliency/deadline"
	"github.com/eapache/go-resiliency/semaphore"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// limitsAlone switches everything else off.
func limitsAlone(limits resilience.Policy) func(*resilience.Policy) {
	return func(p *resilience.Policy) { *p = limits }
}

// rates plays with a rate limit for which a call may wait a minute.
func rates(perSecond float64, burst int, play func(t *testing.T, call protected) string) situation {
	per := func(calls int) time.Duration { return time.Duration(float64(calls) / perSecond * float64(time.Second)) }
	return situation{
		ours: func(t *testing.T) string {
			return play(t, around(ours(t, limitsAlone(resilience.Policy{Rate: perSecond, Burst: burst, MaxWait: time.Minute}), fast), op))
		},
		failsafe: func(t *testing.T) string {
			b := ratelimiter.NewBurstyBuilder[*answer](uint(burst), per(burst))
			if burst == 1 {
				b = ratelimiter.NewSmoothBuilderWithMaxRate[*answer](per(1))
			}
			return play(t, failsafeWith(b.WithMaxWaitTime(time.Minute).Build()))
		},
		others: []named{{"x/time/rate", func(t *testing.T) string {
			l := rate.NewLimiter(rate.Limit(perSecond), burst)
			return play(t, func(ctx context.Context, p provider) error {
				if err := l.Wait(ctx); err != nil {
					return err
				}
				_, err := p.Ask(ctx, &query{})
				return err
			})
		}}},
	}
}

// slots plays with so many, for one of which a call may wait.
func slots(n int, wait time.Duration, play func(t *testing.T, call protected) string) situation {
	return situation{
		ours: func(t *testing.T) string {
			limits := resilience.Policy{Concurrency: n, MaxWait: wait, MaxWaiting: resilience.Default.MaxWaiting, Timeout: attemptLimit}
			return play(t, around(ours(t, limitsAlone(limits), fast), op))
		},
		failsafe: func(t *testing.T) string {
			return play(t, failsafeWith(bulkhead.NewBuilder[*answer](uint(n)).WithMaxWaitTime(wait).Build(), timeout.New[*answer](attemptLimit)))
		},
		others: []named{{"go-resiliency", func(t *testing.T) string {
			s, limit := semaphore.New(n, wait), deadline.New(attemptLimit)
			return play(t, func(ctx context.Context, p provider) error {
				if err := s.Acquire(); err != nil {
					return err
				}
				defer s.Release()
				return limit.Run(func(<-chan struct{}) error { _, err := p.Ask(ctx, &query{}); return err })
			})
		}}},
	}
}

// inOrder lets 50 callers come one after the other, and says how they are served.
func inOrder(t *testing.T, call protected) string {
	var mu sync.Mutex
	served, inOrder := 0, true
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			require.NoError(t, call(t.Context(), takes(10*time.Millisecond, nil)))
			mu.Lock()
			defer mu.Unlock()
			inOrder = inOrder && served == i
			served++
		})
		time.Sleep(time.Millisecond)
	}
	wg.Wait()
	if inOrder {
		return "in the order in which they came"
	}
	return "in another order"
}

// overtaken lets those who wait before or behind one caller leave, and says how
// long it waits.
func overtaken(before int) func(t *testing.T, call protected) string {
	return func(t *testing.T, call protected) string {
		require.NoError(t, call(t.Context(), fast)) // the burst
		ctx, cancel := context.WithCancel(t.Context())
		for range before {
			go func() { _ = call(ctx, fast) }()
		}
		synctest.Wait()
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { require.NoError(t, call(t.Context(), fast)) })
		time.Sleep(100 * time.Millisecond)
		cancel()
		wg.Wait()
		return fmt.Sprintf("it waits %v in all", time.Since(start).Round(100*time.Millisecond))
	}
}

// told is what a provider says that wants to be left alone.
func told(d time.Duration) error {
	return &fault.Error{Kind: fault.RateLimited, RetryAfter: d, Err: errLast}
}

// asTold waits for as long as it is told, as failsafehttp does.
func asTold(x failsafe.ExecutionAttempt[*answer]) time.Duration {
	if f, ok := fault.As(x.LastError()); ok {
		return f.RetryAfter
	}
	return firstWait
}

// limitSituations are about who must wait for whom.
var limitSituations = []situation{
	rates(1, 1, func(t *testing.T, call protected) string {
		require.NoError(t, call(t.Context(), fast)) // the burst
		ctx, cancel := context.WithCancel(t.Context())
		for range 10 {
			go func() { _ = call(ctx, fast) }()
		}
		time.Sleep(100 * time.Millisecond)
		cancel()
		synctest.Wait()
		d := took(func() { require.NoError(t, call(t.Context(), fast)) })
		if d > time.Second { // how long depends on the order in which they leave
			return "it waits longer than 1s, for those who have left"
		}
		return fmt.Sprintf("it waits %v", d)
	}).called("one call a second; ten wait and cancel after 0.1 s, and then another comes (golang/go#69419)"),
	rates(1, 1, overtaken(9)).called("… and it was there before they cancelled, behind nine of them"),
	rates(10, 1, inOrder).called("50 callers wait for the rate limit: how they are served (resilience4j#822)"),
	slots(1, time.Minute, inOrder).called("… for one slot"),
	rates(10, 10, func(t *testing.T, call protected) string {
		well, ctx := 0, t.Context()
		for _, at := range []time.Duration{950 * time.Millisecond, 100 * time.Millisecond} {
			time.Sleep(at)
			ctx, cancel := context.WithTimeout(ctx, time.Nanosecond)
			well += times(10, func() error { return call(ctx, fast) })
			cancel()
		}
		return fmt.Sprintf("%d in a tenth of a second", well)
	}).called("ten calls a second are allowed; ten come at the end of one second, ten at the beginning of the next"),
	rates(5e9, 1000, func(t *testing.T, call protected) string {
		return fmt.Sprintf("%d of 1,000 are let through", times(1000, func() error { return call(t.Context(), fast) }))
	}).called("five billion a second are allowed (governor#203)"),
	slots(4, time.Second, func(t *testing.T, call protected) string {
		atOnce(100, func() error { return call(t.Context(), takes(2500*time.Millisecond, nil)) })
		return fmt.Sprintf("%d of 4", atOnce(4, func() error { return call(t.Context(), fast) }))
	}).called("96 of 100 callers leave the queue for four slots; then four come, and have one each (failsafe#393)"),
	slots(3, 0, func(t *testing.T, call protected) string {
		var now, most atomic.Int64
		var wg sync.WaitGroup
		for range 60 {
			wg.Go(func() {
				_ = call(t.Context(), providerFunc(func(context.Context, *query) (*answer, error) {
					most.Store(max(most.Load(), now.Add(1)))
					defer now.Add(-1)
					time.Sleep(30 * time.Second) // it heeds nothing
					return ok, nil
				}))
			})
			time.Sleep(700 * time.Millisecond)
		}
		wg.Wait()
		time.Sleep(time.Minute)
		if most.Load() > 15 {
			return "more than 15 at once: a slot is free while its work goes on"
		}
		return fmt.Sprintf("%d at once", most.Load())
	}).called("three slots, a limit of 3 s, and work that goes on for 30 s all the same (Hystrix#1867)"),
	slots(1, 2*time.Second, func(t *testing.T, call protected) string {
		var waiting atomic.Int64
		for range 10_000 {
			waiting.Add(1)
			go func() {
				defer waiting.Add(-1)
				_ = call(t.Context(), takes(2500*time.Millisecond, nil))
			}()
		}
		synctest.Wait()
		n := waiting.Load() - 1
		time.Sleep(time.Hour)
		return fmt.Sprintf("%d wait, one runs", n)
	}).called("10,000 callers come, and there is one slot"),
	{
		when: "a provider without a backup asks to be left alone for a minute, and 300 callers come in 30 s (gocryptotrader#491)",
		ours: func(t *testing.T) string {
			p := counting(fails(told(time.Minute)))
			g := ours(t, nil, p)
			times(300, func() error { time.Sleep(100 * time.Millisecond); return oursAsk(t.Context(), g, &query{}) })
			return fmt.Sprintf("it is asked %d×", p.n.Load())
		},
		failsafe: func(t *testing.T) string {
			p := counting(fails(told(time.Minute)))
			call := failsafeWith(failsafeBreaker())
			times(300, func() error { time.Sleep(100 * time.Millisecond); return call(t.Context(), p) })
			return fmt.Sprintf("it is asked %d×, until the breaker opens", p.n.Load())
		},
	},
	{
		when: "200 callers are told to come back in 3 s (gojek/heimdall#21)",
		ours: func(t *testing.T) string {
			g := ours(t, func(p *resilience.Policy) { p.MaxWait, p.RetryBudget = 5*time.Second, 0 }, fast)
			return spread(t, around(g, op))
		},
		failsafe: func(t *testing.T) string {
			return spread(t, failsafeWith(retrypolicy.NewBuilder[*answer]().WithMaxRetries(retries).WithDelayFunc(asTold).Build()))
		},
	},
	{
		when: "a tenant goes on asking, whose own rate limit is used up; 180 others stay below the provider's (gocryptotrader#2371)",
		ours: func(t *testing.T) string {
			g := ours(t, limitsAlone(resilience.Policy{Rate: 10, Burst: 1, MaxWait: time.Second, PerKey: &resilience.Policy{Rate: 0.001, Burst: 1}}), fast)
			return tenants(t, func(ctx context.Context, tenant string, p provider) error {
				return around(g, op)(resilience.WithTenant(ctx, tenant), p)
			})
		},
		failsafe: func(t *testing.T) string {
			whole := func() failsafe.Policy[*answer] {
				return ratelimiter.NewSmoothBuilderWithMaxRate[*answer](100 * time.Millisecond).WithMaxWaitTime(time.Second).Build()
			}
			own := func() func(string) failsafe.Policy[*answer] { // a limit for each, by hand
				var mu sync.Mutex
				all := map[string]failsafe.Policy[*answer]{}
				return func(tenant string) failsafe.Policy[*answer] {
					mu.Lock()
					defer mu.Unlock()
					if all[tenant] == nil {
						all[tenant] = ratelimiter.NewSmooth[*answer](1, 1000*time.Second)
					}
					return all[tenant]
				}
			}
			first, limit, of := own(), whole(), whole()
			right := tenants(t, func(ctx context.Context, tenant string, p provider) error {
				return failsafeWith(first(tenant), limit)(ctx, p)
			})
			second := own()
			wrong := tenants(t, func(ctx context.Context, tenant string, p provider) error {
				return failsafeWith(of, second(tenant))(ctx, p)
			})
			return right + "; with the provider's limit outside, " + wrong
		},
	},
	{
		when: "a load below the rate limit, and each call is hedged (go-service#2380)",
		ours: func(t *testing.T) string {
			g := ours(t, limitsAlone(resilience.Policy{Rate: 10, Burst: 1, Timeout: time.Second, RetryBudget: 0.2, Hedge: resilience.Hedge{After: 50 * time.Millisecond}}), takes(200*time.Millisecond, nil))
			return steadily(t, func() error { return oursAsk(t.Context(), g, &query{}) })
		},
		failsafe: func(t *testing.T) string {
			limit := func() failsafe.Policy[*answer] {
				return ratelimiter.NewSmoothWithMaxRate[*answer](100 * time.Millisecond)
			}
			hedge := hedgepolicy.NewWithDelay[*answer](50 * time.Millisecond)
			play := func(call protected, p *counted) string {
				return steadily(t, func() error { return call(t.Context(), p) })
			}
			p := counting(takes(200*time.Millisecond, nil))
			inside := play(failsafeWith(hedge, limit()), counting(takes(200*time.Millisecond, nil)))
			outside := play(failsafeWith(limit(), hedge), p)
			return fmt.Sprintf("%s; with the limit outside, %s, and %d are sent", inside, outside, p.n.Load())
		},
	},
	{
		when: "everything takes long, and 100 calls at once would be hedged (hedgedhttp#18)",
		ours: func(t *testing.T) string {
			p := counting(takes(2*time.Second, nil))
			g := ours(t, func(p *resilience.Policy) { p.Hedge.After = time.Second }, p)
			atOnce(100, func() error { return oursAsk(t.Context(), g, &query{}) })
			time.Sleep(time.Minute) // for the goroutines of the hedges
			return between(t, p.n.Load())
		},
		failsafe: func(t *testing.T) string {
			hedged := func(b hedgepolicy.Builder[*answer]) string {
				p := counting(takes(2*time.Second, nil))
				call := failsafeWith(b.Build())
				atOnce(100, func() error { return call(t.Context(), p) })
				time.Sleep(time.Minute) // for the goroutines of the hedges
				return between(t, p.n.Load())
			}
			b := func() hedgepolicy.Builder[*answer] { return hedgepolicy.NewBuilderWithDelay[*answer](time.Second) }
			return fmt.Sprintf("%s; with a budget, %s", hedged(b()), hedged(b().WithBudget(budget.New())))
		},
	},
	{
		when: "50 calls fail and use up the budget for retries; 200 go well, and then one fails (aws-sdk-go-v2#3550)",
		ours: func(t *testing.T) string {
			g := ours(t, func(p *resilience.Policy) { p.Breaker = resilience.Breaker{} }, fast)
			return refilled(t, around(g, op))
		},
		failsafe: func(t *testing.T) string {
			return refilled(t, failsafeWith(retrypolicy.NewBuilder[*answer]().WithMaxRetries(retries).WithDelay(firstWait).WithBudget(budget.New()).Build()))
		},
		others: []named{{"aws-sdk-go-v2 1.48, adaptive", func(t *testing.T) string {
			r := retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
				o.StandardOptions = append(o.StandardOptions, func(o *retry.StandardOptions) { o.RateLimiter = ratelimit.NewTokenRateLimit(100) })
			})
			return refilled(t, awsRetried(r))
		}}},
	},
	{
		when: "a tenant's calls fail and use up the budget for retries, and then another's first call fails (aws-sdk-go-base#915)",
		ours: func(t *testing.T) string {
			g := ours(t, func(p *resilience.Policy) {
				p.Breaker, p.PerKey = resilience.Breaker{}, &resilience.Policy{RetryBudget: p.RetryBudget}
			}, fast)
			return budgets(t, func(ctx context.Context, tenant string, p provider) error {
				return around(g, op)(resilience.WithTenant(ctx, tenant), p)
			})
		},
		failsafe: func(t *testing.T) string {
			call := failsafeWith(retrypolicy.NewBuilder[*answer]().WithMaxRetries(retries).WithDelay(firstWait).WithBudget(budget.New()).Build())
			return budgets(t, func(ctx context.Context, _ string, p provider) error { return call(ctx, p) }) + "; its budget is of what runs at a time"
		},
		others: []named{{"aws-sdk-go-v2", func(t *testing.T) string {
			call := awsRetried(retry.NewStandard(func(o *retry.StandardOptions) { o.RateLimiter = ratelimit.NewTokenRateLimit(100) }))
			return budgets(t, func(ctx context.Context, _ string, p provider) error { return call(ctx, p) })
		}}},
	},
}

// spread lets 200 callers be told to come back, and says when they do.
func spread(t *testing.T, call protected) string {
	start, most := time.Now(), 0
	var mu sync.Mutex
	at := map[time.Duration]int{}
	atOnce(200, func() error {
		return call(t.Context(), providerFunc(func(context.Context, *query) (*answer, error) {
			d := time.Since(start)
			if d < 2*time.Second {
				return nil, told(3 * time.Second)
			}
			mu.Lock()
			defer mu.Unlock()
			require.GreaterOrEqual(t, d, 3*time.Second)
			at[d]++
			most = max(most, at[d])
			return ok, nil
		}))
	})
	if most < 10 {
		return "no ten of them come in one instant"
	}
	return fmt.Sprintf("%d come in one instant", most)
}

// tenants lets one go on asking without a pause, and 180 others come one after the
// other, nine a second.
func tenants(t *testing.T, call func(ctx context.Context, tenant string, p provider) error) string {
	ctx, cancel := context.WithCancel(t.Context())
	var noisy, others sync.WaitGroup
	for range 20 {
		noisy.Go(func() {
			for ctx.Err() == nil {
				_ = call(ctx, "noisy", fast)
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	var well atomic.Int64
	for i := range 180 {
		others.Go(func() {
			if call(t.Context(), fmt.Sprint(i), fast) == nil {
				well.Add(1)
			}
		})
		time.Sleep(111 * time.Millisecond)
	}
	others.Wait()
	cancel()
	noisy.Wait()
	if n := well.Load(); n < 175 {
		return share(n)
	}
	return "all are answered"
}

// share is a class of figures that depend on who comes first.
func share(n int64) string {
	switch {
	case n < 20:
		return "hardly any is answered"
	case n < 90:
		return "fewer than half are answered"
	}
	return "more than half are answered"
}

// steadily makes 100 calls, one in 130 ms.
func steadily(t *testing.T, call func() error) string {
	var refused atomic.Int64
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if call() != nil {
				refused.Add(1)
			}
		})
		time.Sleep(130 * time.Millisecond)
	}
	wg.Wait()
	time.Sleep(time.Minute)
	return fmt.Sprintf("%d of 100 are refused", refused.Load())
}

// firstFails is a provider whose first attempt fails.
func firstFails() *counted {
	p := counting(nil)
	p.does(func(context.Context, *query) (*answer, error) {
		if p.n.Load() == 1 {
			return nil, errDown
		}
		return ok, nil
	})
	return p
}

func retriedOrNot(err error) string {
	if err != nil {
		return "it isn't retried"
	}
	return "it is retried"
}

func refilled(t *testing.T, call protected) string {
	times(50, func() error { return call(t.Context(), down) })
	require.Equal(t, 200, times(200, func() error { return call(t.Context(), fast) }))
	return retriedOrNot(call(t.Context(), firstFails()))
}

func budgets(t *testing.T, call func(ctx context.Context, tenant string, p provider) error) string {
	times(50, func() error { return call(t.Context(), "noisy", down) })
	return retriedOrNot(call(t.Context(), "quiet", firstFails()))
}

// awsRetryer is what the SDK's middleware uses of one.
type awsRetryer interface {
	GetAttemptToken(ctx context.Context) (func(error) error, error)
	GetRetryToken(ctx context.Context, err error) (func(error) error, error)
	RetryDelay(attempt int, err error) (time.Duration, error)
}

// awsRetried asks a retryer as the SDK's middleware does, of errors that may be
// retried.
func awsRetried(r awsRetryer) protected {
	return func(ctx context.Context, p provider) error {
		release := func(error) error { return nil }
		for n := 1; ; n++ {
			attempt, err := r.GetAttemptToken(ctx)
			if err != nil {
				return err
			}
			_, err = p.Ask(ctx, &query{})
			_ = attempt(err)
			_ = release(err)
			if err == nil || n > retries {
				return err
			}
			if release, err = r.GetRetryToken(ctx, err); err != nil {
				return err
			}
			delay, err := r.RetryDelay(n, errDown)
			if err != nil {
				return err
			}
			time.Sleep(delay)
		}
	}
}
