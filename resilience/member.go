package resilience

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"github.com/smilefactory/integrations/fault"
)

// member is the state of one provider. gobreaker is the state machine of its
// breaker; the gate in front of it (openUntil, pausedUntil) adds what gobreaker
// has not, and answers without a lock or an allocation while it is shut.
type member struct {
	name   string
	prefix string // name with a slash
	policy Policy
	inner  Inspector // set where the provider is itself made of providers

	base        time.Time // the gate's instants are nanoseconds since then
	openUntil   atomic.Int64
	pausedUntil atomic.Int64
	halfOpen    atomic.Bool
	inARow      atomic.Int64 // failures, however far apart

	breaker  *gobreaker.TwoStepCircuitBreaker[struct{}]
	limiter  *rate.Limiter
	slots    chan struct{}
	budget   budget
	refusals refusals

	observed bool
	mu       sync.Mutex
	changes  []change
	changed  atomic.Bool
}

type change struct {
	at       time.Time
	from, to State
}

func newMember(name string, p Policy, inner Inspector, observed bool) *member {
	m := &member{name: name, prefix: name + "/", policy: p, inner: inner, base: time.Now(), observed: observed}
	if inner != nil { // its own protections rule; ours would multiply them
		return m
	}
	if p.Breaker.on() {
		m.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](m.settings(p.Breaker))
	}
	if p.Rate > 0 {
		m.limiter = rate.NewLimiter(rate.Limit(p.Rate), p.Burst)
	}
	if p.Concurrency > 0 {
		m.slots = make(chan struct{}, p.Concurrency)
	}
	m.budget.init(p.RetryBudget)
	return m
}

// The outcomes as gobreaker's classifiers see them. It calls those under its
// lock, so the decision is made before.
var (
	errFailure  = errors.New("failure")
	errExcluded = errors.New("excluded")
)

func (m *member) settings(b Breaker) gobreaker.Settings {
	return gobreaker.Settings{
		MaxRequests:  uint32(max(b.Probes, 1)), //nolint:gosec // checked not negative by Validate
		Interval:     b.Window,
		BucketPeriod: b.Window / 10,
		// The gate decides when to probe, so gobreaker must be ready just before.
		Timeout: max(b.OpenFor-time.Nanosecond, 1),
		ReadyToTrip: func(c gobreaker.Counts) bool {
			// Counts.Requests has the calls in flight in it; only completed ones count.
			completed := int(c.TotalSuccesses) + int(c.TotalFailures)
			return b.InARow > 0 && m.inARow.Load() >= int64(b.InARow) ||
				b.Ratio > 0 && completed >= b.MinCalls && float64(c.TotalFailures) >= b.Ratio*float64(completed)
		},
		IsSuccessful:  func(err error) bool { return err == nil },
		IsExcluded:    func(err error) bool { return err == errExcluded },
		OnStateChange: func(_ string, from, to gobreaker.State) { m.stateChanged(states[from], states[to]) },
	}
}

var states = map[gobreaker.State]State{
	gobreaker.StateClosed: Closed, gobreaker.StateHalfOpen: HalfOpen, gobreaker.StateOpen: Open,
}

