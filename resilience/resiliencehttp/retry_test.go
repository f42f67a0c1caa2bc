package resiliencehttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/resiliencehttp"
)

// The situations of the field, counted at the server.
func TestWhatIsRepeatedAndWhatIsNot(t *testing.T) {
	stream := func(r *http.Request) { r.Body, r.GetBody = io.NopCloser(strings.NewReader("payload")), nil }
	key := func(r *http.Request) { r.Header.Set("Idempotency-Key", "k1") }
	for name, c := range map[string]struct {
		method   string
		with     func(*http.Request)
		answers  []int // 0 breaks off
		attempts int64
		status   int        // 0: an error
		kind     fault.Kind // of the error
		breaker  int        // failures that it has counted
	}{
		"a read that fails twice succeeds":                     {"GET", nil, []int{503, 502, 200}, 3, 200, 0, 2},
		"a read that always fails gives the last response":     {"GET", nil, []int{500}, 3, 500, 0, 3},
		"a gateway's timeout is repeated":                      {"GET", nil, []int{504, 200}, 2, 200, 0, 1},
		"request timeout is repeated":                          {"GET", nil, []int{408, 200}, 2, 200, 0, 1},
		"too early is repeated":                                {"GET", nil, []int{425, 200}, 2, 200, 0, 1},
		"too many requests is repeated and no failure":         {"GET", nil, []int{429, 200}, 2, 200, 0, 0},
		"not implemented is an answer":                         {"GET", nil, []int{501}, 1, 501, 0, 0},
		"bad request is an answer":                             {"GET", nil, []int{400}, 1, 400, 0, 0},
		"unauthorized is an answer":                            {"GET", nil, []int{401}, 1, 401, 0, 0},
		"not found is an answer":                               {"GET", nil, []int{404}, 1, 404, 0, 0},
		"conflict is an answer":                                {"PUT", nil, []int{409}, 1, 409, 0, 0},
		"a HEAD is a read":                                     {"HEAD", nil, []int{503, 200}, 2, 200, 0, 1},
		"a PUT is idempotent":                                  {"PUT", nil, []int{503, 200}, 2, 200, 0, 1},
		"a DELETE is idempotent":                               {"DELETE", nil, []int{503, 204}, 2, 204, 0, 1},
		"a POST is not repeated after a 503":                   {"POST", nil, []int{503}, 1, 503, 0, 1},
		"a PATCH is not repeated after a 500":                  {"PATCH", nil, []int{500}, 1, 500, 0, 1},
		"a POST that was not processed is repeated":            {"POST", nil, []int{425, 201}, 2, 201, 0, 1},
		"a POST over the rate is repeated":                     {"POST", nil, []int{429, 429, 201}, 3, 201, 0, 0},
		"a POST with a key is repeated":                        {"POST", key, []int{503, 0, 201}, 3, 201, 0, 2},
		"a read that breaks off is repeated":                   {"GET", nil, []int{0, 200}, 2, 200, 0, 1},
		"a read that always breaks off is an error":            {"GET", nil, []int{0}, 3, 0, fault.Uncertain, 3},
		"a POST that breaks off is not repeated":               {"POST", nil, []int{0}, 1, 0, fault.Uncertain, 1},
		"the last attempt counts, not an earlier response":     {"GET", nil, []int{503, 503, 0}, 3, 0, fault.Uncertain, 3},
		"a stream is not repeated, whatever the method":        {"PUT", stream, []int{503}, 1, 503, 0, 1},
		"a stream over the rate is not repeated, nor counted":  {"PUT", stream, []int{429}, 1, 429, 0, 0},
		"a stream with a key is not repeated":                  {"POST", func(r *http.Request) { key(r); stream(r) }, []int{503}, 1, 503, 0, 1},
		"a context says that a POST may be repeated":           {"POST", safe(fault.AtLeastOnce), []int{503, 201}, 2, 201, 0, 1},
		"a context says that a GET may not be repeated":        {"GET", safe(fault.Once), []int{503}, 1, 503, 0, 1},
		"a key without a value declares a POST as idempotent":  {"POST", func(r *http.Request) { r.Header["Idempotency-Key"] = nil }, []int{503, 201}, 2, 201, 0, 1},
		"a method of one's own is not repeated":                {"PURGE", nil, []int{503}, 1, 503, 0, 1},
		"a body that is explicitly none doesn't stop a repeat": {"DELETE", func(r *http.Request) { r.Body, r.ContentLength = http.NoBody, 0 }, []int{503, 204}, 2, 204, 0, 1},
	} {
		for _, protocol := range protocols {
			t.Run(name+" over "+protocol, func(t *testing.T) {
				s := serve(t, protocol, func(w http.ResponseWriter, r *http.Request, n int) {
					assert.Equal(t, protocol, r.Proto)
					answers(c.answers...)(w, r, n)
				})
				s.base.DisableKeepAlives = protocol == "HTTP/1.1" // or net/http repeats by itself what breaks off on a connection that was used before
				tr := newTransport(t, s, quick())
				body := ""
				if c.method != "GET" && c.method != "HEAD" {
					body = "payload"
				}
				req := s.request(t, c.method, body)
				if c.with != nil {
					c.with(req)
				}
				resp, err := (&http.Client{Transport: tr}).Do(req)
				assert.Equal(t, c.attempts, s.hits.Load())
				if c.status == 0 {
					assert.ErrorIs(t, err, c.kind)
					f, ok := fault.As(err)
					require.True(t, ok)
					assert.EqualValues(t, c.attempts, f.Attempts)
				} else {
					require.NoError(t, err)
					assert.Equal(t, c.status, resp.StatusCode)
					got := read(t, resp)
					if c.method != "HEAD" && c.status != 204 {
						assert.Equal(t, fmt.Sprint("answer ", c.attempts), got)
					}
					_, attempts := resiliencehttp.Answered(resp)
					assert.EqualValues(t, c.attempts, attempts)
				}
				assert.Equal(t, c.breaker, tr.Inspect()[0].Failures)
				assert.Zero(t, tr.Inspect()[0].InFlight)
			})
		}
	}
}

