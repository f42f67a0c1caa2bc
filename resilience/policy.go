package resilience

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/smilefactory/integrations/resilience/internal/limit"
)

// Policy says how a Group protects its calls. The zero value of each field
// switches that protection off; [Default] is what a Client starts from.
type Policy struct {
	// Timeout limits one attempt. Where the call's time is short, an attempt has its
	// equal share of what remains, divided by the providers that may still be asked
	// after it, or twice what this provider's answers usually take, whichever is
	// longer.
	Timeout time.Duration
	// Total limits a whole call with all its attempts and waits.
	Total time.Duration

	// Retries is how often one provider is asked again in one call.
	Retries int
	// Backoff is the wait before a retry.
	Backoff Backoff
	// RetryBudget bounds retries to this share of a provider's calls, so that a
	// failing provider isn't buried: 0.2 allows one retry for five calls.
	// A reserve of ten retries serves quiet times. One in PerKey is that of each key,
	// in the place of the provider's.
	RetryBudget float64

	// Rate limits attempts per second at one provider, Burst at once.
	Rate  float64
	Burst int
	// Limiter is asked in the place of Rate and Burst.
	Limiter Limiter
	// Concurrency limits attempts that run at the same time at one provider;
	// Adaptive finds that limit by itself. At most one of them is set.
	Concurrency int
	Adaptive    Adaptive
	// MaxWait is how long the last provider may wait for a free slot, for the
	// rate limit, or for the time that a rate-limiting provider asked for; that one is
	// spread by up to a tenth, and a tenth again for each who waits. MaxWaiting is how
	// many callers may wait for one provider at a time; the others are refused at once.
	MaxWait    time.Duration
	MaxWaiting int

	// Breaker stops calls to a provider that keeps failing.
	Breaker Breaker

	// PerKey is a policy for each key of a provider (see WithKey), whose limits,
	// breaker and pause are asked before the provider's own, of which they take nothing
	// when they refuse. The MaxKeys used last are
	// remembered at each provider; zero means 10,000.
	PerKey  *Policy
	MaxKeys int

	// Route says which provider is asked first, Weights how often by name where
	// that is Weighted. They are the Group's, not a member's.
	Route   Route
	Weights map[string]int

	// Hedge sends a second attempt after a first that takes long.
	Hedge Hedge

	// Silence limits the time between two signs of life: reads of a body, items of a
	// stream or what the adapter tells by [fault.Alive], in a stream from the
	// attempt's start on. Stall limits the time between two items of a stream. Neither
	// runs while the consumer works.
	Silence, Stall time.Duration
}

// Backoff is an exponential wait with jitter: Initial, doubled each time, each
// spread by the share Jitter to both sides, and never more than Max where that
// is set. A provider's Retry-After replaces a shorter wait.
type Backoff struct {
	Initial, Max time.Duration
	Jitter       float64
}

// Adaptive is a limit on concurrency that finds its own height: it grows while
// it is used and latency shows no queue at the provider, and shrinks when it
// does, or when the provider says that it has too much.
//
// It is TCP Vegas (the queue is what latency has over that of an idle provider)
// with three changes. It goes by means over a round of attempts, since a single
// quick answer says nothing about the next one's work. It measures the idle
// latency anew from time to time with half the limit, as BBR does, since a
// lowest value ever seen outlives what it was true for. And it shrinks on
// refusals, since a provider that sheds load answers quickly, which latency alone
// takes for health. The gradient of two means (Gradient2 of Netflix's
// concurrency-limits) was weighed: its long mean learns the queue that it should
// find, and settled at three times what a simulated provider could do.
type Adaptive struct {
	// Min and Max bound the limit; Max switches it on. Min is 1 where it is zero.
	Min, Max int
	// Initial is where it starts; zero means 20, within Min and Max.
	Initial int
}

// Breaker is a circuit breaker over a rolling window. It is on where Ratio or
// InARow is set.
type Breaker struct {
	// Ratio of failures in Window that opens it, once MinCalls have completed.
	Ratio    float64
	MinCalls int
	// Window is the rolling window; it moves in tenths.
	Window time.Duration
	// InARow opens it after that many failures in a row, however long they took.
	InARow int
	// SlowAfter makes a success that took longer count as a failure of the Ratio.
	SlowAfter time.Duration
	// OpenFor is how long it stays open before probing; Jitter adds up to that
	// share of it, so that many processes don't probe at once.
	OpenFor time.Duration
	Jitter  float64
	// WarmUp keeps it closed for that long after its provider came into service,
	// while caches and connections are cold.
	WarmUp time.Duration
	// Probes is how many calls may probe while half-open; all must succeed to
	// close it. Zero means one.
	Probes int
}

// Default is the policy of a Client that was given none. It is a value to copy
// from, never to change.
var Default = Policy{
	Timeout:     3 * time.Second,
	Total:       30 * time.Second,
	Retries:     2,
	Backoff:     Backoff{Initial: 100 * time.Millisecond, Max: 2 * time.Second, Jitter: 0.5},
	RetryBudget: 0.2,
	MaxWait:     time.Second,
	MaxWaiting:  500,
	Breaker: Breaker{
		Ratio: 0.5, MinCalls: 10, Window: 30 * time.Second, InARow: 5,
		OpenFor: 30 * time.Second, Jitter: 0.1, Probes: 1,
	},
	Silence: 30 * time.Second,
}

// longest is what longer durations are cut to.
const longest = limit.Longest

