package resilience_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

var opRead = resilience.Op{Name: "test.read", Safety: fault.Read}

// named answers its own name after a while, unless its context ends.
type named struct {
	provider
	name string
	took func(call int64) time.Duration
	err  error
}

func (n *named) Ask(ctx context.Context, _ string) (string, error) {
	call := n.calls.Add(1)
	select {
	case <-time.After(n.took(call)):
		return n.name, n.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func takes(all ...time.Duration) func(int64) time.Duration {
	return func(call int64) time.Duration { return all[min(int(call), len(all))-1] }
}

func hedgedPolicy() resilience.Policy {
	p := resilience.Default
	p.Retries, p.Hedge.After = 0, 100*time.Millisecond
	return p
}

func TestASlowReadIsAskedASecondTimeAndTheFirstAnswerWins(t *testing.T) {
	const slow, quick = 2 * time.Second, 10 * time.Millisecond
	for name, c := range map[string]struct {
		first, second func(int64) time.Duration // of p0 and p1; nil: there is no p1
		answer        string
		after         time.Duration
		calls         [2]int64
		attempts      int
	}{
		"the first is quick":              {takes(quick), takes(quick), "p0", quick, [2]int64{1, 0}, 1},
		"the backup answers first":        {takes(slow), takes(quick), "p1", 110 * time.Millisecond, [2]int64{1, 1}, 2},
		"the first answers all the same":  {takes(150 * time.Millisecond), takes(slow), "p0", 150 * time.Millisecond, [2]int64{1, 1}, 2},
		"without a backup, the same once": {takes(slow, quick), nil, "p0", 110 * time.Millisecond, [2]int64{2, 0}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				one, two := &named{name: "p0", took: c.first}, &named{name: "p1", took: c.second}
				members := []asker{one, two}
				if c.second == nil {
					members = members[:1]
				}
				o := &answeredTape{}
				g := observed(t, hedgedPolicy(), o, members...)
				start := time.Now()
				got, err := resilience.Call(t.Context(), g, opRead, asker.Ask, "q")
				require.NoError(t, err)
				assert.Equal(t, c.answer, got)
				assert.Equal(t, c.after, time.Since(start))
				synctest.Wait()
				assert.Equal(t, c.calls[0], one.calls.Load())
				assert.Equal(t, c.calls[1], two.calls.Load())
				path, attempts := o.last()
				assert.Equal(t, c.answer, path)
				assert.Equal(t, c.attempts, attempts)
				for _, s := range g.Inspect() {
					assert.Zero(t, s.Failures, "the loser isn't blamed")
					assert.Zero(t, s.InFlight)
				}
			})
		})
	}
}

// answeredTape keeps the last CallEnded; second attempts report from a goroutine
// of their own.
type answeredTape struct {
	mu sync.Mutex
	e  resilience.Event
}

func (a *answeredTape) Observe(_ context.Context, e resilience.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.Type == resilience.CallEnded {
		a.e = e
	}
}

func (a *answeredTape) last() (string, int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.e.Provider, a.e.Attempt
}

func TestOnlyReadsAndIdempotentCallsAreHedged(t *testing.T) {
	for safety, want := range map[fault.Safety]int64{fault.Once: 1, fault.AtLeastOnce: 1, fault.Idempotent: 2, fault.Read: 2} {
		synctest.Test(t, func(t *testing.T) {
			one := &named{name: "p0", took: takes(time.Second)}
			g := group(t, hedgedPolicy(), one)
			_, err := resilience.Call(t.Context(), g, resilience.Op{Name: "test.op", Safety: safety}, asker.Ask, "q")
			require.NoError(t, err)
			assert.Equal(t, want, one.calls.Load(), safety)
		})
	}
}

