package resilienceredis_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/resilienceredis"
)

// patient is a Limiter that a slow machine doesn't hurry.
func patient(t *testing.T, c redis.UniversalClient, config resilienceredis.LimiterConfig) *resilienceredis.Limiter {
	t.Helper()
	config.Timeout = 10 * time.Second
	return limiter(t, c, config)
}

func limiter(t *testing.T, c redis.UniversalClient, config resilienceredis.LimiterConfig) *resilienceredis.Limiter {
	t.Helper()
	if config.Share == 0 {
		config.Share = 1
	}
	l, err := resilienceredis.NewLimiter(c, config)
	require.NoError(t, err)
	return l
}

func take(t *testing.T, l *resilienceredis.Limiter, provider string) time.Duration {
	t.Helper()
	wait, err := l.Take(t.Context(), provider)
	require.NoError(t, err)
	return wait
}

func TestALimiterConfigThatCannotWorkIsRefused(t *testing.T) {
	_, c := start(t)
	for name, row := range map[string]struct {
		config resilienceredis.LimiterConfig
		says   string
	}{
		"no Rate":            {resilienceredis.LimiterConfig{Burst: 1, Share: 1}, "Rate"},
		"too high a Rate":    {resilienceredis.LimiterConfig{Rate: 1e6, Burst: 1, Share: 1}, "Rate"},
		"no Burst":           {resilienceredis.LimiterConfig{Rate: 1, Share: 1}, "Burst"},
		"a Burst of years":   {resilienceredis.LimiterConfig{Rate: 1e-6, Burst: 32, Share: 1}, "Burst"},
		"no Share":           {resilienceredis.LimiterConfig{Rate: 1, Burst: 1}, "Share"},
		"no such fallback":   {resilienceredis.LimiterConfig{Rate: 1, Burst: 1, WhenDown: 9}, "fallback"},
		"a negative Timeout": {resilienceredis.LimiterConfig{Rate: 1, Burst: 1, Share: 1, Timeout: -1}, "Timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := resilienceredis.NewLimiter(c, row.config)
			assert.ErrorContains(t, err, row.says)
		})
	}
}

func TestABurstIsGrantedAtOnceAndThenTheRate(t *testing.T) {
	for _, row := range []struct {
		rate  float64
		burst int
	}{{10, 1}, {10, 5}, {3, 2}, {0.5, 3}, {100_000, 10}, {70_000, 1}} {
		t.Run(strconv.FormatFloat(row.rate, 'g', -1, 64)+" a second, "+strconv.Itoa(row.burst)+" at once", func(t *testing.T) {
			server, c := start(t)
			l := patient(t, c, resilienceredis.LimiterConfig{Rate: row.rate, Burst: row.burst, WhenDown: resilienceredis.FailClosed})
			now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
			server.SetTime(now)
			for range row.burst {
				require.Zero(t, take(t, l, "ses"))
			}
			start := now
			for n := range 20 { // each as soon as it may
				wait := take(t, l, "ses")
				require.Positive(t, wait)
				require.Equal(t, wait, take(t, l, "ses"), "a refused call takes nothing")
				server.SetTime(now.Add(wait - time.Microsecond))
				require.Equal(t, time.Microsecond, take(t, l, "ses"), "nor is it too careful")
				now = now.Add(wait)
				server.SetTime(now)
				require.Zero(t, take(t, l, "ses"))
				exact := time.Duration(float64(n+1) / row.rate * float64(time.Second))
				require.InDelta(t, exact, now.Sub(start), float64(time.Duration(n+2)*time.Microsecond), "but for the rounding of each wait to a microsecond")
				require.GreaterOrEqual(t, now.Sub(start)+time.Microsecond, exact, "never faster than the rate")
			}
		})
	}
}

