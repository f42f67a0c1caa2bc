package resilience

import (
	"context"
	"errors"
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
	if op.Safety >= fault.Idempotent && g.policy.Load().Hedge.on() {
		return hedged(ctx, g, op, method, arg)
	}
	path, attempts, err := g.run(ctx, op, nil, nil, func(ctx context.Context, i int) error {
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
	return Call(ctx, g, op, func(p P, ctx context.Context, fn func(context.Context, P) (R, error)) (R, error) { return fn(ctx, p) }, fn)
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

// tryFunc asks the provider of that index once.
type tryFunc func(ctx context.Context, i int) error

// call is the state of one call. It lives on the stack.
type call struct {
	g       *Control
	op      Op
	holding *holding // nil but for Stream and Keep
	hedging *hedging // nil but for hedged calls
	marks   *marks
	key     string
	order   order
	outer   *attemptContext
	pin     string
	prefix  string
	behind  int // providers behind this Group, in the outer ones

	callers  time.Time // the caller's deadline
	deadline time.Time // that, or a Group's own where it comes first
	attempts int
	path     string
	spent    uint64 // places that a second attempt has found to be of no use, as bits

	first     *fault.Error   // apart, so that a single refusal costs nothing
	more      []*fault.Error // what the attempts after it answered
	unsettled bool           // a Once operation may have acted
	end       fault.Kind     // the kind that ended the call, where it was not the last provider
	cause     error          // why a wait ended
}

type step uint8

const (
	answered step = iota
	again
	nextProvider
	stop
)

func (g *Control) run(ctx context.Context, op Op, h *holding, hedge *hedging, try tryFunc) (path string, attempts int, err error) {
	m, outer := marksOf(ctx)
	if outer != nil && outer.op != op.Name { // another service's attempt is none of ours
		outer = nil
	}
	c := call{g: g, op: op, holding: h, hedging: hedge, marks: m, key: m.keyOr(), pin: m.pin, outer: outer}
	if m.pin != "" { // it is not for what the provider calls
		c.marks = &marks{tenant: m.tenant, key: m.key}
	}
	start := time.Now()
	if c.outer == nil {
		c.callers, _ = ctx.Deadline()
		c.deadline = c.callers
	} else {
		c.outer.enter()
		c.prefix, c.pin, c.behind = c.outer.prefix, c.outer.pin, c.outer.left
		c.callers, c.deadline = c.outer.callers, c.outer.total
	}
	policy := g.policy.Load()
	if policy.Total > 0 {
		c.deadline = earlier(c.deadline, start.Add(policy.Total))
	}
	c.order = g.order(policy, c.key, start)
	err = c.walk(ctx, start, try)
	if c.outer != nil {
		c.outer.leave(c.path, c.attempts)
	} else if len(g.observers) > 0 {
		now := time.Now()
		g.emit(ctx, Event{Type: CallEnded, Time: now, Op: op.Name, Provider: c.path, Attempt: c.attempts, Duration: now.Sub(start), Err: err})
	}
	return c.path, c.attempts, err
}

// earlier is the earlier of two instants; the zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// walk asks one provider after the other.
func (c *call) walk(ctx context.Context, now time.Time, try tryFunc) error {
	if err := ctx.Err(); err != nil {
		return &fault.Error{Kind: fault.Canceled, Op: c.op.Name, Local: true, Err: err}
	}
	var given *member // the one given up
	for place := range c.g.members {
		m := c.member(place)
		if !c.pinned(m) || c.spent&(1<<place) != 0 {
			continue
		}
		if given != nil {
			if now = time.Now(); c.over(ctx, now) {
				break
			}
			c.emit(ctx, Event{Type: FailedOver, Time: now, Provider: c.prefix + given.name, Attempt: c.attempts, Err: c.last()})
		}
		switch c.ask(ctx, place, now, try) { //nolint:exhaustive // ask repeats by itself
		case answered:
			return nil
		case stop:
			return c.failure()
		}
		given = m
	}
	if given == nil {
		return &fault.Error{Kind: fault.NotFound, Op: c.op.Name, Local: true, Err: errors.New("no provider has the pinned path")}
	}
	return c.failure()
}

func (c *call) member(place int) *member { return c.g.members[c.order.at(place)] }

// over reports whether there is nobody left to go on for.
func (c *call) over(ctx context.Context, now time.Time) bool {
	if c.expired(now) {
		return true
	}
	if err := ctx.Err(); err != nil {
		c.end, c.cause = fault.Canceled, err
		return true
	}
	return false
}

func (c *call) expired(now time.Time) bool { return !c.deadline.IsZero() && !now.Before(c.deadline) }

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

func (c *call) last() error {
	if len(c.more) > 0 {
		return c.more[len(c.more)-1]
	}
	return asError(c.first)
}

// left is how many providers behind that place could still take the call.
func (c *call) left(place int, now time.Time) int {
	if c.unsettled { // it must not go anywhere else
		return 0
	}
	n := c.behind
	if c.pin != "" {
		return n
	}
	for place++; place < c.order.n; place++ {
		if c.spent&(1<<place) == 0 {
			n += c.member(place).ready(now, c.key)
		}
	}
	return n
}

// ask asks one provider, and repeats as the table and the policy allow.
func (c *call) ask(ctx context.Context, place int, now time.Time, try tryFunc) step {
	m := c.member(place)
	m.budget.deposit()
	var waits *backoff.ExponentialBackOff
	for retry := 0; ; retry++ {
		left := c.left(place, now)
		p, err := m.admit(ctx, c.bid(now, c.patience(m, left, now)))
		if err != nil {
			return c.refused(ctx, m, err)
		}
		a := attempt{m: m, index: c.order.at(place), place: place, permit: p, left: left}
		f := c.attempt(ctx, &a, try)
		if f == nil {
			return answered
		}
		c.note(f)
		now = time.Now()
		next := c.next(ctx, &a, f, retry, now)
		if next == again {
			if waits == nil {
				waits = m.policy().Backoff.start()
			}
			next = c.wait(ctx, m, f, waits.NextBackOff(), &now)
		}
		if next != again {
			return next
		}
	}
}

func (c *call) bid(now time.Time, wait time.Duration) bid {
	return bid{op: c.op.Name, key: c.key, now: now, wait: wait, pinned: c.pin != ""}
}

// next is what the table, the history and the policy say after a failed attempt.
func (c *call) next(ctx context.Context, a *attempt, f *fault.Error, retry int, now time.Time) step {
	if f.Kind == fault.Canceled || c.holding != nil && c.holding.begun {
		c.end = f.Kind
		return stop
	}
	v := fault.Decide(f, c.op.Safety)
	v.Failover = v.Failover && !c.unsettled
	elsewhere := v.Failover && a.left > 0
	if f.Kind == fault.RateLimited && elsewhere && !a.inner() {
		c.pause(ctx, a.m, now, f)
		return nextProvider
	}
	here := v.Retry && (!a.timedOut || !elsewhere) && !a.inner()
	switch {
	case here && retry < a.m.policy().Retries && !c.expired(now):
		return again
	case v.Failover:
		return nextProvider
	}
	c.end = f.Kind
	return stop
}

// wait sleeps before a retry. Where the retry isn't worth it or not paid for by
// the budget, the call goes on as if there were none left.
func (c *call) wait(ctx context.Context, m *member, f *fault.Error, backoff time.Duration, now *time.Time) step {
	delay, ok := c.delay(m, f, backoff, *now)
	if !ok {
		if fault.Decide(f, c.op.Safety).Failover && !c.unsettled {
			return nextProvider
		}
		c.end = f.Kind
		return stop
	}
	c.emit(ctx, Event{Type: RetryScheduled, Time: *now, Provider: c.prefix + m.name, Attempt: c.attempts, Delay: delay, Err: f})
	if err := sleep(ctx, delay); err != nil {
		c.end, c.cause = fault.Canceled, err
		return stop
	}
	*now = time.Now()
	return again
}

// delay is the wait before a retry, and whether the retry is worth it at all.
func (c *call) delay(m *member, f *fault.Error, d time.Duration, now time.Time) (time.Duration, bool) {
	if limit := m.policy().Backoff.Max; limit > 0 {
		d = min(d, limit) // the jitter reaches beyond it
	}
	d = max(d, f.RetryAfter)
	if f.RetryAfter > 0 && d > m.policy().MaxWait {
		return 0, false
	}
	if !c.deadline.IsZero() && !now.Add(d).Before(c.deadline) {
		return 0, false
	}
	if cause, remaining := m.shut(now); cause != nil && remaining > d {
		return 0, false
	}
	if k := m.forKey(c.key); k != nil {
		if cause, remaining := k.shut(now); cause != nil && remaining > d {
			return 0, false
		}
	}
	return d, m.budget.take()
}

// patience is how long the last provider that can take the call may wait.
func (c *call) patience(m *member, left int, now time.Time) time.Duration {
	if left > 0 {
		return 0
	}
	wait := m.policy().MaxWait
	if !c.deadline.IsZero() {
		wait = min(wait, c.deadline.Sub(now))
	}
	return max(wait, 0)
}

// refused goes on with the next provider, but for a call that may have acted at
// this one.
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
	if c.unsettled {
		return stop
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
		case f.Settles():
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

const (
	defaultPause = time.Second
	maxPause     = fault.MaxRetryAfter
)

// pauseFor is how long a provider that asked for it is left alone.
func pauseFor(retryAfter time.Duration) time.Duration {
	if retryAfter <= 0 {
		return defaultPause
	}
	return min(retryAfter, maxPause)
}

func (c *call) pause(ctx context.Context, m *member, now time.Time, f *fault.Error) {
	d := pauseFor(f.RetryAfter)
	e := Event{Type: Paused, Time: now, Provider: c.prefix + m.name, Attempt: c.attempts, Delay: d, Err: f}
	if k := m.forKey(c.key); k != nil { // it is the key that has too much
		m, e.Key = k, c.key
	}
	m.pause(now, d)
	c.emit(ctx, e)
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

func (c *call) emit(ctx context.Context, e Event) {
	e.Op = c.op.Name
	c.g.emit(ctx, e)
}

// changes tells the observers what the breaker did, after its lock is free.
func (c *call) changes(ctx context.Context, m *member) {
	c.changesOf(ctx, m, "")
	if k := m.forKey(c.key); k != nil {
		c.changesOf(ctx, k, c.key)
	}
}

func (c *call) changesOf(ctx context.Context, m *member, key string) {
	for _, ch := range m.takeChanges() {
		c.emit(ctx, Event{Type: StateChanged, Time: ch.at, Provider: c.prefix + m.name, Key: key, From: ch.from, To: ch.to, Delay: ch.openFor})
	}
}
