package ses_test

import (
	"fmt"
	"io"
	"net/http"
	"net/mail"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/ses"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/servertest"
)

// local is a Sender in front of aws-ses-v2-local, which keeps what it took.
type local struct {
	*ses.Sender
	*http.Transport
	url  string
	body string // is sent instead of the true one, where it is set
}

func openLocal(t *testing.T, options ...ses.Option) *local {
	t.Helper()
	l := &local{url: servertest.Env(t, "INTEGRATIONS_SES_URL"), Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	t.Cleanup(l.CloseIdleConnections)
	servertest.JSON(t, http.MethodPost, l.url+"/clear-store", nil, nil)
	l.Sender = ses.New(aws.Config{
		Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("AKTEST", "s3cr3t", ""), HTTPClient: &http.Client{Transport: l},
	}, append(options, ses.WithBaseURL(l.url))...)
	return l
}

func (l *local) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.body != "" {
		_ = r.Body.Close()
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(l.body)), int64(len(l.body))
	}
	return l.Transport.RoundTrip(r)
}

// stored is a mail as the server shows it. Of raw mails it shows what is in the
// MIME message alone; it shows no tags.
type stored struct {
	MessageID   string
	From        string
	ReplyTo     []string
	Destination struct{ To, Cc, Bcc []string }
	Subject     string
	Body        struct{ Text, HTML string }
	Attachments []struct {
		Filename, ContentType, ContentDisposition string
		ContentID                                 string // of a mail in SES's own fields, as sent
		CID                                       string // of a raw mail, without brackets
		Content                                   []byte
	}
	Headers []struct{ Name, Value string }
}

func (l *local) stored(t *testing.T) []stored {
	t.Helper()
	var store struct{ Emails []stored }
	servertest.JSON(t, http.MethodGet, l.url+"/store", nil, &store)
	return store.Emails
}

func whole() *email.Message {
	return &email.Message{
		ID: "m-1", From: email.Address{Name: "Ada Lövelace", Address: "ada@example.com"},
		To:      []email.Address{{Name: "Grace", Address: "grace@example.org"}, {Address: "alan@example.org"}},
		Cc:      []email.Address{{Name: "Čc", Address: "cc@example.org"}},
		Bcc:     []email.Address{{Address: "bcc@example.org"}},
		ReplyTo: []email.Address{{Name: "Desk", Address: "reply@example.com"}, {Address: "second@example.com"}},
		Subject: "Grüße ✓", Text: "text ✓", HTML: `<p>html ✓ <img src="cid:logo"></p>`,
		Attachments: []email.Attachment{
			{Name: "Überblick.csv", ContentType: "text/csv", Data: []byte("a,b\r\n1,2\r\n")},
			{Name: "logo.png", ContentType: "image/png", ContentID: "logo", Data: []byte("\x89PNG\x00\xff")},
		},
		Headers:     map[string]string{"X-Campaign": "spring"},
		Tags:        []string{"welcome"},
		Metadata:    map[string]string{"order": "7"},
		Unsubscribe: email.Unsubscribe{URL: "https://example.com/u?x=1", OneClick: true},
	}
}

func TestIntegrationAMailInSESsOwnFieldsArrivesWhole(t *testing.T) {
	l := openLocal(t)
	m := whole()
	receipt, err := l.Send(t.Context(), m)
	require.NoError(t, err)
	got := l.one(t, receipt, m)
	sameAddresses(t, m.Bcc, got.Destination.Bcc)
	assert.Equal(t, m.Text, got.Body.Text)
	assert.Equal(t, m.HTML, got.Body.HTML)
	headers := map[string]string{}
	for _, h := range got.Headers {
		headers[h.Name] = h.Value
	}
	assert.Equal(t, map[string]string{
		"X-Campaign": "spring", "List-Unsubscribe": "<https://example.com/u?x=1>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
	}, headers)
	require.Len(t, got.Attachments, 2)
	for i, a := range m.Attachments {
		assert.Equal(t, a.ContentID, got.Attachments[i].ContentID)
		assert.Equal(t, map[bool]string{true: "INLINE", false: "ATTACHMENT"}[a.ContentID != ""], got.Attachments[i].ContentDisposition)
	}
}

