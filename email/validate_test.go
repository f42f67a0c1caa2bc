package email_test

import (
	"strings"
	"testing"

	"github.com/smilefactory/integrations/email"
)

// Whatever stands in a message that Validate lets through, no header field of
// it can hold a line break.
func FuzzValidateLetsNoLineBreakIntoAHeader(f *testing.F) {
	f.Add("a@example.com", "Ada", "Subject", "X-A", "v", "https://example.com/")
	f.Add("a@example.com\r\n", "A\nB", "S\x00", "X\r\nBcc", "v\nBcc: x", "https://x/\r\nBcc: y")
	f.Fuzz(func(t *testing.T, addr, name, subject, header, value, url string) {
		m := &email.Message{
			From: email.Address{Name: name, Address: addr}, To: []email.Address{{Address: "b@example.com"}}, Subject: subject, Text: "t",
			Headers: map[string]string{header: value}, Unsubscribe: email.Unsubscribe{URL: url},
		}
		if m.Validate() != nil {
			return
		}
		all := []string{addr, name, subject}
		for k, v := range m.HeaderFields() {
			all = append(all, k, v)
		}
		if strings.ContainsAny(strings.Join(all, ""), "\r\n\x00") {
			t.Errorf("a line break got through: %q", all)
		}
	})
}