func TestAnUnusedLimitGathersItsBurstAndNoMore(t *testing.T) {
	server, c := start(t)
	l := patient(t, c, resilienceredis.LimiterConfig{Rate: 10, Burst: 3})
	for range 3 {
		require.Zero(t, take(t, l, "ses"))
	}
	key := server.Keys()[0]
	assert.Equal(t, "resilience:limit:ses", key)
	assert.Equal(t, 300*time.Millisecond, server.TTL(key), "an unused limit leaves nothing behind")
	server.SetTime(time.Date(2026, 7, 1, 13, 0, 0, 0, time.UTC))
	for range 3 {
		require.Zero(t, take(t, l, "ses"))
	}
	assert.Equal(t, 100*time.Millisecond, take(t, l, "ses"))
}

// Whatever the order of calls and pauses, no stretch of time has more than the
// burst and the rate allow.
func TestNoStretchOfTimeHasMoreThanItsShare(t *testing.T) {
	server, c := start(t)
	const perSecond, burst = 7, 4
	l := patient(t, c, resilienceredis.LimiterConfig{Rate: perSecond, Burst: burst, WhenDown: resilienceredis.FailClosed})
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	var granted []time.Time
	for range 2000 {
		now = now.Add(time.Duration(rand.ExpFloat64() * float64(70*time.Millisecond))).Truncate(time.Microsecond)
		server.SetTime(now)
		if take(t, l, "ses") == 0 {
			granted = append(granted, now)
		}
	}
	require.Greater(t, len(granted), 500)
	for i, from := range granted {
		for j, to := range granted[i:] {
			if most := burst + perSecond*to.Sub(from).Seconds(); float64(j+1) > most+1e-6 {
				t.Fatalf("%d calls in %v, where %.2f are allowed", j+1, to.Sub(from), most)
			}
		}
	}
	t.Logf("%d calls granted in %v: %.2f a second", len(granted), now.Sub(granted[0]), float64(len(granted))/now.Sub(granted[0]).Seconds())
}

func TestProvidersAndWhereWantedTenantsHaveLimitsOfTheirOwn(t *testing.T) {
	server, c := start(t)
	ada, bob := resilience.WithTenant(t.Context(), "ada"), resilience.WithTenant(t.Context(), "bob")
	long := resilience.WithTenant(t.Context(), strings.Repeat("x", 10_000))
	l := patient(t, c, resilienceredis.LimiterConfig{Rate: 1, Burst: 1, PerTenant: true})
	for _, ctx := range []context.Context{t.Context(), ada, bob, long} {
		for _, provider := range []string{"ses", "smtp"} {
			wait, err := l.Take(ctx, provider)
			require.NoError(t, err)
			assert.Zero(t, wait)
			wait, err = l.Take(ctx, provider)
			require.NoError(t, err)
			assert.Equal(t, time.Second, wait)
		}
	}
	for _, k := range server.Keys() {
		assert.LessOrEqual(t, len(k), 200)
	}
	shared := patient(t, c, resilienceredis.LimiterConfig{Rate: 1, Burst: 1, Prefix: "shared:"})
	wait, err := shared.Take(ada, "ses")
	require.NoError(t, err)
	assert.Zero(t, wait)
	wait, err = shared.Take(bob, "ses")
	require.NoError(t, err)
	assert.Equal(t, time.Second, wait)
}

