package resilience

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// attempt is one attempt at one provider, from its permit to its outcome.
type attempt struct {
	door   door
	index  int // of the provider
	place  int // in the call's order
	left   int // providers that could still take the call
	number int // in the whole call, from 1
	permit permit
	ctx    *attemptContext
	seen   context.Context //nolint:containedctx // the attempt's, as the starters left it
	// limit is the time that it has; ours is when that is up, the zero instant
	// where the caller's deadline comes first.
	limit    time.Duration
	ours     time.Time
	timedOut bool
	verdict  fault.Verdict // of its fault
	// What calls inside have come to: who answered, and whether one may have acted.
	path      string
	unsettled bool
	ended     bool // or kept by a body
}

// inner reports whether the provider is itself made of providers: its own
// protections rule then.
func (a *attempt) inner() bool { return a.door.member.inner.is() }

// attempt makes one attempt, with a second one beside it where the call is
// hedged. A nil fault is a success.
func (c *call) attempt(ctx context.Context, a *attempt, try tryFunc) *fault.Error {
	defer c.unwound(a)
	c.begin(ctx, a)
	if c.hedging != nil && !a.inner() {
		return c.race(ctx, a, try)
	}
	return c.carryOut(ctx, a, try)
}

func (c *call) carryOut(ctx context.Context, a *attempt, try tryFunc) *fault.Error {
	err := c.once(c.started(a), a, try) //nolint:contextcheck // the attempt's context is the caller's
	return c.finish(ctx, a, err)
}

func (c *call) begin(ctx context.Context, a *attempt) {
	a.number = c.before + c.attempts + 1
	ac := &attemptContext{Context: ctx, marks: c.marks, door: a.door, observed: c.watch.any(), cost: c.cost}
	a.ctx, a.seen = ac, ac
	c.limit(a)
	if a.inner() {
		m := a.door.member
		ac.nest = &nest{
			made: m.inner.Control, prefix: c.prefix + m.prefix, cost: c.cost, number: a.number, left: a.left,
			callers: c.callers, total: c.total, watch: c.watch,
		}
		_, ac.nest.pin, _ = strings.Cut(c.pin, "/")
	} else {
		c.attempts++
	}
	if c.holding == nil {
		ac.deadline = a.ours
		return
	}
	c.holding.start(ctx, c, a)
}

// limit gives the attempt its time. Where the caller's deadline comes first the
// attempt has none of ours. A provider made of providers has what the whole call
// has.
func (c *call) limit(a *attempt) {
	at := c.total
	if !a.inner() {
		a.limit = c.span(a, c.deadline)
		if at = (time.Time{}); a.limit > 0 {
			at = a.permit.start.Add(a.limit)
		}
	}
	if c.callers.IsZero() || at.Before(c.callers) {
		a.ours = at
	}
}

// span is the time of an attempt in a call that ends at a deadline: the
// operation's or the member's own, or where less is left, its equal share with
// those who may still be asked after a time-out, or twice what an answer usually
// takes, whichever is longer.
func (c *call) span(a *attempt, deadline time.Time) time.Duration {
	limit := c.full(a.door.member)
	if deadline.IsZero() {
		return limit
	}
	left := max(deadline.Sub(a.permit.start), 1)
	share := left
	if a.left > 0 && c.moves() {
		share = min(max(left/time.Duration(a.left+1), 2*c.usual(a)), left)
	}
	if limit == 0 || share < limit {
		return share
	}
	return limit
}

// moves reports whether another provider may take the call after an attempt that
// may have acted.
func (c *call) moves() bool {
	return c.op.verdict(ambiguous).Failover && (c.holding == nil || !c.holding.single)
}

// usual is how long an answer usually takes there.
func (c *call) usual(a *attempt) time.Duration {
	return time.Duration(a.door.member.breaker(c.op.Class).usual.Load())
}

// fair reports whether an attempt that a deadline ended had time enough to count:
// half of what it would have had without the caller's deadline, or one and a half
// times the usual.
func (c *call) fair(a *attempt) bool {
	if c.holding != nil && (c.holding.begun || c.holding.upload) && !a.timedOut {
		return false // its limits are the watchdog's, and the caller's deadline says nothing
	}
	leisure, usual := c.span(a, c.total), c.usual(a)
	return leisure > 0 && a.limit >= leisure/2 || usual > 0 && a.limit >= usual+usual/2
}

