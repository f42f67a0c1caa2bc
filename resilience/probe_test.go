package resilience_test

import (
	"context"
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

// resilience4j: the longest wait in half-open. A probe has done its duty when its
// answer has begun; its body may take an hour.
func TestAProbeWithALongBodyDoesNotKeepTheOthersOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := opened(t, nil)
		body, err := keep(t.Context(), g, 3600, time.Second)
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := io.ReadAll(body)
			assert.NoError(t, err)
			assert.NoError(t, body.Close())
		}()
		time.Sleep(5 * time.Minute)
		assert.NoError(t, ask(t.Context(), g))
		<-done
		assert.Zero(t, g.Inspect()[0].InFlight)
	})
}

// The same where the caller forgets to close, and where a stream's consumer holds
// an item.
func TestAProbeThatIsNeverClosedDoesNotStickTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := opened(t, nil)
		body, err := keep(t.Context(), g, 1, time.Second)
		require.NoError(t, err)
		defer body.Close()
		time.Sleep(24 * time.Hour)
		assert.NoError(t, ask(t.Context(), g))
	})
}

func TestAProbeWhoseConsumerHoldsAnItemDoesNotKeepTheOthersOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := opened(t, nil)
		items := resilience.Stream(t.Context(), g, opAsk, func(asker, context.Context, string) iter.Seq2[int, error] {
			return func(yield func(int, error) bool) { yield(1, nil) }
		}, "q")
		for _, err := range items {
			require.NoError(t, err)
			time.Sleep(time.Hour)
			assert.NoError(t, ask(t.Context(), g))
		}
	})
}

func TestAProbeWhoseBodyBreaksOffCountsAfterAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := opened(t, nil)
		body, err := keep(t.Context(), g, 1, time.Hour)
		require.NoError(t, err)
		assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
		_, err = io.ReadAll(body)
		require.ErrorIs(t, err, resilience.ErrTimeout)
		require.NoError(t, body.Close())
		assert.Equal(t, 1, g.Inspect()[0].Failures)
		assert.Zero(t, g.Inspect()[0].InFlight)
	})
}

func TestAProbeWhoseConsumerPanicsIsASuccessOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := opened(t, nil)
		assert.PanicsWithValue(t, "mine", func() {
			for range resilience.Stream(t.Context(), g, opAsk, func(asker, context.Context, string) iter.Seq2[int, error] {
				return func(yield func(int, error) bool) { yield(1, nil) }
			}, "q") {
				panic("mine")
			}
		})
		s := g.Inspect()[0]
		assert.Equal(t, resilience.Closed, s.State)
		assert.Zero(t, s.Failures)
		require.NoError(t, ask(t.Context(), g))
	})
}

// The key's own breaker is told too, where the provider has none.
func TestAProbeOfAKeyWhoseBodyBreaksOffCountsAfterAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := perKey(resilience.Policy{Breaker: resilience.Default.Breaker})
		one := &provider{fn: answers(fault.Unavailable)}
		o := &keyTape{}
		g := observed(t, p, o, one)
		ctx := resilience.WithKey(t.Context(), "host-1")
		for range 5 {
			require.Error(t, ask(ctx, g))
		}
		time.Sleep(34 * time.Second)
		one.fn = nil
		for range 5 {
			body, err := keep(ctx, g, 1, time.Hour)
			require.NoError(t, err)
			_, err = io.ReadAll(body)
			require.ErrorIs(t, err, resilience.ErrTimeout)
			require.NoError(t, body.Close())
		}
		require.ErrorIs(t, ask(ctx, g), resilience.ErrOpen, "five in a row")
		assert.Equal(t, []string{
			"host-1 closed → open", "host-1 open → half-open", "host-1 half-open → closed", "host-1 closed → open",
		}, o.seen)
	})
}
