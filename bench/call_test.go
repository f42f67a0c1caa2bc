// Package bench compares the library with its peers, side by side in one run, and
// says what each does in the same situation.
//
// Run it on one processor and on two (-cpu 1,2): each case is made by as many
// goroutines as there are processors, and the time is that of the clock divided by
// the calls of all.
package bench

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/eapache/go-resiliency/breaker"
	"github.com/eapache/go-resiliency/retrier"
	"github.com/eapache/go-resiliency/semaphore"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"github.com/smilefactory/integrations/resilience"
)

// A provider that answers at once, behind retry, rate limit, breaker and attempt
// time limit.
func BenchmarkSuccess(b *testing.B) {
	compare(b, "success", successOf(fast)...)
	compare(b, "success-done", successOf(usesDone)...)
}

func successOf(p provider) []contender {
	return []contender{
		{"ours", oursOf(p)},
		{"failsafe", failsafeOf(p)},
		{"resiliency", resiliency(p)},
		{"hand", byHand(p)},
		{"gobreaker", breakerAlone(p)},
		{"backoff", backoffAlone(p)},
	}
}

// A breaker that is open. No peer has retries around it, which would try again
// what can't succeed.
func BenchmarkOpen(b *testing.B) {
	compare(
		b, "open",
		contender{"ours", func(b *testing.B) call {
			g := ours(b, nil, down)
			for g.Inspect()[0].State != resilience.Open {
				_ = oursAsk(b.Context(), g, &query{})
			}
			return func(ctx context.Context, q *query) error { return want(oursAsk(ctx, g, q), resilience.ErrOpen) }
		}},
		contender{"failsafe", func(*testing.B) call {
			cb := failsafeBreaker()
			cb.Open()
			e := failsafe.With[*answer](ratelimiter.NewBursty[*answer](plenty, time.Second), cb, timeout.New[*answer](attemptLimit))
			return func(ctx context.Context, q *query) error {
				return want(failsafeAsk(ctx, e, fast, q), circuitbreaker.ErrOpen)
			}
		}},
		contender{"resiliency", func(*testing.B) call {
			cb := breaker.New(1, 1, time.Hour)
			_ = cb.Run(func() error { return errDown })
			return func(context.Context, *query) error {
				return want(cb.Run(func() error { return nil }), breaker.ErrBreakerOpen)
			}
		}},
		contender{"gobreaker", func(b *testing.B) call {
			ask := breakerAlone(down)(b)
			for range minCalls {
				_ = ask(b.Context(), &query{})
			}
			return func(ctx context.Context, q *query) error { return want(ask(ctx, q), gobreaker.ErrOpenState) }
		}},
	)
}

// A rate limit that refuses, nobody waiting. go-resiliency has none.
func BenchmarkLimited(b *testing.B) {
	compare(
		b, "limited",
		contender{"ours", func(b *testing.B) call {
			g := ours(b, func(p *resilience.Policy) { p.Rate, p.Burst, p.MaxWait = 1e-6, 1, 0 }, fast)
			_ = oursAsk(b.Context(), g, &query{})
			return func(ctx context.Context, q *query) error { return want(oursAsk(ctx, g, q), resilience.ErrLimited) }
		}},
		contender{"failsafe", func(b *testing.B) call {
			e := failsafe.With[*answer](ratelimiter.NewBursty[*answer](1, 1e6*time.Second), failsafeBreaker(), timeout.New[*answer](attemptLimit))
			_ = failsafeAsk(b.Context(), e, fast, &query{})
			return func(ctx context.Context, q *query) error {
				return want(failsafeAsk(ctx, e, fast, q), ratelimiter.ErrExceeded)
			}
		}},
		contender{"hand", func(*testing.B) call { // x/time/rate alone
			l := rate.NewLimiter(1e-6, 1)
			l.Allow()
			return func(context.Context, *query) error {
				if l.Allow() {
					return errors.New("allowed")
				}
				return nil
			}
		}},
	)
}

