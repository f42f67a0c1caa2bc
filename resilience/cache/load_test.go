package cache_test

import (
	"context"
	"math"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/cache"
)

// The limit of a call.

func TestACallThatNeverEndsBlocksItsKeyNoLongerThanItsLimit(t *testing.T) {
	for name, hang := range map[string]bank{
		"it waits for Done": func(ctx context.Context) (int64, error) { <-ctx.Done(); return 0, ctx.Err() },
		"it polls Err": func(ctx context.Context) (int64, error) {
			for ctx.Err() == nil {
				time.Sleep(time.Second)
			}
			return 0, ctx.Err()
		},
		"it says who stopped": func(ctx context.Context) (int64, error) {
			<-ctx.Done()
			return 0, fault.New(fault.Canceled, ctx.Err())
		},
	} {
		for old, stale := range map[string]bool{"": false, ", and there is an old answer": true} {
			t.Run(name+old, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, u := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour, LoadTimeout: 20 * time.Second}), &upstream{}
					if stale {
						ask(t, c, u)
						time.Sleep(2 * time.Minute)
					}
					start := time.Now()
					var wg sync.WaitGroup
					for range 2 { // who begins it and who joins it
						wg.Go(func() {
							a, err := c.Do(t.Context(), opRead, "k", hang)
							if stale {
								assert.NoError(t, err)
								assert.EqualValues(t, 1, a.Value)
								err = a.Err
							}
							assert.ErrorIs(t, err, fault.Uncertain, "it was our limit that ended it")
							assert.ErrorContains(t, err, "within 20s")
							assert.Equal(t, 20*time.Second, time.Since(start))
						})
					}
					wg.Wait()
					_, err := c.Do(t.Context(), opRead, "k", u.answer)
					assert.NoError(t, err)
				})
			})
		}
	}
}

func TestTheStoreIsWithinTheLimitToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, u := newStore(), &upstream{}
		c := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour, LoadTimeout: time.Second, Store: s, StoreTimeout: 10 * time.Second})
		ask(t, c, u)
		settle(t, c)
		time.Sleep(2 * time.Minute)
		s.do(func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() })
		a := ask(t, c, u)
		assert.True(t, a.Stale)
		assert.ErrorContains(t, a.Err, "within 1s")
		assert.EqualValues(t, 1, u.calls.Load())
		settle(t, c)
	})
}

func TestACallThatIgnoresItsLimitKeepsOnlyThoseWhoWaitForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{}), &upstream{}
		var wg sync.WaitGroup
		wg.Go(func() {
			a, err := c.Do(t.Context(), opRead, "k", func(context.Context) (int64, error) { time.Sleep(time.Minute); return 99, nil })
			assert.NoError(t, err)
			assert.EqualValues(t, 99, a.Value)
		})
		time.Sleep(29 * time.Second)
		_, err := within(t, c, time.Second-1, u.answer)
		assert.ErrorIs(t, err, fault.Canceled)
		time.Sleep(time.Nanosecond)
		assert.EqualValues(t, 1, ask(t, c, u).Value, "after 30 s it is joined by nobody")
		wg.Wait()
		assert.EqualValues(t, 1, ask(t, c, u).Value, "and what it brings replaces nothing")
	})
}

// The context of a call.

type callerKey struct{}

func TestTheContextOfACallIsLikeAnyOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, cache.Config[int64]{LoadTimeout: time.Minute})
		caller, cancel := context.WithCancelCause(context.WithValue(t.Context(), callerKey{}, 1))
		seen := make(chan context.Context, 2)
		_, err := c.Do(caller, opRead, "k", func(ctx context.Context) (int64, error) {
			assert.NoError(t, ctx.Err())
			child, before := ctx, runtime.NumGoroutine()
			for range 100 {
				one, stop := context.WithTimeout(ctx, time.Hour)
				t.Cleanup(stop)
				child = one //nolint:fatcontext // each is a child of ctx
			}
			assert.Less(t, runtime.NumGoroutine(), before+50, "a child costs no goroutine")
			for _, c := range []context.Context{ctx, child} {
				deadline, ok := c.Deadline()
				assert.True(t, ok)
				assert.Equal(t, time.Minute, time.Until(deadline))
				assert.Equal(t, 1, c.Value(callerKey{}))
			}
			seen <- ctx
			seen <- child
			return 1, nil
		})
		require.NoError(t, err)
		for range 2 {
			c := <-seen
			<-c.Done()
			assert.ErrorIs(t, c.Err(), context.Canceled, "what the call has left behind is cancelled with its end")
			assert.ErrorIs(t, context.Cause(c), context.Canceled)
		}

		_, _ = c.Do(caller, opRead, "l", func(ctx context.Context) (int64, error) {
			cancel(errBad)
			assert.NoError(t, context.Cause(ctx), "the caller's end is the caller's")
			seen <- ctx
			return 1, nil
		})
		settle(t, c)
		late := <-seen
		assert.ErrorIs(t, late.Err(), context.Canceled)
		<-late.Done()
	})
}

// A call that asks for its own key.

