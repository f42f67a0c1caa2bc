package resilience_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// hidden is a decorator that doesn't say whom it decorates.
type hidden struct{ inner asker }

func (h hidden) Ask(ctx context.Context, q string) (string, error) {
	ctx, cancel := context.WithCancel(ctx) // as a span, an errgroup or a trace does
	defer cancel()
	return h.inner.Ask(ctx, q)
}

// decorator is one that does.
type decorator struct{ hidden }

func (d decorator) Unwrap() asker { return d.inner }

func TestADecoratorThatSaysNothingIsAProviderOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &provider{fn: answers(fault.Unavailable)}
		g := group(t, resilience.Default, hidden{nested{group(t, resilience.Default, one)}})
		require.Error(t, ask(t.Context(), g))
		assert.EqualValues(t, 5, one.calls.Load(), "three attempts of three, of which the inner breaker refuses the last")
		assert.Positive(t, g.Inspect()[0].Failures, "it counts here too")
	})
}

func TestADecoratorThatSaysWhomItDecoratesIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &provider{fn: answers(fault.Unavailable)}, &provider{fn: answers(fault.Unavailable)}
		g := group(t, resilience.Default, decorator{hidden{decorator{hidden{nested{group(t, resilience.Default, one, two)}}}}})
		err := ask(t.Context(), g)
		assert.EqualValues(t, 3, one.calls.Load())
		assert.EqualValues(t, 3, two.calls.Load())
		f, ok := fault.As(err)
		require.True(t, ok)
		assert.Equal(t, 6, f.Attempts)
		assert.Equal(t, "p0/p1", f.Tried[5].Provider)
	})
}

func TestAnInnerCallIsNotCutOffByTheOuterAttemptsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &provider{fn: hang}, &provider{fn: hang}
		g := group(t, resilience.Default, decorator{hidden{nested{group(t, resilience.Default, one, two, &provider{})}}})
		start := time.Now()
		require.NoError(t, ask(t.Context(), g))
		assert.Equal(t, 6*time.Second, time.Since(start), "longer than the outer attempt's 3 s")
	})
}

func TestTheOuterTotalRulesTheInnerGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outer := resilience.Default
		outer.Total, outer.Timeout = 4*time.Second, 3*time.Second
		one, two := &provider{fn: hang}, &provider{fn: hang}
		g := group(t, outer, nested{group(t, resilience.Default, one, two)})
		start := time.Now()
		err := ask(t.Context(), g)
		assert.ErrorIs(t, err, fault.Uncertain)
		assert.Equal(t, 4*time.Second, time.Since(start))
		assert.EqualValues(t, 1, two.calls.Load(), "it had its share")
	})
}

// other is a provider that calls another service on its way.
type other struct {
	provider
	storage *resilience.Group[asker]
}

func (o *other) Ask(ctx context.Context, q string) (string, error) {
	if _, err := resilience.Call(ctx, o.storage, resilience.Op{Name: "storage.get", Safety: fault.Read}, asker.Ask, q); err != nil {
		return "", err
	}
	return o.provider.Ask(ctx, q)
}

func TestACallOfAnotherServiceIsNeitherNestedNorPinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := &provider{fn: answers(fault.Unavailable)}
		o := &other{storage: group(t, resilience.Default, files)}
		g := group(t, resilience.Default, &provider{}, o)
		err := ask(resilience.Pin(t.Context(), "p1"), g)
		assert.ErrorIs(t, err, fault.Unavailable)
		assert.EqualValues(t, 5, files.calls.Load(), "its breaker opens in the second of three attempts of three")
		assert.Equal(t, resilience.Open, o.storage.Inspect()[0].State)
		files.fn = nil
		time.Sleep(time.Minute)
		require.NoError(t, ask(resilience.Pin(t.Context(), "p1"), g))
	})
}

// nestedKeep and nestedStream are an inner Client's methods of these shapes.
func nestedKeep(g *resilience.Group[*resilience.Group[asker]]) (io.ReadCloser, error) {
	_, body, err := resilience.Keep(context.Background(), g, opAsk, func(ctx context.Context, inner *resilience.Group[asker]) (string, io.ReadCloser, error) {
		body, err := keep(ctx, inner, 40, time.Second)
		return "ok", body, err
	})
	return body, err
}

func nest(t *testing.T, inner *resilience.Group[asker]) *resilience.Group[*resilience.Group[asker]] {
	t.Helper()
	g, err := resilience.New(resilience.Default, []resilience.Member[*resilience.Group[asker]]{{Name: "eu", Provider: inner}})
	require.NoError(t, err)
	return g
}

func TestTrap19ABodyOfANestedClientMayTakeLongerThanAnyTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := group(t, resilience.Default, &provider{})
		body, err := nestedKeep(nest(t, inner))
		require.NoError(t, err)
		data, err := io.ReadAll(body)
		require.NoError(t, err)
		assert.Len(t, data, 40, "a second each, where Total is 30 s")
		require.NoError(t, body.Close())
		assert.Equal(t, 1, inner.Inspect()[0].Successes)
	})
}

// item is told who sent it.
type item struct {
	provider string
	attempts int
}

func (i *item) Answered(provider string, attempts int) { i.provider, i.attempts = provider, attempts }

func items(n int, err error) iter.Seq2[*item, error] {
	return func(yield func(*item, error) bool) {
		for range n {
			if !yield(&item{}, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

func TestAnItemOfAStreamIsToldWhoSentItAndAfterHowManyAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Retries = 1
		inner := group(t, p, &provider{}, &provider{})
		down := fault.New(fault.Unavailable, errors.New("down"))
		innerStream := func(g *resilience.Group[asker], ctx context.Context, _ string) iter.Seq2[*item, error] {
			n := 0
			return resilience.Stream(ctx, g, opAsk, func(asker, context.Context, string) iter.Seq2[*item, error] {
				if n++; n <= 2 {
					return items(0, down)
				}
				return items(2, nil)
			}, "q")
		}
		var seen []item
		for i, err := range resilience.Stream(t.Context(), nest(t, inner), opAsk, innerStream, "q") {
			require.NoError(t, err)
			seen = append(seen, *i)
		}
		assert.Equal(t, []item{{"eu/p1", 3}, {"eu/p1", 3}}, seen)
	})
}
