package bench

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/eapache/go-resiliency/breaker"
	"github.com/eapache/go-resiliency/deadline"
	"github.com/eapache/go-resiliency/retrier"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// The figures that all have in common, where they have such a thing: those of
// our default policy, and a rate limit that is never reached.
var (
	attemptLimit = resilience.Default.Timeout
	retries      = resilience.Default.Retries
	firstWait    = resilience.Default.Backoff.Initial
	longestWait  = resilience.Default.Backoff.Max
	failureRatio = resilience.Default.Breaker.Ratio
	minCalls     = resilience.Default.Breaker.MinCalls
	window       = resilience.Default.Breaker.Window
	openFor      = resilience.Default.Breaker.OpenFor
)

const (
	plenty = 1 << 30
	perSec = 1e9
)

type answer struct{ n int }

var ok = &answer{1}

// query is a call's argument. It belongs to one goroutine, and counts the
// attempts that were made with it.
type query struct{ goroutine, attempts int }

type provider interface {
	Ask(ctx context.Context, q *query) (*answer, error)
}

// providerFunc is a provider.
type providerFunc func(ctx context.Context, q *query) (*answer, error)

func (f providerFunc) Ask(ctx context.Context, q *query) (*answer, error) { return f(ctx, q) }

var errDown = fault.New(fault.Unavailable, errors.New("down"))

var (
	fast  providerFunc = func(context.Context, *query) (*answer, error) { return ok, nil }
	down  providerFunc = func(context.Context, *query) (*answer, error) { return nil, errDown }
	flaky providerFunc = func(_ context.Context, q *query) (*answer, error) { // fails at every first attempt
		if q.attempts++; q.attempts%2 == 1 {
			return nil, errDown
		}
		return ok, nil
	}
	// usesDone asks for the context's Done, as net/http and most clients do.
	usesDone providerFunc = func(ctx context.Context, _ *query) (*answer, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		default:
			return ok, nil
		}
	}
)

// call makes one call and returns an error where its outcome is not what the case
// is about.
type call func(ctx context.Context, q *query) error

// contender is a library in one case.
type contender struct {
	lib  string
	make func(b *testing.B) call
}

