package resilience

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

// hold is an attempt that outlives the answer's beginning: a body or a stream.
// Its time limit is a timer that can be stopped, since a deadline that was
// handed out can't be lifted.
type hold struct {
	attempt  *attemptContext
	permit   permit
	caller   context.Context //nolint:containedctx // of one call, to tell who ended it
	cancel   context.CancelCauseFunc
	timer    *time.Timer
	expired  atomic.Bool
	silence  time.Duration
	body     bool // it lasts until the body's Close
	begun    bool // the caller has seen something: nobody else may be asked
	consumer bool // the consumer's code is running
}

// start gives the attempt a context that only the timer, the caller and end
// cancel.
func (h *hold) start(ctx context.Context, a *attemptContext, deadline time.Time, silence time.Duration) {
	held, cancel := context.WithCancelCause(ctx)
	a.Context, a.deadline = held, time.Time{}
	h.attempt, h.caller, h.cancel, h.silence = a, ctx, cancel, silence
	limit := time.Duration(1<<63 - 1)
	if !deadline.IsZero() {
		limit = time.Until(deadline)
	}
	h.timer = time.AfterFunc(limit, func() {
		h.expired.Store(true)
		cancel(ErrTimeout)
	})
}

// wait starts the limit on silence; rest stops it while the consumer works.
func (h *hold) wait() {
	if h.silence > 0 {
		h.timer.Reset(h.silence)
	}
}

func (h *hold) rest() { h.timer.Stop() }

// end releases the context.
func (h *hold) end() {
	h.timer.Stop()
	h.cancel(context.Canceled)
	h.attempt.end()
}

// Stream is [Call] for a method that yields. Another provider is asked only
// before the first item has reached the consumer; an error after it ends the
// stream. The attempt's time limit is that to the first item, then
// [Policy.Silence] rules, which doesn't run while the consumer holds an item.
// Ranging twice calls twice. An error is the last that is yielded.
func Stream[P, A, T any](ctx context.Context, g *Group[P], op Op, method func(P, context.Context, A) iter.Seq2[T, error], arg A) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		h, stopped := &hold{}, false
		_, _, err := g.run(ctx, op, h, func(ctx context.Context, i int) error {
			for v, err := range method(g.providers[i], ctx, arg) {
				h.rest()
				if err != nil {
					return err
				}
				h.begun, h.consumer = true, true
				more := yield(v, nil)
				h.consumer = false
				if !more {
					stopped = true
					return nil
				}
				h.wait()
			}
			if h.expired.Load() { // a provider that ends in silence has not ended
				return ErrTimeout
			}
			return nil
		})
		if err != nil && !stopped {
			var none T
			yield(none, err)
		}
	}
}

// Keep is [Do] for an answer with a body. The attempt, with its slot and its
// say to the breaker, lasts until the body is closed, which the caller must do;
// Close is idempotent. A Read that waits longer than [Policy.Silence] fails
// with [ErrTimeout]. Another provider is asked only before fn has answered.
func Keep[P, R any](ctx context.Context, g *Group[P], op Op, fn func(context.Context, P) (R, io.ReadCloser, error)) (R, io.ReadCloser, error) {
	var result R
	b := &body{h: &hold{body: true}}
	path, attempts, err := g.run(ctx, op, b.h, func(ctx context.Context, i int) error {
		r, rc, err := fn(ctx, g.providers[i])
		switch {
		case err != nil:
			return err
		case rc == nil:
			return errors.New("resilience: the provider answered without a body")
		}
		result, b.rc = r, rc
		return nil
	})
	if err != nil {
		var none R
		return none, nil, err
	}
	stamp(result, path, attempts)
	return result, b, nil
}

// body is what Keep hands out.
type body struct {
	h      *hold
	rc     io.ReadCloser
	failed atomic.Bool
	once   sync.Once
	err    error
}

func (b *body) Read(p []byte) (int, error) {
	b.h.wait()
	n, err := b.rc.Read(p)
	b.h.rest()
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if b.h.expired.Load() {
		err = timeoutError{err}
	}
	if b.h.caller.Err() == nil {
		b.failed.Store(true)
	}
	return n, err
}

func (b *body) Close() error {
	b.once.Do(func() {
		b.err = b.rc.Close()
		outcome := error(nil)
		switch {
		case b.failed.Load():
			outcome = errFailure
		case b.h.caller.Err() != nil:
			outcome = errExcluded
		}
		b.h.end()
		b.h.permit.renew()
		b.h.permit.end(outcome)
	})
	return b.err
}
