// Package limits collects what a provider can't take of a mail, field by field.
package limits

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/fault"
)

// Broken are the limits of a provider that a mail breaks. The zero value is none.
type Broken []error //nolint:recvcheck // it grows by Require and is read by value

// Require notes the field and the problem unless it is ok.
func (b *Broken) Require(ok bool, field, problem string) {
	if !ok {
		*b = append(*b, &email.FieldError{Field: field, Problem: problem})
	}
}

// Unsupported is nil where no limit is broken, else a fault of that kind which
// names every field.
func (b Broken) Unsupported() error {
	if len(b) == 0 {
		return nil
	}
	return fault.New(fault.Unsupported, errors.Join(b...))
}

// LocalParts requires ASCII before the @ of every address.
func (b *Broken) LocalParts(m *email.Message, problem string) {
	b.Require(ASCII(email.ASCIIDomain(m.From).Address), "from.address", problem)
	for _, l := range []struct {
		field string
		list  []email.Address
	}{{"to", m.To}, {"cc", m.Cc}, {"bcc", m.Bcc}, {"reply_to", m.ReplyTo}} {
		for i, a := range l.list {
			b.Require(ASCII(email.ASCIIDomain(a).Address), fmt.Sprintf("%s[%d].address", l.field, i), problem)
		}
	}
}

// FileTypes requires that no file's name ends with one of these extensions, which
// are in lower case and begin with a dot.
func (b *Broken) FileTypes(m *email.Message, extensions []string, problem string) {
	for i, a := range m.Attachments {
		b.Require(!slices.Contains(extensions, strings.ToLower(path.Ext(a.Name))), fmt.Sprintf("attachments[%d].name", i), problem)
	}
}

// ASCII reports whether s holds nothing but printable ASCII and spaces.
func ASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// Mailbox is an address as APIs take it in one string: its name as it is, in
// quotes where RFC 5322 wants them, its domain in ASCII.
func Mailbox(a email.Address) string {
	a = email.ASCIIDomain(a)
	switch {
	case a.Name == "":
		return a.Address
	case strings.ContainsAny(a.Name, specials) || strings.TrimSpace(a.Name) != a.Name:
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(a.Name) + `" <` + a.Address + ">"
	}
	return a.Name + " <" + a.Address + ">"
}

// specials are those of RFC 5322, 3.2.3; a backslash and a quote are among them.
const specials = `()<>[]:;@\,."`

// Mailboxes is Mailbox for each.
func Mailboxes(list []email.Address) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = Mailbox(a)
	}
	return out
}
