package resiliencehttp

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/smilefactory/integrations/fault"
)

// wire is a request on its way, with its response. Its context is that of both,
// and ends with its attempt until it is cut: the response of an attempt that
// failed may be what the caller gets in the end.
type wire struct {
	ctx     context.Context //nolint:containedctx // the request's
	attempt detached
	latch   fault.Latch
	cancel  context.CancelCauseFunc
	stop    func() bool // following

	host   *host
	req    http.Request // as it is sent
	url    url.URL      // req's
	resp   *http.Response
	body   io.ReadCloser // resp's as it came
	kept   bool          // somebody will close it
	handed bool          // the body is a connection, and the caller has it
	err    error         // of a failing response, by which its fault is known
	answer answer
}

// detached has the values and the deadline of an attempt, and doesn't end with it.
type detached struct {
	context.Context //nolint:containedctx // it is one
}

func (*detached) Done() <-chan struct{} { return nil }
func (*detached) Err() error            { return nil }

// start makes it end with the attempt.
func (w *wire) start(attempt context.Context, to *host) {
	w.attempt, w.host = detached{attempt}, to
	w.ctx, w.cancel = context.WithCancelCause(&w.attempt)
	w.follow(attempt)
}

// follow makes it end with ctx.
func (w *wire) follow(ctx context.Context) {
	w.stop = context.AfterFunc(ctx, func() { w.cancel(context.Cause(ctx)) })
}

// cut stops following, and reports whether it was in time.
func (w *wire) cut() bool { return w.stop() }

// copy is the request for one attempt under ctx. A base transport may write to its
// header and URL, and may read them when the caller has got an answer already.
func (w *wire) copy(ctx context.Context, req *http.Request, body io.ReadCloser) *http.Request {
	w.req, w.url = *req.WithContext(ctx), *req.URL
	w.req.URL, w.req.Header, w.req.Body = &w.url, req.Header.Clone(), body
	w.host.rewrite(&w.req)
	return &w.req
}

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

// Answered is told by resilience.Keep.
func (w *wire) Answered(provider string, attempts int) {
	w.answer.provider, w.answer.attempts = provider, attempts
}

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
