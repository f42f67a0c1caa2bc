package resilience

import (
	"context"
	"strings"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// attempt makes one attempt. A nil fault is a success.
func (c *call) attempt(ctx context.Context, i int, p permit, left int, try func(context.Context, int) error) (f *fault.Error, timedOut bool) {
	m := c.g.members[i]
	a := &attemptContext{Context: ctx, op: c.op.Name, prefix: c.inside(m), after: left}
	_, a.pin, _ = strings.Cut(c.pin, "/")
	limit := c.limit(m, a, p.start, left)
	if m.inner == nil {
		c.attempts++
	}
	ours := a.deadline
	if c.hold != nil {
		c.hold.start(ctx, a, ours, m.policy.Silence)
	}
	actx := context.Context(a)
	for _, s := range c.g.starters {
		actx = s.Start(actx, Event{Time: p.start, Op: c.op.Name, Provider: c.prefix + m.name, Attempt: c.attempts})
	}
	returned := false
	defer func() {
		if returned {
			return
		}
		outcome := errFailure
		if c.hold != nil {
			c.hold.end()
			if c.hold.consumer { // the consumer's own
				outcome = errExcluded
			}
		}
		a.end() // a panic or runtime.Goexit: it goes on, and nothing stays taken
		p.end(outcome)
		c.emit(ctx, Event{Type: Panicked, Time: time.Now(), Provider: c.prefix + m.name, Attempt: c.attempts})
	}()
	err := try(actx, i)
	returned = true
	now := p.start
	if err != nil || c.hold != nil || m.policy.Breaker.SlowAfter > 0 || len(c.g.observers) > 0 { // else nobody asks
		now = time.Now()
	}
	kept := c.hold != nil && c.hold.body && err == nil
	switch {
	case kept: // whoever has the body ends the attempt
		c.hold.rest()
	case c.hold != nil:
		c.hold.end()
		if ours = (time.Time{}); c.hold.expired.Load() {
			ours = now
		}
	default:
		a.end()
	}
	inner := m.inner != nil || a.nested
	if inner {
		if m.inner == nil {
			c.attempts-- // the inner one has counted it
		}
		c.attempts += a.attempts
	}
	outcome := error(nil)
	switch {
	case err == nil:
		c.path = m.name
		if inner && a.path != "" {
			c.path += "/" + a.path
		}
		if b := m.policy.Breaker; b.SlowAfter > 0 && c.hold == nil && now.Sub(p.start) > b.SlowAfter && !inner {
			outcome = errFailure
		}
	case inner:
		f, outcome = c.stamp(m, err), errExcluded
		if f.Kind == fault.Canceled && ctx.Err() == nil {
			f.Kind = fault.Uncertain
		}
	default:
		f = c.stamp(m, err)
		var counts bool
		counts, timedOut = c.judge(ctx, f, ours, now, limit, left, m)
		outcome = errExcluded
		if counts {
			outcome = errFailure
		}
	}
	if kept {
		c.hold.permit = p
	} else {
		if c.hold != nil {
			p.renew()
		}
		p.end(outcome)
	}
	if len(c.g.observers) > 0 {
		if !inner {
			c.emit(ctx, Event{Type: AttemptEnded, Time: now, Provider: c.prefix + m.name, Attempt: c.attempts, Duration: now.Sub(p.start), Err: asError(f)})
		}
		c.changes(ctx, m)
	}
	return f, timedOut
}

func asError(f *fault.Error) error {
	if f == nil {
		return nil
	}
	return f
}

// limit gives the attempt its time: the member's own, or its share of what is
// left. Where the caller's deadline comes first the attempt has none of ours.
func (c *call) limit(m *member, a *attemptContext, start time.Time, left int) time.Duration {
	if m.inner != nil {
		if !c.deadline.Equal(c.callers) {
			a.deadline, a.total = c.deadline, c.deadline
		}
		return 0
	}
	limit := m.policy.Timeout
	if c.op.Timeout > 0 {
		limit = c.op.Timeout
	}
	if !c.deadline.Equal(c.callers) {
		a.total = c.deadline
	}
	if !c.deadline.IsZero() {
		share := c.deadline.Sub(start) / time.Duration(left+1)
		if limit == 0 || share < limit {
			limit = share
		}
	}
	if limit > 0 {
		if at := start.Add(limit); c.callers.IsZero() || at.Before(c.callers) {
			a.deadline = at
		}
	}
	return limit
}

// judge settles whose deadline ended the attempt, from the instants fixed at
// its start, and whether the failure counts against the provider.
func (c *call) judge(ctx context.Context, f *fault.Error, ours, now time.Time, limit time.Duration, left int, m *member) (counts, timedOut bool) {
	full := m.policy.Timeout
	if c.op.Timeout > 0 {
		full = c.op.Timeout
	}
	fair := limit >= full/time.Duration(2*(left+1))
	open := f.Kind == fault.Uncertain || f.Kind == fault.Unknown || f.Kind == fault.Canceled
	switch {
	case !ours.IsZero() && !now.Before(ours):
		if open {
			f.Kind = fault.Uncertain
			f.Err = timeoutError{f.Err}
			return fair, true
		}
		return fault.Decide(f, c.op.Safety).Count && fair, true
	case ctx.Err() != nil || !c.callers.IsZero() && !now.Before(c.callers):
		byDeadline := !c.callers.IsZero() && !now.Before(c.callers)
		if open {
			f.Kind = fault.Canceled
			return byDeadline && fair, false
		}
		return fault.Decide(f, c.op.Safety).Count && byDeadline && fair, false
	case f.Kind == fault.Canceled: // nobody here did
		f.Kind = fault.Uncertain
	}
	return fault.Decide(f, c.op.Safety).Count, false
}

// timeoutError is [ErrTimeout] with what the provider's client said about it.
type timeoutError struct{ cause error }

func (e timeoutError) Error() string { return ErrTimeout.Error() }

func (e timeoutError) Unwrap() []error { return []error{ErrTimeout, e.cause} }
