package sim_test

import (
	"fmt"
	"net/mail"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sim"
)

func TestValidAddress(t *testing.T) {
	tests := map[string]bool{
		"a@example.com":                               true,
		"first.last+tag@sub.example.com":              true,
		`"odd local"@example.com`:                     false, // ParseAddress unquotes it: not what was given
		"Name <a@example.com>":                        false,
		"<a@example.com>":                             false,
		"a@example.com, b@example.com":                false,
		"group: a@example.com;":                       false,
		"a@-example.com":                              false,
		"a@example-.com":                              false,
		"a@exa_mple.com":                              false,
		"a@example..com":                              false,
		"a":                                           false,
		"":                                            false,
		strings.Repeat("l", 64) + "@example.com":      true,
		strings.Repeat("l", 65) + "@example.com":      false,
		"a@" + strings.Repeat("d", 63) + ".com":       true,
		"a@" + strings.Repeat("d", 64) + ".com":       false,
		"a@example.com\r\nBcc: b@example.com":         false,
		"a@" + strings.Repeat("d23456789.", 30) + "c": false,
	}
	for addr, want := range tests {
		assert.Equal(t, want, sim.ValidAddress(addr), "%q", addr)
	}
}

const message = `From: =?utf-8?q?J=C3=BCrgen?= <j@example.com>
To: a@example.com, "B, C" <b@example.com>
Reply-To: r@example.com
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
X-Message-Id: m-1
X-Campaign: spring
Date: Mon, 02 Jan 2006 15:04:05 +0000
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=m

--m
Content-Type: multipart/alternative; boundary=a

--a
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe
--a
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: base64

PGI+R3LDvMOfZTwv
Yj4=
--a--
--m
Content-Type: image/png; name="logo.png"
Content-Disposition: inline; filename="logo.png"
Content-Transfer-Encoding: base64
Content-ID: <logo>

AAEC
--m
Content-Type: text/plain
Content-Disposition: attachment; filename="notes.txt"

notes
--m--
`

func TestParseMIMEReadsWhatAMailClientWouldShow(t *testing.T) {
	got, err := sim.ParseMIME([]byte(strings.ReplaceAll(message, "\n", "\r\n")))
	require.NoError(t, err)
	assert.Equal(t, sim.Mail{
		ID:      "m-1",
		From:    mail.Address{Name: "Jürgen", Address: "j@example.com"},
		To:      []mail.Address{{Address: "a@example.com"}, {Name: "B, C", Address: "b@example.com"}},
		ReplyTo: []mail.Address{{Address: "r@example.com"}},
		Subject: "Grüße", Text: "Grüße", HTML: "<b>Grüße</b>",
		Headers: map[string]string{"X-Campaign": "spring"},
		Attachments: []sim.Attachment{
			{Name: "logo.png", Type: "image/png", ContentID: "logo", Data: []byte{0, 1, 2}},
			{Name: "notes.txt", Type: "text/plain", Data: []byte("notes")},
		},
	}, got)
}

func TestParseMIMERefusesWhatIsNoMail(t *testing.T) {
	nested := []byte("From: a@example.com\n")
	for i := range 12 {
		nested = fmt.Appendf(nested, "Content-Type: multipart/mixed; boundary=b%[1]d\n\n--b%[1]d\n", i)
	}
	for name, raw := range map[string]string{
		"no header":       "hello",
		"no From":         "To: a@example.com\n\nhi",
		"two From":        "From: a@example.com, b@example.com\n\nhi",
		"broken To":       "From: a@example.com\nTo: @@\n\nhi",
		"broken base64":   "From: a@example.com\nContent-Transfer-Encoding: base64\n\n!!",
		"broken type":     "From: a@example.com\nContent-Type: text/plain; =\n\nhi",
		"no boundary end": "From: a@example.com\nContent-Type: multipart/mixed; boundary=b\n\nhi",
		"nested too deep": string(nested),
	} {
		_, err := sim.ParseMIME([]byte(raw))
		assert.ErrorContains(t, err, "sim: parse", name)
	}
}

func FuzzParseMIME(f *testing.F) {
	f.Add([]byte(message))
	f.Add([]byte("From: a@example.com\n\nhi"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := sim.ParseMIME(raw)
		if err == nil && m.From.Address == "" {
			t.Error("a mail without a sender was taken")
		}
	})
}
