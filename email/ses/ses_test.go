package ses_test

import (
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/assert"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/ses"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	sessim "github.com/smilefactory/integrations/internal/sim/ses"
	"github.com/smilefactory/integrations/internal/simtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, options ...ses.Option) (*sessim.Sim, emailtest.Subject) {
	srv := sessim.New(sessim.Config{AccessKeyID: "AKTEST"})
	t.Cleanup(srv.Close)
	cut := simtest.NewSwitch(srv.Server)
	cfg := aws.Config{
		Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("AKTEST", "s3cr3t", ""), HTTPClient: &http.Client{Transport: cut},
	}
	return srv, emailtest.Subject{
		Sender: ses.New(cfg, append(options, ses.WithBaseURL(srv.URL))...),
		Name:   "ses",
		Sent:   func() []*email.Message { return simtest.Messages(&srv.Mails) },
		Break: simtest.Break(srv.Server, cut, map[emailtest.Trouble]sim.Step{
			emailtest.ServerError:    sessim.Error(500, "InternalFailure", "internal"),
			emailtest.Throttled:      sessim.Error(429, "TooManyRequestsException", "slow"),
			emailtest.BadCredentials: sessim.Error(403, "UnrecognizedClientException", "who?"),
			emailtest.Blocked:        sessim.Error(400, "MessageRejected", "no"),
		}),
		Heal:  func() { cut.Cut(false); srv.Heal() },
		Lacks: []emailtest.Feature{emailtest.SendAt},
	}
}

func TestSenderConforms(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject { _, s := open(t); return s })
}

func TestSenderOfRawMailConforms(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject { _, s := open(t, ses.WithRaw()); return s })
}

func TestEveryDocumentedErrorHasItsKind(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		kind   fault.Kind
	}{
		{429, "TooManyRequestsException", fault.RateLimited},
		{400, "LimitExceededException", fault.Exhausted},
		{400, "SendingPausedException", fault.Denied},
		{400, "AccountSuspendedException", fault.Denied},
		{400, "MailFromDomainNotVerifiedException", fault.Denied},
		{400, "MessageRejected", fault.Rejected},
		{400, "BadRequestException", fault.Invalid},
		{404, "NotFoundException", fault.NotFound},
		{403, "AccessDeniedException", fault.Denied},
		{403, "SignatureDoesNotMatch", fault.Denied},
		{400, "ThrottlingException", fault.RateLimited},
		{503, "ServiceUnavailable", fault.Uncertain},
		{500, "Whatever", fault.Uncertain},
	} {
		srv, s := open(t)
		srv.Always(sessim.Error(c.status, c.code, "Email address grace@example.org"))
		_, err := s.Sender.Send(t.Context(), simple())
		assert.ErrorIs(t, err, c.kind, c.code)
		assert.NotContains(t, err.Error(), "grace")
		assert.Equal(t, 1, srv.Requests(), "the SDK must not retry")
	}
}

func TestAGarbledAnswerIsUncertain(t *testing.T) {
	srv, s := open(t)
	srv.Always(sim.Step{Malformed: true})
	_, err := s.Sender.Send(t.Context(), simple())
	assert.ErrorIs(t, err, fault.Uncertain)
	assert.Len(t, s.Sent(), 1)
}

func simple() *email.Message {
	return &email.Message{
		From: email.Address{Address: "ada@example.com"}, To: []email.Address{{Address: "grace@example.org"}}, Subject: "Hello", Text: "Hi",
	}
}
