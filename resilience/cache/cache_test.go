package cache_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
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
	"github.com/smilefactory/integrations/resilience/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	opRead = resilience.Op{Name: "rates.rate", Safety: fault.Read}
	errBad = errors.New("bad day")
)

func open[T any](t *testing.T, config cache.Config[T]) *cache.Cache[T] {
	t.Helper()
	if config.TTL == 0 {
		config.TTL = time.Minute
	}
	c, err := cache.New(config)
	require.NoError(t, err)
	return c
}

// upstream counts its calls and answers with their number, unless err is set.
type upstream struct {
	calls atomic.Int64
	takes time.Duration
	err   error
}

func (u *upstream) answer(ctx context.Context) (int64, error) {
	n := u.calls.Add(1)
	if u.takes > 0 {
		select {
		case <-time.After(u.takes):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	return n, u.err
}

func TestAConfigThatCannotWorkIsRefused(t *testing.T) {
	json := func(int) ([]byte, error) { return nil, nil }
	for name, row := range map[string]struct {
		config cache.Config[int]
		says   string
	}{
		"no TTL":                   {cache.Config[int]{}, "TTL"},
		"a negative TTL":           {cache.Config[int]{TTL: -1}, "TTL"},
		"a negative Stale":         {cache.Config[int]{TTL: 1, Stale: -1}, "Stale"},
		"a negative Revalidate":    {cache.Config[int]{TTL: 1, Revalidate: -1}, "Revalidate"},
		"Revalidate without Stale": {cache.Config[int]{TTL: 1, Stale: 1, Revalidate: 2}, "Revalidate"},
		"a negative NegativeTTL":   {cache.Config[int]{TTL: 1, NegativeTTL: -1}, "NegativeTTL"},
		"a negative LoadTimeout":   {cache.Config[int]{TTL: 1, LoadTimeout: -1}, "LoadTimeout"},
		"too much Jitter":          {cache.Config[int]{TTL: 1, Jitter: 1.1}, "Jitter"},
		"a negative Size":          {cache.Config[int]{TTL: 1, Size: -1}, "Size"},
		"Weight without Size":      {cache.Config[int]{TTL: 1, Weight: func(int) int { return 1 }}, "Weight"},
		"a negative timeout":       {cache.Config[int]{TTL: 1, StoreTimeout: -1}, "StoreTimeout"},
		"Encode alone":             {cache.Config[int]{TTL: 1, Encode: json}, "Decode"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cache.New(row.config)
			assert.ErrorContains(t, err, row.says)
		})
	}
}

func TestOnlyReadsAreCached(t *testing.T) {
	for _, s := range []fault.Safety{fault.Once, fault.AtLeastOnce, fault.Idempotent} {
		t.Run(s.String(), func(t *testing.T) {
			u := &upstream{}
			_, err := open(t, cache.Config[int64]{}).Do(t.Context(), resilience.Op{Name: "mail.send", Safety: s}, "k", u.answer)
			assert.ErrorIs(t, err, fault.Invalid)
			assert.ErrorContains(t, err, "mail.send")
			assert.Zero(t, u.calls.Load())
		})
	}
	t.Run("and only those that have a name", func(t *testing.T) {
		_, err := open(t, cache.Config[int64]{}).Do(t.Context(), resilience.Op{Safety: fault.Read}, "k", (&upstream{}).answer)
		assert.ErrorIs(t, err, fault.Invalid)
	})
}

func TestAnAnswerIsGivenUntilItsTTLIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{TTL: time.Minute}), &upstream{}
		first, err := c.Do(t.Context(), opRead, "k", u.answer)
		require.NoError(t, err)
		assert.Equal(t, resilience.Answer[int64]{Value: 1}, first)

		time.Sleep(time.Minute - 1)
		second, err := c.Do(t.Context(), opRead, "k", u.answer)
		require.NoError(t, err)
		assert.Equal(t, resilience.Answer[int64]{Value: 1, Age: time.Minute - 1}, second)

		time.Sleep(time.Nanosecond)
		third, err := c.Do(t.Context(), opRead, "k", u.answer)
		require.NoError(t, err)
		assert.Equal(t, resilience.Answer[int64]{Value: 2}, third)
		assert.Equal(t, cache.Stats{Hits: 1, Upstream: 2, Entries: 1}, c.Stats())
	})
}

