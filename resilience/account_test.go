package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

func TestAFaultOfOneAccountCountsForItsKeyAndForNobodyWhereThereIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := quiet()
		p.PerKey = &resilience.Policy{Breaker: p.Breaker}
		g := group(t, p, &provider{})
		revoked := &fault.Error{Kind: fault.Denied, Account: true}
		for range 20 {
			require.ErrorIs(t, as(t.Context(), g, opAsk, revoked), fault.Denied)
		}
		assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
		user := func(n int) context.Context { return resilience.WithKey(t.Context(), fmt.Sprint(n)) }
		for range 5 {
			require.ErrorIs(t, as(user(7), g, opAsk, revoked), fault.Denied)
		}
		require.ErrorIs(t, as(user(7), g, opAsk, nil), resilience.ErrOpen)
		for n := range 7 {
			require.NoError(t, as(user(n), g, opAsk, nil))
		}
		limited := &fault.Error{Kind: fault.RateLimited, RetryAfter: time.Minute, Account: true}
		require.Error(t, as(t.Context(), g, opAsk, limited))
		require.NoError(t, as(t.Context(), g, opAsk, nil), "nobody is paused")
		require.Error(t, as(user(3), g, opAsk, limited))
		require.ErrorIs(t, as(user(3), g, opAsk, nil), resilience.ErrPaused)
		require.NoError(t, as(user(4), g, opAsk, nil))
	})
}

// What Decide says holds for the call, for Explain, for a hedge and for the order
// in which the kinds of a failed call stand.
func TestAnOperationMayForbidAndOnItsOptInAllowBeyondTheTable(t *testing.T) {
	forbid := func(_ *fault.Error, v fault.Verdict) fault.Verdict { v.Failover = false; return v }
	allow := func(_ *fault.Error, v fault.Verdict) fault.Verdict { v.Failover = true; return v }
	for name, c := range map[string]struct {
		op     resilience.Op
		answer fault.Kind
		backup int64
	}{
		"the table":              {resilience.Op{Name: "x"}, fault.Denied, 1},
		"forbids":                {resilience.Op{Name: "x", Decide: forbid}, fault.Denied, 0},
		"allows":                 {resilience.Op{Name: "x", Decide: allow}, fault.Rejected, 1},
		"allows what may act":    {resilience.Op{Name: "x", Decide: allow}, fault.Uncertain, 1},
		"forbids what may repet": {resilience.Op{Name: "x", Safety: fault.Read, Decide: forbid}, fault.Uncertain, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				one, two := &provider{fn: answers(c.answer)}, &provider{fn: answers(fault.Invalid)}
				p := quiet()
				_, err := resilience.Call(t.Context(), group(t, p, one, two), c.op, asker.Ask, "q")
				require.Error(t, err)
				assert.NotEqual(t, fault.Unknown, fault.KindOf(err))
				assert.Equal(t, c.backup, two.calls.Load())
				assert.Equal(t, c.backup > 0, resilience.Explain(p, c.op, fault.New(c.answer, nil)).Failover)
			})
		})
	}
	t.Run("a hedge", func(t *testing.T) {
		for name, c := range map[string]struct {
			decide func(*fault.Error, fault.Verdict) fault.Verdict
			want   [2]int64
		}{
			"as the table":   {nil, [2]int64{1, 1}},
			"stays":          {forbid, [2]int64{2, 0}},
			"is not allowed": {func(*fault.Error, fault.Verdict) fault.Verdict { return fault.Verdict{} }, [2]int64{1, 0}},
		} {
			synctest.Test(t, func(t *testing.T) {
				one, two := &provider{fn: steady(time.Second)}, &provider{fn: steady(time.Second)}
				op := resilience.Op{Name: "x", Safety: fault.Read, Decide: c.decide}
				_, err := resilience.Call(t.Context(), group(t, hedgedPolicy(), one, two), op, asker.Ask, "q")
				require.NoError(t, err)
				assert.Equal(t, c.want, [2]int64{one.calls.Load(), two.calls.Load()}, name)
			})
		}
	})
}

