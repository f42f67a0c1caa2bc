package resilience

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience/internal/watchdog"
)

// Upload is [Do] for a call that sends a body of any length. Until the provider
// begins to read, and after it has read all, the attempt has its time limit; in
// between [Policy.Silence] limits the time between two of its reads, and nothing
// the total. It doesn't run while the body's own Read does.
//
// A body that is an [io.Seeker] begins anew, from where it stands now, for each
// attempt, and what fn gets is one too. Any other is not sent again once a byte
// of it was read: what the provider said then is the call's error. Where the body
// fails, the call ends with fault.Invalid. The body is never closed.
func Upload[P, R any](ctx context.Context, g *Group[P], op Op, body io.Reader, fn func(context.Context, P, io.Reader) (R, error)) (R, error) {
	var result R
	src := &source{body: body}
	if seeker, ok := body.(io.Seeker); ok {
		at, err := seeker.Seek(0, io.SeekCurrent)
		if err == nil { // else it can't, as a pipe that is an *os.File
			src.seeker, src.from = seeker, at
		}
	}
	h := &holding{upload: true, single: src.seeker == nil}
	path, attempts, err := g.run(ctx, op, h, nil, func(ctx context.Context, i int) error {
		l, err := src.lend(h.hold)
		if err != nil {
			return err
		}
		defer func() { h.sent = src.takeBack(l) }()
		r, err := fn(ctx, g.providers[i], l.reader())
		if failed := src.failure(); failed != nil {
			if gone := h.hold.caller.Err(); gone != nil { // which has ended the body too
				return gone
			}
			return failed.as(err)
		}
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

// source is the caller's body, lent to one attempt at a time.
type source struct {
	body   io.Reader
	seeker io.Seeker // nil where the body can be had once
	from   int64

	mu      sync.Mutex
	read    bool // a byte of it
	reading bool // a Read is under way
	lost    bool // a Read of an attempt that is over is: nobody knows where it stands
	failed  error
}

// bodyError is what the caller's own body answered.
type bodyError struct{ cause error }

func (e *bodyError) Error() string { return "reading the body: " + e.cause.Error() }
func (e *bodyError) Unwrap() error { return e.cause }

// as is the fault of an attempt whose body failed. A provider that has taken half
// a body for a whole one has acted.
func (e *bodyError) as(answer error) error {
	if answer == nil {
		return fault.New(fault.Uncertain, e)
	}
	return fault.New(fault.Invalid, e)
}

func (s *source) failure() *bodyError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		return nil
	}
	return &bodyError{s.failed}
}

func (s *source) lend(o *hold) (*lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seeker != nil {
		if _, err := s.seeker.Seek(s.from, io.SeekStart); err != nil {
			return nil, fault.New(fault.Invalid, fmt.Errorf("rewinding the body: %w", err))
		}
	}
	s.failed = nil
	return &lease{of: s, hold: o}, nil
}

// takeBack ends a lease, and reports whether the body can't be sent again.
func (s *source) takeBack(l *lease) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.over = true
	s.lost = s.lost || s.reading
	return s.lost || s.read && s.seeker == nil
}

// lease is the body in the hands of one attempt.
type lease struct {
	of   *source
	hold *hold
	over bool // guarded by of.mu
}

var errOver = errors.New("the attempt that this body was for is over")

func (l *lease) reader() io.Reader {
	if l.of.seeker == nil {
		return l
	}
	return seekable{l}
}

// use runs f, which may block, while the attempt's limits rest, and begins them
// anew: that on silence, or where the body has come to its end that of an attempt.
func (l *lease) use(reads bool, f func() (int64, error)) (int64, error) {
	s := l.of
	s.mu.Lock()
	if l.over || s.reading {
		s.mu.Unlock()
		return 0, errOver
	}
	s.reading = true
	l.hold.Rest()
	s.mu.Unlock()
	n, err := f()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading, s.read = false, s.read || n > 0
	if err != nil && !errors.Is(err, io.EOF) {
		s.failed = err
	}
	if !l.over {
		switch {
		case !reads:
			l.hold.Watch(nil)
		case err != nil:
			l.hold.Watch(l.hold.awaitAnswer)
		default:
			l.hold.Watch(l.hold.silence)
		}
	}
	return n, err
}

func (l *lease) Read(p []byte) (int, error) {
	n, err := l.use(true, func() (int64, error) { n, err := l.of.body.Read(p); return int64(n), err })
	return int(n), err
}

// seekable is a lease of a body that can rewind, for SDKs that read it twice.
// Positions are the body's own.
type seekable struct{ *lease }

func (s seekable) Seek(offset int64, whence int) (int64, error) {
	return s.use(false, func() (int64, error) { return s.of.seeker.Seek(offset, whence) })
}

// awaitAnswer gives the provider an attempt's time limit from now on.
func (o *hold) awaitAnswer(l *watchdog.Limits) {
	*l = watchdog.Limits{}
	if o.limit > 0 && o.attempt.nest == nil {
		l.By = time.Now().Add(o.limit)
	}
}
