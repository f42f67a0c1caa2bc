package email

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/smilefactory/integrations/fault"
)

// Limits that hold for every provider; a provider's own may be lower.
const (
	MaxRecipients  = 1000     // To, Cc and Bcc together
	MaxAttachments = 100      //
	MaxTags        = 10       //
	MaxSize        = 40 << 20 // bytes of text, HTML and attachments, before encoding
	maxReplyTo     = 50
	maxHeaders     = 50
	maxHeaderName  = 76
	maxMetadata    = 50
	maxKey         = 128  // octets of a metadata key
	maxValue       = 1024 // octets of a metadata value
	maxName        = 320  // octets of a display name
	maxFileName    = 255  // octets of a file's name, its media type or its content id
	maxTag         = 255  // octets
	maxURL         = 900  // octets
	maxLocale      = 35   // octets (RFC 5646, 4.4.1)
	maxLine        = 998  // octets of a header line (RFC 5322, 2.1.1)
)

// ErrExpired is the cause where a mail was past its Expires time.
var ErrExpired = errors.New("the mail's expiry time has passed")

// FieldError says which field of a Message is wrong and why. It never quotes
// the value.
type FieldError struct {
	Field   string // such as "to[1].address"
	Problem string
}

func (e *FieldError) Error() string { return "email: " + e.Field + ": " + e.Problem }

// Validate checks the message without any I/O. The error is of kind
// fault.Invalid and wraps a [FieldError] for every wrong field, or
// [ErrExpired]. Senders call it first.
func (m *Message) Validate() error {
	if m == nil {
		return fault.New(fault.Invalid, &FieldError{"message", "is nil"})
	}
	var c checker
	m.checkAddresses(&c)
	m.checkContent(&c)
	m.checkHeaders(&c)
	m.checkUnsubscribe(&c)
	m.checkLabels(&c)
	if len(c.problems) > 0 {
		return fault.New(fault.Invalid, errors.Join(c.problems...))
	}
	if m.Expired(time.Now()) {
		return fault.New(fault.Rejected, ErrExpired)
	}
	return nil
}

// Expired reports whether the mail is no longer worth sending at that time.
func (m *Message) Expired(at time.Time) bool {
	return !m.Expires.IsZero() && !at.Before(m.Expires)
}

// checker collects the problems of a message.
type checker struct{ problems []error }

// maxProblems are enough to go on with.
const maxProblems = 20

func (c *checker) add(field, format string, args ...any) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, &FieldError{field, fmt.Sprintf(format, args...)})
	}
}

// text refuses what could end a header line or hide in one.
func (c *checker) text(field, v string, limit int) bool {
	p := textProblem(v, limit)
	if p != "" {
		c.add(field, "%s", p)
	}
	return p == ""
}

func textProblem(v string, limit int) string {
	switch {
	case len(v) > limit:
		return fmt.Sprintf("is %d octets long, at most %d are allowed", len(v), limit)
	case strings.ContainsAny(v, lineBreaks):
		return "must not contain CR, LF or NUL"
	case strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return "must not contain control characters"
	case !utf8.ValidString(v):
		return "is not valid UTF-8"
	case strings.Contains(v, "=?") && strings.ContainsAny(decoded(v), lineBreaks):
		return "must not hide CR, LF or NUL in an encoded word (RFC 2047)"
	}
	return ""
}

const lineBreaks = "\r\n\x00"

// decoded is a header's text as its reader may see it. An unknown charset is
// taken for one that has ASCII in it, as nearly all have.
func decoded(v string) string {
	d := mime.WordDecoder{CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil }}
	text, _ := d.DecodeHeader(v) // what can't be decoded stays as it is
	return text
}

// list is a list of addresses with its field's name.
type list struct {
	field     string
	addresses []Address
}

func (l list) at(i int) string { return fmt.Sprintf("%s[%d]", l.field, i) }

func (m *Message) recipients() [3]list { return [3]list{{"to", m.To}, {"cc", m.Cc}, {"bcc", m.Bcc}} }

