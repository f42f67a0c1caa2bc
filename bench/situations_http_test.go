package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/cachepolicy"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/maypok86/otter/v2"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/cache"
	"github.com/smilefactory/integrations/resilience/resiliencehttp"
)

// service is a server without a network: it answers the n-th request.
type service struct {
	n      int
	whole  int // requests that had the whole body
	answer func(n int) *http.Response
}

func (s *service) RoundTrip(req *http.Request) (*http.Response, error) {
	s.n++
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

// exchange is one request of each library, told by look.
func exchange(method string, body func() io.Reader, answer func(int) *http.Response, change func(*resilience.Policy), look func(t *testing.T, s *service, took time.Duration, resp *http.Response, err error) string) situation {
	do := func(t *testing.T, with func(*service) doer) string {
		s := &service{answer: answer}
		var b io.Reader
		if body != nil {
			b = body()
		}
		req, err := http.NewRequestWithContext(t.Context(), method, "http://service.test/", b)
		require.NoError(t, err)
		var resp *http.Response
		d := took(func() { resp, err = with(s)(req) })
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
	return fmt.Sprintf("waits %v", d)
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
	exchange(http.MethodGet, nil, once(status(http.StatusTooManyRequests, "Retry-After", "3")), patient, waited).called("429 with Retry-After: 3, and we may wait 10 s"),
	exchange(http.MethodGet, nil, inThreeSeconds, patient, waited).called("… as a date three seconds ahead"),
	exchange(http.MethodGet, nil, once(status(http.StatusTooManyRequests, "Retry-After", "-1")), patient, waited).called("… Retry-After: -1"),
	exchange(http.MethodGet, nil, once(status(http.StatusServiceUnavailable, "Retry-After", "3600")), nil, waited).called("503 with Retry-After: 3600, where the longest wait is 2 s"),
	exchange(http.MethodPut, payload, status(http.StatusServiceUnavailable), nil, intact).called("a request's body is sent with each of three attempts (failsafe-go#73)"),
	exchange(http.MethodPut, unknown, status(http.StatusServiceUnavailable), nil, intact).called("… a body without GetBody"),
	{
		when: "a response's body takes 10 s, where an attempt may take 3 s",
		ours: func(t *testing.T) string { return body(t, oursHTTP(t, &service{answer: slowly}, nil)) },
		failsafe: func(t *testing.T) string {
			return body(t, failsafeHTTP(&service{answer: slowly}))
		},
		others: []named{{"net/http with Client.Timeout", func(t *testing.T) string {
			return body(t, (&http.Client{Transport: &service{answer: slowly}, Timeout: attemptLimit}).Do)
		}}},
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

func body(t *testing.T, do doer) string {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://service.test/", nil)
	require.NoError(t, err)
	resp, err := do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d of 10 bytes, cut off: %v", len(data), err != nil)
}

// tenCallers ask for one key at once; the first of them cancels.
func tenCallers(t *testing.T, call func(context.Context, func(context.Context) (*answer, error)) error) string {
	asked, well := 0, make(chan bool, 10)
	fn := func(ctx context.Context) (*answer, error) {
		asked++
		select {
		case <-time.After(time.Second):
			return ok, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	first, cancel := context.WithCancel(t.Context())
	time.AfterFunc(500*time.Millisecond, cancel)
	for i := range 10 {
		ctx := t.Context()
		if i == 0 {
			ctx = first
		}
		go func() { well <- call(ctx, fn) == nil }()
		time.Sleep(time.Millisecond)
	}
	n := 0
	for range 10 {
		if <-well {
			n++
		}
	}
	return fmt.Sprintf("%d are answered; asked upstream %d×", n, asked)
}

func mustOtter(t *testing.T) *otter.Cache[string, *answer] {
	c, err := otter.New(&otter.Options[string, *answer]{MaximumSize: entries, ExpiryCalculator: otter.ExpiryWriting[string, *answer](ttl)})
	require.NoError(t, err)
	t.Cleanup(func() { c.StopAllGoroutines() })
	return c
}

func mustCache(t *testing.T) *cache.Cache[*answer] {
	c, err := cache.New(cache.Config[*answer]{TTL: ttl, Stale: time.Hour})
	require.NoError(t, err)
	return c
}

func failsafeCached(t *testing.T) func(context.Context, func(context.Context) (*answer, error)) error {
	e := failsafe.With(failsafe.Policy[*answer](cachepolicy.New[*answer](otterStore{mustOtter(t)})))
	return func(ctx context.Context, fn func(context.Context) (*answer, error)) error {
		_, err := e.WithContext(cachepolicy.ContextWithCacheKey(ctx, "k")).GetWithExecution(func(x failsafe.Execution[*answer]) (*answer, error) {
			return fn(x.Context())
		})
		return err
	}
}

// failsOnce is a function whose first answer is an error, and whether the error
// was kept.
func failsOnce(t *testing.T, call func(context.Context, func(context.Context) (*answer, error)) error) string {
	n := 0
	fn := func(context.Context) (*answer, error) {
		if n++; n == 1 {
			return nil, errDown
		}
		return ok, nil
	}
	require.Error(t, call(t.Context(), fn))
	require.NoError(t, call(t.Context(), fn))
	return "the error isn't kept"
}

func goesDown(t *testing.T, call func(context.Context, func(context.Context) (*answer, error)) error) string {
	require.NoError(t, call(t.Context(), func(context.Context) (*answer, error) { return ok, nil }))
	time.Sleep(2 * ttl)
	if call(t.Context(), func(context.Context) (*answer, error) { return nil, errDown }) == nil {
		return "the old answer, marked as stale"
	}
	return "the error"
}

type cachedCall = func(context.Context, func(context.Context) (*answer, error)) error

func caching(look func(*testing.T, cachedCall) string) situation {
	return situation{
		ours: func(t *testing.T) string {
			c := mustCache(t)
			return look(t, func(ctx context.Context, fn func(context.Context) (*answer, error)) error {
				_, err := c.Do(ctx, op, "k", fn)
				return err
			})
		},
		failsafe: func(t *testing.T) string { return look(t, failsafeCached(t)) },
		others: []named{{"otter", func(t *testing.T) string {
			c := mustOtter(t)
			return look(t, func(ctx context.Context, fn func(context.Context) (*answer, error)) error {
				_, err := c.Get(ctx, "k", otter.LoaderFunc[string, *answer](func(ctx context.Context, _ string) (*answer, error) { return fn(ctx) }))
				return err
			})
		}}},
	}
}

// leftBehind is what the context of an attempt says after the call.
func leftBehind(t *testing.T, call protected) string {
	var left context.Context
	require.NoError(t, call(t.Context(), providerFunc(func(ctx context.Context, _ *query) (*answer, error) { left = ctx; return ok, nil }))) //nolint:fatcontext // to look at it afterwards
	if left.Err() == nil {
		return "goes on"
	}
	return "has ended"
}

var otherSituations = []situation{
	caching(tenCallers).called("ten callers ask for one key, and the first of them cancels"),
	caching(failsOnce).called("the first answer of a cached read is an error"),
	caching(goesDown).called("a cached answer is past its time, and the provider is down"),
	{
		when: "the budget for hedges is used up, and the first attempt is still on its way (failsafe-go#141)",
		ours: func(t *testing.T) string {
			p := counting(takes(2*time.Second, nil))
			g := ours(t, func(p *resilience.Policy) { p.Hedge.After = time.Second }, p)
			n := times(50, func() error { return oursAsk(t.Context(), g, &query{}) })
			return fmt.Sprintf("all %d calls are answered", n)
		},
		failsafe: func(t *testing.T) string {
			h := hedgepolicy.NewBuilderWithDelay[*answer](time.Second).WithMaxHedges(2).WithBudget(budget.NewBuilder().WithMinConcurrency(1).Build()).Build()
			call := failsafeWith(h)
			n := times(50, func() error { return call(t.Context(), takes(2*time.Second, nil)) })
			time.Sleep(time.Minute) // for the goroutines of the hedges
			return fmt.Sprintf("all %d calls are answered", n)
		},
	},
	{
		when: "an attempt went well: its context (failsafe-go#134)",
		ours: func(t *testing.T) string {
			return leftBehind(t, func(ctx context.Context, p provider) error { return oursAsk(ctx, ours(t, nil, p), &query{}) })
		},
		failsafe: func(t *testing.T) string { return leftBehind(t, failsafeWith(timeout.New[*answer](attemptLimit))) },
	},
}