func TestACallThatAsksForItsOwnKeyIsRefused(t *testing.T) {
	var c, other *cache.Cache[int64]
	ada := func(ctx context.Context) context.Context { return resilience.WithTenant(ctx, "ada") }
	opOther := resilience.Op{Name: "rates.history", Safety: fault.Read}
	one := func(context.Context) (int64, error) { return 1, nil }
	again := func(ctx context.Context) (int64, error) {
		a, err := c.Do(ctx, opRead, "k", one)
		return a.Value, err
	}
	rows := map[string]struct {
		fn      bank
		refused bool
	}{
		"at once":               {again, true},
		"under another context": {func(ctx context.Context) (int64, error) { return again(context.WithValue(ctx, callerKey{}, 1)) }, true},
		"through another key": {func(ctx context.Context) (int64, error) {
			a, err := c.Do(ctx, opRead, "l", again)
			return a.Value, err
		}, true},
		"through another cache": {func(ctx context.Context) (int64, error) {
			a, err := other.Do(ctx, opRead, "k", again)
			return a.Value, err
		}, true},
		"after it forgot it": {func(ctx context.Context) (int64, error) {
			assert.NoError(t, c.Invalidate(ctx, opRead, "k"))
			return again(ctx)
		}, true},
		"another key": {func(ctx context.Context) (int64, error) {
			a, err := c.Do(ctx, opRead, "l", one)
			return a.Value, err
		}, false},
		"another operation": {func(ctx context.Context) (int64, error) {
			a, err := c.Do(ctx, opOther, "k", one)
			return a.Value, err
		}, false},
		"another tenant's": {func(ctx context.Context) (int64, error) { return again(ada(ctx)) }, false},
		"another cache": {func(ctx context.Context) (int64, error) {
			a, err := other.Do(ctx, opRead, "k", one)
			return a.Value, err
		}, false},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, other = open(t, cache.Config[int64]{}), open(t, cache.Config[int64]{})
				_, err := c.Do(t.Context(), opRead, "k", row.fn)
				if row.refused {
					assert.ErrorIs(t, err, fault.Invalid)
					assert.ErrorContains(t, err, "wait for itself")
					f, _ := fault.As(err)
					assert.True(t, f.Local)
				} else {
					assert.NoError(t, err)
				}
				a, err := c.Do(t.Context(), opRead, "k", one)
				assert.NoError(t, err)
				assert.EqualValues(t, 1, a.Value)
			})
		})
	}
	t.Run("in the background, for the old answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c = open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour, Revalidate: time.Hour})
			ask(t, c, &upstream{})
			time.Sleep(2 * time.Minute)
			var inside error
			_, err := c.Do(t.Context(), opRead, "k", func(ctx context.Context) (int64, error) {
				_, inside = again(ctx)
				return 2, inside
			})
			require.NoError(t, err)
			settle(t, c)
			assert.ErrorIs(t, inside, fault.Invalid)
		})
	})
	t.Run("when it is over", func(t *testing.T) {
		c = open(t, cache.Config[int64]{TTL: 1})
		seen := make(chan context.Context, 1)
		_, err := c.Do(t.Context(), opRead, "k", func(ctx context.Context) (int64, error) { seen <- ctx; return 1, nil })
		require.NoError(t, err)
		_, err = again(context.WithoutCancel(<-seen))
		assert.NoError(t, err)
	})
}

// What may be cached, and for how long.

func TestRepeatableOperationsAreCachedWhereTheCallerSaysSo(t *testing.T) {
	for safety, cached := range map[fault.Safety]bool{
		fault.Read: true, fault.Idempotent: true, fault.AtLeastOnce: true, fault.Once: false, fault.Read + 1: false,
	} {
		t.Run(safety.String(), func(t *testing.T) {
			c, u := open(t, cache.Config[int64]{Repeatable: true}), &upstream{}
			for range 2 {
				_, err := c.Do(t.Context(), resilience.Op{Name: "labels.detect", Safety: safety}, "k", u.answer)
				if cached {
					assert.NoError(t, err)
				} else {
					assert.ErrorIs(t, err, fault.Invalid)
				}
			}
			assert.Equal(t, cached, u.calls.Load() == 1)
		})
	}
}

func TestDurationsNearTheMaximumAreForEver(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for name, config := range map[string]cache.Config[int64]{
		"TTL":                {TTL: math.MaxInt64},
		"TTL, with jitter":   {TTL: math.MaxInt64, Jitter: 0.5},
		"TTL of 100 years":   {TTL: 100 * year},
		"Stale":              {TTL: time.Minute, Stale: math.MaxInt64},
		"Stale of 250 years": {TTL: time.Minute, Stale: 250 * year},
		"all":                {TTL: math.MaxInt64, Stale: math.MaxInt64, Revalidate: math.MaxInt64, NegativeTTL: math.MaxInt64, LoadTimeout: math.MaxInt64, StoreTimeout: math.MaxInt64},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				alone, u := open(t, config), &upstream{}
				config.Store = newStore()
				c := open(t, config)
				ask(t, c, u)
				settle(t, c)
				for range 5 {
					assert.EqualValues(t, 1, ask(t, c, u).Value)
					assert.EqualValues(t, 2, ask(t, alone, u).Value)
					time.Sleep(time.Second)
				}
				if config.TTL > year {
					time.Sleep(10 * year)
				}
				other := open(t, config)
				assert.EqualValues(t, 1, ask(t, other, u).Value, "nor is it too old in the store")
				assert.EqualValues(t, 2, ask(t, alone, u).Value)
			})
		})
	}
}
