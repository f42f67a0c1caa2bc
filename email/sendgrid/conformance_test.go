package sendgrid_test

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/sendgrid"
	"github.com/smilefactory/integrations/secret"
)

func TestConformance(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject { return open(t).subject() })
}

const key = "SG.test-key"

// bench is a Sender in front of a simulator.
type bench struct {
	sendgrid.Sender
	sim  *simulator.Sim
	down atomic.Bool // no connection can be had
}

func open(t *testing.T) *bench {
	t.Helper()
	b := &bench{sim: simulator.New(simulator.Config{Key: key})}
	t.Cleanup(b.sim.Close)
	transport := &http.Transport{MaxIdleConnsPerHost: 16, DialContext: b.dial}
	t.Cleanup(transport.CloseIdleConnections)
	b.Sender = sendgrid.Sender{Key: secret.Literal(key), BaseURL: b.sim.URL, HTTPClient: &http.Client{Transport: transport}}
	return b
}

func (b *bench) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if b.down.Load() {
		return nil, syscall.ECONNREFUSED
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func (b *bench) subject() emailtest.Subject {
	return emailtest.Subject{
		Sender: b.Sender, Name: "sendgrid", Sent: b.sent, Break: b.breakIt,
		Heal: func() {
			b.down.Store(false)
			b.sim.SetKey(key)
			b.sim.Heal()
		},
	}
}

func (b *bench) breakIt(trouble emailtest.Trouble) bool {
	switch trouble {
	case emailtest.Unreachable:
		b.HTTPClient.CloseIdleConnections()
		b.down.Store(true)
	case emailtest.BadCredentials:
		b.sim.SetKey("another")
	default:
		step, ok := map[emailtest.Trouble]sim.Step{
			emailtest.ServerError: simulator.Error(http.StatusInternalServerError, "An unexpected error occurred"),
			emailtest.Throttled:   simulator.RateLimited(time.Now().Add(7 * time.Second)),
			emailtest.Blocked:     simulator.Error(http.StatusBadRequest, "Bad Request"),
			emailtest.Hang:        {Hang: sim.BeforeActing},
			emailtest.Reset:       {Reset: sim.BeforeActing},
			emailtest.ResetAfter:  {Reset: sim.AfterActing},
			emailtest.Garbled:     {Malformed: true},
			emailtest.Slow:        {Delay: 150 * time.Millisecond},
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

func decode(m sim.Mail) *email.Message {
	out := &email.Message{
		ID: m.ID, From: m.From, To: m.To, Cc: m.Cc, Bcc: m.Bcc, ReplyTo: m.ReplyTo, Subject: m.Subject, Text: m.Text, HTML: m.HTML,
		Headers: m.Headers, Tags: m.Tags, Metadata: m.Metadata, SendAt: m.SendAt,
	}
	for _, a := range m.Attachments {
		out.Attachments = append(out.Attachments, email.Attachment{Name: a.Name, ContentType: a.Type, ContentID: a.ContentID, Data: a.Data})
	}
	return out
}
