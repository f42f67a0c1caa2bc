package resilience

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/smilefactory/integrations/fault"
)

// Call makes one call of a provider's method out of as many attempts as it
// takes. Where the result has a method Answered(provider string, attempts int),
// it is told who answered. The error is a [fault.Error] that lists every
// attempt.
func Call[P, A, R any](ctx context.Context, g *Group[P], op Op, method func(P, context.Context, A) (R, error), arg A) (R, error) {
	var result R
	path, attempts, err := g.run(ctx, op, nil, func(ctx context.Context, i int) error {
		r, err := method(g.providers[i], ctx, arg)
		if err == nil {
			result = r
		}
		return err
	})
	if err != nil {
		var none R
		return none, err
	}
	stamp(result, path, attempts)
	return result, nil
}

// Do is [Call] for a method of another shape.
func Do[P, R any](ctx context.Context, g *Group[P], op Op, fn func(context.Context, P) (R, error)) (R, error) {
	var result R
	path, attempts, err := g.run(ctx, op, nil, func(ctx context.Context, i int) error {
		r, err := fn(ctx, g.providers[i])
		if err == nil {
			result = r
		}
		return err
	})
	if err != nil {
		var none R
		return none, err
	}
	stamp(result, path, attempts)
	return result, nil
}

type answerer interface {
	Answered(provider string, attempts int)
}

func stamp[R any](result R, path string, attempts int) {
	var zero R // asked first: it costs nothing to box
	if _, ok := any(zero).(answerer); !ok && any(zero) != nil {
		return
	}
	if r, ok := any(result).(answerer); ok {
		r.Answered(path, attempts)
	}
}

type pinKey struct{}

// Pin makes the calls under the returned context go to the provider of that
// path ("eu/ses") alone: a second step belongs to the provider of the first.
// A Group without such a provider refuses with fault.NotFound.
func Pin(ctx context.Context, path string) context.Context {
	return context.WithValue(ctx, pinKey{}, path)
}

// call is the state of one call. It lives on the stack.
type call struct {
	g      *group
	op     Op
	hold   *hold // nil but for Stream and Keep
	outer  *attemptContext
	pin    string
	prefix string
	after  int // providers behind this Group, in the outer ones

	callers  time.Time // the caller's deadline
	deadline time.Time // that, or the Group's own where it comes first
	attempts int
	path     string

	first     *fault.Error   // apart, so that a single refusal costs nothing
	more      []*fault.Error // what the attempts after it answered
	unsettled bool           // a Once operation may have acted
	end       fault.Kind     // the kind that ended the call, where it was not the last provider
	cause     error          // why a wait ended
}

type step uint8

const (
	answered step = iota
	nextProvider
	stop
)

func (g *group) run(ctx context.Context, op Op, h *hold, try func(context.Context, int) error) (path string, attempts int, err error) {
	c := call{g: g, op: op, hold: h, outer: outerAttempt(ctx, op.Name)}
	c.pin, _ = ctx.Value(pinKey{}).(string)
	if c.outer != nil {
		c.outer.enter()
		c.prefix, c.pin, c.after = c.outer.prefix, c.outer.pin, c.outer.after
	}
	start := time.Now()
	c.callers, _ = ctx.Deadline()
	c.deadline = c.callers
	if t := g.policy.Total; t > 0 && (c.deadline.IsZero() || start.Add(t).Before(c.deadline)) {
		c.deadline = start.Add(t)
	}
	err = c.walk(ctx, start, try)
	if c.outer != nil {
		c.outer.leave(c.path, c.attempts)
	} else if len(g.observers) > 0 {
		now := time.Now()
		g.emit(ctx, Event{Type: CallEnded, Time: now, Op: op.Name, Provider: c.path, Attempt: c.attempts, Duration: now.Sub(start), Err: err})
	}
	return c.path, c.attempts, err
}

// walk asks one provider after the other.
func (c *call) walk(ctx context.Context, now time.Time, try func(context.Context, int) error) error {
	if err := ctx.Err(); err != nil {
		return &fault.Error{Kind: fault.Canceled, Op: c.op.Name, Local: true, Err: err}
	}
	found := false
	for i, m := range c.g.members {
		if !c.pinned(m) {
			continue
		}
		found = true
		switch c.ask(ctx, i, now, try) {
		case answered:
			return nil
		case stop:
			return c.failure()
		case nextProvider:
		}
		now = time.Now()
		if c.expired(now) {
			break
		}
		if i+1 < len(c.g.members) {
			c.emit(ctx, Event{Type: FailedOver, Time: now, Provider: c.prefix + m.name, Attempt: c.attempts, Err: c.last()})
		}
	}
	if !found {
		return &fault.Error{Kind: fault.NotFound, Op: c.op.Name, Local: true, Err: errors.New("no provider has the pinned path")}
	}
	return c.failure()
}

