package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/resiliencehttp"
)

// service is a server without a network: it answers the n-th request.
type service struct {
	n      int
	whole  int // requests that had the whole body
	closed int // responses whose body was closed
	answer func(n int) *http.Response
	err    error // instead of an answer
}

// closing counts the bodies that are closed.
type closing struct {
	io.ReadCloser
	of *service
}

func (c closing) Close() error { c.of.closed++; return c.ReadCloser.Close() }

func (s *service) RoundTrip(req *http.Request) (*http.Response, error) {
	s.n++
	if s.err != nil { // as net/http does, which asks for a connection first
		if trace := httptrace.ContextClientTrace(req.Context()); trace != nil && trace.GetConn != nil {
			trace.GetConn(req.URL.Host)
		}
		return nil, s.err
	}
	if req.Body != nil {
		if b, _ := io.ReadAll(req.Body); string(b) == "payload" {
			s.whole++
		}
		_ = req.Body.Close()
	}
	resp := s.answer(s.n)
	resp.Request = req
	if d, ok := resp.Body.(*dripping); ok {
		d.ctx = req.Context()
	}
	resp.Body = closing{resp.Body, s}
	return resp, nil
}

func status(code int, header ...string) func(int) *http.Response {
	return func(int) *http.Response {
		h := http.Header{}
		if len(header) > 0 {
			h.Set(header[0], header[1])
		}
		return &http.Response{StatusCode: code, Status: http.StatusText(code), Header: h, Body: io.NopCloser(strings.NewReader("x"))}
	}
}

// once answers a failing status, then 200.
func once(first func(int) *http.Response) func(int) *http.Response {
	return func(n int) *http.Response {
		if n == 1 {
			return first(n)
		}
		return status(http.StatusOK)(n)
	}
}

// dripping is a body of ten bytes, one a second, that ends with its request's
// context, as those of net/http do.
type dripping struct {
	ctx  context.Context //nolint:containedctx // the request's
	left int
}

func (d *dripping) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(time.Second):
		d.left--
		p[0] = 'x'
		return 1, nil
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
}

func (*dripping) Close() error { return nil }

func slowly(int) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: &dripping{left: 10}}
}

type doer func(*http.Request) (*http.Response, error)

func oursHTTP(t *testing.T, s *service, change func(*resilience.Policy)) doer {
	return oursHTTPOver(t, s, change)
}

func oursHTTPOver(t *testing.T, s http.RoundTripper, change func(*resilience.Policy)) doer {
	p := resilience.Default
	p.Backoff.Jitter = 0
	if change != nil {
		change(&p)
	}
	tr, err := resiliencehttp.New(p, resiliencehttp.WithBase(s))
	require.NoError(t, err)
	return (&http.Client{Transport: tr}).Do
}

func failsafeHTTP(s *service) doer {
	r := failsafehttp.NewRetryPolicyBuilder().WithMaxRetries(retries).WithBackoff(firstWait, longestWait).Build()
	return (&http.Client{Transport: failsafehttp.NewRoundTripper(s, r, timeout.New[*http.Response](attemptLimit))}).Do
}

func retryable(s *service) doer {
	c := retryablehttp.NewClient()
	c.Logger, c.HTTPClient = nil, &http.Client{Transport: s}
	c.RetryMax, c.RetryWaitMin, c.RetryWaitMax = retries, firstWait, longestWait
	return func(req *http.Request) (*http.Response, error) {
		r, err := retryablehttp.FromRequest(req)
		if err != nil {
			return nil, err
		}
		return c.Do(r)
	}
}

const day = 24 * time.Hour

// looked says what became of a request.
type looked func(t *testing.T, s *service, took time.Duration, resp *http.Response, err error) string

// exchange is one request of each library, told by look.
func exchange(method string, body func() io.Reader, answer func(int) *http.Response, change func(*resilience.Policy), look looked) situation {
	return exchangeWithin(day, method, body, func() *service { return &service{answer: answer} }, change, look)
}

func exchangeWithin(limit time.Duration, method string, body func() io.Reader, serve func() *service, change func(*resilience.Policy), look looked) situation {
	do := func(t *testing.T, with func(*service) doer) string {
		s := serve()
		var b io.Reader
		if body != nil {
			b = body()
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, method, "http://service.test/", b)
		require.NoError(t, err)
		start := time.Now()
		resp, err := with(s)(req)
		d := time.Since(start)
		if err == nil {
			defer resp.Body.Close()
		}
		return look(t, s, d, resp, err)
	}
	return situation{
		ours: func(t *testing.T) string {
			return do(t, func(s *service) doer { return oursHTTP(t, s, change) })
		},
		failsafe: func(t *testing.T) string { return do(t, failsafeHTTP) },
		others:   []named{{"retryablehttp", func(t *testing.T) string { return do(t, retryable) }}},
	}
}

