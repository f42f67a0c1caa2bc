package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/sony/gobreaker/v2"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

func is(err, target error) bool { return errors.Is(err, target) }

// noRetries keeps attempts and calls the same, and the time that it is open exact.
func noRetries(p *resilience.Policy) { p.Retries, p.Breaker.Jitter = 0, 0 }

func byRatio(p *resilience.Policy) { noRetries(p); p.Breaker.InARow = 0 }

// refused is what a policy that can't work is told.
func refused(t *testing.T, change func(*resilience.Policy)) string {
	p := resilience.Default
	change(&p)
	err := p.Validate()
	require.Error(t, err)
	return "refused when it is made: " + strings.TrimPrefix(err.Error(), "resilience: policy: ")
}

// oneProbe is a breaker that one success closes.
func oneProbe() circuitbreaker.CircuitBreaker[*answer] {
	return circuitbreaker.NewBuilder[*answer]().WithFailureRateThreshold(failureRatio, uint(minCalls), window).
		WithDelay(openFor).WithSuccessThreshold(1).Build()
}

// halfOpen is each library with a breaker that has opened and waited.
func oursHalfOpen(t *testing.T, op resilience.Op) (*resilience.Group[provider], *counted, protected) {
	p := counting(down)
	g := ours(t, noRetries, p)
	times(5, func() error { return oursDo(t.Context(), g, op) })
	require.Equal(t, "open", state(g))
	time.Sleep(openFor + time.Millisecond)
	p.n.Store(0)
	return g, p, func(ctx context.Context, now provider) error {
		p.does(now.Ask)
		return oursDo(ctx, g, op)
	}
}

func failsafeHalfOpen(t *testing.T) (circuitbreaker.CircuitBreaker[*answer], protected) {
	cb := oneProbe()
	call := failsafeWith(cb, timeout.New[*answer](attemptLimit))
	times(minCalls, func() error { return call(t.Context(), down) })
	require.True(t, cb.IsOpen())
	time.Sleep(openFor + time.Millisecond)
	return cb, call
}

func gobreakerHalfOpen(t *testing.T, change func(*gobreaker.Settings)) (*gobreaker.CircuitBreaker[*answer], protected) {
	cb, call := gobreakerWith(change)
	times(minCalls, func() error { return call(t.Context(), down) })
	require.Equal(t, gobreaker.StateOpen, cb.State())
	time.Sleep(openFor + time.Millisecond)
	return cb, call
}

// probed lets a probe do something, and looks whether a call an hour later gets
// through.
func probed(t *testing.T, call protected, probe providerFunc) string {
	apart(func() { _ = call(t.Context(), probe) })
	time.Sleep(time.Hour)
	if err := call(t.Context(), fast); err != nil {
		return "an hour later it still refuses"
	}
	return "an hour later a call goes through"
}

func probes(probe providerFunc) situation {
	return situation{
		ours:     func(t *testing.T) string { _, _, call := oursHalfOpen(t, op); return probed(t, call, probe) },
		failsafe: func(t *testing.T) string { _, call := failsafeHalfOpen(t); return probed(t, call, probe) },
		others: []named{{"gobreaker", func(t *testing.T) string {
			_, call := gobreakerHalfOpen(t, nil)
			return probed(t, call, probe)
		}}},
	}
}

func (s situation) called(when string) situation { s.when = when; return s }

func failsafeState(cb circuitbreaker.CircuitBreaker[*answer]) string { return cb.State().String() }

// after is the state of each breaker after so many calls. The policies of ours go
// by the ratio alone, as those of the others.
func after(n int, p providerFunc) situation {
	return situation{
		ours: func(t *testing.T) string {
			g := ours(t, byRatio, p)
			times(n, func() error { return oursAsk(t.Context(), g, &query{}) })
			return state(g)
		},
		failsafe: func(t *testing.T) string {
			cb := failsafeBreaker()
			call := failsafeWith(cb, timeout.New[*answer](attemptLimit))
			times(n, func() error { return call(t.Context(), p) })
			return failsafeState(cb)
		},
		others: []named{{"gobreaker", func(t *testing.T) string {
			cb, call := gobreakerWith(nil)
			times(n, func() error { return call(t.Context(), p) })
			return cb.State().String()
		}}},
	}
}

var errIgnored = errors.New("not the provider's fault")

