package resilience_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// steady answers after a while, and heeds its context.
func steady(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func within(t *testing.T, d time.Duration, g *resilience.Group[asker], op resilience.Op) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	_, err := resilience.Call(ctx, g, op, asker.Ask, "q")
	return err
}

func TestABackupThatMayNotBeAskedShortensNoOnceCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &provider{fn: steady(2500 * time.Millisecond)}
		once := resilience.Op{Name: "test.charge"}
		require.NoError(t, within(t, 4*time.Second, group(t, quiet(), slow), once))
		require.NoError(t, within(t, 4*time.Second, group(t, quiet(), slow, &provider{}), once))
	})
}

func TestTwoProvidersServeAHurriedCallerOnceOneAnswerIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &provider{fn: steady(120 * time.Millisecond)}, &provider{fn: steady(120 * time.Millisecond)}
		g := group(t, quiet(), one, two)
		require.NoError(t, ask(t.Context(), g))
		assert.Equal(t, 120*time.Millisecond, g.Inspect()[0].Usual)
		for range 100 {
			require.NoError(t, within(t, 200*time.Millisecond, g, opAsk))
		}
		assert.Zero(t, two.calls.Load())
		one.fn = hang
		failed := 0
		for range 100 {
			if within(t, 200*time.Millisecond, g, opAsk) != nil {
				failed++
			}
		}
		assert.Equal(t, 5, failed, "then it is open")
	})
}

func TestACallerReachesTheBackupOfAHangingPrimaryWhoseShareIsTwiceTheUsual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &provider{fn: steady(100 * time.Millisecond)}, &provider{fn: steady(100 * time.Millisecond)}
		g := group(t, quiet(), one, two)
		require.NoError(t, ask(t.Context(), g))
		one.fn = hang
		for range 10 {
			require.NoError(t, within(t, 400*time.Millisecond, g, opAsk))
		}
		assert.EqualValues(t, 1+5, one.calls.Load())
	})
}

func TestImpatientCallersOpenNoBreakerOfAProviderThatHasNeverAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &provider{fn: steady(1200 * time.Millisecond)}
		g := group(t, quiet(), one, &provider{})
		for range 20 {
			require.NoError(t, within(t, 2*time.Second, g, opAsk))
		}
		assert.EqualValues(t, 20, one.calls.Load(), "it is given a second each, of the three that it may take")
	})
}

func TestEachClassHasAUsualTimeOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, quiet(), &provider{})
		for op, d := range map[*resilience.Op]time.Duration{&opLook: 50 * time.Millisecond, &opCommit: time.Second} {
			_, err := resilience.Do(t.Context(), g, *op, func(ctx context.Context, _ asker) (string, error) { return "", steady(d)(ctx) })
			require.NoError(t, err)
			assert.Equal(t, d, of(g, op.Class).Usual)
		}
	})
}

// Whatever an attempt leaves behind ends with it, also where the caller's deadline
// comes first.
func TestTheContextOfAnAttemptEndsWithItWhoseverDeadlineComesFirst(t *testing.T) {
	for name, d := range map[string]time.Duration{"ours": time.Hour, "the caller's": 2 * time.Second} {
		for _, asks := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), d)
					defer cancel()
					var seen context.Context
					start := time.Now()
					var left sync.WaitGroup
					g := group(t, quiet(), &provider{fn: func(ctx context.Context) error {
						seen = ctx //nolint:fatcontext // to look at its end
						if asks {
							left.Go(func() { <-ctx.Done(); assert.Zero(t, time.Since(start)) })
						}
						return fault.New(fault.Unavailable, nil)
					}}, &provider{fn: func(context.Context) error {
						assert.ErrorIs(t, seen.Err(), context.Canceled)
						return nil
					}})
					require.NoError(t, ask(ctx, g))
					left.Wait()
					assert.ErrorIs(t, seen.Err(), context.Canceled)
				})
			})
		}
	}
}

