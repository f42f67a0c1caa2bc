package resend_test

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
	"github.com/smilefactory/integrations/email/resend"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/resend"
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
			{Name: "b.pdf", Data: []byte{2}},
		},
		Headers: map[string]string{"X-Campaign": "spring"}, Tags: []string{"welcome"}, Metadata: map[string]string{"order": "7", "plan": "pro"},
		Unsubscribe: email.Unsubscribe{URL: "https://example.com/u", Mailto: "leave@example.com", OneClick: true},
		SendAt:      time.Now().Add(time.Hour), IdempotencyKey: "k-1", Locale: "de-AT", Thread: "order-7",
	}
}

func TestEveryFieldArrives(t *testing.T) {
	b := open(t)
	m := full()
	receipt, err := b.Send(t.Context(), m)
	require.NoError(t, err)
	want := full()
	want.IdempotencyKey, want.Locale, want.Thread, want.Unsubscribe = "", "", "", email.Unsubscribe{} // headers, or nothing at all
	want.Attachments[2].ContentType = "application/pdf"                                               // Resend reads it from the name
	want.Tags = []string{"order", "plan", "welcome"}                                                  // Resend has pairs alone
	want.Metadata["welcome"] = "1"
	want.Headers = map[string]string{
		"X-Campaign": "spring", "Content-Language": "de-AT", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
		"List-Unsubscribe": "<mailto:leave@example.com>, <https://example.com/u>", "References": "<order-7@example.com>",
	}
	got := b.taken(t)
	assert.WithinDuration(t, m.SendAt, got.SendAt, time.Millisecond)
	want.SendAt, got.SendAt = time.Time{}, time.Time{}
	assert.Equal(t, want, got)
	assert.Equal(t, email.StatusScheduled, receipt.Status)
	assert.Equal(t, b.sim.Mails.All()[0].ProviderID, receipt.ProviderID)
	assert.Empty(t, receipt.MessageID, "Resend doesn't tell it")
	assert.Len(t, receipt.Recipients, 4)
}

func TestHTMLAloneStaysAlone(t *testing.T) {
	b := open(t)
	m := full()
	m.Text = ""
	_, err := b.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Empty(t, b.taken(t).Text, "Resend would make a text of the HTML")
}

func TestASendTimeInThePastMeansNow(t *testing.T) {
	b := open(t)
	m := full()
	m.SendAt = time.Now().Add(-time.Minute)
	receipt, err := b.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Equal(t, email.StatusAccepted, receipt.Status)
	assert.True(t, b.sim.Mails.All()[0].SendAt.IsZero())
}

func TestTheKeyIsTheMessagesOwnOrElseItsID(t *testing.T) {
	for given, want := range map[string]string{"": "m-1", "order-7/confirmation": "order-7/confirmation", strings.Repeat("k", 255): strings.Repeat("k", 255)} {
		b := open(t)
		m := full()
		m.IdempotencyKey = given
		_, err := b.Send(t.Context(), m)
		require.NoError(t, err)
		assert.Equal(t, want, b.sim.Mails.All()[0].Key)
	}
}

func TestOneKeyIsOneMail(t *testing.T) {
	b := open(t)
	first, err := b.Send(t.Context(), full())
	require.NoError(t, err)
	m := full()
	m.SendAt = b.sim.Mails.All()[0].SendAt
	again, err := b.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Equal(t, first.ProviderID, again.ProviderID)
	assert.Equal(t, 1, b.sim.Mails.Len())
	assert.Equal(t, 1, b.sim.Replayed("k-1"))

	m.Subject = "another"
	_, err = b.Send(t.Context(), m)
	require.ErrorIs(t, err, fault.Conflict)
	assert.Equal(t, 1, b.sim.Mails.Len())

	b.now = time.Now().Add(24 * time.Hour)
	_, err = b.Send(t.Context(), m)
	require.NoError(t, err, "after 24 hours the key is forgotten")
	assert.Equal(t, 2, b.sim.Mails.Len())
}

