package resilience_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// An attempt has never more than what is left, and the backup is reached by
// whoever has a deadline.
func TestTheTimeIsShared(t *testing.T) {
	for n := 1; n <= 4; n++ {
		for _, deadline := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second} {
			for _, depth := range []int{0, 1, 2} {
				t.Run(fmt.Sprint(n, deadline, depth), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var ms []asker
						for range n {
							ms = append(ms, &provider{fn: hang})
						}
						last := &provider{}
						ms = append(ms, last)
						g := group(t, resilience.Default, ms...)
						for range depth {
							g = group(t, resilience.Default, nested{g})
						}
						require.NoError(t, within(t, deadline, g, opAsk))
					})
				})
			}
		}
	}
}

// self is a provider that calls the Group that it is in.
type self struct {
	g     **resilience.Group[asker]
	depth *atomic.Int64
}

func (s self) Ask(ctx context.Context, _ string) (string, error) {
	if s.depth.Add(1) > 3 {
		return "", fault.New(fault.Unavailable, nil)
	}
	return "", ask(ctx, *s.g)
}

func TestAGroupInsideItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g *resilience.Group[asker]
		var depth atomic.Int64
		p := resilience.Default
		p.Concurrency, p.MaxWait = 10, 0
		g = group(t, p, self{&g, &depth}, &provider{})
		require.NoError(t, ask(t.Context(), g))
		assert.Empty(t, g.Leaks())
	})
}

// late shows a Client that it has only later, and is one of its members.
type late struct {
	c **resilience.Control
	asker
}

func (l late) Control() *resilience.Control { return *l.c }

func TestAClientThatShowsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *resilience.Control
		g := group(t, resilience.Default, late{&c, &provider{}})
		c = g.Control
		g2 := group(t, resilience.Default, late{&c, nested{g}})
		require.NoError(t, ask(t.Context(), g2))
		_ = g2.Inspect()
		_ = g2.Snapshot()
	})
}

// A decorator whose own deadline is over before the inner Client was asked has
// sent nothing.
func TestADecoratorsDeadlineBeforeAnythingWasSentIsNotUncertain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &provider{}
		backup := &provider{}
		d := slowDeco{nested{group(t, resilience.Default, in)}}
		g := group(t, resilience.Default, d, backup)
		err := askOnce(t.Context(), g)
		assert.Zero(t, in.calls.Load())
		assert.False(t, fault.MayHaveActed(err), "%v", err)
		require.NoError(t, err, "a backup was there")
	})
}

type slowDeco struct{ nested }

func (s slowDeco) Unwrap() asker { return s.nested }
func (s slowDeco) Ask(ctx context.Context, q string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	time.Sleep(time.Second + time.Millisecond) // such as its own queue
	r, err := resilience.Call(ctx, s.Group, opOnce, asker.Ask, q)
	return r, err
}

// A decorator that takes the deadline away.
type endless struct{ nested }

func (s endless) Unwrap() asker { return s.nested }
func (s endless) Ask(ctx context.Context, q string) (string, error) {
	return s.nested.Ask(context.WithoutCancel(ctx), q)
}

func TestADecoratorThatTakesTheDeadlineAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, resilience.Default, endless{nested{group(t, resilience.Default, &provider{fn: hang})}}, &provider{})
		err := within(t, 2*time.Second, g, opAsk)
		t.Log(err)
		assert.Empty(t, g.Leaks())
	})
}

// Keep in three levels: the body lives, slots are freed at its Close alone.
func TestKeepInThreeLevels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Concurrency = 1
		leaf := group(t, p, &provider{})
		type G = *resilience.Group[asker]
		mid, err := resilience.New(p, []resilience.Member[G]{{Name: "leaf", Provider: leaf}})
		require.NoError(t, err)
		top, err := resilience.New(p, []resilience.Member[*resilience.Group[G]]{{Name: "mid", Provider: mid}})
		require.NoError(t, err)
		_, b, err := resilience.Keep(t.Context(), top, opAsk, func(ctx context.Context, m *resilience.Group[G]) (int, io.ReadCloser, error) {
			return resilience.Keep(ctx, m, opAsk, func(ctx context.Context, l G) (int, io.ReadCloser, error) {
				return resilience.Keep(ctx, l, opAsk, func(_ context.Context, _ asker) (int, io.ReadCloser, error) {
					return 1, io.NopCloser(strings.NewReader("abc")), nil
				})
			})
		})
		require.NoError(t, err)
		time.Sleep(time.Hour)
		assert.Equal(t, 1, leaf.Inspect()[0].InFlight)
		all, err := io.ReadAll(b)
		require.NoError(t, err)
		assert.Equal(t, "abc", string(all))
		require.NoError(t, b.Close())
		assert.Empty(t, top.Leaks())
	})
}