func TestIntegrationARawMailArrivesWhole(t *testing.T) {
	l := openLocal(t, ses.WithRaw())
	m := whole()
	receipt, err := l.Send(t.Context(), m)
	require.NoError(t, err)
	got := l.one(t, receipt, m)
	assert.Empty(t, got.Destination.Bcc, "a blind copy stands in the request, never in the message")
	assert.Contains(t, got.Body.Text, m.Text)
	assert.Contains(t, got.Body.HTML, "html ✓")
}

// one checks what both ways to send have in common.
func (l *local) one(t *testing.T, receipt *email.Receipt, m *email.Message) stored {
	t.Helper()
	all := l.stored(t)
	require.Len(t, all, 1)
	got := all[0]
	assert.Equal(t, got.MessageID, receipt.ProviderID)
	assert.Equal(t, email.StatusAccepted, receipt.Status)
	assert.Equal(t, m.Subject, got.Subject)
	sameAddresses(t, []email.Address{m.From}, []string{got.From})
	sameAddresses(t, m.To, got.Destination.To)
	sameAddresses(t, m.Cc, got.Destination.Cc)
	sameAddresses(t, m.ReplyTo, got.ReplyTo)
	files := map[string]email.Attachment{}
	for _, a := range got.Attachments {
		files[a.Filename] = email.Attachment{Name: a.Filename, ContentType: a.ContentType, Data: a.Content}
	}
	for _, a := range m.Attachments {
		assert.Equal(t, email.Attachment{Name: a.Name, ContentType: a.ContentType, Data: a.Data}, files[a.Name])
	}
	return got
}

// sameAddresses: the server shows a list's addresses one by one, or as one text.
func sameAddresses(t *testing.T, want []email.Address, got []string) {
	t.Helper()
	var parsed []email.Address
	for _, text := range got {
		list, err := mail.ParseAddressList(text)
		require.NoError(t, err, text)
		for _, a := range list {
			parsed = append(parsed, *a)
		}
	}
	assert.Equal(t, want, parsed)
}

func TestIntegrationWhatTheServerRefusesIsInvalid(t *testing.T) {
	for name, body := range map[string]string{
		"no content": `{"FromEmailAddress":"ada@example.com","Content":{}}`,
		"no body":    `{"FromEmailAddress":"ada@example.com","Content":{"Simple":{"Subject":{"Data":"s"},"Body":{}}}}`,
		"no sender":  `{"Content":{"Simple":{"Subject":{"Data":"s"},"Body":{"Text":{"Data":"t"}}}}}`,
	} {
		l := openLocal(t)
		l.body = body
		_, err := l.Send(t.Context(), whole())
		assert.ErrorIs(t, err, fault.Invalid, name)
		assert.Empty(t, l.stored(t), name)
	}
}

func TestIntegrationManyMailsAtOnceArriveOnceEach(t *testing.T) {
	for name, options := range map[string][]ses.Option{"in SES's own fields": nil, "raw": {ses.WithRaw()}} {
		l := openLocal(t, options...)
		const each = 50
		servertest.AtOnce(each, func(n int) {
			m := whole()
			m.Subject = fmt.Sprintf("mail %d", n)
			_, err := l.Send(t.Context(), m)
			assert.NoError(t, err, name)
		})
		seen := map[string]int{}
		for _, m := range l.stored(t) {
			seen[m.Subject]++
		}
		assert.Len(t, seen, 16*each, name)
		for subject, times := range seen {
			assert.Equal(t, 1, times, "%s: %s", name, subject)
		}
	}
}
