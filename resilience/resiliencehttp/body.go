package resiliencehttp

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// requestBody gives each attempt a body to send.
type requestBody interface {
	// next is the body of the next attempt, which the base transport closes.
	next() (io.ReadCloser, error)
	// spent reports whether there can't be another attempt.
	spent() bool
	// single reports whether it can be had only once.
	single() bool
	// finish closes what no attempt has closed or will close.
	finish()
}

// noBody is none, or [http.NoBody]: the request's own.
type noBody http.Request

func (b *noBody) next() (io.ReadCloser, error) { return b.Body, nil }
func (*noBody) spent() bool                    { return false }
func (*noBody) single() bool                   { return false }
func (*noBody) finish()                        {}

// copies is a body that can be had again, from [http.Request.GetBody].
type copies struct {
	first io.ReadCloser // nil once it was sent
	again func() (io.ReadCloser, error)
}

func (b *copies) next() (io.ReadCloser, error) {
	if rc := b.first; rc != nil {
		b.first = nil
		return rc, nil
	}
	return b.again()
}

func (*copies) spent() bool  { return false }
func (*copies) single() bool { return false }

func (b *copies) finish() {
	if b.first != nil {
		_ = b.first.Close()
	}
}

// single is a body that can be had once. While nobody has read from it, it can be
// sent by another attempt; until then its Close is put off.
type single struct {
	rc     io.ReadCloser
	failed func(error) // told when it is the caller's own body that fails

	mu     sync.Mutex
	read   bool
	final  bool   // there will be no other attempt
	lent   *lease // to the attempt that runs, or ran last
	closed sync.Once
}

func (b *single) next() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read {
		return nil, errors.New("the request's body has been read from and can't be had again")
	}
	b.lent = &lease{of: b}
	return b.lent, nil
}

// spent takes the body back from an attempt that has not read from it: base
// transports may hold on to a body for a while.
func (b *single) spent() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.read && b.lent != nil {
		b.lent.over = true
	}
	return b.read
}

func (*single) single() bool { return true }

func (b *single) finish() {
	b.mu.Lock()
	b.final = true
	unused := !b.read && (b.lent == nil || b.lent.over)
	b.mu.Unlock()
	if unused {
		_ = b.close()
	}
}

func (b *single) close() (err error) {
	b.closed.Do(func() { err = b.rc.Close() })
	return err
}

// lease is a single body in the hands of one attempt.
type lease struct {
	of   *single
	over bool // guarded by of.mu
}

// Read may block, so it holds no lock.
func (l *lease) Read(p []byte) (int, error) {
	l.of.mu.Lock()
	over := l.over
	l.of.read = l.of.read || !over
	l.of.mu.Unlock()
	if over {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := l.of.rc.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && l.wanted() {
		l.of.failed(err)
	}
	return n, err
}

// wanted reports whether the response depends on the body still. A base that has
// its response may close the body in the midst of a Read, which then fails.
func (l *lease) wanted() bool {
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	return !l.over && !l.of.final
}

func (l *lease) Close() error {
	l.of.mu.Lock()
	l.over = true
	now := l.of.read || l.of.final
	l.of.mu.Unlock()
	if !now {
		return nil
	}
	return l.of.close()
}

// responseBody ends the attempt as soon as there is no more to read, since many
// read to the end and never close.
type responseBody struct {
	rc  io.ReadCloser
	of  *exchange
	err error // the last Read's; Reads don't overlap
}

func (b *responseBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.rc.Read(p)
	if err != nil {
		b.err = err
		_ = b.Close()
	}
	return n, err
}

func (b *responseBody) Close() error {
	err := b.rc.Close()
	b.of.release()
	return err
}
