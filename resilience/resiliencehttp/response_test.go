package resiliencehttp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/resiliencehttp"
)

// A connection that was switched to another protocol is the caller's: no slot, no
// limit on silence.
func TestASwitchedProtocolIsHandedOver(t *testing.T) {
	s := serve(t, "HTTP/1.1", func(w http.ResponseWriter, _ *http.Request, _ int) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(conn, rw)
	})
	p := quick()
	p.Concurrency, p.Timeout, p.Breaker, p.Silence = 1, 50*time.Millisecond, resilience.Breaker{}, 50*time.Millisecond
	tr := newTransport(t, s, p)
	req := s.request(t, "GET", "")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := tr.RoundTrip(req)
	require.NoError(t, err)
	assert.Equal(t, 101, resp.StatusCode)
	assert.Zero(t, tr.Inspect()[0].InFlight)
	conn, ok := resp.Body.(io.ReadWriteCloser)
	require.True(t, ok, "it can be written to")
	time.AfterFunc(150*time.Millisecond, func() { _, _ = io.WriteString(conn, "hello\n") })
	line, err := bufio.NewReader(conn).ReadString('\n') // longer than Timeout and Silence
	require.NoError(t, err)
	assert.Equal(t, "hello\n", line)
	require.NoError(t, conn.Close())
}

func TestRedirectsAndCookies(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := serve(t, protocol, func(w http.ResponseWriter, r *http.Request, n int) {
				switch {
				case n%2 == 1: // each hop fails first
					w.WriteHeader(503)
				case r.URL.Path == "/":
					http.SetCookie(w, &http.Cookie{Name: "session", Value: "s1"})
					http.Redirect(w, r, "/next?page=2", http.StatusTemporaryRedirect)
				default:
					c, err := r.Cookie("session")
					if assert.NoError(t, err) {
						b, _ := io.ReadAll(r.Body)
						_, _ = fmt.Fprint(w, r.URL, " ", c.Value, " ", string(b))
					}
				}
			})
			jar, _ := cookiejar.New(nil)
			client := &http.Client{Transport: newTransport(t, s, quick()), Jar: jar}
			req := s.request(t, "PUT", "payload")
			req.URL.Path = "/"
			resp, err := client.Do(req)
			require.NoError(t, err)
			assert.Equal(t, "/next?page=2 s1 payload", read(t, resp))
			assert.Equal(t, "/next", resp.Request.URL.Path)
			assert.EqualValues(t, 4, s.hits.Load())
		})
	}
}

func TestTrailersAndEarlyHintsReachTheCaller(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := serve(t, protocol, func(w http.ResponseWriter, _ *http.Request, _ int) {
				w.Header().Set("Link", "</style.css>")
				w.WriteHeader(http.StatusEarlyHints)
				w.Header().Set("Trailer", "Checksum")
				_, _ = io.WriteString(w, "content")
				w.Header().Set("Checksum", "c1")
			})
			hints := 0
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil },
			})
			resp, err := newTransport(t, s, quick()).RoundTrip(s.request(t, "GET", "").WithContext(ctx))
			require.NoError(t, err)
			assert.Equal(t, "content", read(t, resp))
			assert.Equal(t, "c1", resp.Trailer.Get("Checksum"))
			assert.Equal(t, 1, hints)
		})
	}
}

// announces is a body that says at its end what the trailer is.
type announces struct {
	io.Reader
	end func()
}

func (b *announces) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		b.end()
	}
	return n, err
}

func TestARequestsTrailerIsKnownWhenItsBodyHasEnded(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := serve(t, protocol, func(w http.ResponseWriter, r *http.Request, _ int) {
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(w, r.Trailer.Get("Checksum"))
			})
			req := s.request(t, "PUT", "payload")
			req.Trailer = http.Header{"Checksum": nil}
			req.ContentLength = -1
			req.Body = io.NopCloser(&announces{req.Body, func() { req.Trailer.Set("Checksum", "c1") }})
			resp, err := newTransport(t, s, quick()).RoundTrip(req)
			require.NoError(t, err)
			assert.Equal(t, "c1", read(t, resp))
		})
	}
}

// The response comes while the request's body is on its way, which goes on.
func TestBothBodiesMayBeOnTheirWayAtOnce(t *testing.T) {
	s := serve(t, "HTTP/2.0", func(w http.ResponseWriter, r *http.Request, _ int) {
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(flushing{w}, r.Body)
	})
	ours, theirs := io.Pipe()
	req := s.request(t, "POST", "")
	req.Body = ours
	resp, err := newTransport(t, s, quick()).RoundTrip(req)
	require.NoError(t, err)
	in := bufio.NewReader(resp.Body)
	for _, word := range []string{"one\n", "two\n"} {
		_, _ = io.WriteString(theirs, word)
		got, err := in.ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, word, got)
	}
	require.NoError(t, theirs.Close())
	assert.Empty(t, read(t, resp))
}

