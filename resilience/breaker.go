package resilience

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"
)

// rules are a member's policy with what was made for it. They are replaced as a
// whole when the policy changes.
type rules struct {
	policy   Policy
	breaker  *gobreaker.TwoStepCircuitBreaker[struct{}]
	tripping atomic.Bool // the next failure opens, whatever the counts say
	limiter  *rate.Limiter
	slots    *bulkhead
	vegas    *vegas
	keys     *keyed
}

// The outcomes as gobreaker's classifiers see them. It calls those under its
// lock, so the decision is made before.
var (
	errFailure  = errors.New("failure")
	errExcluded = errors.New("excluded")
)

// newRules makes rules with a closed breaker. Its own clock is there to be
// overtaken by the gate's, which decides when to probe: it must be ready by then.
func (m *member) newRules(old *rules, p Policy, ready time.Duration) *rules {
	r := &rules{policy: p}
	r.limits(old, p)
	switch {
	case p.PerKey == nil:
	case old != nil && old.keys != nil && old.policy.PerKey == p.PerKey && old.policy.MaxKeys == p.MaxKeys:
		r.keys = old.keys
	default:
		r.keys = newKeyed(m, *p.PerKey, p.MaxKeys)
	}
	b := p.Breaker
	if !b.on() {
		return r
	}
	r.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   uint32(max(b.Probes, 1)), //nolint:gosec // checked not negative by Validate
		Interval:      b.Window,
		BucketPeriod:  b.Window / 10,
		Timeout:       min(max(ready-time.Nanosecond, 1), b.OpenFor),
		ReadyToTrip:   func(c gobreaker.Counts) bool { return r.tripping.Load() || m.readyToTrip(b, c) },
		IsSuccessful:  func(err error) bool { return err == nil },
		IsExcluded:    func(err error) bool { return err == errExcluded },
		OnStateChange: func(_ string, from, to gobreaker.State) { m.stateChanged(r, states[from], states[to]) },
	})
	return r
}

var states = map[gobreaker.State]State{
	gobreaker.StateClosed: Closed, gobreaker.StateHalfOpen: HalfOpen, gobreaker.StateOpen: Open,
}

// readyToTrip: Counts.Requests has the calls in flight in it, so only completed
// ones are compared. A warned breaker needs half as many.
func (m *member) readyToTrip(b Breaker, c gobreaker.Counts) bool {
	now := time.Since(m.base)
	if now < headStart+b.WarmUp {
		return false
	}
	inARow, minCalls := int64(b.InARow), b.MinCalls
	if int64(now) < m.warnedUntil.Load() {
		inARow, minCalls = (inARow+1)/2, (minCalls+1)/2
	}
	completed := int(c.TotalSuccesses) + int(c.TotalFailures)
	return b.InARow > 0 && m.inARow.Load() >= inARow ||
		b.Ratio > 0 && completed >= minCalls && float64(c.TotalFailures) >= b.Ratio*float64(completed)
}

// stateChanged runs under gobreaker's lock: it only takes notes. What a breaker
// of former rules does is nobody's business any more.
func (m *member) stateChanged(r *rules, from, to State) {
	if m.rules.Load() != r {
		return
	}
	now, b := time.Now(), r.policy.Breaker
	ch := change{at: now, from: from, to: to}
	switch to { //nolint:exhaustive // half-open is open whose time has passed
	case Open:
		ch.openFor = b.OpenFor + time.Duration(rand.Float64()*b.Jitter*float64(b.OpenFor)) //nolint:gosec // spreading, not secrecy
		m.openUntil.Store(int64(now.Sub(m.base) + ch.openFor))
	case Closed:
		m.openUntil.Store(0)
	}
	m.inARow.Store(0)
	if !m.observed {
		return
	}
	m.mu.Lock()
	m.changes = append(m.changes, ch)
	m.mu.Unlock()
	m.changed.Store(true)
}

// change is a step of the breaker that observers are to be told of.
type change struct {
	at       time.Time
	from, to State
	openFor  time.Duration
}

// takeChanges returns the state changes that no observer has seen yet.
func (m *member) takeChanges() []change {
	if !m.changed.Swap(false) {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.changes
	m.changes = nil
	return c
}

// limits takes over what the old ones have given out.
func (r *rules) limits(old *rules, p Policy) {
	if old == nil {
		old = &rules{}
	}
	if p.Rate > 0 && p.Limiter == nil {
		if r.limiter = old.limiter; r.limiter == nil {
			r.limiter = rate.NewLimiter(rate.Limit(p.Rate), p.Burst)
		} else {
			r.limiter.SetLimit(rate.Limit(p.Rate))
			r.limiter.SetBurst(p.Burst)
		}
	}
	limit := p.Concurrency
	if p.Adaptive.Max > 0 {
		if r.vegas = old.vegas; r.vegas == nil || old.policy.Adaptive != p.Adaptive {
			r.vegas = newVegas(p.Adaptive)
		}
		limit = r.vegas.current()
	}
	if r.slots = old.slots; limit > 0 && r.slots == nil {
		r.slots = &bulkhead{}
	}
	if r.slots != nil {
		r.slots.setLimit(limit)
	}
}

// setPolicy puts other rules in force and keeps the state, though not the
// counts: what is open stays open for as long as it would have.
func (m *member) setPolicy(p Policy) {
	until := m.openUntil.Load()
	ready := p.Breaker.OpenFor
	if until > 0 {
		ready = time.Duration(until) - time.Since(m.base)
	}
	r := m.newRules(m.rules.Load(), p, ready)
	if until > 0 && r.breaker != nil {
		r.trip()
	} else {
		m.openUntil.Store(0)
	}
	m.budget.setShare(p.RetryBudget)
	m.rules.Store(r)
}

// trip opens the breaker of rules that aren't in force yet.
func (r *rules) trip() {
	done, err := r.breaker.Allow()
	if err != nil {
		return
	}
	r.tripping.Store(true)
	done(errFailure)
	r.tripping.Store(false)
}