// full is the time limit of an attempt before deadlines shorten it.
func (c *call) full(m *member) time.Duration {
	if c.op.Timeout > 0 {
		return c.op.Timeout
	}
	return m.policy().Timeout
}

// started tells the observers, which may give the attempt another context.
func (c *call) started(a *attempt) context.Context {
	if len(c.watch.starters) > 0 && !a.inner() {
		a.seen = c.watch.start(a.ctx, c.event(a, AttemptStarted, a.permit.start))
	}
	return a.seen
}

func (c *call) event(a *attempt, t EventType, at time.Time) Event {
	return Event{Type: t, Time: at, Op: c.op.Name, Class: c.op.Class, Provider: c.prefix + a.door.member.name, Attempt: a.number}
}

// once asks the provider, and whoever injects faults.
func (c *call) once(ctx context.Context, a *attempt, try tryFunc) error {
	if len(c.watch.injectors) > 0 && !a.inner() {
		return c.injected(ctx, a, try)
	}
	return try(ctx, a.index)
}

func (c *call) injected(ctx context.Context, a *attempt, try tryFunc) error {
	e := c.event(a, AttemptStarted, a.permit.start)
	var replaced error
	for _, i := range c.watch.injectors {
		instead, after := i.Inject(ctx, e)
		if instead != nil {
			return instead
		}
		if after != nil {
			replaced = after
		}
	}
	if err := try(ctx, a.index); err != nil || replaced == nil {
		return err
	}
	return replaced
}

// unwound runs deferred: after a panic or runtime.Goexit in the provider, which
// propagates, nothing stays taken.
func (c *call) unwound(a *attempt) {
	if a.ended { // a panic after that is an observer's
		return
	}
	o := bad
	if a.ctx.hold != nil {
		c.holding.end(a, time.Now())
		if c.holding.consumer { // the consumer's own
			o = silent
		}
	}
	a.ctx.end()
	a.permit.end(o, time.Now())
	c.emit(a.seen, c.event(a, Panicked, time.Now()))
	c.changes(a.seen, a.door)
}

// finish ends the attempt, unless its answer has a body that lasts, and gives
// everybody their say.
func (c *call) finish(ctx context.Context, a *attempt, err error) *fault.Error {
	took := time.Since(a.permit.start)
	now := a.permit.start.Add(took)
	kept := err == nil && c.holding != nil && c.holding.body
	switch {
	case kept:
	case c.holding != nil:
		c.holding.end(a, now)
	default:
		a.ctx.end()
	}
	if a.inner() {
		c.adopt(a)
	}
	f, o := c.outcome(ctx, a, err, took, now)
	if !a.inner() {
		if c.holding != nil && c.holding.begun {
			took = c.holding.hold.began
		}
		a.permit.measured(took, err == nil, f != nil && (a.timedOut || f.Kind == fault.RateLimited))
	}
	if kept {
		a.ended = true
		c.holding.keep(c, a)
		c.changes(a.seen, a.door) //nolint:contextcheck // of the attempt; a probe has closed it
		return nil
	}
	a.permit.end(o, now)
	a.ended = true
	paused, isKey := c.pause(a, f, now)
	if c.watch.any() {
		c.tell(a, now, f)
		if paused > 0 {
			e := c.event(a, Paused, now)
			if e.Delay, e.Err = paused, f; isKey {
				e.Key = c.key
			}
			c.emit(ctx, e)
		}
	}
	return f
}

// pause leaves a provider alone that asks for it. One that doesn't say for how long
// is, where another can be asked meanwhile.
func (c *call) pause(a *attempt, f *fault.Error, now time.Time) (d time.Duration, ofKey bool) {
	if f == nil || f.Kind != fault.RateLimited || f.Local || a.inner() {
		return 0, false
	}
	if f.RetryAfter == 0 && (a.left == 0 || !a.verdict.Failover) {
		return 0, false
	}
	d = pauseFor(f.RetryAfter)
	ofKey, paused := a.door.pause(now, f, d)
	if !paused {
		d = 0
	}
	return d, ofKey
}

// adopt takes over what Groups inside have counted. A decorator that answered by
// itself made one attempt.
func (c *call) adopt(a *attempt) {
	a.ctx.mu.Lock()
	defer a.ctx.mu.Unlock()
	in := a.ctx.nest // which a call in the background may still change
	if a.path, a.unsettled = in.path, in.unsettled; in.entered {
		c.attempts += in.attempts
	} else {
		c.attempts++
	}
}

