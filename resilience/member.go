package resilience

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience/internal/limit"
	"github.com/smilefactory/integrations/resilience/internal/window"
)

// member is the state of one provider, or of one key at a provider. The gate in
// front of it (mode, pause and each breaker's openUntil) answers without a lock
// or an allocation while it is shut.
type member struct {
	name     string
	prefix   string // name with a slash
	inner    inner
	classify func(error) fault.Kind
	base     time.Time // instants are nanoseconds since then

	rules       atomic.Pointer[rules]
	breakers    atomic.Pointer[[]*breaker] // the empty class's first
	pausedUntil atomic.Int64
	warnedUntil atomic.Int64
	mode        atomic.Uint32
	hasChanged  atomic.Bool
	draining    atomic.Bool  // somebody waits for idle
	unreachable atomic.Int64 // fault.Unavailable in a row, whatever the class
	budget      limit.Budget

	_        [64]byte // what each call writes is kept apart from what it only reads
	inFlight atomic.Int64
	_        [56]byte

	waiting   atomic.Int64
	refusals  atomic.Pointer[[]*fault.Error]
	latencies window.Latencies

	mu        sync.Mutex
	downUntil int64 // as long as a new class starts open
	changes   []change
	idle      chan struct{} // closed when the last attempt of a drained member ends
}

// inner is the Client that a provider is or decorates, and who shows it.
type inner struct {
	*Control
	show Inspector
}

func (i inner) is() bool { return i.Control != nil }

// headStart lets the instants of a restored state, which lie before the member's
// beginning, be more than zero.
const headStart = time.Hour

const (
	maxClasses = 16 // breakers of a member
	maxChanges = 32 // of them that wait for an observer
)

func newMember(name string, p Policy, in inner) *member {
	m := &member{name: name, prefix: name + "/", inner: in, base: time.Now().Add(-headStart)}
	m.budget.Fill()
	if in.is() { // its own protections rule; ours would multiply them
		p = Policy{}
	}
	m.budget.SetShare(p.RetryBudget)
	m.breakers.Store(&[]*breaker{m.newBreaker("", p.Breaker, p.Breaker.OpenFor)})
	m.rules.Store(m.newRules(nil, p))
	return m
}

func (m *member) policy() *Policy { return &m.rules.Load().policy }

// breaker is that of a class, which begins with its first call.
func (m *member) breaker(class string) *breaker {
	all := *m.breakers.Load()
	if class == "" {
		return all[0]
	}
	for _, b := range all[1:] {
		if b.class == class {
			return b
		}
	}
	return m.addClass(class)
}

func (m *member) addClass(class string) *breaker {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := *m.breakers.Load()
	i := slices.IndexFunc(all, func(b *breaker) bool { return b.class == class })
	if i >= 0 || len(all) == maxClasses {
		return all[max(i, 0)]
	}
	until := m.downUntil
	if until <= int64(time.Since(m.base)) {
		until = 0 // else nobody can reach the provider
	}
	b := m.resumed(&breaker{class: class}, m.policy().Breaker, until)
	all = append(slices.Clone(all), b)
	m.breakers.Store(&all)
	return b
}

// openAll opens the other breakers too, as the provider can't be reached.
func (m *member) openAll(by *breaker) {
	m.unreachable.Store(0)
	all := *m.breakers.Load()
	if !slices.Contains(all, by) {
		return // it is of former rules
	}
	m.mu.Lock()
	m.downUntil = by.openUntil.Load()
	m.mu.Unlock()
	for _, b := range all {
		if b != by && b.machine != nil && b.openUntil.Load() == 0 {
			b.trip()
		}
	}
}

// note keeps a breaker's step for the observers. What one of former rules does is
// nobody's business any more.
func (m *member) note(b *breaker, ch change) {
	if !slices.Contains(*m.breakers.Load(), b) {
		return
	}
	m.mu.Lock()
	m.changes = append(m.changes[max(len(m.changes)-maxChanges, 0):], ch)
	m.mu.Unlock()
	m.hasChanged.Store(true)
}

