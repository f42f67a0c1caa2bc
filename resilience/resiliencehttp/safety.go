package resiliencehttp

import (
	"context"
	"net/http"

	"github.com/smilefactory/integrations/fault"
)

// Safety is how far a request may be repeated, as its method says (RFC 9110,
// 9.2): GET, HEAD, OPTIONS and TRACE are [fault.Read], PUT and DELETE
// [fault.Idempotent], POST, PATCH and all others [fault.Once].
//
// A header Idempotency-Key (or X-Idempotency-Key, as in net/http) makes a
// repetition at the same host safe, since that deduplicates by it. One without a
// value, which net/http takes for "idempotent" and doesn't send, is
// [fault.Idempotent].
func Safety(req *http.Request) fault.Safety {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return fault.Read
	case http.MethodPut, http.MethodDelete:
		return fault.Idempotent
	}
	if key, declared := idempotencyKey(req.Header); declared && key == "" {
		return fault.Idempotent
	}
	return fault.Once
}

func idempotencyKey(h http.Header) (key string, declared bool) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if v, ok := h[name]; ok {
			declared = true
			if len(v) > 0 {
				return v[0], true
			}
		}
	}
	return "", declared
}

type safetyKey struct{}

// ContextWithSafety says how far the requests under the returned context may be
// repeated, whatever their methods say.
func ContextWithSafety(ctx context.Context, s fault.Safety) context.Context {
	return context.WithValue(ctx, safetyKey{}, s)
}

func (t *Transport) safetyOf(req *http.Request) fault.Safety {
	if s, ok := req.Context().Value(safetyKey{}).(fault.Safety); ok {
		return s
	}
	return t.safety(req)
}

// Classify is the kind of a failing status. Those are 408, 425, 429 and 5xx, but
// for 501: their kinds are those of [fault.FromStatus]. Every other status is an
// answer of a service that works.
func Classify(resp *http.Response) (kind fault.Kind, failed bool) {
	switch s := resp.StatusCode; {
	case s == http.StatusRequestTimeout, s == http.StatusTooEarly, s == http.StatusTooManyRequests,
		s >= 500 && s < 600 && s != http.StatusNotImplemented:
		return fault.FromStatus(s), true
	}
	return fault.Unknown, false
}

// opName has no more values than there are methods, since it is a label in metrics.
func opName(method string) string {
	switch method {
	case "", http.MethodGet:
		return "http.get"
	case http.MethodHead:
		return "http.head"
	case http.MethodPost:
		return "http.post"
	case http.MethodPut:
		return "http.put"
	case http.MethodPatch:
		return "http.patch"
	case http.MethodDelete:
		return "http.delete"
	case http.MethodOptions:
		return "http.options"
	}
	return "http.other"
}
