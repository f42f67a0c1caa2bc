package resilience

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience/internal/limit"
)

// Call makes one call of a provider's method out of as many attempts as it
// takes. Where the result has a method Answered(provider string, attempts int),
// it is told who answered. The error is a [fault.Error] that lists every
// attempt.
func Call[P, A, R any](ctx context.Context, g *Group[P], op Op, method func(P, context.Context, A) (R, error), arg A) (R, error) {
	var result R
	if (op.Safety == fault.Idempotent || op.Safety == fault.Read) && g.policy.Load().Hedge.on() {
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
	holding *holding // nil but for Stream, Keep and Upload
	hedging *hedging // nil but for hedged calls
	watch   *watchers
	marks   *marks // for the attempts
	key     string
	pin     string
	cost    int
	order   order
	nested  bool   // inside another Group's attempt, of which are:
	prefix  string // its path, with a slash
	before  int    // attempts before this call
	behind  int    // providers that could take the call after this Group

	callers  time.Time // the caller's deadline
	total    time.Time // the earliest total deadline of a Group
	deadline time.Time // the earlier of both
	attempts int
	path     string
	spent    uint64 // places that a second attempt has found to be of no use, as bits

	first     *fault.Error   // apart, so that a single refusal costs nothing
	more      []*fault.Error // what the attempts after it answered
	unsettled bool           // it may have acted, and must not go anywhere else
	end       fault.Kind     // the kind that ended the call, where it was not the last provider
	cause     error          // why a wait ended
	stayed    error          // why no backup was asked
}

type step uint8

const (
	answered step = iota
	again
	nextProvider
	stop
)

var errNoName = errors.New("the operation has no name")

func (g *Control) run(ctx context.Context, op Op, h *holding, hedge *hedging, try tryFunc) (path string, attempts int, err error) {
	if op.Name == "" {
		return "", 0, &fault.Error{Kind: fault.Invalid, Local: true, Err: errNoName}
	}
	if op.Safety > fault.Read { // there is no such one
		op.Safety = fault.Once
	}
	m, outer := marksOf(ctx)
	c := call{g: g, op: op, holding: h, hedging: hedge, watch: g.watch, marks: m, key: m.keyOr(), pin: m.pin, cost: max(m.cost, 1)}
	if m.pin != "" || m.cost != 0 { // they are not for what the provider calls
		c.marks = &marks{tenant: m.tenant, key: m.key}
	}
	c.callers, _ = ctx.Deadline()
	if in := g.around(outer); in != nil {
		c.inside(outer, in, m)
	}
	start := time.Now()
	policy := g.policy.Load()
	if policy.Total > 0 {
		c.total = earlier(c.total, start.Add(policy.Total))
	}
	c.deadline = earlier(c.callers, c.total)
	c.order = g.order(policy, c.key, op.Class, start)
	if c.watch.any() && !c.nested {
		err = c.observed(ctx, start, try)
	} else {
		err = c.walk(ctx, start, try)
	}
	if c.nested {
		outer.report(c.path, c.attempts, c.unsettled && err != nil)
	}
	return c.path, c.attempts, err
}

// inside takes over what a call inside another Group's attempt goes by.
func (c *call) inside(outer *attemptContext, in *nest, m *marks) {
	outer.mu.Lock()
	c.before = in.number - 1
	outer.mu.Unlock()
	c.nested, c.prefix, c.behind, c.total = true, in.prefix, in.left, in.total
	if bound := earlier(in.callers, in.total); bound.IsZero() && !c.callers.IsZero() || c.callers.Before(bound) {
		c.behind = 0 // a decorator has set a deadline of its own, which is for this call alone
	} else {
		c.callers = in.callers
	}
	if c.pin == "" {
		c.pin = in.pin
	}
	if m.cost == 0 {
		c.cost = in.cost
	}
	if !c.watch.any() {
		c.watch = in.watch
	}
}

// errPanicked is what observers see of a call in which a provider panicked.
var errPanicked = &fault.Error{Kind: fault.Unknown, Err: errors.New("the provider panicked, or ended its goroutine")}

// observed is walk with the call's beginning and end told.
func (c *call) observed(ctx context.Context, start time.Time, try tryFunc) (err error) {
	ctx = c.watch.start(ctx, Event{Type: CallStarted, Time: start, Op: c.op.Name, Class: c.op.Class})
	err = errPanicked
	defer func() {
		took := time.Since(start)
		c.emit(ctx, Event{Type: CallEnded, Time: start.Add(took), Provider: c.path, Attempt: c.attempts, Duration: took, Err: err})
	}()
	err = c.walk(ctx, start, try)
	return err
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
			c.emit(ctx, Event{Type: FailedOver, Time: now, Provider: c.prefix + given.name, Attempt: c.before + c.attempts, Err: c.last()})
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

// over reports whether the caller has gone or the deadline has passed.
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

func (c *call) pinned(m *member) bool {
	if c.pin == "" {
		return true
	}
	first, rest, _ := strings.Cut(c.pin, "/")
	return first == m.name && (rest == "" || m.inner.is())
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
			n += c.member(place).doorOf(c.key).ready(c.op.Class, now)
		}
	}
	return n
}