// A Stream inside a Stream, whose first provider fails before its first item, and
// whose consumer leaves.
func TestStreamInAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Concurrency, p.Retries = 1, 0
		leaf := group(t, p, &provider{}, &provider{})
		type G = *resilience.Group[asker]
		top, err := resilience.New(p, []resilience.Member[G]{{Name: "leaf", Provider: leaf}})
		require.NoError(t, err)
		n := 0
		for v, err := range resilience.Stream(t.Context(), top, opAsk, func(l G, ctx context.Context, _ int) iter.Seq2[int, error] {
			return resilience.Stream(ctx, l, opAsk, func(_ asker, _ context.Context, _ int) iter.Seq2[int, error] {
				return func(yield func(int, error) bool) {
					if n++; n == 1 {
						yield(0, fault.New(fault.Unavailable, nil))
						return
					}
					for i := range 10 {
						if !yield(i, nil) {
							return
						}
						time.Sleep(time.Second)
					}
				}
			}, 0)
		}, 0) {
			require.NoError(t, err)
			time.Sleep(time.Minute)
			if v == 5 {
				break
			}
		}
		assert.Empty(t, top.Leaks())
	})
}

// Waiters in line: no more than the rate lets through, none lost, in order, with
// cancellations between.
func TestTheLineUnderCancellations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Rate, p.Burst, p.MaxWait, p.MaxWaiting, p.Total, p.Timeout = 10, 2, time.Minute, 0, 0, 0
		p.Breaker, p.Concurrency = resilience.Breaker{}, 3
		var at []time.Duration
		var mu sync.Mutex
		begun := time.Now()
		pr := &provider{fn: func(context.Context) error {
			mu.Lock()
			at = append(at, time.Since(begun))
			mu.Unlock()
			time.Sleep(50 * time.Millisecond)
			return nil
		}}
		g := group(t, p, pr)
		var wg sync.WaitGroup
		var ok atomic.Int64
		for i := range 300 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%3 == 0 {
					time.AfterFunc(time.Duration(i)*7*time.Millisecond, cancel)
				}
				if ask(ctx, g) == nil {
					ok.Add(1)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		assert.GreaterOrEqual(t, ok.Load(), int64(200))
		for i, d := range at {
			assert.GreaterOrEqual(t, d, time.Duration(i-2)*100*time.Millisecond-time.Millisecond, "the %dth", i)
		}
		assert.LessOrEqual(t, at[len(at)-1], time.Duration(len(at))*100*time.Millisecond+time.Second, "no time was lost")
		assert.Empty(t, g.Leaks())
	})
}

// A provider whose Limiter panics leaves the key's slot free.
func TestALimiterThatPanicsLeavesTheKeyFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		panics := true
		l := &limiter{take: func() time.Duration {
			if panics {
				panic("limiter")
			}
			return 0
		}}
		p := resilience.Default
		p.MaxWait, p.Retries, p.Limiter = 0, 0, l
		k := p
		k.Limiter, k.Concurrency = nil, 1
		p.PerKey = &k
		g := group(t, p, &provider{})
		ctx := resilience.WithKey(t.Context(), "k")
		assert.Panics(t, func() { _ = ask(ctx, g) })
		panics = false
		require.NoError(t, ask(ctx, g))
	})
}

// Groups of one family inside each other.
func TestPartsOfAFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		whole := &resilience.Control{}
		p1, p2 := &provider{fn: answers(fault.Unavailable)}, &provider{fn: answers(fault.Unavailable)}
		a, b := group(t, resilience.Default, p1), group(t, resilience.Default, p2)
		a.PartOf(whole)
		b.PartOf(whole)
		g := group(t, resilience.Default, family{whole, a, b})
		err := ask(t.Context(), g)
		f, _ := fault.As(err)
		require.NotNil(t, f)
		assert.EqualValues(t, p1.calls.Load()+p2.calls.Load(), f.Attempts, "%v", err)
		assert.EqualValues(t, 3, p1.calls.Load())
	})
}

type family struct {
	whole *resilience.Control
	a, b  *resilience.Group[asker]
}

func (f family) Control() *resilience.Control { return f.whole }
func (f family) Ask(ctx context.Context, q string) (string, error) {
	_, _ = nested{f.a}.Ask(ctx, q)
	return nested{f.b}.Ask(ctx, q)
}
