package sendgrid_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/sendgrid"
	"github.com/smilefactory/integrations/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// full uses every field.
func full() *email.Message {
	return &email.Message{
		ID: "m-1", From: email.Address{Name: "Acme, Inc.", Address: "ada@example.com"},
		To: []email.Address{{Name: "Grace", Address: "grace@example.org"}}, Cc: []email.Address{{Address: "cc@example.org"}},
		Bcc: []email.Address{{Address: "bcc@example.org"}}, ReplyTo: []email.Address{{Address: "r1@example.com"}, {Address: "r2@example.com"}},
		Subject: "Grüße", Text: "text", HTML: "<b>html</b>",
		Attachments: []email.Attachment{
			{Name: "a.txt", ContentType: "text/plain; charset=utf-8", Data: []byte("a")},
			{Name: "l.png", ContentType: "image/png", ContentID: "logo", Data: []byte{1}},
			{Name: "b.bin", Data: []byte{2}},
		},
		Headers: map[string]string{"X-Campaign": "spring"}, Tags: []string{"welcome"}, Metadata: map[string]string{"order": "7"},
		Unsubscribe: email.Unsubscribe{URL: "https://example.com/u", Mailto: "leave@example.com", OneClick: true},
		SendAt:      time.Now().Add(time.Hour).Truncate(time.Second), IdempotencyKey: "k-1", Locale: "de-AT",
	}
}