type flushing struct{ http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	_ = http.NewResponseController(f.ResponseWriter).Flush()
	return n, err
}

// The host answers without waiting for the rest of the body, whose Read then ends
// with an error that is nobody's fault.
func TestAnEarlyAnswerIsWholeThoughTheBodyIsNot(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := serve(t, protocol, func(w http.ResponseWriter, _ *http.Request, _ int) {
				w.Header().Set("Connection", "close")
				w.WriteHeader(413)
				_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
			})
			ours, theirs := io.Pipe()
			defer theirs.Close()
			req := s.request(t, "POST", "")
			req.Body = ours
			go func() { _, _ = theirs.Write([]byte("some")) }()
			tr := newTransport(t, s, quick())
			resp, err := tr.RoundTrip(req)
			require.NoError(t, err)
			assert.Equal(t, 413, resp.StatusCode)
			assert.Len(t, read(t, resp), 100_000)
			assert.Zero(t, tr.Inspect()[0].Failures)
			require.Eventually(t, func() bool { _, err := theirs.Write([]byte("x")); return err != nil }, time.Second, time.Millisecond, "it was closed")
		})
	}
}

func TestACallersOwnBodyThatFailsIsNotTheHostsFault(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := serve(t, protocol, func(_ http.ResponseWriter, r *http.Request, _ int) { _, _ = io.Copy(io.Discard, r.Body) })
			broken := errors.New("the disk is gone")
			body := &tracked{Reader: io.MultiReader(strings.NewReader("some"), errorReader{broken})}
			req := s.request(t, "PUT", "")
			req.Body = body
			tr := newTransport(t, s, quick())
			_, err := tr.RoundTrip(req)
			assert.ErrorIs(t, err, broken)
			assert.ErrorIs(t, err, fault.Canceled)
			assert.True(t, fault.MayHaveActed(err))
			assert.Zero(t, tr.Inspect()[0].Failures)
			assert.Positive(t, body.closed.Load())
			assert.LessOrEqual(t, s.hits.Load(), int64(1))
		})
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

func TestAPanicGoesOnAndNothingStaysTaken(t *testing.T) {
	s := serve(t, "HTTP/1.1", answers(200))
	for name, c := range map[string]resiliencehttp.Option{
		"in the base":       resiliencehttp.WithBase(roundTripper(func(*http.Request) (*http.Response, error) { panic("spoilt") })),
		"in the classifier": resiliencehttp.WithClassifier(func(*http.Response) (fault.Kind, bool) { panic("spoilt") }),
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTransport(t, s, quick(), c)
			b := &tracked{Reader: strings.NewReader("payload")}
			req := s.request(t, "POST", "")
			req.Body = b
			assert.PanicsWithValue(t, "spoilt", func() { _, _ = tr.RoundTrip(req) })
			assert.Equal(t, 1, tr.Inspect()[0].Failures)
			assert.Positive(t, b.closed.Load())
			assert.Zero(t, tr.Inspect()[0].InFlight)
		})
	}
}

func TestAGoexitLeavesNothingTaken(t *testing.T) {
	tr, err := resiliencehttp.New(quick(), resiliencehttp.WithBase(roundTripper(func(*http.Request) (*http.Response, error) {
		runtime.Goexit()
		panic("not reached")
	})))
	require.NoError(t, err)
	body, done := &tracked{Reader: strings.NewReader("payload")}, make(chan struct{})
	go func() {
		defer close(done)
		req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://service.test", body)
		_, _ = tr.RoundTrip(req)
	}()
	<-done
	assert.Zero(t, tr.Inspect()[0].InFlight)
	assert.EqualValues(t, 1, body.closed.Load())
}