func TestWhatTheSecondAttemptSaysWhereTheFirstFails(t *testing.T) {
	down := fault.New(fault.Unavailable, errors.New("down"))
	for name, c := range map[string]struct {
		second error
		want   string
	}{
		"it is waited for":  {nil, ""},
		"both are reported": {fault.New(fault.Denied, nil), "test.read: unavailable after 2 attempts: p1: denied; p0: unavailable: down"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				one := &named{name: "p0", took: takes(200 * time.Millisecond), err: down}
				two := &named{name: "p1", took: takes(300 * time.Millisecond), err: c.second}
				g := group(t, hedgedPolicy(), one, two)
				_, err := resilience.Call(t.Context(), g, opRead, asker.Ask, "q")
				if c.want == "" {
					require.NoError(t, err)
				} else {
					assert.EqualError(t, err, c.want)
				}
				assert.Equal(t, 1, g.Inspect()[0].Failures, "it failed by itself")
			})
		})
	}
}

func TestASecondAttemptIsPaidForFromTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &named{name: "p0", took: takes(time.Second)}
		g := group(t, hedgedPolicy(), one)
		for range 50 {
			_, err := resilience.Call(t.Context(), g, opRead, asker.Ask, "q")
			require.NoError(t, err)
		}
		assert.LessOrEqual(t, one.calls.Load(), int64(50+10+10), "a reserve of ten and a fifth")
		assert.Greater(t, one.calls.Load(), int64(60))
	})
}

func TestThePercentileOfRecentLatenciesReplacesTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := hedgedPolicy()
		p.Hedge.Percentile, p.RetryBudget = 0.95, 0
		p.Hedge.After = 2 * time.Second
		one := &named{name: "p0", took: func(call int64) time.Duration {
			if call%200 == 0 {
				return 1500 * time.Millisecond // now and then it is slow
			}
			return time.Duration(400+call*37%100) * time.Millisecond // by nature
		}}
		g := group(t, p, one)
		longest := time.Duration(0)
		for range 1000 {
			start := time.Now()
			_, err := resilience.Call(t.Context(), g, opRead, asker.Ask, "q")
			require.NoError(t, err)
			longest = max(longest, time.Since(start))
		}
		assert.InDelta(t, 1050, one.calls.Load(), 30, "one call in twenty, though each takes long")
		assert.Less(t, longest, time.Second)
	})
}

func TestAPanicOfTheSecondAttemptReachesTheCallerAndLeavesNothingTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &provider{}
		one.fn = func(ctx context.Context) error {
			if one.calls.Load() == 2 {
				panic("boom")
			}
			<-ctx.Done()
			return ctx.Err()
		}
		g := group(t, hedgedPolicy(), one)
		assert.PanicsWithValue(t, "boom", func() { _, _ = resilience.Call(t.Context(), g, opRead, asker.Ask, "q") })
		assert.Zero(t, g.Inspect()[0].InFlight)
	})
}

func TestACanceledHedgedCallLeavesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, hedgedPolicy(), &provider{fn: hang}, &provider{fn: hang})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		_, err := resilience.Call(ctx, g, opRead, asker.Ask, "q")
		assert.ErrorIs(t, err, fault.Canceled)
		assert.Equal(t, time.Second, time.Since(start))
		synctest.Wait()
		for _, s := range g.Inspect() {
			assert.Zero(t, s.Failures)
			assert.Zero(t, s.InFlight)
		}
	})
}

func TestNestingDoesNotHedgeTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &named{name: "p0", took: takes(time.Second)}, &named{name: "p1", took: takes(time.Second)}
		inner := group(t, hedgedPolicy(), one, two)
		outer := group(t, hedgedPolicy(), readNested{inner})
		_, err := resilience.Call(t.Context(), outer, opRead, asker.Ask, "q")
		require.NoError(t, err)
		assert.EqualValues(t, 2, one.calls.Load()+two.calls.Load())
	})
}

type readNested struct{ *resilience.Group[asker] }

func (n readNested) Ask(ctx context.Context, q string) (string, error) {
	return resilience.Call(ctx, n.Group, opRead, asker.Ask, q)
}