// All slots taken, nobody waiting.
func BenchmarkFull(b *testing.B) {
	compare(
		b, "full",
		contender{"ours", func(b *testing.B) call {
			taken, release := make(chan struct{}), make(chan struct{})
			b.Cleanup(func() { close(release) })
			holds := providerFunc(func(context.Context, *query) (*answer, error) {
				close(taken)
				<-release
				return ok, nil
			})
			g := ours(b, func(p *resilience.Policy) { p.Concurrency, p.MaxWait = 1, 0 }, holds)
			go func() { _ = oursAsk(context.Background(), g, &query{}) }()
			<-taken
			return func(ctx context.Context, q *query) error { return want(oursAsk(ctx, g, q), resilience.ErrFull) }
		}},
		contender{"failsafe", func(*testing.B) call {
			slots := bulkhead.New[*answer](1)
			slots.TryAcquirePermit()
			e := failsafe.With[*answer](ratelimiter.NewBursty[*answer](plenty, time.Second), slots, failsafeBreaker(), timeout.New[*answer](attemptLimit))
			return func(ctx context.Context, q *query) error {
				return want(failsafeAsk(ctx, e, fast, q), bulkhead.ErrFull)
			}
		}},
		contender{"resiliency", func(*testing.B) call { // its semaphore always waits, here for a timer of zero
			s := semaphore.New(1, 0)
			taken := s.Acquire() == nil
			for !taken { // either may win
				taken = s.Acquire() == nil
			}
			return func(context.Context, *query) error { return want(s.Acquire(), semaphore.ErrNoTickets) }
		}},
	)
}

// The first attempt fails, the second answers. Waits are as short as each allows:
// a nanosecond for ours, none for the others; all go through a timer.
func BenchmarkRetry(b *testing.B) {
	compare(
		b, "retry",
		contender{"ours", func(b *testing.B) call {
			g := ours(b, func(p *resilience.Policy) {
				p.Backoff, p.RetryBudget = resilience.Backoff{Initial: 1}, 1 // every call pays for a retry
				p.Breaker.Ratio = 0.9
			}, flaky)
			return func(ctx context.Context, q *query) error { return oursAsk(ctx, g, q) }
		}},
		contender{"failsafe", func(*testing.B) call {
			e := failsafe.With[*answer](
				retrypolicy.NewBuilder[*answer]().WithMaxRetries(retries).Build(), ratelimiter.NewBursty[*answer](plenty, time.Second),
				circuitbreaker.NewBuilder[*answer]().WithFailureRateThreshold(0.9, uint(minCalls), window).WithDelay(openFor).Build(),
				timeout.New[*answer](attemptLimit),
			)
			return func(ctx context.Context, q *query) error { return failsafeAsk(ctx, e, flaky, q) }
		}},
		contender{"resiliency", func(*testing.B) call { // without its deadline and its breaker, which would open
			again := retrier.New(retrier.ConstantBackoff(retries, 0), nil)
			return func(ctx context.Context, q *query) error {
				return again.RunCtx(ctx, func(ctx context.Context) error {
					_, err := flaky.Ask(ctx, q)
					return err
				})
			}
		}},
		contender{"backoff", func(*testing.B) call {
			return func(ctx context.Context, q *query) error {
				return backoff.Retry(func() error {
					_, err := flaky.Ask(ctx, q)
					return err
				}, backoff.WithContext(backoff.WithMaxRetries(&backoff.ZeroBackOff{}, uint64(retries)), ctx))
			}
		}},
	)
}

// The primary fails and its backup answers, no retries; the breaker counts and
// never opens. failsafe-go has a fallback, which is a function: here it is a second
// executor with the same limits, breaker and time limit.
func BenchmarkBackup(b *testing.B) {
	compare(
		b, "backup",
		contender{"ours", func(b *testing.B) call {
			g := ours(b, func(p *resilience.Policy) { p.Retries, p.Breaker.InARow, p.Breaker.MinCalls = 0, 0, plenty }, down, fast)
			return func(ctx context.Context, q *query) error { return oursAsk(ctx, g, q) }
		}},
		contender{"failsafe", func(*testing.B) call {
			protected := func() []failsafe.Policy[*answer] {
				return []failsafe.Policy[*answer]{
					ratelimiter.NewBursty[*answer](plenty, time.Second),
					circuitbreaker.NewBuilder[*answer]().WithFailureRateThreshold(failureRatio, plenty, window).WithDelay(openFor).Build(),
					timeout.New[*answer](attemptLimit),
				}
			}
			primary, second := protected(), failsafe.With(protected()...)
			return func(ctx context.Context, q *query) error { // a fallback has the call's argument by closure alone
				f := fallback.NewWithFunc(func(x failsafe.Execution[*answer]) (*answer, error) {
					return second.WithContext(x.Context()).GetWithExecution(func(x failsafe.Execution[*answer]) (*answer, error) {
						return fast.Ask(x.Context(), q)
					})
				})
				return failsafeAsk(ctx, failsafe.With(append([]failsafe.Policy[*answer]{f}, primary...)...), down, q)
			}
		}},
	)
}