// Whatever net/http or another transport quotes stays out of the error's text.
func TestErrorsHoldNoSecrets(t *testing.T) {
	raw := func(answer string) func(http.ResponseWriter, *http.Request, int) {
		return func(w http.ResponseWriter, _ *http.Request, _ int) {
			conn, _, _ := http.NewResponseController(w).Hijack()
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}
	fails := func(err error) resiliencehttp.Option {
		return resiliencehttp.WithBase(roundTripper(func(*http.Request) (*http.Response, error) { return nil, err }))
	}
	const secret = "hunter2"
	for name, c := range map[string]struct {
		answer string
		option resiliencehttp.Option
		says   string
	}{
		"a malformed response":      {answer: "hunter2 is the body\r\n\r\n", says: "malformed HTTP"},
		"a malformed status":        {answer: "HTTP/1.1 hunter2 OK\r\n\r\n", says: "malformed HTTP status code"},
		"a malformed header":        {answer: "HTTP/1.1 200 OK\r\nhunter2 in a header\r\n\r\n", says: "malformed header"},
		"a URL within":              {option: fails(&url.Error{Op: "Get", URL: "https://a?key=hunter2", Err: errors.New("no luck")}), says: "no luck"},
		"a URL in the text":         {option: fails(errors.New("cannot reach https://me:hunter2@api.example.com/v1?key=hunter2#hunter2 now")), says: "https://api.example.com/v1 now"},
		"a body in the text":        {option: fails(errors.New("cannot fetch token: 401\nResponse: hunter2")), says: "cannot fetch token: 401"},
		"a quotation in the text":   {option: fails(errors.New(`parse "hunter2 and \"hunter2": no`)), says: "parse …: no"},
		"a quotation without end":   {option: fails(errors.New(`parse "hunter2`)), says: "parse …"},
		"a very long text, cut off": {option: fails(errors.New(strings.Repeat("é", 100) + "hunter2")), says: "é…"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "HTTP/1.1", raw(c.answer))
			options := []resiliencehttp.Option{}
			if c.option != nil {
				options = append(options, c.option)
			}
			req := s.request(t, "POST", "my hunter2 payload")
			req.URL.RawQuery, req.URL.User = "key=hunter2", url.UserPassword("me", secret)
			req.Header.Set("Authorization", "Bearer hunter2")
			_, err := newTransport(t, s, quick(), options...).RoundTrip(req)
			require.Error(t, err)
			assert.ErrorContains(t, err, c.says)
			assert.NotContains(t, err.Error(), secret)
		})
	}
}

func TestADeadHostIsToldApartFromABrokenOne(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	tr, err := resiliencehttp.New(quick())
	require.NoError(t, err)
	defer tr.CloseIdleConnections()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/path?key=hunter2", strings.NewReader("x"))
	_, err = tr.RoundTrip(req)
	assert.ErrorIs(t, err, fault.Unavailable)
	assert.False(t, fault.MayHaveActed(err))
	var op *net.OpError
	assert.ErrorAs(t, err, &op)
	f, _ := fault.As(err)
	assert.Equal(t, 3, f.Attempts)
	assert.NotContains(t, err.Error(), "hunter2")
	assert.NotContains(t, err.Error(), "/path")
}

// A starter's context reaches the request, and with it a span.
func TestAnObserversContextReachesTheRequest(t *testing.T) {
	type spanKey struct{}
	var got any
	base := roundTripper(func(r *http.Request) (*http.Response, error) {
		got = r.Context().Value(spanKey{})
		_, has := r.Context().Deadline()
		assert.True(t, has, "the caller's deadline can be seen")
		return &http.Response{StatusCode: 200}, nil // as fakes do
	})
	tr, err := resiliencehttp.New(quick(), resiliencehttp.WithBase(base), resiliencehttp.WithObserver(starter{spanKey{}}))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://service.test", nil)
	resp, err := tr.RoundTrip(req)
	require.NoError(t, err)
	assert.Equal(t, "span", got)
	assert.Empty(t, read(t, resp))
	assert.Equal(t, req.URL, resp.Request.URL)
}

type starter struct{ key any }

func (starter) Observe(context.Context, resilience.Event) {}

func (s starter) Start(ctx context.Context, _ resilience.Event) context.Context {
	return context.WithValue(ctx, s.key, "span")
}

// Injected faults stand in the place of a response, which is closed unseen.
func TestAnInjectedFaultIsNotHiddenByAnEarlierResponse(t *testing.T) {
	s := serve(t, "HTTP/1.1", answers(503))
	tr := newTransport(t, s, quick(), resiliencehttp.WithObserver(&injector{from: 2}))
	_, err := tr.RoundTrip(s.request(t, "GET", ""))
	assert.ErrorContains(t, err, "injected (2 times)")
	assert.EqualValues(t, 1, s.hits.Load())
}

type injector struct{ n, from int }

func (*injector) Observe(context.Context, resilience.Event) {}

func (i *injector) Inject(context.Context, resilience.Event) (instead, after error) {
	if i.n++; i.n >= i.from {
		return fault.New(fault.Unavailable, errors.New("injected")), nil
	}
	return nil, nil
}
