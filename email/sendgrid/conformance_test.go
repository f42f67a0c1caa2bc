package sendgrid_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/sendgrid"
	"github.com/smilefactory/integrations/internal/simtest"
	"github.com/smilefactory/integrations/secret"
)

func TestConformance(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject {
		b := open(t)
		s := b.way.Subject(b.Sender, "sendgrid", key)
		s.Unset = sendgrid.Sender{BaseURL: b.sim.URL, HTTPClient: b.way.Client}
		return s
	})
}

const key = "SG.test-key"

// bench is a Sender in front of a simulator.
type bench struct {
	sendgrid.Sender
	sim *simulator.Sim
	way *simtest.HTTP
}

func open(t *testing.T) *bench {
	t.Helper()
	b := &bench{sim: simulator.New(simulator.Config{Key: key})}
	said := emailtest.Quote(key)
	b.way = simtest.NewHTTP(t, b.sim.Server, &b.sim.Mails, map[emailtest.Trouble]sim.Step{
		emailtest.ServerError:    simulator.Error(http.StatusInternalServerError, said),
		emailtest.Throttled:      simulator.RateLimited(time.Now().Add(7 * time.Second)),
		emailtest.BadCredentials: simulator.Error(http.StatusUnauthorized, said),
		emailtest.Blocked:        simulator.Error(http.StatusBadRequest, said),
	})
	b.Sender = sendgrid.Sender{
		BaseURL: b.sim.URL, HTTPClient: b.way.Client,
		Key: secret.Func(func(ctx context.Context) (secret.Value, error) {
			return secret.NewValue(key), b.way.Credentials.Pass(ctx)
		}),
	}
	return b
}

// taken is the only mail that SendGrid took.
func (b *bench) taken(t *testing.T) *email.Message {
	t.Helper()
	all := b.way.Sent()
	if len(all) != 1 {
		t.Fatalf("%d mails were taken, want 1", len(all))
	}
	return all[0]
}
