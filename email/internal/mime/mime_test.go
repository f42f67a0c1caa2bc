package mime_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/internal/mime"
	"github.com/smilefactory/integrations/internal/sim"
)

func message() *email.Message {
	return &email.Message{
		From: email.Address{Name: "Ada Lövelace", Address: "ada@example.com"},
		To:   []email.Address{{Name: `Hopper, "Grace"`, Address: "grace@example.org"}}, Bcc: []email.Address{{Address: "hidden@example.org"}},
		Subject: "Grüße", Text: "Grüße\n.\nÄ", HTML: "<p>Grüße</p>",
	}
}

func write(t *testing.T, m *email.Message, o mime.Options) (sim.Mail, string) {
	t.Helper()
	require.NoError(t, m.Validate())
	raw, err := mime.Write(m, o)
	require.NoError(t, err)
	for line := range bytes.SplitSeq(raw, []byte("\r\n")) {
		assert.LessOrEqual(t, len(line), 998, "RFC 5322, 2.1.1")
		assert.NotContains(t, string(line), "\n")
	}
	got, err := sim.ParseMIME(raw)
	require.NoError(t, err)
	return got, string(raw)
}

func TestAMailReadsAsItWasWritten(t *testing.T) {
	m := message()
	m.Cc, m.ReplyTo = []email.Address{{Address: "cc@example.org"}}, []email.Address{{Address: "r1@example.com"}, {Name: "R", Address: "r2@example.com"}}
	m.Headers, m.Unsubscribe = map[string]string{"X-Campaign": "früh"}, email.Unsubscribe{URL: "https://example.com/u", OneClick: true}
	m.Attachments = []email.Attachment{
		{Name: `Überblick: "Q1"? <neu>|.pdf`, ContentType: "application/pdf; version=2", Data: []byte("x")},
		{Name: "logo.png", ContentType: "image/png", ContentID: "logo", Data: []byte{0, 1, 2}},
	}
	got, raw := write(t, m, mime.Options{MessageID: "m-1@example.com", Fields: []mime.Field{{Name: "X-Tag", Value: "grün"}}})
	assert.Equal(t, m.From, got.From)
	assert.Equal(t, m.To, got.To)
	assert.Equal(t, m.Cc, got.Cc)
	assert.Equal(t, m.ReplyTo, got.ReplyTo)
	assert.Equal(t, []string{m.Subject, "Grüße\r\n.\r\nÄ", m.HTML}, []string{got.Subject, got.Text, got.HTML})
	assert.Equal(t, map[string]string{
		"X-Campaign": "früh", "X-Tag": "grün", "List-Unsubscribe": "<https://example.com/u>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
	}, got.Headers)
	require.Len(t, got.Attachments, 2)
	for _, a := range got.Attachments { // the inline one comes first
		want := m.Attachments[0]
		if a.ContentID != "" {
			want = m.Attachments[1]
		}
		assert.Equal(t, []any{want.Name, want.Data, want.ContentID}, []any{a.Name, a.Data, a.ContentID})
	}
	assert.Contains(t, raw, "Message-ID: <m-1@example.com>")
	assert.NotContains(t, raw, "User-Agent")
}

func TestABlindCopyIsInNoHeader(t *testing.T) {
	_, raw := write(t, message(), mime.Options{})
	assert.NotContains(t, strings.ToLower(raw), "bcc:") // with its colon: a boundary is of random hex
	assert.NotContains(t, raw, "hidden")
	for _, empty := range []string{"Cc:", "Reply-To:"} {
		assert.NotContains(t, raw, empty, "an empty list makes no field")
	}
}

func TestADomainIsWrittenInASCII(t *testing.T) {
	m := message()
	m.From.Address, m.To[0].Address = "ada@bücher.example", "grace@例え.jp"
	got, _ := write(t, m, mime.Options{})
	assert.Equal(t, "ada@xn--bcher-kva.example", got.From.Address)
	assert.Equal(t, "grace@xn--r8jz45g.jp", got.To[0].Address)
	assert.Equal(t, "ada@bücher.example", m.From.Address, "the message stays as it is")
}

func TestABodyAloneIsNoMultipart(t *testing.T) {
	for name, change := range map[string]func(*email.Message){
		"text": func(m *email.Message) { m.HTML = "" }, "html": func(m *email.Message) { m.Text = "" },
	} {
		m := message()
		change(m)
		got, raw := write(t, m, mime.Options{})
		assert.NotContains(t, raw, "multipart", name)
		assert.Equal(t, strings.ReplaceAll(m.Text, "\n", "\r\n"), got.Text, name)
		assert.Equal(t, m.HTML, got.HTML, name)
	}
}

// Every field at the limit that Validate sets, in the form that grows the most
// and in the form that can't be folded.
func TestNoLineIsTooLongAtTheLimits(t *testing.T) {
	for name, text := range map[string]func(octets int) string{
		"words":         func(n int) string { return strings.TrimSpace(strings.Repeat("word ", n/5)) },
		"one long word": func(n int) string { return strings.Repeat("x", n) },
		"umlauts":       func(n int) string { return strings.Repeat("ü", n/2) },
		"line of emoji": func(n int) string { return strings.Repeat("😀", n/4) },
		"equals signs":  func(n int) string { return strings.Repeat("=", n) },
	} {
		t.Run(name, func(t *testing.T) {
			m := message()
			m.From.Name, m.To[0].Name, m.Subject = text(320), text(320), text(989)
			m.Text, m.HTML = text(5000), text(5000)
			m.Headers = map[string]string{"X-Long": text(998 - len("X-Long: "))}
			m.Unsubscribe = email.Unsubscribe{URL: "https://example.com/" + strings.Repeat("u", 880), Mailto: strings.Repeat("l", 64) + "@example.com"}
			m.Attachments = []email.Attachment{{Name: text(255), Data: make([]byte, 5000)}}
			got, _ := write(t, m, mime.Options{})
			assert.Equal(t, m.From.Name, got.From.Name)
			assert.Equal(t, m.To[0].Name, got.To[0].Name)
			assert.Equal(t, m.Subject, got.Subject)
			assert.Equal(t, m.Text, got.Text)
			assert.Equal(t, m.Headers["X-Long"], got.Headers["X-Long"])
			assert.Equal(t, m.Attachments[0].Name, got.Attachments[0].Name)
		})
	}
}

// A boundary is made anew for each mail, so that no text can know it.
func TestWhatLooksLikeABoundaryIsOnlyText(t *testing.T) {
	m := message()
	_, raw := write(t, m, mime.Options{})
	_, boundary, _ := strings.Cut(raw, "boundary=")
	boundary, _, _ = strings.Cut(boundary, "\r\n")
	m.Text = "--" + strings.Trim(boundary, `"`) + "\n--\nafter"
	got, _ := write(t, m, mime.Options{})
	assert.Equal(t, strings.ReplaceAll(m.Text, "\n", "\r\n"), got.Text)
}