func safe(s fault.Safety) func(*http.Request) {
	return func(r *http.Request) { *r = *r.WithContext(resiliencehttp.ContextWithSafety(r.Context(), s)) }
}

func TestABodyIsSentWholeEachTimeAndTheOriginalClosed(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			payload := strings.Repeat("0123456789", 20_000)
			s := serve(t, protocol, func(w http.ResponseWriter, r *http.Request, n int) {
				b, err := io.ReadAll(r.Body)
				assert.NoError(t, err)
				assert.Equal(t, payload, string(b))
				assert.Equal(t, "k1", r.Header.Get("Idempotency-Key"))
				w.WriteHeader(map[bool]int{true: 200, false: 503}[n == 3])
			})
			req := s.request(t, "POST", payload)
			req.Header.Set("Idempotency-Key", "k1")
			var bodies []*tracked
			track := func() (io.ReadCloser, error) {
				bodies = append(bodies, &tracked{Reader: strings.NewReader(payload)})
				return bodies[len(bodies)-1], nil
			}
			req.Body, _ = track()
			req.GetBody = track
			resp, err := newTransport(t, s, quick()).RoundTrip(req)
			require.NoError(t, err)
			assert.Equal(t, 200, resp.StatusCode)
			read(t, resp)
			require.Len(t, bodies, 3)
			for _, b := range bodies { // HTTP/2 closes it in a goroutine of its own
				assert.Eventually(t, func() bool { return b.closed.Load() > 0 }, 5*time.Second, time.Millisecond)
			}
		})
	}
}

