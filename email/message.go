package email

import (
	"crypto/rand"
	"iter"
	"maps"
	"net/textproto"
	"slices"
	"strings"
)

// WithID returns m itself where it has an ID, else a copy with a new one.
// Senders call it after Validate, so that a mail always carries an id.
func (m *Message) WithID() *Message {
	if m.ID != "" {
		return m
	}
	c := *m
	c.ID = rand.Text() // 26 characters of base32, 130 bits
	return &c
}

// HeaderFields yields the header fields that are neither addresses, subject nor
// MIME structure: Headers sorted by name, Content-Language, List-Unsubscribe
// and List-Unsubscribe-Post. An adapter hands them on one by one.
func (m *Message) HeaderFields() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
			if !yield(textproto.CanonicalMIMEHeaderKey(name), m.Headers[name]) {
				return
			}
		}
		if m.Locale != "" && !yield("Content-Language", m.Locale) {
			return
		}
		var ways []string
		if m.Unsubscribe.Mailto != "" {
			ways = append(ways, "<mailto:"+m.Unsubscribe.Mailto+">")
		}
		if m.Unsubscribe.URL != "" {
			ways = append(ways, "<"+m.Unsubscribe.URL+">")
		}
		if len(ways) > 0 && !yield("List-Unsubscribe", strings.Join(ways, ", ")) {
			return
		}
		if m.Unsubscribe.OneClick {
			yield("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")
		}
	}
}
