package simtest

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/internal/sim"
)

// HTTP is a simulated provider behind HTTP, with the way to it.
type HTTP struct {
	Network
	// Credentials is a gate for the adapter's source of them.
	Credentials Gate
	// Client leads to the provider by the Network.
	Client *http.Client
	// Steps are how this provider answers in the troubles that look different at
	// each; they should quote the mail (emailtest.Quote).
	Steps map[emailtest.Trouble]sim.Step

	server *sim.Server
	mails  *sim.Ledger[sim.Mail]
}

// NewHTTP is the way to a server, which is closed with t.
func NewHTTP(t testing.TB, server *sim.Server, mails *sim.Ledger[sim.Mail], steps map[emailtest.Trouble]sim.Step) *HTTP {
	t.Helper()
	h := &HTTP{Steps: steps, server: server, mails: mails}
	transport := &http.Transport{MaxIdleConnsPerHost: 16, DialContext: h.DialContext}
	h.Client = &http.Client{Transport: transport}
	t.Cleanup(server.Close)
	t.Cleanup(transport.CloseIdleConnections)
	return h
}

// Subject is a Sender in front of the provider, for the suite.
func (h *HTTP) Subject(sender email.Sender, name string, secrets ...string) emailtest.Subject {
	return emailtest.Subject{
		Sender: sender, Name: name, Sent: h.Sent, Break: h.Break, Heal: h.Heal, Secrets: secrets,
		Waits: map[string]emailtest.Wait{
			"a connection":             {Begin: func() { h.Client.CloseIdleConnections(); h.Stick() }},
			"the credentials":          {Begin: h.Credentials.Shut},
			"the answer, after acting": {Begin: func() { h.server.Always(sim.Step{Hang: sim.AfterActing}) }, Sent: true},
			"the rest of the answer":   {Begin: func() { h.server.Always(sim.Step{Hang: sim.MidAnswer}) }, Sent: true},
			"the rest of a refusal": {Begin: func() {
				step := h.Steps[emailtest.ServerError]
				step.Hang = sim.MidAnswer
				h.server.Always(step)
			}, Sent: true},
		},
	}
}

// Sent decodes what the provider took.
func (h *HTTP) Sent() []*email.Message { return Messages(h.mails.All()) }

// Heal ends every trouble.
func (h *HTTP) Heal() {
	h.Restore()
	h.Credentials.Open()
	h.server.Heal()
}

// Break begins a trouble.
func (h *HTTP) Break(t emailtest.Trouble) bool {
	step, ok := h.Steps[t]
	switch t { //nolint:exhaustive // those that look the same at every provider
	case emailtest.Unreachable:
		h.Client.CloseIdleConnections()
		h.Cut()
		return true
	case emailtest.Unresolvable:
		h.Client.CloseIdleConnections()
		h.Lose()
		return true
	case emailtest.NoCredentials:
		h.Credentials.Break()
		return true
	case emailtest.Unlisted:
		step, ok = sim.Step{Status: http.StatusTeapot, Body: fmt.Sprintf(`{"name":"never_heard_of_it","message":%q}`, emailtest.Quote())}, true
	case emailtest.Hang:
		step, ok = sim.Step{Hang: sim.BeforeActing}, true
	case emailtest.Reset:
		step, ok = sim.Step{Reset: sim.BeforeActing}, true
	case emailtest.ResetAfter:
		step, ok = sim.Step{Reset: sim.AfterActing}, true
	case emailtest.Garbled:
		step, ok = sim.Step{Malformed: true}, true
	case emailtest.Slow:
		step, ok = sim.Step{Delay: 150 * time.Millisecond}, true
	}
	if ok {
		h.server.Always(step)
	}
	return ok
}