func TestAZeroValueIsCachedLikeAnyOther(t *testing.T) {
	c, calls := open(t, cache.Config[[]string]{}), 0
	for range 2 {
		a, err := c.Do(t.Context(), opRead, "k", func(context.Context) ([]string, error) { calls++; return nil, nil })
		require.NoError(t, err)
		assert.Nil(t, a.Value)
	}
	assert.Equal(t, 1, calls)
}

func TestErrorsAreNeverCached(t *testing.T) {
	c, u := open(t, cache.Config[int64]{Stale: time.Hour}), &upstream{err: errBad}
	for range 3 {
		_, err := c.Do(t.Context(), opRead, "k", u.answer)
		assert.ErrorIs(t, err, errBad)
	}
	assert.EqualValues(t, 3, u.calls.Load())
	u.err = nil
	a, err := c.Do(t.Context(), opRead, "k", u.answer)
	require.NoError(t, err)
	assert.EqualValues(t, 4, a.Value)
}

func TestTenantsOperationsAndKeysAreApart(t *testing.T) {
	c, u := open(t, cache.Config[int64]{}), &upstream{}
	ada := resilience.WithTenant(t.Context(), "ada")
	bob := resilience.WithTenant(t.Context(), "bob")
	other := resilience.Op{Name: "rates.history", Safety: fault.Read}
	ask := func(ctx context.Context, op resilience.Op, key string) int64 {
		a, err := c.Do(ctx, op, key, u.answer)
		require.NoError(t, err)
		return a.Value
	}
	for range 2 {
		assert.EqualValues(t, 1, ask(t.Context(), opRead, "k"))
		assert.EqualValues(t, 2, ask(ada, opRead, "k"))
		assert.EqualValues(t, 3, ask(bob, opRead, "k"))
		assert.EqualValues(t, 4, ask(ada, other, "k"))
		assert.EqualValues(t, 5, ask(ada, opRead, "l"))
	}
}

func TestNoTwoListsOfArgumentsHaveTheSameKey(t *testing.T) {
	lists := [][]string{
		{}, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"a", "b"}, {"ab"}, {"a:b"}, {"a", "1:b"}, {"a1:b"}, {"1:a"}, {"b", "a"},
	}
	seen := map[string][]string{}
	for _, l := range lists {
		k := cache.Key(l...)
		if other, ok := seen[k]; ok {
			t.Errorf("%q and %q have the key %q", l, other, k)
		}
		seen[k] = l
	}
}

func TestJitterSpreadsTheEndOfWhatWasCachedInOneMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		c, u := open(t, cache.Config[int64]{TTL: 100 * time.Second, Jitter: 0.2}), &upstream{}
		all := func() (asked int64) {
			before := u.calls.Load()
			for i := range n {
				_, err := c.Do(t.Context(), opRead, strconv.Itoa(i), u.answer)
				require.NoError(t, err)
			}
			return u.calls.Load() - before
		}
		require.EqualValues(t, n, all())
		time.Sleep(80*time.Second - 1)
		assert.Zero(t, all(), "before the share of the jitter none has expired")
		var expired []int64
		for range 10 { // a tenth of them each 2 s, give or take five standard deviations
			time.Sleep(2 * time.Second)
			expired = append(expired, all())
		}
		t.Log("expired each 2 s:", expired)
		for _, e := range expired {
			assert.InDelta(t, n/10, e, 50)
		}
		var sum int64
		for _, e := range expired {
			sum += e
		}
		assert.InDelta(t, n, sum, 1, "and after the TTL all have")
	})
}

