// Package bench compares the library with its peers, side by side in one run.
package bench

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

type answer struct{ n int }

var ok = &answer{1}

type provider interface {
	Ask(ctx context.Context, q string) (*answer, error)
}

type fast struct{}

func (fast) Ask(context.Context, string) (*answer, error) { return ok, nil }

type usesDone struct{}

func (usesDone) Ask(ctx context.Context, _ string) (*answer, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	default:
		return ok, nil
	}
}

var errDown = fault.New(fault.Unavailable, errors.New("down"))

type down struct{}

func (down) Ask(context.Context, string) (*answer, error) { return nil, errDown }

var op = resilience.Op{Name: "bench.ask", Safety: fault.Read}

func group(b *testing.B, p provider) *resilience.Group[provider] {
	policy := resilience.Default
	policy.Rate, policy.Burst = 1e9, 1<<30
	g, err := resilience.New(policy, []resilience.Member[provider]{{Name: "a", Provider: p}})
	if err != nil {
		b.Fatal(err)
	}
	return g
}

func peer() (failsafe.Executor[*answer], circuitbreaker.CircuitBreaker[*answer]) {
	breaker := circuitbreaker.NewBuilder[*answer]().WithFailureRateThreshold(0.5, 10, 10*time.Second).WithDelay(30 * time.Second).Build()
	return failsafe.With[*answer](
		retrypolicy.NewBuilder[*answer]().WithMaxRetries(2).WithBackoff(100*time.Millisecond, 2*time.Second).Build(),
		ratelimiter.NewBursty[*answer](1<<30, time.Second),
		breaker,
		timeout.New[*answer](3*time.Second),
	), breaker
}

func BenchmarkCall(b *testing.B) {
	ctx := b.Context() // can be cancelled, as a caller's can
	for name, p := range map[string]provider{"unused": fast{}, "used": usesDone{}} {
		b.Run("done="+name+"/lib=integrations", func(b *testing.B) {
			g := group(b, p)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := resilience.Call(ctx, g, op, provider.Ask, "q"); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("done="+name+"/lib=failsafe", func(b *testing.B) {
			e, _ := peer()
			b.ReportAllocs()
			for b.Loop() {
				_, err := e.WithContext(ctx).GetWithExecution(func(x failsafe.Execution[*answer]) (*answer, error) {
					return p.Ask(x.Context(), "q")
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpenBreaker(b *testing.B) {
	ctx := b.Context() // can be cancelled, as a caller's can
	b.Run("lib=integrations", func(b *testing.B) {
		g := group(b, down{})
		for g.Inspect()[0].State != resilience.Open {
			_, _ = resilience.Call(ctx, g, op, provider.Ask, "q")
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := resilience.Call(ctx, g, op, provider.Ask, "q"); !errors.Is(err, resilience.ErrOpen) {
				b.Fatal(err)
			}
		}
	})
	b.Run("lib=failsafe", func(b *testing.B) {
		breaker := circuitbreaker.NewBuilder[*answer]().WithFailureRateThreshold(0.5, 10, 10*time.Second).WithDelay(30 * time.Second).Build()
		breaker.Open()
		e := failsafe.With[*answer](ratelimiter.NewBursty[*answer](1<<30, time.Second), breaker, timeout.New[*answer](3*time.Second))
		b.ReportAllocs()
		for b.Loop() {
			_, err := e.WithContext(ctx).GetWithExecution(func(failsafe.Execution[*answer]) (*answer, error) {
				return ok, nil
			})
			if !errors.Is(err, circuitbreaker.ErrOpen) {
				b.Fatal(err)
			}
		}
	})
}
