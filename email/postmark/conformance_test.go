package postmark_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/postmark"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/postmark"
	"github.com/smilefactory/integrations/internal/simtest"
	"github.com/smilefactory/integrations/secret"
)

func TestConformance(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject {
		b := open(t)
		s := b.way.Subject(b.Sender, "postmark", token)
		s.Unset = postmark.Sender{BaseURL: b.sim.URL, HTTPClient: b.way.Client}
		s.Lacks = []emailtest.Feature{emailtest.SendAt}
		return s
	})
}

const token = "pm-test-token"

// bench is a Sender in front of a simulator.
type bench struct {
	postmark.Sender
	sim *simulator.Sim
	way *simtest.HTTP
}

func open(t *testing.T) *bench {
	t.Helper()
	b := &bench{sim: simulator.New(simulator.Config{Token: token, Streams: []string{"news"}})}
	said := emailtest.Quote(token)
	throttled := simulator.Error(http.StatusTooManyRequests, 429, said)
	throttled.Header.Set("Retry-After", "7")
	b.way = simtest.NewHTTP(t, b.sim.Server, &b.sim.Mails, map[emailtest.Trouble]sim.Step{
		emailtest.ServerError:    simulator.Error(http.StatusInternalServerError, 101, said),
		emailtest.Throttled:      throttled,
		emailtest.BadCredentials: simulator.Error(http.StatusUnauthorized, 10, said),
		emailtest.Blocked:        simulator.Error(http.StatusUnprocessableEntity, 406, said),
	})
	b.Sender = postmark.Sender{
		BaseURL: b.sim.URL, HTTPClient: b.way.Client,
		Token: secret.Func(func(ctx context.Context) (secret.Value, error) {
			return secret.NewValue(token), b.way.Credentials.Pass(ctx)
		}),
	}
	return b
}

// taken is the only mail that Postmark took, with its request.
func (b *bench) taken(t *testing.T) (*email.Message, simulator.Request) {
	t.Helper()
	all := b.way.Sent()
	if len(all) != 1 {
		t.Fatalf("%d mails were taken, want 1", len(all))
	}
	return all[0], b.sim.Taken.All()[0]
}
