package resilience

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// member is the state of one provider, or of one key at a provider. gobreaker is
// the state machine of its breaker; the gate in front of it (mode, openUntil,
// pausedUntil) adds what gobreaker has not, and answers without a lock or an
// allocation while it is shut.
type member struct {
	name   string
	prefix string    // name with a slash
	inner  Inspector // set where the provider is itself made of providers

	rules atomic.Pointer[rules]

	base        time.Time // the gate's instants are nanoseconds since then
	openUntil   atomic.Int64
	pausedUntil atomic.Int64
	warnedUntil atomic.Int64
	mode        atomic.Uint32
	inARow      atomic.Int64 // failures, however far apart
	inFlight    atomic.Int64
	budget      budget
	refusals    refusals
	latencies   latencies

	observed bool
	changed  atomic.Bool
	mu       sync.Mutex
	changes  []change
	idle     chan struct{} // closed when the last attempt of a drained member ends
}

// headStart lets the instants of a restored state, which lie before the member's
// beginning, be more than zero.
const headStart = time.Hour

func newMember(name string, p Policy, inner Inspector, observed bool) *member {
	m := &member{name: name, prefix: name + "/", inner: inner, base: time.Now().Add(-headStart), observed: observed}
	m.budget.init()
	if inner != nil { // its own protections rule; ours would multiply them
		p = Policy{}
	}
	m.budget.setShare(p.RetryBudget)
	m.rules.Store(m.newRules(nil, p, p.Breaker.OpenFor))
	return m
}

func (m *member) policy() *Policy { return &m.rules.Load().policy }

// forKey is the member's part for one key, or nil.
func (m *member) forKey(key string) *member {
	if key == "" {
		return nil
	}
	if k := m.rules.Load().keys; k != nil {
		return k.get(key)
	}
	return nil
}

// shut says why the gate lets nobody through at that time, and for how long.
func (m *member) shut(now time.Time) (error, time.Duration) { //nolint:revive,staticcheck // the cause is the answer, not a failure
	switch Mode(m.mode.Load()) {
	case ForcedOpen:
		return ErrOpen, forever
	case Drained:
		return ErrDrained, forever
	case ForcedClosed:
		return nil, 0
	case Automatic:
	}
	at := int64(now.Sub(m.base))
	if until := m.openUntil.Load(); at < until {
		return ErrOpen, time.Duration(until - at)
	}
	if until := m.pausedUntil.Load(); at < until {
		return ErrPaused, time.Duration(until - at)
	}
	return nil, 0
}

const forever = time.Duration(1<<63 - 1)

