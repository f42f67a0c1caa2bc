package resilience_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// three providers under a route, and how often each was asked.
func three(t *testing.T, change func(*resilience.Policy)) (*resilience.Group[asker], func() [3]int64, [3]*provider) {
	t.Helper()
	p := resilience.Default
	p.Retries, p.Breaker = 0, resilience.Breaker{}
	change(&p)
	all := [3]*provider{{}, {}, {}}
	g := group(t, p, all[0], all[1], all[2])
	return g, func() [3]int64 { return [3]int64{all[0].calls.Load(), all[1].calls.Load(), all[2].calls.Load()} }, all
}

func TestRoundRobinBeginsEachCallWithTheNext(t *testing.T) {
	g, calls, all := three(t, func(p *resilience.Policy) { p.Route = resilience.RoundRobin })
	for range 9 {
		require.NoError(t, ask(t.Context(), g))
	}
	assert.Equal(t, [3]int64{3, 3, 3}, calls())
	all[1].fn = answers(fault.Unavailable)
	for range 9 {
		require.NoError(t, ask(t.Context(), g))
	}
	assert.Equal(t, [3]int64{6, 6, 9}, calls(), "the next one stands in")
}

func TestWeightsSendACanaryItsShare(t *testing.T) {
	g, calls, _ := three(t, func(p *resilience.Policy) {
		p.Route, p.Weights = resilience.Weighted, map[string]int{"p0": 90, "p2": 10}
	})
	for range 10_000 {
		require.NoError(t, ask(t.Context(), g))
	}
	got := calls()
	assert.InDelta(t, 9000, got[0], 200)
	assert.Zero(t, got[1], "without a weight it is a backup alone")
	assert.InDelta(t, 1000, got[2], 200)

	require.NoError(t, g.Switch("p0", resilience.ForcedOpen))
	for range 100 {
		require.NoError(t, ask(t.Context(), g))
	}
	assert.Equal(t, got[2]+100, calls()[2], "the weights of those that can take calls")
	require.NoError(t, g.Switch("p2", resilience.ForcedOpen))
	require.NoError(t, ask(t.Context(), g))
	assert.EqualValues(t, 1, calls()[1])
}

func TestAFailedCanaryFailsOverInOrder(t *testing.T) {
	g, calls, all := three(t, func(p *resilience.Policy) { p.Route, p.Weights = resilience.Weighted, map[string]int{"p1": 1} })
	all[1].fn, all[0].fn = answers(fault.Unavailable), answers(fault.Unavailable)
	require.NoError(t, ask(t.Context(), g))
	assert.Equal(t, [3]int64{1, 1, 1}, calls())
	all[1].fn = answers(fault.Invalid)
	require.ErrorIs(t, ask(t.Context(), g), fault.Invalid)
	assert.Equal(t, [3]int64{1, 2, 1}, calls(), "the rules of faults are the same")
}

func TestAKeySticksToItsProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, calls, all := three(t, func(p *resilience.Policy) { p.Route = resilience.Sticky })
		home := map[string]int{}
		for i := range 300 {
			key := fmt.Sprintf("user-%d", i)
			before := calls()
			for range 3 {
				require.NoError(t, ask(resilience.WithKey(t.Context(), key), g))
			}
			for n, after := range calls() {
				if d := after - before[n]; d == 3 {
					home[key] = n
				} else {
					require.Zero(t, d, "all three to the same one")
				}
			}
		}
		for n, c := range calls() {
			assert.InDelta(t, 300, c, 90, "provider %d has its third", n)
		}

		require.NoError(t, g.Switch("p1", resilience.ForcedOpen))
		before, spread := calls(), [3]int64{}
		for key, n := range home {
			require.NoError(t, ask(resilience.WithKey(t.Context(), key), g))
			if n != 1 {
				before[n]++
			}
		}
		for n, after := range calls() {
			spread[n] = after - before[n]
		}
		assert.Zero(t, spread[1])
		assert.InDelta(t, spread[0], spread[2], 40, "the lost one's keys spread over the others; theirs stay")

		all[0].fn, all[1].fn, all[2].fn = nil, nil, nil
		before = calls()
		require.NoError(t, ask(t.Context(), g))
		assert.Equal(t, before[0]+1, calls()[0], "without a key, in order")
	})
}

func TestARouteThatCannotBeIsRefused(t *testing.T) {
	for why, change := range map[string]func(*resilience.Policy){
		"no member has a weight":     func(p *resilience.Policy) { p.Route = resilience.Weighted },
		`"nobody", which is no memb`: func(p *resilience.Policy) { p.Weights = map[string]int{"nobody": 1} },
		`weight of "p0" is negative`: func(p *resilience.Policy) { p.Weights = map[string]int{"p0": -1} },
		"no such Route":              func(p *resilience.Policy) { p.Route = 9 },
	} {
		p := resilience.Default
		change(&p)
		_, err := resilience.New(p, []resilience.Member[asker]{{Name: "p0", Provider: &provider{}}})
		assert.ErrorContains(t, err, why)
	}
}