func TestAMailThatIsBeingSentMayOnlyBeAskedForHere(t *testing.T) {
	b := open(t)
	release := b.sim.Hold("k-1")
	_, err := b.Send(t.Context(), full())
	f, ok := fault.As(err)
	require.True(t, ok)
	assert.Equal(t, []any{fault.Uncertain, "concurrent_idempotent_requests", true}, []any{f.Kind, f.Code, f.Deduped})
	assert.Equal(t, fault.Verdict{Retry: true, Count: true}, fault.Decide(err, fault.Once))
	release()
	_, err = b.Send(t.Context(), full())
	require.NoError(t, err)
}

// Under the name that net/http knows, it takes a POST for one that it may repeat.
func TestARequestIsNotRepeatedByTheTransport(t *testing.T) {
	b := open(t)
	m := full()
	_, err := b.Send(t.Context(), m)
	require.NoError(t, err)
	b.sim.Next(sim.Step{Reset: sim.BeforeActing}) // on a connection that is used again
	m.ID, m.IdempotencyKey = "m-2", ""
	_, err = b.Send(t.Context(), m)
	require.ErrorIs(t, err, fault.Uncertain)
	assert.Equal(t, 2, b.sim.Requests())
}

func many(n int) []email.Address {
	out := make([]email.Address, n)
	for i := range out {
		out[i].Address = fmt.Sprintf("p%d@example.org", i)
	}
	return out
}

