package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/resiliencetest"
)

type spanKey struct{}

// tracer is a recorder that also begins spans.
type tracer struct {
	resiliencetest.Recorder
	spans []string
}

func (r *tracer) Start(ctx context.Context, e resilience.Event) context.Context {
	if e.Type == resilience.AttemptStarted {
		r.spans = append(r.spans, fmt.Sprintf("%s %d", e.Provider, e.Attempt))
	}
	return context.WithValue(ctx, spanKey{}, e.Provider)
}

func observed(t *testing.T, p resilience.Policy, o resilience.Observer, members ...asker) *resilience.Group[asker] {
	t.Helper()
	var all []resilience.Member[asker]
	for i, m := range members {
		all = append(all, resilience.Member[asker]{Name: fmt.Sprintf("p%d", i), Provider: m})
	}
	g, err := resilience.New(p, all, o)
	require.NoError(t, err)
	return g
}

func TestObserversSeeEachStep(t *testing.T) {
	for name, c := range map[string]struct {
		members []asker
		ask     func(*resilience.Group[asker])
		policy  func(*resilience.Policy)
		want    []string
	}{
		"a retry, then the backup": {
			members: []asker{&provider{fn: answers(fault.Unavailable)}, &provider{}},
			policy:  func(p *resilience.Policy) { p.Retries = 1 },
			want: []string{
				"attempt ended p0 1: unavailable", "retry scheduled p0 1: unavailable", "attempt ended p0 2: unavailable",
				"failed over p0 2: unavailable", "attempt ended p1 3", "call ended p1 3",
			},
		},
		"a breaker that opens and refuses": {
			members: []asker{&provider{fn: answers(fault.Unavailable)}},
			policy:  func(p *resilience.Policy) { p.Retries, p.Breaker.InARow = 0, 1 },
			ask:     func(g *resilience.Group[asker]) { _ = ask(context.Background(), g); _ = ask(context.Background(), g) },
			want: []string{
				"attempt ended p0 1: unavailable", "state changed p0: closed → open", "call ended 1: unavailable",
				"refused p0 0: unavailable", "call ended 0: unavailable",
			},
		},
		"a pause": {
			members: []asker{&provider{fn: answers(fault.RateLimited)}, &provider{}},
			want: []string{
				"attempt ended p0 1: rate limited", "paused p0 1: rate limited", "failed over p0 1: rate limited",
				"attempt ended p1 2", "call ended p1 2",
			},
		},
		"a panic, which ends its call": {
			members: []asker{&provider{fn: func(context.Context) error { panic("boom") }}},
			policy:  func(p *resilience.Policy) { p.Breaker.InARow = 1 },
			ask: func(g *resilience.Group[asker]) {
				defer func() { _ = recover() }()
				_ = ask(context.Background(), g)
			},
			want: []string{"panicked p0 1", "state changed p0: closed → open", "call ended 1: unknown"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, o := resilience.Default, &resiliencetest.Recorder{}
				if c.policy != nil {
					c.policy(&p)
				}
				g := observed(t, p, o, c.members...)
				if c.ask == nil {
					require.NoError(t, ask(t.Context(), g))
				} else {
					c.ask(g)
				}
				o.RequireLines(t, c.want...)
			})
		})
	}
}

func TestAStarterGivesEachAttemptItsContext(t *testing.T) {
	var spans []any
	span := func(then func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			spans = append(spans, ctx.Value(spanKey{}))
			return then(ctx)
		}
	}
	one := &provider{fn: span(answers(fault.Unsupported))}
	two := &provider{fn: span(func(context.Context) error { return nil })}
	o := &tracer{}
	require.NoError(t, ask(t.Context(), observed(t, resilience.Default, o, one, two)))
	assert.Equal(t, []any{"p0", "p1"}, spans)
	assert.Equal(t, []string{"p0 1", "p1 2"}, o.spans)
	o.RequireLines(t, "attempt ended p0 1: unsupported", "failed over p0 1: unsupported", "attempt ended p1 2", "call ended p1 2")
}

func TestTheOuterObserverLeavesAttemptsToTheInnerOne(t *testing.T) {
	inner, outer := &tracer{}, &tracer{}
	g := observed(t, resilience.Default, inner, &provider{fn: answers(fault.Unsupported)}, &provider{})
	require.NoError(t, ask(t.Context(), observed(t, resilience.Default, outer, nested{g})))
	assert.Equal(t, []string{"p0/p0 1", "p0/p1 2"}, inner.spans, "by their whole path")
	inner.RequireLines(t, "attempt ended p0/p0 1: unsupported", "failed over p0/p0 1: unsupported", "attempt ended p0/p1 2")
	assert.Empty(t, outer.spans)
	outer.RequireLines(t, "call ended p0/p1 2")
}

func TestTheAttemptOfABodyEndsWithItsClose(t *testing.T) {
	for name, c := range map[string]struct {
		body io.Reader
		want string
	}{
		"read to its end": {strings.NewReader("x"), "attempt ended p0 1"},
		"broken off":      {iotest.ErrReader(errors.New("reset")), "attempt ended p0 1: uncertain"},
	} {
		t.Run(name, func(t *testing.T) {
			o := &tracer{}
			g := observed(t, resilience.Default, o, &provider{})
			_, body, err := resilience.Keep(t.Context(), g, opAsk, func(context.Context, asker) (string, io.ReadCloser, error) {
				return "ok", io.NopCloser(c.body), nil
			})
			require.NoError(t, err)
			o.RequireLines(t, "call ended p0 1")
			_, _ = io.ReadAll(body)
			require.NoError(t, body.Close())
			o.RequireLines(t, "call ended p0 1", c.want)
		})
	}
}

func TestAnObserverMayLookAtTheStateItWasToldOf(t *testing.T) {
	var g *resilience.Group[asker]
	var states []resilience.State
	p := resilience.Default
	p.Retries, p.Breaker.InARow = 0, 1
	g = observed(t, p, resilience.ObserverFunc(func(_ context.Context, e resilience.Event) {
		if e.Type == resilience.StateChanged {
			states = append(states, g.Inspect()[0].State)
		}
	}), &provider{fn: answers(fault.Unavailable)})
	require.Error(t, ask(t.Context(), g))
	assert.Equal(t, []resilience.State{resilience.Open}, states)
}

func TestInspectShowsEveryProviderByItsPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limited := &provider{fn: func(context.Context) error { return &fault.Error{Kind: fault.RateLimited, RetryAfter: 7 * time.Second} }}
		p := resilience.Default
		p.RetryBudget = 0
		inner := group(t, p, limited, &provider{})
		g := group(t, resilience.Default, nested{inner}, &provider{})
		require.NoError(t, ask(t.Context(), g))
		all := g.Inspect()
		require.Len(t, all, 3)
		assert.InDelta(t, 7350*time.Millisecond, all[0].PausedFor, float64(350*time.Millisecond))
		all[0].PausedFor = 0
		assert.Equal(t, resilience.Status{Name: "p0/p0", State: resilience.Closed, RetriesLeft: -1}, all[0])
		assert.Equal(t, "p0/p1", all[1].Name)
		assert.Equal(t, 1, all[1].Successes)
		assert.Equal(t, resilience.Status{Name: "p1", State: resilience.Closed, RetriesLeft: 10}, all[2])
	})
}
