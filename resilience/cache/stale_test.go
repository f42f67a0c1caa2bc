package cache_test

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/cache"
)

// within asks as a caller that has so much time.
func within(t *testing.T, c *cache.Cache[int64], patience time.Duration, fn func(context.Context) (int64, error)) (resilience.Answer[int64], error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return c.Do(ctx, opRead, "k", fn)
}

// At the caller's deadline.

func TestAtItsDeadlineACallerGetsTheStaleAnswerAndTheCallGoesOn(t *testing.T) {
	for name, shared := range map[string]bool{"from memory": false, "from the store": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, u := newStore(), &upstream{}
				config := cache.Config[int64]{TTL: time.Minute, Stale: time.Hour, Store: s}
				c := open(t, config)
				ask(t, c, u)
				settle(t, c)
				if shared {
					c = open(t, config)
				}
				time.Sleep(10 * time.Minute)
				u.takes = 5 * time.Second
				for range 2 { // who begins the call, and who joins it
					a, err := within(t, c, 2*time.Second, u.answer)
					require.NoError(t, err)
					assert.EqualValues(t, 1, a.Value)
					assert.True(t, a.Stale)
					assert.Less(t, a.Age-10*time.Minute, 5*time.Second)
					assert.ErrorIs(t, a.Err, fault.Canceled)
					assert.ErrorIs(t, a.Err, context.DeadlineExceeded)
				}
				settle(t, c)
				assert.Equal(t, resilience.Answer[int64]{Value: 2}, ask(t, c, u), "what nobody waited for is kept")
				assert.EqualValues(t, 2, u.calls.Load())
				assert.EqualValues(t, 2, c.Stats().Stale)
			})
		})
	}
}

func TestAtItsDeadlineACallerWithoutAUsableAnswerEndsTheCall(t *testing.T) {
	for name, age := range map[string]time.Duration{"there is none": 0, "it grows too old meanwhile": 119 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, u := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Minute}), &upstream{}
				if age > 0 {
					ask(t, c, u)
					time.Sleep(age)
				}
				start := time.Now()
				u.takes = 20 * time.Second
				_, err := within(t, c, 2*time.Second, u.answer)
				assert.ErrorIs(t, err, fault.Canceled)
				settle(t, c)
				assert.Equal(t, 2*time.Second, time.Since(start))
			})
		})
	}
}

func TestACallerThatIsCancelledGetsNoStaleAnswer(t *testing.T) {
	for name, row := range map[string]struct {
		impatient bool // another caller was given the stale answer at its deadline
		ends      time.Duration
	}{
		"and ends the call":                      {false, 2 * time.Second},
		"which goes on where another's deadline": {true, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, u := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour}), &upstream{}
				ask(t, c, u)
				time.Sleep(2 * time.Minute)
				start := time.Now()
				u.takes = 20 * time.Second
				var wg sync.WaitGroup
				if row.impatient {
					wg.Go(func() {
						_, err := within(t, c, time.Second, u.answer)
						assert.NoError(t, err)
					})
				}
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(2*time.Second, cancel)
				a, err := c.Do(ctx, opRead, "k", u.answer)
				assert.ErrorIs(t, err, context.Canceled)
				assert.Zero(t, a)
				assert.Equal(t, 2*time.Second, time.Since(start))
				wg.Wait()
				settle(t, c)
				assert.Equal(t, row.ends, time.Since(start))
			})
		})
	}
}

func TestAnAnswerThatWasInvalidatedMeanwhileIsNotGivenAsAStaleOne(t *testing.T) {
	for name, patience := range map[string]time.Duration{"at the caller's deadline": 10 * time.Second, "when the call fails": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, u := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour}), &upstream{}
				ask(t, c, u)
				time.Sleep(2 * time.Minute)
				time.AfterFunc(time.Second, func() { assert.NoError(t, c.Invalidate(t.Context(), opRead, "k")) })
				u.takes, u.err = 20*time.Second, errBad
				_, err := within(t, c, patience, u.answer)
				assert.Error(t, err)
				settle(t, c)
			})
		})
	}
}

func TestTheBreakerInsideLearnsWhatBecameOfACallThatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		policy := resilience.Default
		policy.Breaker.Jitter = 0
		g, err := resilience.New(policy, []resilience.Member[bank]{{Name: "bank", Provider: func(ctx context.Context) (int64, error) {
			if hangs.Load() {
				<-ctx.Done()
			}
			return 1, ctx.Err()
		}}})
		require.NoError(t, err)
		c := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour})
		fn := func(ctx context.Context) (int64, error) { return callBank(ctx, g) }
		_, err = within(t, c, time.Second, fn)
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		hangs.Store(true)
		for range 30 {
			a, err := within(t, c, time.Second, fn)
			require.NoError(t, err)
			assert.True(t, a.Stale)
		}
		settle(t, c)
		assert.Equal(t, resilience.Open, g.Inspect()[0].State, "no caller waited until an attempt timed out")
	})
}