// A Client inside a Client. For failsafe-go it is an executor inside an executor,
// each with all policies: it doesn't know that it is nested.
func BenchmarkNested(b *testing.B) {
	compare(
		b, "nested",
		contender{"ours", func(b *testing.B) call {
			g := ours(b, nil, client{ours(b, nil, fast)})
			return func(ctx context.Context, q *query) error { return oursAsk(ctx, g, q) }
		}},
		contender{"failsafe", func(*testing.B) call {
			inner, outer := failsafeCall(), failsafeCall()
			nested := providerFunc(func(ctx context.Context, q *query) (*answer, error) {
				return ok, failsafeAsk(ctx, inner, fast, q)
			})
			return func(ctx context.Context, q *query) error { return failsafeAsk(ctx, outer, nested, q) }
		}},
	)
}

// client is a provider made of providers.
type client struct{ *resilience.Group[provider] }

func (c client) Ask(ctx context.Context, q *query) (*answer, error) {
	return resilience.Call(ctx, c.Group, op, provider.Ask, q)
}

// keys are as many as are in use at a time.
var keys = func() (all [1000]string) {
	for i := range all {
		all[i] = "tenant-" + strconv.Itoa(i)
	}
	return all
}()

// A breaker and a rate limit for each of a thousand tenants, beside the provider's
// own. failsafe-go has nothing of the kind: an LRU of executors, written by hand.
func BenchmarkKey(b *testing.B) {
	compare(
		b, "key",
		contender{"ours", func(b *testing.B) call {
			g := ours(b, func(p *resilience.Policy) {
				p.PerKey = &resilience.Policy{Rate: perSec, Burst: plenty, Breaker: p.Breaker}
			}, fast)
			return func(ctx context.Context, q *query) error {
				q.attempts++
				return oursAsk(resilience.WithKey(ctx, keys[q.attempts%len(keys)]), g, q)
			}
		}},
		contender{"failsafe", func(b *testing.B) call {
			limit, cb := ratelimiter.NewBursty[*answer](plenty, time.Second), failsafeBreaker()
			byKey, err := lru.New[string, failsafe.Executor[*answer]](10_000)
			if err != nil {
				b.Fatal(err)
			}
			return func(ctx context.Context, q *query) error {
				q.attempts++
				key := keys[q.attempts%len(keys)]
				e, found := byKey.Get(key)
				if !found {
					e = failsafe.With[*answer](
						failsafeRetry(), limit, cb,
						ratelimiter.NewBursty[*answer](plenty, time.Second), failsafeBreaker(), timeout.New[*answer](attemptLimit),
					)
					byKey.Add(key, e)
				}
				return failsafeAsk(ctx, e, fast, q)
			}
		}},
	)
}

// A second attempt would be made after 100 ms, and the first answers at once.
// Others than these two have no hedging.
func BenchmarkHedge(b *testing.B) {
	compare(
		b, "hedge",
		contender{"ours", func(b *testing.B) call {
			g := ours(b, func(p *resilience.Policy) { p.Hedge.After = 100 * time.Millisecond }, fast)
			return func(ctx context.Context, q *query) error { return oursAsk(ctx, g, q) }
		}},
		contender{"failsafe", func(*testing.B) call {
			e := failsafe.With[*answer](
				failsafeRetry(), hedgepolicy.NewWithDelay[*answer](100*time.Millisecond),
				ratelimiter.NewBursty[*answer](plenty, time.Second), failsafeBreaker(), timeout.New[*answer](attemptLimit),
			)
			return func(ctx context.Context, q *query) error { return failsafeAsk(ctx, e, fast, q) }
		}},
	)
}
