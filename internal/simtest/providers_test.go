package simtest_test

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/postmark"
	"github.com/smilefactory/integrations/email/resend"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/email/ses"
	"github.com/smilefactory/integrations/email/smtp"
	"github.com/smilefactory/integrations/internal/sim"
	postmarksim "github.com/smilefactory/integrations/internal/sim/postmark"
	resendsim "github.com/smilefactory/integrations/internal/sim/resend"
	sendgridsim "github.com/smilefactory/integrations/internal/sim/sendgrid"
	sessim "github.com/smilefactory/integrations/internal/sim/ses"
	smtpsim "github.com/smilefactory/integrations/internal/sim/smtp"
	"github.com/smilefactory/integrations/internal/simtest"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// provider is a real adapter in front of its simulator.
type provider struct {
	emailtest.Subject
	// requests is how many attempts to send a mail reached the simulator.
	requests func() int
	// taken is how often it took the mail of that id.
	taken func(id string) int
	// dedupes: under one key it takes a mail once.
	dedupes bool
}

// providers open each adapter that there is. Their throttling doesn't say for
// how long.
var providers = map[string]func(*testing.T) provider{
	"sendgrid": openSendGrid, "ses": openSES, "smtp": openSMTP, "postmark": openPostmark, "resend": openResend,
}

func openSendGrid(t *testing.T) provider {
	server := sendgridsim.New(sendgridsim.Config{Key: "k"})
	way := simtest.NewHTTP(t, server.Server, &server.Mails, map[emailtest.Trouble]sim.Step{
		emailtest.ServerError: sendgridsim.Error(500, "down"), emailtest.Throttled: sendgridsim.Error(429, "slow"),
		emailtest.BadCredentials: sendgridsim.Error(401, "who?"), emailtest.Blocked: sendgridsim.Error(400, "no"),
	})
	sender := sendgrid.Sender{Key: secret.Literal("k"), BaseURL: server.URL, HTTPClient: way.Client}
	return provider{way.Subject(sender, "sendgrid"), server.Requests, server.Mails.Count, false}
}

// The configuration asks for retries of the SDK's own, which the adapter must not make.
func openSES(t *testing.T) provider {
	server := sessim.New(sessim.Config{AccessKeyID: "AK"})
	way := simtest.NewHTTP(t, server.Server, &server.Mails, map[emailtest.Trouble]sim.Step{
		emailtest.ServerError: sessim.Error(500, "InternalFailure", "down"), emailtest.Throttled: sessim.Error(429, "TooManyRequestsException", "slow"),
		emailtest.BadCredentials: sessim.Error(403, "UnrecognizedClientException", "who?"), emailtest.Blocked: sessim.Error(400, "MessageRejected", "no"),
	})
	cfg := aws.Config{
		Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("AK", "s", ""), HTTPClient: way.Client,
		RetryMaxAttempts: 5, RetryMode: aws.RetryModeAdaptive,
	}
	s := way.Subject(ses.New(cfg, ses.WithBaseURL(server.URL)), "ses")
	s.Lacks = []emailtest.Feature{emailtest.SendAt}
	return provider{s, server.Requests, server.Mails.Count, false}
}

func openSMTP(t *testing.T) provider {
	server := smtpsim.New(smtpsim.Config{Username: "u", Password: "p"})
	way := simtest.NewSMTP(t, server)
	sender, err := smtp.New(smtp.Config{
		Addr: server.Addr, Username: "u", Password: secret.Literal("p"), TLSConfig: &tls.Config{RootCAs: server.Pool, MinVersion: tls.VersionTLS12}, Dial: way.DialContext,
		TagHeader: simtest.TagHeader, MetadataHeaderPrefix: simtest.MetadataPrefix,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sender.Close()) })
	return provider{way.Subject(sender, "smtp"), func() int { return server.Came("MAIL") }, server.Mails.Count, false}
}

func openPostmark(t *testing.T) provider {
	server := postmarksim.New(postmarksim.Config{Token: "k"})
	way := simtest.NewHTTP(t, server.Server, &server.Mails, map[emailtest.Trouble]sim.Step{
		emailtest.ServerError: postmarksim.Error(500, 101, "down"), emailtest.Throttled: postmarksim.Error(429, 429, "slow"),
		emailtest.BadCredentials: postmarksim.Error(401, 10, "who?"), emailtest.Blocked: postmarksim.Error(422, 406, "no"),
	})
	s := way.Subject(postmark.Sender{Token: secret.Literal("k"), BaseURL: server.URL, HTTPClient: way.Client}, "postmark")
	s.Lacks = []emailtest.Feature{emailtest.SendAt}
	return provider{s, server.Requests, server.Mails.Count, false}
}

func openResend(t *testing.T) provider {
	server := resendsim.New(resendsim.Config{Key: "k"})
	way := simtest.NewHTTP(t, server.Server, &server.Mails, map[emailtest.Trouble]sim.Step{
		emailtest.ServerError: resendsim.Error(500, "application_error", "down"), emailtest.Throttled: resendsim.Error(429, "rate_limit_exceeded", "slow"),
		emailtest.BadCredentials: resendsim.Error(403, "invalid_api_key", "who?"), emailtest.Blocked: resendsim.Error(451, "security_error", "no"),
	})
	sender := resend.Sender{Key: secret.Literal("k"), BaseURL: server.URL, HTTPClient: way.Client}
	return provider{way.Subject(sender, "resend"), server.Requests, server.Mails.Count, true}
}

// quick is the default policy with short waits.
func quick() resilience.Policy {
	p := resilience.Default
	p.Backoff = resilience.Backoff{Initial: time.Millisecond}
	return p
}

// client makes a Client of them, in that order, inside as many others as asked.
func client(t *testing.T, p resilience.Policy, deep int, first provider, others ...provider) *email.Client {
	t.Helper()
	options := []email.Option{email.WithPolicy(p)}
	for _, o := range others {
		options = append(options, email.WithBackup(o.Sender))
	}
	c, err := email.New(first.Sender, options...)
	require.NoError(t, err)
	for range deep {
		c, err = email.New(c, email.WithPolicy(p))
		require.NoError(t, err)
	}
	return c
}

func hello() *email.Message {
	return &email.Message{
		ID: "m-1", From: email.Address{Address: "ada@example.com"}, To: []email.Address{{Address: "grace@example.org"}}, Subject: "s", Text: "t",
	}
}
