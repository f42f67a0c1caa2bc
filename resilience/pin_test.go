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
