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
	m      *member
	index  int // of the provider
	place  int // in the call's order
	permit permit
	left   int // providers that could still take the call
	ctx    *attemptContext
	// limit is the time that it has; ours is when that is up, the zero instant
	// where the caller's deadline comes first.
	limit    time.Duration
	ours     time.Time
	timedOut bool
	inside   *report // of a Group inside, if there was one
	lost     bool    // to a second attempt
	rival    string  // who answered that
	returned bool
}

// inner reports whether the provider is itself made of providers, or has turned
// out to be: its own protections have ruled then.
func (a *attempt) inner() bool { return a.m.inner != nil || a.inside != nil }

// attempt makes one attempt. A nil fault is a success.
func (c *call) attempt(ctx context.Context, a *attempt, try tryFunc) *fault.Error {
	c.begin(ctx, a)
	defer c.unwound(ctx, a)
	err := c.try(ctx, a, try)
	a.returned = true
	return c.finish(ctx, a, err)
}

func (c *call) begin(ctx context.Context, a *attempt) {
	number := c.attempts + 1
	if a.m.inner == nil {
		c.attempts = number
	}
	ac := &attemptContext{Context: ctx, frame: frame{
		op: c.op.Name, prefix: c.inside(a.m), number: number, left: a.left, callers: c.callers, total: c.deadline,
		marks: c.marks,
	}}
	if c.outer != nil {
		ac.number += c.outer.number - 1
	}
	_, ac.pin, _ = strings.Cut(c.pin, "/")
	a.ctx = ac
	c.limit(a)
	if c.holding == nil {
		ac.deadline = a.ours
		return
	}
	ac.outlives = true
	c.holding.start(ctx, a)
}

// limit gives the attempt its time: the operation's or the member's own, or its
// share of what is left. Where the caller's deadline comes first the attempt has
// none of ours. A provider made of providers has what the whole call has.
func (c *call) limit(a *attempt) {
	if a.m.inner != nil {
		if !c.deadline.Equal(c.callers) {
			a.ours = c.deadline
		}
		return
	}
	a.limit = c.full(a.m)
	if !c.deadline.IsZero() {
		share := c.deadline.Sub(a.permit.start) / time.Duration(a.left+1)
		if a.limit == 0 || share < a.limit {
			a.limit = share
		}
	}
	if a.limit > 0 {
		if at := a.permit.start.Add(a.limit); c.callers.IsZero() || at.Before(c.callers) {
			a.ours = at
		}
	}
}

// full is the time limit of an attempt that nobody hurries.
func (c *call) full(m *member) time.Duration {
	if c.op.Timeout > 0 {
		return c.op.Timeout
	}
	return m.policy().Timeout
}

// started tells the observers, which may give the attempt another context.
func (c *call) started(a *attempt) context.Context {
	actx := context.Context(a.ctx)
	if a.m.inner == nil {
		for _, s := range c.g.starters {
			actx = s.Start(actx, Event{Time: a.permit.start, Op: c.op.Name, Provider: c.prefix + a.m.name, Attempt: c.attempts}) //nolint:fatcontext // each wraps the one before
		}
	}
	return actx
}

// try asks the provider, with a second attempt beside it where the call is hedged.
func (c *call) try(ctx context.Context, a *attempt, try tryFunc) error {
	actx := c.started(a)
	if c.hedging != nil && a.m.inner == nil {
		return c.hedging.race(ctx, actx, c, a, try)
	}
	return c.once(actx, a, try) //nolint:contextcheck // the attempt's context is the caller's
}

// once asks the provider, and whoever injects faults.
func (c *call) once(ctx context.Context, a *attempt, try tryFunc) error {
	if len(c.g.injectors) > 0 && a.m.inner == nil {
		return c.injected(ctx, a, try)
	}
	return try(ctx, a.index)
}

