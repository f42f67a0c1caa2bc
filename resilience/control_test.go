package resilience_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

func (n nested) Control() *resilience.Control { return n.Group.Control }

func TestAForcedModeRulesOverTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &provider{}, &provider{}
		p := resilience.Default
		p.Retries = 0
		g := group(t, p, nested{group(t, p, one)}, two)
		require.NoError(t, g.Switch("p0/p0", resilience.ForcedOpen))
		require.NoError(t, ask(t.Context(), g))
		assert.Zero(t, one.calls.Load())
		assert.Equal(t, resilience.ForcedOpen, g.Inspect()[0].Mode)

		require.NoError(t, g.Switch("p0/p0", resilience.ForcedClosed))
		one.fn = answers(fault.Unavailable)
		for range 20 {
			require.NoError(t, ask(t.Context(), g), "the backup answers")
		}
		assert.EqualValues(t, 20, one.calls.Load(), "nothing is counted")

		require.NoError(t, g.Switch("p0/p0", resilience.Automatic))
		for range 20 {
			require.NoError(t, ask(t.Context(), g))
		}
		assert.EqualValues(t, 25, one.calls.Load())
		assert.ErrorContains(t, g.Switch("p0/p9", resilience.Automatic), `no provider "p0/p9"`)
		assert.ErrorContains(t, g.Switch("p1", resilience.Mode(9)), "no mode 9")
	})
}

func TestDrainWaitsForTheLastAttemptAndTakesNoNewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &provider{fn: func(context.Context) error { time.Sleep(2 * time.Second); return nil }}, &provider{}
		g := group(t, resilience.Default, one, two)
		go func() { assert.NoError(t, ask(t.Context(), g)) }()
		synctest.Wait()

		hurried, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.ErrorContains(t, g.Drain(hurried, "p0"), `1 attempts at "p0" are still running`)
		require.NoError(t, ask(t.Context(), g))
		assert.EqualValues(t, 1, two.calls.Load())

		start := time.Now()
		require.NoError(t, g.Drain(t.Context(), "p0"))
		assert.Equal(t, time.Second, time.Since(start))
		require.NoError(t, g.Drain(t.Context(), "p0"), "idle already")

		require.NoError(t, ask(resilience.Pin(t.Context(), "p0"), g), "a second step still reaches it")
		require.NoError(t, g.Drain(t.Context(), "p1"))
		err := ask(t.Context(), g)
		assert.ErrorIs(t, err, resilience.ErrDrained)
		assert.ErrorIs(t, err, fault.Unavailable)

		require.NoError(t, g.Switch("p0", resilience.Automatic))
		require.NoError(t, ask(t.Context(), g))
		assert.EqualValues(t, 3, one.calls.Load())
	})
}

func TestAWarnedBreakerOpensAfterHalfAsManyFailures(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*resilience.Policy)
		want   int64
	}{
		"in a row": {func(*resilience.Policy) {}, 3},
		"by ratio": {func(p *resilience.Policy) { p.Breaker.InARow = 0 }, 5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := resilience.Default
				p.Retries = 0
				c.change(&p)
				one := &provider{fn: answers(fault.Unavailable)}
				g := group(t, p, nested{group(t, p, one)})
				g.Warn("p0/p0", time.Minute)
				g.Warn("nobody", time.Minute)
				for range 20 {
					_ = ask(t.Context(), g)
				}
				assert.Equal(t, c.want, one.calls.Load())
			})
		})
	}
}

func TestWhatIsColdDoesNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Retries, p.Breaker.WarmUp = 0, time.Minute
		one := &provider{fn: answers(fault.Unavailable)}
		g := group(t, p, one)
		for range 20 {
			_ = ask(t.Context(), g)
		}
		assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
		time.Sleep(time.Minute)
		_ = ask(t.Context(), g)
		assert.Equal(t, resilience.Open, g.Inspect()[0].State)
	})
}

// restarted is the state of one Group, through JSON, in another.
func restarted(t *testing.T, from, to *resilience.Group[asker]) {
	t.Helper()
	data, err := json.Marshal(from.Snapshot())
	require.NoError(t, err)
	var all []resilience.Snapshot
	require.NoError(t, json.Unmarshal(data, &all))
	to.Restore(all)
}

func broken(t *testing.T, p resilience.Policy) (*resilience.Group[asker], *provider) {
	t.Helper()
	p.Retries = 0
	one := &provider{fn: answers(fault.Unavailable)}
	g := group(t, p, one)
	for range 5 {
		require.Error(t, ask(t.Context(), g))
	}
	require.Equal(t, resilience.Open, g.Inspect()[0].State)
	return g, one
}