func TestMemoryIsBounded(t *testing.T) {
	t.Run("by the number of answers", func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{Size: 100}), &upstream{}
		for i := range 10_000 {
			_, err := c.Do(t.Context(), opRead, strconv.Itoa(i), u.answer)
			require.NoError(t, err)
		}
		assert.Eventually(t, func() bool { return c.Stats().Entries <= 100 }, 5*time.Second, time.Millisecond)
	})
	t.Run("by their weight", func(t *testing.T) {
		c := open(t, cache.Config[string]{Size: 1000, Weight: func(s string) int { return len(s) }})
		for i := range 1000 {
			_, err := c.Do(t.Context(), opRead, strconv.Itoa(i), func(context.Context) (string, error) { return string(make([]byte, 100)), nil })
			require.NoError(t, err)
		}
		assert.Eventually(t, func() bool { return c.Stats().Entries <= 10 }, 5*time.Second, time.Millisecond)
	})
}

func TestWhatIsPastTTLAndStaleLeavesMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{TTL: time.Second, Stale: time.Second}), &upstream{}
		for i := range 1000 {
			_, err := c.Do(t.Context(), opRead, strconv.Itoa(i), u.answer)
			require.NoError(t, err)
		}
		time.Sleep(time.Hour)
		for i := range 1000 { // it goes with the next writes
			_, err := c.Do(t.Context(), opRead, "new"+strconv.Itoa(i), u.answer)
			require.NoError(t, err)
		}
		synctest.Wait()
		assert.LessOrEqual(t, c.Stats().Entries, 1000)
	})
}

func TestCloneGivesEachCallerItsOwn(t *testing.T) {
	c := open(t, cache.Config[[]int]{Clone: slices.Clone[[]int]})
	for range 3 {
		a, err := c.Do(t.Context(), opRead, "k", func(context.Context) ([]int, error) { return []int{1, 2, 3}, nil })
		require.NoError(t, err)
		assert.Equal(t, []int{1, 2, 3}, a.Value)
		a.Value[0] = 99
	}
}

// Stale answers.

func TestAStaleAnswerIsMarkedWithItsAgeAndTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour}), &upstream{}
		_, err := c.Do(t.Context(), opRead, "k", u.answer)
		require.NoError(t, err)
		u.err = fault.New(fault.Unavailable, errBad)
		time.Sleep(10 * time.Minute)
		a, err := c.Do(t.Context(), opRead, "k", u.answer)
		require.NoError(t, err)
		assert.Equal(t, resilience.Answer[int64]{Value: 1, Age: 10 * time.Minute, Stale: true, Err: u.err}, a)
		assert.EqualValues(t, 2, u.calls.Load(), "the provider is asked first")
		assert.EqualValues(t, 1, c.Stats().Stale)

		time.Sleep(51 * time.Minute)
		_, err = c.Do(t.Context(), opRead, "k", u.answer)
		assert.ErrorIs(t, err, errBad, "TTL and Stale are over")
	})
}

func TestAnAnswerThatGrowsTooOldWhileTheProviderFailsIsNotGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Minute}), &upstream{}
		_, err := c.Do(t.Context(), opRead, "k", u.answer)
		require.NoError(t, err)
		u.err, u.takes = errBad, 5*time.Second
		time.Sleep(117 * time.Second)
		_, err = c.Do(t.Context(), opRead, "k", u.answer)
		assert.ErrorIs(t, err, errBad)
	})
}

func TestAStaleAnswerHidesNoFaultOfTheRequest(t *testing.T) {
	kinds := map[fault.Kind]bool{ // whether a stale answer is given
		fault.Unknown: true, fault.Unsupported: true, fault.Denied: true, fault.Exhausted: true,
		fault.RateLimited: true, fault.Unavailable: true, fault.Uncertain: true,
		fault.Invalid: false, fault.NotFound: false, fault.Conflict: false, fault.Rejected: false, fault.Canceled: false,
	}
	for kind, stale := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, u := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour}), &upstream{}
				_, err := c.Do(t.Context(), opRead, "k", u.answer)
				require.NoError(t, err)
				time.Sleep(2 * time.Minute)
				u.err = fault.New(kind, errBad)
				a, err := c.Do(t.Context(), opRead, "k", u.answer)
				assert.Equal(t, stale, a.Stale)
				if stale {
					assert.NoError(t, err)
					assert.ErrorIs(t, a.Err, kind)
				} else {
					assert.ErrorIs(t, err, kind)
				}
			})
		})
	}
}