// ask asks one provider, and repeats as the table and the policy allow.
func (c *call) ask(ctx context.Context, place int, now time.Time, try tryFunc) step {
	a := attempt{place: place, index: c.order.at(place), door: c.member(place).doorOf(c.key)}
	var waits *backoff.ExponentialBackOff
	for retry := 0; ; retry++ {
		a.left = c.left(place, now)
		b := c.bid(a.door.member, a.left, now)
		if err := a.door.admit(ctx, &b, &a.permit); err != nil {
			return c.refused(ctx, &a, err)
		}
		if retry == 0 {
			a.door.budget().Deposit()
		}
		f := c.attempt(ctx, &a, try)
		if f == nil {
			return answered
		}
		c.note(f, a.verdict)
		now = time.Now()
		next := c.next(ctx, &a, f, retry, now)
		if next == again {
			if waits == nil {
				waits = a.door.member.policy().Backoff.start()
			}
			next = c.wait(ctx, &a, f, waits.NextBackOff(), &now)
		}
		if next != again {
			return next
		}
		a = attempt{place: a.place, index: a.index, door: a.door}
	}
}

// bid is what the call asks for at a member: only the last provider that can take
// it may be waited for.
func (c *call) bid(m *member, left int, now time.Time) bid {
	b := bid{op: c.op.Name, class: c.op.Class, now: now, cost: c.cost, pinned: c.pin != ""}
	if left > 0 {
		return b
	}
	b.wait = m.policy().MaxWait
	b.pause = b.wait + b.wait/10
	if !c.deadline.IsZero() {
		rest := max(c.deadline.Sub(now), 0) * 9 / 10 // the attempt needs some, too
		b.wait, b.pause = min(b.wait, rest), min(b.pause, rest)
	}
	return b
}

// next is what the table, the history and the policy say after a failed attempt.
func (c *call) next(ctx context.Context, a *attempt, f *fault.Error, retry int, now time.Time) step {
	v := a.verdict
	switch err := ctx.Err(); {
	case f.Kind == fault.Canceled || c.holding != nil && c.holding.final():
		c.end = f.Kind
		return stop
	case errors.Is(err, context.Canceled) && (v.Retry || v.Failover):
		c.end, c.cause = fault.Canceled, err
		return stop
	}
	elsewhere := v.Failover && !c.unsettled && a.left > 0
	if f.Kind == fault.RateLimited && elsewhere && !a.inner() {
		return nextProvider
	}
	here := v.Retry && (!a.timedOut || !elsewhere) && !a.inner()
	if here && retry < a.door.member.policy().Retries && !c.expired(now) {
		return again
	}
	return c.giveUp(a, f)
}

// giveUp goes on with the next provider, where that is allowed.
func (c *call) giveUp(a *attempt, f *fault.Error) step {
	if a.verdict.Failover && !c.unsettled {
		return nextProvider
	}
	if a.left > 0 {
		c.stay(f)
	}
	c.end = f.Kind
	return stop
}

var (
	errOnce      = errors.New("the operation is Once: no backup was asked after an attempt that may have acted")
	errForbidden = errors.New("the operation forbids to ask a backup after that")
)

// stay notes why a backup that is there isn't asked.
func (c *call) stay(f *fault.Error) {
	switch table := fault.Decide(f, c.op.Safety); {
	case c.nested:
	case table.Failover && !c.unsettled:
		c.stayed = errForbidden
	case c.op.Safety == fault.Once && fault.MayHaveActed(f):
		c.stayed = errOnce
	}
}

