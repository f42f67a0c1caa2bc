package smtp

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/internal/mime"
	"github.com/smilefactory/integrations/email/internal/redact"
	"github.com/smilefactory/integrations/fault"
)

const maxLine = 998 // octets, without CRLF

// idHeader carries our own id of a message.
const idHeader = "X-Message-Id"

// envelope is a mail as it goes over the wire.
type envelope struct {
	from      string
	to        []string // To, Cc and Bcc, in this order
	raw       []byte
	messageID string
	utf8      string   // the field that needs SMTPUTF8, if any
	private   []string // what no error may show
}

// render refuses what SMTP has no place for, and makes the MIME message.
func (s *Sender) render(m *email.Message, now time.Time) (*envelope, error) {
	if err := s.unsupported(m, now); err != nil {
		return nil, err
	}
	e := &envelope{private: redact.Mail(m)}
	e.from = e.address("from", m.From)
	e.messageID = m.ID + e.from[strings.LastIndexByte(e.from, '@'):]
	for _, l := range []struct {
		field string
		list  []email.Address
	}{{"to", m.To}, {"cc", m.Cc}, {"bcc", m.Bcc}} {
		for i, a := range l.list {
			e.to = append(e.to, e.address(fmt.Sprintf("%s[%d]", l.field, i), a))
		}
	}
	for i, a := range m.ReplyTo { // in no envelope, but in the header
		e.address(fmt.Sprintf("reply_to[%d]", i), a)
	}
	var err error
	if e.raw, err = mime.Write(m, mime.Options{MessageID: e.messageID, Fields: s.fields(m)}); err != nil {
		return nil, fault.New(fault.Invalid, fmt.Errorf("smtp: %w", err))
	}
	return e, nil
}

// unsupported: SMTP delivers at once, and has header fields where an API has labels.
func (s *Sender) unsupported(m *email.Message, now time.Time) error {
	switch {
	case m.SendAt.After(now):
		return unsupported("send_at", "SMTP can't deliver later")
	case len(m.Tags) > 0 && s.cfg.TagHeader == "":
		return unsupported("tags", "no header field is set for them (TagHeader)")
	case len(m.Metadata) > 0 && s.cfg.MetadataHeaderPrefix == "":
		return unsupported("metadata", "no header field is set for it (MetadataHeaderPrefix)")
	}
	for i, tag := range m.Tags {
		if strings.Contains(tag, ",") {
			return unsupported(fmt.Sprintf("tags[%d]", i), "must not hold the comma that separates them")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(m.Metadata)) {
		if len(s.cfg.MetadataHeaderPrefix)+len(key)+len(": ")+len(m.Metadata[key]) > maxLine {
			return unsupported("metadata["+key+"]", "makes a line of more than 998 octets (RFC 5322, 2.1.1)")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		if s.own(name) {
			return unsupported("headers["+name+"]", "is set by this provider")
		}
	}
	return nil
}

// own reports whether a header field is one that fields sets.
func (s *Sender) own(name string) bool {
	prefix := strings.ToLower(s.cfg.MetadataHeaderPrefix)
	return strings.EqualFold(name, idHeader) || strings.EqualFold(name, s.cfg.TagHeader) ||
		prefix != "" && strings.HasPrefix(strings.ToLower(name), prefix)
}

// fields are the header fields that carry our id and the labels.
func (s *Sender) fields(m *email.Message) []mime.Field {
	fields := []mime.Field{{Name: idHeader, Value: m.ID}}
	if len(m.Tags) > 0 {
		fields = append(fields, mime.Field{Name: s.cfg.TagHeader, Value: strings.Join(m.Tags, ", ")})
	}
	for _, key := range slices.Sorted(maps.Keys(m.Metadata)) {
		fields = append(fields, mime.Field{Name: s.cfg.MetadataHeaderPrefix + key, Value: m.Metadata[key]})
	}
	return fields
}

// address is what the envelope has of an address. It notes which field needs
// SMTPUTF8.
func (e *envelope) address(field string, a email.Address) string {
	addr := email.ASCIIDomain(a).Address
	if strings.ContainsFunc(addr, func(r rune) bool { return r > '~' }) && e.utf8 == "" {
		e.utf8 = field + ".address"
	}
	return addr
}