func (c *call) injected(ctx context.Context, a *attempt, try tryFunc) error {
	e := Event{Time: a.permit.start, Op: c.op.Name, Provider: c.prefix + a.m.name, Attempt: c.attempts}
	var replaced error
	for _, i := range c.g.injectors {
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
// goes on, nothing stays taken.
func (c *call) unwound(ctx context.Context, a *attempt) {
	if a.returned {
		return
	}
	outcome := errFailure
	if c.holding != nil {
		c.holding.end(a, time.Now())
		if c.holding.consumer { // the consumer's own
			outcome = errExcluded
		}
	}
	a.ctx.end()
	a.permit.end(outcome, time.Now())
	if len(c.g.observers) > 0 {
		c.emit(ctx, Event{Type: Panicked, Time: time.Now(), Provider: c.prefix + a.m.name, Attempt: c.attempts})
		c.changes(ctx, a.m)
	}
}

// finish ends the attempt, unless its answer has a body that lasts, and gives
// everybody their say.
func (c *call) finish(ctx context.Context, a *attempt, err error) *fault.Error {
	now := a.permit.start
	if err != nil || c.holding != nil || len(c.g.observers) > 0 || a.permit.timed() { // else nobody asks
		now = time.Now()
	}
	kept := err == nil && c.holding != nil && c.holding.body
	switch {
	case kept:
		a.inside = a.ctx.inside()
	case c.holding != nil:
		c.holding.end(a, now)
	default:
		a.inside = a.ctx.end()
	}
	if a.inside != nil {
		c.adopt(a)
	}
	f, outcome := c.outcome(ctx, a, err, now)
	if kept {
		c.holding.keep(ctx, c, a)
		if len(c.g.observers) > 0 {
			c.changes(ctx, a.m) // a probe has closed it
		}
		return nil
	}
	if a.permit.timed() && !a.inner() {
		a.permit.measured(now, err == nil && !a.lost, f != nil && (a.timedOut || f.Kind == fault.RateLimited))
	}
	a.permit.end(outcome, now)
	if len(c.g.observers) > 0 {
		c.ended(ctx, a, now, f)
	}
	if a.rival != "" { // the second attempt has answered
		c.path = a.rival
		return nil
	}
	return f
}

// adopt takes over what a Group inside has counted.
func (c *call) adopt(a *attempt) {
	if a.m.inner == nil {
		c.attempts-- // it was none: the inner Group has counted those that were
	}
	c.attempts += a.inside.attempts
}

// ended is an attempt's last event, and what it did to the breaker.
func (c *call) ended(ctx context.Context, a *attempt, now time.Time, f *fault.Error) {
	if a.m.inner == nil {
		c.emit(ctx, Event{
			Type: AttemptEnded, Time: now, Provider: c.prefix + a.m.name, Attempt: max(c.attempts, 1),
			Duration: now.Sub(a.permit.start), Err: asError(f),
		})
	}
	c.changes(ctx, a.m)
}

func asError(f *fault.Error) error {
	if f == nil {
		return nil
	}
	return f
}

// outcome is the fault of the attempt, and what the breaker is told.
func (c *call) outcome(ctx context.Context, a *attempt, err error, now time.Time) (*fault.Error, error) {
	switch {
	case err == nil:
		c.path = a.m.name
		if a.inside != nil && a.inside.path != "" {
			c.path = a.m.prefix + a.inside.path
		}
		if b := a.permit.rules.policy.Breaker; b.SlowAfter > 0 && c.holding == nil && !a.inner() && now.Sub(a.permit.start) > b.SlowAfter {
			return nil, errFailure
		}
		return nil, nil //nolint:nilnil // a success, which the breaker is told as nil
	case a.inner():
		f := c.stamp(a, err)
		if f.Kind == fault.Canceled && ctx.Err() == nil {
			f.Kind = fault.Uncertain // it was a time limit of ours
		}
		return f, errExcluded
	}
	f := c.stamp(a, err)
	if a.lost {
		f.Kind = fault.Canceled
		return f, errExcluded
	}
	if c.judge(ctx, a, f, now) {
		return f, errFailure
	}
	return f, errExcluded
}

// judge settles who ended the attempt, from the instants fixed at its start, and
// reports whether the failure counts against the provider. A time limit, ours or
// the caller's, counts where the attempt had at least half of what it would have
// had at leisure (shared with the providers that are left), so that a hanging
// provider is found out by hurried callers too, and by impatient ones is not.
func (c *call) judge(ctx context.Context, a *attempt, f *fault.Error, now time.Time) (counts bool) {
	open := f.Kind == fault.Uncertain || f.Kind == fault.Unknown || f.Kind == fault.Canceled
	fair := a.limit >= c.full(a.m)/time.Duration(2*(a.left+1))
	callers := !c.callers.IsZero() && !now.Before(c.callers)
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // the caller has gone
		if open {
			f.Kind = fault.Canceled
		}
		return false
	case !a.ours.IsZero() && !now.Before(a.ours):
		a.timedOut = true
		if open {
			f.Kind, f.Err = fault.Uncertain, timeoutError{f.Err}
		}
		return fair && fault.Decide(f, c.op.Safety).Count
	case callers:
		if open {
			f.Kind = fault.Canceled
		}
		return fair && (open || fault.Decide(f, c.op.Safety).Count)
	case f.Kind == fault.Canceled: // nobody here did
		f.Kind = fault.Uncertain
	}
	return fault.Decide(f, c.op.Safety).Count
}

// timeoutError is [ErrTimeout] with what the provider's client said about it.
type timeoutError struct{ cause error }

func (e timeoutError) Error() string { return ErrTimeout.Error() }

func (e timeoutError) Unwrap() []error { return []error{ErrTimeout, e.cause} }
