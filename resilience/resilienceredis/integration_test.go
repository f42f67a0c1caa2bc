package resilienceredis_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/servertest"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/cache"
	"github.com/smilefactory/integrations/resilience/resilienceredis"
)

var opRate = resilience.Op{Name: "rates.rate", Safety: fault.Read}

// shared is a client of the server that scripts/servers started, and a prefix that
// no other run has.
func shared(t *testing.T) (c *redis.Client, prefix string) {
	t.Helper()
	c = client(t, &redis.Options{Addr: servertest.Env(t, "INTEGRATIONS_REDIS_ADDR")})
	prefix = fmt.Sprintf("test:%s:%d:", t.Name(), time.Now().UnixNano())
	t.Cleanup(func() {
		ctx := context.Background()
		for keys := c.Scan(ctx, 0, "*"+prefix+"*", 0).Iterator(); keys.Next(ctx); {
			c.Del(ctx, keys.Val())
		}
	})
	return c, prefix
}

func TestIntegrationTheStoreKeepsValuesForTheirTTL(t *testing.T) {
	c, prefix := shared(t)
	store, err := resilienceredis.NewCache(c, resilienceredis.CacheConfig{Prefix: prefix, MaxBytes: 100})
	require.NoError(t, err)
	_, found, err := store.Get(t.Context(), "k")
	require.NoError(t, err)
	assert.False(t, found)
	value := []byte("a\x00b\xff\r\n")
	require.NoError(t, store.Set(t.Context(), "k", value, time.Minute))
	data, found, err := store.Get(t.Context(), "k")
	require.NoError(t, err)
	assert.True(t, found)
	assert.Equal(t, value, data)
	assert.InDelta(t, time.Minute, c.PTTL(t.Context(), prefix+"k").Val(), float64(5*time.Second))

	require.NoError(t, store.Delete(t.Context(), "k"))
	_, found, err = store.Get(t.Context(), "k")
	require.NoError(t, err)
	assert.False(t, found)

	c.LPush(t.Context(), prefix+"list", "x")
	_, found, err = store.Get(t.Context(), "list")
	require.NoError(t, err)
	assert.False(t, found)
	c.Set(t.Context(), prefix+"long", make([]byte, 101), 0)
	_, found, err = store.Get(t.Context(), "long")
	require.NoError(t, err)
	assert.False(t, found)
}

// serverTime is Redis's own clock.
func serverTime(t *testing.T, c *redis.Client) time.Time {
	t.Helper()
	now, err := c.Time(t.Context()).Result()
	require.NoError(t, err)
	return now
}

func TestIntegrationTwoProcessesNeverExceedTheRateTogether(t *testing.T) {
	c, prefix := shared(t)
	const perSecond, burst, windows, callers = 500, 20, 10, 8
	config := resilienceredis.LimiterConfig{Rate: perSecond, Burst: burst, Prefix: prefix, WhenDown: resilienceredis.FailClosed}
	var limiters []*resilienceredis.Limiter
	for range 2 {
		limiters = append(limiters, patient(t, client(t, &redis.Options{Addr: c.Options().Addr}), config))
	}
	var total, asked int64
	start := serverTime(t, c)
	for n := range windows {
		var granted [2]atomic.Int64
		from := serverTime(t, c)
		var wg sync.WaitGroup
		for p, l := range limiters {
			for range callers {
				wg.Go(func() {
					for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); atomic.AddInt64(&asked, 1) {
						wait, err := l.Take(t.Context(), "ses")
						if !assert.NoError(t, err) {
							return
						}
						if wait == 0 {
							granted[p].Add(1)
						}
					}
				})
			}
		}
		wg.Wait()
		took := serverTime(t, c).Sub(from)
		sum := granted[0].Load() + granted[1].Load()
		total += sum
		if n == 0 {
			t.Logf("first window: %d and %d calls in %v", granted[0].Load(), granted[1].Load(), took)
		}
		assert.LessOrEqual(t, float64(sum), burst+perSecond*took.Seconds(), "in window %d", n)
	}
	took := serverTime(t, c).Sub(start)
	most := burst + perSecond*took.Seconds()
	t.Logf("%d of %d calls granted to two processes in %v of Redis's clock; at most %.1f are allowed", total, asked, took, most)
	assert.LessOrEqual(t, float64(total), most)
	assert.GreaterOrEqual(t, float64(total), 0.9*perSecond*took.Seconds(), "and the rate is used")
}

