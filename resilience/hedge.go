package resilience

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// Hedge is a second attempt beside a first that takes long, of operations that
// are [fault.Read] or [fault.Idempotent]; the first answer wins and the other
// attempt is cancelled. It goes to the next provider that can take calls, else
// to the same one, waits for nothing, and is paid for from the retry budget. The
// first attempt runs in the caller's goroutine, so one that ignores its context
// holds up the answer of the second.
type Hedge struct {
	// After is how long the first may take. Zero switches hedging off.
	After time.Duration
	// Percentile of the provider's recent latencies replaces After once there are
	// 32 of them: 0.95 hedges one call in twenty, however slow the provider is by
	// nature.
	Percentile float64
}

func (h Hedge) on() bool { return h.After > 0 }

// errLost is the cause of a second attempt's context that lost to the first.
var errLost = errors.New("the other attempt answered first")

// hedging is what a hedged call shares with its second attempts. Nothing outside
// this file looks into it.
type hedging struct {
	second tryFunc
	won    bool // the second attempt's result is the call's
}

// hedged is [Call] with hedging; it is apart because its results must outlive
// the call that they belong to.
func hedged[P, A, R any](ctx context.Context, g *Group[P], op Op, method func(P, context.Context, A) (R, error), arg A) (R, error) {
	var none R
	results := new([2]R)
	into := func(n int) tryFunc {
		return func(ctx context.Context, i int) error {
			r, err := method(g.providers[i], ctx, arg)
			if err == nil {
				results[n] = r
			}
			return err
		}
	}
	h := &hedging{second: into(1)}
	path, attempts, err := g.run(ctx, op, nil, h, into(0))
	if err != nil {
		return none, err
	}
	result := results[0]
	if h.won {
		result = results[1]
	}
	stamp(result, path, attempts)
	return result, nil
}

// rival is a second attempt beside a first, in the goroutine of a timer.
type rival struct {
	c     call // its own: the first attempt's goes on
	a     attempt
	try   tryFunc
	first *attemptContext
	done  chan struct{}

	mu     sync.Mutex
	over   bool // the first is
	cancel context.CancelCauseFunc
	made   int // attempts

	// Valid after done.
	fault    *fault.Error
	answered bool
	panicked any
}

// race makes the first attempt, and a second one where that takes long.
func (c *call) race(ctx context.Context, a *attempt, try tryFunc) *fault.Error {
	after := a.door.member.hedgeAfter()
	place, ok := c.rivalPlace(a)
	if !ok || after <= 0 { // a member may have a policy of its own
		return c.carryOut(ctx, a, try)
	}
	r := &rival{c: *c, try: c.hedging.second, first: a.ctx, done: make(chan struct{})}
	r.c.hedging, r.c.first, r.c.more = nil, nil, nil
	r.a = attempt{place: place, index: c.order.at(place), left: a.left, door: c.member(place).doorOf(c.key)}
	timer := time.AfterFunc(after, func() { r.run(ctx) })
	defer func() { // also where the first attempt panics
		timer.Stop()
		r.stop()
	}()
	f := c.carryOut(ctx, a, try)
	if timer.Stop() || f == nil || ctx.Err() != nil {
		c.attempts += r.stop()
		return f
	}
	<-r.done // it has its own time limit
	c.attempts += r.made
	switch {
	case r.panicked != nil:
		panic(r.panicked)
	case r.answered:
		c.path, c.hedging.won = r.c.path, true
		return nil
	case r.fault != nil:
		c.note(r.fault, r.a.verdict)
		if place != a.place && !r.a.verdict.Retry {
			c.spent |= 1 << place
		}
	}
	return f
}

// rivalPlace is where a second attempt goes, if the operation allows one.
func (c *call) rivalPlace(a *attempt) (int, bool) {
	v := c.op.verdict(ambiguous)
	if c.pin == "" && v.Failover {
		now := time.Now()
		for p := a.place + 1; p < c.order.n; p++ {
			if m := c.member(p); !m.inner.is() && m.doorOf(c.key).ready(c.op.Class, now) > 0 {
				return p, true
			}
		}
	}
	return a.place, v.Retry
}

// run makes the second attempt, unless a limit or the budget is against it.
func (r *rival) run(ctx context.Context) {
	defer close(r.done)
	r.mu.Lock()
	if ctx, r.cancel = context.WithCancelCause(ctx); r.over {
		r.cancel(errLost)
	}
	r.mu.Unlock()
	defer r.cancel(nil)
	if ctx.Err() != nil {
		return
	}
	defer func() { r.panicked = recover() }()
	b := bid{op: r.c.op.Name, class: r.c.op.Class, now: time.Now(), cost: r.c.cost, pinned: r.c.pin != ""}
	if err := r.a.door.admit(ctx, &b, &r.a.permit); err != nil {
		return
	}
	if !r.begins() {
		r.a.permit.unused(ctx)
		return
	}
	r.fault = r.c.attempt(ctx, &r.a, r.try)
	if r.answered = r.fault == nil; r.answered {
		r.first.beat()
	}
}

// begins counts the attempt, unless the first is over or the budget is used up.
func (r *rival) begins() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || !r.a.door.budget().Take() {
		return false
	}
	r.made = 1
	return true
}

// stop ends the second attempt, or keeps it from beginning, and returns how many
// attempts it was.
func (r *rival) stop() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if r.cancel != nil {
		r.cancel(errLost)
	}
	return r.made
}

// beat ends an attempt whose rival has answered.
func (a *attemptContext) beat() {
	a.mu.Lock()
	a.beaten = true
	a.mu.Unlock()
	a.end()
}

func (a *attemptContext) isBeaten() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.beaten
}

func (m *member) hedgeAfter() time.Duration {
	h := m.policy().Hedge
	if h.Percentile > 0 {
		if d := m.latencies.Percentile(h.Percentile); d > 0 {
			return d
		}
	}
	return h.After
}