// wait sleeps before a retry. Where the retry isn't worth it or not paid for by
// the budget, the call goes on as if there were none left.
func (c *call) wait(ctx context.Context, a *attempt, f *fault.Error, backoff time.Duration, now *time.Time) step {
	delay, ok := c.delay(a, f, backoff, *now)
	if !ok {
		return c.giveUp(a, f)
	}
	c.emit(ctx, Event{Type: RetryScheduled, Time: *now, Provider: c.prefix + a.door.member.name, Attempt: a.number, Delay: delay, Err: f})
	if err := limit.Sleep(ctx, delay); err != nil {
		c.end, c.cause = fault.Canceled, err
		return stop
	}
	*now = time.Now()
	return again
}

// delay is the wait before a retry, and whether the retry is worth it at all.
func (c *call) delay(a *attempt, f *fault.Error, d time.Duration, now time.Time) (time.Duration, bool) {
	policy := a.door.member.policy()
	if limit := policy.Backoff.Max; limit > 0 {
		d = min(d, limit) // the jitter reaches beyond it
	}
	if f.RetryAfter > 0 {
		if f.RetryAfter > policy.MaxWait {
			return 0, false
		}
		d = max(d, f.RetryAfter+tenthMore(f.RetryAfter))
	}
	if cause, remaining := a.door.shut(c.op.Class, now); cause != nil && remaining > d {
		if cause != ErrPaused || asked(remaining) > policy.MaxWait {
			return 0, false
		}
		d = remaining + tenthMore(remaining)
	}
	if !c.deadline.IsZero() {
		share := c.deadline.Sub(now)
		if a.verdict.Failover && !c.unsettled { // the backups need their time
			share /= time.Duration(a.left + 1)
		}
		if d >= share {
			return 0, false
		}
	}
	return d, a.door.budget().Take()
}

// refused goes on with the next provider, but for a call that may have acted at
// this one.
func (c *call) refused(ctx context.Context, a *attempt, err error) step {
	f, ok := err.(*fault.Error) //nolint:errorlint // made by admit, never wrapped
	if !ok {
		c.end, c.cause = fault.Canceled, err
		return stop
	}
	c.add(f)
	if c.watch.any() {
		c.changes(ctx, a.door)
		c.emit(ctx, Event{Type: Refused, Time: time.Now(), Provider: c.prefix + a.door.member.name, Attempt: c.before + c.attempts, Delay: f.RetryAfter, Err: f})
	}
	if c.unsettled {
		return stop
	}
	return nextProvider
}

// note keeps the answer of an attempt, and what it says about an operation that
// must not act elsewhere: once an attempt may have acted after which it may not,
// it stays, until an answer of the same provider says what became of it.
func (c *call) note(f *fault.Error, v fault.Verdict) {
	switch {
	case fault.MayHaveActed(f) && !v.Failover && (f.Kind != fault.Canceled || c.op.Safety == fault.Once):
		c.unsettled = true
	case f.Settles():
		c.unsettled = false
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

// start makes the state of a backoff, which is for one call at one provider.
func (b Backoff) start() *backoff.ExponentialBackOff {
	e := backoff.NewExponentialBackOff(backoff.WithInitialInterval(b.Initial), backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(b.Jitter), backoff.WithMaxElapsedTime(0), backoff.WithMaxInterval(longest))
	if b.Max > 0 {
		e.MaxInterval = b.Max
	}
	return e
}

func (c *call) emit(ctx context.Context, e Event) {
	if !c.watch.any() {
		return
	}
	e.Op = c.op.Name
	if e.Type != StateChanged {
		e.Class = c.op.Class
	}
	c.watch.emit(ctx, e)
}

// changes tells the observers what the breakers did, after their locks are free.
func (c *call) changes(ctx context.Context, d door) {
	c.changesOf(ctx, d.member, "")
	if d.key != nil {
		c.changesOf(ctx, d.key, c.key)
	}
}

func (c *call) changesOf(ctx context.Context, m *member, key string) {
	for _, ch := range m.takeChanges() {
		c.emit(ctx, Event{
			Type: StateChanged, Time: ch.at, Class: ch.class, Provider: c.prefix + m.name, Key: key, From: ch.from, To: ch.to, Delay: ch.openFor,
		})
	}
}