func TestAnOpenBreakerIsAnsweredFromTheCacheAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type bank = func(context.Context) (int64, error)
		var down atomic.Bool
		g, err := resilience.New(resilience.Default, []resilience.Member[bank]{{Name: "bank", Provider: func(context.Context) (int64, error) {
			if down.Load() {
				return 0, fault.New(fault.Unavailable, errBad)
			}
			return 42, nil
		}}})
		require.NoError(t, err)
		c := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour})
		ask := func() (resilience.Answer[int64], error) {
			return c.Do(t.Context(), opRead, "k", func(ctx context.Context) (int64, error) {
				return resilience.Do(ctx, g, opRead, func(ctx context.Context, b bank) (int64, error) { return b(ctx) })
			})
		}
		_, err = ask()
		require.NoError(t, err)
		down.Store(true)
		time.Sleep(2 * time.Minute)
		for range 2 { // three attempts each: five failures in a row open it
			_, err = ask()
			require.NoError(t, err)
		}
		start := time.Now()
		a, err := ask()
		require.NoError(t, err)
		assert.True(t, a.Stale)
		assert.ErrorIs(t, a.Err, resilience.ErrOpen)
		assert.Zero(t, time.Since(start))
	})
}

// Coalescing.

func TestTenThousandCallersOnOneExpiredEntryMakeOneUpstreamCall(t *testing.T) {
	for name, failing := range map[string]bool{"which succeeds": false, "which fails, and all get the stale answer": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const callers = 10_000
				c, u := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour}), &upstream{}
				_, err := c.Do(t.Context(), opRead, "k", u.answer)
				require.NoError(t, err)
				time.Sleep(2 * time.Minute)
				u.takes = 100 * time.Millisecond
				if failing {
					u.err = errBad
				}
				var wg sync.WaitGroup
				var stale atomic.Int64
				for range callers {
					wg.Go(func() {
						a, err := c.Do(t.Context(), opRead, "k", u.answer)
						assert.NoError(t, err)
						if a.Stale {
							stale.Add(1)
						}
					})
				}
				wg.Wait()
				t.Logf("%d callers, %d upstream calls, %d stale answers", callers, u.calls.Load()-1, stale.Load())
				assert.EqualValues(t, 2, u.calls.Load())
				if failing {
					assert.EqualValues(t, callers, stale.Load())
				}
			})
		})
	}
}

// On the real clock, so that callers arrive while the call starts, runs, lands
// and has landed.
func TestCallersThatArriveWhileACallLandsMakeNoSecondOne(t *testing.T) {
	for range 200 {
		c, u := open(t, cache.Config[int64]{}), &upstream{}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				runtime.Gosched()
				a, err := c.Do(t.Context(), opRead, "k", u.answer)
				assert.NoError(t, err)
				assert.EqualValues(t, 1, a.Value)
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, u.calls.Load())
	}
}

func TestAFollowerNeverInheritsTheLeadersCancellation(t *testing.T) {
	for name, end := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"cancelled": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		},
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, u := open(t, cache.Config[int64]{}), &upstream{takes: 10 * time.Second}
				start := time.Now()
				var wg sync.WaitGroup
				wg.Go(func() {
					ctx, cancel := end(t.Context())
					defer cancel()
					_, err := c.Do(ctx, opRead, "k", u.answer)
					assert.ErrorIs(t, err, fault.Canceled)
					assert.ErrorIs(t, err, ctx.Err())
					assert.Equal(t, time.Second, time.Since(start), "the leader returns at once")
				})
				synctest.Wait()
				wg.Go(func() {
					a, err := c.Do(t.Context(), opRead, "k", u.answer)
					assert.NoError(t, err)
					assert.EqualValues(t, 1, a.Value)
					assert.Equal(t, 10*time.Second, time.Since(start))
				})
				wg.Wait()
			})
		})
	}
}

func TestAFollowersCancellationIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{}), &upstream{takes: 10 * time.Second}
		var wg sync.WaitGroup
		wg.Go(func() {
			a, err := c.Do(t.Context(), opRead, "k", u.answer)
			assert.NoError(t, err)
			assert.EqualValues(t, 1, a.Value)
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.Do(ctx, opRead, "k", u.answer)
		assert.ErrorIs(t, err, fault.Canceled)
		assert.Equal(t, time.Second, time.Since(start))
		wg.Wait()
	})
}

func TestTheUpstreamCallIsCancelledWhenAllCallersHaveGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{}), &upstream{takes: time.Hour}
		start := time.Now()
		var ended time.Duration
		fn := func(ctx context.Context) (int64, error) {
			defer func() { ended = time.Since(start) }()
			deadline, _ := ctx.Deadline()
			assert.Equal(t, start.Add(30*time.Second), deadline, "no caller's deadline is everybody's")
			return u.answer(ctx)
		}
		var wg sync.WaitGroup
		for _, patience := range []time.Duration{time.Second, 3 * time.Second, 2 * time.Second} {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				_, err := c.Do(ctx, opRead, "k", fn)
				assert.ErrorIs(t, err, fault.Canceled)
				assert.Equal(t, patience, time.Since(start))
			})
		}
		wg.Wait()
		require.NoError(t, c.Close(t.Context()))
		assert.Equal(t, 3*time.Second, ended)
		assert.EqualValues(t, 1, u.calls.Load())
	})
}

func TestACallThatAllHaveLeftIsNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, cache.Config[int64]{})
		stubborn := func(context.Context) (int64, error) { time.Sleep(10 * time.Second); return 1, nil }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Do(ctx, opRead, "k", stubborn)
		require.ErrorIs(t, err, fault.Canceled)
		a, err := c.Do(t.Context(), opRead, "k", func(context.Context) (int64, error) { return 2, nil })
		require.NoError(t, err)
		assert.EqualValues(t, 2, a.Value)
		require.NoError(t, c.Close(t.Context()), "the other one ends too")
		a, err = c.Do(t.Context(), opRead, "k", stubborn)
		require.NoError(t, err)
		assert.EqualValues(t, 2, a.Value, "what nobody waited for replaces nothing")
	})
}

func TestACallerWhoseContextHasEndedGetsNothing(t *testing.T) {
	c, u := open(t, cache.Config[int64]{}), &upstream{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Do(ctx, opRead, "k", u.answer)
	assert.ErrorIs(t, err, fault.Canceled)
	assert.Zero(t, u.calls.Load())
}

type traceKey struct{}

func TestTheUpstreamCallHasTheValuesOfTheCallerThatBeganIt(t *testing.T) {
	ctx := resilience.WithTenant(context.WithValue(t.Context(), traceKey{}, "trace-1"), "ada")
	_, err := open(t, cache.Config[int64]{}).Do(ctx, opRead, "k", func(ctx context.Context) (int64, error) {
		assert.Equal(t, "trace-1", ctx.Value(traceKey{}))
		assert.Equal(t, "ada", resilience.Tenant(ctx))
		return 0, nil
	})
	require.NoError(t, err)
}

func TestAPanicReachesEveryCallerAndNothingStaysStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{}), &upstream{}
		var wg sync.WaitGroup
		var caught atomic.Int64
		for range 100 {
			wg.Go(func() {
				defer func() {
					p, ok := recover().(*cache.Panic)
					if assert.True(t, ok) && assert.ErrorIs(t, p, errBad) && assert.Contains(t, string(p.Stack), "explode") {
						caught.Add(1)
					}
				}()
				c.Do(t.Context(), opRead, "k", explode)
			})
		}
		wg.Wait()
		assert.EqualValues(t, 100, caught.Load())
		_, err := c.Do(t.Context(), opRead, "k", u.answer)
		assert.NoError(t, err)
		assert.EqualValues(t, 1, c.Stats().Panicked)
		require.NoError(t, c.Close(t.Context()))
	})
}

