package sendgrid_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/servertest"
	"github.com/smilefactory/integrations/secret"
)

// prism checks every request against SendGrid's own OpenAPI description. As a
// transport it can spoil requests, and counts those accepted.
type prism struct {
	sendgrid.Sender
	*http.Transport
	spoil    func(*http.Request, map[string]any)
	accepted atomic.Int64 // answers of status 202
}

const prismURL = "INTEGRATIONS_PRISM_SENDGRID_URL"

func newPrism(t *testing.T, url string) *prism {
	t.Helper()
	p := &prism{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	t.Cleanup(p.CloseIdleConnections)
	p.Sender = sendgrid.Sender{
		Key: secret.Literal(key), BaseURL: url, HTTPClient: &http.Client{Transport: p},
	}
	return p
}

func (p *prism) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.spoil != nil {
		if err := spoilBody(r, p.spoil); err != nil {
			return nil, err
		}
	}
	res, err := p.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusAccepted {
		p.accepted.Add(1)
	}
	return res, nil
}

// spoilBody lets spoil change the request, whose body is JSON.
func spoilBody(r *http.Request, spoil func(*http.Request, map[string]any)) error {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return err
	}
	spoil(r, body)
	data, err := json.Marshal(body)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	return err
}

func plainMail() *email.Message {
	return &email.Message{
		From: email.Address{Address: "ada@example.com"}, To: []email.Address{{Address: "grace@example.org"}}, Subject: "Hello", Text: "How are you?",
	}
}

// fullMail uses every field that SendGrid has a place for.
func fullMail() *email.Message {
	return &email.Message{
		ID: "m-1", From: email.Address{Name: "Ada Lövelace", Address: "ada@example.com"},
		To:      []email.Address{{Name: "Grace", Address: "grace@example.org"}, {Address: "alan@example.org"}},
		Cc:      []email.Address{{Name: "Čc", Address: "cc@example.org"}},
		Bcc:     []email.Address{{Address: "bcc@example.org"}},
		ReplyTo: []email.Address{{Name: "Desk", Address: "reply@example.com"}},
		Subject: "Grüße ✓", Text: "text ✓", HTML: `<p>html ✓ <img src="cid:logo"></p>`,
		Attachments: []email.Attachment{
			{Name: "Überblick.csv", ContentType: "text/csv; charset=utf-8", Data: []byte("a,b\r\n")},
			{Name: "unknown", Data: []byte{0, 1}},
			{Name: "logo.png", ContentType: "image/png", ContentID: "logo", Data: []byte("\x89PNG")},
		},
		Headers:     map[string]string{"X-Campaign": "spring"},
		Tags:        []string{"welcome", "2026"},
		Metadata:    map[string]string{"order": "7"},
		Unsubscribe: email.Unsubscribe{URL: "https://example.com/u?x=1", Mailto: "leave@example.com", OneClick: true},
		SendAt:      time.Now().Add(time.Hour),
		Locale:      "de-AT",
	}
}

func TestIntegrationWhatIsSentFitsSendGridsDescription(t *testing.T) {
	url := servertest.Env(t, prismURL)
	for name, c := range map[string]struct {
		mail    *email.Message
		change  func(*email.Message)
		sandbox bool
		status  email.Status
	}{
		"a plain mail":           {mail: plainMail(), status: email.StatusAccepted},
		"HTML alone":             {mail: plainMail(), change: func(m *email.Message) { m.Text, m.HTML = "", "<p>" }, status: email.StatusAccepted},
		"a mail with everything": {mail: fullMail(), status: email.StatusScheduled},
		"several reply-to": {mail: fullMail(), change: func(m *email.Message) {
			m.ReplyTo = append(m.ReplyTo, email.Address{Address: "second@example.com"})
		}, status: email.StatusScheduled},
		"no reply-to":    {mail: fullMail(), change: func(m *email.Message) { m.ReplyTo = nil }, status: email.StatusScheduled},
		"at once":        {mail: fullMail(), change: func(m *email.Message) { m.SendAt = time.Time{} }, status: email.StatusAccepted},
		"in the sandbox": {mail: fullMail(), sandbox: true, status: email.StatusScheduled},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPrism(t, url)
			p.SandboxMode = c.sandbox
			if c.change != nil {
				c.change(c.mail)
			}
			receipt, err := p.Send(t.Context(), c.mail)
			require.NoError(t, err)
			assert.Equal(t, c.status, receipt.Status)
			assert.EqualValues(t, 1, p.accepted.Load(), "SendGrid accepts with 202")
		})
	}
}

// Proves that the test above can fail: Prism looks at what it is sent.
func TestIntegrationWhatDoesNotFitIsRefused(t *testing.T) {
	url := servertest.Env(t, prismURL)
	for name, c := range map[string]struct {
		spoil  func(*http.Request, map[string]any)
		kind   fault.Kind
		status int
	}{
		"no recipients":      {func(_ *http.Request, m map[string]any) { delete(m, "personalizations") }, fault.Invalid, 400},
		"a subject's type":   {func(_ *http.Request, m map[string]any) { m["subject"] = []string{"a"} }, fault.Invalid, 400},
		"an unknown setting": {func(_ *http.Request, m map[string]any) { m["mail_settings"] = "sandbox" }, fault.Invalid, 400},
		"a file without content": {func(_ *http.Request, m map[string]any) {
			m["attachments"] = []any{map[string]any{"filename": "a.txt"}}
		}, fault.Invalid, 400},
		"no key": {func(r *http.Request, _ map[string]any) { r.Header.Del("Authorization") }, fault.Denied, 401},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPrism(t, url)
			p.spoil = c.spoil
			_, err := p.Send(t.Context(), fullMail())
			require.ErrorIs(t, err, c.kind)
			answer, ok := errors.AsType[*sendgrid.Error](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, c.status, answer.Status)
			assert.Equal(t, "field_name", answer.Field, "which is the example of the description")
			assert.Zero(t, p.accepted.Load())
		})
	}
}

func TestIntegrationManyMailsAtOnceAreAllAccepted(t *testing.T) {
	p := newPrism(t, servertest.Env(t, prismURL))
	servertest.AtOnce(50, func(int) {
		_, err := p.Send(t.Context(), fullMail())
		assert.NoError(t, err)
	})
	assert.EqualValues(t, 16*50, p.accepted.Load())
}
