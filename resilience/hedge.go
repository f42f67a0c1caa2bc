package resilience

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
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

// errLost is the cause of a context whose attempt lost to the other one.
var errLost = errors.New("the other attempt answered first")

// hedging is what a hedged call shares with its second attempts.
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

// rival is a second attempt under way, in the goroutine of a timer.
type rival struct {
	c      call // its own: the first attempt's goes on
	a      attempt
	try    tryFunc
	cancel context.CancelCauseFunc // of the first attempt
	done   chan struct{}
	began  atomic.Bool

	// Valid after done.
	fault    *fault.Error
	answered bool
	panicked any
}

// race makes the first attempt, and the second where that takes long.
func (h *hedging) race(ctx, actx context.Context, c *call, a *attempt, try tryFunc) error {
	first, cancelFirst := context.WithCancelCause(actx)
	defer cancelFirst(nil)
	second, cancelSecond := context.WithCancelCause(ctx)
	place := c.rivalPlace(a)
	m := c.member(place)
	r := &rival{
		c: call{
			g: c.g, op: c.op, marks: c.marks, key: c.key, order: c.order, outer: c.outer, pin: c.pin, prefix: c.prefix, behind: c.behind,
			callers: c.callers, deadline: c.deadline, attempts: c.attempts,
		},
		a: attempt{m: m, place: place, index: c.order.at(place), left: a.left}, try: h.second, cancel: cancelFirst, done: make(chan struct{}),
	}
	timer := time.AfterFunc(a.m.hedgeAfter(), func() { r.run(second) })
	defer func() { // also where the first attempt panics
		timer.Stop()
		cancelSecond(errLost)
	}()
	err := c.once(first, a, try)
	lost := context.Cause(first) == errLost
	if timer.Stop() || err == nil || ctx.Err() != nil {
		c.attempts += r.made()
		return err
	}
	<-r.done // it has its own time limit
	c.attempts += r.made()
	switch {
	case r.panicked != nil:
		panic(r.panicked)
	case r.answered:
		a.rival, a.lost, h.won = m.name, lost, true
	case r.fault != nil:
		c.note(r.fault)
		if place != a.place && !fault.Decide(r.fault, c.op.Safety).Retry {
			c.spent |= 1 << place
		}
	}
	return err
}

// rivalPlace is where a second attempt goes.
func (c *call) rivalPlace(a *attempt) int {
	if c.pin != "" {
		return a.place
	}
	now := time.Now()
	for p := a.place + 1; p < c.order.n; p++ {
		if m := c.member(p); m.inner == nil && m.ready(now, c.key) > 0 {
			return p
		}
	}
	return a.place
}

// run makes the second attempt, unless a limit or the budget is against it.
func (r *rival) run(ctx context.Context) {
	defer close(r.done)
	m := r.a.m
	if ctx.Err() != nil || !m.budget.take() {
		return
	}
	p, err := m.admit(ctx, r.c.bid(time.Now(), 0))
	if err != nil {
		return
	}
	r.a.permit = p
	r.began.Store(true)
	defer func() { r.panicked = recover() }()
	r.fault = r.c.attempt(ctx, &r.a, r.try)
	if r.answered = r.fault == nil; r.answered {
		r.cancel(errLost)
	}
}

// made is how many attempts it was.
func (r *rival) made() int {
	if r.began.Load() {
		return 1
	}
	return 0
}

// latencies are a provider's last ones.
type latencies struct {
	mu     sync.Mutex
	recent [128]time.Duration
	n      int
	sorted []time.Duration // of a moment ago
}

const (
	enoughLatencies = 32
	sortEvery       = 16
)

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recent[l.n%len(l.recent)] = d
	l.n++
	if l.n >= enoughLatencies && l.n%sortEvery == 0 {
		l.sorted = append(l.sorted[:0], l.recent[:min(l.n, len(l.recent))]...)
		slices.Sort(l.sorted)
	}
}

// percentile is zero while too few are known.
func (l *latencies) percentile(p float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sorted) == 0 {
		return 0
	}
	return l.sorted[int(p*float64(len(l.sorted)))]
}

func (m *member) hedgeAfter() time.Duration {
	h := m.policy().Hedge
	if h.Percentile > 0 {
		if d := m.latencies.percentile(h.Percentile); d > 0 {
			return d
		}
	}
	return h.After
}