func TestEveryFieldArrives(t *testing.T) {
	b := open(t)
	m := full()
	receipt, err := b.Send(t.Context(), m)
	require.NoError(t, err)
	require.Equal(t, 1, b.sim.Mails.Len())
	raw := b.sim.Mails.All()[0]
	want := full()
	want.IdempotencyKey, want.Locale, want.Unsubscribe = "", "", email.Unsubscribe{} // headers, or nothing at all
	want.Attachments[0].ContentType, want.Attachments[2].ContentType = "text/plain", "application/octet-stream"
	want.SendAt = m.SendAt
	want.Headers = map[string]string{
		"X-Campaign": "spring", "Content-Language": "de-AT", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
		"List-Unsubscribe": "<mailto:leave@example.com>, <https://example.com/u>",
	}
	got := b.taken(t)
	assert.True(t, want.SendAt.Equal(got.SendAt))
	want.SendAt, got.SendAt = time.Time{}, time.Time{}
	assert.Equal(t, want, got)
	assert.Empty(t, raw.Key, "SendGrid has no idempotency: no header pretends it")
	assert.Equal(t, email.StatusScheduled, receipt.Status)
	assert.Equal(t, raw.ProviderID, receipt.ProviderID)
	assert.Len(t, receipt.Recipients, 3)
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

func TestAMailWithoutAnIDGetsOneInTheRequestOnly(t *testing.T) {
	b := open(t)
	m := full()
	m.ID = ""
	receipt, err := b.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Empty(t, m.ID)
	assert.Equal(t, 1, b.sim.Mails.Count(receipt.ID))
}

func TestTheSandboxChecksAndSendsNothing(t *testing.T) {
	b := open(t)
	b.SandboxMode = true
	_, err := b.Send(t.Context(), full())
	require.NoError(t, err)
	assert.Equal(t, 1, b.sim.Requests())
	assert.Zero(t, b.sim.Mails.Len())
}

func TestWhatSendGridCannotDoIsRefusedBeforeAnythingIsSent(t *testing.T) {
	for name, tt := range map[string]struct {
		field string
		spoil func(*email.Message)
	}{
		"no To":                       {"to", func(m *email.Message) { m.To = nil }},
		"more than 72 hours ahead":    {"send_at", func(m *email.Message) { m.SendAt = time.Now().Add(72*time.Hour + time.Minute) }},
		"non-ASCII sender":            {"from.address", func(m *email.Message) { m.From.Address = "jürgen@example.com" }},
		"comma in a name":             {"to[0].name", func(m *email.Message) { m.To[0].Name = "Hopper, Grace" }},
		"semicolon in a name":         {"bcc[0].name", func(m *email.Message) { m.Bcc[0].Name = "a;b" }},
		"non-ASCII tag":               {"tags[0]", func(m *email.Message) { m.Tags = []string{"Grüße"} }},
		"10,000 bytes of custom args": {"metadata", func(m *email.Message) { m.Metadata = large() }},
		"metadata that hides a field": {"metadata[email]", func(m *email.Message) { m.Metadata = map[string]string{"email": "x"} }},
		"a reserved header":           {"headers[X-SG-EID]", func(m *email.Message) { m.Headers = map[string]string{"X-SG-EID": "x"} }},
		"an empty file":               {"attachments[0].data", func(m *email.Message) { m.Attachments[0].Data = nil }},
		"30 MB when encoded":          {"attachments", func(m *email.Message) { m.Attachments[0].Data = make([]byte, 23_000_000) }},
		"30 MB before":                {"attachments", func(m *email.Message) { m.Attachments[0].Data = make([]byte, 30_000_000) }},
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

// In an event, custom arguments stand among SendGrid's own fields.
func TestNoMetadataIsLostAmongTheFieldsOfAnEvent(t *testing.T) {
	for _, key := range []string{
		"asm_group_id", "attempt", "bounce_classification", "category", "email", "event", "ip", "marketing_campaign_id", "marketing_campaign_name",
		"pool", "reason", "response", "sg_event_id", "sg_machine_open", "sg_message_id", "smtp-id", "status", "timestamp", "tls", "type",
		"unique_args", "url", "url_offset", "useragent",
	} {
		b := open(t)
		m := full()
		m.Metadata = map[string]string{"order": "7", key: "x"}
		_, err := b.Send(t.Context(), m)
		require.ErrorIs(t, err, fault.Unsupported, key)
		assert.ErrorContains(t, err, "metadata["+key+"]")
		assert.Zero(t, b.sim.Requests())
	}
	b := open(t)
	m := full()
	m.Metadata = map[string]string{"order": "7", "event_id": "8", "Email": "9", "smtp_id": "10"}
	_, err := b.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Equal(t, m.Metadata, b.taken(t).Metadata, "others travel under their own names")
}

func large() map[string]string {
	out := map[string]string{}
	for i := range 10 {
		out[strconv.Itoa(i)] = strings.Repeat("x", 1000)
	}
	return out
}

func TestAnErrorHasItsKind(t *testing.T) {
	for name, tt := range map[string]struct {
		step sim.Step
		kind fault.Kind
		code string
	}{
		"400": {simulator.Error(400, "Bad Request"), fault.Invalid, "400"},
		"400 with a field": {
			sim.Step{Status: 400, Body: `{"errors":[{"message":"no","field":"personalizations.0.to","help":null}],"id":"req-1"}`},
			fault.Invalid, "400 personalizations.0.to",
		},
		"401":                     {simulator.Error(401, "authorization required"), fault.Denied, "401"},
		"401, credits spent":      {simulator.Error(401, "Maximum credits exceeded"), fault.Exhausted, "401"},
		"403":                     {simulator.Error(403, "access forbidden"), fault.Denied, "403"},
		"403, unverified sender":  {simulator.Error(403, "The from address does not match a verified Sender Identity."), fault.Denied, "403"},
		"404, a wrong BaseURL":    {simulator.Error(404, "not found"), fault.Denied, "404"},
		"405, a wrong BaseURL":    {simulator.Error(405, "POST method allowed only"), fault.Denied, "405"},
		"413":                     {simulator.Error(413, "content too large"), fault.Unsupported, "413"},
		"415":                     {simulator.Error(415, "Invalid UTF8 in request"), fault.Invalid, "415"},
		"429":                     {simulator.RateLimited(time.Now().Add(time.Minute)), fault.RateLimited, "429"},
		"500":                     {simulator.Error(500, "oops"), fault.Uncertain, "500"},
		"501":                     {simulator.Error(501, "oops"), fault.Uncertain, "501"},
		"503":                     {simulator.Error(503, "oops"), fault.Uncertain, "503"},
		"503 of a proxy, HTML":    {sim.Step{Status: 503, Body: "<html>"}, fault.Uncertain, "503"},
		"307 is not followed":     {sim.Step{Status: 307, Header: http.Header{"Location": {"/v3/mail/send"}}}, fault.Unknown, "307"},
		"408, by fault's own map": {simulator.Error(408, "timeout"), fault.Uncertain, "408"},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			b.sim.Next(tt.step)
			_, err := b.Send(t.Context(), full())
			f, ok := fault.As(err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, tt.kind, f.Kind)
			assert.Equal(t, tt.code, f.Code)
			_, ok = errors.AsType[*sendgrid.Error](err)
			assert.True(t, ok)
			assert.Equal(t, 1, b.sim.Requests())
			assert.Zero(t, b.sim.Mails.Len())
		})
	}
}

func TestRateLimitsSayForHowLong(t *testing.T) {
	for name, tt := range map[string]struct {
		header http.Header
		want   time.Duration
	}{
		"the reset's instant":      {http.Header{"X-Ratelimit-Reset": {strconv.FormatInt(time.Now().Add(40*time.Second).Unix(), 10)}}, 40 * time.Second},
		"seconds of a proxy":       {http.Header{"Retry-After": {"7"}}, 7 * time.Second},
		"capped":                   {http.Header{"X-Ratelimit-Reset": {"9223372036854775807"}}, fault.MaxRetryAfter},
		"in the past":              {http.Header{"X-Ratelimit-Reset": {"1"}}, 0},
		"nonsense":                 {http.Header{"X-Ratelimit-Reset": {"soon"}}, 0},
		"nonsense and Retry-After": {http.Header{"X-Ratelimit-Reset": {"soon"}, "Retry-After": {"7"}}, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			b.sim.Next(sim.Step{Status: 429, Header: tt.header})
			_, err := b.Send(t.Context(), full())
			f, _ := fault.As(err)
			assert.InDelta(t, tt.want.Seconds(), f.RetryAfter.Seconds(), 2)
		})
	}
}

