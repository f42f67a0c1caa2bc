package ses_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/ses"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/ses"
	"github.com/smilefactory/integrations/resilience"
)

func simple() *email.Message {
	return &email.Message{
		From: email.Address{Address: "ada@example.com"}, To: []email.Address{{Address: "grace@example.org"}}, Subject: "Hello", Text: "Hi",
	}
}

func TestEveryDocumentedErrorHasItsKind(t *testing.T) {
	for _, tt := range []struct {
		status        int
		code, message string
		kind          fault.Kind
	}{
		// SendEmail, Errors.
		{400, "AccountSuspendedException", "", fault.Denied},
		{400, "BadRequestException", "", fault.Invalid},
		{400, "LimitExceededException", "", fault.Exhausted},
		{400, "MailFromDomainNotVerifiedException", "", fault.Denied},
		{400, "MessageRejected", "Illegal content", fault.Rejected},
		{400, "MessageRejected", "Email address is not verified. The following identities failed the check in region EU-WEST-1: x", fault.Denied},
		{404, "NotFoundException", "Configuration set <x> does not exist.", fault.Denied},
		{400, "SendingPausedException", "", fault.Denied},
		{429, "TooManyRequestsException", "", fault.RateLimited},
		{429, "TooManyRequestsException", "Daily message quota exceeded.", fault.Exhausted},
		// Other exceptions of the API.
		{400, "AlreadyExistsException", "", fault.Conflict},
		{500, "ConcurrentModificationException", "", fault.Conflict},
		{409, "ConflictException", "", fault.Conflict},
		{500, "InternalServiceErrorException", "", fault.Uncertain},
		{400, "InvalidNextTokenException", "", fault.Invalid},
		// Common Errors.
		{403, "AccessDeniedException", "", fault.Denied},
		{403, "ExpiredTokenException", "The security token included in the request is expired", fault.Denied},
		{403, "IncompleteSignature", "", fault.Denied},
		{500, "InternalFailure", "", fault.Uncertain},
		{400, "InvalidAction", "", fault.Denied},
		{403, "InvalidClientTokenId", "", fault.Denied},
		{400, "InvalidParameterCombination", "", fault.Invalid},
		{400, "InvalidParameterValue", "", fault.Invalid},
		{400, "InvalidQueryParameter", "", fault.Invalid},
		{403, "InvalidSignatureException", "", fault.Denied},
		{400, "MalformedHttpRequestException", "", fault.Unsupported},
		{404, "MalformedQueryString", "", fault.Unsupported},
		{400, "MissingAction", "", fault.Denied},
		{403, "MissingAuthenticationToken", "", fault.Denied},
		{403, "MissingAuthenticationTokenException", "", fault.Denied},
		{400, "MissingParameter", "", fault.Invalid},
		{401, "NotAuthorized", "", fault.Denied},
		{403, "OptInRequired", "", fault.Denied},
		{400, "RequestAbortedException", "", fault.Uncertain},
		{413, "RequestEntityTooLargeException", "", fault.Unsupported},
		{400, "RequestExpired", "", fault.Unavailable},
		{403, "RequestTimeTooSkewed", "", fault.Unavailable},
		{408, "RequestTimeoutException", "", fault.Uncertain},
		{400, "SerializationException", "", fault.Unsupported},
		{503, "ServiceUnavailable", "", fault.Uncertain},
		{403, "SignatureDoesNotMatch", "", fault.Denied},
		{400, "ThrottlingException", "Maximum sending rate exceeded.", fault.RateLimited},
		{400, "ThrottlingException", "Daily message quota exceeded.", fault.Exhausted},
		{404, "UnknownOperationException", "", fault.Denied},
		{403, "UnrecognizedClientException", "", fault.Denied},
		{400, "ValidationError", "", fault.Invalid},
		{400, "ValidationException", "", fault.Invalid},
		// A code of tomorrow is judged by its status.
		{500, "NeverHeardOfIt", "", fault.Uncertain},
		{400, "NeverHeardOfIt", "", fault.Invalid},
	} {
		t.Run(tt.code+" "+tt.message, func(t *testing.T) {
			b := open(t, simulator.Config{})
			b.sim.Always(simulator.Error(tt.status, tt.code, tt.message))
			_, err := b.Send(t.Context(), simple())
			f, ok := fault.As(err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, tt.kind, f.Kind)
			assert.Equal(t, tt.code, f.Code)
			assert.NotEmpty(t, f.RequestID)
			assert.Equal(t, 1, b.sim.Requests(), "the SDK must not retry")
		})
	}
}

