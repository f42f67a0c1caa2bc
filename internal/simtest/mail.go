// Package simtest opens simulators as subjects of the conformance suites.
package simtest

import (
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/internal/sim"
)

// Switch is a transport that can be cut off before any connection.
type Switch struct {
	http.RoundTripper
	off atomic.Bool
}

// Cut makes every dial fail from now on, or no more.
func (s *Switch) Cut(off bool) { s.off.Store(off) }

// NewSwitch takes the server's own transport.
func NewSwitch(srv *sim.Server) *Switch {
	s := &Switch{}
	t, _ := srv.Client().Transport.(*http.Transport)
	s.RoundTripper = t
	return s
}

// dead is the transport while it is cut: a port that nobody listens on.
var dead = &http.Transport{DisableKeepAlives: true}

// RoundTrip sends the request on, or to a port that nobody listens on.
func (s *Switch) RoundTrip(r *http.Request) (*http.Response, error) {
	if !s.off.Load() {
		return s.RoundTripper.RoundTrip(r)
	}
	if r.URL == nil {
		return nil, errors.New("simtest: no URL")
	}
	out := r.Clone(r.Context())
	out.URL.Host = "127.0.0.1:1"
	return dead.RoundTrip(out)
}

// Messages decodes what a simulator took.
func Messages(l *sim.Ledger[sim.Mail]) []*email.Message {
	var out []*email.Message
	for _, m := range l.All() {
		e := &email.Message{
			ID: m.ID, From: m.From, To: m.To, Cc: m.Cc, Bcc: m.Bcc, ReplyTo: m.ReplyTo, Subject: m.Subject, Text: m.Text, HTML: m.HTML,
			Headers: m.Headers, Tags: m.Tags, Metadata: m.Metadata, SendAt: m.SendAt,
		}
		for _, a := range m.Attachments {
			e.Attachments = append(e.Attachments, email.Attachment{Name: a.Name, ContentType: a.Type, ContentID: a.ContentID, Data: a.Data})
		}
		out = append(out, e)
	}
	return out
}

// Break plays the steps for the troubles, and the cut where that is asked for.
func Break(srv *sim.Server, cut *Switch, steps map[emailtest.Trouble]sim.Step) func(emailtest.Trouble) bool {
	return func(t emailtest.Trouble) bool {
		if t == emailtest.Unreachable {
			cut.Cut(true)
			return true
		}
		step, ok := steps[t]
		switch t { //nolint:exhaustive // those that look the same at every provider
		case emailtest.Hang:
			step, ok = sim.Step{Hang: sim.BeforeActing}, true
		case emailtest.Reset:
			step, ok = sim.Step{Reset: sim.BeforeActing}, true
		case emailtest.ResetAfter:
			step, ok = sim.Step{Reset: sim.AfterActing}, true
		}
		if ok {
			srv.Always(step)
		}
		return ok
	}
}