// inside is the prefix of what runs inside the member.
func (c *call) inside(m *member) string {
	if c.prefix == "" {
		return m.prefix
	}
	return c.prefix + m.prefix
}

func (c *call) pinned(m *member) bool {
	if c.pin == "" {
		return true
	}
	first, _, _ := strings.Cut(c.pin, "/")
	return first == m.name
}

func (c *call) expired(now time.Time) bool { return !c.deadline.IsZero() && !now.Before(c.deadline) }

func (c *call) last() error {
	if len(c.more) > 0 {
		return c.more[len(c.more)-1]
	}
	return asError(c.first)
}

// left is how many providers behind i could still take the call.
func (c *call) left(i int, now time.Time) int {
	n := c.after
	if c.pin != "" {
		return n
	}
	for _, m := range c.g.members[i+1:] {
		if cause, _ := m.shut(now); cause == nil {
			n += m.leaves
		}
	}
	return n
}

// ask asks one provider, and repeats as the table and the policy allow.
func (c *call) ask(ctx context.Context, i int, now time.Time, try func(context.Context, int) error) step {
	m := c.g.members[i]
	m.budget.deposit()
	var waits *backoff.ExponentialBackOff
	for retry := 0; ; retry++ {
		left := c.left(i, now)
		p, err := m.admit(ctx, c.op.Name, now, c.patience(m, left, now))
		if err != nil {
			return c.refused(ctx, m, err)
		}
		f, timedOut := c.attempt(ctx, i, p, left, try)
		if f == nil {
			return answered
		}
		c.note(f)
		now = time.Now()
		v := fault.Decide(f, c.op.Safety)
		if f.Kind == fault.Canceled {
			c.end = fault.Canceled
			return stop
		}
		if c.hold != nil && c.hold.begun {
			c.end = f.Kind
			return stop
		}
		if f.Kind == fault.RateLimited && left > 0 && m.inner == nil {
			c.pause(ctx, m, now, f)
			v.Retry = false
		}
		if timedOut && left > 0 || m.inner != nil || retry >= m.policy.Retries || c.expired(now) {
			v.Retry = false
		}
		if v.Retry {
			if waits == nil {
				waits = m.policy.Backoff.start()
			}
			if delay, ok := c.delay(m, f, waits.NextBackOff(), now); ok {
				c.emit(ctx, Event{Type: RetryScheduled, Time: now, Provider: c.prefix + m.name, Attempt: c.attempts, Delay: delay, Err: f})
				if err := sleep(ctx, delay); err != nil {
					c.end, c.cause = fault.Canceled, err
					return stop
				}
				now = time.Now()
				continue
			}
		}
		if !v.Failover || c.unsettled {
			c.end = f.Kind
			return stop
		}
		return nextProvider
	}
}

// patience is how long the last provider that can take the call may wait.
func (c *call) patience(m *member, left int, now time.Time) time.Duration {
	if left > 0 {
		return 0
	}
	wait := m.policy.MaxWait
	if !c.deadline.IsZero() {
		wait = min(wait, c.deadline.Sub(now))
	}
	return max(wait, 0)
}

func (c *call) refused(ctx context.Context, m *member, err error) step {
	f, ok := err.(*fault.Error) //nolint:errorlint // made by admit, never wrapped
	if !ok {
		c.end, c.cause = fault.Canceled, err
		return stop
	}
	c.add(f)
	if len(c.g.observers) > 0 {
		c.changes(ctx, m)
		c.emit(ctx, Event{Type: Refused, Time: time.Now(), Provider: c.prefix + m.name, Attempt: c.attempts, Delay: f.RetryAfter, Err: f})
	}
	return nextProvider
}

// note keeps the answer of an attempt, and what it says about an operation that
// must not act twice.
func (c *call) note(f *fault.Error) {
	if c.op.Safety == fault.Once {
		switch {
		case fault.MayHaveActed(f):
			c.unsettled = true
		case f.Kind == fault.Rejected && f.Deduped:
			c.unsettled = false
		}
	}
	if len(f.Tried) > 0 { // a Group inside: its attempts are ours
		for _, t := range f.Tried {
			c.add(t)
		}
		return
	}
	c.add(f)
}

