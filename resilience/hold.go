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
)

// holding is what Stream, Keep and Upload share with the call over all its
// attempts.
type holding struct {
	hold     *hold // of the attempt that runs, or ran last
	stream   bool  // silence counts from the attempt's start
	body     bool  // it lasts until the body's Close
	begun    bool  // the caller has seen something: nobody else may be asked
	consumer bool  // the consumer's code is running
	single   bool  // what is sent can be had once
	sent     bool  // and has been
	ended    func(failed error, canceled bool)
}

// final reports whether no other attempt can be made.
func (h *holding) final() bool { return h.begun || h.sent }

// hold is the context of an attempt that outlives the answer's beginning. Its
// time limits are a timer that can be stopped, since a deadline that was handed
// out can't be lifted.
type hold struct {
	attempt *attemptContext
	caller  context.Context //nolint:containedctx // of one call, to tell who ended it
	cancel  context.CancelCauseFunc
	path    string
	number  int
	limit   time.Duration // of an attempt
	start   time.Time
	began   time.Duration // until the first item
	permit  permit        // the attempt's, until it ends or is kept
	life    atomic.Int64  // the last sign of life, in nanoseconds since start

	mu      sync.Mutex
	timer   *time.Timer
	by      time.Time     // when the answer must have begun; zero where it has
	silence time.Duration // between two signs of life; zero for no limit
	stall   time.Duration // between two items, once the answer has begun
	item    time.Time     // the last one
	resting bool
	expired bool
}

// start gives the attempt a context that only the timer, the caller and end
// cancel.
func (h *holding) start(ctx context.Context, c *call, a *attempt) {
	held, cancel := context.WithCancelCause(ctx)
	o := &hold{
		attempt: a.ctx, caller: ctx, cancel: cancel, permit: a.permit, start: a.permit.start, by: a.ours,
		path: c.prefix + a.door.member.name, number: a.number, limit: c.full(a.door.member),
	}
	a.ctx.Context, a.ctx.hold = held, o
	if h.hold = o; h.stream && !a.inner() {
		o.silence, o.stall = a.door.member.policy().Silence, a.door.member.policy().Stall
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.timer = time.AfterFunc(o.due(now), o.fire)
}

// due is how long the timer may sleep.
func (o *hold) due(now time.Time) time.Duration {
	d := longest
	if !o.by.IsZero() {
		d = o.by.Sub(now)
	} else if o.stall > 0 {
		d = min(d, o.item.Add(o.stall).Sub(now))
	}
	if o.silence > 0 {
		d = min(d, o.start.Add(time.Duration(o.life.Load())+o.silence).Sub(now))
	}
	return d
}

// fire ends the attempt, unless there was a sign of life since the timer was set.
func (o *hold) fire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.resting {
		return
	}
	if d := o.due(time.Now()); d > 0 {
		o.timer.Reset(d)
		return
	}
	o.expired = true
	o.cancel(ErrTimeout)
}

func (o *hold) alive() { o.life.Store(int64(time.Since(o.start))) }

// watch begins the limits anew, from now; change sets others first. Rest stops
// them while the caller works, and reports whether it was in time.
func (o *hold) watch(change func(*hold)) {
	o.alive()
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.item, o.resting = now, o.expired
	if change != nil {
		change(o)
	}
	if !o.expired {
		o.timer.Reset(o.due(now))
	}
}

func (o *hold) rest() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.resting = true
	o.timer.Stop()
	return !o.expired
}

// silent is the limit on silence, which is the inner Client's where there is one.
func (o *hold) limitSilence(silence time.Duration) func(*hold) {
	if o.attempt.nest != nil {
		silence = 0
	}
	return func(o *hold) { o.by, o.silence = time.Time{}, silence }
}

// end releases the context.
func (o *hold) end() {
	o.rest()
	o.cancel(context.Canceled)
	o.attempt.end()
}

// end ends an attempt that keeps nothing, and dates its time limit to when the
// timer fired.
func (h *holding) end(a *attempt, now time.Time) {
	timely := h.hold.rest()
	h.hold.end()
	a.permit = h.hold.permit
	if a.ours = (time.Time{}); !timely {
		a.ours = now
	}
}

// keep leaves the attempt to whoever has the body.
func (h *holding) keep(c *call, a *attempt) {
	after := &call{g: c.g, op: c.op, watch: c.watch, key: c.key, prefix: c.prefix}
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
				o.rest()
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
				o.watch(func(o *hold) { o.by = time.Time{} })
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
	if !o.rest() {
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
	o := h.hold
	b.silence = o.limitSilence(o.permit.rules.policy.Silence)
	b.ended, b.op, b.path = h.ended, op.Name, path
	stamp(result, path, attempts)
	return result, b, nil
}

// body is what Keep hands out. Read and Close may run at the same time, as with
// the body of an HTTP response.
type body struct {
	rc       io.ReadCloser
	hold     *hold
	silence  func(*hold)
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
	b.hold.watch(b.silence)
	n, err := b.rc.Read(p)
	timely := b.hold.rest()
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
