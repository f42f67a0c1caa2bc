package resilienceredis_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/resilience/resilienceredis"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // it tells of every failed dial, which here are many
	goleak.VerifyTestMain(m)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// start is a server whose clock stands still, and a client of it.
func start(t *testing.T) (*miniredis.Miniredis, *redis.Client) {
	t.Helper()
	server := miniredis.RunT(t)
	server.SetTime(time.Date(2026, 7, 1, 12, 0, 0, 123_456_000, time.UTC))
	return server, client(t, &redis.Options{Addr: server.Addr()})
}

func client(t *testing.T, options *redis.Options) *redis.Client {
	t.Helper()
	options.ContextTimeoutEnabled = true
	c := redis.NewClient(options)
	t.Cleanup(func() { c.Close() })
	return c
}

// hanging is a client whose server takes connections and never says a word. It
// works in a bubble.
func hanging(t *testing.T) *redis.Client {
	t.Helper()
	return client(t, &redis.Options{Addr: "127.0.0.1:1", Dialer: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go io.Copy(io.Discard, theirs) // until the other end is closed
		return ours, nil
	}})
}

func TestAClientThatCannotBeBoundedIsRefused(t *testing.T) {
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	single := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer cluster.Close()
	defer ring.Close()
	defer single.Close()
	for name, c := range map[string]redis.UniversalClient{"none": nil, "a Client": single, "a ClusterClient": cluster, "a Ring": ring} {
		t.Run(name, func(t *testing.T) {
			_, err := resilienceredis.NewCache(c, resilienceredis.CacheConfig{})
			assert.ErrorContains(t, err, "client")
			_, err = resilienceredis.NewLimiter(c, resilienceredis.LimiterConfig{Rate: 1, Burst: 1, Share: 1})
			assert.ErrorContains(t, err, "client")
			_, err = resilienceredis.NewState(c, resilienceredis.StateConfig{})
			assert.ErrorContains(t, err, "client")
		})
	}
}

func TestNoErrorShowsTheServersAddress(t *testing.T) {
	c := client(t, &redis.Options{Addr: "127.0.0.1:1", DialerRetries: 1})
	store, err := resilienceredis.NewCache(c, resilienceredis.CacheConfig{})
	require.NoError(t, err)
	_, _, err = store.Get(t.Context(), "k")
	assert.ErrorContains(t, err, "connection refused")
	assert.NotContains(t, err.Error(), "127.0.0.1")
}

func TestEveryKindOfClientWill(t *testing.T) {
	one, two := miniredis.RunT(t), miniredis.RunT(t)
	for name, dial := range map[string]func() redis.UniversalClient{
		"a Client": func() redis.UniversalClient {
			return redis.NewClient(&redis.Options{Addr: one.Addr(), ContextTimeoutEnabled: true})
		},
		"a ClusterClient": func() redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{one.Addr()}, ContextTimeoutEnabled: true})
		},
		"a Ring": func() redis.UniversalClient {
			return redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": one.Addr(), "two": two.Addr()}, ContextTimeoutEnabled: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial()
			t.Cleanup(func() { c.Close() })
			for _, provider := range []string{"a", "b", "c", "d"} { // of which a Ring keeps some here and some there
				store, err := resilienceredis.NewCache(c, resilienceredis.CacheConfig{Prefix: name})
				require.NoError(t, err)
				require.NoError(t, store.Set(t.Context(), provider, []byte("v"), time.Minute))
				_, found, err := store.Get(t.Context(), provider)
				require.NoError(t, err)
				assert.True(t, found)

				l := patient(t, c, resilienceredis.LimiterConfig{Rate: 0.01, Burst: 1, Prefix: name, WhenDown: resilienceredis.FailClosed})
				assert.Zero(t, take(t, l, provider))
				assert.Positive(t, take(t, l, provider))

				config := resilienceredis.StateConfig{Prefix: name + provider}
				teller, err := resilienceredis.NewState(c, config)
				if name == "a Ring" {
					require.ErrorContains(t, err, "Ring")
					continue
				}
				require.NoError(t, err)
				listener, err := resilienceredis.NewState(c, config)
				require.NoError(t, err)
				heard := make(warnings, 10)
				run(t, teller)
				run(t, listener, heard)
				teller.Observe(t.Context(), opened(provider, time.Minute))
				assert.Equal(t, provider, heard.next(t).provider)
			}
		})
	}
}
