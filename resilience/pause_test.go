package resilience_test

import (
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

func away(d time.Duration) func(context.Context) error {
	return func(context.Context) error { return &fault.Error{Kind: fault.RateLimited, RetryAfter: d} }
}

func TestWhoAsksToBeLeftAloneIsLeftAloneWithoutABackupToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &provider{fn: away(time.Minute)}
		g := group(t, resilience.Default, one)
		for range 300 {
			start := time.Now()
			require.ErrorIs(t, ask(t.Context(), g), fault.RateLimited)
			require.Zero(t, time.Since(start), "beyond MaxWait the refusal comes at once")
			time.Sleep(100 * time.Millisecond)
		}
		assert.EqualValues(t, 1, one.calls.Load())
	})
}

func TestAKeyThatHasTooMuchIsLeftAloneByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := perKey(resilience.Policy{Rate: 1000, Burst: 1000})
		one := &byKey{bad: "noisy"}
		one.fn = nil
		g := group(t, p, one)
		one.kind = fault.RateLimited
		limited := func(ctx context.Context, key string) error {
			_, err := resilience.Do(resilience.WithKey(ctx, key), g, opAsk, func(context.Context, asker) (string, error) {
				one.calls.Add(1)
				if key == "noisy" {
					return "", &fault.Error{Kind: fault.RateLimited, RetryAfter: time.Minute}
				}
				return "", nil
			})
			return err
		}
		for range 10 {
			require.Error(t, limited(t.Context(), "noisy"))
			require.NoError(t, limited(t.Context(), "quiet"))
		}
		assert.EqualValues(t, 11, one.calls.Load())
	})
}

func TestAPauseWithinMaxWaitIsWaitedForAndThoseWhoWaitComeBackSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.MaxWait, p.RetryBudget = 5*time.Second, 0
		var mu sync.Mutex
		at := map[time.Duration]int{}
		start := time.Now()
		one := &provider{fn: func(context.Context) error {
			since := time.Since(start)
			mu.Lock()
			defer mu.Unlock()
			at[since]++
			if since < 2*time.Second {
				return &fault.Error{Kind: fault.RateLimited, RetryAfter: 3 * time.Second}
			}
			return nil
		}}
		g := group(t, p, one)
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() { assert.NoError(t, ask(context.Background(), g)) })
		}
		wg.Wait()
		for d, n := range at {
			assert.True(t, d == 0 || d >= 3*time.Second && d <= 3*time.Second*121/100, d)
			assert.True(t, d == 0 || n < 20, "%d at %v", n, d)
		}
	})
}

func TestARefusalOfOursPausesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local := &provider{fn: func(context.Context) error { // as a Client that a decorator hides answers
			return &fault.Error{Kind: fault.RateLimited, RetryAfter: time.Minute, Local: true}
		}}
		g := group(t, resilience.Default, local, &provider{})
		for range 5 {
			require.NoError(t, ask(t.Context(), g))
		}
		assert.EqualValues(t, 5, local.calls.Load())
		assert.Zero(t, g.Inspect()[0].PausedFor)
	})
}

func TestAHedgeObeysAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := quiet()
		p.Hedge.After = time.Second
		slow := &provider{fn: func(context.Context) error { time.Sleep(2 * time.Second); return fault.New(fault.Unavailable, nil) }}
		backup := &provider{fn: away(time.Minute)}
		g := group(t, p, slow, backup)
		for range 2 {
			_, _ = resilience.Call(t.Context(), g, opRead, asker.Ask, "q")
		}
		assert.EqualValues(t, 1, backup.calls.Load())
	})
}

func TestDurationsNearTheMaximumMeanForEver(t *testing.T) {
	for _, jitter := range []float64{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			p := quiet()
			p.Breaker.OpenFor, p.Breaker.Jitter = math.MaxInt64, jitter
			p.MaxWait, p.Total, p.Silence, p.Breaker.WarmUp = math.MaxInt64, math.MaxInt64, math.MaxInt64, 0
			one := &provider{fn: answers(fault.Unavailable)}
			g := group(t, p, one)
			for range 20 {
				require.Error(t, ask(t.Context(), g))
			}
			assert.Equal(t, resilience.Open, g.Inspect()[0].State)
			assert.EqualValues(t, 5, one.calls.Load())
			require.NoError(t, g.SetPolicy(p))
			assert.Equal(t, resilience.Open, g.Inspect()[0].State)
		})
	}
}

// A key's own limit, breaker and pause are asked first: what they refuse or hold
// back takes nothing of the provider's rate, slots, probe or budget.
func TestAKeyThatIsRefusedOrHeldBackCostsOthersNothing(t *testing.T) {
	closed := resilience.Default.Breaker
	for name, c := range map[string]struct {
		policy resilience.Policy
		own    resilience.Policy
		takes  time.Duration
	}{
		"its rate":  {resilience.Policy{Rate: 10, Burst: 1, MaxWait: time.Second}, resilience.Policy{Rate: 0.001, Burst: 1}, 0},
		"its slots": {resilience.Policy{Concurrency: 8, MaxWait: time.Second}, resilience.Policy{Concurrency: 1}, 200 * time.Millisecond},
		"its pause": {resilience.Policy{Rate: 10, Burst: 1, MaxWait: time.Second, Timeout: 3 * time.Second}, resilience.Policy{Breaker: closed}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := c.policy
				p.PerKey = &c.own
				g := group(t, p, &provider{})
				call := func(ctx context.Context, key string) error {
					_, err := resilience.Do(resilience.WithKey(ctx, key), g, opAsk, func(context.Context, asker) (string, error) {
						time.Sleep(c.takes)
						if key == "noisy" && name == "its pause" {
							return "", &fault.Error{Kind: fault.RateLimited, RetryAfter: time.Hour}
						}
						return "", nil
					})
					return err
				}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				_ = call(ctx, "noisy")
				time.Sleep(time.Second)
				var wg sync.WaitGroup
				for range 40 {
					wg.Go(func() {
						for ctx.Err() == nil {
							_ = call(ctx, "noisy")
							time.Sleep(10 * time.Millisecond)
						}
					})
				}
				for i := range 160 { // nine a second, each of another key
					wg.Go(func() { assert.NoError(t, call(t.Context(), string(rune('a'+i)))) })
					time.Sleep(111 * time.Millisecond)
				}
				wg.Wait()
			})
		})
	}
}