func TestIntegrationTwoProcessesNeverSpendMoreThanTheRateTogether(t *testing.T) {
	c, prefix := shared(t)
	const perSecond, burst, callers = 5000, 400, 8
	config := resilienceredis.LimiterConfig{Rate: perSecond, Burst: burst, Prefix: prefix, WhenDown: resilienceredis.FailClosed}
	var spent, grants atomic.Int64
	var wg sync.WaitGroup
	from := serverTime(t, c)
	for range 2 {
		l := patient(t, client(t, &redis.Options{Addr: c.Options().Addr}), config)
		for range callers {
			wg.Go(func() {
				for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
					cost := 1 + rand.IntN(burst/4)
					wait, err := l.TakeN(t.Context(), "ai", cost)
					if !assert.NoError(t, err) {
						return
					}
					if wait > 0 {
						time.Sleep(min(wait, 10*time.Millisecond))
						continue
					}
					off := rand.IntN(2*cost) - cost
					assert.NoError(t, l.Settle(t.Context(), "ai", off))
					spent.Add(int64(cost + off))
					grants.Add(1)
				}
			})
		}
	}
	wg.Wait()
	key := prefix + "ai"
	debt := c.PTTL(t.Context(), key).Val().Seconds()*perSecond - burst // what the last settlements have added
	took := serverTime(t, c).Sub(from).Seconds()
	most := burst + perSecond*took + max(debt, 0)
	t.Logf("%d calls granted, which cost %d in %.3f s of Redis's clock; %.0f are allowed, with a debt of %.0f", grants.Load(), spent.Load(), took, most, debt)
	assert.LessOrEqual(t, float64(spent.Load()), most+perSecond/1000) // the key's expiry is in milliseconds
	assert.GreaterOrEqual(t, float64(spent.Load()), 0.7*perSecond*took)

	l := patient(t, c, config)
	require.NoError(t, l.Settle(t.Context(), "ai", 60*perSecond))
	wait, err := l.TakeN(t.Context(), "ai", burst)
	require.NoError(t, err)
	assert.InDelta(t, time.Minute, wait, float64(5*time.Second))
	assert.InDelta(t, time.Minute, c.PTTL(t.Context(), key).Val(), float64(5*time.Second), "the key outlasts the debt")
	require.NoError(t, l.Settle(t.Context(), "ai", -100*perSecond))
	assert.Zero(t, c.Exists(t.Context(), key).Val())
}

func TestIntegrationTheLimiterWaitsAsLongAsItSays(t *testing.T) {
	c, prefix := shared(t)
	l := patient(t, c, resilienceredis.LimiterConfig{Rate: 20, Burst: 1, Prefix: prefix, WhenDown: resilienceredis.FailClosed})
	from := serverTime(t, c)
	for granted := 0; granted < 11; {
		wait, err := l.Take(t.Context(), "ses")
		require.NoError(t, err)
		if wait == 0 {
			granted++
			continue
		}
		require.LessOrEqual(t, wait, 50*time.Millisecond)
		<-time.After(wait)
	}
	took := serverTime(t, c).Sub(from)
	t.Logf("11 calls at 20 a second, each after the wait that the last refusal told: %v", took)
	assert.GreaterOrEqual(t, took, 500*time.Millisecond)
}

func TestIntegrationTheScriptIsLoadedAgainWhenItWasForgotten(t *testing.T) {
	c, prefix := shared(t)
	l := patient(t, c, resilienceredis.LimiterConfig{Rate: 0.1, Burst: 10, Prefix: prefix, WhenDown: resilienceredis.FailClosed})
	for range 5 {
		require.NoError(t, c.ScriptFlush(t.Context()).Err())
		for range 2 {
			require.Zero(t, take(t, l, "ses"))
		}
	}
	assert.Positive(t, take(t, l, "ses"), "and what was granted counts")
}

