package resiliencehttp

import (
	"context"
	"io"
	"net/http"
	"time"
)

// wire is a request on its way, with its response. It is the context of both,
// and ends with its attempt until it is cut: the response of an attempt that
// failed may be what the caller gets in the end.
type wire struct {
	context.Context                 //nolint:containedctx // it is one
	attempt         context.Context //nolint:containedctx // whose values and deadline it has
	cancel          context.CancelCauseFunc
	stop            func() bool // following

	host   *host
	resp   *http.Response
	body   io.ReadCloser // resp's as it came
	kept   bool          // somebody will close it
	handed bool          // the body is a connection, and the caller has it
	err    error         // of a failing response, by which its fault is known
}

func newWire(attempt context.Context, to *host) *wire {
	w := &wire{attempt: attempt, host: to}
	w.Context, w.cancel = context.WithCancelCause(context.WithoutCancel(attempt))
	w.follow(attempt)
	return w
}

// follow makes it end with ctx.
func (w *wire) follow(ctx context.Context) {
	w.stop = context.AfterFunc(ctx, func() { w.cancel(context.Cause(ctx)) })
}

// cut stops following, and reports whether it was in time.
func (w *wire) cut() bool { return w.stop() }

// Deadline is the attempt's.
func (w *wire) Deadline() (time.Time, bool) { return w.attempt.Deadline() }

// drop gives it up, unless it is kept.
func (w *wire) drop() {
	if w.kept {
		return
	}
	w.stop()
	w.cancel(context.Canceled)
	if w.body != nil {
		_ = w.body.Close()
	}
}

// received takes the response, whose Body the caller will find wrapped.
func (w *wire) received(resp *http.Response) { w.resp, w.body = resp, resp.Body }

// Read is that of the response's body.
func (w *wire) Read(p []byte) (int, error) { return w.body.Read(p) }

// Close closes the response's body, and stops following first, or the end of the
// attempt would cost a goroutine.
func (w *wire) Close() error {
	w.stop()
	if w.handed {
		return nil
	}
	err := w.body.Close()
	w.cancel(context.Canceled)
	return err
}
