// Package redact makes what a provider said fit for an error: providers quote
// addresses, and sometimes the mail.
package redact

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/smilefactory/integrations/email"
)

// address is anything that could be part of one.
var address = regexp.MustCompile(`[^\s\[\]]*@[^\s\[\]]*`)

// shortest is how many octets a private value has that is looked for: "Hi" stands
// in many words.
const shortest = 4

// Text is s in one line of at most limit characters, without mail addresses,
// control characters and the private values.
func Text(s string, limit int, private ...string) string {
	s = strings.ToValidUTF8(s, " ")
	for _, p := range private {
		if len(p) >= shortest {
			s = strings.ReplaceAll(s, p, "(private)")
		}
	}
	return Line(address.ReplaceAllString(s, "(address)"), limit)
}

// Line is s in one line of at most limit characters.
func Line(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, " "))
	if runes := []rune(s); len(runes) > limit {
		s = string(runes[:limit])
	}
	return strings.TrimSpace(s)
}

// Mail lists what of a mail no error may show, the longest first, so that no
// part of a value is left behind; addresses are found without it.
func Mail(m *email.Message) []string {
	out := []string{m.Subject, m.Text, m.HTML}
	for _, list := range [][]email.Address{{m.From}, m.To, m.Cc, m.Bcc, m.ReplyTo} {
		for _, a := range list {
			out = append(out, a.Name)
		}
	}
	for _, a := range m.Attachments {
		out = append(out, a.Name)
	}
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) })
	return out
}
