package resilienceredis_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/cache"
	"github.com/smilefactory/integrations/resilience/resilienceredis"
)

var _ cache.Store = (*resilienceredis.Cache)(nil)

func TestAStoredValueLivesForItsTTLAndNoLonger(t *testing.T) {
	server, c := start(t)
	store, err := resilienceredis.NewCache(c, resilienceredis.CacheConfig{Prefix: "p:"})
	require.NoError(t, err)
	_, found, err := store.Get(t.Context(), "k")
	require.NoError(t, err)
	assert.False(t, found, "that there is nothing is no error")

	value := []byte("a\x00b\xff\r\n")
	require.NoError(t, store.Set(t.Context(), "k", value, time.Minute+time.Microsecond))
	assert.Equal(t, time.Minute+time.Millisecond, server.TTL("p:k"))
	data, found, err := store.Get(t.Context(), "k")
	require.NoError(t, err)
	assert.True(t, found)
	assert.Equal(t, value, data)

	server.FastForward(2 * time.Minute)
	_, found, err = store.Get(t.Context(), "k")
	require.NoError(t, err)
	assert.False(t, found)
}

func TestDeleteRemovesAValueOrNothing(t *testing.T) {
	server, c := start(t)
	store, err := resilienceredis.NewCache(c, resilienceredis.CacheConfig{})
	require.NoError(t, err)
	require.NoError(t, store.Set(t.Context(), "k", []byte("v"), time.Minute))
	assert.Equal(t, []string{"resilience:cache:k"}, server.Keys())
	for range 2 {
		require.NoError(t, store.Delete(t.Context(), "k"))
		assert.Empty(t, server.Keys())
	}
}

func TestAValueOfUnfitSizeIsNeitherWrittenNorRead(t *testing.T) {
	server, c := start(t)
	store, err := resilienceredis.NewCache(c, resilienceredis.CacheConfig{Prefix: "p:", MaxBytes: 10})
	require.NoError(t, err)
	for size, fits := range map[int]bool{0: false, 1: true, 10: true, 11: false} {
		err := store.Set(t.Context(), "k", bytes.Repeat([]byte("x"), size), time.Minute)
		if fits {
			assert.NoError(t, err, size)
		} else {
			assert.ErrorIs(t, err, fault.Invalid, size)
		}
	}
	assert.ErrorIs(t, store.Set(t.Context(), "k", []byte("x"), 0), fault.Invalid)

	require.NoError(t, server.Set("p:long", strings.Repeat("x", 11)))
	_, found, err := store.Get(t.Context(), "long")
	require.NoError(t, err)
	assert.False(t, found)
}

func TestSomethingThatIsNoStringIsAsIfThereWereNone(t *testing.T) {
	server, c := start(t)
	store, err := resilienceredis.NewCache(c, resilienceredis.CacheConfig{Prefix: "p:"})
	require.NoError(t, err)
	_, err = server.Lpush("p:k", "v")
	require.NoError(t, err)
	_, found, err := store.Get(t.Context(), "k")
	require.NoError(t, err)
	assert.False(t, found)
	require.NoError(t, store.Set(t.Context(), "k", []byte("v"), time.Minute), "and is replaced")
	_, found, err = store.Get(t.Context(), "k")
	require.NoError(t, err)
	assert.True(t, found)
}

func TestACacheConfigThatCannotWorkIsRefused(t *testing.T) {
	_, c := start(t)
	_, err := resilienceredis.NewCache(c, resilienceredis.CacheConfig{MaxBytes: -1})
	assert.ErrorContains(t, err, "MaxBytes")
}

func TestTwoProcessesShareAnswersOverRedis(t *testing.T) {
	_, c := start(t)
	op := resilience.Op{Name: "rates.rate", Safety: fault.Read}
	calls := 0
	for range 2 {
		store, err := resilienceredis.NewCache(c, resilienceredis.CacheConfig{})
		require.NoError(t, err)
		answers, err := cache.New(cache.Config[float64]{TTL: time.Minute, Store: store, StoreTimeout: 10 * time.Second})
		require.NoError(t, err)
		a, err := answers.Do(t.Context(), op, "USD", func(context.Context) (float64, error) { calls++; return 1.09, nil })
		require.NoError(t, err)
		assert.InDelta(t, 1.09, a.Value, 0)
		require.NoError(t, answers.Close(t.Context()))
	}
	assert.Equal(t, 1, calls)
}