// takeChanges returns the state changes that no observer has seen yet.
func (m *member) takeChanges() []change {
	if !m.hasChanged.Load() || !m.hasChanged.Swap(false) {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.changes
	m.changes = nil
	return c
}

// shut says why the gate lets nobody of that breaker through at that time, and
// for how long.
func (m *member) shut(b *breaker, now time.Time) (error, time.Duration) { //nolint:revive,staticcheck // the cause is the answer, not a failure
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
	if until := b.openUntil.Load(); at < until {
		return ErrOpen, time.Duration(until - at)
	}
	if until := m.pausedUntil.Load(); at < until {
		return ErrPaused, time.Duration(until - at)
	}
	return nil, 0
}

const forever = time.Duration(1<<63 - 1)

// pause shuts the gate for d and up to a tenth more, so that many processes don't
// come back at once, or for longer where it already is.
func (m *member) pause(now time.Time, d time.Duration) {
	storeMax(&m.pausedUntil, int64(now.Sub(m.base)+d+tenthMore(d)))
}

// tenthMore is a random time of up to a tenth of d.
func tenthMore(d time.Duration) time.Duration {
	return time.Duration(rand.Float64() * float64(d/10)) //nolint:gosec // spreading, not secrecy
}

// asked is the time that a provider asked for, of a pause that pause has spread.
func asked(pause time.Duration) time.Duration { return pause - pause/11 }

// storeMax stores the larger value.
func storeMax(v *atomic.Int64, to int64) {
	for {
		old := v.Load()
		if old >= to || v.CompareAndSwap(old, to) {
			return
		}
	}
}

// permit is the right to make one attempt. It must be ended exactly once.
type permit struct {
	m       *member
	live    bool // it was granted, and hasn't ended
	rules   *rules
	breaker *breaker       // nil where nothing is counted
	window  *window.Window // that let it in
	probe   func(error)    // tells a half-open breaker
	tokens  int            // of the rate limit
	slot    bool
	start   time.Time
	key     *permit // for the key's own limits and breaker
}

// bid asks for a permit.
type bid struct {
	op     string // the operation's name, and its class
	class  string
	now    time.Time
	wait   time.Duration // for pause, limits and slot together
	pause  time.Duration // for a pause, which is spread
	cost   int
	pinned bool
}

// rest is what is left of wait.
func (b *bid) rest(p *permit) time.Duration { return b.wait - p.start.Sub(b.now) }

// admit asks gate, rate limit, bulkhead and breaker, in this order, and writes the
// permit. The error is a refusal of ours, or ctx's.
func (m *member) admit(ctx context.Context, b *bid, p *permit) error {
	*p = permit{m: m, rules: m.rules.Load(), breaker: m.breaker(b.class), start: b.now}
	if err := m.pass(ctx, b, p); err != nil {
		return err
	}
	if err := m.takeTokens(ctx, b, p); err != nil {
		return err
	}
	err := m.takeSlot(ctx, b, p)
	if err == nil {
		err = m.askBreaker(b, p)
	}
	if err != nil {
		p.giveBack(ctx)
		return err
	}
	p.live = true
	m.inFlight.Add(1)
	if Mode(m.mode.Load()) == Drained && !b.pinned { // since it passed the gate
		p.unused(ctx)
		return m.refuse(b, ErrDrained, forever)
	}
	return nil
}

// pass waits for the end of a pause, if need be.
func (m *member) pass(ctx context.Context, b *bid, p *permit) error {
	cause, remaining := m.shut(p.breaker, b.now)
	switch {
	case cause == nil, cause == ErrDrained && b.pinned:
		return nil
	case cause != ErrPaused || remaining > b.pause || !m.queue():
		return m.refuse(b, cause, remaining)
	}
	defer m.waiting.Add(-1)
	if err := limit.Sleep(ctx, min(remaining+tenthMore(remaining), b.pause)); err != nil {
		return err
	}
	p.start = time.Now()
	return nil
}

// queue takes one of the places in which callers may wait.
func (m *member) queue() bool {
	if n := m.waiting.Add(1); n <= int64(m.policy().MaxWaiting) || m.policy().MaxWaiting == 0 {
		return true
	}
	m.waiting.Add(-1)
	return false
}

// recheck looks again, for who has waited since, whether the gate is shut now.
func (m *member) recheck(b *bid, p *permit) error {
	if p.start.Equal(b.now) || b.pinned {
		return nil
	}
	if cause, remaining := m.shut(m.breaker(b.class), p.start); cause != nil {
		return m.refuse(b, cause, remaining)
	}
	return nil
}

// askBreaker takes the window that the attempt will tell, before it looks whether
// the breaker has opened since the gate was passed.
func (m *member) askBreaker(b *bid, p *permit) error {
	if err := m.recheck(b, p); err != nil {
		return err
	}
	if p.breaker.machine == nil {
		p.window = p.breaker.window.Load()
		return nil
	}
	if Mode(m.mode.Load()) == ForcedClosed {
		p.breaker = nil
		return nil
	}
	p.window = p.breaker.window.Load()
	until := p.breaker.openUntil.Load()
	if until == 0 {
		return nil
	}
	if remaining := time.Duration(until) - p.start.Sub(m.base); remaining > 0 {
		return m.refuse(b, ErrOpen, remaining)
	}
	done, err := p.breaker.machine.Allow()
	if err != nil { // enough probes are out
		return m.refuse(b, ErrOpen, 0)
	}
	p.probe = done
	return nil
}

func (p *permit) dropSlot() {
	if p.slot {
		p.rules.slots.Release()
		p.slot = false
	}
}

func (m *member) takeSlot(ctx context.Context, b *bid, p *permit) error {
	slots := p.rules.slots
	if slots == nil {
		return nil
	}
	if p.slot = slots.TryTake(); p.slot {
		return nil
	}
	wait := b.rest(p)
	if wait <= 0 || !m.queue() {
		return m.refuse(b, ErrFull, 0)
	}
	defer m.waiting.Add(-1)
	got, err := slots.Take(ctx, wait)
	switch {
	case err != nil:
		return err
	case !got:
		return m.refuse(b, ErrFull, 0)
	}
	p.slot, p.start = true, time.Now()
	return nil
}

// end gives everything back and tells the breaker.
func (p *permit) end(o outcome, now time.Time) {
	if !p.live {
		return
	}
	p.live = false
	m := p.m
	if p.breaker != nil {
		p.breaker.tell(p.window, p.probe, o, now)
	}
	p.dropSlot()
	if m.inFlight.Add(-1) == 0 && m.draining.Load() {
		m.wake()
	}
	if p.key != nil {
		if o == ofAccount {
			o = bad
		}
		p.key.end(o, now)
	}
}

// measured notes how long an attempt took that was answered, or that it met
// overload.
func (p *permit) measured(took time.Duration, answered, overload bool) {
	if v := p.rules.vegas; v != nil && (overload || answered) && p.m.rules.Load() == p.rules {
		inUse, _ := p.rules.slots.State()
		p.rules.slots.SetLimit(v.Sample(took, inUse, overload))
	}
	if answered {
		if p.breaker != nil {
			p.breaker.answered(took)
		}
		if p.rules.policy.Hedge.Percentile > 0 {
			p.m.latencies.Add(took)
		}
	}
	if p.key != nil {
		p.key.measured(took, answered, overload)
	}
}

// early lets a probe whose answer lasts say success at its beginning, so that it
// doesn't keep all others out until its end. What comes after is said like that of
// any other attempt.
func (p *permit) early() {
	if p.probe != nil {
		p.probe(nil)
		p.probe, p.window = nil, p.breaker.window.Load()
	}
	if p.key != nil {
		p.key.early()
	}
}

const keptRefusals = 16

// refuse is the error of a refusal of ours. Those of each operation are kept, so that
// an open breaker costs no allocation; RetryAfter is to the second, rounded up.
func (m *member) refuse(b *bid, cause error, remaining time.Duration) *fault.Error {
	after, op := time.Duration(0), b.op
	if remaining < longest {
		after = (remaining + time.Second - 1).Truncate(time.Second)
	}
	old := m.refusals.Load()
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
	e := &fault.Error{Kind: kind, Provider: m.name, Op: op, RetryAfter: after, Local: true, Err: cause}
	fresh := []*fault.Error{e}
	if old != nil {
		fresh = append(fresh, (*old)[:min(len(*old), keptRefusals-1)]...)
	}
	m.refusals.CompareAndSwap(old, &fresh) // whoever loses the race keeps its own
	return e
}