func sent(_ *testing.T, s *service, _ time.Duration, resp *http.Response, err error) string {
	if err != nil {
		return fmt.Sprintf("sent %d×; an error, unless it is set to give the last response", s.n)
	}
	return fmt.Sprintf("sent %d×; the caller gets the %d", s.n, resp.StatusCode)
}

func waited(_ *testing.T, s *service, d time.Duration, resp *http.Response, err error) string {
	if err != nil {
		return err.Error()
	}
	if s.n == 1 {
		return fmt.Sprintf("doesn't wait: the %d is the caller's after %v", resp.StatusCode, d)
	}
	return fmt.Sprintf("waits %v", d.Round(100*time.Millisecond))
}

// spreadOver is waited, where the wait is spread by up to a tenth for those who
// were told the same, and by as much for this one caller.
func spreadOver(told time.Duration) looked {
	return func(t *testing.T, s *service, d time.Duration, resp *http.Response, err error) string {
		if d <= told || d > told+told/4 {
			return waited(t, s, d, resp, err)
		}
		return fmt.Sprintf("waits %v, and up to a fifth longer by chance", told)
	}
}

// inTime is who gets what, and when.
func inTime(_ *testing.T, _ *service, d time.Duration, resp *http.Response, err error) string {
	if err != nil {
		return fmt.Sprintf("an error after %v", d)
	}
	return fmt.Sprintf("the %d after %v", resp.StatusCode, d)
}

func closedBodies(_ *testing.T, s *service, _ time.Duration, _ *http.Response, _ error) string {
	return fmt.Sprintf("%d of the %d before the last", min(s.closed, s.n-1), s.n-1)
}

func intact(_ *testing.T, s *service, _ time.Duration, _ *http.Response, _ error) string {
	return fmt.Sprintf("whole in %d of %d", s.whole, s.n)
}

func patient(p *resilience.Policy) { p.MaxWait = 10 * time.Second }

var inThreeSeconds = func(n int) *http.Response {
	return once(status(http.StatusTooManyRequests, "Retry-After", time.Date(2000, 1, 1, 0, 0, 3, 0, time.UTC).Format(http.TimeFormat)))(n)
}

func payload() io.Reader { return strings.NewReader("payload") }

// unknown is a body that net/http can't have a second time.
func unknown() io.Reader { return io.MultiReader(strings.NewReader("payload")) }