func TestWhatTheCallerChangesLaterChangesNothing(t *testing.T) {
	weights, own := map[string]int{"p0": 1, "p1": 0}, resilience.Policy{Rate: 1000, Burst: 1000}
	p := quiet()
	p.Route, p.Weights, p.PerKey = resilience.Weighted, weights, &own
	one, two := &provider{}, &provider{}
	g := group(t, p, one, two)
	weights["p0"], weights["p1"], own.Rate = 0, 1, 1e-9
	own.Burst = 1
	for range 10 {
		require.NoError(t, askAs(t.Context(), g, "k"))
	}
	assert.Zero(t, two.calls.Load())
}

func TestANilObserverIsRefused(t *testing.T) {
	_, err := resilience.New(quiet(), []resilience.Member[asker]{{Name: "p0", Provider: &provider{}}}, nil)
	assert.ErrorContains(t, err, "observer 0 is nil")
}

func TestAnOperationWithoutANameIsRefused(t *testing.T) {
	one := &provider{}
	_, err := resilience.Call(t.Context(), group(t, quiet(), one), resilience.Op{}, asker.Ask, "q")
	assert.ErrorIs(t, err, fault.Invalid)
	assert.ErrorContains(t, err, "no name")
	assert.Zero(t, one.calls.Load())
}

func TestAnUnknownSafetyIsTheStrictest(t *testing.T) {
	p := quiet()
	p.Hedge.After = time.Millisecond
	one, two := &provider{fn: answers(fault.Uncertain)}, &provider{}
	_, err := resilience.Call(t.Context(), group(t, p, one, two), resilience.Op{Name: "x", Safety: 77}, asker.Ask, "q")
	assert.ErrorIs(t, err, fault.Uncertain)
	assert.Zero(t, two.calls.Load())
}

func TestAnObserverThatPanicsLeavesNothingTaken(t *testing.T) {
	for _, on := range []resilience.EventType{
		resilience.AttemptEnded, resilience.CallEnded, resilience.StateChanged, resilience.Refused, resilience.FailedOver, resilience.Paused,
		resilience.RetryScheduled,
	} {
		t.Run(on.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				boom, bodies := true, 0
				p := resilience.Default
				p.Concurrency, p.Retries, p.Breaker.InARow, p.MaxWait = 1, 1, 2, time.Minute
				g := observed(t, p, resilience.ObserverFunc(func(_ context.Context, e resilience.Event) {
					if boom && e.Type == on {
						panic("observer")
					}
				}), &provider{}, &provider{})
				n := 0
				shapes := []func(){
					func() { _ = ask(t.Context(), g) },
					func() {
						_, body, err := resilience.Keep(t.Context(), g, opAsk, func(context.Context, asker) (string, io.ReadCloser, error) {
							n++
							if n%3 == 1 {
								return "", nil, []error{
									fault.New(fault.Unavailable, nil), fault.New(fault.Denied, nil), &fault.Error{Kind: fault.RateLimited, RetryAfter: time.Second},
								}[n/3%3]
							}
							bodies++
							return "", &counting{closed: &bodies}, nil
						})
						if err == nil {
							_ = body.Close()
						}
					},
				}
				for i := range 40 {
					func() {
						defer func() { _ = recover() }()
						shapes[i%2]()
					}()
					if i%10 == 9 {
						time.Sleep(40 * time.Second)
					}
				}
				boom = false
				for _, s := range g.Inspect() {
					assert.Zero(t, s.InFlight)
				}
				assert.Zero(t, bodies, "each was closed")
				time.Sleep(time.Hour)
				require.NoError(t, ask(t.Context(), g))
			})
		})
	}
}

type counting struct{ closed *int }

func (*counting) Read([]byte) (int, error) { return 0, io.EOF }
func (c *counting) Close() error           { *c.closed--; return nil }

