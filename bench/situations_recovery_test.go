package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// trip opens a breaker by calls that fail.
func (r rig) trip(t *testing.T) {
	for n := 0; r.state() != "open"; n++ {
		require.LessOrEqual(t, n, minCalls, "it should have opened")
		_ = r.call(t.Context(), down)
	}
}

// halfOpen trips it and waits until it may probe.
func (r rig) halfOpen(t *testing.T) {
	r.trip(t)
	time.Sleep(openFor + time.Millisecond)
}

func (r rig) everOpen() string {
	if r.opened.Load() > 0 {
		return "it opens"
	}
	return "closed"
}

// patience lets attempts of ours take a minute, as long as those of the others.
func patience(p *resilience.Policy) {
	p.Timeout, p.Total, p.Breaker.Window = time.Minute, 0, 2*time.Minute
}

type failsafeBuilder = circuitbreaker.Builder[*answer]

// openOneSecond is shorter than the calls that go through it.
var openOneSecond = set{
	ours:      func(p *resilience.Policy) { patience(p); p.Breaker.OpenFor = time.Second },
	failsafe:  func(b failsafeBuilder) failsafeBuilder { return b.WithDelay(time.Second) },
	gobreaker: func(s *gobreaker.Settings) { s.Timeout = time.Second },
}

var forEver = set{
	ours:      func(p *resilience.Policy) { p.Breaker.OpenFor = math.MaxInt64 },
	failsafe:  func(b failsafeBuilder) failsafeBuilder { return b.WithDelay(math.MaxInt64) },
	gobreaker: func(s *gobreaker.Settings) { s.Timeout = math.MaxInt64 },
}

var threeProbes = set{
	ours:      func(p *resilience.Policy) { p.Breaker.Probes = 3 },
	failsafe:  func(b failsafeBuilder) failsafeBuilder { return b.WithSuccessThreshold(3) },
	gobreaker: func(s *gobreaker.Settings) { s.MaxRequests = 3 },
}

// threeOfFour is a breaker that would close after three good probes of four.
var threeOfFour = set{
	ours:      func(p *resilience.Policy) { p.Breaker.Probes = 4 },
	failsafe:  func(b failsafeBuilder) failsafeBuilder { return b.WithSuccessThresholdRatio(3, 4) },
	gobreaker: func(s *gobreaker.Settings) { s.MaxRequests = 4 },
}

// byCount looks at the last ten calls, however long ago.
var byCount = set{failsafe: func(b failsafeBuilder) failsafeBuilder {
	return b.WithFailureRateThreshold(0, 0, 0).WithFailureThresholdRatio(5, 10)
}}

// notFound is an answer of a provider that works.
var notFound = fault.New(fault.NotFound, errIgnored)

var notFoundIsNone = set{
	failsafe: func(b failsafeBuilder) failsafeBuilder {
		return b.HandleIf(func(_ *answer, err error) bool { return err != nil && !is(err, errIgnored) })
	},
	gobreaker: func(s *gobreaker.Settings) {
		s.IsSuccessful = func(err error) bool { return err == nil || is(err, errIgnored) }
	},
}

