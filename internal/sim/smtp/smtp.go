// Package smtp simulates a submission server (RFC 5321, RFC 6409) on a loopback port: STARTTLS or TLS from the start,
// AUTH PLAIN and LOGIN, pipelining. It refuses what the RFCs refuse, can be told to fail at any command, and keeps what
// it accepted.
//
//	srv := smtp.New(smtp.Config{Username: "ada", Password: "secret"})
//	defer srv.Close()
//	srv.Next(smtp.Step{At: "RCPT", Reply: "550 5.1.1 no such user"})
//	// … send through srv.Addr, trusting srv.Pool …
//	srv.Mails.All()
package smtp

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
	"sync/atomic"

	"github.com/smilefactory/integrations/internal/sim"
)

// Config says how a server listens and what it offers.
type Config struct {
	// Username and Password are who is let in. Without a Username mail is taken from anybody, and AUTH isn't offered.
	Username, Password string
	// ImplicitTLS speaks TLS from the first octet (RFC 8314, section 3.3) and doesn't offer STARTTLS.
	ImplicitTLS bool
	// NoTLS doesn't offer STARTTLS, and takes mail and passwords in the clear.
	NoTLS bool
	// Mechanisms are what AUTH offers; nil is PLAIN and LOGIN.
	Mechanisms []string
	// SMTPUTF8 offers RFC 6531.
	SMTPUTF8 bool
	// MaxSize is the largest message in octets, offered by SIZE (RFC 1870); 0 is 64 MiB.
	MaxSize int
	// MaxRecipients of a mail; 0 is 1000.
	MaxRecipients int
}

// Mail is a mail that was accepted. Its Bcc are the recipients of the envelope that no header names.
type Mail struct {
	sim.Mail
	Sender     string   // of the envelope
	Recipients []string // of the envelope
	Raw        []byte   // with CRLF, without dot-stuffing
}

// Sim is a running server. It's safe for concurrent use.
type Sim struct {
	Script
	// Addr is host:port.
	Addr string
	// Pool trusts the server's certificate, which is for 127.0.0.1 and localhost.
	Pool *x509.CertPool
	// Mails are those accepted, by the header X-Message-Id.
	Mails sim.Ledger[Mail]

	cfg         Config
	password    atomic.Pointer[string]
	tls         *tls.Config
	listener    net.Listener
	connections atomic.Int64
	closed      chan struct{}
	running     sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{}
}

// New starts a server, which Close ends. It panics where no loopback port can be had.
func New(cfg Config) *Sim {
	if cfg.MaxSize == 0 {
		cfg.MaxSize = 64 << 20
	}
	if cfg.MaxRecipients == 0 {
		cfg.MaxRecipients = 1000
	}
	if cfg.Mechanisms == nil {
		cfg.Mechanisms = []string{"PLAIN", "LOGIN"}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic("sim/smtp: " + err.Error())
	}
	s := &Sim{Addr: l.Addr().String(), cfg: cfg, listener: l, closed: make(chan struct{}), open: map[net.Conn]struct{}{}}
	s.tls, s.Pool = selfSigned()
	s.SetPassword(cfg.Password)
	s.running.Go(s.accept)
	return s
}

// SetPassword replaces the password, as a rotation does. Who is in stays in.
func (s *Sim) SetPassword(password string) { s.password.Store(&password) }

// Connections is how many were ever accepted.
func (s *Sim) Connections() int { return int(s.connections.Load()) }

// Open is how many connections are open now.
func (s *Sim) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Drop breaks off every open connection, as a server that restarts does.
func (s *Sim) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		_ = c.Close()
	}
}

// Close ends the server and returns when no goroutine of it is left. It must be called once.
func (s *Sim) Close() {
	close(s.closed)
	_ = s.listener.Close()
	s.Drop()
	s.running.Wait()
}

func (s *Sim) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.connections.Add(1)
		if !s.enter(conn) {
			_ = conn.Close()
			return
		}
		s.running.Go(func() {
			defer s.leave(conn)
			s.converse(conn)
		})
	}
}

func (s *Sim) enter(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
		return false
	default:
		s.open[conn] = struct{}{}
		return true
	}
}

func (s *Sim) leave(conn net.Conn) {
	s.mu.Lock()
	delete(s.open, conn)
	s.mu.Unlock()
	_ = conn.Close()
}
