package postmark_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/postmark"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/postmark"
	"github.com/smilefactory/integrations/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// full uses every field.
func full() *email.Message {
	return &email.Message{
		ID: "m-1", From: email.Address{Name: "Acme, Inc.", Address: "ada@example.com"},
		To: []email.Address{{Name: `Grace "G" Hopper`, Address: "grace@example.org"}, {Name: "Žofie", Address: "to@example.org"}},
		Cc: []email.Address{{Address: "cc@example.org"}}, Bcc: []email.Address{{Address: "bcc@example.org"}},
		ReplyTo: []email.Address{{Address: "r1@example.com"}, {Name: "R; S", Address: "r2@example.com"}},
		Subject: "Grüße", Text: "text", HTML: `<b>html</b><img src="cid:logo">`,
		Attachments: []email.Attachment{
			{Name: "a.txt", ContentType: "text/plain; charset=utf-8", Data: []byte("a")},
			{Name: "l.png", ContentType: "image/png", ContentID: "logo", Data: []byte{1}},
			{Name: "b.dat", Data: []byte{2}},
		},
		Headers: map[string]string{"X-Campaign": "spring"}, Tags: []string{"welcome"}, Metadata: map[string]string{"order": "7"},
		Unsubscribe:    email.Unsubscribe{URL: "https://example.com/u", Mailto: "leave@example.com", OneClick: true},
		IdempotencyKey: "k-1", Locale: "de-AT", Thread: "order-7",
	}
}

func TestEveryFieldArrives(t *testing.T) {
	b := open(t)
	receipt, err := b.Send(t.Context(), full())
	require.NoError(t, err)
	got, req := b.taken(t)
	want := full()
	want.IdempotencyKey, want.Locale, want.Thread, want.Unsubscribe = "", "", "", email.Unsubscribe{} // headers, or nothing at all
	want.Attachments[2].ContentType = "application/octet-stream"
	want.Headers = map[string]string{
		"X-Campaign": "spring", "Content-Language": "de-AT", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
		"List-Unsubscribe": "<mailto:leave@example.com>, <https://example.com/u>", "References": "<order-7@example.com>",
	}
	assert.Equal(t, want, got)
	assert.Equal(t, "cid:logo", req.Attachments[1].ContentID, "so that it is shown inline")
	assert.Empty(t, b.sim.Mails.All()[0].Key, "Postmark has no idempotency: no header pretends it")
	assert.Equal(t, email.StatusAccepted, receipt.Status)
	assert.Equal(t, b.sim.Mails.All()[0].ProviderID, receipt.ProviderID)
	assert.Len(t, receipt.Recipients, 4)
}

func TestTheMessageIDIsOursAndInTheReceipt(t *testing.T) {
	b := open(t)
	m := full()
	m.From.Address = "ada@bücher.example"
	receipt, err := b.Send(t.Context(), m)
	require.NoError(t, err)
	_, req := b.taken(t)
	assert.Equal(t, "m-1@xn--bcher-kva.example", receipt.MessageID)
	assert.Equal(t, "<"+receipt.MessageID+">", req.Header("Message-ID"))
	assert.Equal(t, "true", req.Header("X-PM-KeepID"), "or Postmark replaces it")
}

func TestOpensAreTrackedOnlyWhereAsked(t *testing.T) {
	for _, track := range []bool{false, true} {
		b := open(t)
		b.TrackOpens = track
		_, err := b.Send(t.Context(), full())
		require.NoError(t, err)
		_, req := b.taken(t)
		assert.Equal(t, track, req.TrackOpens)
		assert.Empty(t, req.TrackLinks)
	}
}

func TestAMessageStreamCanBeNamed(t *testing.T) {
	for stream, kind := range map[string]fault.Kind{"": 0, "outbound": 0, "news": 0, "unknown": fault.Denied} {
		b := open(t)
		b.MessageStream = stream
		_, err := b.Send(t.Context(), full())
		if kind != 0 {
			require.ErrorIs(t, err, kind, "the mail is fine: another provider may take it")
			continue
		}
		require.NoError(t, err)
		_, req := b.taken(t)
		assert.Equal(t, stream, req.MessageStream)
	}
}