var breakerSituations = []situation{
	{
		when: "40 calls of 70 ms fail, and the window is 50 ms",
		ours: func(t *testing.T) string {
			return refused(t, func(p *resilience.Policy) { p.Timeout, p.Breaker.Window = 100*time.Millisecond, 50*time.Millisecond })
		},
		failsafe: func(t *testing.T) string {
			cb := circuitbreaker.NewBuilder[*answer]().WithFailureRateThreshold(failureRatio, 10, 50*time.Millisecond).Build()
			call := failsafeWith(cb)
			times(40, func() error { return call(t.Context(), takes(70*time.Millisecond, errDown)) })
			return failsafeState(cb)
		},
		others: []named{{"gobreaker", func(t *testing.T) string {
			cb, call := gobreakerWith(func(s *gobreaker.Settings) { s.Interval, s.BucketPeriod = 50*time.Millisecond, 5*time.Millisecond })
			times(40, func() error { return call(t.Context(), takes(70*time.Millisecond, errDown)) })
			return cb.State().String()
		}}},
	},
	{
		when: "the ratio has no minimum of calls, and the first call fails",
		ours: func(t *testing.T) string {
			return refused(t, func(p *resilience.Policy) { p.Breaker.MinCalls = 0 })
		},
		failsafe: func(t *testing.T) string {
			cb := circuitbreaker.NewBuilder[*answer]().WithFailureRateThreshold(failureRatio, 0, window).Build()
			_ = failsafeWith(cb)(t.Context(), down)
			return failsafeState(cb)
		},
		others: []named{{"gobreaker", func(t *testing.T) string {
			cb, call := gobreakerWith(func(s *gobreaker.Settings) {
				s.ReadyToTrip = func(c gobreaker.Counts) bool { return float64(c.TotalFailures) >= failureRatio*float64(c.Requests) }
			})
			_ = call(t.Context(), down)
			return cb.State().String()
		}}},
	},
	{
		when: "100 calls hang while ten others fail",
		ours: func(t *testing.T) string {
			g := ours(t, byRatio, mixed())
			return besides(t, func() error { return oursAsk(t.Context(), g, &query{}) }, func() string { return state(g) })
		},
		failsafe: func(t *testing.T) string {
			cb, p := failsafeBreaker(), mixed()
			call := failsafeWith(cb)
			return besides(t, func() error { return call(t.Context(), p) }, func() string { return failsafeState(cb) })
		},
		others: []named{{"gobreaker with the ratio of its README", func(t *testing.T) string {
			p := mixed()
			cb, call := gobreakerWith(func(s *gobreaker.Settings) {
				s.ReadyToTrip = func(c gobreaker.Counts) bool {
					return c.Requests >= uint32(minCalls) && float64(c.TotalFailures)/float64(c.Requests) >= failureRatio
				}
			})
			return besides(t, func() error { return call(t.Context(), p) }, func() string { return cb.State().String() })
		}}},
	},
	after(9, down).called("nine calls fail where ten are the minimum"),
	{
		when: "a call comes in 10 s, and all fail",
		ours: func(t *testing.T) string {
			g := ours(t, noRetries, down)
			n := rarely(t, func() error { return oursAsk(t.Context(), g, &query{}) }, func() string { return state(g) })
			return fmt.Sprintf("open after %d", n)
		},
		failsafe: func(t *testing.T) string {
			cb := failsafeBreaker()
			rarely(t, func() error { return failsafeWith(cb)(t.Context(), down) }, func() string { return failsafeState(cb) })
			inARow := circuitbreaker.NewBuilder[*answer]().WithFailureThreshold(5).WithDelay(openFor).Build()
			n := rarely(t, func() error { return failsafeWith(inARow)(t.Context(), down) }, func() string { return failsafeState(inARow) })
			return fmt.Sprintf("%s; one that goes by failures in a row, and not by their share, opens after %d", failsafeState(cb), n)
		},
		others: []named{{"gobreaker", func(t *testing.T) string {
			cb, call := gobreakerWith(nil)
			rarely(t, func() error { return call(t.Context(), down) }, func() string { return cb.State().String() })
			return cb.State().String()
		}}},
	},
	{
		when: "answers are right and take 2 s each",
		ours: func(t *testing.T) string {
			g := ours(t, func(p *resilience.Policy) { p.Breaker.SlowAfter = time.Second }, takes(2*time.Second, nil))
			n := times(20, func() error { return oursAsk(t.Context(), g, &query{}) })
			return fmt.Sprintf("%s after %d, where SlowAfter is 1 s", state(g), n)
		},
		failsafe: func(t *testing.T) string {
			cb := failsafeBreaker()
			call := failsafeWith(cb, timeout.New[*answer](attemptLimit))
			times(20, func() error { return call(t.Context(), takes(2*time.Second, nil)) })
			return failsafeState(cb) + "; it has no such rule"
		},
		others: []named{{"gobreaker", func(t *testing.T) string {
			cb, call := gobreakerWith(nil)
			times(20, func() error { return call(t.Context(), takes(2*time.Second, nil)) })
			return cb.State().String() + "; it has no such rule"
		}}},
	},
	{
		when: "the first minute of a cold provider is all failures",
		ours: func(t *testing.T) string {
			g := ours(t, func(p *resilience.Policy) { noRetries(p); p.Breaker.WarmUp = time.Minute }, down)
			times(60, func() error { time.Sleep(time.Second); return oursAsk(t.Context(), g, &query{}) })
			return state(g) + " until then, with WarmUp"
		},
		failsafe: func(t *testing.T) string {
			cb := failsafeBreaker()
			call := failsafeWith(cb)
			times(59, func() error { time.Sleep(time.Second); return call(t.Context(), down) })
			return failsafeState(cb) + "; it has no such rule"
		},
	},
	{
		when: "the caller cancels ten calls, one after the other",
		ours: func(t *testing.T) string {
			g := ours(t, noRetries, hangs)
			cancels(t, func(ctx context.Context) error { return oursAsk(ctx, g, &query{}) })
			return state(g)
		},
		failsafe: func(t *testing.T) string {
			cb := failsafeBreaker()
			call := failsafeWith(cb, timeout.New[*answer](attemptLimit))
			cancels(t, func(ctx context.Context) error { return call(ctx, hangs) })
			excluding := circuitbreaker.NewBuilder[*answer]().WithFailureRateThreshold(failureRatio, uint(minCalls), window).WithDelay(openFor).
				HandleIf(func(_ *answer, err error) bool { return err != nil && !is(err, context.Canceled) }).Build()
			call = failsafeWith(excluding)
			cancels(t, func(ctx context.Context) error { return call(ctx, hangs) })
			return failsafeState(cb) + "; with a HandleIf that leaves them out, " + failsafeState(excluding)
		},
		others: []named{{"gobreaker", func(t *testing.T) string {
			cb, call := gobreakerWith(nil)
			cancels(t, func(ctx context.Context) error { return call(ctx, hangs) })
			excluding, call := gobreakerWith(func(s *gobreaker.Settings) {
				s.IsExcluded = func(err error) bool { return is(err, context.Canceled) }
			})
			cancels(t, func(ctx context.Context) error { return call(ctx, hangs) })
			return cb.State().String() + "; with IsExcluded, " + excluding.State().String()
		}}},
	},
	{
		when: "the rate limit refuses 20 calls of a healthy provider",
		ours: func(t *testing.T) string {
			g := ours(t, func(p *resilience.Policy) { p.Rate, p.Burst, p.MaxWait = 1e-6, 1, 0 }, fast)
			times(21, func() error { return oursAsk(t.Context(), g, &query{}) })
			return state(g) + "; the order is fixed"
		},
		failsafe: func(t *testing.T) string {
			outside, inside := failsafeBreaker(), failsafeBreaker()
			limit := func() ratelimiter.RateLimiter[*answer] { return ratelimiter.NewBursty[*answer](1, time.Hour) }
			right, wrong := failsafeWith(limit(), outside), failsafeWith(inside, limit())
			times(21, func() error { return right(t.Context(), fast) })
			times(21, func() error { return wrong(t.Context(), fast) })
			return fmt.Sprintf("limit around breaker: %s; breaker around limit: %s", failsafeState(outside), failsafeState(inside))
		},
	},
	{
		when: "a call panics and its caller recovers; one slot, closed breaker",
		ours: func(t *testing.T) string {
			g := ours(t, func(p *resilience.Policy) { noRetries(p); p.Concurrency, p.MaxWait = 1, 0 }, counting(panics))
			apart(func() { _ = oursAsk(t.Context(), g, &query{}) })
			s := g.Inspect()[0]
			return fmt.Sprintf("counted as %d failure; %d slots lost", s.Failures, s.InFlight)
		},
		failsafe: func(t *testing.T) string {
			cb, slots := failsafeBreaker(), bulkhead.New[*answer](1)
			call := failsafeWith(slots, cb)
			apart(func() { _ = call(t.Context(), panics) })
			lost := 0
			if is(call(t.Context(), fast), bulkhead.ErrFull) {
				lost = 1
			}
			return fmt.Sprintf("counted as %d failures; %d slot lost", cb.Metrics().Failures(), lost)
		},
		others: []named{
			{"gobreaker", func(t *testing.T) string {
				cb, call := gobreakerWith(nil)
				apart(func() { _ = call(t.Context(), panics) })
				return fmt.Sprintf("counted as %d failure", cb.Counts().TotalFailures)
			}},
		},
	},
	probes(panics).called("the probe of a half-open breaker panics"),
	probes(func(context.Context, *query) (*answer, error) { runtime.Goexit(); return ok, nil }).called("… ends its goroutine (as t.FailNow does)"),
	{
		when: "… hangs for ten minutes, heeding its context",
		ours: func(t *testing.T) string {
			_, _, call := oursHalfOpen(t, op)
			return hanging(t, call)
		},
		failsafe: func(t *testing.T) string {
			_, call := failsafeHalfOpen(t)
			return hanging(t, call)
		},
		others: []named{{"gobreaker, which has no time limit", func(t *testing.T) string {
			_, call := gobreakerHalfOpen(t, nil)
			return hanging(t, call)
		}}},
	},
	{
		when: "… fails with an error that says nothing about the provider (resilience4j#544)",
		ours: func(t *testing.T) string {
			g, _, call := oursHalfOpen(t, op)
			require.Error(t, call(t.Context(), providerFunc(func(context.Context, *query) (*answer, error) {
				return nil, fault.New(fault.Invalid, errIgnored)
			})))
			s := state(g)
			require.NoError(t, call(t.Context(), fast))
			return s + ", and the next call may probe"
		},
		failsafe: func(t *testing.T) string {
			cb := circuitbreaker.NewBuilder[*answer]().WithFailureThreshold(1).WithDelay(openFor).
				HandleIf(func(_ *answer, err error) bool { return err != nil && !is(err, errIgnored) }).Build()
			call := failsafeWith(cb)
			_ = call(t.Context(), down)
			time.Sleep(openFor)
			require.Error(t, call(t.Context(), providerFunc(func(context.Context, *query) (*answer, error) { return nil, errIgnored })))
			return failsafeState(cb) + "; what isn't a failure is a success"
		},
		others: []named{{"gobreaker with IsExcluded", func(t *testing.T) string {
			cb, call := gobreakerHalfOpen(t, func(s *gobreaker.Settings) { s.IsExcluded = func(err error) bool { return is(err, errIgnored) } })
			require.Error(t, call(t.Context(), providerFunc(func(context.Context, *query) (*answer, error) { return nil, errIgnored })))
			s := cb.State().String()
			require.NoError(t, call(t.Context(), fast))
			return s + ", and the next call may probe"
		}}},
	},
	{
		when: "1,000 callers come at once while it is half-open (Polly#216)",
		ours: func(t *testing.T) string {
			_, p, call := oursHalfOpen(t, op)
			atOnce(1000, func() error { return call(t.Context(), takes(time.Second, errDown)) })
			return fmt.Sprintf("%d reached the provider", p.n.Load())
		},
		failsafe: func(t *testing.T) string {
			_, call := failsafeHalfOpen(t)
			p := counting(takes(time.Second, errDown))
			atOnce(1000, func() error { return call(t.Context(), p) })
			return fmt.Sprintf("%d reached the provider", p.n.Load())
		},
		others: []named{{"gobreaker", func(t *testing.T) string {
			_, call := gobreakerHalfOpen(t, nil)
			p := counting(takes(time.Second, errDown))
			atOnce(1000, func() error { return call(t.Context(), p) })
			return fmt.Sprintf("%d reached the provider", p.n.Load())
		}}},
	},
	{
		when: "the probe fails",
		ours: func(t *testing.T) string {
			_, _, call := oursHalfOpen(t, op)
			_ = call(t.Context(), down)
			return "open again for " + until(t, call)
		},
		failsafe: func(t *testing.T) string {
			_, call := failsafeHalfOpen(t)
			_ = call(t.Context(), down)
			return "open again for " + until(t, call)
		},
		others: []named{{"gobreaker", func(t *testing.T) string {
			_, call := gobreakerHalfOpen(t, nil)
			_ = call(t.Context(), down)
			return "open again for " + until(t, call)
		}}},
	},
	{
		when: "an operator opens it by hand, and comes back an hour later",
		ours: func(t *testing.T) string {
			g := ours(t, nil, fast)
			require.NoError(t, g.Switch("a", resilience.ForcedOpen))
			time.Sleep(time.Hour)
			require.ErrorIs(t, oursAsk(t.Context(), g, &query{}), resilience.ErrOpen)
			return "refuses until it is switched back"
		},
		failsafe: func(t *testing.T) string {
			cb := failsafeBreaker()
			cb.Open()
			call := failsafeWith(cb)
			require.ErrorIs(t, call(t.Context(), fast), circuitbreaker.ErrOpen)
			time.Sleep(time.Hour)
			require.NoError(t, call(t.Context(), fast))
			return "refuses for its delay, then probes"
		},
	},
	{
		when: "the process restarts while it is open",
		ours: func(t *testing.T) string {
			old := ours(t, noRetries, down)
			times(5, func() error { return oursAsk(t.Context(), old, &query{}) })
			g := ours(t, noRetries, down)
			g.Restore(old.Snapshot())
			return state(g) + ", from a Snapshot"
		},
		failsafe: func(*testing.T) string { return failsafeState(failsafeBreaker()) + "; it has no snapshot" },
	},
	{
		when: "four calls of 100 ms come at once",
		ours: func(t *testing.T) string {
			g := ours(t, nil, takes(100*time.Millisecond, nil))
			return took(func() { atOnce(4, func() error { return oursAsk(t.Context(), g, &query{}) }) }).String()
		},
		failsafe: func(t *testing.T) string {
			call := failsafeWith(failsafeBreaker())
			return took(func() { atOnce(4, func() error { return call(t.Context(), takes(100*time.Millisecond, nil)) }) }).String()
		},
		others: []named{
			{"gobreaker", func(t *testing.T) string {
				_, call := gobreakerWith(nil)
				return took(func() { atOnce(4, func() error { return call(t.Context(), takes(100*time.Millisecond, nil)) }) }).String()
			}},
			{"its distributed breaker, on a store without latency", distributed},
		},
	},
}

