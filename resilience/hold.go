package resilience

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience/internal/watchdog"
)

// holding is what Stream, Keep and Upload share with the call over all its
// attempts.
type holding struct {
	hold     *hold // of the attempt that runs, or ran last
	stream   bool  // silence counts from the attempt's start
	body     bool  // it lasts until the body's Close
	begun    bool  // the caller has seen something: nobody else may be asked
	consumer bool  // the consumer's code is running
	upload   bool  // it sends a body
	single   bool  // what is sent can be had once
	sent     bool  // and has been
	ended    func(failed error, canceled bool)
}

// final reports whether no other attempt can be made.
func (h *holding) final() bool { return h.begun || h.sent }

// hold is the context of an attempt that outlives the answer's beginning, with its
// time limits.
type hold struct {
	*watchdog.Dog
	attempt *attemptContext
	caller  context.Context //nolint:containedctx // of one call, to tell who ended it
	cancel  context.CancelCauseFunc
	path    string
	number  int
	limit   time.Duration // of an attempt
	start   time.Time
	began   time.Duration // until the first item
	permit  permit        // the attempt's, until it ends or is kept
}

// start gives the attempt a context that only the watchdog, the caller and end
// cancel.
func (h *holding) start(ctx context.Context, c *call, a *attempt) {
	held, cancel := context.WithCancelCause(ctx)
	o := &hold{
		attempt: a.ctx, caller: ctx, cancel: cancel, permit: a.permit, start: a.permit.start,
		path: c.prefix + a.door.member.name, number: a.number, limit: c.full(a.door.member),
	}
	a.ctx.Context, a.ctx.hold = held, o
	h.hold = o
	limits := watchdog.Limits{By: a.ours}
	if h.stream && !a.inner() {
		limits.Silence, limits.Stall = a.door.member.policy().Silence, a.door.member.policy().Stall
	}
	o.Dog = watchdog.New(o.start, limits, func() { cancel(ErrTimeout) })
}

// silence limits the time between two signs of life alone, from now on. Where
// there is a Client inside, that limit is its own.
func (o *hold) silence(l *watchdog.Limits) {
	*l = watchdog.Limits{Silence: o.permit.rules.policy.Silence}
	if o.attempt.nest != nil {
		l.Silence = 0
	}
}

// end releases the context.
func (o *hold) end() {
	o.Rest()
	o.cancel(context.Canceled)
	o.attempt.end()
}

// end ends an attempt that keeps nothing, and dates its time limit to when the
// timer fired.
func (h *holding) end(a *attempt, now time.Time) {
	timely := h.hold.Rest()
	h.hold.end()
	a.permit = h.hold.permit
	if a.ours = (time.Time{}); !timely {
		a.ours = now
	}
}

// keep leaves the attempt to whoever has the body.
func (h *holding) keep(c *call, a *attempt) {
	after := &call{op: c.op, watch: c.watch, key: c.key, prefix: c.prefix}
	o := h.hold
	o.permit.early()
	a.permit = o.permit
	kept := *a
	h.ended = func(failed error, canceled bool) {
		f, say, now := (*fault.Error)(nil), good, time.Now()
		switch {
		case canceled:
			say = silent
		case failed != nil:
			f, say = after.stamp(&kept, failed), bad
		}
		o.end()
		kept.permit.end(say, now)
		if after.watch.any() {
			after.tell(&kept, now, f)
		}
	}
}