func TestSuppressedRecipientsAreNamedInTheReceipt(t *testing.T) {
	b := open(t)
	b.sim.Suppress("GRACE@example.org", "bcc@example.org")
	m := full()
	m.To[0].Address = "Grace@Example.org" // Postmark names them in lower case
	receipt, err := b.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Equal(t, email.StatusAccepted, receipt.Status)
	assert.Equal(t, []email.Recipient{
		{Address: "Grace@Example.org", Status: email.StatusRefused, Code: "406"},
		{Address: "to@example.org", Status: email.StatusAccepted},
		{Address: "cc@example.org", Status: email.StatusAccepted},
		{Address: "bcc@example.org", Status: email.StatusRefused, Code: "406"},
	}, receipt.Recipients)
	got, _ := b.taken(t)
	assert.Equal(t, []email.Address{{Name: "Žofie", Address: "to@example.org"}}, got.To)
	assert.Nil(t, got.Bcc)
}

func TestAMailWhoseRecipientsAreAllSuppressedIsRejected(t *testing.T) {
	b := open(t)
	b.sim.Suppress("grace@example.org", "to@example.org", "cc@example.org", "bcc@example.org")
	_, err := b.Send(t.Context(), full())
	f, ok := fault.As(err)
	require.True(t, ok)
	assert.Equal(t, []any{fault.Rejected, "406"}, []any{f.Kind, f.Code}, "so that no backup writes to them either")
	assert.NotContains(t, err.Error(), "example.org")
	assert.Zero(t, b.sim.Mails.Len())
}

// The texts that Postmark's own libraries know, and one of a former edition.
func TestInactiveRecipientsAreFoundInEveryForm(t *testing.T) {
	for _, text := range []string{
		"Message OK, but will not deliver to these inactive addresses: to@example.org, cc@example.org.",
		"Message OK, but will not deliver to these inactive addresses: to@example.org,cc@example.org",
		"Message OK, but will not deliver to these inactive addresses: to@example.org, CC@example.org. Inactive recipients are ones that have generated a hard bounce or a spam complaint.",
		"Message OK, but will not deliver to these inactive addresses:\nto@example.org, cc@example.org.\nInactive recipients are ones that…",
	} {
		b := open(t)
		b.sim.Next(sim.Step{Status: 200, Acted: true, Body: fmt.Sprintf(`{"ErrorCode":0,"Message":%q,"MessageID":"id-1"}`, text)})
		receipt, err := b.Send(t.Context(), full())
		require.NoError(t, err)
		var refused []string
		for _, r := range receipt.Recipients {
			if r.Status == email.StatusRefused {
				refused = append(refused, r.Address)
			}
		}
		assert.Equal(t, []string{"to@example.org", "cc@example.org"}, refused, text)
	}
}

func TestASendTimeInThePastMeansNow(t *testing.T) {
	b := open(t)
	m := full()
	m.SendAt = time.Now().Add(-time.Minute)
	receipt, err := b.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Equal(t, email.StatusAccepted, receipt.Status)
}

func many(n int) []email.Address {
	out := make([]email.Address, n)
	for i := range out {
		out[i].Address = fmt.Sprintf("p%d@example.org", i)
	}
	return out
}

func entries(n int) map[string]string {
	out := map[string]string{}
	for i := range n {
		out[fmt.Sprint("k", i)] = "v"
	}
	return out
}