// While a new answer is fetched.

func TestWithinRevalidateTheOldAnswerIsGivenAtOnceWhileOneCallFetchesANewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour, Revalidate: 10 * time.Minute}), &upstream{}
		ask(t, c, u)
		u.takes = time.Second
		time.Sleep(11*time.Minute - 1)
		start := time.Now()
		for range 1000 {
			ctx, cancel := context.WithCancel(t.Context())
			a, err := c.Do(ctx, opRead, "k", u.answer)
			cancel() // as at the end of a request: the call in the background has none of it
			require.NoError(t, err)
			assert.Equal(t, resilience.Answer[int64]{Value: 1, Age: 11*time.Minute - 1, Stale: true}, a)
		}
		assert.Zero(t, time.Since(start))
		settle(t, c)
		assert.Equal(t, resilience.Answer[int64]{Value: 2}, ask(t, c, u))
		assert.EqualValues(t, 2, u.calls.Load())
		assert.EqualValues(t, 1000, c.Stats().Stale)

		time.Sleep(11 * time.Minute)
		start = time.Now()
		assert.Equal(t, resilience.Answer[int64]{Value: 3}, ask(t, c, u))
		assert.Equal(t, time.Second, time.Since(start), "after Revalidate callers wait")
	})
}

func TestACallInTheBackgroundThatFailsLeavesTheOldAnswerForItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{TTL: time.Minute, Stale: 2 * time.Minute, Revalidate: time.Minute}), &upstream{}
		ask(t, c, u)
		u.err = fault.New(fault.Unavailable, errBad)
		time.Sleep(time.Minute)
		for i := range 10 {
			a := ask(t, c, u)
			assert.True(t, a.Stale)
			assert.NoError(t, a.Err)
			settle(t, c)
			assert.EqualValues(t, i+2, u.calls.Load(), "each asks again, one call at a time")
		}
		time.Sleep(time.Minute)
		assert.ErrorIs(t, ask(t, c, u).Err, fault.Unavailable, "after Revalidate it says why it is stale")
		time.Sleep(time.Minute)
		_, err := c.Do(t.Context(), opRead, "k", u.answer)
		assert.ErrorIs(t, err, fault.Unavailable, "and after Stale it is gone")
	})
}

// Whoever never waits would never learn that the thing is gone.
func TestACallInTheBackgroundHidesNoFaultOfTheRequest(t *testing.T) {
	for name, fn := range map[string]func(context.Context) (int64, error){
		"NotFound": func(context.Context) (int64, error) { return 0, fault.New(fault.NotFound, nil) },
		"Invalid":  func(context.Context) (int64, error) { return 0, fault.New(fault.Invalid, nil) },
		"Conflict": func(context.Context) (int64, error) { return 0, fault.New(fault.Conflict, nil) },
		"Rejected": func(context.Context) (int64, error) { return 0, fault.New(fault.Rejected, nil) },
		"a panic":  func(context.Context) (int64, error) { panic(errBad) },
		"an exit":  func(context.Context) (int64, error) { runtime.Goexit(); return 0, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, u := newStore(), &upstream{}
				c := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour, Revalidate: time.Hour, Store: s})
				ask(t, c, u)
				settle(t, c)
				time.Sleep(2 * time.Minute)
				a, err := c.Do(t.Context(), opRead, "k", fn)
				require.NoError(t, err)
				assert.True(t, a.Stale)
				settle(t, c)
				for range 3 {
					var one sync.WaitGroup
					one.Go(func() {
						defer func() { _ = recover() }()
						a, err := c.Do(t.Context(), opRead, "k", fn)
						assert.Error(t, err)
						assert.Zero(t, a)
					})
					one.Wait()
				}
				settle(t, c)
				u.err = fault.New(fault.Unavailable, nil)
				assert.ErrorIs(t, ask(t, c, u).Err, fault.Unavailable, "it is still there for when nobody answers")
				u.err = nil
				assert.EqualValues(t, 3, ask(t, c, u).Value)
				time.Sleep(2 * time.Minute)
				assert.True(t, ask(t, c, u).Stale, "and a new one is given at once again")
				settle(t, c)
			})
		})
	}
}

func TestLoadsThatTakeLongerThanTTLAndRevalidateStillBringNewAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{TTL: time.Second, Stale: time.Hour, Revalidate: time.Second}), &upstream{}
		ask(t, c, u)
		u.takes = 5 * time.Second
		var last int64
		for range 100 {
			time.Sleep(500 * time.Millisecond)
			last = max(last, ask(t, c, u).Value)
		}
		settle(t, c)
		assert.Greater(t, last, int64(5))
	})
}