func TestABrokenConnectionHasItsKind(t *testing.T) {
	for name, tt := range map[string]struct {
		step  sim.Step
		acted int
	}{
		"reset before acting": {sim.Step{Reset: sim.BeforeActing}, 0},
		"reset after acting":  {sim.Step{Reset: sim.AfterActing}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			b.sim.Next(tt.step)
			_, err := b.Send(t.Context(), full())
			require.ErrorIs(t, err, fault.Uncertain)
			assert.NotContains(t, err.Error(), b.sim.URL)
			assert.Equal(t, tt.acted, b.sim.Mails.Len(), "one attempt, never repeated")
			assert.Equal(t, 1, b.sim.Requests())
		})
	}
	t.Run("no connection", func(t *testing.T) {
		b := open(t)
		b.way.Cut()
		_, err := b.Send(t.Context(), full())
		require.ErrorIs(t, err, fault.Unavailable)
	})
}

func TestAHangEndsWithTheContext(t *testing.T) {
	for when, acted := range map[sim.When]int{sim.BeforeActing: 0, sim.AfterActing: 1} {
		b := open(t)
		b.sim.Next(sim.Step{Hang: when})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := b.Send(ctx, full())
		require.ErrorIs(t, err, fault.Uncertain)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, acted, b.sim.Mails.Len())
	}
}

func TestACancelledContextSendsNothing(t *testing.T) {
	b := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Send(ctx, full())
	require.ErrorIs(t, err, context.Canceled)
	assert.False(t, fault.MayHaveActed(err))
	assert.Zero(t, b.sim.Requests())
}