// tell is an attempt's last event, and what it did to the breaker.
func (c *call) tell(a *attempt, now time.Time, f *fault.Error) {
	if !a.inner() {
		e := c.event(a, AttemptEnded, now)
		e.Duration, e.Err, e.Exchange = now.Sub(a.permit.start), asError(f), a.ctx.noted()
		c.emit(a.seen, e)
	}
	c.changes(a.seen, a.door)
}

func asError(f *fault.Error) error {
	if f == nil {
		return nil
	}
	return f
}

// outcome is the fault of the attempt, and what it says about the provider.
func (c *call) outcome(ctx context.Context, a *attempt, err error, took time.Duration, now time.Time) (*fault.Error, outcome) {
	if err == nil {
		m := a.door.member
		c.path = m.name
		if a.inner() {
			if a.path != "" {
				c.path = m.prefix + a.path
			}
			return nil, silent
		}
		return nil, c.success(a, took, now)
	}
	f := c.stamp(a, err)
	if !a.inner() {
		return f, c.judge(ctx, a, f, now)
	}
	acted := fault.MayHaveActed(f)
	limited := f.Kind == fault.Canceled && ctx.Err() == nil // by a time limit of ours, or a decorator's
	switch {
	case limited && acted, a.unsettled && !acted: // the latter by another call inside than the last
		f.Kind = fault.Uncertain
	case limited:
		f.Kind = fault.Unavailable
	}
	a.verdict = c.op.verdict(f)
	return f, silent
}

// success: an answer that comes late is given all the same, and counts as a
// failure where the attempt had a fair time.
func (c *call) success(a *attempt, took time.Duration, now time.Time) outcome {
	if c.holding != nil {
		return good
	}
	late := !a.ours.IsZero() && now.After(a.ours) || !c.callers.IsZero() && now.After(c.callers)
	if late && c.fair(a) {
		return bad
	}
	if after := a.permit.rules.policy.Breaker.SlowAfter; after > 0 && took > after {
		return slow
	}
	return good
}

// judge settles who ended the attempt, from the instants fixed at its start, and
// what the failure says about the provider. A time limit, ours or the caller's,
// counts where the attempt had a fair time, so that a hanging provider is found
// out by hurried callers too, and by impatient ones is not.
func (c *call) judge(ctx context.Context, a *attempt, f *fault.Error, now time.Time) outcome {
	open := f.Kind == fault.Uncertain || f.Kind == fault.Unknown || f.Kind == fault.Canceled
	counts, fair := true, true
	switch {
	case errors.Is(ctx.Err(), context.Canceled) || a.ctx.isBeaten(): // the caller has gone
		counts = false
		if open {
			f.Kind, f.Err = fault.Canceled, endedBy(context.Canceled, f.Err)
		}
	case !a.ours.IsZero() && !now.Before(a.ours):
		a.timedOut = true
		fair = c.fair(a)
		if open {
			f.Kind, f.Err = fault.Uncertain, endedBy(ErrTimeout, f.Err)
		}
	case !c.callers.IsZero() && !now.Before(c.callers):
		fair = c.fair(a)
		if open {
			f.Kind, f.Err = fault.Canceled, endedBy(context.DeadlineExceeded, f.Err)
			a.verdict = c.op.verdict(f)
			return countIf(fair, bad)
		}
	case f.Kind == fault.Canceled: // nobody here did
		f.Kind = fault.Uncertain
	}
	a.verdict = c.op.verdict(f)
	switch counts = counts && fair && a.verdict.Count; {
	case f.Account:
		return countIf(counts, ofAccount)
	case f.Kind == fault.Unavailable:
		return countIf(counts, unreachable)
	}
	return countIf(counts, bad)
}

func countIf(counts bool, o outcome) outcome {
	if counts {
		return o
	}
	return silent
}

// ending is what ended an attempt, with what the provider's client said about it.
type ending struct{ by, cause error }

func endedBy(by, cause error) error {
	if errors.Is(cause, by) {
		return cause
	}
	return ending{by, cause}
}

func (e ending) Error() string {
	if e.by == ErrTimeout || e.cause == nil { // what a client says of its context's end adds nothing
		return e.by.Error()
	}
	return e.by.Error() + ": " + e.cause.Error()
}

func (e ending) Unwrap() []error { return []error{e.by, e.cause} }