// Stream is [Call] for a method that yields. Another provider is asked only
// before the first item has reached the consumer; an error after it ends the
// stream. The attempt's time limit is that to the first item; [Policy.Silence]
// limits the time between two signs of life from the start on, [Policy.Stall] that
// between two items. None runs while the consumer holds an item.
// Ranging twice calls twice. An error is the last that is yielded. An item that
// has a method Answered(provider string, attempts int) is told who sent it.
func Stream[P, A, T any](ctx context.Context, g *Group[P], op Op, method func(P, context.Context, A) iter.Seq2[T, error], arg A) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		h, stopped := &holding{stream: true}, false
		_, _, err := g.run(ctx, op, h, nil, func(ctx context.Context, i int) error {
			o := h.hold
			for v, err := range method(g.providers[i], ctx, arg) {
				o.Rest()
				if err != nil {
					return err
				}
				if o.attempt.nest == nil { // else the inner one has said so
					stamp(v, o.path, o.number)
				}
				if !h.begun {
					o.began = time.Since(o.start)
					o.permit.early()
				}
				h.begun, h.consumer = true, true
				more := yield(v, nil)
				h.consumer = false
				if !more {
					stopped = true
					return nil
				}
				o.Watch(func(l *watchdog.Limits) { l.By = time.Time{} })
			}
			return o.cutOff()
		})
		if err != nil && !stopped {
			var none T
			yield(none, err)
		}
	}
}

// cutOff is why a provider whose stream just ended can't have come to its end.
func (o *hold) cutOff() error {
	if !o.Rest() {
		return ErrTimeout
	}
	return o.caller.Err()
}

// Keep is [Do] for an answer with a body. The attempt, with its slot and its
// say to the breaker, lasts until the body is closed, which the caller must do;
// Close is idempotent. A Read that waits longer than [Policy.Silence] fails
// with [ErrTimeout]. Another provider is asked only before fn has answered.
func Keep[P, R any](ctx context.Context, g *Group[P], op Op, fn func(context.Context, P) (R, io.ReadCloser, error)) (R, io.ReadCloser, error) {
	var result R
	b := &body{}
	h := &holding{body: true}
	defer func() {
		if b.ended != nil {
			return
		}
		b.discard()
		if h.ended != nil { // an observer has panicked, and nobody gets it
			h.ended(nil, true)
		}
	}()
	path, attempts, err := g.run(ctx, op, h, nil, func(ctx context.Context, i int) error {
		b.discard()
		r, rc, err := fn(ctx, g.providers[i])
		switch {
		case err != nil:
			return err
		case rc == nil:
			return errors.New("resilience: the provider answered without a body")
		}
		if err := h.hold.cutOff(); err != nil { // the body can't be read any more
			_ = rc.Close()
			return err
		}
		result, b.rc, b.hold = r, rc, h.hold
		return nil
	})
	if err != nil {
		var none R
		return none, nil, err
	}
	b.ended, b.op, b.path = h.ended, op.Name, path
	stamp(result, path, attempts)
	return result, b, nil
}

// body is what Keep hands out. Read and Close may run at the same time, as with
// the body of an HTTP response.
type body struct {
	rc       io.ReadCloser
	hold     *hold
	op, path string
	ended    func(failed error, canceled bool)
	failed   atomic.Pointer[fault.Error] // the first that went wrong
	once     sync.Once
	err      error
}

// discard closes the body of an attempt that an [Injector] let fail all the same.
func (b *body) discard() {
	if b.rc != nil {
		_ = b.rc.Close()
		b.rc = nil
	}
}

// Read gives a fault that names the provider where the body breaks off.
func (b *body) Read(p []byte) (int, error) {
	b.hold.Watch(b.hold.silence)
	n, err := b.rc.Read(p)
	timely := b.hold.Rest()
	if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return n, err
	}
	f := &fault.Error{Kind: fault.Uncertain, Provider: b.path, Op: b.op, Err: err}
	switch {
	case !timely:
		f.Err = endedBy(ErrTimeout, err)
	case b.hold.caller.Err() != nil:
		f.Kind, f.Err = fault.Canceled, endedBy(b.hold.caller.Err(), err)
	}
	b.failed.CompareAndSwap(nil, f)
	return n, f
}

func (b *body) Close() error {
	b.once.Do(func() {
		b.err = b.rc.Close()
		b.ended(asError(b.failed.Load()), b.hold.caller.Err() != nil)
	})
	return b.err
}