func TestWhatPostmarkCannotDoIsRefusedBeforeAnythingIsSent(t *testing.T) {
	for name, tt := range map[string]struct {
		field string
		spoil func(*email.Message)
	}{
		"no To":                            {"to", func(m *email.Message) { m.To = nil }},
		"51 recipients":                    {"to", func(m *email.Message) { m.To, m.Cc, m.Bcc = many(49), many(52)[49:51], nil }},
		"a time to come":                   {"send_at", func(m *email.Message) { m.SendAt = time.Now().Add(time.Minute) }},
		"256 characters of sender":         {"from.name", func(m *email.Message) { m.From.Name = strings.Repeat("n", 256-len(" <ada@example.com>")) }},
		"non-ASCII before the @":           {"from.address", func(m *email.Message) { m.From.Address = "jürgen@example.com" }},
		"of a recipient":                   {"bcc[0].address", func(m *email.Message) { m.Bcc[0].Address = "jürgen@example.com" }},
		"a second tag":                     {"tags[1]", func(m *email.Message) { m.Tags = []string{"a", "b"} }},
		"a tenth entry of metadata":        {"metadata", func(m *email.Message) { m.Metadata = entries(10) }},
		"a key of 21 characters":           {"metadata[" + strings.Repeat("k", 21) + "]", func(m *email.Message) { m.Metadata = map[string]string{strings.Repeat("k", 21): "v"} }},
		"a value of 81 characters":         {"metadata[k]", func(m *email.Message) { m.Metadata = map[string]string{"k": strings.Repeat("ü", 81)} }},
		"a key twice, in another case":     {"metadata[order]", func(m *email.Message) { m.Metadata = map[string]string{"order": "1", "Order": "2"} }},
		"the id's own key in another case": {"metadata[Message_Id]", func(m *email.Message) { m.Metadata = map[string]string{"Message_Id": "x"} }},
		"a header that we set":             {"headers[x-pm-keepid]", func(m *email.Message) { m.Headers = map[string]string{"x-pm-keepid": "false"} }},
		"a program":                        {"attachments[0].name", func(m *email.Message) { m.Attachments[0].Name = "setup.EXE" }},
		"an empty file":                    {"attachments[0].data", func(m *email.Message) { m.Attachments[0].Data = nil }},
		"5 MB of text":                     {"text", func(m *email.Message) { m.Text = strings.Repeat("x", 5_000_001) }},
		"5 MB of HTML":                     {"html", func(m *email.Message) { m.HTML = strings.Repeat("x", 5_000_001) }},
		"10 MB when encoded":               {"attachments", func(m *email.Message) { m.Attachments[0].Data = make([]byte, 7_600_000) }},
		"10 MB before":                     {"attachments", func(m *email.Message) { m.Attachments[0].Data = make([]byte, 10_000_001) }},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			m := full()
			tt.spoil(m)
			_, err := b.Send(t.Context(), m)
			require.ErrorIs(t, err, fault.Unsupported)
			require.ErrorIs(t, err, errors.ErrUnsupported)
			wrong, ok := errors.AsType[*email.FieldError](err)
			require.True(t, ok)
			assert.Equal(t, tt.field, wrong.Field)
			assert.Zero(t, b.sim.Requests())
		})
	}
}

func TestWhatIsJustAtALimitIsTaken(t *testing.T) {
	for name, change := range map[string]func(*email.Message){
		"50 recipients":            func(m *email.Message) { m.To, m.Cc, m.Bcc = many(48), many(50)[48:], nil },
		"255 characters of sender": func(m *email.Message) { m.From.Name = strings.Repeat("n", 255-len(" <ada@example.com>")) },
		"9 entries of metadata":    func(m *email.Message) { m.Metadata = entries(9) },
		"a key of 20 and a value of 80": func(m *email.Message) {
			m.Metadata = map[string]string{strings.Repeat("k", 20): strings.Repeat("ü", 80)}
		},
		"5 MB of HTML full of brackets": func(m *email.Message) { m.HTML = strings.Repeat("<", 5_000_000) },
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			m := full()
			change(m)
			_, err := b.Send(t.Context(), m)
			require.NoError(t, err)
			assert.Equal(t, 1, b.sim.Mails.Len())
		})
	}
}