// owned is a copy that shares nothing with the caller's, its durations within
// bounds.
func (p Policy) owned() Policy {
	for _, d := range []*time.Duration{
		&p.Timeout, &p.Total, &p.Backoff.Initial, &p.Backoff.Max, &p.MaxWait, &p.Breaker.Window, &p.Breaker.SlowAfter, &p.Breaker.OpenFor,
		&p.Breaker.WarmUp, &p.Hedge.After, &p.Silence, &p.Stall,
	} {
		*d = min(*d, longest)
	}
	p.Weights = maps.Clone(p.Weights)
	if p.PerKey != nil {
		k := p.PerKey.owned()
		p.PerKey = &k
	}
	return p
}

// Validate refuses a policy that can't work, and says why.
func (p Policy) Validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("resilience: policy: "+format, args...))
		}
	}
	refuse(p.Timeout < 0 || p.Total < 0 || p.MaxWait < 0 || p.Silence < 0 || p.Stall < 0 || p.Backoff.Initial < 0 || p.Backoff.Max < 0,
		"a duration is negative")
	refuse(p.Total > 0 && p.Timeout > p.Total, "Timeout (%v) is longer than Total (%v)", p.Timeout, p.Total)
	refuse(p.Retries < 0 || p.Retries > 10, "Retries must be 0 to 10, not %d", p.Retries)
	refuse(p.Retries > 0 && p.Backoff.Initial == 0, "Retries without Backoff.Initial would hammer a failing provider")
	refuse(p.Backoff.Max > 0 && p.Backoff.Max < p.Backoff.Initial, "Backoff.Max is shorter than Backoff.Initial")
	refuse(!share(p.Backoff.Jitter), "Backoff.Jitter must be from 0 to 1")
	refuse(!share(p.RetryBudget), "RetryBudget must be from 0 to 1")
	refuse(!(p.Rate >= 0) || p.Burst < 0 || p.Concurrency < 0, "a limit is negative")
	refuse(p.Rate > 0 && p.Burst < 1, "Rate without a Burst of at least 1 would never let a call through")
	p.validateLimits(refuse)
	p.Breaker.validate(p.Timeout, refuse)
	if p.PerKey != nil {
		refuse(p.PerKey.PerKey != nil, "PerKey holds a PerKey")
		k := *p.PerKey
		if k.PerKey = nil; k.Timeout == 0 { // an attempt has one limit, the provider's
			k.Timeout = p.Timeout
		}
		if err := k.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("PerKey: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (p Policy) validateLimits(refuse func(bool, string, ...any)) {
	a := p.Adaptive
	refuse(p.Limiter != nil && p.Rate > 0, "both Limiter and Rate are set")
	refuse(a.Max > 0 && p.Concurrency > 0, "both Adaptive and Concurrency are set")
	refuse(a.Max > maxFigure, "Adaptive.Max must be at most %d", maxFigure)
	refuse(a.Min < 0 || a.Max < 0 || a.Initial < 0 || a.Max > 0 && a.Min > a.Max, "Adaptive needs 0 <= Min <= Max")
	refuse(p.MaxKeys < 0 || p.MaxWaiting < 0, "MaxKeys or MaxWaiting is negative")
	refuse(p.Route >= routes, "there is no such Route")
	for name, w := range p.Weights {
		refuse(w < 0, "the weight of %q is negative", name)
		refuse(w > maxFigure, "the weight of %q must be at most %d", name, maxFigure)
	}
	h := p.Hedge
	refuse(h.After < 0 || !share(h.Percentile) || h.Percentile == 1, "Hedge.After must not be negative, and Percentile below 1")
	refuse(h.Percentile > 0 && h.After == 0, "Hedge.Percentile needs an After for the time until latencies are known")
	refuse(h.After > 0 && p.Timeout > 0 && h.After >= p.Timeout, "Hedge.After (%v) is not below Timeout (%v): it would never be", h.After, p.Timeout)
}

// maxFigure bounds what is added up or counted down to.
const maxFigure = 1_000_000

func share(f float64) bool { return f >= 0 && f <= 1 }

func (b Breaker) validate(timeout time.Duration, refuse func(bool, string, ...any)) {
	refuse(b.Ratio < 0 || b.MinCalls < 0 || b.InARow < 0 || b.Probes < 0 || b.Window < 0 || b.SlowAfter < 0 || b.OpenFor < 0 || b.WarmUp < 0,
		"a figure of Breaker is negative")
	refuse(!share(b.Ratio) || !share(b.Jitter), "Breaker.Ratio and Breaker.Jitter must be from 0 to 1")
	if !b.on() {
		return
	}
	refuse(b.OpenFor == 0, "Breaker.OpenFor is missing: for how long does it stay open?")
	refuse(timeout == 0, "a Breaker without a Timeout: a hanging probe would keep it half-open for ever")
	refuse(b.Ratio > 0 && b.MinCalls < 2, "Breaker.Ratio with MinCalls below 2 would open at the first failure")
	refuse(b.Ratio > 0 && b.Window/2 < timeout,
		"Breaker.Window (%v) must be at least twice Timeout (%v), or slow failures leave it before they add up", b.Window, timeout)
	refuse(timeout > 0 && b.SlowAfter >= timeout, "Breaker.SlowAfter (%v) is not below Timeout (%v): no call could be slow", b.SlowAfter, timeout)
}

func (b Breaker) on() bool { return b.Ratio > 0 || b.InARow > 0 }