func explode(context.Context) (int64, error) {
	time.Sleep(time.Second)
	panic(errBad)
}

func TestAFunctionThatEndsItsGoroutineEndsThoseOfItsCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{}), &upstream{}
		var wg sync.WaitGroup
		var ended atomic.Int64
		for range 100 {
			wg.Go(func() {
				returned := false
				defer func() {
					if !returned && recover() == nil {
						ended.Add(1)
					}
				}()
				c.Do(t.Context(), opRead, "k", func(context.Context) (int64, error) {
					time.Sleep(time.Second)
					runtime.Goexit()
					return 0, nil
				})
				returned = true
			})
		}
		wg.Wait()
		assert.EqualValues(t, 100, ended.Load())
		_, err := c.Do(t.Context(), opRead, "k", u.answer)
		assert.NoError(t, err)
		require.NoError(t, c.Close(t.Context()))
	})
}

// Mixed calls of every kind, on few keys, under the race detector: everything
// ends, and what is answered was answered to that key.
func TestWhateverCallersAndProviderDoNothingIsLost(t *testing.T) {
	var wg sync.WaitGroup
	c := open(t, cache.Config[string]{
		TTL: time.Millisecond, Stale: time.Millisecond, Store: newStore(), StoreTimeout: time.Minute,
		OnStoreError: func(_ string, err error) { t.Error(err) }, // callers that leave are no fault of the store
	})
	for g := range 50 {
		wg.Go(func() {
			for i := range 200 {
				mixed(t, c, g*200+i)
			}
		})
	}
	wg.Wait()
	require.NoError(t, c.Close(t.Context()))
	t.Logf("%+v", c.Stats())
}

func mixed(t *testing.T, c *cache.Cache[string], n int) {
	var one sync.WaitGroup
	one.Go(func() { // its own goroutine, since it may end
		defer func() { _ = recover() }()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		key := strconv.Itoa(n % 7)
		if n%11 == 0 {
			assert.NoError(t, c.Invalidate(ctx, opRead, key))
		}
		if n%5 == 0 {
			time.AfterFunc(50*time.Microsecond, cancel)
		}
		a, err := c.Do(ctx, opRead, key, func(ctx context.Context) (string, error) {
			switch n % 13 {
			case 0:
				panic("oh")
			case 1:
				runtime.Goexit()
			case 2:
				return "", errBad
			case 3:
				<-time.After(100 * time.Microsecond)
			}
			return key, ctx.Err()
		})
		if err == nil {
			assert.Equal(t, key, a.Value)
		}
	})
	one.Wait()
}

// Invalidation.

func TestInvalidateForgetsOneAnswer(t *testing.T) {
	c, u := open(t, cache.Config[int64]{Stale: time.Hour}), &upstream{}
	ask := func(key string) int64 {
		a, err := c.Do(t.Context(), opRead, key, u.answer)
		require.NoError(t, err)
		return a.Value
	}
	ask("k")
	ask("l")
	require.NoError(t, c.Invalidate(t.Context(), opRead, "k"))
	assert.EqualValues(t, 3, ask("k"))
	assert.EqualValues(t, 2, ask("l"))
	require.NoError(t, c.Invalidate(t.Context(), opRead, "k"))
	u.err = errBad
	_, err := c.Do(t.Context(), opRead, "k", u.answer)
	assert.ErrorIs(t, err, errBad, "not even a stale one is left")
}

