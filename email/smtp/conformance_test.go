package smtp_test

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/smtp"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/smtp"
	"github.com/smilefactory/integrations/secret"
)

func TestConformance(t *testing.T) {
	for name, cfg := range map[string]smtp.Config{
		"with headers for labels":    {TagHeader: "X-Tag", MetadataHeaderPrefix: "X-Meta-"},
		"without headers for labels": {},
	} {
		t.Run(name, func(t *testing.T) {
			emailtest.Run(t, func(t *testing.T) emailtest.Subject { return open(t, simulator.Config{}, cfg).subject(cfg) })
		})
	}
}

const user, password = "ada", "pass-word-1"

// bench is a Sender in front of a simulator.
type bench struct {
	*smtp.Sender
	sim  *simulator.Sim
	down atomic.Bool // no connection can be had
}

// open fills in what the configurations need to fit each other.
func open(t *testing.T, server simulator.Config, cfg smtp.Config) *bench {
	t.Helper()
	server.Username, server.Password = user, password
	b := &bench{sim: simulator.New(server)}
	t.Cleanup(b.sim.Close)
	if cfg.Addr == "" {
		cfg.Addr = b.sim.Addr
	}
	if cfg.Username == "" {
		cfg.Username, cfg.Password = user, secret.Literal(password)
	}
	if cfg.TLSConfig == nil {
		cfg.TLSConfig = &tls.Config{RootCAs: b.sim.Pool, MinVersion: tls.VersionTLS12}
	}
	cfg.Dial = b.dial
	var err error
	b.Sender, err = smtp.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func (b *bench) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if b.down.Load() {
		return nil, syscall.ECONNREFUSED
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func (b *bench) subject(cfg smtp.Config) emailtest.Subject {
	s := emailtest.Subject{
		Sender: b.Sender, Name: "smtp", Sent: b.sent, Break: b.breakIt, Lacks: []emailtest.Feature{emailtest.SendAt},
		Heal: func() {
			b.down.Store(false)
			b.sim.SetPassword(password)
			b.sim.Heal()
		},
	}
	if cfg.TagHeader == "" {
		s.Lacks = append(s.Lacks, emailtest.Tags, emailtest.Metadata)
	}
	return s
}

func (b *bench) breakIt(trouble emailtest.Trouble) bool {
	switch trouble {
	case emailtest.Unreachable:
		b.down.Store(true)
		b.sim.Drop() // and what is open
	case emailtest.BadCredentials:
		b.sim.SetPassword("another")
		b.sim.Drop() // who is in stays in
	default:
		step, ok := map[emailtest.Trouble]simulator.Step{
			emailtest.ServerError: {At: simulator.End, Reply: "451 4.3.0 local error"},
			emailtest.Throttled:   {At: "MAIL", Reply: "450 4.7.1 too much mail"},
			emailtest.Blocked:     {At: simulator.End, Reply: "554 5.7.1 spam"},
			emailtest.Hang:        {At: simulator.End, Hang: true},
			emailtest.Reset:       {At: simulator.End, Drop: sim.BeforeActing},
			emailtest.ResetAfter:  {At: simulator.End, Drop: sim.AfterActing},
			emailtest.Garbled:     {At: simulator.End, Acted: true, Reply: "nonsense"},
			emailtest.Slow:        {At: simulator.End, Delay: 150 * time.Millisecond},
		}[trouble]
		if !ok {
			return false
		}
		b.sim.Always(step)
	}
	return true
}

func (b *bench) sent() []*email.Message {
	var out []*email.Message
	for _, m := range b.sim.Mails.All() {
		out = append(out, decode(m))
	}
	return out
}

func decode(m simulator.Mail) *email.Message {
	out := &email.Message{
		ID: m.ID, From: m.From, To: m.To, Cc: m.Cc, Bcc: m.Bcc, ReplyTo: m.ReplyTo, Subject: m.Subject, Text: m.Text, HTML: m.HTML,
		Headers: m.Headers,
	}
	for name, value := range m.Headers {
		if name == "X-Tag" {
			out.Tags = strings.Split(value, ", ")
		}
		if key, ok := strings.CutPrefix(name, "X-Meta-"); ok {
			if out.Metadata == nil {
				out.Metadata = map[string]string{}
			}
			out.Metadata[strings.ToLower(key)] = value
		}
	}
	for _, a := range m.Attachments {
		out.Attachments = append(out.Attachments, email.Attachment{Name: a.Name, ContentType: a.Type, ContentID: a.ContentID, Data: a.Data})
	}
	return out
}
