// Package sim holds what the wire-level simulators of providers share: a loopback server that can be told to fail in
// the ways a network and a provider fail, and a ledger of what it accepted, by which a test proves that nothing was
// lost and nothing was done twice.
//
// A simulator is a [Provider]: it judges a request and says what it would answer and do. The [Server] around it decides,
// by its [Script], whether that happens, and whether the caller ever hears of it:
//
//	srv := sim.NewServer(sim.Config{}, provider)
//	defer srv.Close()
//	srv.Next(sim.Step{Status: 503}, sim.Step{Reset: sim.AfterActing})
//	srv.Always(sim.Step{Hang: sim.BeforeActing})
//	srv.Heal()
//
// Simulators check what the provider's documents say it checks. They are strict where the documents are, and a rule's
// comment names its source.
package sim

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Provider judges one request, whose body was read into body. It must not act by itself: what it would do it hands
// back as [Reply.Act]. It's called from many goroutines at once.
type Provider func(r *http.Request, body []byte) Reply

// Reply is what a provider would answer, and what it would do.
type Reply struct {
	Status int // 0 is 200
	Header http.Header
	Body   string
	Act    func() // nil where the request was refused
}

// Config says how a [Server] listens.
type Config struct {
	// HTTP2 serves HTTP/2 over TLS; only [Server.Client] trusts the certificate. The zero value is HTTP/1.1 in the clear.
	HTTP2 bool
	// MaxBody bounds what is kept of a request's body, in bytes. A provider sees one byte more than that of a longer
	// body, so that it can tell. Zero is 64 MiB.
	MaxBody int64
}

const defaultMaxBody = 64 << 20

// Server is a provider on a loopback port. It's safe for concurrent use.
type Server struct {
	Script
	URL string // without a trailing slash

	http     *httptest.Server
	provider Provider
	maxBody  int64
	requests atomic.Int64
	closed   chan struct{}
	closing  sync.Once
}

// NewServer starts a server, which [Server.Close] ends. It panics where no loopback port can be had.
func NewServer(cfg Config, p Provider) *Server {
	s := &Server{provider: p, maxBody: cfg.MaxBody, closed: make(chan struct{})}
	if s.maxBody == 0 {
		s.maxBody = defaultMaxBody
	}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	if cfg.HTTP2 {
		s.http.EnableHTTP2 = true
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	s.URL = s.http.URL
	return s
}

// Client is an HTTP client without a timeout that trusts the server. Close shuts its connections.
func (s *Server) Client() *http.Client { return s.http.Client() }

// Requests is how many requests arrived, those included that were refused, that broke off, or that hang.
func (s *Server) Requests() int { return int(s.requests.Load()) }

// Close breaks off what hangs or waits, ends the server and returns when no goroutine of it is left. Further calls do
// nothing.
func (s *Server) Close() {
	s.closing.Do(func() {
		close(s.closed)
		s.http.Close()
	})
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	body, err := io.ReadAll(io.LimitReader(r.Body, s.maxBody+1))
	if err != nil {
		abort(w) // The caller broke off: nobody is left to be answered, and half a request is none.
		return
	}
	step := s.take()
	if !s.wait(step.Delay) {
		abort(w)
		return
	}
	s.play(w, r, body, step)
}

// play is the order in which a step happens: what comes before acting, the acting, what comes after it, the answer.
func (s *Server) play(w http.ResponseWriter, r *http.Request, body []byte, step Step) {
	if s.cutOff(w, r, step, BeforeActing) {
		return
	}
	reply := s.act(r, body, step)
	if s.cutOff(w, r, step, AfterActing) {
		return
	}
	reply = step.reshape(reply)
	if step.Hang == MidAnswer || step.Reset == MidAnswer {
		half(w, reply)
		s.cutOff(w, r, step, MidAnswer)
		return
	}
	answer(w, reply)
}

func (s *Server) act(r *http.Request, body []byte, step Step) Reply {
	if step.Status != 0 && !step.Acted {
		return Reply{}
	}
	reply := s.provider(r, body)
	if reply.Act != nil {
		reply.Act()
	}
	return reply
}

// cutOff hangs or resets where the step says so for this moment, and reports whether it did.
func (s *Server) cutOff(w http.ResponseWriter, r *http.Request, step Step, now When) bool {
	if step.Hang == now {
		select {
		case <-r.Context().Done(): // The caller gave up.
		case <-s.closed:
		}
	}
	if step.Hang == now || step.Reset == now {
		abort(w)
		return true
	}
	return false
}

// wait goes on after d whether or not the caller is still there, as a provider does; it is false where the server
// closed meanwhile.
func (s *Server) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.closed:
		return false
	}
}

// half answers with a body of which the second half is promised and doesn't come.
func half(w http.ResponseWriter, reply Reply) {
	if reply.Body == "" {
		reply.Body = "  "
	}
	reply.Header.Set("Content-Length", strconv.Itoa(len(reply.Body)))
	reply.Body = reply.Body[:len(reply.Body)/2]
	answer(w, reply)
	_ = http.NewResponseController(w).Flush() // Both protocols can.
}

func answer(w http.ResponseWriter, reply Reply) {
	for name, values := range reply.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	if reply.Body != "" && w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(reply.Status)
	_, _ = io.WriteString(w, reply.Body) // A caller that has gone is not the server's trouble.
}

// abort breaks the connection off with a TCP reset, so that the caller sees an error at once and not a clean end. Under
// HTTP/2, where other requests share the connection, it resets the stream.
func abort(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = wrapped.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