var panics providerFunc = func(context.Context, *query) (*answer, error) { panic("boom") }

// mixed hangs for its first hundred attempts, then fails.
func mixed() *counted {
	p := counting(nil)
	p.does(func(ctx context.Context, q *query) (*answer, error) {
		if p.n.Load() <= 100 {
			return hangs(ctx, q)
		}
		return nil, errDown
	})
	return p
}

// rarely makes a call in ten seconds until a breaker is open, or a minute has
// passed three times over, and counts them.
func rarely(_ *testing.T, call func() error, look func() string) int {
	for n := range 18 {
		if look() == "open" {
			return n
		}
		_ = call()
		time.Sleep(10 * time.Second)
	}
	return 0
}

// besides makes a hundred calls that hang, then ten more, and looks.
func besides(_ *testing.T, call func() error, look func() string) string {
	for range 100 {
		go func() { _ = call() }()
	}
	synctest.Wait()
	times(10, call)
	return look()
}

func cancels(t *testing.T, call func(context.Context) error) {
	for range minCalls {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		require.Error(t, call(ctx))
	}
}

// hanging lets a probe hang and looks at a call five minutes later.
func hanging(t *testing.T, call protected) string {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { _ = call(ctx, hangs) })
	defer wg.Wait()
	time.Sleep(5 * time.Minute)
	if err := call(t.Context(), fast); err != nil {
		return "refuses for as long as it hangs"
	}
	return "timed out after 3 s, a failed probe"
}

// until is how long it takes until a call gets through.
func until(t *testing.T, call protected) string {
	d := took(func() {
		for call(t.Context(), fast) != nil {
			time.Sleep(10 * time.Millisecond)
		}
	})
	return d.String()
}

// store is a gobreaker.SharedDataStore in memory. Its lock is a channel, which
// virtual time can wait for.
type store struct {
	lock chan struct{}
	data atomic.Pointer[[]byte] // read without the lock too
}

func (s *store) Lock(string) error                   { s.lock <- struct{}{}; return nil }
func (s *store) Unlock(string) error                 { <-s.lock; return nil }
func (s *store) SetData(_ string, data []byte) error { s.data.Store(&data); return nil }

func (s *store) GetData(string) ([]byte, error) {
	if data := s.data.Load(); data != nil {
		return *data, nil
	}
	return nil, nil
}

func distributed(t *testing.T) string {
	cb, err := gobreaker.NewDistributedCircuitBreaker[*answer](&store{lock: make(chan struct{}, 1)}, settings())
	require.NoError(t, err)
	return took(func() {
		atOnce(4, func() error {
			_, err := cb.Execute(func() (*answer, error) { return takes(100*time.Millisecond, nil)(t.Context(), nil) })
			return err
		})
	}).String()
}
