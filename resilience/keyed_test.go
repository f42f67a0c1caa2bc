package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// byKey fails for one key alone.
type byKey struct {
	provider
	bad  string
	kind fault.Kind
}

func (b *byKey) Ask(ctx context.Context, key string) (string, error) {
	_, _ = b.provider.Ask(ctx, key)
	if key == b.bad {
		return "", fault.New(b.kind, nil)
	}
	return "ok", nil
}

func askAs(ctx context.Context, g *resilience.Group[asker], key string) error {
	_, err := resilience.Call(resilience.WithKey(ctx, key), g, opAsk, asker.Ask, key)
	return err
}

func perKey(own resilience.Policy) resilience.Policy {
	p := resilience.Default
	p.Retries, p.Breaker = 0, resilience.Breaker{}
	p.PerKey = &own
	return p
}

func TestABreakerOfAKeyOpensForThatKeyAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := resilience.Policy{Breaker: resilience.Default.Breaker}
		one := &byKey{bad: "host-1", kind: fault.Unavailable}
		o := &keyTape{}
		g := observed(t, perKey(own), o, one)
		for range 20 {
			require.Error(t, askAs(t.Context(), g, "host-1"))
			require.NoError(t, askAs(t.Context(), g, "host-2"))
		}
		assert.EqualValues(t, 25, one.calls.Load())
		assert.ErrorIs(t, askAs(t.Context(), g, "host-1"), resilience.ErrOpen)
		assert.Equal(t, []string{"host-1 closed → open"}, o.seen)
		assert.Equal(t, resilience.Closed, g.Inspect()[0].State, "the provider itself is well")
		require.NoError(t, ask(t.Context(), g), "without a key there is the provider's own alone")

		time.Sleep(34 * time.Second)
		one.bad = ""
		require.NoError(t, askAs(t.Context(), g, "host-1"))
		assert.Equal(t, []string{"host-1 closed → open", "host-1 open → half-open", "host-1 half-open → closed"}, o.seen)
	})
}

type keyTape struct{ seen []string }

func (k *keyTape) Observe(_ context.Context, e resilience.Event) {
	if e.Type == resilience.StateChanged {
		k.seen = append(k.seen, fmt.Sprintf("%s %s → %s", e.Key, e.From, e.To))
	}
}

func TestLimitsOfAKeyHoldForThatKeyAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := resilience.Policy{Rate: 1, Burst: 3}
		p := perKey(own)
		p.MaxWait = 0
		one := &byKey{}
		g := group(t, p, one)
		for _, tenant := range []string{"a", "b"} {
			ctx := resilience.WithTenant(t.Context(), tenant) // which is the key where there is none
			assert.Equal(t, tenant, resilience.Tenant(ctx))
			for range 3 {
				require.NoError(t, ask(ctx, g))
			}
			require.ErrorIs(t, ask(ctx, g), resilience.ErrLimited)
		}
		assert.Zero(t, g.Inspect()[0].InFlight, "what the key refuses, the provider gets back")
	})
}

func TestWhatAKeyRefusesDoesNotDrainTheProvidersRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := perKey(resilience.Policy{Rate: 1e-6, Burst: 1})
		p.Rate, p.Burst, p.MaxWait = 1e-6, 10, 0
		g := group(t, p, &byKey{})
		require.NoError(t, askAs(t.Context(), g, "a"))
		for range 50 {
			require.ErrorIs(t, askAs(t.Context(), g, "a"), resilience.ErrLimited)
		}
		for i := range 9 {
			require.NoError(t, askAs(t.Context(), g, fmt.Sprint(i)))
		}
		require.ErrorIs(t, askAs(t.Context(), g, "z"), resilience.ErrLimited)
	})
}

func TestARateLimitedKeyIsPausedAndTheOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &byKey{bad: "a", kind: fault.RateLimited}, &byKey{}
		g := group(t, perKey(resilience.Policy{Rate: 1000, Burst: 1000}), one, two)
		for range 3 {
			require.NoError(t, askAs(t.Context(), g, "a"))
			require.NoError(t, askAs(t.Context(), g, "b"))
		}
		assert.EqualValues(t, 1+3, one.calls.Load())
		assert.EqualValues(t, 3, two.calls.Load())
		assert.Zero(t, g.Inspect()[0].PausedFor)
	})
}

func TestKeysAreBoundedAndTheLeastRecentlyUsedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := perKey(resilience.Policy{Rate: 1e-6, Burst: 1})
		p.MaxKeys, p.MaxWait = 100, 0
		g := group(t, p, &byKey{})
		for i := range 1000 {
			require.NoError(t, askAs(t.Context(), g, fmt.Sprint(i)))
		}
		require.ErrorIs(t, askAs(t.Context(), g, "999"), resilience.ErrLimited)
		require.NoError(t, askAs(t.Context(), g, "0"), "forgotten")
	})
}

func TestManyKeysAtOnceLoseNothing(t *testing.T) {
	p := perKey(resilience.Policy{Concurrency: 2, Breaker: resilience.Default.Breaker})
	p.MaxKeys, p.Concurrency, p.MaxWait = 50, 64, time.Minute
	g := group(t, p, &byKey{bad: "7", kind: fault.Unavailable})
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			for i := range 500 {
				_ = askAs(t.Context(), g, fmt.Sprint((n*i)%80))
			}
		})
	}
	wg.Wait()
	assert.Zero(t, g.Inspect()[0].InFlight)
}

// elsewhere is a Limiter.
type elsewhere struct {
	waits []time.Duration
	err   error
	asked int
}

func (e *elsewhere) Take(context.Context, string) (time.Duration, error) {
	e.asked++
	if len(e.waits) == 0 {
		return 0, e.err
	}
	w := e.waits[0]
	e.waits = e.waits[1:]
	return w, nil
}

func TestALimiterFromElsewhereIsAskedInThePlaceOfTheRate(t *testing.T) {
	const second = time.Second
	for name, c := range map[string]struct {
		limiter elsewhere
		took    time.Duration
		want    error
	}{
		"granted":                  {elsewhere{}, 0, nil},
		"granted after a wait":     {elsewhere{waits: []time.Duration{second / 2}}, second / 2, nil},
		"refused again after it":   {elsewhere{waits: []time.Duration{second / 2, second / 4}}, second * 3 / 4, nil},
		"for longer than MaxWait":  {elsewhere{waits: []time.Duration{2 * second}}, 0, resilience.ErrLimited},
		"it can't say":             {elsewhere{err: errors.New("down")}, 0, resilience.ErrLimited},
		"in all more than MaxWait": {elsewhere{waits: []time.Duration{second / 2, second}}, second / 2, resilience.ErrLimited},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := resilience.Default
				p.Limiter = &c.limiter
				g := group(t, p, &provider{})
				start := time.Now()
				err := ask(t.Context(), g)
				if c.want == nil {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, c.want)
				}
				assert.Equal(t, c.took, time.Since(start))
				assert.Zero(t, g.Inspect()[0].Failures)
			})
		})
	}
	p := resilience.Default
	p.Limiter, p.Rate, p.Burst = &elsewhere{}, 1, 1
	assert.ErrorContains(t, p.Validate(), "both Limiter and Rate")
}
