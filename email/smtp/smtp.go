// Package smtp sends mail through any SMTP server that takes submissions
// (RFC 6409): a provider's, or one's own.
//
//	mail, err := smtp.New(smtp.Config{Addr: "mail.example.com:587", Username: "ada", Password: password})
//	…
//	defer mail.Close()
//
// Connections are encrypted before anything is said, kept open between mails,
// and used by one mail at a time. A server may take a mail for some of its
// recipients only: the receipt then says email.StatusRefused for the others,
// with the server's code. A message's id travels as the header field
// X-Message-Id and in the Message-ID.
//
// SMTP proves more than HTTP: until the message itself was sent, nothing has
// been done, and the server's last reply settles it. Only a connection that
// breaks in between leaves fault.Uncertain.
package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/internal/redact"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
	"github.com/smilefactory/integrations/secret"
)

// TLSMode says how a connection is encrypted.
type TLSMode uint8

const (
	// STARTTLS encrypts after the greeting, as on port 587. A server that
	// doesn't offer it is refused: nothing is ever sent in the clear instead.
	STARTTLS TLSMode = iota
	// ImplicitTLS encrypts from the first octet, as on port 465.
	ImplicitTLS
	// Plaintext doesn't encrypt. It is allowed for loopback addresses only.
	Plaintext
)

// Config says where the server is and how to speak to it. Addr is required.
type Config struct {
	// Addr is "host:port".
	Addr string
	// Username and Password log in, where Username is set. Password is asked
	// for anew with every connection.
	Username string
	Password secret.Source
	// TLS is how connections are encrypted.
	TLS TLSMode
	// TLSConfig is for roots and client certificates; nil trusts the system's.
	TLSConfig *tls.Config
	// Name is the provider in receipts; empty means "smtp".
	Name string
	// PoolSize is how many connections may be open at once; 0 means 4. Further
	// mails wait for one.
	PoolSize int
	// IdleTimeout is how long an unused connection stays open; 0 means 30 s.
	IdleTimeout time.Duration
	// TagHeader is the header field that takes a message's Tags, separated by
	// commas, such as "X-Mailgun-Tag". Empty: mails with Tags are refused.
	TagHeader string
	// MetadataHeaderPrefix and a key make the header field of an entry of
	// Metadata, such as "X-PM-Metadata-". Empty: mails with Metadata are refused.
	MetadataHeaderPrefix string
	// HelloName is what the server is told as our name; empty means the host's.
	HelloName string
	// Dial makes the connections, through a proxy for example; nil means
	// net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Sender is one SMTP server as an email.Sender. It is safe for concurrent use.
type Sender struct {
	cfg  Config
	host string
	pool *pool
}

// New checks the settings; it makes no connection yet.
func New(cfg Config) (*Sender, error) {
	host, port, err := net.SplitHostPort(cfg.Addr)
	if err != nil || host == "" || port == "" {
		return nil, errors.New("smtp: Addr must be host:port")
	}
	if err := check(cfg, host); err != nil {
		return nil, err
	}
	if cfg.Name == "" {
		cfg.Name = "smtp"
	}
	if cfg.PoolSize == 0 {
		cfg.PoolSize = 4
	}
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = 30 * time.Second
	}
	if cfg.HelloName == "" {
		cfg.HelloName = hostname()
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	return &Sender{cfg: cfg, host: host, pool: newPool(cfg.PoolSize, cfg.IdleTimeout)}, nil
}

func check(cfg Config, host string) error {
	switch {
	case cfg.TLS > Plaintext:
		return errors.New("smtp: TLS is not a mode that there is")
	case cfg.TLS == Plaintext && !transport.IsLoopback(host):
		return errors.New("smtp: TLS must not be Plaintext for a host other than the loopback")
	case cfg.Username != "" && cfg.Password == nil:
		return errors.New("smtp: Password is required with Username")
	case cfg.Username == "" && cfg.Password != nil:
		return errors.New("smtp: Username is required with Password")
	case cfg.PoolSize < 0 || cfg.IdleTimeout < 0:
		return errors.New("smtp: PoolSize and IdleTimeout must not be negative")
	case !token(cfg.HelloName) || !token(cfg.TagHeader) || !token(cfg.MetadataHeaderPrefix):
		return errors.New("smtp: HelloName, TagHeader and MetadataHeaderPrefix must be printable ASCII without spaces and colons")
	}
	return nil
}

// token is true for an empty string too. A HelloName may be an address literal,
// "[127.0.0.1]"; one of IPv6 has colons.
func token(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' && s[0] != '[' })
}

func hostname() string {
	if name, err := os.Hostname(); err == nil && name != "" && token(name) {
		return name
	}
	return "localhost"
}

// Name is Config.Name.
func (s *Sender) Name() string { return s.cfg.Name }

// Close says goodbye on the idle connections and closes them; those in use
// close as soon as their mail is through. Later mails are refused.
func (s *Sender) Close() error {
	s.pool.close()
	return nil
}

// Send hands m to the server in one transaction.
func (s *Sender) Send(ctx context.Context, m *email.Message) (*email.Receipt, error) {
	m, err := m.Ready()
	if err != nil {
		return nil, err
	}
	e, err := s.render(m, time.Now())
	if err != nil {
		return nil, err
	}
	if err := s.pool.enter(ctx); err != nil {
		return nil, err
	}
	defer s.pool.leave()
	out, err := s.deliver(ctx, e)
	if err != nil {
		return nil, err
	}
	return s.receipt(m, e, out), nil
}

// deliver uses an idle connection where there is one. Servers close idle
// connections when they like; that shows at MAIL, before anything was done, so
// that a fresh connection is taken without a word.
func (s *Sender) deliver(ctx context.Context, e *envelope) (outcome, error) {
	if c := s.pool.idle(); c != nil {
		out, err := s.use(ctx, c, e)
		if !out.stale || ctx.Err() != nil {
			return out, err
		}
	}
	c, err := s.connect(ctx)
	if err != nil {
		return outcome{}, err
	}
	return s.use(ctx, c, e)
}

// use delivers on a connection and puts it back. What the server's text quotes is
// taken out of it here, where all that is private is known.
func (s *Sender) use(ctx context.Context, c *conn, e *envelope) (outcome, error) {
	defer s.pool.put(c)
	out, err := c.deliver(ctx, e)
	private := append(e.private, c.password.Reveal()) //nolint:gocritic // e is this call's own
	if said, ok := errors.AsType[*Error](err); ok {
		said.Message = redact.Text(said.Message, maxMessage, private...)
	}
	out.id = queueID(out.reply, private)
	return out, err
}

func (s *Sender) receipt(m *email.Message, e *envelope, out outcome) *email.Receipt {
	if out.id == "" {
		out.id = e.messageID // which the server's log names too
	}
	r := email.NewReceipt(m, s.cfg.Name, out.id)
	r.MessageID = e.messageID
	for i := range r.Recipients {
		if at := slices.IndexFunc(out.refused, func(f refused) bool { return f.recipient == i }); at >= 0 {
			r.Recipients[i].Status, r.Recipients[i].Code = email.StatusRefused, out.refused[at].err.code()
		}
	}
	return r
}

// closed is our own refusal of a mail after Close.
func closed() error {
	f := fault.New(fault.Unavailable, fmt.Errorf("smtp: %w", net.ErrClosed))
	f.Local = true
	return f
}
