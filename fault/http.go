package fault

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// MaxRetryAfter caps what a provider may ask for: a header must not be able to
// silence a provider for days.
const MaxRetryAfter = time.Hour

// FromStatus is the kind of an HTTP status for which the provider documents
// nothing better. No 5xx is proof that nothing was done (RFC 9110, 15.6), so
// all but 501 are Uncertain; 421 and 425 are defined as "not processed"
// (RFC 9110, 15.5.20; RFC 8470, 5.2).
func FromStatus(status int) Kind {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return Denied
	case http.StatusPaymentRequired:
		return Exhausted
	case http.StatusNotFound, http.StatusGone:
		return NotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return Conflict
	case http.StatusRequestTimeout, 499: // 499: nginx, the client went away
		return Uncertain
	case http.StatusMisdirectedRequest, http.StatusTooEarly:
		return Unavailable
	case http.StatusTooManyRequests:
		return RateLimited
	case http.StatusUnavailableForLegalReasons:
		return Rejected
	case http.StatusNotImplemented:
		return Unsupported
	}
	switch {
	case status >= 400 && status < 500:
		return Invalid
	case status >= 500 && status < 600:
		return Uncertain
	}
	return Unknown
}

// RetryAfter reads the header of that name (RFC 9110, 10.2.3): seconds, of which
// some servers send decimals too, or an HTTP date, which is taken against the
// answer's own Date where there is one, so that a wrong clock does no harm. It is
// zero where the header is absent, malformed or in the past, and never more than
// [MaxRetryAfter].
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if strings.Trim(v, "0123456789.") == "" {
		s, err := strconv.ParseFloat(v, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return 0
		}
		return time.Duration(min(s, MaxRetryAfter.Seconds()) * float64(time.Second))
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter)
}

// Latch remembers, over every attempt that an HTTP client makes under one
// context (redirects and the transport's own replays included), whether a
// connection was ever obtained. That is the only proof that nothing was sent:
// WroteHeaders fires after the bytes are out under HTTP/2.
type Latch struct {
	asked, got atomic.Bool
	attempt    Attempt
	trace      httptrace.ClientTrace
}

// Trace returns a context that reports to the Latch, and notes the host as the
// Target of the attempt's [Exchange].
func Trace(ctx context.Context) (context.Context, *Latch) {
	l := new(Latch)
	return l.Trace(ctx), l
}

// Trace is the function of that name, for a Latch that is part of something else.
// A Latch is of one context and must not be copied.
func (l *Latch) Trace(ctx context.Context) context.Context {
	l.attempt = attemptOf(ctx)
	l.trace.GetConn, l.trace.GotConn = l.getConn, l.gotConn
	return httptrace.WithClientTrace(ctx, &l.trace)
}

func (l *Latch) getConn(hostPort string) {
	l.asked.Store(true)
	if l.attempt != nil {
		l.attempt.Note(func(e *Exchange) { e.Target = hostPort })
	}
}

func (l *Latch) gotConn(httptrace.GotConnInfo) { l.got.Store(true) }

// Kind is the kind of a transport error under the Latch's context: Unavailable
// where a connection was asked for and none was ever obtained (DNS, dial, TLS),
// else Uncertain. A transport that doesn't report to httptrace proves nothing.
func (l *Latch) Kind() Kind {
	if l.asked.Load() && !l.got.Load() {
		return Unavailable
	}
	return Uncertain
}

// Untouched reports whether no connection was even asked for: what failed,
// failed before the request.
func (l *Latch) Untouched() bool { return !l.asked.Load() }