func TestACallInTheBackgroundThatHangsLengthensNoLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Minute, Revalidate: time.Minute, LoadTimeout: 5 * time.Minute}), &upstream{}
		ask(t, c, u)
		time.Sleep(119 * time.Second)
		u.takes = time.Hour
		assert.True(t, ask(t, c, u).Stale)
		time.Sleep(time.Second)
		start := time.Now()
		_, err := within(t, c, 10*time.Second, u.answer)
		assert.ErrorIs(t, err, fault.Canceled, "it is too old to be given, and the same call is waited for")
		assert.Equal(t, 10*time.Second, time.Since(start))
		assert.EqualValues(t, 2, u.calls.Load())
		settle(t, c)
		assert.Equal(t, 5*time.Minute-time.Second, time.Since(start))
	})
}

func TestInvalidateAlsoForgetsWhatTheBackgroundBrings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour, Revalidate: time.Hour, NegativeTTL: time.Hour}), &upstream{}
		ask(t, c, u)
		for i, err := range []error{nil, fault.New(fault.NotFound, nil), fault.New(fault.Invalid, nil)} {
			time.Sleep(2 * time.Minute)
			u.err, u.takes = err, time.Second
			assert.True(t, ask(t, c, u).Stale)
			synctest.Wait()
			require.NoError(t, c.Invalidate(t.Context(), opRead, "k"))
			settle(t, c)
			u.err, u.takes = nil, 0
			assert.Equal(t, resilience.Answer[int64]{Value: int64(2*i + 3)}, ask(t, c, u))
		}
	})
}

// On the real clock: who had the new answer never gets the old one after it,
// though it is a caller that puts it into memory.
func TestNoCallerGoesBackToAnOlderAnswer(t *testing.T) {
	for name, revalidate := range map[string]time.Duration{"waiting": 0, "at once": time.Hour} {
		t.Run(name, func(t *testing.T) {
			c, u := open(t, cache.Config[int64]{TTL: 50 * time.Microsecond, Stale: time.Hour, Revalidate: revalidate}), &upstream{}
			var newest atomic.Int64
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 2000 {
						before := newest.Load()
						a, err := c.Do(t.Context(), opRead, "k", u.answer)
						if !assert.NoError(t, err) || !assert.GreaterOrEqual(t, a.Value, before) {
							return
						}
						for n := newest.Load(); a.Value > n; n = newest.Load() {
							newest.CompareAndSwap(n, a.Value)
						}
					}
				})
			}
			wg.Wait()
			settle(t, c)
			t.Logf("%+v", c.Stats())
		})
	}
}

// What isn't there.

func TestANotFoundIsKeptForNegativeTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		c, u := open(t, cache.Config[int64]{TTL: time.Hour, Stale: time.Hour, NegativeTTL: time.Second, Store: s}), &upstream{err: fault.New(fault.NotFound, errBad)}
		for range 1000 {
			_, err := c.Do(t.Context(), opRead, "k", u.answer)
			assert.Same(t, u.err, err)
			time.Sleep(time.Millisecond)
		}
		assert.EqualValues(t, 1, u.calls.Load())
		assert.EqualValues(t, 999, c.Stats().Hits)
		_, err := c.Do(resilience.WithTenant(t.Context(), "ada"), opRead, "k", (&upstream{}).answer)
		assert.NoError(t, err, "another tenant's is another")
		settle(t, c)
		assert.Len(t, s.keys(), 1, "no other process sees it")

		u.err = nil
		assert.EqualValues(t, 2, ask(t, c, u).Value, "after a second the provider is asked again")
		settle(t, c)
	})
}

func TestOnlyTheProvidersNotFoundIsKept(t *testing.T) {
	for name, row := range map[string]struct {
		err   error
		calls int64
	}{
		"a bare kind":      {fault.NotFound, 1},
		"wrapped":          {fmt.Errorf("bank: %w", fault.New(fault.NotFound, nil)), 1},
		"our own":          {&fault.Error{Kind: fault.NotFound, Local: true}, 3}, // pinned to a provider that isn't there
		"Invalid":          {fault.New(fault.Invalid, nil), 3},
		"Rejected":         {fault.New(fault.Rejected, nil), 3},
		"Unavailable":      {fault.New(fault.Unavailable, nil), 3},
		"an unknown error": {errBad, 3},
	} {
		t.Run(name, func(t *testing.T) {
			c, u := open(t, cache.Config[int64]{NegativeTTL: time.Hour}), &upstream{err: row.err}
			for range 3 {
				_, err := c.Do(t.Context(), opRead, "k", u.answer)
				assert.Equal(t, row.err, err)
			}
			assert.Equal(t, row.calls, u.calls.Load())
		})
	}
}