// stateChanged runs under gobreaker's lock: it only takes notes.
func (m *member) stateChanged(from, to State) {
	now := time.Now()
	switch to {
	case Open:
		b := m.policy.Breaker
		jitter := time.Duration(rand.Float64() * b.Jitter * float64(b.OpenFor)) //nolint:gosec // spreading, not secrecy
		m.openUntil.Store(int64(now.Sub(m.base) + b.OpenFor + jitter))
		m.halfOpen.Store(false)
	case HalfOpen:
		m.halfOpen.Store(true)
	case Closed:
		m.halfOpen.Store(false)
		m.openUntil.Store(0)
	}
	m.inARow.Store(0)
	if !m.observed {
		return
	}
	m.mu.Lock()
	m.changes = append(m.changes, change{now, from, to})
	m.mu.Unlock()
	m.changed.Store(true)
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

// shut says why the gate lets nobody through at that time, and for how long.
func (m *member) shut(now time.Time) (error, time.Duration) { //nolint:revive,staticcheck // the cause is the answer, not a failure
	at := int64(now.Sub(m.base))
	if until := m.openUntil.Load(); at < until {
		return ErrOpen, time.Duration(until - at)
	}
	if until := m.pausedUntil.Load(); at < until {
		return ErrPaused, time.Duration(until - at)
	}
	return nil, 0
}

// ready is how many providers this one is made of that could take a call.
func (m *member) ready(now time.Time) int {
	if m.inner == nil {
		if cause, _ := m.shut(now); cause != nil {
			return 0
		}
		return 1
	}
	n := 0
	for _, s := range m.inner.Inspect() {
		if s.OpenFor == 0 && s.PausedFor == 0 {
			n++
		}
	}
	return n
}

// pause shuts the gate for d, or for longer where it already is.
func (m *member) pause(now time.Time, d time.Duration) {
	until := int64(now.Sub(m.base) + d)
	for {
		old := m.pausedUntil.Load()
		if old >= until || m.pausedUntil.CompareAndSwap(old, until) {
			return
		}
	}
}

// permit is the right to make one attempt. It must be ended exactly once.
type permit struct {
	m     *member
	done  func(error)
	slot  bool
	start time.Time
}

// admit asks gate, rate limit, bulkhead and breaker, in this order. It waits up
// to wait for the gate, the rate limit and a slot together. The error is a
// refusal of ours, or ctx's.
func (m *member) admit(ctx context.Context, op string, now time.Time, wait time.Duration) (permit, error) {
	p := permit{m: m, start: now}
	cause, remaining := m.shut(now)
	if cause != nil {
		if cause == ErrOpen || remaining > wait {
			return p, m.refusals.get(m.name, op, cause, remaining)
		}
		if err := sleep(ctx, remaining); err != nil {
			return p, err
		}
		p.start = time.Now()
	}
	token, err := m.takeToken(ctx, op, &p, wait-p.start.Sub(now))
	if err != nil {
		return p, err
	}
	if m.slots != nil {
		if err := m.takeSlot(ctx, op, &p, wait-p.start.Sub(now)); err != nil {
			token.giveBack()
			return p, err
		}
	}
	if m.breaker != nil {
		done, err := m.breaker.Allow()
		if err != nil { // opened meanwhile, or enough probes are out
			if p.slot {
				<-m.slots
			}
			token.giveBack()
			return p, m.refusals.get(m.name, op, ErrOpen, 0)
		}
		p.done = done
	}
	return p, nil
}

// token is what was taken from the rate limiter, where it can be given back. One
// that was waited for is spent: given back late, it would be granted twice.
type token struct {
	*rate.Reservation
	at time.Time
}

func (t token) giveBack() {
	if t.Reservation != nil {
		t.CancelAt(t.at)
	}
}

// takeToken takes one from the rate limiter. Where a refusal is likely to
// follow, it is a reservation that can be given back: neither refused probes nor
// a full bulkhead may drain the limit.
func (m *member) takeToken(ctx context.Context, op string, p *permit, wait time.Duration) (token, error) {
	if m.limiter == nil {
		return token{}, nil
	}
	full := m.slots != nil && len(m.slots) == cap(m.slots)
	if full && wait <= 0 {
		return token{}, m.refusals.get(m.name, op, ErrFull, 0)
	}
	if !full && !m.halfOpen.Load() && m.limiter.AllowN(p.start, 1) {
		return token{}, nil
	}
	r := m.limiter.ReserveN(p.start, 1)
	delay := r.DelayFrom(p.start)
	switch {
	case delay <= 0:
		return token{r, p.start}, nil
	case delay > wait:
		r.CancelAt(p.start)
		return token{}, m.refusals.get(m.name, op, ErrLimited, delay)
	}
	if err := sleep(ctx, delay); err != nil {
		r.Cancel()
		return token{}, err
	}
	p.start = time.Now()
	return token{}, nil
}

func (m *member) takeSlot(ctx context.Context, op string, p *permit, wait time.Duration) error {
	select {
	case m.slots <- struct{}{}:
		p.slot = true
		return nil
	default:
	}
	if wait <= 0 {
		return m.refusals.get(m.name, op, ErrFull, 0)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case m.slots <- struct{}{}:
		p.slot = true
		p.start = time.Now()
		return nil
	case <-t.C:
		return m.refusals.get(m.name, op, ErrFull, 0)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end gives everything back and tells the breaker: nil for a success,
// errFailure or errExcluded.
func (p *permit) end(outcome error) {
	m := p.m
	if m == nil {
		return
	}
	p.m = nil
	switch {
	case outcome == errFailure:
		m.inARow.Add(1)
	case outcome == nil && m.inARow.Load() != 0:
		m.inARow.Store(0)
	}
	if p.done != nil {
		p.done(outcome)
	}
	if p.slot {
		<-m.slots
	}
}

// renew gives an attempt that has outlived the breaker's window a new say:
// gobreaker drops what it let in longer ago.
func (p *permit) renew(now time.Time) {
	if p.m == nil || p.done == nil || now.Sub(p.start) < p.m.policy.Breaker.Window {
		return
	}
	p.done(errExcluded)
	p.done, _ = p.m.breaker.Allow() // nil where it has opened meanwhile
}

// refusals keeps the errors of our own refusals per operation, so that an open
// breaker costs no allocation. RetryAfter is kept to the second, rounded up.
type refusals struct {
	kept atomic.Pointer[[]*fault.Error]
}

const keptRefusals = 16

func (r *refusals) get(provider, op string, cause error, remaining time.Duration) *fault.Error {
	after := (remaining + time.Second - 1).Truncate(time.Second)
	old := r.kept.Load()
	if old != nil {
		for _, e := range *old {
			if e.Err == cause && e.RetryAfter == after && e.Op == op {
				return e
			}
		}
	}
	kind := fault.Unavailable
	if cause == ErrLimited || cause == ErrPaused {
		kind = fault.RateLimited
	}
	e := &fault.Error{Kind: kind, Provider: provider, Op: op, RetryAfter: after, Local: true, Err: cause}
	fresh := []*fault.Error{e}
	if old != nil {
		fresh = append(fresh, (*old)[:min(len(*old), keptRefusals-1)]...)
	}
	r.kept.CompareAndSwap(old, &fresh) // whoever loses the race keeps its own
	return e
}

// sleep waits for d or for ctx's end, whose error it returns.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