func TestALimitRecoversFrom(t *testing.T) {
	const key = "resilience:limit:ses"
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for name, spoil := range map[string]func(t *testing.T, c *redis.Client, setTime func(time.Time)){
		"a clock that was put back":   func(_ *testing.T, _ *redis.Client, setTime func(time.Time)) { setTime(now.Add(-time.Hour)) },
		"a number that means nothing": func(t *testing.T, c *redis.Client, _ func(time.Time)) { c.Set(t.Context(), key, "1e300", 0) },
		"a debt of another rate": func(t *testing.T, c *redis.Client, _ func(time.Time)) {
			require.NoError(t, patient(t, c, resilienceredis.LimiterConfig{Rate: 1, Burst: 2}).Settle(t.Context(), "ses", 1000))
		},
		"a value that is no number":   func(t *testing.T, c *redis.Client, _ func(time.Time)) { c.Set(t.Context(), key, "x", 0) },
		"scripts that were forgotten": func(t *testing.T, c *redis.Client, _ func(time.Time)) { c.ScriptFlush(t.Context()) },
		"a limit that was larger before": func(t *testing.T, c *redis.Client, _ func(time.Time)) {
			l := patient(t, c, resilienceredis.LimiterConfig{Rate: 0.01, Burst: 100})
			for range 100 {
				take(t, l, "ses")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, c := start(t)
			server.SetTime(now)
			l := patient(t, c, resilienceredis.LimiterConfig{Rate: 10, Burst: 2, WhenDown: resilienceredis.FailClosed})
			for range 2 {
				require.Zero(t, take(t, l, "ses"))
			}
			spoil(t, c, server.SetTime)
			require.LessOrEqual(t, take(t, l, "ses"), 100*time.Millisecond, "at most one interval")
			server.SetTime(serverTime(t, c).Add(100 * time.Millisecond))
			assert.Zero(t, take(t, l, "ses"), "and then it is granted")
		})
	}
}

func TestASomethingElseUnderTheKeyIsAFailure(t *testing.T) {
	server, c := start(t)
	_, err := server.Lpush("resilience:limit:ses", "v")
	require.NoError(t, err)
	var told []error
	l := patient(t, c, resilienceredis.LimiterConfig{Rate: 10, Burst: 1, WhenDown: resilienceredis.FailClosed, OnError: func(err error) { told = append(told, err) }})
	_, err = l.Take(t.Context(), "ses")
	assert.ErrorContains(t, err, "WRONGTYPE")
	assert.Len(t, told, 1)
}

func TestAGroupKeepsTheSharedLimit(t *testing.T) {
	server, c := start(t)
	server.SetTime(time.Time{}) // it runs
	l := patient(t, c, resilienceredis.LimiterConfig{Rate: 100, Burst: 2})
	policy := resilience.Default
	policy.Limiter, policy.MaxWait = l, 0
	type provider = func() error
	var calls atomic.Int64
	g, err := resilience.New(policy, []resilience.Member[provider]{{Name: "ses", Provider: func() error { calls.Add(1); return nil }}})
	require.NoError(t, err)
	limited := 0
	for range 20 {
		_, err := resilience.Do(t.Context(), g, resilience.Op{Name: "mail.send"}, func(_ context.Context, p provider) (struct{}, error) { return struct{}{}, p() })
		if err != nil {
			require.ErrorIs(t, err, resilience.ErrLimited)
			limited++
		}
	}
	assert.Positive(t, limited)
	assert.EqualValues(t, 20-limited, calls.Load())
}

// Redis is down: it takes connections and says nothing, which is the slowest way.

func TestWhileRedisIsDown(t *testing.T) {
	for name, row := range map[string]struct {
		config        resilienceredis.LimiterConfig
		granted, errs int // of 1000 calls in 10 s
	}{
		"an equal share of the rate is granted": {resilienceredis.LimiterConfig{Rate: 40, Burst: 8, Share: 4}, 2 + 100, 0},
		"fail open grants all":                  {resilienceredis.LimiterConfig{Rate: 40, Burst: 8, WhenDown: resilienceredis.FailOpen}, 1000, 0},
		"fail closed grants none":               {resilienceredis.LimiterConfig{Rate: 40, Burst: 8, WhenDown: resilienceredis.FailClosed}, 0, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := hanging(t)
				defer c.Close()
				var told atomic.Int64
				row.config.OnError = func(error) { told.Add(1) }
				l := limiter(t, c, row.config)
				granted, errs, spent, slowest := 0, 0, time.Duration(0), time.Duration(0)
				for range 1000 {
					start := time.Now()
					wait, err := l.Take(t.Context(), "ses")
					took := time.Since(start)
					spent, slowest = spent+took, max(slowest, took)
					switch {
					case err != nil:
						errs++
					case wait == 0:
						granted++
					}
					time.Sleep(10*time.Millisecond - min(took, 10*time.Millisecond))
				}
				t.Logf("1000 calls in 10 s: %d granted, %d errors, Redis asked %d times, %v spent on it, slowest %v", granted, errs, told.Load(), spent, slowest)
				assert.InDelta(t, row.granted, granted, 3)
				assert.Equal(t, row.errs, errs)
				assert.LessOrEqual(t, told.Load(), int64(11), "once at first, and once a second")
				assert.Equal(t, time.Duration(told.Load())*50*time.Millisecond, spent)
				assert.Equal(t, 50*time.Millisecond, slowest)
			})
		})
	}
}

func TestOfManyCallersOneTriesRedisAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hanging(t)
		defer c.Close()
		var told atomic.Int64
		l := limiter(t, c, resilienceredis.LimiterConfig{Rate: 1, Burst: 1, WhenDown: resilienceredis.FailOpen, OnError: func(error) { told.Add(1) }})
		take(t, l, "ses")
		time.Sleep(1001 * time.Millisecond)
		var wg sync.WaitGroup
		var slow atomic.Int64
		for range 1000 {
			wg.Go(func() {
				start := time.Now()
				take(t, l, "ses")
				if time.Since(start) > 0 {
					slow.Add(1)
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, 1, slow.Load())
		assert.EqualValues(t, 2, told.Load())
	})
}

func TestTheShareIsOneCallAtOnceAtLeast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hanging(t)
		defer c.Close()
		l := limiter(t, c, resilienceredis.LimiterConfig{Rate: 10, Burst: 3, Share: 100})
		require.Zero(t, take(t, l, "ses"))
		wait := take(t, l, "ses")
		assert.Equal(t, 10*time.Second, wait.Round(time.Microsecond))
		require.Zero(t, take(t, l, "smtp"), "each provider has its own")
		time.Sleep(wait)
		assert.Zero(t, take(t, l, "ses"))
	})
}

func TestTheShareOfManyTenantsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hanging(t)
		defer c.Close()
		l := limiter(t, c, resilienceredis.LimiterConfig{Rate: 0.001, Burst: 1, PerTenant: true, Backoff: time.Hour})
		for i := range 50_000 {
			wait, err := l.Take(resilience.WithTenant(t.Context(), strconv.Itoa(i)), "ses")
			require.NoError(t, err)
			require.Zero(t, wait)
		}
		wait, err := l.Take(resilience.WithTenant(t.Context(), "49999"), "ses")
		require.NoError(t, err)
		assert.Positive(t, wait, "the newest is still known")
	})
}

func TestACallerWhoLeavesSaysNothingOfRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hanging(t)
		defer c.Close()
		told := 0
		l := limiter(t, c, resilienceredis.LimiterConfig{Rate: 1, Burst: 1, WhenDown: resilienceredis.FailClosed, OnError: func(error) { told++ }})
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			_, err := l.Take(ctx, "ses")
			assert.ErrorIs(t, err, context.Canceled)
		}
		assert.Zero(t, told)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := l.Take(ctx, "ses")
		assert.ErrorIs(t, err, context.Canceled)
	})
}

func TestACallerInAHurryKeepsHalfOfItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hanging(t)
		defer c.Close()
		l := limiter(t, c, resilienceredis.LimiterConfig{Rate: 1, Burst: 10})
		for range 3 { // and each time Redis is asked: so short a time proves nothing
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			start := time.Now()
			wait, err := l.Take(ctx, "ses")
			assert.NoError(t, err)
			assert.Zero(t, wait)
			assert.Equal(t, 10*time.Millisecond, time.Since(start))
			cancel()
		}
	})
}