func TestARequestIsNeverWrittenTo(t *testing.T) {
	s := serve(t, "HTTP/1.1", answers(503, 200))
	spoils := roundTripper(func(r *http.Request) (*http.Response, error) {
		r.Header.Add("X-Attempt", "again")
		assert.Len(t, r.Header["X-Attempt"], 1, "each attempt starts from the caller's header")
		r.URL.Path = "/elsewhere"
		return s.base.RoundTrip(r)
	})
	req := s.request(t, "PUT", "payload")
	req.Header.Set("X-Own", "1")
	before := req.Clone(req.Context())
	resp, err := newTransport(t, s, quick(), resiliencehttp.WithBase(spoils)).RoundTrip(req)
	require.NoError(t, err)
	read(t, resp)
	assert.EqualValues(t, 2, s.hits.Load())
	assert.Equal(t, before.Header, req.Header)
	assert.Equal(t, before.URL, req.URL)
	assert.Equal(t, before.Host, req.Host)
	assert.Equal(t, req.URL, resp.Request.URL)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestAnOptionDecidesWhatMayBeRepeatedAndWhatHasFailed(t *testing.T) {
	s := serve(t, "HTTP/1.1", answers(403, 200))
	tr := newTransport(t, s, quick(),
		resiliencehttp.WithSafety(func(r *http.Request) fault.Safety {
			if r.URL.Path == "/search" {
				return fault.Read
			}
			return resiliencehttp.Safety(r)
		}),
		resiliencehttp.WithClassifier(func(r *http.Response) (fault.Kind, bool) {
			if r.StatusCode == 403 { // as GitHub's secondary limit
				return fault.RateLimited, true
			}
			return resiliencehttp.Classify(r)
		}))
	req := s.request(t, "POST", "q")
	req.URL.Path = "/search"
	resp, err := tr.RoundTrip(req)
	require.NoError(t, err)
	assert.Equal(t, 200, resp.StatusCode)
	read(t, resp)
}

func TestAClassifierMayLookIntoTheBody(t *testing.T) {
	s := serve(t, "HTTP/1.1", func(w http.ResponseWriter, _ *http.Request, n int) {
		_, _ = io.WriteString(w, map[bool]string{true: "busy", false: "done"}[n == 1])
	})
	tr := newTransport(t, s, quick(), resiliencehttp.WithClassifier(func(r *http.Response) (fault.Kind, bool) {
		b, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		r.Body = io.NopCloser(strings.NewReader(string(b)))
		return fault.Unavailable, string(b) == "busy"
	}))
	resp, err := tr.RoundTrip(s.request(t, "POST", "x"))
	require.NoError(t, err)
	assert.Equal(t, "done", read(t, resp))
	assert.EqualValues(t, 2, s.hits.Load())
}

// A failing response is read to its end before the next attempt, which then finds
// its connection free.
func TestConnectionsAreUsedAgain(t *testing.T) {
	for name, body := range map[string]string{"none": "", "short": "sorry", "60 kB": strings.Repeat("x", 60<<10)} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "HTTP/1.1", func(w http.ResponseWriter, _ *http.Request, n int) {
				w.WriteHeader(map[bool]int{true: 200, false: 503}[n%3 == 0])
				_, _ = io.WriteString(w, body)
			})
			s.base.MaxConnsPerHost = 1 // a response that isn't given up would stop the next attempt
			p := quick()
			p.Breaker, p.RetryBudget = resilience.Breaker{}, 0
			tr := newTransport(t, s, p)
			for range 5 {
				resp, err := tr.RoundTrip(s.request(t, "GET", ""))
				require.NoError(t, err)
				assert.Equal(t, body, read(t, resp))
			}
			assert.EqualValues(t, 15, s.hits.Load())
			assert.EqualValues(t, 1, s.conns.Load())
		})
	}
}

func TestALongLastResponseIsWhole(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := serve(t, protocol, func(w http.ResponseWriter, _ *http.Request, _ int) {
				w.WriteHeader(503)
				for range 64 {
					_, _ = w.Write(make([]byte, 64<<10))
				}
			})
			tr := newTransport(t, s, quick())
			resp, err := tr.RoundTrip(s.request(t, "GET", ""))
			require.NoError(t, err)
			assert.Len(t, read(t, resp), 4<<20)
			assert.EqualValues(t, 3, s.hits.Load())
		})
	}
}

// A port on which nobody listens: provably nothing was sent, so even a POST is
// tried again.
func TestWhatWasNeverSentIsRepeatedWhateverItIs(t *testing.T) {
	s := serve(t, "HTTP/1.1", answers(201))
	dials := 0
	dial := s.base.DialContext
	s.base.DialContext = func(ctx context.Context, network, addr string) (_ net.Conn, err error) {
		if dials++; dials < 3 {
			return nil, errors.New("connection refused")
		}
		if dial == nil {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
		return dial(ctx, network, addr)
	}
	body := &tracked{Reader: strings.NewReader("all of it")}
	req := s.request(t, "POST", "x")
	req.Body, req.GetBody, req.ContentLength = body, nil, -1
	resp, err := newTransport(t, s, quick()).RoundTrip(req)
	require.NoError(t, err)
	assert.Equal(t, 201, resp.StatusCode)
	read(t, resp)
	_, attempts := resiliencehttp.Answered(resp)
	assert.Equal(t, 3, attempts)
	assert.EqualValues(t, 1, s.hits.Load())
	assert.EqualValues(t, 1, body.closed.Load())
}

func TestAnErrorTellsEveryAttempt(t *testing.T) {
	s := serve(t, "HTTP/1.1", answers(503, 0))
	_, err := newTransport(t, s, quick()).RoundTrip(s.request(t, "GET", ""))
	f, ok := fault.As(err)
	require.True(t, ok)
	require.Len(t, f.Tried, 3)
	assert.Equal(t, "503", f.Tried[0].Code)
	assert.ErrorIs(t, err, io.EOF, "net/http's own error")
	assert.Regexp(t, `^http\.get: uncertain after 3 attempts: 127\.0\.0\.1-\d+: uncertain \(503\): Service Unavailable; .*: uncertain: EOF \(2 times\)$`, err.Error())
}

func TestAFailingGetBodyEndsTheCall(t *testing.T) {
	s := serve(t, "HTTP/1.1", answers(503))
	req := s.request(t, "PUT", "x")
	req.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("the file has gone") }
	tr := newTransport(t, s, quick())
	_, err := tr.RoundTrip(req)
	assert.ErrorIs(t, err, fault.Invalid)
	assert.ErrorContains(t, err, "the file has gone")
	assert.EqualValues(t, 1, s.hits.Load())
	assert.Equal(t, 1, tr.Inspect()[0].Failures, "the 503 alone")
}