// The SDK knows all exceptions of the API's model. A code without a row would
// have the kind of its status, and no row has that of 501.
func TestNoExceptionOfTheAPIIsMissingInTheTable(t *testing.T) {
	b := open(t, simulator.Config{})
	found := 0
	for id := range sesv2.TypeRegistry.Entries {
		_, code, _ := strings.Cut(id, "#")
		if !strings.HasSuffix(code, "Exception") && code != "MessageRejected" {
			continue
		}
		found++
		b.sim.Next(simulator.Error(http.StatusNotImplemented, code, ""))
		_, err := b.Send(t.Context(), simple())
		f, _ := fault.As(err)
		require.Equal(t, code, f.Code)
		assert.NotEqual(t, fault.Unsupported, f.Kind, code)
	}
	assert.GreaterOrEqual(t, found, 13)
}

func TestAnAnswerWithoutATypeIsJudgedByItsStatus(t *testing.T) {
	for name, tt := range map[string]struct {
		step sim.Step
		kind fault.Kind
	}{
		"a proxy's 503":             {sim.Step{Status: 503, Body: "<html>busy</html>"}, fault.Uncertain},
		"a proxy's 502, no body":    {sim.Step{Status: 502}, fault.Uncertain},
		"a 403 of a firewall":       {sim.Step{Status: 403, Body: "blocked"}, fault.Denied},
		"a 429 of a gateway":        {sim.Step{Status: 429, Header: http.Header{"Retry-After": {"7"}}}, fault.RateLimited},
		"a 413 of a gateway":        {sim.Step{Status: 413}, fault.Invalid},
		"a 404: a wrong base URL":   {sim.Step{Status: 404, Body: "not here"}, fault.Denied},
		"a 405: a wrong base URL":   {sim.Step{Status: 405}, fault.Denied},
		"a redirect is not taken":   {sim.Step{Status: 307, Header: http.Header{"Location": {simulator.Path}}}, fault.Unknown},
		"a success without an id":   {sim.Step{Status: 200, Body: `{}`}, fault.Uncertain},
		"a success that is no JSON": {sim.Step{Status: 200, Body: `<html>`}, fault.Uncertain},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, simulator.Config{})
			b.sim.Always(tt.step)
			_, err := b.Send(t.Context(), simple())
			f, ok := fault.As(err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, tt.kind, f.Kind, "%v", err)
			assert.Equal(t, 1, b.sim.Requests())
			if tt.kind == fault.RateLimited {
				assert.Equal(t, 7*time.Second, f.RetryAfter)
			}
		})
	}
}

func TestASESTextIsShownWithoutTheMail(t *testing.T) {
	b := open(t, simulator.Config{})
	b.sim.Next(simulator.Error(400, "MessageRejected", "Email address is not verified: ada@example.com"))
	_, err := b.Send(t.Context(), simple())
	require.ErrorContains(t, err, "ses: MessageRejected: Email address is not verified: (address)")
	own, ok := errors.AsType[*types.MessageRejected](err)
	require.True(t, ok, "SES's own error can be had")
	assert.Equal(t, "MessageRejected", own.ErrorCode())

	// The text of a refused signature repeats the request that was signed.
	b.sim.Next(simulator.Error(403, "SignatureDoesNotMatch", "The Canonical String should have been 'POST x-amz-security-token:private'"))
	_, err = b.Send(t.Context(), simple())
	require.ErrorIs(t, err, fault.Denied)
	assert.NotContains(t, err.Error(), "private")
}

func TestCheckNamesWhatIsMissingBeforeAnythingIsSent(t *testing.T) {
	b := open(t, simulator.Config{})
	for name, tt := range map[string]struct {
		change func(*aws.Config)
		base   string
		want   string
	}{
		"no region":             {func(c *aws.Config) { c.Region = "" }, b.sim.URL, "Region"},
		"no credentials":        {func(c *aws.Config) { c.Credentials = nil }, b.sim.URL, "Credentials"},
		"anonymous credentials": {func(c *aws.Config) { c.Credentials = aws.AnonymousCredentials{} }, b.sim.URL, "Credentials"},
		"in the clear":          {func(*aws.Config) {}, "http://ses.example.com", "https://"},
		"not a plain URL":       {func(*aws.Config) {}, "https://u:private@ses.example.com", "BaseURL"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := b.cfg
			tt.change(&cfg)
			s := ses.New(cfg, ses.WithBaseURL(tt.base))
			_, err := email.New(s)
			require.ErrorContains(t, err, tt.want)
			assert.NotContains(t, err.Error(), "private")
			_, err = s.Send(t.Context(), simple())
			require.ErrorIs(t, err, fault.Denied)
			assert.Zero(t, b.sim.Requests())
		})
	}
	assert.NoError(t, ses.New(b.cfg).Check(), "SES's own endpoint needs no BaseURL")
}