func TestWhatResendCannotDoIsRefusedBeforeAnythingIsSent(t *testing.T) {
	file := func(name, mediaType string) func(*email.Message) {
		return func(m *email.Message) { m.Attachments[0].Name, m.Attachments[0].ContentType = name, mediaType }
	}
	for name, tt := range map[string]struct {
		field string
		spoil func(*email.Message)
	}{
		"no To":                          {"to", func(m *email.Message) { m.To = nil }},
		"51 recipients":                  {"to", func(m *email.Message) { m.To, m.Cc, m.Bcc = many(49), many(51)[49:], nil }},
		"more than 30 days ahead":        {"send_at", func(m *email.Message) { m.SendAt = time.Now().Add(30*24*time.Hour + time.Minute) }},
		"non-ASCII before the @":         {"from.address", func(m *email.Message) { m.From.Address = "jürgen@example.com" }},
		"a tag with a space":             {"tags[0]", func(m *email.Message) { m.Tags = []string{"a b"} }},
		"a tag that is a key":            {"tags[0]", func(m *email.Message) { m.Tags = []string{"order"} }},
		"a tag that is the id's":         {"tags[0]", func(m *email.Message) { m.Tags = []string{"message_id"} }},
		"metadata with a dot":            {"metadata[order]", func(m *email.Message) { m.Metadata["order"] = "7.1" }},
		"metadata without a value":       {"metadata[order]", func(m *email.Message) { m.Metadata["order"] = "" }},
		"a program":                      {"attachments[0].name", file("setup.EXE", "")},
		"an empty file":                  {"attachments[0].data", func(m *email.Message) { m.Attachments[0].Data = nil }},
		"a type that isn't the name's":   {"attachments[0].content_type", file("data.txt", "text/csv")},
		"a picture that isn't one":       {"attachments[0].content_type", file("a.PNG", "image/jpeg")},
		"a content id of 128 characters": {"attachments[1].content_id", func(m *email.Message) { m.Attachments[1].ContentID = strings.Repeat("i", 128) }},
		"40 MB when encoded":             {"attachments", func(m *email.Message) { m.Attachments[0].Data = make([]byte, 30_000_000) }},
		"40 MB before":                   {"attachments", func(m *email.Message) { m.Attachments[0].Data = make([]byte, 40_000_001) }},
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
		"50 recipients":                 func(m *email.Message) { m.To, m.Cc, m.Bcc = many(48), many(50)[48:], nil },
		"30 days ahead":                 func(m *email.Message) { m.SendAt = time.Now().Add(30*24*time.Hour - time.Second) },
		"a content id of 127":           func(m *email.Message) { m.Attachments[1].ContentID = strings.Repeat("i", 127) },
		"a type by another of its name": func(m *email.Message) { m.Attachments[0].Name, m.Attachments[0].ContentType = "a.jpeg", "image/jpeg" },
		"a type that nobody knows": func(m *email.Message) {
			m.Attachments[0].Name, m.Attachments[0].ContentType = "a.dat", "application/x-acme"
		},
		"a name without an extension": func(m *email.Message) { m.Attachments[0].Name, m.Attachments[0].ContentType = "README", "text/csv" },
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
		status int
		name   string
		kind   fault.Kind
	}{
		{400, "invalid_idempotency_key", fault.Unsupported},
		{400, "validation_error", fault.Invalid},
		{401, "missing_api_key", fault.Denied},
		{401, "restricted_api_key", fault.Denied},
		{403, "email_above_quota", fault.Exhausted},
		{403, "invalid_permission", fault.Denied},
		{403, "restricted_api_key", fault.Denied},
		{403, "suspended_api_key", fault.Denied},
		{403, "validation_error", fault.Denied}, // an unverified domain
		{404, "not_found", fault.Denied},
		{405, "method_not_allowed", fault.Denied},
		{409, "concurrent_idempotent_requests", fault.Uncertain},
		{409, "invalid_idempotent_request", fault.Conflict},
		{409, "resource_locked", fault.Uncertain},
		{422, "invalid_attachment", fault.Unsupported},
		{422, "invalid_parameter", fault.Invalid},
		{422, "missing_required_field", fault.Invalid},
		{422, "missing_required_parameter", fault.Invalid},
		{429, "daily_quota_exceeded", fault.Exhausted},
		{429, "monthly_quota_exceeded", fault.Exhausted},
		{429, "rate_limit_exceeded", fault.RateLimited},
		{500, "application_error", fault.Uncertain},
		{503, "service_unavailable", fault.Uncertain},
		// Former editions.
		{403, "invalid_api_key", fault.Denied},
		{422, "validation_error", fault.Invalid},
		{422, "invalid_from_address", fault.Invalid},
		{422, "invalid_access", fault.Invalid},
		{422, "invalid_region", fault.Invalid},
		{451, "security_error", fault.Rejected},
		{500, "internal_server_error", fault.Uncertain},
		// A name of tomorrow is judged by its status.
		{400, "never_heard_of_it", fault.Invalid},
		{500, "never_heard_of_it", fault.Uncertain},
	} {
		t.Run(fmt.Sprint(tt.status, " ", tt.name), func(t *testing.T) {
			b := open(t)
			b.sim.Next(simulator.Error(tt.status, tt.name, "as documented"))
			_, err := b.Send(t.Context(), full())
			f, ok := fault.As(err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, tt.kind, f.Kind)
			assert.Equal(t, tt.name, f.Code)
			assert.Equal(t, tt.kind != fault.Rejected, f.Deduped, "the attempt carried the key")
			assert.False(t, f.Settles(), "nothing says that the key was looked at")
			said, ok := errors.AsType[*resend.Error](err)
			require.True(t, ok)
			assert.Equal(t, resend.Error{Status: tt.status, Name: tt.name, Message: "as documented"}, *said)
			assert.Equal(t, 1, b.sim.Requests())
			assert.Zero(t, b.sim.Mails.Len())
		})
	}
}