// The answer on its way may be older than what made it wrong.
func TestInvalidateAlsoForgetsWhatIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{Store: newStore()}), &upstream{takes: 10 * time.Second}
		var wg sync.WaitGroup
		wg.Go(func() {
			a, err := c.Do(t.Context(), opRead, "k", u.answer)
			assert.NoError(t, err)
			assert.EqualValues(t, 1, a.Value, "who asked before gets it")
		})
		time.Sleep(time.Second)
		require.NoError(t, c.Invalidate(t.Context(), opRead, "k"))
		a, err := c.Do(t.Context(), opRead, "k", u.answer)
		require.NoError(t, err)
		assert.EqualValues(t, 2, a.Value, "who asks after it doesn't")
		wg.Wait()
		a, err = c.Do(t.Context(), opRead, "k", u.answer)
		require.NoError(t, err)
		assert.EqualValues(t, 2, a.Value)
	})
}

func TestCloseWaitsForWhatRunsAndNoLongerThanItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, cache.Config[int64]{})
		require.NoError(t, c.Close(t.Context()))
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = c.Do(t.Context(), opRead, "k", (&upstream{takes: 20 * time.Second}).answer) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.ErrorIs(t, c.Close(ctx), context.DeadlineExceeded)
		start := time.Now()
		require.NoError(t, c.Close(t.Context()))
		assert.Equal(t, 19*time.Second, time.Since(start))
		wg.Wait()
	})
}

func BenchmarkHit(b *testing.B) {
	c, err := cache.New(cache.Config[int64]{TTL: time.Hour})
	require.NoError(b, err)
	fn := (&upstream{}).answer
	ctx := resilience.WithTenant(b.Context(), "ada")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Do(ctx, opRead, "USD", fn); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkMiss(b *testing.B) {
	c, err := cache.New(cache.Config[int64]{TTL: time.Hour})
	require.NoError(b, err)
	u := &upstream{}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := c.Do(b.Context(), opRead, strconv.Itoa(i), u.answer); err != nil {
			b.Fatal(err)
		}
	}
}

// The provider is down, and has been for longer than the TTL.
func ExampleCache_Do() {
	rates, err := cache.New(cache.Config[float64]{TTL: time.Nanosecond, Stale: time.Hour})
	if err != nil {
		fmt.Println(err)
		return
	}
	op := resilience.Op{Name: "rates.rate", Safety: fault.Read}
	ask := func(bank func(context.Context) (float64, error)) {
		answer, err := rates.Do(context.Background(), op, cache.Key("USD", "EUR"), bank)
		fmt.Println(answer.Value, answer.Stale, answer.Err, err)
	}
	ask(func(context.Context) (float64, error) { return 1.09, nil })
	ask(func(context.Context) (float64, error) { return 0, fault.New(fault.Unavailable, nil) })
	ask(func(context.Context) (float64, error) { return 0, fault.New(fault.NotFound, nil) })
	// Output:
	// 1.09 false <nil> <nil>
	// 1.09 true unavailable <nil>
	// 0 false <nil> not found
}

// A Client inside a Client.

type bank func(context.Context) (int64, error)

// asker is a provider, or a Client that shows which Group it is made of.
type asker interface {
	ask(ctx context.Context) (int64, error)
}

func (b bank) ask(ctx context.Context) (int64, error) { return b(ctx) }

type client struct {
	bank
	of *resilience.Group[bank]
}

func (c client) Control() *resilience.Control { return c.of.Control }

// nested is a Group whose first member is a Client made of a Group and a Cache.
func nested(t *testing.T, c *cache.Cache[int64], inside, beside bank) func() (int64, error) {
	t.Helper()
	inner, err := resilience.New(resilience.Default, []resilience.Member[bank]{{Name: "a", Provider: inside}, {Name: "b", Provider: inside}})
	require.NoError(t, err)
	made := client{func(ctx context.Context) (int64, error) {
		a, err := c.Do(ctx, opRead, "k", func(ctx context.Context) (int64, error) { return callBank(ctx, inner) })
		return a.Value, err
	}, inner}
	outer, err := resilience.New(resilience.Default, []resilience.Member[asker]{{Name: "client", Provider: made}, {Name: "beside", Provider: beside}})
	require.NoError(t, err)
	return func() (int64, error) {
		return resilience.Do(t.Context(), outer, opRead, func(ctx context.Context, a asker) (int64, error) { return a.ask(ctx) })
	}
}