func TestIntegrationTenThousandCallersOnOneExpiredEntryInTwoCachesOverOneRedis(t *testing.T) {
	c, prefix := shared(t)
	const callers, ttl = 10_000, 300 * time.Millisecond
	var calls [2]atomic.Int64
	var caches [2]*cache.Cache[int64]
	for p := range caches {
		store, err := resilienceredis.NewCache(client(t, &redis.Options{Addr: c.Options().Addr}), resilienceredis.CacheConfig{Prefix: prefix})
		require.NoError(t, err)
		caches[p], err = cache.New(cache.Config[int64]{TTL: ttl, Stale: time.Minute, Store: store, StoreTimeout: 5 * time.Second})
		require.NoError(t, err)
	}
	ask := func(p int) {
		_, err := caches[p].Do(t.Context(), opRate, "USD", func(context.Context) (int64, error) {
			<-time.After(2 * ttl) // so that nothing expires before the last has come
			return calls[p].Add(1), nil
		})
		assert.NoError(t, err)
	}
	ask(0)
	ask(1)
	before := calls[0].Load() + calls[1].Load()
	<-time.After(2 * ttl) // expired for both
	calls[0].Store(0)
	calls[1].Store(0)
	ready := make(chan struct{})
	var wg sync.WaitGroup
	for n := range callers {
		wg.Go(func() { <-ready; ask(n % 2) })
	}
	close(ready)
	wg.Wait()
	t.Logf("%d callers on one expired entry: %d and %d upstream calls (%d before)", callers, calls[0].Load(), calls[1].Load(), before)
	assert.LessOrEqual(t, calls[0].Load(), int64(1))
	assert.LessOrEqual(t, calls[1].Load(), int64(1))
	for _, c := range caches {
		require.NoError(t, c.Close(t.Context()))
	}
}

func TestIntegrationAProcessWarnsThoseThatListenAndThoseThatComeLater(t *testing.T) {
	c, prefix := shared(t)
	addr := c.Options().Addr
	a, heardByA := process(t, addr, resilienceredis.StateConfig{Prefix: prefix})
	_, heardByB := process(t, addr, resilienceredis.StateConfig{Prefix: prefix})
	channel := prefix + "opened"
	require.Eventually(t, func() bool { return c.PubSubNumSub(t.Context(), channel).Val()[channel] == 2 }, 10*time.Second, time.Millisecond)
	start := time.Now()
	a.Observe(t.Context(), opened("eu/ses", 30*time.Second))
	got := heardByB.next(t)
	t.Logf("told and heard in %v", time.Since(start))
	assert.Equal(t, "eu/ses", got.provider)
	_, heardLater := process(t, addr, resilienceredis.StateConfig{Prefix: prefix})
	got = heardLater.next(t)
	assert.Equal(t, "eu/ses", got.provider)
	assert.InDelta(t, 30*time.Second, got.d, float64(5*time.Second))
	assert.Empty(t, heardByA)
	ttl := c.PTTL(t.Context(), prefix+"open").Val()
	assert.InDelta(t, 30*time.Second, ttl, float64(5*time.Second))
}

// redisServer is a process of this test's own, which can be killed.
type redisServer struct {
	path, addr string
	cmd        *exec.Cmd
}

func ownServer(t *testing.T) *redisServer {
	t.Helper()
	servertest.Env(t, "INTEGRATIONS_REDIS_ADDR") // isn't used: this one says that such tests are wanted
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server isn't installed (Debian: apt-get install redis-server)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &redisServer{path: path, addr: l.Addr().String()}
	require.NoError(t, l.Close())
	s.start(t)
	t.Cleanup(s.kill)
	return s
}

