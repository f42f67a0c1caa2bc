package resilience

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// holding is what Stream and Keep share with the call over all its attempts.
type holding struct {
	hold     *hold // of the attempt that runs, or ran last
	body     bool  // it lasts until the body's Close
	begun    bool  // the caller has seen something: nobody else may be asked
	consumer bool  // the consumer's code is running
	ended    func(failed error, canceled bool)
}

// hold is the context of an attempt that outlives the answer's beginning. Its
// time limit is a timer that can be stopped, since a deadline that was handed
// out can't be lifted.
type hold struct {
	attempt *attemptContext
	caller  context.Context //nolint:containedctx // of one call, to tell who ended it
	cancel  context.CancelCauseFunc
	timer   *time.Timer
	expired atomic.Bool
	silence time.Duration
	permit  permit // the attempt's, until it ends or is kept
}

// start gives the attempt a context that only the timer, the caller and end
// cancel.
func (h *holding) start(ctx context.Context, a *attempt) {
	held, cancel := context.WithCancelCause(ctx)
	a.ctx.Context = held
	o := &hold{attempt: a.ctx, caller: ctx, cancel: cancel, permit: a.permit}
	if a.m.inner == nil {
		o.silence = a.m.policy().Silence
	}
	limit := time.Duration(1<<63 - 1)
	if !a.ours.IsZero() {
		limit = a.ours.Sub(a.permit.start)
	}
	o.timer = time.AfterFunc(limit, func() {
		o.expired.Store(true)
		cancel(ErrTimeout)
	})
	h.hold = o
}

// end ends an attempt that keeps nothing, and dates its time limit to when the
// timer fired.
func (h *holding) end(a *attempt, now time.Time) {
	h.hold.end()
	a.inside = a.ctx.inside()
	a.permit = h.hold.permit
	if a.ours = (time.Time{}); h.hold.expired.Load() {
		a.ours = now
	}
}

// keep leaves the attempt to whoever has the body.
func (h *holding) keep(ctx context.Context, c *call, a *attempt) {
	after := &call{g: c.g, op: c.op, key: c.key, prefix: c.prefix, attempts: c.attempts}
	o := h.hold
	o.permit.early()
	a.permit = o.permit
	kept := *a
	h.ended = func(failed error, canceled bool) {
		f, outcome, now := (*fault.Error)(nil), error(nil), time.Now()
		switch {
		case canceled:
			outcome = errExcluded
		case failed != nil:
			f, outcome = after.stamp(&kept, failed), errFailure
		}
		o.end()
		kept.permit.end(outcome, now)
		if len(after.g.observers) > 0 {
			after.ended(ctx, &kept, now, f)
		}
	}
}

// wait starts the limit on silence, which is the inner one's where there is a
// Group inside; rest stops it while the consumer works, and reports whether it
// was in time.
func (o *hold) wait() {
	if o.silence > 0 && o.attempt.inside() == nil {
		o.timer.Reset(o.silence)
	}
}

func (o *hold) rest() bool {
	o.timer.Stop()
	return !o.expired.Load()
}

// end releases the context.
func (o *hold) end() {
	o.timer.Stop()
	o.cancel(context.Canceled)
	o.attempt.end()
}

// Stream is [Call] for a method that yields. Another provider is asked only
// before the first item has reached the consumer; an error after it ends the
// stream. The attempt's time limit is that to the first item, then
// [Policy.Silence] rules, which doesn't run while the consumer holds an item.
// Ranging twice calls twice. An error is the last that is yielded. An item that
// has a method Answered(provider string, attempts int) is told who sent it.
func Stream[P, A, T any](ctx context.Context, g *Group[P], op Op, method func(P, context.Context, A) iter.Seq2[T, error], arg A) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		h, stopped := &holding{}, false
		_, _, err := g.run(ctx, op, h, nil, func(ctx context.Context, i int) error {
			o := h.hold
			for v, err := range method(g.providers[i], ctx, arg) {
				o.rest()
				if err != nil {
					return err
				}
				if o.attempt.inside() == nil { // else the inner one has said so
					stamp(v, strings.TrimSuffix(o.attempt.prefix, "/"), o.attempt.number)
				}
				o.permit.early()
				h.begun, h.consumer = true, true
				more := yield(v, nil)
				h.consumer = false
				if !more {
					stopped = true
					return nil
				}
				o.wait()
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
		b.discard()
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
	b.hold.wait()
	n, err := b.rc.Read(p)
	b.hold.rest()
	if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return n, err
	}
	f := &fault.Error{Kind: fault.Uncertain, Provider: b.path, Op: b.op, Err: err}
	switch {
	case b.hold.expired.Load():
		f.Err = timeoutError{err}
	case b.hold.caller.Err() != nil:
		f.Kind = fault.Canceled
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
