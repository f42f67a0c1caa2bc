package ses_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/ses"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/ses"
	"github.com/smilefactory/integrations/internal/simtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject { return open(t, simulator.Config{}).subject() })
}

func TestConformanceOfRawMail(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject {
		s := open(t, simulator.Config{}, ses.WithRaw()).subject()
		s.Waits = nil // the same as above
		return s
	})
}

const accessKey, secretKey = "AKTEST", "s3cr3t-key"

// bench is a Sender in front of a simulator.
type bench struct {
	*ses.Sender
	sim *simulator.Sim
	way *simtest.HTTP
	cfg aws.Config
}

func open(t *testing.T, server simulator.Config, options ...ses.Option) *bench {
	t.Helper()
	server.AccessKeyID = accessKey
	b := &bench{sim: simulator.New(server)}
	said := emailtest.Quote() // the secret key isn't on the wire
	b.way = simtest.NewHTTP(t, b.sim.Server, &b.sim.Mails, map[emailtest.Trouble]sim.Step{
		emailtest.ServerError:    simulator.Error(500, "InternalFailure", said),
		emailtest.Throttled:      simulator.Error(429, "TooManyRequestsException", said),
		emailtest.BadCredentials: simulator.Error(403, "SignatureDoesNotMatch", said),
		emailtest.Blocked:        simulator.Error(400, "MessageRejected", said),
	})
	b.cfg = aws.Config{
		Region: "eu-west-1", HTTPClient: b.way.Client,
		Credentials: aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}, b.way.Credentials.Pass(ctx)
		}),
	}
	b.Sender = ses.New(b.cfg, append(options, ses.WithBaseURL(b.sim.URL))...)
	return b
}

func (b *bench) subject() emailtest.Subject {
	s := b.way.Subject(b.Sender, "ses", secretKey)
	unset := b.cfg
	unset.Credentials = nil
	s.Unset = ses.New(unset, ses.WithBaseURL(b.sim.URL))
	s.Lacks = []emailtest.Feature{emailtest.SendAt}
	return s
}
