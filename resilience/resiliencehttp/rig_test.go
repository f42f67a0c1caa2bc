package resiliencehttp_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/resiliencehttp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var protocols = []string{"HTTP/1.1", "HTTP/2.0"}

// quick is the default policy with waits that nobody notices, and no randomness.
func quick() resilience.Policy {
	p := resilience.Default
	p.Backoff = resilience.Backoff{Initial: time.Millisecond}
	return p
}

// service is the far side: it counts what reaches it, and answers as its handler
// says.
type service struct {
	url   string
	base  *http.Transport
	hits  atomic.Int64
	conns atomic.Int64
}

func (s *service) handler(fn func(w http.ResponseWriter, r *http.Request, n int)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fn(w, r, int(s.hits.Add(1))) })
}

// serve is a server on the loopback. The handler is told which request it is, from 1.
func serve(t *testing.T, protocol string, fn func(w http.ResponseWriter, r *http.Request, n int)) *service {
	t.Helper()
	s := &service{}
	srv := httptest.NewUnstartedServer(s.handler(fn))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			s.conns.Add(1)
		}
	}
	if protocol == "HTTP/2.0" {
		srv.EnableHTTP2 = true
		srv.StartTLS()
	} else {
		srv.Start()
	}
	s.url, s.base = srv.URL, srv.Client().Transport.(*http.Transport)
	t.Cleanup(func() {
		s.base.CloseIdleConnections()
		srv.CloseClientConnections()
		srv.Close()
	})
	return s
}

// serveInBubble is a server without a network, for tests in virtual time.
func serveInBubble(t *testing.T, protocol string, fn func(w http.ResponseWriter, r *http.Request, n int)) *service {
	t.Helper()
	s := &service{url: "http://service.test"}
	wire := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	p := new(http.Protocols)
	p.SetHTTP1(protocol == "HTTP/1.1")
	p.SetUnencryptedHTTP2(protocol == "HTTP/2.0")
	srv := &http.Server{Handler: s.handler(fn), Protocols: p, ReadHeaderTimeout: time.Hour}
	s.base = &http.Transport{Protocols: p, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		s.conns.Add(1)
		return wire.dial(ctx)
	}}
	go func() { _ = srv.Serve(wire) }()
	t.Cleanup(func() {
		_ = srv.Close()
		s.base.CloseIdleConnections()
		synctest.Wait()
	})
	return s
}

// pipes is a listener in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, errors.New("refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.once.Do(func() { close(p.closed) }); return nil }

func (p *pipes) Addr() net.Addr { return &net.IPAddr{} }

// onBoth runs a test over both protocols, in virtual time.
func onBoth(t *testing.T, test func(t *testing.T, protocol string)) {
	for _, p := range protocols {
		t.Run(p, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, p) })
		})
	}
}

func newTransport(t *testing.T, s *service, p resilience.Policy, options ...resiliencehttp.Option) *resiliencehttp.Transport {
	t.Helper()
	tr, err := resiliencehttp.New(p, append([]resiliencehttp.Option{resiliencehttp.WithBase(s.base)}, options...)...)
	require.NoError(t, err)
	return tr
}

func (s *service) request(t *testing.T, method, body string) *http.Request {
	t.Helper()
	var b io.Reader
	if body != "" {
		b = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.url, b)
	require.NoError(t, err)
	return req
}

// read reads a response to its end.
func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	assert.NoError(t, err)
	assert.NoError(t, resp.Body.Close())
	return string(b)
}

// tracked is a body that knows how often it was closed, and gives nothing then.
type tracked struct {
	io.Reader
	closed atomic.Int64
}

func (b *tracked) Read(p []byte) (int, error) {
	if b.closed.Load() > 0 {
		return 0, errors.New("read after Close")
	}
	return b.Reader.Read(p)
}

func (b *tracked) Close() error { b.closed.Add(1); return nil }

// answers gives one status after the other, then the last again and again.
func answers(statuses ...int) func(http.ResponseWriter, *http.Request, int) {
	return func(w http.ResponseWriter, r *http.Request, n int) {
		_, _ = io.Copy(io.Discard, r.Body)
		status := statuses[min(n, len(statuses))-1]
		if status == 0 {
			panic(http.ErrAbortHandler) // the connection or stream breaks off
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "answer "+string(rune('0'+n)))
	}
}

// goroutinesStarted counts those since the process began.
func goroutinesStarted() uint64 {
	s := []metrics.Sample{{Name: "/sched/goroutines-created:goroutines"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