func TestAPinOfAnInnerClientHoldsInsideAnOuterAttempt(t *testing.T) {
	one, two := &provider{}, &provider{}
	inner := group(t, quiet(), one, two)
	pinning := &pinned{inner: inner}
	g := group(t, quiet(), pinning, &provider{fn: answers(fault.Unavailable)})
	require.NoError(t, ask(t.Context(), g))
	require.NoError(t, ask(resilience.Pin(t.Context(), "p0"), g))
	require.NoError(t, ask(resilience.Pin(t.Context(), "p0/p0"), g), "the innermost says it last")
	assert.EqualValues(t, 0, one.calls.Load())
	assert.EqualValues(t, 3, two.calls.Load())
	assert.Equal(t, []string{"p0", "p1"}, g.Members())
	assert.Equal(t, "p0/p0", g.Inspect()[0].Name)
}

// pinned is a Client whose second step belongs to the provider of the first.
type pinned struct{ inner *resilience.Group[asker] }

func (p *pinned) Control() *resilience.Control { return p.inner.Control }

func (p *pinned) Ask(ctx context.Context, _ string) (string, error) {
	return "", ask(resilience.Pin(ctx, "p1"), p.inner)
}

// sharded asks its Client three times in one attempt.
type sharded struct{ *resilience.Group[asker] }

func (s sharded) Ask(ctx context.Context, _ string) (string, error) {
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { _ = ask(ctx, s.Group) })
	}
	all.Wait()
	return "", nil
}

func TestSeveralCallsInsideOneAttemptAddUp(t *testing.T) {
	attempts := 0
	g := observed(t, quiet(), resilience.ObserverFunc(func(_ context.Context, e resilience.Event) {
		if e.Type == resilience.CallEnded {
			attempts = e.Attempt
		}
	}), sharded{group(t, quiet(), &provider{})})
	require.NoError(t, ask(t.Context(), g))
	assert.Equal(t, 3, attempts)
}

// background calls its own Client with the context of an attempt that is over.
func TestAnEndedAttemptIsNobodysOuterOne(t *testing.T) {
	inner := group(t, quiet(), &provider{})
	var seen context.Context
	outer := group(t, quiet(), decorator{hidden{nestedSeen{nested{inner}, &seen}}})
	require.NoError(t, ask(t.Context(), outer))
	assert.False(t, inner.Nested(seen))
	assert.False(t, resilience.Nested(seen))
	calls := 0
	watched := observed(t, quiet(), resilience.ObserverFunc(func(_ context.Context, e resilience.Event) {
		if e.Type == resilience.CallEnded {
			calls++
		}
	}), &provider{})
	_ = ask(context.WithoutCancel(seen), watched)
	assert.Equal(t, 1, calls, "a call of its own")
}

type nestedSeen struct {
	nested
	seen *context.Context
}

func (n nestedSeen) Ask(ctx context.Context, q string) (string, error) {
	*n.seen = ctx //nolint:fatcontext // to use it when it is over
	if !n.Nested(ctx) || !resilience.Nested(ctx) {
		return "", errors.New("it is nested")
	}
	return n.nested.Ask(ctx, q)
}

// Two services with one name for their operation, one inside the other.
func TestNamesSayNothingAboutNesting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := group(t, quiet(), &provider{})
		api := &provider{}
		api.fn = func(ctx context.Context) error {
			if err := ask(ctx, token); err != nil {
				return err
			}
			return fault.New(fault.Unavailable, nil)
		}
		g := group(t, quiet(), api)
		for range 20 {
			require.Error(t, ask(t.Context(), g))
		}
		assert.EqualValues(t, 5, api.calls.Load())
		assert.Equal(t, resilience.Open, g.Inspect()[0].State)
	})
}

func TestADeadlineThatADecoratorSetsIsTheInnerCallsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &provider{fn: hang}, &provider{}
		g := group(t, quiet(), hurried{nested{group(t, quiet(), one, two)}}, &provider{})
		start := time.Now()
		require.NoError(t, ask(t.Context(), g))
		assert.Equal(t, 500*time.Millisecond, time.Since(start), "shared by the inner two alone")
		assert.EqualValues(t, 1, two.calls.Load())
	})
}

type hurried struct{ nested }

func (h hurried) Ask(ctx context.Context, q string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return h.nested.Ask(ctx, q)
}
