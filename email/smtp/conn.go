package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	client "github.com/wneessen/go-mail/smtp"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/secret"
)

// conn is one connection, logged in. One mail at a time uses it.
type conn struct {
	raw    *wire
	client *client.Client
	// password is what it logged in with, which the server might quote.
	password secret.Value
	age      *time.Timer // closes it while it is idle
	used     bool        // it has carried a mail before
	broken   bool        // it must not be used again
}

const (
	// maxWait bounds a connection's setup and a mail, where the context has no
	// deadline: RFC 5321, 4.5.3.2.6, lets a server take 10 minutes for the last reply.
	maxWait = 10 * time.Minute
	// maxAnswers bounds, in bytes, what a server says meanwhile: net/textproto
	// reads lines of any length.
	maxAnswers = 1 << 20
)

// wire is a network connection that a server can't talk to death.
type wire struct {
	net.Conn
	left int
}

func (w *wire) Read(p []byte) (int, error) {
	if w.left <= 0 {
		return 0, errors.New("the server says more than a megabyte")
	}
	n, err := w.Conn.Read(p[:min(len(p), w.left)])
	w.left -= n
	return n, err
}

// watch renews the bounds and lets the end of ctx interrupt whatever waits: the
// client's own Close would wait too.
func (w *wire) watch(ctx context.Context) (stop func() bool) {
	w.left = maxAnswers
	_ = w.SetDeadline(time.Now().Add(maxWait)) // fails on a closed connection, as the next write does
	return context.AfterFunc(ctx, func() { _ = w.Conn.Close() })
}

func (c *conn) close() { _ = c.raw.Close() }

// quit is only good manners: what the server answers changes nothing.
func (c *conn) quit(until time.Time) {
	_ = c.raw.SetDeadline(until)
	_ = c.client.Quit()
	c.close()
}

// connect makes a fresh connection. Whatever fails here, no mail was touched.
func (s *Sender) connect(ctx context.Context) (*conn, error) {
	raw, err := s.cfg.Dial(ctx, "tcp", s.cfg.Addr)
	if err != nil {
		return nil, failure(ctx, atConnect, err)
	}
	c := &conn{raw: &wire{Conn: raw}}
	stop := c.raw.watch(ctx)
	defer stop()
	if err := s.open(ctx, c); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// open says hello, encrypts and logs in.
func (s *Sender) open(ctx context.Context, c *conn) (err error) {
	var transport net.Conn = c.raw
	if s.cfg.TLS == ImplicitTLS {
		t := tls.Client(c.raw, s.tls())
		if err := t.HandshakeContext(ctx); err != nil {
			return failure(ctx, atTLS, err)
		}
		transport = t
	}
	if c.client, err = client.NewClient(transport, s.host); err != nil {
		return failure(ctx, atConnect, err)
	}
	if err := c.client.Hello(s.cfg.HelloName); err != nil {
		return failure(ctx, atHello, err)
	}
	if s.cfg.TLS == STARTTLS {
		if ok, _ := c.client.Extension("STARTTLS"); !ok {
			return fault.New(fault.Denied, errors.New("smtp: the server doesn't offer STARTTLS; nothing is sent in the clear"))
		}
		if err := c.client.StartTLS(s.tls()); err != nil {
			return failure(ctx, atTLS, err)
		}
	}
	return s.login(ctx, c)
}

func (s *Sender) tls() *tls.Config {
	cfg := s.cfg.TLSConfig.Clone()
	if cfg == nil {
		cfg = &tls.Config{}
	}
	if cfg.ServerName == "" {
		cfg.ServerName = s.host
	}
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12) // RFC 8314, section 4.1, as RFC 8997 has it
	return cfg
}

func (s *Sender) login(ctx context.Context, c *conn) error {
	if s.cfg.Username == "" {
		return nil
	}
	_, offered := c.client.Extension("AUTH")
	mechanisms := strings.Fields(strings.ToUpper(offered))
	var err error
	if c.password, err = s.cfg.Password.Secret(ctx); err != nil {
		kind := fault.Denied
		if ctx.Err() != nil {
			kind = fault.Unavailable
		}
		return fault.New(kind, fmt.Errorf("smtp: read Password: %w", err))
	}
	plain := s.cfg.TLS == Plaintext // which New allows on the loopback alone
	var auth client.Auth
	switch {
	case slices.Contains(mechanisms, "PLAIN"):
		auth = client.PlainAuth("", s.cfg.Username, c.password.Reveal(), s.host, plain)
	case slices.Contains(mechanisms, "LOGIN"):
		auth = client.LoginAuth(s.cfg.Username, c.password.Reveal(), s.host, plain)
	default:
		return fault.New(fault.Denied, errors.New("smtp: the server offers neither AUTH PLAIN nor AUTH LOGIN"))
	}
	if err := c.client.Auth(auth); err != nil {
		return failure(ctx, atAuth, err)
	}
	return nil
}