func (s *redisServer) start(t *testing.T) {
	t.Helper()
	_, port, err := net.SplitHostPort(s.addr)
	require.NoError(t, err)
	s.cmd = exec.Command(s.path, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--daemonize", "no")
	s.cmd.Dir = t.TempDir()
	require.NoError(t, s.cmd.Start())
	c := redis.NewClient(&redis.Options{Addr: s.addr})
	defer c.Close()
	require.Eventually(t, func() bool { return c.Ping(t.Context()).Err() == nil }, 10*time.Second, 5*time.Millisecond)
}

// kill is SIGKILL.
func (s *redisServer) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// load is what many callers saw in one phase.
type load struct {
	calls, failed, granted, upstream, slow atomic.Int64
	slowest                                atomic.Int64 // nanoseconds
}

func (l *load) took(d, slow time.Duration) {
	l.calls.Add(1)
	if d > slow {
		l.slow.Add(1)
	}
	for {
		old := l.slowest.Load()
		if int64(d) <= old || l.slowest.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

func (l *load) String() string {
	return fmt.Sprintf("%6d calls, %d failed, %5d granted by the limiter, %6d upstream calls, %d slower than 40 ms, slowest %v",
		l.calls.Load(), l.failed.Load(), l.granted.Load(), l.upstream.Load(), l.slow.Load(), time.Duration(l.slowest.Load()).Round(100*time.Microsecond))
}

// Limiter, cache and state under load, while their Redis is killed, started again,
// and stopped for a while: no call fails for it, the limit becomes a local share, every process asks
// upstream for itself, and all of it ends without a restart.
func TestIntegrationRedisIsKilledAndStartedAgainUnderLoad(t *testing.T) {
	server := ownServer(t)
	const (
		processes, callers = 2, 8
		perSecond, burst   = 200, 20
		phase              = 2 * time.Second
		share              = perSecond / processes
	)
	var now atomic.Pointer[load]
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var states []*resilienceredis.State
	var heard []warnings
	var caches []*cache.Cache[int]
	for range processes {
		c := client(t, &redis.Options{Addr: server.addr})
		l := limiter(t, c, resilienceredis.LimiterConfig{Rate: perSecond, Burst: burst, Share: processes})
		store, err := resilienceredis.NewCache(c, resilienceredis.CacheConfig{})
		require.NoError(t, err)
		answers, err := cache.New(cache.Config[int]{TTL: time.Second, Jitter: 0.5, Stale: time.Hour, Store: store})
		require.NoError(t, err)
		caches = append(caches, answers)
		s, err := resilienceredis.NewState(c, resilienceredis.StateConfig{})
		require.NoError(t, err)
		w := make(warnings, 1000)
		states, heard = append(states, s), append(heard, w)
		wg.Go(func() { assert.ErrorIs(t, s.Run(ctx, w), context.Canceled) })
		for n := range callers {
			wg.Go(func() {
				for i := n; ctx.Err() == nil; i++ {
					one(ctx, t, now.Load, l, answers, i%20)
				}
			})
		}
	}
	measure := func(name string, d time.Duration) *load {
		var l load
		now.Store(&l)
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		now.Store(&load{}) // what comes between two phases is nobody's
		t.Logf("%-28s %v", name, &l)
		return &l
	}
	now.Store(&load{})
	up := measure("Redis is up", phase)
	states[0].Observe(ctx, opened("ses", time.Minute))
	require.Equal(t, "ses", heard[1].next(t).provider)

	server.kill()
	down := measure("killed", phase)
	states[0].Observe(ctx, opened("smtp", time.Minute))
	server.start(t)
	measure("started again, first 2 s", 2*time.Second)
	back := measure("started again", phase)
	require.Equal(t, "smtp", heard[1].next(t).provider, "the news has waited")
	time.Sleep(3 * time.Second) // the store is left alone for 5 s
	again := measure("and 5 s later", phase)

	require.NoError(t, server.cmd.Process.Signal(syscall.SIGSTOP))
	hung := measure("it hangs (SIGSTOP)", phase)
	require.NoError(t, server.cmd.Process.Signal(syscall.SIGCONT))
	measure("it goes on, first 2 s", 2*time.Second)
	well := measure("it goes on", phase)
	stop()
	wg.Wait()

	for name, l := range map[string]*load{"up": up, "down": down, "back": back, "again": again, "hung": hung, "well": well} {
		assert.Zero(t, l.failed.Load(), name)
		assert.Positive(t, l.calls.Load(), name)
	}
	seconds := phase.Seconds()
	for name, l := range map[string]*load{"up": up, "back": back, "again": again, "well": well} {
		assert.LessOrEqual(t, float64(l.granted.Load()), burst+perSecond*(seconds+1), name)
		assert.GreaterOrEqual(t, float64(l.granted.Load()), perSecond*seconds*0.7, name)
	}
	for name, l := range map[string]*load{"down": down, "hung": hung} {
		assert.LessOrEqual(t, float64(l.granted.Load()), burst+processes*share*(seconds+0.5), "%s: a share for each", name)
		// Those who were on their way when it failed, and who try again.
		assert.LessOrEqual(t, l.slow.Load(), l.calls.Load()/50, name)
	}
	for i, c := range caches {
		require.NoError(t, c.Close(t.Context()))
		t.Logf("cache %d: %+v", i, c.Stats())
		t.Logf("state %d: %+v", i, states[i].Stats())
	}
}

// one is one caller's turn: a call of the limited provider, and a cached read.
func one(ctx context.Context, t *testing.T, now func() *load, l *resilienceredis.Limiter, answers *cache.Cache[int], key int) {
	start := time.Now()
	wait, err := l.Take(ctx, "ses")
	if err == nil {
		_, err = answers.Do(ctx, opRate, strconv.Itoa(key), func(context.Context) (int, error) {
			now().upstream.Add(1)
			return key, nil
		})
	}
	took, in := time.Since(start), now()
	in.took(took, 40*time.Millisecond)
	switch {
	case err != nil && ctx.Err() == nil:
		in.failed.Add(1)
		t.Error(err)
	case err == nil && wait == 0:
		in.granted.Add(1)
	}
	if errors.Is(err, context.Canceled) {
		return
	}
	time.Sleep(2 * time.Millisecond)
	runtime.Gosched()
}