// checkAddresses looks at single addresses only where there aren't too many.
func (m *Message) checkAddresses(c *checker) {
	c.address(func() string { return "from" }, m.From)
	switch n := len(m.To) + len(m.Cc) + len(m.Bcc); {
	case n == 0:
		c.add("to", "at least one recipient is required in to, cc or bcc")
	case n > MaxRecipients:
		c.add("to", "%d recipients, at most %d are allowed in to, cc and bcc together", n, MaxRecipients)
	default:
		for _, l := range m.recipients() {
			c.addresses(l)
		}
		c.unique(m)
	}
	if n := len(m.ReplyTo); n > maxReplyTo {
		c.add("reply_to", "%d addresses, at most %d are allowed", n, maxReplyTo)
		return
	}
	c.addresses(list{"reply_to", m.ReplyTo})
}

func (c *checker) addresses(l list) {
	for i, a := range l.addresses {
		c.address(func() string { return l.at(i) }, a)
	}
}

// address takes the field's name as a function: most are never needed.
func (c *checker) address(field func() string, a Address) {
	if p := textProblem(a.Name, maxName); p != "" {
		c.add(field()+".name", "%s", p)
	}
	if p := addressProblem(a.Address); p != "" {
		c.add(field()+".address", "%s", p)
	}
}

// unique refuses an address that stands twice, whatever list it is in:
// providers either refuse such a mail or deliver it twice.
func (c *checker) unique(m *Message) {
	type place struct{ list, i int }
	lists := m.recipients()
	seen := make(map[string]place, len(m.To)+len(m.Cc)+len(m.Bcc))
	for n, l := range lists {
		for i, a := range l.addresses {
			key := strings.ToLower(a.Address)
			if first, ok := seen[key]; ok && key != "" {
				c.add(l.at(i)+".address", "is the same as %s.address", lists[first.list].at(first.i))
				continue
			}
			seen[key] = place{n, i}
		}
	}
}

func (m *Message) checkContent(c *checker) {
	switch m.Subject {
	case "":
		c.add("subject", "is required")
	default:
		c.text("subject", m.Subject, maxLine-len("Subject: "))
	}
	if m.Text == "" && m.HTML == "" {
		c.add("text", "text or html is required")
	}
	if n := m.Size(); n > MaxSize {
		c.add("attachments", "the mail has %d bytes, at most %d are allowed", n, MaxSize)
		return // nothing so large is looked through
	}
	for _, f := range []struct{ field, v string }{{"text", m.Text}, {"html", m.HTML}} {
		if !utf8.ValidString(f.v) {
			c.add(f.field, "is not valid UTF-8")
		} else if strings.ContainsRune(f.v, 0) {
			c.add(f.field, "must not contain NUL")
		}
	}
	if len(m.Attachments) > MaxAttachments {
		c.add("attachments", "%d attachments, at most %d are allowed", len(m.Attachments), MaxAttachments)
		return
	}
	for i, a := range m.Attachments {
		c.attachment(fmt.Sprintf("attachments[%d]", i), a)
	}
}

// Size is the number of bytes in text, HTML and attachments, before encoding.
func (m *Message) Size() int {
	n := len(m.Text) + len(m.HTML)
	for _, a := range m.Attachments {
		n += len(a.Data)
	}
	return n
}