func TestASnapshotKeepsABreakerOpenOverARestart(t *testing.T) {
	for name, c := range map[string]struct {
		after time.Duration
		state resilience.State
		calls int64
	}{
		"open for the rest of its time":       {10 * time.Second, resilience.Open, 0},
		"half-open where its time has passed": {40 * time.Second, resilience.HalfOpen, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				old, _ := broken(t, resilience.Default)
				left := old.Inspect()[0].OpenFor
				time.Sleep(c.after)
				one := &provider{fn: answers(fault.Unavailable)}
				g := group(t, resilience.Default, one)
				restarted(t, old, g)
				time.Sleep(time.Microsecond)
				s := g.Inspect()[0]
				assert.Equal(t, c.state, s.State)
				assert.InDelta(t, max(left-c.after, 0), s.OpenFor, float64(time.Millisecond))
				assert.Error(t, ask(t.Context(), g))
				assert.Error(t, ask(t.Context(), g))
				assert.Equal(t, c.calls, one.calls.Load(), "one probe at most")
				assert.Equal(t, resilience.Open, g.Inspect()[0].State)

				one.fn = nil
				time.Sleep(34 * time.Second)
				require.NoError(t, ask(t.Context(), g))
				assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
				assert.Empty(t, g.Snapshot(), "nothing to tell")
			})
		})
	}
}

func TestASnapshotKeepsPausesAndModesOfNestedProvidersToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limited := &provider{fn: func(context.Context) error { return &fault.Error{Kind: fault.RateLimited, RetryAfter: time.Minute} }}
		fresh := func() *resilience.Group[asker] {
			return group(t, resilience.Default, nested{group(t, resilience.Default, limited, &provider{})}, &provider{})
		}
		old := fresh()
		require.NoError(t, ask(t.Context(), old))
		require.NoError(t, old.Switch("p1", resilience.ForcedOpen))
		g := fresh()
		restarted(t, old, g)
		g.Restore([]resilience.Snapshot{{Name: "gone"}, {Name: "p0/p1", Mode: 77}})
		all := g.Inspect()
		assert.InDelta(t, 63*time.Second, all[0].PausedFor, float64(3*time.Second))
		assert.Equal(t, resilience.Automatic, all[1].Mode)
		assert.Equal(t, resilience.ForcedOpen, all[2].Mode)
	})
}

func TestARestoredBreakerIsNeverOpenForLongerThanItsPolicySays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, resilience.Default, &provider{})
		g.Restore([]resilience.Snapshot{{Name: "p0", OpenUntil: time.Now().Add(24 * time.Hour), PausedUntil: time.Now().Add(24 * time.Hour)}})
		s := g.Inspect()[0]
		assert.Equal(t, 33*time.Second, s.OpenFor)
		assert.Equal(t, fault.MaxRetryAfter*11/10, s.PausedFor)
	})
}

func TestAPolicyChangedAtRunTimeKeepsTheState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, one := broken(t, resilience.Default)
		left := g.Inspect()[0].OpenFor
		time.Sleep(time.Second)
		p := resilience.Default
		p.Retries, p.Breaker.InARow, p.Breaker.OpenFor, p.Concurrency = 0, 2, 5*time.Second, 3
		require.NoError(t, g.SetPolicy(p))
		s := g.Inspect()[0]
		assert.Equal(t, resilience.Open, s.State)
		assert.Equal(t, left-time.Second, s.OpenFor, "as it would have been")
		assert.Equal(t, 3, s.Limit)
		assert.ErrorIs(t, ask(t.Context(), g), resilience.ErrOpen)

		time.Sleep(s.OpenFor)
		one.fn = nil
		require.NoError(t, ask(t.Context(), g))
		assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
		one.fn = answers(fault.Unavailable)
		for range 2 {
			_ = ask(t.Context(), g)
		}
		assert.Equal(t, resilience.Open, g.Inspect()[0].State, "by the new rules")
		assert.LessOrEqual(t, g.Inspect()[0].OpenFor, 5500*time.Millisecond)

		p.Retries = -1
		assert.ErrorContains(t, g.SetPolicy(p), "Retries")
	})
}

func TestAttemptsUnderWayWhenThePolicyChangesLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Concurrency, p.Retries = 1, 0
		release := make(chan struct{})
		one := &provider{fn: func(context.Context) error { <-release; return nil }}
		g := group(t, p, one)
		go func() { assert.NoError(t, ask(t.Context(), g)) }()
		synctest.Wait()
		p.Concurrency, p.MaxWait = 2, 0
		require.NoError(t, g.SetPolicy(p))
		go func() { assert.NoError(t, ask(t.Context(), g)) }()
		synctest.Wait()
		assert.ErrorIs(t, ask(t.Context(), g), resilience.ErrFull, "two run, one of them from before")
		close(release)
		synctest.Wait()
		assert.Zero(t, g.Inspect()[0].InFlight)
		require.NoError(t, ask(t.Context(), g))
	})
}