// recoverySituations are about who has a say, and when.
var recoverySituations = []situation{
	breakers(openOneSecond, func(t *testing.T, r rig) string {
		for i := range 20 {
			go func() { _ = r.call(t.Context(), takes(time.Duration(i+1)*100*time.Millisecond, errDown)) }()
		}
		time.Sleep(10 * time.Second)
		return fmt.Sprintf("it opens %d×", r.opened.Load())
	}).called("20 calls begin together and fail 0.1 s after one another; it is open for 1 s (Polly#219)"),
	generations(nil).called("a call from before it opened succeeds while it is half-open (Polly#223)"),
	generations(errDown).called("… fails then (k8s-breakglass#981)"),
	breakers(set{ours: patience}, func(t *testing.T, r rig) string {
		atOnce(50, func() error { return r.call(t.Context(), takes(time.Second, errDown)) })
		time.Sleep(openFor + time.Millisecond)
		require.NoError(t, r.call(t.Context(), fast))
		return r.state()
	}).called("50 calls fail in the same instant, and all is well when its time is up (opossum#385)"),
	breakers(threeProbes, func(t *testing.T, r rig) string {
		r.halfOpen(t)
		var now, most atomic.Int64
		atOnce(500, func() error {
			return r.call(t.Context(), providerFunc(func(context.Context, *query) (*answer, error) {
				most.Store(max(most.Load(), now.Add(1)))
				defer now.Add(-1)
				time.Sleep(time.Second)
				return ok, nil
			}))
		})
		return fmt.Sprintf("%d at once; %s", most.Load(), r.state())
	}).called("500 callers come when three may probe (resilience4j#1432)"),
	breakers(threeOfFour, func(t *testing.T, r rig) string {
		r.halfOpen(t)
		for _, p := range []provider{fast, down, fast, fast} {
			_ = r.call(t.Context(), p)
		}
		return r.state()
	}).called("one of four probes fails, and three would do where that can be said"),
	breakers(set{}, func(t *testing.T, r rig) string {
		r.trip(t)
		time.Sleep(time.Hour)
		_ = r.call(t.Context(), down)
		return r.state()
	}).called("the probe fails an hour later, when nothing is left in the window (opossum#276)"),
	breakers(set{}, func(t *testing.T, r rig) string {
		r.trip(t)
		time.Sleep(time.Hour)
		return r.state()
	}).called("nobody calls for an hour: what its state is then (failsafe-go#97)"),
	breakers(set{}, func(t *testing.T, r rig) string {
		r.halfOpen(t)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		require.Error(t, r.call(ctx, hangs))
		return r.state()
	}).called("the caller of a probe cancels it"),
	breakers(forEver, func(t *testing.T, r rig) string {
		r.trip(t)
		time.Sleep(365 * 24 * time.Hour)
		if r.call(t.Context(), fast) != nil {
			return "open a year later"
		}
		return "closed a year later"
	}).called("it shall stay open for ever, which is the longest duration there is (reactor-addons#282)"),
	breakers(set{}, func(t *testing.T, r rig) string {
		r.halfOpen(t)
		require.NoError(t, r.call(t.Context(), fast))
		n := 0
		for ; r.state() == "closed"; n++ {
			_ = r.call(t.Context(), down)
		}
		return fmt.Sprintf("open after %d more", n)
	}).called("a probe is lucky, and all calls after it fail"),
	breakers(set{}, func(t *testing.T, r rig) string {
		p := counting(down)
		times(3600, func() error { time.Sleep(time.Second); return r.call(t.Context(), p) })
		return fmt.Sprintf("it is asked %d times", p.n.Load())
	}).called("the provider is down for an hour, and a call comes each second"),
	breakers(set{}, func(t *testing.T, r rig) string {
		n := 0
		times(300, func() error {
			time.Sleep(2 * time.Second)
			if n++; n%4 == 0 {
				return r.call(t.Context(), fast)
			}
			return r.call(t.Context(), down)
		})
		return r.everOpen()
	}).called("a call comes in 2 s, and three of four fail"),
	breakers(byCount, func(t *testing.T, r rig) string {
		n := 0
		times(300, func() error {
			time.Sleep(20 * time.Second)
			if n++; n%3 == 0 {
				return r.call(t.Context(), fast)
			}
			return r.call(t.Context(), down)
		})
		return r.everOpen()
	}).called("a call comes in 20 s, and two of three fail; the last ten calls count where that can be said"),
	after(20, fails(errors.New("connection refused"))).called("20 calls fail with an error that nobody has classified"),
	breakers(set{}, func(t *testing.T, r rig) string {
		r.trip(t)
		first := r.call(t.Context(), fast)
		times(10_000, func() error { return r.call(t.Context(), fast) })
		require.Len(t, r.call(t.Context(), fast).Error(), len(first.Error()))
		return "as long as that of the first"
	}).called("it refuses 10,000 calls: the error of the last (Polly#1877)"),
	breakers(notFoundIsNone, func(t *testing.T, r rig) string {
		n := 0
		times(10_000, func() error {
			time.Sleep(10 * time.Millisecond)
			if n++; n%100 == 0 {
				return r.call(t.Context(), broken)
			}
			return r.call(t.Context(), fails(notFound))
		})
		return fmt.Sprintf("it opens %d×", r.opened.Load())
	}).called("99 of 100 answers are “not found”, which is no failure (where it must be said: it is), and one fails (erpc#1118)"),
	twoClasses(func(t *testing.T, commit, look protected) string {
		p := counting(broken)
		times(200, func() error {
			assert.NoError(t, look(t.Context(), fast))
			_ = commit(t.Context(), p)
			time.Sleep(500 * time.Millisecond)
			return look(t.Context(), fast)
		})
		return fmt.Sprintf("%d of 200 are sent", p.n.Load())
	}).called("all commits fail, and look-ups succeed before and after each (zanzibar#772)"),
	twoClasses(func(t *testing.T, report, look protected) string {
		times(minCalls, func() error { return report(t.Context(), broken) })
		if look(t.Context(), fast) != nil {
			return "refused"
		}
		return "answered"
	}).called("ten reports fail, and then somebody looks up (opossum#321)"),
	{
		when: "who is told that it has opened asks for its state (gobreaker#37)",
		ours: func(t *testing.T) string {
			var g *resilience.Group[provider]
			said := ""
			g, err := resilience.New(resilience.Default, []resilience.Member[provider]{{Name: "a", Provider: down}}, resilience.ObserverFunc(
				func(_ context.Context, e resilience.Event) {
					if e.Type == resilience.StateChanged {
						said = state(g)
					}
				}))
			require.NoError(t, err)
			times(5, func() error { return oursAsk(t.Context(), g, &query{}) })
			return said
		},
		failsafe: func(t *testing.T) string {
			var cb circuitbreaker.CircuitBreaker[*answer]
			said := ""
			cb = circuitbreaker.NewBuilder[*answer]().WithFailureThreshold(5).
				OnOpen(func(circuitbreaker.StateChangedEvent) { said = failsafeState(cb) }).Build()
			times(5, func() error { return failsafeWith(cb)(t.Context(), down) })
			return said
		},
	},
	{
		when: "a reloader sets the same policy each second, and all calls fail, five a second for a minute",
		ours: func(t *testing.T) string {
			p := resilience.Default
			byRatio(&p)
			c := counting(down)
			g := ours(t, func(to *resilience.Policy) { *to = p }, c)
			for range 60 {
				times(5, func() error { return oursAsk(t.Context(), g, &query{}) })
				assert.NoError(t, g.SetPolicy(p))
				time.Sleep(time.Second)
			}
			return fmt.Sprintf("%d of 300 are sent", c.n.Load())
		},
		failsafe: func(t *testing.T) string {
			c := counting(down)
			for range 60 { // a policy can't be changed, so another takes its place
				cb := failsafeBreaker()
				times(5, func() error { return failsafeWith(cb)(t.Context(), c) })
				time.Sleep(time.Second)
			}
			return fmt.Sprintf("%d of 300 are sent: a policy can't be changed, and another knows nothing", c.n.Load())
		},
	},
}

