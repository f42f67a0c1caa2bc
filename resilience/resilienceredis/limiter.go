package resilienceredis

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"github.com/smilefactory/integrations/resilience"
)

// Fallback is what a Limiter does where Redis can't be asked.
type Fallback uint8

// The fallbacks.
const (
	// LocalShare limits by this process's share of the rate. The zero value.
	LocalShare Fallback = iota
	// FailOpen grants every call.
	FailOpen
	// FailClosed grants none.
	FailClosed
	fallbacks
)

// LimiterConfig says what a Limiter grants. Rate and Burst are required, and Share
// where WhenDown is LocalShare.
type LimiterConfig struct {
	// Rate is how many calls a second all processes make together, up to
	// 100,000. Burst is how many of them may come at once.
	Rate  float64
	Burst int
	// PerTenant gives each tenant (resilience.WithTenant) a limit of its own.
	PerTenant bool
	// Prefix begins every key. Empty means "resilience:limit:". Limiters with
	// one Prefix should have one Rate and Burst.
	Prefix string
	// Timeout is how long Redis may take. Zero means 50 ms. A caller with less than
	// twice that left spends half of it.
	Timeout time.Duration
	// Backoff is for how long Redis isn't asked after it failed; then one call
	// tries again. So an outage costs one Timeout each Backoff. Zero means 1 s.
	Backoff time.Duration
	// WhenDown is what happens meanwhile.
	WhenDown Fallback
	// Share is how many processes share the limit: each has Rate/Share and
	// Burst/Share, but at least one call at once, while Redis is down.
	Share int
	// OnError is told of every failure of Redis, in the caller's goroutine.
	OnError func(error)
}

const (
	defaultLimitPrefix  = "resilience:limit:"
	defaultLimitTimeout = 50 * time.Millisecond
	defaultLimitBackoff = time.Second
	maxRate             = 100_000
)

func (c *LimiterConfig) validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("resilienceredis: "+format, args...))
		}
	}
	refuse(!(c.Rate > 0 && c.Rate <= maxRate), "Rate must be above 0 and at most %d calls a second, not %v", maxRate, c.Rate)
	refuse(c.Burst < 1, "Burst must be at least 1, not %d", c.Burst)
	refuse(c.Timeout < 0 || c.Backoff < 0, "Timeout or Backoff is negative")
	refuse(c.WhenDown >= fallbacks, "there is no fallback %d", c.WhenDown)
	refuse(c.WhenDown == LocalShare && c.Share < 1, "Share is missing: how many processes share the limit, while Redis is down?")
	return errors.Join(errs...)
}

func (c *LimiterConfig) fillIn() {
	if c.Prefix == "" {
		c.Prefix = defaultLimitPrefix
	}
	if c.Timeout == 0 {
		c.Timeout = defaultLimitTimeout
	}
	if c.Backoff == 0 {
		c.Backoff = defaultLimitBackoff
	}
}

// Limiter is a rate limit that processes share, for [resilience.Policy]. One
// script grants or refuses, atomically and by the server's clock; a refused call
// takes nothing. A Redis that was emptied grants a Burst anew. It is safe for
// concurrent use.
type Limiter struct {
	client   redis.UniversalClient
	config   LimiterConfig
	interval float64 // microseconds between two calls
	breaker  *gobreaker.TwoStepCircuitBreaker[struct{}]
	local    local
}

var _ resilience.Limiter = (*Limiter)(nil)

//go:embed limiter.lua
var limiterSource string

var limiterScript = redis.NewScript(limiterSource)

var errExcluded = errors.New("says nothing of Redis")