// ready is how many providers this one is made of that could take a call.
func (m *member) ready(now time.Time, key string) int {
	if cause, _ := m.shut(now); cause != nil {
		return 0
	}
	if m.inner == nil {
		if k := m.forKey(key); k != nil {
			return k.ready(now, "")
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

// opened reports whether the breaker has opened and not closed since: whoever
// passes the gate then is a probe, or one too many.
func (m *member) opened() bool { return m.openUntil.Load() > 0 }

// pause shuts the gate for d, or for longer where it already is.
func (m *member) pause(now time.Time, d time.Duration) {
	raise(&m.pausedUntil, int64(now.Sub(m.base)+d))
}

// raise stores the larger value.
func raise(v *atomic.Int64, to int64) {
	for {
		old := v.Load()
		if old >= to || v.CompareAndSwap(old, to) {
			return
		}
	}
}

// permit is the right to make one attempt. It must be ended exactly once.
type permit struct {
	m     *member
	rules *rules
	done  func(error) // tells the breaker, where there is one
	probe bool        // it was let in to try a half-open breaker
	late  bool        // a probe that has said success at its answer's beginning
	token bool        // of the rate limiter, until it can't be given back
	slot  bool
	start time.Time
	key   *permit // for the key's own limits and breaker
}

// bid asks for a permit.
type bid struct {
	op, key string
	now     time.Time
	wait    time.Duration // for gate, limits and slot together
	pinned  bool
}

// admit asks gate, rate limit, bulkhead and breaker, in this order, then the
// same of the key. The error is a refusal of ours, or ctx's.
func (m *member) admit(ctx context.Context, b bid) (permit, error) {
	p, err := m.admitOne(ctx, b)
	if err != nil {
		return p, err
	}
	k := m.forKey(b.key)
	if k == nil {
		return p, nil
	}
	b.wait -= p.start.Sub(b.now)
	b.now = p.start
	own, err := k.admitOne(ctx, b)
	if err != nil {
		p.giveBack()
		p.end(errExcluded, p.start)
		return permit{}, err
	}
	p.start, p.key = own.start, &own
	return p, nil
}

func (m *member) admitOne(ctx context.Context, b bid) (permit, error) {
	p := permit{m: m, rules: m.rules.Load(), start: b.now}
	if err := m.pass(ctx, b, &p); err != nil {
		return p, err
	}
	if err := m.takeToken(ctx, b.op, &p, b.wait-p.start.Sub(b.now)); err != nil {
		return p, err
	}
	if err := m.takeSlot(ctx, b.op, &p, b.wait-p.start.Sub(b.now)); err != nil {
		p.giveBack()
		return p, err
	}
	if err := m.askBreaker(b.op, &p); err != nil {
		p.giveBack()
		return p, err
	}
	m.inFlight.Add(1)
	if Mode(m.mode.Load()) == Drained && !b.pinned { // since it passed the gate
		p.end(errExcluded, p.start)
		return p, m.refusals.get(m.name, b.op, ErrDrained, forever)
	}
	return p, nil
}

// pass waits for the end of a pause, if need be.
func (m *member) pass(ctx context.Context, b bid, p *permit) error {
	cause, remaining := m.shut(b.now)
	switch {
	case cause == nil, cause == ErrDrained && b.pinned:
		return nil
	case cause != ErrPaused || remaining > b.wait:
		return m.refusals.get(m.name, b.op, cause, remaining)
	}
	if err := sleep(ctx, remaining); err != nil {
		return err
	}
	p.start = time.Now()
	return nil
}

func (m *member) askBreaker(op string, p *permit) error {
	if p.rules.breaker == nil || Mode(m.mode.Load()) == ForcedClosed {
		return nil
	}
	done, err := p.rules.breaker.Allow()
	if err != nil { // opened meanwhile, or enough probes are out
		if p.slot {
			p.rules.slots.release()
		}
		return m.refusals.get(m.name, op, ErrOpen, 0)
	}
	p.done, p.probe = done, m.opened()
	return nil
}

func (m *member) takeSlot(ctx context.Context, op string, p *permit, wait time.Duration) error {
	if p.rules.slots == nil {
		return nil
	}
	got, err := p.rules.slots.take(ctx, wait)
	switch {
	case err != nil:
		return err
	case !got:
		return m.refusals.get(m.name, op, ErrFull, 0)
	}
	p.slot = true
	if wait > 0 {
		p.start = time.Now()
	}
	return nil
}

// end gives everything back and tells the breaker: nil for a success,
// errFailure or errExcluded.
func (p *permit) end(outcome error, now time.Time) {
	m := p.m
	if m == nil {
		return
	}
	p.m = nil
	p.renew(outcome, now)
	if p.done != nil {
		switch {
		case outcome == errFailure:
			m.inARow.Add(1)
		case outcome == nil && m.inARow.Load() != 0:
			m.inARow.Store(0)
		}
		p.done(outcome)
	}
	if p.slot {
		p.rules.slots.release()
	}
	if m.inFlight.Add(-1) == 0 && Mode(m.mode.Load()) == Drained {
		m.wake()
	}
	if p.key != nil {
		p.key.end(outcome, now)
	}
}

// timed reports whether a limit goes by the latency of attempts.
func (p *permit) timed() bool {
	return p.rules.vegas != nil || p.rules.policy.Breaker.SlowAfter > 0 || p.rules.policy.Hedge.Percentile > 0 || p.key != nil
}

// measured notes the latency of an attempt that was answered, or overload.
func (p *permit) measured(now time.Time, answered, overload bool) {
	if v := p.rules.vegas; v != nil && (overload || answered) {
		inUse, _ := p.rules.slots.state()
		p.rules.slots.setLimit(v.sample(now.Sub(p.start), inUse, overload))
	}
	if answered && p.rules.policy.Hedge.Percentile > 0 {
		p.m.latencies.add(now.Sub(p.start))
	}
	if p.key != nil {
		p.key.measured(now, answered, overload)
	}
}

// early lets a probe whose answer lasts say success at its beginning, so that it
// doesn't keep all others out until its end. A failure after it is one of its own.
func (p *permit) early() {
	if p.probe && p.done != nil {
		p.done(nil)
		p.done, p.late = nil, true
	}
	if p.key != nil {
		p.key.early()
	}
}

// renew gives an attempt that has outlived the breaker's window a new say:
// gobreaker drops what it let in longer ago. So it does a failure that came after
// an early success.
func (p *permit) renew(outcome error, now time.Time) {
	switch {
	case p.late:
		if outcome != errFailure {
			return
		}
	case p.done == nil || now.Sub(p.start) < p.rules.policy.Breaker.Window:
		return
	default:
		p.done(errExcluded)
	}
	p.done, _ = p.rules.breaker.Allow() // nil where it has opened meanwhile
}

// refusals keeps the errors of our own refusals per operation, so that an open
// breaker costs no allocation. RetryAfter is kept to the second, rounded up.
type refusals struct {
	kept atomic.Pointer[[]*fault.Error]
}

const keptRefusals = 16

func (r *refusals) get(provider, op string, cause error, remaining time.Duration) *fault.Error {
	after := time.Duration(0)
	if remaining != forever {
		after = (remaining + time.Second - 1).Truncate(time.Second)
	}
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
