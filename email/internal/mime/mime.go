// Package mime writes a message as Internet mail (RFC 5322, RFC 2045 to 2049),
// for the providers that take it in this form.
package mime

import (
	"bytes"
	"fmt"
	"mime"

	"github.com/wneessen/go-mail"

	"github.com/smilefactory/integrations/email"
)

// Field is a header field beside those of the message. Its value is encoded
// where it isn't ASCII.
type Field struct{ Name, Value string }

// Options is what a provider wants beside the message.
type Options struct {
	// MessageID is that of the mail, without angle brackets; empty makes one.
	MessageID string
	// Fields are further header fields, in this order.
	Fields []Field
}

// Write is m with domains in ASCII and lines of at most 998 octets. Bcc isn't in
// it: that is the envelope's.
func Write(m *email.Message, o Options) ([]byte, error) {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	from := email.ASCIIDomain(m.From)
	msg.FromMailAddress(&from)
	for _, h := range []struct {
		name mail.AddrHeader
		list []email.Address
	}{{mail.HeaderTo, m.To}, {mail.HeaderCc, m.Cc}, {mail.HeaderReplyTo, m.ReplyTo}} {
		if len(h.list) > 0 { // else the field would be there, and empty
			msg.SetAddrHeaderFromMailAddress(h.name, addresses(h.list)...)
		}
	}
	msg.Subject(m.Subject)
	if o.MessageID != "" {
		msg.SetMessageIDWithValue(o.MessageID)
	}
	for name, value := range m.HeaderFields() {
		msg.SetGenHeader(mail.Header(name), value)
	}
	for _, f := range o.Fields {
		msg.SetGenHeader(mail.Header(f.Name), f.Value)
	}
	content(msg, m)
	var raw bytes.Buffer
	if _, err := msg.WriteTo(&raw); err != nil {
		return nil, fmt.Errorf("make the MIME message: %w", err)
	}
	return raw.Bytes(), nil
}

func addresses(list []email.Address) []*email.Address {
	out := make([]*email.Address, len(list))
	for i, a := range list {
		a = email.ASCIIDomain(a)
		out[i] = &a
	}
	return out
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
