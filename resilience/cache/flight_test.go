package cache

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

var (
	opLand = resilience.Op{Name: "rates.rate", Safety: fault.Read}
	toLand = id{op: opLand.Name, key: "k"}
)

// landed is a Cache whose flight has landed, before one of its callers has put
// the answer into memory.
func landed(t *testing.T) (*Cache[int], *flight[int]) {
	t.Helper()
	c, err := New(Config[int]{TTL: time.Hour, Stale: time.Hour, Revalidate: time.Hour})
	require.NoError(t, err)
	f, _, _ := c.join(t.Context(), toLand, func(context.Context) (int, error) { return 1, nil })
	<-f.landed
	require.NoError(t, c.Close(t.Context()))
	_, _, ok := c.look(toLand)
	require.False(t, ok)
	return c, f
}

func TestBetweenLandingAndMemory(t *testing.T) {
	t.Run("a new caller gets the answer", func(t *testing.T) {
		c, f := landed(t)
		c.memory.Set(toLand, entry[int]{made: c.now() - int64(time.Hour), life: time.Hour, weight: 1})
		a, err := c.Do(t.Context(), opLand, "k", func(context.Context) (int, error) { return 2, nil })
		require.NoError(t, err)
		assert.Equal(t, 1, a.Value, "and not the one that memory still has")
		c.settle(f)
		c.settle(f)
		e, _, ok := c.look(toLand)
		assert.True(t, ok)
		assert.Equal(t, 1, e.value)
		assert.Empty(t, f.slots)
	})
	t.Run("an invalidation is not undone", func(t *testing.T) {
		c, f := landed(t)
		require.NoError(t, c.Invalidate(t.Context(), opLand, "k"))
		ask := func() int {
			a, err := c.Do(t.Context(), opLand, "k", func(context.Context) (int, error) { return 2, nil })
			require.NoError(t, err)
			return a.Value
		}
		assert.Equal(t, 2, ask())
		c.settle(f)
		assert.Equal(t, 2, ask())
		assert.Empty(t, f.slots)
	})
	t.Run("a caller that leaves does what is left to do", func(t *testing.T) {
		c, f := landed(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		a, err := c.wait(ctx, f)
		require.NoError(t, err)
		assert.Equal(t, 1, a.Value)
		_, _, ok := c.look(toLand)
		assert.True(t, ok)
		assert.Empty(t, f.slots)
	})
}

// Where a NotFound is kept for a nanosecond, a caller may find it that old.
func TestANotFoundThatHasExpiredIsNoStaleAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Config[int]{TTL: time.Hour, Stale: time.Hour, Revalidate: time.Hour, NegativeTTL: 1})
		require.NoError(t, err)
		c.memory.Set(toLand, entry[int]{err: fault.NotFound, made: c.now() - 1, life: 1, weight: 1})
		_, _, ok := c.look(toLand)
		require.True(t, ok)
		a, err := c.Do(t.Context(), opLand, "k", func(context.Context) (int, error) { return 0, fault.New(fault.Unavailable, nil) })
		assert.ErrorIs(t, err, fault.Unavailable)
		assert.Zero(t, a)
	})
}
