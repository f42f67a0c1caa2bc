package simtest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/email/ses"
	"github.com/smilefactory/integrations/internal/sim"
	sendgridsim "github.com/smilefactory/integrations/internal/sim/sendgrid"
	sessim "github.com/smilefactory/integrations/internal/sim/ses"
	"github.com/smilefactory/integrations/internal/simtest"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type pair struct {
	primary *sendgridsim.Sim
	backup  *sessim.Sim
	client  *email.Client
}

// open makes a Client over both real adapters, inside as many others as asked.
func open(t *testing.T, p resilience.Policy, deep int) pair {
	t.Helper()
	primary, backup := sendgridsim.New(sendgridsim.Config{Key: "k"}), sessim.New(sessim.Config{AccessKeyID: "AK"})
	t.Cleanup(primary.Close)
	t.Cleanup(backup.Close)
	client, err := email.New(sendgrid.Sender{Key: secret.Literal("k"), BaseURL: primary.URL, HTTPClient: primary.Client()},
		email.WithPolicy(p), email.WithBackup(ses.New(aws.Config{
			Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("AK", "s", ""), HTTPClient: &http.Client{Transport: backup.Client().Transport},
		}, ses.WithBaseURL(backup.URL))))
	require.NoError(t, err)
	for range deep {
		client, err = email.New(client, email.WithPolicy(p))
		require.NoError(t, err)
	}
	return pair{primary, backup, client}
}

func TestAClientOverRealAdaptersConforms(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject {
		s := open(t, resilience.Default, 0)
		return emailtest.Subject{
			Sender: s.client, Name: "sendgrid", Retries: true,
			Sent: func() []*email.Message {
				return append(simtest.Messages(&s.primary.Mails), simtest.Messages(&s.backup.Mails)...)
			},
			Break: func(trouble emailtest.Trouble) bool {
				if trouble != emailtest.Hang {
					return false
				}
				s.primary.Always(sim.Step{Hang: sim.BeforeActing})
				s.backup.Always(sim.Step{Hang: sim.BeforeActing})
				return true
			},
			Heal: func() { s.primary.Heal(); s.backup.Heal() },
		}
	})
}

func TestNestingMakesNoMoreRequestsThanFlat(t *testing.T) {
	p := resilience.Default
	p.Backoff = resilience.Backoff{Initial: time.Millisecond}
	for name, deep := range map[string]int{"flat": 0, "one deep": 1, "three deep": 3} {
		t.Run(name, func(t *testing.T) {
			s := open(t, p, deep)
			s.primary.Always(sendgridsim.Error(500, "down"))
			s.backup.Always(sessim.Error(500, "InternalFailure", "down"))
			_, err := s.client.Send(t.Context(), &email.Message{
				From: email.Address{Address: "a@example.com"}, To: []email.Address{{Address: "b@example.org"}}, Subject: "s", Text: "t",
			})
			require.Error(t, err)
			assert.Equal(t, 3, s.primary.Requests())
			assert.Equal(t, 3, s.backup.Requests())
			assert.ErrorContains(t, err, "after 6 attempts")
		})
	}
}
