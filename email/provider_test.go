package email_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"testing"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/internal/simtest"
	"github.com/smilefactory/integrations/secret"
)

func TestTheProviderOfTheExampleConforms(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject {
		var taken sim.Ledger[sim.Mail]
		server := sim.NewServer(sim.Config{}, acmeTakes(&taken))
		way := simtest.NewHTTP(t, server, &taken, map[emailtest.Trouble]sim.Step{
			emailtest.ServerError:    acmeRefuses(http.StatusInternalServerError, "broken"),
			emailtest.Throttled:      acmeRefuses(http.StatusTooManyRequests, "too_fast"),
			emailtest.BadCredentials: acmeRefuses(http.StatusForbidden, "bad_key"),
			emailtest.Blocked:        acmeRefuses(http.StatusBadRequest, "bad_words"),
		})
		key := secret.Func(func(ctx context.Context) (secret.Value, error) {
			return secret.NewValue(acmeKey), way.Credentials.Pass(ctx)
		})
		s := way.Subject(Acme{Key: key, BaseURL: server.URL, HTTPClient: way.Client}, "acme", acmeKey)
		s.Lacks = []emailtest.Feature{emailtest.SendAt}
		return s
	})
}

const acmeKey = "acme-key-1"

// acmeTakes is the far side of the wire. A real simulator is a package of its
// own, which refuses what the provider refuses.
func acmeTakes(taken *sim.Ledger[sim.Mail]) sim.Provider {
	return func(r *http.Request, body []byte) sim.Reply {
		var m email.Message
		if err := json.Unmarshal(body, &m); err != nil || r.Header.Get("Authorization") != "Bearer "+acmeKey {
			return sim.Reply{Status: http.StatusForbidden, Body: `{"error": "bad_key"}`}
		}
		return sim.Reply{
			Status: http.StatusAccepted,
			Body:   fmt.Sprintf(`{"id": %q}`, "acme-"+m.ID),
			Act:    func() { taken.Add(m.ID, acmeMail(&m)) },
		}
	}
}

// acmeRefuses is the step of an error that quotes the mail, as providers do.
func acmeRefuses(status int, code string) sim.Step {
	body := fmt.Sprintf(`{"error": %q, "text": %q}`, code, emailtest.Quote(acmeKey))
	return sim.Step{Status: status, Body: body, Header: http.Header{"Retry-After": {"7"}}}
}

func acmeMail(m *email.Message) sim.Mail {
	out := sim.Mail{
		ID: m.ID, From: m.From, To: m.To, Cc: m.Cc, Bcc: m.Bcc, ReplyTo: m.ReplyTo, Subject: m.Subject, Text: m.Text, HTML: m.HTML,
		Headers: maps.Collect(m.HeaderFields()), Tags: m.Tags, Metadata: m.Metadata,
	}
	for _, a := range m.Attachments {
		out.Attachments = append(out.Attachments, sim.Attachment{Name: a.Name, Type: a.ContentType, ContentID: a.ContentID, Data: a.Data})
	}
	return out
}
