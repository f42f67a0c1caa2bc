package resiliencehttp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// exchange is one call: a request and what its attempts answer.
type exchange struct {
	t       *Transport
	req     *http.Request
	op      resilience.Op
	deduped bool // a repetition at the same host is safe, by its key
	body    requestBody
	ctx     context.Context //nolint:containedctx // the call's: the caller's, which abort can end
	abort   context.CancelCauseFunc
	last    *wire // with the failing response of the attempt before, if it had one

	// What a call that goes well needs is in one piece, for speed.
	first  wire // of the first attempt
	seen   http.Request
	output responseBody
}

func newExchange(t *Transport, req *http.Request) *exchange {
	key, _ := idempotencyKey(req.Header)
	e := &exchange{
		t: t, req: req, ctx: req.Context(), deduped: key != "",
		op: resilience.Op{Name: opName(req.Method), Safety: t.safetyOf(req)},
	}
	switch {
	case req.Body == nil || req.Body == http.NoBody:
		e.body = (*noBody)(req)
	case req.GetBody != nil:
		e.body = &copies{first: req.Body, again: req.GetBody}
	default:
		e.body = &single{rc: req.Body, failed: func(err error) { e.abort(err) }}
		e.op.Safety, e.deduped = fault.Once, false // once sent, it can't be repeated
	}
	if e.body.single() || req.Cancel != nil { //nolint:staticcheck // deprecated, and set by http.Client where it has a Timeout
		e.ctx, e.abort = context.WithCancelCause(e.ctx)
	}
	return e
}

func (e *exchange) call() (*http.Response, error) {
	group, err := e.t.hosts.group(e.req.URL)
	if err != nil {
		e.drop()
		return nil, err
	}
	w, body, err := resilience.Keep(e.ctx, group, e.op, e.attempt)
	if err != nil {
		return e.failed(err)
	}
	return e.answered(w, body), nil
}

// release lets go of the call's own context, if it has one; no body can be read
// after that.
func (e *exchange) release() {
	if e.abort != nil {
		e.abort(context.Canceled)
	}
}

// drop gives everything up that the caller won't get.
func (e *exchange) drop() {
	if e.last != nil {
		e.last.kept = false
		e.last.drop()
	}
	e.release()
}

// attempt sends the request once. A failing status is an error, and its response
// is kept.
func (e *exchange) attempt(ctx context.Context, to *host) (*wire, io.ReadCloser, error) {
	if ctx.Err() != nil { // an observer has taken its time
		return nil, nil, &fault.Error{Kind: fault.Unavailable, Err: context.Cause(ctx)}
	}
	body, err := e.body.next()
	if err != nil {
		return nil, nil, &fault.Error{Kind: fault.Invalid, Err: transportError{err}}
	}
	e.discard(ctx)
	w := &e.first
	if w.ctx != nil {
		w = &wire{}
	}
	w.start(ctx, to)
	defer w.drop()                                // but where it is kept; also after a panic
	if kind, err := e.send(w, body); err != nil { //nolint:contextcheck // w has the context
		return nil, nil, e.broken(ctx, kind, err)
	}
	if kind, failed := e.classify(w); failed {
		return nil, nil, e.failing(ctx, w, kind)
	}
	w.kept = true
	return w, w, nil
}

// send makes the one request. Where it fails, the kind says whether anything can
// have been sent.
func (e *exchange) send(w *wire, body io.ReadCloser) (fault.Kind, error) {
	ctx := w.latch.Trace(w.ctx)
	resp, err := e.t.base.RoundTrip(w.copy(ctx, e.req, body))
	switch {
	case err != nil:
		if _, std := e.t.base.(*http.Transport); std && w.latch.Untouched() && ctx.Err() == nil {
			return fault.Invalid, err // it has refused the request by itself
		}
		return w.latch.Kind(), err
	case resp == nil:
		return fault.Unknown, errors.New("the base transport gave neither a response nor an error")
	case resp.Body == nil: // as fakes do
		resp.Body = http.NoBody
	}
	w.received(resp)
	if e.watched() {
		fault.Note(ctx, func(x *fault.Exchange) { x.Status, x.Sent = resp.StatusCode, max(e.req.ContentLength, 0) })
	}
	return fault.Unknown, nil
}

// watched reports whether somebody may be told what an attempt notes: observers of
// this Transport, or of a Client in whose attempt the call is made.
func (e *exchange) watched() bool {
	return len(e.t.observers) > 0 || e.ctx.Value(fault.AttemptKey{}) != nil
}

func (e *exchange) classify(w *wire) (fault.Kind, bool) {
	if w.resp.StatusCode == http.StatusSwitchingProtocols {
		return fault.Unknown, false
	}
	kind, failed := e.t.classify(w.resp)
	w.received(w.resp) // it may have put another body there
	return kind, failed
}

