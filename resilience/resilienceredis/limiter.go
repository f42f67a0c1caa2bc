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

	"github.com/smilefactory/integrations/fault"
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
	// 100,000. Burst is how many of them may come at once: at most what the Rate
	// gives in a year. Where calls have costs, both count what they cost.
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
	// Burst/Share, but at least one call at once, while Redis is down. A call that
	// costs more than Burst/Share has all of it, and the rest is owed.
	Share int
	// OnError is told of every failure of Redis, in the caller's goroutine.
	OnError func(error)
}

const (
	defaultLimitPrefix  = "resilience:limit:"
	defaultLimitTimeout = 50 * time.Millisecond
	defaultLimitBackoff = time.Second
	maxRate             = 100_000
	maxFill             = 365 * 24 * time.Hour // how long an empty limit may take to fill
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
	refuse(c.Rate > 0 && float64(c.Burst) > c.Rate*maxFill.Seconds(), "Burst must be at most what the Rate gives in a year, not %d", c.Burst)
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
// script grants, refuses or corrects, atomically and by the server's clock; a refused
// call takes nothing. A Redis that was emptied grants a Burst anew and has forgotten
// what was owed. It is safe for concurrent use.
type Limiter struct {
	client   redis.UniversalClient
	config   LimiterConfig
	interval float64 // microseconds between two calls
	breaker  *gobreaker.TwoStepCircuitBreaker[struct{}]
	local    local
}

var _ resilience.CostLimiter = (*Limiter)(nil)

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
		l.local.debt = max(float64(l.local.rate)*time.Hour.Seconds(), float64(l.local.burst))
	}
	return l, nil
}

// Take grants one call of provider by a wait of zero, or says after how long to
// ask again. It errs where ctx has ended, and with FailClosed.
func (l *Limiter) Take(ctx context.Context, provider string) (time.Duration, error) {
	return l.TakeN(ctx, provider, 1)
}

// TakeN is Take for a call that costs n, at least 1. One that costs more than Burst
// could never be granted and is [fault.Unsupported]; Redis isn't asked. No call waits
// in a queue, so one that costs nearly a Burst may find that cheaper ones were
// quicker, each time that it asks again.
func (l *Limiter) TakeN(ctx context.Context, provider string, n int) (time.Duration, error) {
	switch {
	case n < 1:
		return 0, fault.New(fault.Invalid, fmt.Errorf("resilienceredis: a call must cost at least 1, not %d", n))
	case n > l.config.Burst:
		return 0, fault.New(fault.Unsupported, fmt.Errorf("resilienceredis: a cost of %d is more than the limit's Burst (%d): it would never be granted", n, l.config.Burst))
	}
	key := l.key(ctx, provider)
	wait, err := l.ask(ctx, key, n, false)
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
	return l.local.take(key, n, time.Now()), nil
}

// Settle corrects what was taken, once the true cost is known: n more, or where it
// is negative, fewer. It is never refused. What was spent beyond the limit is owed,
// and no call is granted before the Rate has made up for it; at most as much is owed as
// the Rate gives in an hour, or a Burst if that is more. What is given back never makes
// an unused limit larger than Burst.
//
// The end of ctx doesn't end it, because what was spent is spent; it takes at
// most Timeout. While Redis is down it corrects the local share; with FailOpen
// there is nothing to correct, and with FailClosed it errs and the correction is lost.
// If the connection breaks after Redis was asked, the client's own retry may repeat it.
func (l *Limiter) Settle(ctx context.Context, provider string, n int) error {
	if n == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	key := l.key(ctx, provider)
	_, err := l.ask(ctx, key, n, true)
	switch {
	case err != nil && l.config.WhenDown == FailClosed:
		return err
	case err != nil && l.config.WhenDown == LocalShare:
		l.local.settle(key, n, time.Now())
	}
	return nil
}

var errResting = errors.New("resilienceredis: Redis is left alone for a while, as it failed")

func (l *Limiter) ask(ctx context.Context, key string, n int, settle bool) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	done, err := l.breaker.Allow()
	if err != nil {
		return 0, errResting
	}
	limit := l.limit(ctx)
	wait, err := l.run(ctx, limit, key, n, settle)
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

func (l *Limiter) run(ctx context.Context, limit time.Duration, key string, n int, settle bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	wait, err := limiterScript.Run(ctx, l.client, []string{l.config.Prefix + key}, l.interval, l.config.Burst, n, settle).Int64()
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
	debt  float64 // at most
	mu    sync.Mutex
	keys  map[string]*rate.Limiter
}

// maxLocal bounds the keys. Beyond it those are forgotten that are unused, which
// changes nothing, or if there are none, some that aren't.
const maxLocal = 10_000

func (l *local) take(key string, n int, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.of(key, now)
	first := min(n, l.burst)
	if limiter.AllowN(now, first) {
		l.spend(limiter, n-first, now)
		return 0
	}
	missing := (float64(first) - limiter.TokensAt(now)) / float64(l.rate)
	return max(time.Duration(math.Ceil(missing*float64(time.Second))), 1)
}

func (l *local) settle(key string, n int, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.of(key, now)
	l.spend(limiter, min(n, int(limiter.TokensAt(now)+l.debt)), now)
}

// spend takes n, whatever there is. A reservation must fit into the burst, so this is
// made to fit for a moment; putting it back cuts off what was given back beyond it.
func (l *local) spend(limiter *rate.Limiter, n int, now time.Time) {
	limiter.SetBurstAt(now, max(n, l.burst))
	limiter.ReserveN(now, n)
	limiter.SetBurstAt(now, l.burst)
}

func (l *local) of(key string, now time.Time) *rate.Limiter {
	if limiter := l.keys[key]; limiter != nil {
		return limiter
	}
	return l.add(key, now)
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
