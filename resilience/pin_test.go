package resilience_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

func TestAPinnedCallGoesToThatProviderAlone(t *testing.T) {
	one, two, three := &provider{}, &provider{}, &provider{}
	g := group(t, resilience.Default, one, nested{group(t, resilience.Default, two, three)})
	require.NoError(t, ask(resilience.Pin(t.Context(), "p1/p1"), g))
	assert.Zero(t, one.calls.Load()+two.calls.Load())
	assert.EqualValues(t, 1, three.calls.Load())
	assert.ErrorIs(t, ask(resilience.Pin(t.Context(), "gone"), g), fault.NotFound)

	three.fn = answers(fault.Unavailable)
	assert.ErrorIs(t, ask(resilience.Pin(t.Context(), "p1/p1"), g), fault.Unavailable)
	assert.Zero(t, one.calls.Load()+two.calls.Load())
}

func TestDoCallsAMethodOfAnotherShape(t *testing.T) {
	one, two := &provider{fn: answers(fault.Unsupported)}, &provider{}
	g := group(t, resilience.Default, one, two)
	got, err := resilience.Do(t.Context(), g, opAsk, func(ctx context.Context, p asker) (int, error) {
		s, err := p.Ask(ctx, "q")
		return len(s), err
	})
	require.NoError(t, err)
	assert.Equal(t, 2, got)
}

func TestObserversSeeEachStep(t *testing.T) {
	var seen []string
	p := resilience.Default
	p.Retries = 0
	g, err := resilience.New(p, []resilience.Member[asker]{
		{Name: "a", Provider: &provider{fn: answers(fault.Unavailable)}}, {Name: "b", Provider: &provider{}},
	}, resilience.ObserverFunc(func(_ context.Context, e resilience.Event) { seen = append(seen, e.Type.String()+" "+e.Provider) }))
	require.NoError(t, err)
	require.NoError(t, ask(t.Context(), g))
	assert.Equal(t, []string{"attempt ended a", "failed over a", "attempt ended b", "call ended b"}, seen)
}

func TestRetriesEndWithTheBudget(t *testing.T) {
	p := resilience.Default
	p.Breaker, p.Backoff = resilience.Breaker{}, resilience.Backoff{Initial: 1}
	one := &provider{fn: answers(fault.Unavailable)}
	g := group(t, p, one)
	for range 100 {
		_ = ask(t.Context(), g)
	}
	// a reserve of ten, and one for each five calls
	assert.LessOrEqual(t, one.calls.Load(), int64(100+10+20))
	assert.Greater(t, one.calls.Load(), int64(110))
}