// compare runs all contenders of a case. Each goroutine has a context of its own
// that can be cancelled, as a request's can.
func compare(b *testing.B, name string, all ...contender) {
	for _, c := range all {
		b.Run("case="+name+"/lib="+c.lib, func(b *testing.B) {
			call := c.make(b)
			var goroutines atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				ctx, cancel := context.WithCancel(b.Context())
				defer cancel()
				q := &query{goroutine: int(goroutines.Add(1))}
				for pb.Next() {
					if err := call(ctx, q); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// want makes an outcome out of an error that is expected.
func want(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return errors.Join(errors.New("another outcome than expected"), err)
}

var op = resilience.Op{Name: "bench.ask", Safety: fault.Read}

// ours is the library with its defaults and a rate limit: retries with a budget,
// breaker by ratio and by failures in a row, attempt and total time limit.
func ours(b testing.TB, change func(*resilience.Policy), providers ...provider) *resilience.Group[provider] {
	b.Helper()
	policy := resilience.Default
	policy.Rate, policy.Burst = perSec, plenty
	if change != nil {
		change(&policy)
	}
	var members []resilience.Member[provider]
	for i, p := range providers {
		members = append(members, resilience.Member[provider]{Name: string(rune('a' + i)), Provider: p})
	}
	g, err := resilience.New(policy, members)
	if err != nil {
		b.Fatal(err)
	}
	return g
}

func oursAsk(ctx context.Context, g *resilience.Group[provider], q *query) error {
	_, err := resilience.Call(ctx, g, op, provider.Ask, q)
	return err
}

// failsafeBreaker goes by the ratio alone: one breaker can't have both that and
// failures in a row.
func failsafeBreaker() circuitbreaker.CircuitBreaker[*answer] {
	return circuitbreaker.NewBuilder[*answer]().
		WithFailureRateThreshold(failureRatio, uint(minCalls), window).WithDelay(openFor).Build()
}

func failsafeRetry() retrypolicy.RetryPolicy[*answer] {
	return retrypolicy.NewBuilder[*answer]().WithMaxRetries(retries).WithBackoff(firstWait, longestWait).Build()
}

// failsafeCall is retry, rate limit, breaker, timeout, from outside to inside. It
// has no total time limit, no retry budget and no meaning of errors.
func failsafeCall() failsafe.Executor[*answer] {
	return failsafe.With[*answer](failsafeRetry(), ratelimiter.NewBursty[*answer](plenty, time.Second), failsafeBreaker(), timeout.New[*answer](attemptLimit))
}

func failsafeAsk(ctx context.Context, e failsafe.Executor[*answer], p provider, q *query) error {
	_, err := e.WithContext(ctx).GetWithExecution(func(x failsafe.Execution[*answer]) (*answer, error) {
		return p.Ask(x.Context(), q)
	})
	return err
}

func failsafeOf(p provider) func(*testing.B) call {
	return func(*testing.B) call {
		e := failsafeCall()
		return func(ctx context.Context, q *query) error { return failsafeAsk(ctx, e, p, q) }
	}
}

func oursOf(p provider) func(*testing.B) call {
	return func(b *testing.B) call {
		g := ours(b, nil, p)
		return func(ctx context.Context, q *query) error { return oursAsk(ctx, g, q) }
	}
}

func settings() gobreaker.Settings {
	return gobreaker.Settings{
		Interval: window, BucketPeriod: window / 10, Timeout: openFor,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			n := c.TotalSuccesses + c.TotalFailures
			return n >= uint32(minCalls) && float64(c.TotalFailures) >= failureRatio*float64(n)
		},
	}
}

// byHand is what one writes with the libraries that ours is built on: backoff,
// x/time/rate, gobreaker with a rolling window and a context with a time limit.
// It has no budget, no total time limit and no meaning of errors.
func byHand(p provider) func(*testing.B) call {
	return func(*testing.B) call {
		breaker := gobreaker.NewCircuitBreaker[*answer](settings())
		limiter := rate.NewLimiter(perSec, plenty)
		return func(ctx context.Context, q *query) error {
			waits := backoff.NewExponentialBackOff(backoff.WithInitialInterval(firstWait), backoff.WithMaxInterval(longestWait))
			_, err := backoff.RetryWithData(func() (*answer, error) {
				if err := limiter.Wait(ctx); err != nil {
					return nil, err
				}
				return breaker.Execute(func() (*answer, error) {
					ctx, cancel := context.WithTimeout(ctx, attemptLimit)
					defer cancel()
					return p.Ask(ctx, q)
				})
			}, backoff.WithContext(backoff.WithMaxRetries(waits, uint64(retries)), ctx))
			return err
		}
	}
}

// resiliency is go-resiliency's retrier, breaker and deadline. It has no rate
// limit and no window; its deadline runs the work in a goroutine of its own and
// gives it a channel instead of a context.
func resiliency(p provider) func(*testing.B) call {
	return func(*testing.B) call {
		again := retrier.New(retrier.ExponentialBackoff(retries, firstWait), nil)
		b, d := breaker.New(minCalls, 1, openFor), deadline.New(attemptLimit)
		return func(ctx context.Context, q *query) error {
			return again.RunCtx(ctx, func(ctx context.Context) error {
				return b.Run(func() error {
					return d.Run(func(<-chan struct{}) error {
						_, err := p.Ask(ctx, q)
						return err
					})
				})
			})
		}
	}
}

// breakerAlone is gobreaker and nothing else.
func breakerAlone(p provider) func(*testing.B) call {
	return func(*testing.B) call {
		b := gobreaker.NewCircuitBreaker[*answer](settings())
		return func(ctx context.Context, q *query) error {
			_, err := b.Execute(func() (*answer, error) { return p.Ask(ctx, q) })
			return err
		}
	}
}

// backoffAlone is cenkalti/backoff and nothing else.
func backoffAlone(p provider) func(*testing.B) call {
	return func(*testing.B) call {
		return func(ctx context.Context, q *query) error {
			waits := backoff.NewExponentialBackOff(backoff.WithInitialInterval(firstWait), backoff.WithMaxInterval(longestWait))
			return backoff.Retry(func() error {
				_, err := p.Ask(ctx, q)
				return err
			}, backoff.WithContext(backoff.WithMaxRetries(waits, uint64(retries)), ctx))
		}
	}
}