func TestACallTakesItsCostAndSettlesWhatItSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Policy{Rate: 10, Burst: 100, PerKey: &resilience.Policy{Rate: 10, Burst: 100}}
		g := group(t, p, &provider{})
		spend := func(cost, spent int) error {
			ctx := resilience.WithKey(resilience.WithCost(t.Context(), cost), "k")
			_, err := resilience.Do(ctx, g, opAsk, func(ctx context.Context, _ asker) (string, error) {
				if spent >= 0 {
					resilience.Spent(ctx, spent-1)
					resilience.Spent(ctx, spent)
				}
				return "", nil
			})
			return err
		}
		require.NoError(t, spend(60, 10), "fifty are given back")
		require.NoError(t, spend(60, 90))
		require.ErrorIs(t, spend(1, 1), resilience.ErrLimited)
		time.Sleep(time.Second)
		require.NoError(t, spend(10, 110), "it owes a hundred")
		time.Sleep(10 * time.Second)
		require.ErrorIs(t, spend(1, -1), resilience.ErrLimited)
		time.Sleep(time.Second)
		require.NoError(t, spend(10, -1))
		err := spend(101, 0)
		require.ErrorIs(t, err, fault.Unsupported)
		require.ErrorContains(t, err, "a cost of 101 is more than the rate limit's Burst (100)")
		resilience.Spent(t.Context(), 5)
	})
}

// costs is a Limiter from elsewhere.
type costs struct{ took, settled []int }

func (c *costs) Take(context.Context, string) (time.Duration, error) {
	c.took = append(c.took, 1)
	return 0, nil
}

func (c *costs) TakeN(_ context.Context, _ string, n int) (time.Duration, error) {
	if n > 50 {
		return 0, fault.New(fault.Unsupported, errors.New("too much"))
	}
	c.took = append(c.took, n)
	return 0, nil
}

func (c *costs) Settle(_ context.Context, _ string, n int) error {
	c.settled = append(c.settled, n)
	return nil
}

func TestALimiterFromElsewhereIsToldTheCost(t *testing.T) {
	l := &costs{}
	p := quiet()
	p.Limiter = l
	g := group(t, p, &provider{fn: func(ctx context.Context) error { resilience.Spent(ctx, 12); return nil }}, &provider{})
	require.NoError(t, ask(t.Context(), g))
	require.NoError(t, ask(resilience.WithCost(t.Context(), 20), g))
	require.ErrorIs(t, ask(resilience.WithCost(t.Context(), 60), g), fault.Unsupported)
	assert.Equal(t, []int{1, 20}, l.took, "a refusal takes nothing")
	assert.Equal(t, []int{11, -8}, l.settled)
}

// A stream that shows life and no item, and one that shows neither.
func TestSilenceIsBetweenSignsOfLifeAndAStallBetweenItems(t *testing.T) {
	alive := func(ctx context.Context, d time.Duration) bool {
		for range int(d / time.Second) {
			if steady(time.Second)(ctx) != nil {
				return false
			}
			fault.Alive(ctx)
		}
		return true
	}
	for name, c := range map[string]struct {
		before, between time.Duration // with signs of life
		silent          bool
		items           int
		took            time.Duration
	}{
		"alive until the first item":     {before: 20 * time.Second, items: 2, took: 20 * time.Second},
		"silent before the first item":   {silent: true, took: 3 * time.Second},
		"no first item in time":          {before: 40 * time.Second, took: 30 * time.Second},
		"alive between items":            {between: 8 * time.Second, items: 2, took: 8 * time.Second},
		"stalled between items":          {between: 20 * time.Second, items: 1, took: 10 * time.Second},
		"the consumer's time is its own": {items: 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := quiet()
				p.Timeout, p.Total, p.Silence, p.Stall, p.Breaker = 30*time.Second, 0, 3*time.Second, 10*time.Second, resilience.Breaker{}
				g := group(t, p, &provider{})
				start, held, n := time.Now(), time.Duration(0), 0
				for _, err := range resilience.Stream(t.Context(), g, opPut, func(_ asker, ctx context.Context, _ string) iter.Seq2[int, error] {
					return func(yield func(int, error) bool) {
						if c.silent {
							<-ctx.Done()
						}
						if !alive(ctx, c.before) || ctx.Err() != nil {
							yield(0, ctx.Err())
							return
						}
						if !yield(1, nil) || !alive(ctx, c.between) || !yield(2, nil) {
							return
						}
					}
				}, "q") {
					if err != nil {
						assert.ErrorIs(t, err, resilience.ErrTimeout)
						break
					}
					n++
					if name == "the consumer's time is its own" {
						time.Sleep(time.Hour)
						held += time.Hour
					}
				}
				assert.Equal(t, c.items, n)
				assert.Equal(t, c.took, time.Since(start)-held)
			})
		})
	}
}
