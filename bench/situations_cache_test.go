package bench

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/cachepolicy"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/maypok86/otter/v2"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/cache"
)

// tenCallers ask for one key at once; the first of them cancels.
func tenCallers(t *testing.T, call func(context.Context, func(context.Context) (*answer, error)) error) string {
	var asked atomic.Int64
	well := make(chan bool, 10)
	fn := func(ctx context.Context) (*answer, error) {
		asked.Add(1)
		select {
		case <-time.After(time.Second):
			return ok, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	first, cancel := context.WithCancel(t.Context())
	time.AfterFunc(500*time.Millisecond, cancel)
	for i := range 10 {
		ctx := t.Context()
		if i == 0 {
			ctx = first
		}
		go func() { well <- call(ctx, fn) == nil }()
		time.Sleep(time.Millisecond)
	}
	n := 0
	for range 10 {
		if <-well {
			n++
		}
	}
	return fmt.Sprintf("%d are answered; asked upstream %d×", n, asked.Load())
}

func mustOtter(t *testing.T, ttl time.Duration) *otter.Cache[string, *answer] {
	c, err := otter.New(&otter.Options[string, *answer]{MaximumSize: entries, ExpiryCalculator: otter.ExpiryWriting[string, *answer](ttl)})
	require.NoError(t, err)
	t.Cleanup(func() { c.StopAllGoroutines() })
	return c
}

func mustCache(t *testing.T, ttl time.Duration) *cache.Cache[*answer] {
	stale := time.Hour
	if ttl == math.MaxInt64 { // what lives for ever is never stale
		stale = 0
	}
	c, err := cache.New(cache.Config[*answer]{TTL: ttl, Stale: stale})
	require.NoError(t, err)
	return c
}

func failsafeCached(t *testing.T, ttl time.Duration) func(context.Context, func(context.Context) (*answer, error)) error {
	e := failsafe.With(failsafe.Policy[*answer](cachepolicy.New[*answer](otterStore{mustOtter(t, ttl)})))
	return func(ctx context.Context, fn func(context.Context) (*answer, error)) error {
		_, err := e.WithContext(cachepolicy.ContextWithCacheKey(ctx, "k")).GetWithExecution(func(x failsafe.Execution[*answer]) (*answer, error) {
			return fn(x.Context())
		})
		return err
	}
}

// failsOnce is a function whose first answer is an error, and whether the error
// was kept.
func failsOnce(t *testing.T, call func(context.Context, func(context.Context) (*answer, error)) error) string {
	n := 0
	fn := func(context.Context) (*answer, error) {
		if n++; n == 1 {
			return nil, errDown
		}
		return ok, nil
	}
	require.Error(t, call(t.Context(), fn))
	require.NoError(t, call(t.Context(), fn))
	return "the error isn't kept"
}

func goesDown(t *testing.T, call func(context.Context, func(context.Context) (*answer, error)) error) string {
	require.NoError(t, call(t.Context(), func(context.Context) (*answer, error) { return ok, nil }))
	time.Sleep(2 * ttl)
	if call(t.Context(), func(context.Context) (*answer, error) { return nil, errDown }) == nil {
		return "the old answer, marked as stale"
	}
	return "the error"
}

type cachedCall = func(context.Context, func(context.Context) (*answer, error)) error

func caching(ttl time.Duration, look func(*testing.T, cachedCall) string) situation {
	return situation{
		ours: func(t *testing.T) string {
			c := mustCache(t, ttl)
			return look(t, func(ctx context.Context, fn func(context.Context) (*answer, error)) error {
				_, err := c.Do(ctx, op, "k", fn)
				return err
			})
		},
		failsafe: func(t *testing.T) string { return look(t, failsafeCached(t, ttl)) },
		others: []named{{"otter", func(t *testing.T) string {
			c := mustOtter(t, ttl)
			return look(t, func(ctx context.Context, fn func(context.Context) (*answer, error)) error {
				_, err := c.Get(ctx, "k", otter.LoaderFunc[string, *answer](func(ctx context.Context, _ string) (*answer, error) { return fn(ctx) }))
				return err
			})
		}}},
	}
}

// leftBehind is what the context of an attempt says after the call.
func leftBehind(t *testing.T, call protected) string {
	var left context.Context
	require.NoError(t, call(t.Context(), providerFunc(func(ctx context.Context, _ *query) (*answer, error) { left = ctx; return ok, nil }))) //nolint:fatcontext // to look at it afterwards
	if left.Err() == nil {
		return "goes on"
	}
	return "has ended"
}

// stampede lets 1,000 callers ask for a key that nobody has asked for before.
func stampede(t *testing.T, call cachedCall) string {
	var asked atomic.Int64
	n := atOnce(1000, func() error {
		return call(t.Context(), func(context.Context) (*answer, error) { asked.Add(1); time.Sleep(time.Second); return ok, nil })
	})
	return fmt.Sprintf("%d are answered; asked upstream %d×", n, asked.Load())
}

// every lets a reader come ten times.
func every(pause time.Duration) func(*testing.T, cachedCall) string {
	return func(t *testing.T, call cachedCall) string {
		asked := 0
		times(10, func() error {
			defer time.Sleep(pause)
			return call(t.Context(), func(context.Context) (*answer, error) { asked++; return ok, nil })
		})
		return fmt.Sprintf("asked upstream %d×", asked)
	}
}

var otherSituations = []situation{
	caching(ttl, stampede).called("1,000 callers ask at once for a key that is in no cache"),
	caching(50*time.Millisecond, every(20*time.Millisecond)).called("an answer lives for 50 ms, and is read each 20 ms, ten times (otter#115)"),
	caching(math.MaxInt64, every(24*time.Hour)).called("an answer lives for the longest duration there is, and is read each day, ten times (caffeine#217)"),
	caching(ttl, tenCallers).called("ten callers ask for one key, and the first of them cancels (janos/singleflight#4)"),
	caching(ttl, failsOnce).called("the first answer of a cached read is an error"),
	caching(ttl, goesDown).called("a cached answer is past its time, and the provider is down"),
	{
		when: "the budget for hedges is used up, and the first attempt is still on its way (failsafe-go#141)",
		ours: func(t *testing.T) string {
			p := counting(takes(2*time.Second, nil))
			g := ours(t, func(p *resilience.Policy) { p.Hedge.After = time.Second }, p)
			n := times(50, func() error { return oursAsk(t.Context(), g, &query{}) })
			return fmt.Sprintf("all %d calls are answered", n)
		},
		failsafe: func(t *testing.T) string {
			h := hedgepolicy.NewBuilderWithDelay[*answer](time.Second).WithMaxHedges(2).WithBudget(budget.NewBuilder().WithMinConcurrency(1).Build()).Build()
			call := failsafeWith(h)
			n := times(50, func() error { return call(t.Context(), takes(2*time.Second, nil)) })
			time.Sleep(time.Minute) // for the goroutines of the hedges
			return fmt.Sprintf("all %d calls are answered", n)
		},
	},
	{
		when: "an attempt went well: its context (failsafe-go#134)",
		ours: func(t *testing.T) string {
			return leftBehind(t, func(ctx context.Context, p provider) error { return oursAsk(ctx, ours(t, nil, p), &query{}) })
		},
		failsafe: func(t *testing.T) string { return leftBehind(t, failsafeWith(timeout.New[*answer](attemptLimit))) },
	},
}
