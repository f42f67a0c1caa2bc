package smtp

import (
	"bytes"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
	"golang.org/x/net/idna"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/fault"
)

// idHeader carries our own id of a message.
const idHeader = "X-Message-Id"

// envelope is a mail as it goes over the wire.
type envelope struct {
	from      string
	to        []string // To, Cc and Bcc, in this order
	raw       []byte
	messageID string
	utf8      string // the field that needs SMTPUTF8, if any
}

// render refuses what SMTP has no place for, and makes the MIME message.
func (s *Sender) render(m *email.Message, now time.Time) (*envelope, error) {
	if err := s.unsupported(m, now); err != nil {
		return nil, err
	}
	e := &envelope{}
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	from := e.address("from", m.From)
	e.from = from.Address
	e.messageID = m.ID + from.Address[strings.LastIndexByte(from.Address, '@'):]
	msg.FromMailAddress(from)
	to, cc, bcc := e.addresses("to", m.To), e.addresses("cc", m.Cc), e.addresses("bcc", m.Bcc)
	for _, a := range slices.Concat(to, cc, bcc) {
		e.to = append(e.to, a.Address)
	}
	for header, list := range map[mail.AddrHeader][]*email.Address{ // bcc is in the envelope alone
		mail.HeaderTo: to, mail.HeaderCc: cc, mail.HeaderReplyTo: e.addresses("reply_to", m.ReplyTo),
	} {
		if len(list) > 0 { // else the field would be there, and empty
			msg.SetAddrHeaderFromMailAddress(header, list...)
		}
	}
	msg.Subject(m.Subject)
	msg.SetMessageIDWithValue(e.messageID)
	s.headers(msg, m)
	content(msg, m)
	var raw bytes.Buffer
	if _, err := msg.WriteTo(&raw); err != nil {
		return nil, fault.New(fault.Invalid, fmt.Errorf("smtp: make the MIME message: %w", err))
	}
	e.raw = raw.Bytes()
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
	for name := range m.Headers {
		if s.own(name) {
			return unsupported("headers["+name+"]", "is set by this provider")
		}
	}
	return nil
}

// own reports whether a header field is one that headers sets.
func (s *Sender) own(name string) bool {
	prefix := strings.ToLower(s.cfg.MetadataHeaderPrefix)
	return strings.EqualFold(name, idHeader) || strings.EqualFold(name, s.cfg.TagHeader) ||
		prefix != "" && strings.HasPrefix(strings.ToLower(name), prefix)
}

func (s *Sender) headers(msg *mail.Msg, m *email.Message) {
	for name, value := range m.HeaderFields() {
		msg.SetGenHeader(mail.Header(name), value)
	}
	msg.SetGenHeader(idHeader, m.ID)
	if len(m.Tags) > 0 {
		msg.SetGenHeader(mail.Header(s.cfg.TagHeader), strings.Join(m.Tags, ", "))
	}
	for _, key := range slices.Sorted(maps.Keys(m.Metadata)) {
		msg.SetGenHeader(mail.Header(s.cfg.MetadataHeaderPrefix+key), m.Metadata[key])
	}
}

func content(msg *mail.Msg, m *email.Message) {
	if m.Text != "" {
		msg.SetBodyString(mail.TypeTextPlain, m.Text)
	}
	switch {
	case m.HTML != "" && m.Text != "":
		msg.AddAlternativeString(mail.TypeTextHTML, m.HTML)
	case m.HTML != "":
		msg.SetBodyString(mail.TypeTextHTML, m.HTML)
	}
	for _, a := range m.Attachments {
		if a.ContentID != "" {
			msg.EmbedReadSeeker(a.Name, bytes.NewReader(a.Data), part("inline", a))
		} else {
			msg.AttachReadSeeker(a.Name, bytes.NewReader(a.Data), part("attachment", a))
		}
	}
}

// part sets the headers itself: go-mail would replace characters of a file's
// name, where RFC 2231 can carry them all.
func part(disposition string, a email.Attachment) mail.FileOption {
	return func(f *mail.File) {
		f.Header.Set("Content-Disposition", mime.FormatMediaType(disposition, map[string]string{"filename": a.Name}))
		f.Header.Set("Content-Type", mediaType(a.ContentType))
		if a.ContentID != "" {
			f.Header.Set("Content-Id", "<"+a.ContentID+">")
		}
	}
}

func mediaType(s string) string {
	t, params, err := mime.ParseMediaType(s)
	if err != nil {
		return "application/octet-stream"
	}
	return mime.FormatMediaType(t, params)
}

// address writes the domain in ASCII (RFC 5891), which every server takes; what
// stands before the at sign has no such form.
func (e *envelope) address(field string, a email.Address) *email.Address {
	at := strings.LastIndexByte(a.Address, '@')
	local, domain := a.Address[:at], a.Address[at+1:]
	if ascii, err := idna.Lookup.ToASCII(domain); err == nil && strings.ContainsFunc(domain, nonASCII) {
		domain = ascii
	}
	if strings.ContainsFunc(local, nonASCII) && e.utf8 == "" {
		e.utf8 = field + ".address"
	}
	return &email.Address{Name: a.Name, Address: local + "@" + domain}
}

func (e *envelope) addresses(field string, list []email.Address) []*email.Address {
	out := make([]*email.Address, len(list))
	for i, a := range list {
		out[i] = e.address(fmt.Sprintf("%s[%d]", field, i), a)
	}
	return out
}

func nonASCII(r rune) bool { return r > '~' }