func (c *checker) attachment(field string, a Attachment) {
	if a.Name == "" {
		c.add(field+".name", "is required")
	} else if c.text(field+".name", a.Name, maxFileName) && strings.ContainsAny(a.Name, `/\`) {
		c.add(field+".name", "must be a file name, without a path")
	}
	if a.ContentType != "" && c.text(field+".content_type", a.ContentType, maxFileName) {
		if t, _, err := mime.ParseMediaType(a.ContentType); err != nil || !strings.Contains(t, "/") || strings.HasPrefix(t, "multipart/") {
			c.add(field+".content_type", "is not a media type that a file can have")
		}
	}
	if a.ContentID != "" && c.text(field+".content_id", a.ContentID, maxFileName) && strings.ContainsAny(a.ContentID, "<> \t\"") {
		c.add(field+".content_id", "must not contain spaces, quotes or angle brackets")
	}
}

// reserved are the header fields that a field of Message, the MIME structure or
// the provider sets.
var reserved = []string{
	"from", "to", "cc", "bcc", "reply-to", "sender", "subject", "date", "message-id", "mime-version",
	"return-path", "received", "dkim-signature", "list-unsubscribe", "list-unsubscribe-post",
}

func (m *Message) checkHeaders(c *checker) {
	if len(m.Headers) > maxHeaders {
		c.add("headers", "%d fields, at most %d are allowed", len(m.Headers), maxHeaders)
		return
	}
	seen := make(map[string]bool, len(m.Headers))
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		if name == "" || len(name) > maxHeaderName || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
			// The name may hold anything, a line break included: it is not quoted.
			c.add("headers", "a field name is empty, longer than 76 characters or has characters that RFC 5322, 3.6.8 forbids")
			continue
		}
		field, lower := "headers["+name+"]", strings.ToLower(name)
		switch {
		case seen[lower]:
			c.add(field, "stands twice, in other case")
		case slices.Contains(reserved, lower) || strings.HasPrefix(lower, "content-") || strings.HasPrefix(lower, "resent-"):
			c.add(field, "is set by the library or the provider")
		default:
			c.text(field, m.Headers[name], maxLine-len(name)-2)
		}
		seen[lower] = true
	}
	if m.Locale != "" && c.text("locale", m.Locale, maxLocale) &&
		strings.ContainsFunc(m.Locale, func(r rune) bool { return r != '-' && !alphanumeric(r) }) {
		c.add("locale", "is not a language tag (BCP 47)")
	}
}

func (m *Message) checkUnsubscribe(c *checker) {
	u := m.Unsubscribe
	if u.URL != "" && c.text("unsubscribe.url", u.URL, maxURL) {
		parsed, err := url.Parse(u.URL)
		if err != nil || parsed.Scheme != "https" || parsed.Host == "" || strings.ContainsAny(u.URL, "<>, \t\"") ||
			strings.ContainsFunc(u.URL, func(r rune) bool { return r > '~' }) {
			c.add("unsubscribe.url", "must be an absolute https URL, percent-encoded")
		}
	}
	if u.Mailto != "" {
		if p := addressProblem(u.Mailto); p != "" || strings.ContainsAny(u.Mailto, "<>,?%") {
			c.add("unsubscribe.mailto", "must be a plain mail address")
		}
	}
	if u.OneClick && u.URL == "" {
		c.add("unsubscribe.url", "is required for one-click (RFC 8058)")
	}
}

func (m *Message) checkLabels(c *checker) {
	if len(m.ID) > 64 || strings.ContainsFunc(m.ID, func(r rune) bool { return r != '-' && r != '_' && !alphanumeric(r) }) {
		c.add("id", "must be 1 to 64 of [A-Za-z0-9_-]")
	}
	if len(m.Thread) > 64 || strings.ContainsFunc(m.Thread, func(r rune) bool { return r != '-' && r != '_' && !alphanumeric(r) }) {
		c.add("thread", "must be 1 to 64 of [A-Za-z0-9_-]")
	}
	for name := range m.Headers {
		if m.Thread != "" && strings.EqualFold(name, "references") {
			c.add("thread", "and headers[References] are both set")
		}
	}
	if m.Priority < -10 || m.Priority > 10 {
		c.add("priority", "must be from -10 to 10")
	}
	if len(m.IdempotencyKey) > 255 || strings.ContainsFunc(m.IdempotencyKey, func(r rune) bool { return r <= ' ' || r > '~' }) {
		c.add("idempotency_key", "must be at most 255 printable ASCII characters")
	}
	if len(m.Tags) > MaxTags {
		c.add("tags", "%d tags, at most %d are allowed", len(m.Tags), MaxTags)
	}
	for i, t := range m.Tags[:min(len(m.Tags), MaxTags)] {
		field := fmt.Sprintf("tags[%d]", i)
		switch {
		case t == "":
			c.add(field, "is empty")
		case slices.Contains(m.Tags[:i], t):
			c.add(field, "stands twice")
		default:
			c.text(field, t, maxTag)
		}
	}
	if len(m.Metadata) > maxMetadata {
		c.add("metadata", "%d entries, at most %d are allowed", len(m.Metadata), maxMetadata)
		return
	}
	for _, k := range slices.Sorted(maps.Keys(m.Metadata)) {
		if k == "" || len(k) > maxKey || strings.ContainsFunc(k, func(r rune) bool { return r != '-' && r != '_' && !alphanumeric(r) }) {
			c.add("metadata", "a key is not 1 to 128 of [A-Za-z0-9_-]")
			continue
		}
		if k == "message_id" {
			c.add("metadata[message_id]", "is where the message's own id travels: set id")
			continue
		}
		c.text("metadata["+k+"]", m.Metadata[k], maxValue)
	}
}

func alphanumeric(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}