func TestAnAnswerWithoutANameIsJudgedByItsStatus(t *testing.T) {
	for name, tt := range map[string]struct {
		step sim.Step
		kind fault.Kind
		code string
	}{
		"403 of the layer before the API": {sim.Step{Status: 403, Body: "error code: 1010"}, fault.Denied, "403"},
		"404, a wrong BaseURL":            {sim.Step{Status: 404}, fault.Denied, "404"},
		"405, a wrong BaseURL":            {sim.Step{Status: 405}, fault.Denied, "405"},
		"413":                             {sim.Step{Status: 413}, fault.Unsupported, "413"},
		"429":                             {sim.Step{Status: 429, Header: http.Header{"Retry-After": {"7"}}}, fault.RateLimited, "429"},
		"429 with a reset":                {sim.Step{Status: 429, Header: http.Header{"Ratelimit-Reset": {"7"}}}, fault.RateLimited, "429"},
		"501":                             {sim.Step{Status: 501}, fault.Uncertain, "501"},
		"503 of a proxy":                  {sim.Step{Status: 503, Body: "<html>"}, fault.Uncertain, "503"},
		"307 is not followed":             {sim.Step{Status: 307, Header: http.Header{"Location": {"/emails"}}}, fault.Unknown, "307"},
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
		f, ok := fault.As(err)
		require.True(t, ok)
		assert.Equal(t, []any{fault.Uncertain, true}, []any{f.Kind, f.Deduped})
		assert.NotContains(t, err.Error(), b.sim.URL)
		assert.Equal(t, acted, b.sim.Mails.Len(), "one attempt, never repeated")
		assert.Equal(t, 1, b.sim.Requests())
	}
	b := open(t)
	b.way.Cut()
	_, err := b.Send(t.Context(), full())
	require.ErrorIs(t, err, fault.Unavailable)
}

func TestAStatusIsAnAnswerThoughItsBodyBreaksOff(t *testing.T) {
	b := open(t)
	b.sim.Next(sim.Step{Malformed: true})
	receipt, err := b.Send(t.Context(), full())
	require.NoError(t, err)
	assert.Empty(t, receipt.ProviderID)
	assert.Equal(t, 1, b.sim.Mails.Len())
}

func TestTheKeyIsAskedForAtEverySend(t *testing.T) {
	b := open(t)
	current := key
	b.Key = secret.Func(func(context.Context) (secret.Value, error) { return secret.NewValue(current), nil })
	m := full()
	_, err := b.Send(t.Context(), m)
	require.NoError(t, err)
	current = "re_rotated"
	b.sim.SetKey(current)
	_, err = b.Send(t.Context(), m)
	require.NoError(t, err)
	current = "two\nlines"
	_, err = b.Send(t.Context(), m)
	require.ErrorIs(t, err, fault.Denied)
	assert.Equal(t, 2, b.sim.Requests())
}

func TestCheckNamesTheField(t *testing.T) {
	k := secret.Literal(key)
	assert.NoError(t, resend.Sender{Key: k}.Check())
	assert.NoError(t, resend.Sender{Key: k, BaseURL: "http://localhost:1"}.Check())
	assert.ErrorContains(t, resend.Sender{}.Check(), "Key")
	_, err := resend.Sender{}.Send(t.Context(), full())
	require.ErrorIs(t, err, fault.Denied)
	for _, base := range []string{"http://api.resend.com", "api.resend.com", "https://u:private@x"} {
		s := resend.Sender{Key: k, BaseURL: base}
		assert.ErrorContains(t, s.Check(), "resend: BaseURL", base)
		assert.NotContains(t, s.Check().Error(), "private")
		_, err := s.Send(t.Context(), full())
		assert.ErrorIs(t, err, fault.Denied, base)
	}
	assert.Equal(t, "resend", resend.Sender{}.Name())
}

func TestAnErrorReadsWell(t *testing.T) {
	for want, e := range map[string]*resend.Error{
		"resend: status 400, validation_error: Invalid `to` field": {Status: 400, Name: "validation_error", Message: "Invalid `to` field"},
		"resend: status 503: Service Unavailable":                  {Status: 503},
		"resend: status 599":                                       {Status: 599},
	} {
		assert.Equal(t, want, e.Error())
	}
}