func TestEveryDocumentedErrorHasItsKind(t *testing.T) {
	for _, tt := range []struct {
		status, code int
		message      string
		kind         fault.Kind
	}{
		{401, 10, "Request does not contain a valid Server token", fault.Denied},
		{503, 100, "The Postmark API is offline for maintenance.", fault.Unavailable},
		{500, 101, "An unexpected error", fault.Uncertain},
		{422, 300, "Invalid 'To' address: 'x'.", fault.Invalid},
		{422, 402, "Invalid JSON.", fault.Unsupported},
		{422, 403, "Invalid request field(s): 'From'.", fault.Unsupported},
		{422, 406, "Inactive recipient", fault.Rejected},
		{422, 410, "You may only send up to 500 messages", fault.Unsupported},
		{422, 411, "Attachment file type not allowed.", fault.Unsupported},
		{422, 412, "While your account is pending approval", fault.Denied},
		{422, 413, "This account is not approved to send email.", fault.Denied},
		{422, 422, "Invalid Server or Account.", fault.Denied},
		{422, 1235, "The stream provided: 'x' does not exist on this server.", fault.Denied},
		{422, 1236, "Sending is not supported for this stream type.", fault.Denied},
		{422, 1480, "You are not authorized to send emails from your current IP address", fault.Denied},
		// Of bulk sending.
		{422, 11, "Multiple errors occurred.", fault.Invalid},
		{404, 12, "Bulk send not found.", fault.NotFound},
		{422, 13, "Invalid pagination key.", fault.Invalid},
		{422, 14, "This endpoint requires approval", fault.Denied},
		// Former editions.
		{422, 400, "The 'From' address you supplied is not a Sender Signature on your account.", fault.Denied},
		{422, 401, "The 'From' address is not confirmed", fault.Denied},
		{422, 405, "Not allowed to send", fault.Exhausted},
		{422, 409, "JSON required", fault.Unsupported},
		{429, 429, "Rate Limit Exceeded", fault.RateLimited},
		// A code of tomorrow is judged by its status.
		{422, 9999, "never heard of it", fault.Invalid},
		{500, 9999, "never heard of it", fault.Uncertain},
		// A code is an answer whatever its status.
		{200, 406, "You tried to send to a recipient that has been marked as inactive.", fault.Rejected},
		{200, 300, "Invalid email request", fault.Invalid},
		{200, 9999, "never heard of it", fault.Unknown},
	} {
		t.Run(fmt.Sprint(tt.status, " ", tt.code), func(t *testing.T) {
			b := open(t)
			b.sim.Next(simulator.Error(tt.status, tt.code, tt.message))
			_, err := b.Send(t.Context(), full())
			f, ok := fault.As(err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, tt.kind, f.Kind)
			assert.Equal(t, fmt.Sprint(tt.code), f.Code)
			said, ok := errors.AsType[*postmark.Error](err)
			require.True(t, ok)
			assert.Equal(t, []int{tt.status, tt.code}, []int{said.Status, said.Code})
			assert.False(t, f.Deduped, "Postmark has no idempotency key")
			assert.Equal(t, 1, b.sim.Requests())
			assert.Zero(t, b.sim.Mails.Len())
		})
	}
}

func TestAnAnswerWithoutACodeIsJudgedByItsStatus(t *testing.T) {
	for name, tt := range map[string]struct {
		step sim.Step
		kind fault.Kind
		code string
	}{
		"401":                             {sim.Step{Status: 401}, fault.Denied, "401"},
		"403 of the layer before the API": {sim.Step{Status: 403, Body: "<html><h1>403 Forbidden</h1></html>"}, fault.Denied, "403"},
		"404, a wrong BaseURL":            {sim.Step{Status: 404}, fault.Denied, "404"},
		"405, a wrong BaseURL":            {sim.Step{Status: 405}, fault.Denied, "405"},
		"413":                             {sim.Step{Status: 413}, fault.Unsupported, "413"},
		"415":                             {sim.Step{Status: 415}, fault.Unsupported, "415"},
		"422":                             {sim.Step{Status: 422}, fault.Invalid, "422"},
		"429":                             {sim.Step{Status: 429, Header: http.Header{"Retry-After": {"7"}}}, fault.RateLimited, "429"},
		"500":                             {sim.Step{Status: 500}, fault.Uncertain, "500"},
		"501":                             {sim.Step{Status: 501}, fault.Uncertain, "501"},
		"503 of a proxy":                  {sim.Step{Status: 503, Body: "<html>"}, fault.Uncertain, "503"},
		"307 is not followed":             {sim.Step{Status: 307, Header: http.Header{"Location": {"/email"}}}, fault.Unknown, "307"},
		"a code in the header alone":      {sim.Step{Status: 422, Body: "no JSON", Header: http.Header{"X-PM-ApiErrorCode": {"406"}}}, fault.Rejected, "406"},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			b.sim.Next(tt.step)
			_, err := b.Send(t.Context(), full())
			f, ok := fault.As(err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, []any{tt.kind, tt.code}, []any{f.Kind, f.Code})
			if f.Kind == fault.RateLimited {
				assert.Equal(t, 7*time.Second, f.RetryAfter)
			}
			assert.Equal(t, 1, b.sim.Requests())
		})
	}
}

