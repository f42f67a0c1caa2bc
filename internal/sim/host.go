package sim

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"
)

// Host serves a handler on a loopback port that stays the same when the host is killed and restarted, so that the
// handler's state outlives its server. It's safe for concurrent use.
type Host struct {
	URL string // without a trailing slash

	handler http.Handler
	http2   bool
	client  *http.Client

	mu     sync.Mutex
	server *httptest.Server // nil while it's down
	kill   context.CancelFunc
}

// NewHost starts a host, which [Host.Close] ends: HTTP/1.1 in the clear, or HTTP/2 over TLS that only [Host.Client]
// trusts. It panics where no loopback port can be had.
func NewHost(h http.Handler, http2 bool) *Host {
	host := &Host{handler: h, http2: http2}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(fmt.Sprintf("sim: listen on a loopback port: %v", err))
	}
	host.serve(listener)
	host.URL, host.client = host.server.URL, host.server.Client()
	return host
}

type killedKey struct{}

// killed is closed when the host that serves the request of ctx is killed; nil, which never is, without a host.
func killed(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(killedKey{}).(<-chan struct{})
	return c
}

func (h *Host) serve(listener net.Listener) {
	ctx, kill := context.WithCancel(context.Background())
	server := httptest.NewUnstartedServer(h.handler)
	_ = server.Listener.Close()
	server.Listener = listener
	server.Config.BaseContext = func(net.Listener) context.Context {
		return context.WithValue(context.Background(), killedKey{}, ctx.Done())
	}
	if h.http2 {
		server.EnableHTTP2 = true
		server.StartTLS()
	} else {
		server.Start()
	}
	h.server, h.kill = server, kill
}

// Client trusts the host and has no timeout.
func (h *Host) Client() *http.Client { return h.client }

// Kill breaks off all connections and what waits or stalls, as the end of the process would; nothing listens then.
func (h *Host) Kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.server == nil {
		return
	}
	h.kill()
	_ = h.server.Listener.Close()
	h.server.CloseClientConnections()
	h.server.Close()
	h.server = nil
}

// Restart listens at the same address again. It panics where somebody else took it meanwhile.
func (h *Host) Restart() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.server != nil {
		return
	}
	address := h.URL[len("http://"):]
	if h.http2 {
		address = h.URL[len("https://"):]
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		panic(fmt.Sprintf("sim: listen on %s again: %v", address, err))
	}
	h.serve(listener)
}

// Close ends the host for good.
func (h *Host) Close() {
	h.Kill()
	h.client.CloseIdleConnections()
}

// Clock is a clock that a test sets. It's safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock stands at now.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now is where it stands.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves it by d.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