func TestAStatusIsAnAnswerThoughItsBodyBreaksOff(t *testing.T) {
	for status, kind := range map[int]fault.Kind{http.StatusAccepted: fault.Unknown, http.StatusBadRequest: fault.Invalid} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Header().Set("X-Message-Id", "id-1")
			w.WriteHeader(status)
		}))
		transport := &http.Transport{}
		receipt, err := sendgrid.Sender{Key: secret.Literal(key), BaseURL: srv.URL, HTTPClient: &http.Client{Transport: transport}}.Send(t.Context(), full())
		if status == http.StatusAccepted {
			require.NoError(t, err)
			assert.Equal(t, "id-1", receipt.ProviderID)
		} else {
			require.ErrorIs(t, err, kind)
		}
		transport.CloseIdleConnections()
		srv.Close()
	}
}

func TestAnEndlessAnswerIsCut(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}))
	defer srv.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	_, err := sendgrid.Sender{Key: secret.Literal(key), BaseURL: srv.URL, HTTPClient: &http.Client{Transport: transport}}.Send(t.Context(), full())
	require.ErrorIs(t, err, fault.Uncertain)
	assert.Less(t, len(err.Error()), 500)
}

func TestErrorsHoldNeitherAddressesNorKeys(t *testing.T) {
	b := open(t)
	for _, message := range []string{
		"We found the first duplicate instance of [grace@example.org] in the personalizations.0.to field.",
		`"Grace" <grace@example.org> and ada@example.com, with Bearer ` + key,
		"grace@example.org",
	} {
		b.sim.Next(simulator.Error(400, message))
		_, err := b.Send(t.Context(), full())
		require.Error(t, err)
		for _, private := range []string{"grace@", "ada@", "example.org", "example.com", key} {
			assert.NotContains(t, err.Error(), private)
			assert.NotContains(t, fmt.Sprintf("%+v %#v", err, err), private)
		}
	}
}

func TestTheKeyIsAskedForAtEverySend(t *testing.T) {
	b := open(t)
	current := key
	b.Key = secret.Func(func(context.Context) (secret.Value, error) { return secret.NewValue(current), nil })
	_, err := b.Send(t.Context(), full())
	require.NoError(t, err)
	current = "SG.rotated"
	b.sim.SetKey(current)
	_, err = b.Send(t.Context(), full())
	require.NoError(t, err)
}

func TestAKeyThatCannotBeHadSendsNothing(t *testing.T) {
	broken := errors.New("vault is sealed")
	for name, source := range map[string]secret.Source{
		"none":     nil,
		"an error": secret.Func(func(context.Context) (secret.Value, error) { return secret.Value{}, broken }),
		"empty":    secret.Func(func(context.Context) (secret.Value, error) { return secret.NewValue(""), nil }),
		"two lines": secret.Func(func(context.Context) (secret.Value, error) {
			return secret.NewValue("private\nX-Injected: 1"), nil
		}),
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			b.Key = source
			_, err := b.Send(t.Context(), full())
			require.ErrorIs(t, err, fault.Denied)
			assert.NotContains(t, err.Error(), "private")
			assert.Zero(t, b.sim.Requests())
		})
	}
}

func TestCheckNamesTheField(t *testing.T) {
	k := secret.Literal(key)
	assert.NoError(t, sendgrid.Sender{Key: k}.Check())
	assert.NoError(t, sendgrid.Sender{Key: k, BaseURL: "https://api.eu.sendgrid.com/"}.Check())
	assert.NoError(t, sendgrid.Sender{Key: k, BaseURL: "http://localhost:1"}.Check())
	assert.NoError(t, sendgrid.Sender{Key: k, BaseURL: "http://[::1]:1"}.Check())
	assert.ErrorContains(t, sendgrid.Sender{}.Check(), "Key")
	for _, base := range []string{"http://api.sendgrid.com", "http://localhost.example.com", "ftp://x", "api.sendgrid.com", "https://u:private@x", "https://x?private", "::"} {
		err := sendgrid.Sender{Key: k, BaseURL: base}.Check()
		assert.ErrorContains(t, err, "BaseURL", base)
		assert.NotContains(t, err.Error(), "private")
		_, err = sendgrid.Sender{Key: k, BaseURL: base}.Send(t.Context(), full())
		assert.ErrorIs(t, err, fault.Denied, base)
	}
}