func (c *call) add(f *fault.Error) {
	if c.first == nil {
		c.first = f
		return
	}
	c.more = append(c.more, f)
}

const defaultPause = time.Second

func (c *call) pause(ctx context.Context, m *member, now time.Time, f *fault.Error) {
	d := min(f.RetryAfter, fault.MaxRetryAfter)
	if d <= 0 {
		d = defaultPause
	}
	m.pause(now, d)
	c.emit(ctx, Event{Type: Paused, Time: now, Provider: c.prefix + m.name, Attempt: c.attempts, Delay: d, Err: f})
}

// delay is the wait before a retry, and whether the retry is worth it at all.
func (c *call) delay(m *member, f *fault.Error, d time.Duration, now time.Time) (time.Duration, bool) {
	if f.RetryAfter > d {
		d = f.RetryAfter
	}
	switch {
	case f.RetryAfter > 0 && d > m.policy.MaxWait,
		!c.deadline.IsZero() && !now.Add(d).Before(c.deadline):
		return 0, false
	}
	if cause, remaining := m.shut(now); cause != nil && remaining > d {
		return 0, false
	}
	return d, m.budget.take()
}

// start makes the state of a backoff, which is for one call at one provider.
func (b Backoff) start() *backoff.ExponentialBackOff {
	e := backoff.NewExponentialBackOff(backoff.WithInitialInterval(b.Initial), backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(b.Jitter), backoff.WithMaxElapsedTime(0))
	if b.Max > 0 {
		e.MaxInterval = b.Max
	}
	return e
}

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

// stamp is a copy of the provider's error that names provider and operation.
// The provider's own is never written to.
func (c *call) stamp(m *member, err error) *fault.Error {
	f := &fault.Error{Kind: fault.KindOf(err), Err: err}
	if e, ok := fault.As(err); ok {
		*f = *e
		if err != error(e) { // keep what was wrapped around it
			f.Err = err
		}
	}
	f.Op = c.op.Name
	f.Provider = m.name
	if e, ok := fault.As(err); ok && m.inner != nil && e.Provider != "" {
		f.Provider += "/" + e.Provider
	}
	f.Tried = slices.Clone(f.Tried)
	for i, t := range f.Tried {
		n := *t
		n.Provider = m.name + "/" + t.Provider
		f.Tried[i] = &n
	}
	return f
}

// rank orders the kinds for a call in which every provider failed: what the
// caller must know first stands first.
var rank = []fault.Kind{
	fault.Uncertain, fault.Unknown, fault.Unavailable, fault.RateLimited, fault.Exhausted, fault.Denied, fault.Unsupported,
}

// failure is the error of the whole call.
func (c *call) failure() error {
	kind := c.end
	if kind == fault.Unknown && len(c.more) == 0 && c.first != nil {
		kind = c.first.Kind
	} else if kind == fault.Unknown {
		kind = c.worst()
	}
	if c.unsettled && kind != fault.Canceled || c.unsettled && c.cause != nil {
		kind = fault.Uncertain
	}
	if f := c.first; f != nil && len(c.more) == 0 && c.cause == nil && f.Kind == kind {
		if f.Local {
			return f // shared: see refusals
		}
		f.Attempts = c.attempts
		return f
	}
	e := &fault.Error{Kind: kind, Op: c.op.Name, Attempts: c.attempts, Tried: c.tried(), Err: c.cause, Local: c.attempts == 0}
	for _, t := range e.Tried {
		if t.RetryAfter > 0 && (e.RetryAfter == 0 || t.RetryAfter < e.RetryAfter) {
			e.RetryAfter = t.RetryAfter
		}
	}
	return e
}

func (c *call) tried() []*fault.Error {
	if c.first == nil {
		return nil
	}
	return append([]*fault.Error{c.first}, c.more...)
}

func (c *call) worst() fault.Kind {
	tried := c.tried()
	for _, k := range rank {
		if slices.ContainsFunc(tried, func(t *fault.Error) bool { return t.Kind == k }) {
			return k
		}
	}
	return fault.Unknown
}

func (c *call) emit(ctx context.Context, e Event) {
	e.Op = c.op.Name
	c.g.emit(ctx, e)
}

// changes tells the observers what the breaker did, after its lock is free.
func (c *call) changes(ctx context.Context, m *member) {
	for _, ch := range m.takeChanges() {
		c.emit(ctx, Event{Type: StateChanged, Time: ch.at, Provider: c.prefix + m.name, From: ch.from, To: ch.to})
	}
}