func TestAKeysRefusalTakesNoProbeOfTheProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := quiet()
		p.PerKey = &resilience.Policy{Rate: 0.001, Burst: 1}
		one := &provider{fn: answers(fault.Unavailable)}
		g := group(t, p, one)
		require.Error(t, askAs(t.Context(), g, "noisy"))
		for range 4 {
			_ = ask(t.Context(), g)
		}
		time.Sleep(30 * time.Second)
		one.fn = nil
		require.ErrorIs(t, askAs(t.Context(), g, "noisy"), resilience.ErrLimited)
		assert.Equal(t, resilience.HalfOpen, g.Inspect()[0].State)
		require.NoError(t, ask(t.Context(), g))
	})
}

func TestAKeysBudgetIsItsOwn(t *testing.T) {
	p := resilience.Default
	p.Breaker, p.Backoff = resilience.Breaker{}, resilience.Backoff{Initial: time.Nanosecond}
	p.PerKey = &resilience.Policy{RetryBudget: 0.2}
	one := &byKey{bad: "noisy", kind: fault.Unavailable}
	g := group(t, p, one)
	for range 100 {
		require.Error(t, askAs(t.Context(), g, "noisy"))
	}
	one.bad = "quiet"
	before := one.calls.Load()
	require.Error(t, askAs(t.Context(), g, "quiet"))
	assert.EqualValues(t, 3, one.calls.Load()-before)
}

func TestWhereAWaiterLeavesThoseBehindMoveUp(t *testing.T) {
	for name, stays := range map[string]bool{"and the next comes": false, "for those behind": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := group(t, resilience.Policy{Rate: 1, Burst: 1, MaxWait: time.Minute}, &provider{})
				require.NoError(t, ask(t.Context(), g)) // the burst
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				for range 9 {
					wg.Go(func() { assert.ErrorIs(t, ask(ctx, g), fault.Canceled) })
				}
				synctest.Wait()
				start := time.Now()
				if stays {
					wg.Go(func() {
						assert.NoError(t, ask(t.Context(), g))
						assert.Equal(t, time.Second, time.Since(start))
					})
				}
				time.Sleep(100 * time.Millisecond)
				cancel()
				wg.Wait()
				if !stays {
					require.NoError(t, ask(t.Context(), g))
					assert.Equal(t, time.Second, time.Since(start))
				}
			})
		})
	}
}

func TestWaitersAreServedInOrderAndTheirNumberIsBounded(t *testing.T) {
	for name, p := range map[string]resilience.Policy{
		"for the rate": {Rate: 10, Burst: 1, MaxWait: time.Minute},
		"for a slot":   {Concurrency: 1, MaxWait: time.Minute},
		"for a pause":  {MaxWait: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p.MaxWaiting = 10
				first := true
				one := &provider{fn: func(context.Context) error {
					if first && name == "for a pause" {
						first = false
						return &fault.Error{Kind: fault.RateLimited, RetryAfter: 30 * time.Second}
					}
					time.Sleep(50 * time.Millisecond)
					return nil
				}}
				g := group(t, p, one)
				go ask(context.Background(), g)
				synctest.Wait()
				var mu sync.Mutex
				var order []int
				refused := 0
				var wg sync.WaitGroup
				for i := range 20 {
					wg.Go(func() {
						err := ask(context.Background(), g)
						mu.Lock()
						defer mu.Unlock()
						if err != nil {
							refused++
							return
						}
						order = append(order, i)
					})
					synctest.Wait()
				}
				wg.Wait()
				assert.Equal(t, 10, refused)
				if name != "for a pause" { // those come back spread
					assert.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, order)
				}
			})
		})
	}
}

func TestAHedgeThatIsNotMadeGivesTheKeysTokenBackToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := hedgedPolicy()
		p.RetryBudget, p.MaxWait = 1e-6, 0
		p.PerKey = &resilience.Policy{Rate: 1e-6, Burst: 100}
		one := &provider{fn: steady(10 * time.Second)}
		p.Timeout, p.Breaker, p.Total = 20*time.Second, resilience.Breaker{}, 0
		g := group(t, p, one)
		answered := 0
		for range 200 { // ten hedges are paid for by the reserve
			if _, err := resilience.Call(resilience.WithKey(t.Context(), "k"), g, opRead, asker.Ask, "q"); err == nil {
				answered++
			}
		}
		assert.Equal(t, 90, answered, "the others take nothing of the key's hundred")
	})
}
