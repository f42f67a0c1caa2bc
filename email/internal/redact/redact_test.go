package redact_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/internal/redact"
)

func TestTextHidesWhatIsPrivate(t *testing.T) {
	for name, tt := range map[string]struct {
		said    string
		private []string
		want    string
	}{
		"an address":             {"no such user <grace@example.org>: rejected", nil, "no such user (address) rejected"},
		"an address in brackets": {"duplicate [grace@example.org] in to", nil, "duplicate [(address)] in to"},
		"a domain with its at":   {"relay for @example.org denied", nil, "relay for (address) denied"},
		"a key":                  {"wrong key SG.abc", []string{"SG.abc"}, "wrong key (private)"},
		"a subject":              {"spam: Grüße aus Wien!", []string{"Grüße aus Wien"}, "spam: (private)!"},
		"nothing of three":       {"this is", []string{"is", ""}, "this is"},
		"line breaks":            {"one\r\ntwo\tthree\x00", nil, "one  two three"},
		"what is not UTF-8":      {"a\xffb", nil, "a b"},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tt.want, redact.Text(tt.said, 100, tt.private...)) })
	}
}

func TestTextIsCutAfterItWasCleaned(t *testing.T) {
	assert.Equal(t, "üüü", redact.Text("üüüüü", 3))
	assert.Equal(t, "(address)", redact.Text(strings.Repeat("a", 200)+"@example.org", 50), "no half of an address is left")
}

func TestMailListsEveryTextOfAMailTheLongestFirst(t *testing.T) {
	m := &email.Message{
		From: email.Address{Name: "From Name", Address: "f@example.com"}, To: []email.Address{{Name: "To Name"}}, Cc: []email.Address{{Name: "Cc Name"}},
		Bcc: []email.Address{{Name: "Bcc Name"}}, ReplyTo: []email.Address{{Name: "Reply Name"}}, Subject: "the subject", Text: "the text of it",
		HTML: "<p>the text of it</p>", Attachments: []email.Attachment{{Name: "file.txt"}},
	}
	said := "From Name, To Name, Cc Name, Bcc Name, Reply Name: the subject, the text of it, <p>the text of it</p>, file.txt."
	got := redact.Text(said, 500, redact.Mail(m)...)
	assert.Equal(t, strings.Repeat("(private), ", 4)+"(private): (private), (private), (private), (private).", got)
}
