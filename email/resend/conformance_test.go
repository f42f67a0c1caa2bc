package resend_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/resend"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/resend"
	"github.com/smilefactory/integrations/internal/simtest"
	"github.com/smilefactory/integrations/secret"
)

func TestConformance(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject {
		b := open(t)
		s := b.way.Subject(b.Sender, "resend", key)
		s.Unset = resend.Sender{BaseURL: b.sim.URL, HTTPClient: b.way.Client}
		return s
	})
}

const key = "re_test_key"

// bench is a Sender in front of a simulator.
type bench struct {
	resend.Sender
	sim *simulator.Sim
	way *simtest.HTTP
	now time.Time // of the simulator, where it is set
}

func open(t *testing.T) *bench {
	t.Helper()
	b := &bench{}
	b.sim = simulator.New(simulator.Config{Key: key, Now: func() time.Time {
		if b.now.IsZero() {
			return time.Now()
		}
		return b.now
	}})
	said := emailtest.Quote(key)
	throttled := simulator.RateLimited(7 * time.Second)
	throttled.Body = simulator.Error(http.StatusTooManyRequests, "rate_limit_exceeded", said).Body
	b.way = simtest.NewHTTP(t, b.sim.Server, &b.sim.Mails, map[emailtest.Trouble]sim.Step{
		emailtest.ServerError:    simulator.Error(http.StatusInternalServerError, "application_error", said),
		emailtest.Throttled:      throttled,
		emailtest.BadCredentials: simulator.Error(http.StatusForbidden, "invalid_api_key", said),
		emailtest.Blocked:        simulator.Error(http.StatusUnavailableForLegalReasons, "security_error", said),
	})
	b.Sender = resend.Sender{
		BaseURL: b.sim.URL, HTTPClient: b.way.Client,
		Key: secret.Func(func(ctx context.Context) (secret.Value, error) {
			return secret.NewValue(key), b.way.Credentials.Pass(ctx)
		}),
	}
	return b
}

// taken is the only mail that Resend took.
func (b *bench) taken(t *testing.T) *email.Message {
	t.Helper()
	all := b.way.Sent()
	if len(all) != 1 {
		t.Fatalf("%d mails were taken, want 1", len(all))
	}
	return all[0]
}