// NewLimiter checks client and config. It asks nothing of Redis yet.
func NewLimiter(client redis.UniversalClient, config LimiterConfig) (*Limiter, error) {
	if err := errors.Join(check(client), config.validate()); err != nil {
		return nil, err
	}
	config.fillIn()
	l := &Limiter{
		client: client, config: config,
		interval: math.Ceil(64e6/config.Rate) / 64, // up, so that the rate is never exceeded
		breaker: gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Timeout:     config.Backoff,
			ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 1 },
			IsExcluded:  func(err error) bool { return err == errExcluded },
		}),
	}
	if config.WhenDown == LocalShare {
		l.local.rate = rate.Limit(config.Rate / float64(config.Share))
		l.local.burst = max(config.Burst/config.Share, 1)
	}
	return l, nil
}

// Take grants one call of provider by a wait of zero, or says after how long to
// ask again. It errs where ctx has ended, and with FailClosed.
func (l *Limiter) Take(ctx context.Context, provider string) (time.Duration, error) {
	key := l.key(ctx, provider)
	wait, err := l.ask(ctx, key)
	switch {
	case err == nil:
		return wait, nil
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case l.config.WhenDown == FailOpen:
		return 0, nil
	case l.config.WhenDown == FailClosed:
		return 0, err
	}
	return l.local.take(key, time.Now()), nil
}

var errResting = errors.New("resilienceredis: Redis is left alone for a while, as it failed")

func (l *Limiter) ask(ctx context.Context, key string) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	done, err := l.breaker.Allow()
	if err != nil {
		return 0, errResting
	}
	limit := l.limit(ctx)
	wait, err := l.run(ctx, limit, key)
	switch {
	case err == nil:
		done(nil)
		return wait, nil
	case ctx.Err() != nil || 2*limit < l.config.Timeout: // the caller left, or was in a hurry
		done(errExcluded)
	default:
		done(err)
	}
	if l.config.OnError != nil && ctx.Err() == nil {
		l.config.OnError(err)
	}
	return 0, err
}

// limit leaves a caller half of its time, for what it came for.
func (l *Limiter) limit(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(l.config.Timeout, time.Until(deadline)/2)
	}
	return l.config.Timeout
}

func (l *Limiter) run(ctx context.Context, limit time.Duration, key string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	wait, err := limiterScript.Run(ctx, l.client, []string{l.config.Prefix + key}, l.interval, l.config.Burst).Int64()
	if err != nil {
		return 0, failed("limit", err)
	}
	return time.Duration(wait) * time.Microsecond, nil
}

// maxKey is the length beyond which a key is hashed.
const maxKey = 128

func (l *Limiter) key(ctx context.Context, provider string) string {
	if !l.config.PerTenant {
		return provider
	}
	key := provider + ":" + resilience.Tenant(ctx) // a provider's name has no colon
	if len(key) <= maxKey {
		return key
	}
	h := sha256.Sum256([]byte(key))
	return provider + "::" + base64.RawURLEncoding.EncodeToString(h[:])
}

// local is this process's share of the limits.
type local struct {
	rate  rate.Limit
	burst int
	mu    sync.Mutex
	keys  map[string]*rate.Limiter
}

// maxLocal bounds the keys. Beyond it those are forgotten that are unused, which
// changes nothing, or if there are none, some that aren't.
const maxLocal = 10_000

func (l *local) take(key string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.keys[key]
	if limiter == nil {
		limiter = l.add(key, now)
	}
	if limiter.AllowN(now, 1) {
		return 0
	}
	missing := (1 - limiter.TokensAt(now)) / float64(l.rate)
	return max(time.Duration(math.Ceil(missing*float64(time.Second))), 1)
}

func (l *local) add(key string, now time.Time) *rate.Limiter {
	if l.keys == nil {
		l.keys = map[string]*rate.Limiter{}
	}
	if len(l.keys) >= maxLocal {
		for k, v := range l.keys {
			if v.TokensAt(now) >= float64(l.burst) {
				delete(l.keys, k)
			}
		}
		for k := range l.keys {
			if len(l.keys) < maxLocal*9/10 {
				break
			}
			delete(l.keys, k)
		}
	}
	limiter := rate.NewLimiter(l.rate, l.burst)
	l.keys[key] = limiter
	return limiter
}