// generations lets a slow call begin, the breaker open and half-open, and looks
// when the slow one has ended and a probe is on its way.
func generations(end error) situation {
	return breakers(set{ours: patience}, func(t *testing.T, r rig) string {
		var wg sync.WaitGroup
		wg.Go(func() { _ = r.call(t.Context(), takes(50*time.Second, end)) })
		synctest.Wait()
		r.halfOpen(t)
		wg.Go(func() { _ = r.call(t.Context(), takes(30*time.Second, nil)) })
		time.Sleep(25 * time.Second)
		s := r.state()
		wg.Wait()
		return s
	})
}

// twoClasses plays with operations of two classes of one provider, of which one
// fails. A peer has one breaker for both, or two of them by hand.
func twoClasses(play func(t *testing.T, failing, well protected) string) situation {
	by := func(t *testing.T, one func() rig) string {
		both := one().call
		return fmt.Sprintf("%s; with a breaker for each by hand, %s", play(t, both, both), play(t, one().call, one().call))
	}
	return situation{
		ours: func(t *testing.T) string {
			g := ours(t, noRetries, fast)
			of := func(class string) protected {
				return around(g, resilience.Op{Name: "bench." + class, Class: class, Safety: fault.Read})
			}
			return play(t, of("commit"), of("look"))
		},
		failsafe: func(t *testing.T) string { return by(t, func() rig { return failsafeRig(nil) }) },
		others: []named{{"gobreaker", func(t *testing.T) string {
			return by(t, func() rig { return gobreakerRig(nil) })
		}}},
	}
}

// broken answers that it may have acted, so that it can be reached.
var broken = fails(fault.New(fault.Uncertain, errLast))
