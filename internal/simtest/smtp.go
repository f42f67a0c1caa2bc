package simtest

import (
	"strings"
	"testing"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/internal/sim/smtp"
)

// SMTP is a simulated server, with the way to it. It expects tags in TagHeader
// and metadata in fields that begin with MetadataPrefix.
type SMTP struct {
	Network
	// Credentials is a gate for the adapter's source of the password.
	Credentials Gate

	server *smtp.Sim
	quote  string
}

// The header fields that carry labels.
const (
	TagHeader      = "X-Tag"
	MetadataPrefix = "X-Meta-"
)

// NewSMTP is the way to a server, which is closed with t. What the server refuses
// it refuses with a text that quotes the mail and the secrets.
func NewSMTP(t testing.TB, server *smtp.Sim, secrets ...string) *SMTP {
	t.Helper()
	t.Cleanup(server.Close)
	return &SMTP{server: server, quote: emailtest.Quote(secrets...)}
}

// Subject is a Sender in front of the server, for the suite. There is a place to
// wait at every command.
func (s *SMTP) Subject(sender email.Sender, name string, secrets ...string) emailtest.Subject {
	waits := map[string]emailtest.Wait{
		"a connection":    {Begin: func() { s.server.Drop(); s.Stick() }},
		"the credentials": {Begin: func() { s.server.Drop(); s.Credentials.Shut() }},
	}
	for _, at := range []string{smtp.Connect, "EHLO", "STARTTLS", smtp.TLS, "AUTH", "MAIL", "RCPT", "DATA"} {
		waits[at] = emailtest.Wait{Begin: func() { s.server.Drop(); s.server.Always(smtp.Step{At: at, Hang: true}) }}
	}
	return emailtest.Subject{
		Sender: sender, Name: name, Sent: s.Sent, Break: s.Break, Heal: s.Heal, Waits: waits, Secrets: secrets,
		Lacks: []emailtest.Feature{emailtest.SendAt},
	}
}

// Heal ends every trouble.
func (s *SMTP) Heal() {
	s.Restore()
	s.Credentials.Open()
	s.server.Heal()
}

// Break begins a trouble. Where it comes before a mail, open connections are
// dropped: who is in stays in.
func (s *SMTP) Break(trouble emailtest.Trouble) bool {
	switch trouble { //nolint:exhaustive // the others are steps
	case emailtest.Unreachable:
		s.Cut()
		s.server.Drop()
		return true
	case emailtest.Unresolvable:
		s.Lose()
		s.server.Drop()
		return true
	case emailtest.NoCredentials:
		s.Credentials.Break()
		s.server.Drop()
		return true
	case emailtest.BadCredentials:
		s.server.Drop()
	}
	step, ok := map[emailtest.Trouble]smtp.Step{
		emailtest.BadCredentials: {At: "AUTH", Reply: "535 5.7.8 " + s.quote},
		emailtest.ServerError:    {At: smtp.End, Reply: "451 4.3.0 " + s.quote},
		emailtest.Throttled:      {At: "MAIL", Reply: "450 4.7.1 " + s.quote},
		emailtest.Blocked:        {At: smtp.End, Reply: "554 5.7.1 " + s.quote},
		emailtest.Unlisted:       {At: smtp.End, Reply: "579 5.9.9 " + s.quote},
		emailtest.Hang:           {At: smtp.End, Hang: true},
		emailtest.Reset:          {At: smtp.End, Drop: sim.BeforeActing},
		emailtest.ResetAfter:     {At: smtp.End, Drop: sim.AfterActing},
		emailtest.Garbled:        {At: smtp.End, Acted: true, Reply: "nonsense " + s.quote},
		emailtest.Slow:           {At: smtp.End, Delay: 150 * time.Millisecond},
	}[trouble]
	if ok {
		s.server.Always(step)
	}
	return ok
}

// Sent decodes what the server took.
func (s *SMTP) Sent() []*email.Message {
	taken := s.server.Mails.All()
	out := make([]*email.Message, len(taken))
	for i, m := range taken {
		out[i] = Labelled(Message(m.Mail))
	}
	return out
}

// Labelled reads tags and metadata back from the fields that carry them.
func Labelled(m *email.Message) *email.Message {
	for name, value := range m.Headers {
		if name == TagHeader {
			m.Tags = strings.Split(value, ", ")
		}
		if key, ok := strings.CutPrefix(name, MetadataPrefix); ok {
			if m.Metadata == nil {
				m.Metadata = map[string]string{}
			}
			m.Metadata[strings.ToLower(key)] = value
		}
	}
	return m
}