func TestANotFoundTakesThePlaceOfTheAnswerAndIsForgottenLikeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour, NegativeTTL: time.Minute}), &upstream{}
		ask(t, c, u)
		time.Sleep(2 * time.Minute)
		u.err = fault.New(fault.NotFound, nil)
		_, err := c.Do(t.Context(), opRead, "k", u.answer)
		assert.ErrorIs(t, err, fault.NotFound)
		time.Sleep(2 * time.Minute)
		u.err = fault.New(fault.Unavailable, nil)
		_, err = c.Do(t.Context(), opRead, "k", u.answer)
		assert.ErrorIs(t, err, fault.Unavailable, "a thing that is gone isn't given as a stale answer")

		u.err = fault.New(fault.NotFound, nil)
		_, err = c.Do(t.Context(), opRead, "k", u.answer)
		assert.ErrorIs(t, err, fault.NotFound)
		u.err = nil
		require.NoError(t, c.Invalidate(t.Context(), opRead, "k"))
		assert.EqualValues(t, 5, ask(t, c, u).Value)
	})
}

// Someone who asks for a million things that don't exist fills no memory, whatever
// the unit of Weight is.
func TestManyNotFoundsAreBounded(t *testing.T) {
	for name, row := range map[string]struct {
		config cache.Config[string]
		most   int
	}{
		"by Size":            {cache.Config[string]{Size: 100}, 100},
		"by number of bytes": {cache.Config[string]{Size: 100_000_000, Weight: func(s string) int { return len(s) }}, 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			row.config.NegativeTTL = time.Hour
			c := open(t, row.config)
			for i := range 30_000 {
				_, err := c.Do(t.Context(), opRead, strconv.Itoa(i), func(context.Context) (string, error) { return "", fault.NotFound })
				require.ErrorIs(t, err, fault.NotFound)
			}
			assert.Eventually(t, func() bool { return c.Stats().Entries <= row.most }, 5*time.Second, time.Millisecond)
		})
	}
}

// A fresh answer, else another source, else the stale one.

func TestTheLadderOverACache(t *testing.T) {
	down := func(context.Context) (int64, error) { return 0, fault.New(fault.Unavailable, errBad) }
	gives := func(n int64) bank { return func(context.Context) (int64, error) { return n, nil } }
	hangs := func(ctx context.Context) (int64, error) { <-ctx.Done(); return 0, ctx.Err() }
	for name, row := range map[string]struct {
		age           time.Duration
		first, second bank
		value         int64
		stale         bool
		why           error
	}{
		"fresh":                     {time.Second, down, gives(3), 1, false, nil},
		"a new one":                 {2 * time.Minute, gives(2), gives(3), 2, false, nil},
		"another source":            {2 * time.Minute, down, gives(3), 3, false, fault.Unavailable},
		"nobody else":               {2 * time.Minute, down, down, 1, true, fault.Unavailable},
		"too late for anybody else": {2 * time.Minute, hangs, hangs, 1, true, fault.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour})
				_, err := c.Do(t.Context(), opRead, "k", gives(1))
				require.NoError(t, err)
				time.Sleep(row.age)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				a, err := resilience.Ladder(ctx, c, opRead, "k", row.first, row.second)
				require.NoError(t, err)
				assert.Equal(t, row.value, a.Value)
				assert.Equal(t, row.stale, a.Stale)
				assert.ErrorIs(t, a.Err, row.why)
				settle(t, c)
			})
		})
	}
	t.Run("nothing at all", func(t *testing.T) {
		_, err := resilience.Ladder(t.Context(), open(t, cache.Config[int64]{}), opRead, "k", down, down)
		assert.ErrorIs(t, err, fault.Unavailable)
	})
}

// The central bank is asked first, then an aggregator; the rate of before is given
// where neither answers.
func ExampleCache_ladder() {
	rates, err := cache.New(cache.Config[float64]{TTL: time.Nanosecond, Stale: time.Hour})
	if err != nil {
		fmt.Println(err)
		return
	}
	op := resilience.Op{Name: "rates.rate", Safety: fault.Read}
	gives := func(rate float64) func(context.Context) (float64, error) {
		return func(context.Context) (float64, error) { return rate, nil }
	}
	down := func(context.Context) (float64, error) { return 0, fault.New(fault.Unavailable, nil) }
	ask := func(bank, aggregator func(context.Context) (float64, error)) {
		a, err := resilience.Ladder(context.Background(), rates, op, cache.Key("USD", "EUR"), bank, aggregator)
		fmt.Println(a.Value, a.Stale, a.Err, err)
	}
	ask(gives(1.09), gives(1.08))
	ask(down, gives(1.08))
	ask(down, down)
	// Output:
	// 1.09 false <nil> <nil>
	// 1.08 false unavailable <nil>
	// 1.09 true unavailable <nil>
}