func TestCredentialsThatCannotBeHadSendNothing(t *testing.T) {
	b := open(t, simulator.Config{})
	sealed := errors.New("vault is sealed")
	// STS, say, is asked under the context of the mail, and answers.
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	elsewhere := func(ctx context.Context) (aws.Credentials, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, other.URL, nil)
		require.NoError(t, err)
		res, err := other.Client().Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return aws.Credentials{}, &smithy.GenericAPIError{Code: "BadRequestException", Message: "who?"}
	}
	for name, provider := range map[string]aws.CredentialsProvider{
		"an error":                  aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, sealed }),
		"another service's refusal": aws.CredentialsProviderFunc(elsewhere),
		"empty":                     credentials.NewStaticCredentialsProvider("", "", ""),
	} {
		cfg := b.cfg
		cfg.Credentials = provider
		_, err := ses.New(cfg, ses.WithBaseURL(b.sim.URL)).Send(t.Context(), simple())
		require.ErrorIs(t, err, fault.Denied, name)
		if name == "an error" {
			require.ErrorIs(t, err, sealed)
		}
	}
	assert.Zero(t, b.sim.Requests())
}

func TestCredentialsAreAskedForAtEverySend(t *testing.T) {
	b := open(t, simulator.Config{})
	current := "AKOLD"
	cfg := b.cfg
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: current, SecretAccessKey: secretKey}, nil
	})
	s := ses.New(cfg, ses.WithBaseURL(b.sim.URL))
	_, err := s.Send(t.Context(), simple())
	require.ErrorIs(t, err, fault.Denied)
	current = accessKey
	_, err = s.Send(t.Context(), simple())
	require.NoError(t, err)
}

// Where our clock is wrong the refusal carries the right time, from which the SDK
// signs the next request: the first proves that nothing was done.
func TestAWrongClockCostsOneAttempt(t *testing.T) {
	for name, skew := range map[string]time.Duration{"slow": time.Hour, "fast": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			b := open(t, simulator.Config{Now: func() time.Time { return time.Now().Add(skew) }})
			_, err := b.Send(t.Context(), simple())
			require.ErrorIs(t, err, fault.Unavailable)
			_, err = b.Send(t.Context(), simple())
			require.NoError(t, err)

			b = open(t, simulator.Config{Now: func() time.Time { return time.Now().Add(skew) }})
			p := resilience.Default
			p.Backoff.Initial = time.Millisecond
			client, err := email.New(b, email.WithPolicy(p))
			require.NoError(t, err)
			receipt, err := client.Send(t.Context(), simple())
			require.NoError(t, err)
			assert.Equal(t, 2, receipt.Attempts)
			assert.Equal(t, 1, b.sim.Mails.Len())
		})
	}
}

func TestTheConfigurationSetTravels(t *testing.T) {
	for set, kind := range map[string]fault.Kind{"ours": fault.Unknown, "other": fault.Denied} {
		b := open(t, simulator.Config{ConfigurationSet: "ours"}, ses.WithConfigurationSet(set))
		_, err := b.Send(t.Context(), simple())
		if kind == fault.Unknown {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, kind, "another account may take it")
		}
	}
}

func TestWhatSESCannotDoIsRefusedBeforeAnythingIsSent(t *testing.T) {
	recipients := func(n int) []email.Address {
		out := make([]email.Address, n)
		for i := range out {
			out[i].Address = "to" + strings.Repeat("x", i) + "@example.org"
		}
		return out
	}
	labels := func(n int) map[string]string {
		out := map[string]string{}
		for i := range n {
			out["k"+strings.Repeat("x", i)] = "v"
		}
		return out
	}
	for name, tt := range map[string]struct {
		field string
		spoil func(*email.Message)
	}{
		"a later delivery":       {"send_at", func(m *email.Message) { m.SendAt = time.Now().Add(time.Hour) }},
		"51 recipients":          {"to", func(m *email.Message) { m.To = recipients(51) }},
		"50 labels":              {"tags", func(m *email.Message) { m.Metadata, m.Tags = labels(49), []string{"t"} }},
		"a space in a tag":       {"tags[1]", func(m *email.Message) { m.Tags = []string{"a", "b c"} }},
		"a tag that is a key":    {"tags[0]", func(m *email.Message) { m.Tags, m.Metadata = []string{"a"}, map[string]string{"a": "b"} }},
		"a tag that is the id's": {"tags[0]", func(m *email.Message) { m.Tags = []string{"message_id"} }},
		"a dot in a value":       {"metadata[a]", func(m *email.Message) { m.Metadata = map[string]string{"a": "1.5"} }},
		"an empty value":         {"metadata[a]", func(m *email.Message) { m.Metadata = map[string]string{"a": ""} }},
		"an umlaut in a sender":  {"from.address", func(m *email.Message) { m.From.Address = "jürgen@example.com" }},
		"an umlaut in a receiver": {"cc[1].address", func(m *email.Message) {
			m.Cc = []email.Address{{Address: "a@example.org"}, {Address: "jürgen@example.org"}}
		}},
		"an umlaut in a reply-to": {"reply_to[0].address", func(m *email.Message) { m.ReplyTo = []email.Address{{Address: "jürgen@example.org"}} }},
		"40 MB after base64":      {"attachments", func(m *email.Message) { m.Attachments = []email.Attachment{{Name: "a", Data: make([]byte, 31<<20)}} }},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, simulator.Config{})
			m := simple()
			tt.spoil(m)
			_, err := b.Send(t.Context(), m)
			require.ErrorIs(t, err, fault.Unsupported)
			wrong, ok := errors.AsType[*email.FieldError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, tt.field, wrong.Field)
			assert.Zero(t, b.sim.Requests())
		})
	}
	b := open(t, simulator.Config{})
	m := simple()
	m.To, m.Metadata = recipients(50), labels(49)
	_, err := b.Send(t.Context(), m)
	require.NoError(t, err, "the limits themselves are taken")
}