func callBank(ctx context.Context, g *resilience.Group[bank]) (int64, error) {
	return resilience.Do(ctx, g, opRead, func(ctx context.Context, b bank) (int64, error) { return b(ctx) })
}

func TestInsideAnotherGroupsAttempt(t *testing.T) {
	t.Run("the backup is asked rather than a stale answer given", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour})
			var down atomic.Bool
			ask := nested(t, c, func(context.Context) (int64, error) {
				if down.Load() {
					return 0, fault.New(fault.Unavailable, errBad)
				}
				return 1, nil
			}, func(context.Context) (int64, error) { return 2, nil })
			got, err := ask()
			require.NoError(t, err)
			assert.EqualValues(t, 1, got)
			down.Store(true)
			got, err = ask()
			require.NoError(t, err)
			assert.EqualValues(t, 1, got, "a fresh one is given")
			time.Sleep(2 * time.Minute)
			got, err = ask()
			require.NoError(t, err)
			assert.EqualValues(t, 2, got)
			assert.Zero(t, c.Stats().Stale)
		})
	})
	t.Run("nor is a stale answer given at once, or joined by others", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, u := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour, Revalidate: time.Hour}), &upstream{}
			ask(t, c, u)
			time.Sleep(2 * time.Minute)
			refused := &upstream{takes: 10 * time.Second, err: fault.New(fault.Invalid, nil)}
			assert.True(t, ask(t, c, refused).Stale)
			got, err := nested(t, c, u.answer, nil)()
			require.NoError(t, err)
			assert.EqualValues(t, 2, got)
			settle(t, c)
			assert.Equal(t, resilience.Answer[int64]{Value: 2, Age: 10 * time.Second}, ask(t, c, u), "an older call that fails later changes nothing")
		})
	})
	t.Run("a call that asks for its own key is refused", func(t *testing.T) {
		c := open(t, cache.Config[int64]{})
		ask := nested(t, c, func(ctx context.Context) (int64, error) {
			a, err := c.Do(ctx, opRead, "k", (&upstream{}).answer)
			return a.Value, err
		}, nil)
		_, err := ask()
		assert.ErrorIs(t, err, fault.Invalid)
		assert.ErrorContains(t, err, "wait for itself")
	})
	t.Run("the inner failover outlasts the outer attempt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := open(t, cache.Config[int64]{Store: newStore()})
			var calls atomic.Int64
			ask := nested(t, c, func(ctx context.Context) (int64, error) {
				if calls.Add(1) == 1 {
					<-ctx.Done()
					return 0, ctx.Err()
				}
				time.Sleep(2 * time.Second)
				return 1, nil
			}, func(context.Context) (int64, error) { return 2, nil })
			start := time.Now()
			got, err := ask()
			require.NoError(t, err)
			assert.EqualValues(t, 1, got)
			assert.Equal(t, 5*time.Second, time.Since(start), "3 s at the first, 2 s at the second")
			settle(t, c)
		})
	})
	t.Run("a panic leaves nothing behind", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := open(t, cache.Config[int64]{Store: newStore()})
			ask := nested(t, c, func(context.Context) (int64, error) { panic(errBad) }, nil)
			assert.PanicsWithValue(t, errBad, func() { _, _ = ask() })
			settle(t, c)
			assert.EqualValues(t, 1, c.Stats().Panicked)
		})
	})
	t.Run("the answer reaches memory and the store", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			c := open(t, cache.Config[int64]{Store: s})
			ask := nested(t, c, func(context.Context) (int64, error) { return 1, nil }, nil)
			for range 2 {
				_, err := ask()
				require.NoError(t, err)
			}
			settle(t, c)
			assert.Len(t, s.keys(), 1)
			assert.EqualValues(t, 1, c.Stats().Upstream)
		})
	})
}