// Events say what was done, for logs and metrics.
func TestEvents(t *testing.T) {
	s := serve(t, "HTTP/1.1", answers(503, 200))
	var seen []string
	tr := newTransport(t, s, quick(), resiliencehttp.WithObserver(resilience.ObserverFunc(func(_ context.Context, e resilience.Event) {
		seen = append(seen, e.Op+" "+e.Type.String())
	})))
	resp, err := tr.RoundTrip(s.request(t, "GET", ""))
	require.NoError(t, err)
	assert.NotContains(t, seen[3:], "http.get attempt ended", "it ends with the body")
	read(t, resp)
	assert.Equal(t, []string{"http.get attempt ended", "http.get retry scheduled", "http.get call ended", "http.get attempt ended"}, seen)
}

func TestARequestThatNetHTTPRefusesIsNotTheHostsFault(t *testing.T) {
	s := serve(t, "HTTP/1.1", answers(200))
	tr := newTransport(t, s, quick())
	req := s.request(t, "GET", "")
	req.Header["Bad Name"] = []string{"x"}
	_, err := tr.RoundTrip(req)
	assert.ErrorIs(t, err, fault.Invalid)
	assert.Zero(t, tr.Inspect()[0].Failures)
}

func TestASchemeOfItsOwnGoesToTheBase(t *testing.T) {
	base := &http.Transport{}
	for _, scheme := range []string{"file", "ftp"} {
		base.RegisterProtocol(scheme, http.NewFileTransport(http.Dir(t.TempDir())))
	}
	tr, err := resiliencehttp.New(quick(), resiliencehttp.WithBase(base))
	require.NoError(t, err)
	for _, url := range []string{"file:///none", "ftp://files.test/none"} {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		resp, err := tr.RoundTrip(req)
		require.NoError(t, err)
		assert.Equal(t, 404, resp.StatusCode)
		require.NoError(t, resp.Body.Close())
	}
	_, err = tr.RoundTrip(&http.Request{})
	require.Error(t, err)
	assert.Empty(t, tr.Inspect())
}

// A Transport on a Transport makes no more attempts than one.
func TestNestedTransportsDoNotMultiply(t *testing.T) {
	s := serve(t, "HTTP/1.1", answers(503))
	outer := newTransport(t, s, quick(), resiliencehttp.WithBase(newTransport(t, s, quick())))
	resp, err := outer.RoundTrip(s.request(t, "GET", ""))
	require.NoError(t, err)
	assert.Equal(t, "answer 3", read(t, resp))
	assert.EqualValues(t, 3, s.hits.Load())
	name, attempts := resiliencehttp.Answered(resp)
	assert.Equal(t, 3, attempts)
	assert.Regexp(t, `^(127\.0\.0\.1-\d+)$`, name)
}

func TestTheRetryBudgetIsTheHosts(t *testing.T) {
	p := quick()
	p.RetryBudget, p.Breaker = 0.1, resilience.Breaker{}
	s := serve(t, "HTTP/1.1", answers(503))
	tr := newTransport(t, s, p)
	for range 50 {
		resp, err := tr.RoundTrip(s.request(t, "GET", ""))
		require.NoError(t, err)
		assert.NotEmpty(t, read(t, resp))
	}
	assert.LessOrEqual(t, s.hits.Load(), int64(50+10+5))
}