func TestARawMailIsMeasuredWhenItIsMade(t *testing.T) {
	b := open(t, simulator.Config{}, ses.WithRaw())
	m := simple()
	m.Attachments = []email.Attachment{{Name: "a", Data: make([]byte, 30_900_000)}} // less than 40 MB in base64, more with its line breaks
	_, err := b.Send(t.Context(), m)
	require.ErrorIs(t, err, fault.Unsupported)
	assert.Zero(t, b.sim.Requests())
}

func TestADomainTravelsInASCII(t *testing.T) {
	for _, options := range [][]ses.Option{nil, {ses.WithRaw()}} {
		b := open(t, simulator.Config{}, options...)
		m := simple()
		m.From.Address, m.To[0].Address = "ada@bücher.example", "grace@bücher.example"
		receipt, err := b.Send(t.Context(), m)
		require.NoError(t, err)
		got := b.way.Sent()[0]
		assert.Equal(t, "ada@xn--bcher-kva.example", got.From.Address)
		assert.Equal(t, "grace@xn--bcher-kva.example", got.To[0].Address)
		assert.Equal(t, "grace@bücher.example", receipt.Recipients[0].Address)
	}
}

// What SES's own fields have no place for goes as MIME, without a word.
func TestWhatSimpleCannotCarryGoesRaw(t *testing.T) {
	for name, change := range map[string]func(*email.Message){
		"a header beyond 996": func(m *email.Message) { m.Headers = map[string]string{"X": strings.Repeat("x", 995)} },
		"a header in UTF-8":   func(m *email.Message) { m.Headers = map[string]string{"X-Campaign": "früh"} },
		"a media type beyond 78": func(m *email.Message) {
			m.Attachments = []email.Attachment{{Name: "a", ContentType: "application/" + strings.Repeat("x", 67), Data: []byte("a")}}
		},
		"a content id beyond 78": func(m *email.Message) {
			m.Attachments = []email.Attachment{{Name: "a", ContentType: "image/png", ContentID: strings.Repeat("x", 79), Data: []byte("a")}}
		},
		"all of it at the limits": func(m *email.Message) { m.Headers = map[string]string{"X": strings.Repeat("x", 994)} },
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, simulator.Config{})
			m := simple()
			change(m)
			_, err := b.Send(t.Context(), m)
			require.NoError(t, err)
			got := b.way.Sent()[0]
			for k, v := range m.Headers {
				assert.Equal(t, v, got.Headers[k])
			}
			for i, a := range m.Attachments {
				assert.Equal(t, a, got.Attachments[i])
			}
		})
	}
}

func TestAnEmptyFileIsAFile(t *testing.T) {
	for _, options := range [][]ses.Option{nil, {ses.WithRaw()}} {
		b := open(t, simulator.Config{}, options...)
		m := simple()
		m.Attachments = []email.Attachment{{Name: "empty.txt", ContentType: "text/plain"}}
		_, err := b.Send(t.Context(), m)
		require.NoError(t, err)
		got := b.way.Sent()[0].Attachments
		require.Len(t, got, 1)
		assert.Equal(t, "empty.txt", got[0].Name)
		assert.Empty(t, got[0].Data)
	}
}

func TestAnEndlessAnswerIsCut(t *testing.T) {
	b := open(t, simulator.Config{})
	b.sim.Next(sim.Step{Status: 500, Body: strings.Repeat("x", 3<<20)})
	_, err := b.Send(t.Context(), simple())
	require.ErrorIs(t, err, fault.Uncertain)
	assert.Less(t, len(err.Error()), 500)
}
