package email

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/textproto"
	"slices"
	"strings"

	"github.com/smilefactory/integrations/fault"
)

// Ready is what a Sender does first: it checks the message, and returns one that
// has an ID and all its attachments' Data: m itself, or a copy. The error is that
// of Validate, or of an attachment that can't be read.
func (m *Message) Ready() (*Message, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	return m.WithID().loaded(MaxSize)
}

// WithID returns m itself where it has an ID, else a copy with a new one.
func (m *Message) WithID() *Message {
	if m.ID != "" {
		return m
	}
	c := *m
	c.ID = rand.Text() // 26 characters of base32, 130 bits
	return &c
}

// loaded returns m itself where every attachment has its Data, else a copy in
// which they were read, at most limit bytes of them together. The error is of
// kind fault.Invalid and names the attachment.
func (m *Message) loaded(limit int) (*Message, error) {
	if !slices.ContainsFunc(m.Attachments, Attachment.unread) {
		return m, nil
	}
	c := *m
	c.Attachments = slices.Clone(m.Attachments)
	for i := range c.Attachments {
		a := &c.Attachments[i]
		if !a.unread() {
			limit -= len(a.Data)
			continue
		}
		var problem string
		if a.Data, problem = a.read(limit); problem != "" {
			return nil, fault.New(fault.Invalid, &FieldError{fmt.Sprintf("attachments[%d]", i), problem})
		}
		limit -= len(a.Data)
	}
	return &c, nil
}

func (a Attachment) unread() bool { return a.Data == nil && a.Open != nil }

func (a Attachment) read(limit int) (data []byte, problem string) {
	r, err := a.Open()
	if err != nil {
		return nil, "can't be opened"
	}
	defer r.Close() //nolint:errcheck // only read
	data, err = io.ReadAll(io.LimitReader(r, int64(max(limit, 0))+1))
	switch {
	case err != nil:
		return nil, "can't be read"
	case len(data) > limit:
		return nil, "is too large: the attachments have more bytes together than are allowed"
	case data == nil:
		data = []byte{}
	}
	return data, ""
}

// domain begins with the at sign.
func domain(a Address) string {
	a = ASCIIDomain(a)
	return a.Address[strings.LastIndexByte(a.Address, '@'):]
}

// HeaderFields yields the header fields that are neither addresses, subject nor
// MIME structure: Headers sorted by name, References, Content-Language,
// List-Unsubscribe and List-Unsubscribe-Post. An adapter hands them on one by one.
func (m *Message) HeaderFields() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
			if !yield(textproto.CanonicalMIMEHeaderKey(name), m.Headers[name]) {
				return
			}
		}
		if m.Thread != "" && !yield("References", "<"+m.Thread+cmp.Or(m.root, domain(m.From))+">") {
			return
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