var httpSituations = []situation{
	exchange(http.MethodPost, payload, status(http.StatusServiceUnavailable), nil, sent).called("a POST is answered 503, three times if need be"),
	exchange(http.MethodGet, nil, status(http.StatusServiceUnavailable), nil, sent).called("a GET is"),
	exchange(http.MethodGet, nil, once(status(http.StatusTooManyRequests, "Retry-After", "3")), patient, spreadOver(3*time.Second)).called("429 with Retry-After: 3, and we may wait 10 s"),
	exchange(http.MethodGet, nil, inThreeSeconds, patient, spreadOver(3*time.Second)).called("… as a date three seconds ahead"),
	exchange(http.MethodGet, nil, once(status(http.StatusTooManyRequests, "Retry-After", "1.5")), patient, spreadOver(1500*time.Millisecond)).called("… Retry-After: 1.5"),
	exchange(http.MethodGet, nil, once(status(http.StatusTooManyRequests, "Retry-After", "-1")), patient, waited).called("… Retry-After: -1"),
	exchange(http.MethodGet, nil, once(status(http.StatusServiceUnavailable, "Retry-After", "3600")), nil, waited).called("503 with Retry-After: 3600, where the longest wait is 2 s (go-retryablehttp#247)"),
	exchangeWithin(2*time.Second, http.MethodGet, nil, func() *service {
		return &service{answer: once(status(http.StatusServiceUnavailable, "Retry-After", "10"))}
	}, func(p *resilience.Policy) { p.MaxWait = time.Minute }, inTime).called("503 with Retry-After: 10, for which we would wait, and the caller has 2 s (go-retryablehttp#272)"),
	exchange(http.MethodGet, nil, status(http.StatusInternalServerError), nil, closedBodies).called("three answers are 500: the bodies of which are closed (openai-go#495)"),
	exchangeWithin(day, http.MethodPost, payload, func() *service {
		return &service{err: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}}
	}, nil, func(_ *testing.T, s *service, _ time.Duration, _ *http.Response, _ error) string {
		return fmt.Sprintf("sent %d×", s.n)
	}).called("a POST finds no connection, so that it can't have acted"),
	exchange(http.MethodPut, payload, status(http.StatusServiceUnavailable), nil, intact).called("a request's body is sent with each of three attempts (failsafe-go#73)"),
	exchange(http.MethodPut, unknown, status(http.StatusServiceUnavailable), nil, intact).called("… a body without GetBody"),
	{
		when: "a response's body takes 10 s, where an attempt may take 3 s (failsafe-go#123)",
		ours: func(t *testing.T) string { return body(t, oursHTTP(t, &service{answer: slowly}, nil)) },
		failsafe: func(t *testing.T) string {
			return body(t, failsafeHTTP(&service{answer: slowly}))
		},
		others: []named{{"net/http with Client.Timeout", func(t *testing.T) string {
			return body(t, (&http.Client{Transport: &service{answer: slowly}, Timeout: attemptLimit}).Do)
		}}},
	},
	{
		when: "a host redirects to another, which answers 503 to all six; then the first is asked for something else",
		ours: func(t *testing.T) string {
			return redirected(t, func(s http.RoundTripper) doer { return oursHTTPOver(t, s, nil) })
		},
		failsafe: func(t *testing.T) string { return redirected(t, failsafeOneBreaker) + "; one breaker is for all hosts" },
	},
	{
		when: "a transport fetches a token for each request, over a transport of its kind; the API answers 503 to ten GETs (baton-sdk#1085)",
		ours: func(t *testing.T) string {
			return tokens(t, func(s http.RoundTripper) doer { return oursHTTPOver(t, s, nil) })
		},
		failsafe: func(t *testing.T) string { return tokens(t, failsafeOneBreaker) },
	},
	{
		when: "a GET with a body that streams is hedged (failsafe-go#65)",
		ours: func(t *testing.T) string {
			p := resilience.Default
			p.Hedge.After = time.Second
			_, err := resiliencehttp.New(p)
			require.Error(t, err)
			return "refused when it is made"
		},
		failsafe: func(t *testing.T) string {
			h := hedgepolicy.NewWithDelay[*http.Response](time.Second)
			return body(t, (&http.Client{Transport: failsafehttp.NewRoundTripper(&service{answer: slowly}, h)}).Do)
		},
	},
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// failsafeOneBreaker is retry, breaker and timeout.
func failsafeOneBreaker(s http.RoundTripper) doer {
	r := failsafehttp.NewRetryPolicyBuilder().WithMaxRetries(retries).WithBackoff(firstWait, longestWait).Build()
	cb := circuitbreaker.NewBuilder[*http.Response]().WithFailureRateThreshold(failureRatio, uint(minCalls), window).WithDelay(openFor).
		HandleIf(func(r *http.Response, err error) bool { return err != nil || r.StatusCode >= 500 }).Build()
	return (&http.Client{Transport: failsafehttp.NewRoundTripper(s, r, cb, timeout.New[*http.Response](attemptLimit))}).Do
}

// well asks for a URL and reports whether that was answered with 200.
func well(t *testing.T, do doer, url string) bool {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusOK
}

func redirected(t *testing.T, with func(http.RoundTripper) doer) string {
	do := with(roundTripper(func(req *http.Request) (*http.Response, error) {
		resp := status(http.StatusOK)(1)
		switch {
		case req.URL.Host == "bad.test":
			resp = status(http.StatusServiceUnavailable)(1)
		case req.URL.Path == "/go":
			resp = status(http.StatusFound, "Location", "http://bad.test/")(1)
		}
		resp.Request = req
		return resp, nil
	}))
	for range 6 {
		require.False(t, well(t, do, "http://good.test/go"))
	}
	if well(t, do, "http://good.test/") {
		return "answered"
	}
	return "refused"
}

// tokens is ten requests of which each fetches a token first.
func tokens(t *testing.T, with func(http.RoundTripper) doer) string {
	auth := &service{answer: status(http.StatusOK)}
	api := &service{answer: status(http.StatusServiceUnavailable)}
	fetch := with(auth)
	do := with(roundTripper(func(req *http.Request) (*http.Response, error) {
		token, err := http.NewRequestWithContext(req.Context(), http.MethodGet, "http://auth.test/", nil)
		require.NoError(t, err)
		resp, err := fetch(token)
		if err != nil {
			return nil, err
		}
		_ = resp.Body.Close()
		return api.RoundTrip(req)
	}))
	times(10, func() error { well(t, do, "http://api.test/"); return nil })
	return fmt.Sprintf("the API is asked %d×", api.n)
}

func body(t *testing.T, do doer) string {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://service.test/", nil)
	require.NoError(t, err)
	resp, err := do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d of 10 bytes, cut off: %v", len(data), err != nil)
}