func TestABrokenConnectionHasItsKind(t *testing.T) {
	for when, acted := range map[sim.When]int{sim.BeforeActing: 0, sim.AfterActing: 1} {
		b := open(t)
		b.sim.Next(sim.Step{Reset: when})
		_, err := b.Send(t.Context(), full())
		require.ErrorIs(t, err, fault.Uncertain)
		assert.NotContains(t, err.Error(), b.sim.URL)
		assert.Equal(t, acted, b.sim.Mails.Len(), "one attempt, never repeated")
		assert.Equal(t, 1, b.sim.Requests())
	}
	b := open(t)
	b.way.Cut()
	_, err := b.Send(t.Context(), full())
	require.ErrorIs(t, err, fault.Unavailable)
}

// A status of success means that the mail was taken. Postmark has also answered
// without ErrorCode while its queues were slow (django-anymail issue 392).
func TestASuccessThatSaysLittleIsASuccess(t *testing.T) {
	for body, id := range map[string]string{
		`{"Message":"Message accepted, but delivery may be delayed.","MessageID":"id-1"}`: "id-1",
		`{"ErrorCode":0,"Mess`: "",
		``:                     "",
	} {
		b := open(t)
		b.sim.Next(sim.Step{Status: 200, Acted: true, Body: body})
		receipt, err := b.Send(t.Context(), full())
		require.NoError(t, err)
		assert.Equal(t, id, receipt.ProviderID)
		assert.Equal(t, 1, b.sim.Mails.Len())
	}
}

func TestTheTokenIsAskedForAtEverySend(t *testing.T) {
	b := open(t)
	current := token
	b.Token = secret.Func(func(context.Context) (secret.Value, error) { return secret.NewValue(current), nil })
	_, err := b.Send(t.Context(), full())
	require.NoError(t, err)
	current = "rotated"
	b.sim.SetToken(current)
	_, err = b.Send(t.Context(), full())
	require.NoError(t, err)
	current = "two\nlines"
	_, err = b.Send(t.Context(), full())
	require.ErrorIs(t, err, fault.Denied)
	assert.Equal(t, 2, b.sim.Requests())
}

func TestCheckNamesTheField(t *testing.T) {
	k := secret.Literal(token)
	assert.NoError(t, postmark.Sender{Token: k}.Check())
	assert.NoError(t, postmark.Sender{Token: k, BaseURL: "http://localhost:1"}.Check())
	assert.ErrorContains(t, postmark.Sender{}.Check(), "Token")
	_, err := postmark.Sender{}.Send(t.Context(), full())
	require.ErrorIs(t, err, fault.Denied)
	for _, base := range []string{"http://api.postmarkapp.com", "api.postmarkapp.com", "https://u:private@x"} {
		s := postmark.Sender{Token: k, BaseURL: base}
		assert.ErrorContains(t, s.Check(), "postmark: BaseURL", base)
		assert.NotContains(t, s.Check().Error(), "private")
		_, err := s.Send(t.Context(), full())
		assert.ErrorIs(t, err, fault.Denied, base)
	}
	assert.Equal(t, "postmark", postmark.Sender{}.Name())
}

func TestAnErrorReadsWell(t *testing.T) {
	for want, e := range map[string]*postmark.Error{
		"postmark: status 422, code 300: Invalid 'To' address": {Status: 422, Code: 300, Message: "Invalid 'To' address"},
		"postmark: status 503: Service Unavailable":            {Status: 503},
		"postmark: status 599":                                 {Status: 599},
	} {
		assert.Equal(t, want, e.Error())
	}
}
