package sendgrid_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	sendgridsim "github.com/smilefactory/integrations/internal/sim/sendgrid"
	"github.com/smilefactory/integrations/internal/simtest"
	"github.com/smilefactory/integrations/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) (*sendgridsim.Sim, emailtest.Subject) {
	srv := sendgridsim.New(sendgridsim.Config{Key: "SG.test"})
	t.Cleanup(srv.Close)
	cut := simtest.NewSwitch(srv.Server)
	return srv, emailtest.Subject{
		Sender: sendgrid.Sender{Key: secret.Literal("SG.test"), BaseURL: srv.URL, HTTPClient: &http.Client{Transport: cut}},
		Name:   "sendgrid",
		Sent:   func() []*email.Message { return simtest.Messages(&srv.Mails) },
		Break: simtest.Break(srv.Server, cut, map[emailtest.Trouble]sim.Step{
			emailtest.ServerError:    sendgridsim.Error(500, "internal error"),
			emailtest.Throttled:      sendgridsim.RateLimited(time.Now().Add(7 * time.Second)),
			emailtest.BadCredentials: sendgridsim.Error(401, "The provided authorization grant is invalid, expired, or revoked"),
			emailtest.Blocked:        sendgridsim.Error(400, "blocked"),
		}),
		Heal: func() { cut.Cut(false); srv.Heal() },
	}
}

func TestSenderConforms(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject { _, s := open(t); return s })
}

func TestEveryDocumentedErrorHasItsKind(t *testing.T) {
	for _, c := range []struct {
		status  int
		message string
		kind    fault.Kind
	}{
		{400, "bad", fault.Invalid}, {401, "revoked", fault.Denied}, {401, "Maximum credits exceeded", fault.Exhausted}, {403, "scope", fault.Denied},
		{404, "", fault.Denied}, {405, "", fault.Denied}, {413, "", fault.Unsupported}, {415, "", fault.Invalid}, {429, "", fault.RateLimited},
		{500, "", fault.Uncertain}, {502, "", fault.Uncertain}, {503, "", fault.Uncertain}, {302, "", fault.Unknown},
	} {
		srv, s := open(t)
		srv.Always(sendgridsim.Error(c.status, c.message))
		_, err := s.Sender.Send(t.Context(), simple())
		assert.ErrorIs(t, err, c.kind, "%d %s", c.status, c.message)
	}
}

func TestTheProvidersWaitIsKept(t *testing.T) {
	srv, s := open(t)
	srv.Always(sendgridsim.RateLimited(time.Now().Add(90 * time.Second)))
	_, err := s.Sender.Send(t.Context(), simple())
	f, ok := fault.As(err)
	require.True(t, ok)
	assert.InDelta(t, 90, f.RetryAfter.Seconds(), 3)
}

func TestAnErrorShowsNeitherKeyNorAddress(t *testing.T) {
	srv, s := open(t)
	srv.Always(sendgridsim.Error(400, "We found the first duplicate instance of [grace@example.org]"))
	_, err := s.Sender.Send(t.Context(), simple())
	assert.NotContains(t, err.Error(), "grace")
	assert.NotContains(t, err.Error(), "SG.test")
	assert.Contains(t, err.Error(), "[address]")
}

func TestCheckNamesTheSetting(t *testing.T) {
	assert.ErrorContains(t, sendgrid.Sender{}.Check(), "Sender.Key")
	assert.ErrorContains(t, sendgrid.Sender{Key: secret.Literal("x"), BaseURL: "http://example.com"}.Check(), "Sender.BaseURL")
}

func simple() *email.Message {
	return &email.Message{
		From: email.Address{Address: "ada@example.com"}, To: []email.Address{{Address: "grace@example.org"}}, Subject: "Hello", Text: "Hi",
	}
}