// broken is the fault of an attempt that had no response.
func (e *exchange) broken(ctx context.Context, kind fault.Kind, err error) error {
	switch {
	case canceled(e.req) && ctx.Err() == nil:
		e.abort(err) // so that the call ends here
	case kind == fault.Unavailable && e.body.spent():
		kind = fault.Uncertain // the table would repeat it, and there is nothing to repeat it with
	}
	return &fault.Error{Kind: kind, Deduped: e.deduped, Err: transportError{err}}
}

// canceled reports whether the request was, in the way of before contexts.
func canceled(req *http.Request) bool {
	select {
	case <-req.Cancel: //nolint:staticcheck // see newExchange
		return true
	default:
		return false
	}
}

// failing is the fault of an attempt with a failing response, which is kept until
// it is known whether there will be another.
func (e *exchange) failing(ctx context.Context, w *wire, kind fault.Kind) error {
	if !w.cut() { // the attempt's time has just come to its end, and the response with it
		return e.broken(ctx, fault.Uncertain, context.Cause(ctx))
	}
	if v := fault.Decide(kind, fault.Once); (v.Retry || v.Failover) && e.body.spent() {
		kind = fault.Rejected // as in broken; this one doesn't count against the host
	}
	w.err = errors.New(http.StatusText(w.resp.StatusCode))
	w.kept, e.last = true, w
	return &fault.Error{
		Kind: kind, Code: strconv.Itoa(w.resp.StatusCode), Deduped: e.deduped,
		RetryAfter: fault.RetryAfter(w.resp.Header, time.Now()), Err: w.err,
	}
}

const (
	drainAtMost = 64 << 10               // bytes; more costs more than a new connection
	drainFor    = 100 * time.Millisecond // longer isn't worth the wait
)

// discard reads a response that nobody will see to its end, within bounds, so
// that its connection can be used again.
func (e *exchange) discard(ctx context.Context) {
	w := e.last
	if w == nil {
		return
	}
	e.last, w.kept = nil, false
	w.follow(ctx)
	t := time.AfterFunc(drainFor, func() { w.cancel(context.Canceled) })
	_, _ = io.CopyN(io.Discard, w, drainAtMost)
	t.Stop()
	w.drop()
}

// failed is what the caller gets of a call that failed: the last attempt's
// response, where it had one, else an error.
func (e *exchange) failed(err error) (*http.Response, error) {
	f, ok := fault.As(err)
	if !ok {
		e.drop()
		return nil, err
	}
	if e.last != nil && errors.Is(lastAnswer(f).Err, e.last.err) {
		if resp := e.passOn(f); resp != nil {
			return resp, nil
		}
	}
	e.drop()
	return nil, &callError{f: f, request: e.req.Context()}
}

// lastAnswer is what the last attempt answered, refusals of our own left out.
func lastAnswer(f *fault.Error) *fault.Error {
	for _, t := range slices.Backward(f.Tried) {
		if !t.Local {
			return t
		}
	}
	return f
}

// passOn gives the caller a failing response, whose body has the same limit on
// silence as any other, but no more say to the breaker, which was told already. It
// is nil where the caller has gone meanwhile.
func (e *exchange) passOn(f *fault.Error) *http.Response {
	w := e.last
	g, err := resilience.New(resilience.Policy{Silence: e.t.hosts.policy.Silence}, []resilience.Member[*host]{{Provider: w.host}})
	if err != nil {
		return nil
	}
	op := resilience.Op{Name: e.op.Name + ".body"} // or it would count where this Transport is inside another
	_, body, err := resilience.Keep(e.ctx, g, op, func(ctx context.Context, _ *host) (*wire, io.ReadCloser, error) {
		w.follow(ctx)
		return w, w, nil
	})
	if err != nil {
		return nil
	}
	w.answer.attempts = f.Attempts
	return e.answered(w, body)
}

// answered finishes a response for the caller.
func (e *exchange) answered(w *wire, body io.ReadCloser) *http.Response {
	resp := w.resp
	sent := resp.Request // by a backup, the request that it got; nil from some fakes
	if sent == nil || w.host.url == nil {
		sent = e.req
	}
	w.answer = answer{e.req.Context(), w.answer.provider, w.answer.attempts}
	e.seen = *sent.WithContext(&w.answer)
	resp.Request = &e.seen
	w.handed = resp.StatusCode == http.StatusSwitchingProtocols
	if w.handed || empty(e.req, resp) {
		_ = body.Close()
		e.release()
		return resp
	}
	e.output = responseBody{rc: body, of: e}
	resp.Body = &e.output
	return resp
}

// empty reports whether a response has no body, which many then don't close. Under
// HTTP/2 it isn't [http.NoBody] that says so; of a fake's length nothing is
// believed.
func empty(req *http.Request, resp *http.Response) bool {
	return resp.Body == http.NoBody || req.Method == http.MethodHead || resp.ProtoMajor >= 2 && resp.ContentLength == 0
}
