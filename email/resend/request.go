package resend

import (
	"fmt"
	"maps"
	"mime"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/internal/limits"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
)

// idTag is the tag that holds our own id of a message; Validate keeps it free among
// the metadata.
const idTag = "message_id"

// Limits of Resend: "Send Email" of its API reference, "Tags", "Attachments" and
// "Schedule Email" of its guides.
const (
	maxRecipients = 50 // is said of to; here of to, cc and bcc together
	maxTags       = 75 // one of them is the message's id
	maxContentID  = 127
	maxAhead      = 30 * 24 * time.Hour
	// maxMail is 40 MB "after Base64 encoding", in the smaller reading of MB and of
	// the whole request.
	maxMail = 40_000_000
)

// unsupportedTypes are the extensions that no file may have ("What attachment types
// are not supported?").
var unsupportedTypes = []string{
	".adp", ".app", ".asp", ".bas", ".bat", ".cer", ".chm", ".cmd", ".com", ".cpl", ".crt", ".csh", ".der", ".exe", ".fxp", ".gadget", ".hlp", ".hta", ".inf",
	".ins", ".isp", ".its", ".js", ".jse", ".ksh", ".lib", ".lnk", ".mad", ".maf", ".mag", ".mam", ".maq", ".mar", ".mas", ".mat", ".mau", ".mav", ".maw",
	".mda", ".mdb", ".mde", ".mdt", ".mdw", ".mdz", ".msc", ".msh", ".msh1", ".msh2", ".mshxml", ".msh1xml", ".msh2xml", ".msi", ".msp", ".mst", ".ops", ".pcd",
	".pif", ".plg", ".prf", ".prg", ".reg", ".scf", ".scr", ".sct", ".shb", ".shs", ".sys", ".ps1", ".ps1xml", ".ps2", ".ps2xml", ".psc1", ".psc2", ".tmp",
	".url", ".vb", ".vbe", ".vbs", ".vps", ".vsmacros", ".vss", ".vst", ".vsw", ".vxd", ".ws", ".wsc", ".wsf", ".wsh", ".xnk",
}

// request is the body. It is the same, byte for byte, however often a message is
// sent: under one idempotency key Resend takes no other.
type request struct {
	From        string            `json:"from"`
	To          []string          `json:"to"`
	Cc          []string          `json:"cc,omitempty"`
	Bcc         []string          `json:"bcc,omitempty"`
	ReplyTo     []string          `json:"reply_to,omitempty"`
	Subject     string            `json:"subject"`
	HTML        string            `json:"html,omitempty"`
	Text        string            `json:"text"` // where it isn't given Resend makes one of the HTML
	Headers     map[string]string `json:"headers,omitempty"`
	ScheduledAt string            `json:"scheduled_at,omitempty"`
	Tags        []tag             `json:"tags"`
	Attachments []attachment      `json:"attachments,omitempty"`
}

type tag struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type attachment struct {
	Content     []byte `json:"content"` // JSON writes it in base64
	Filename    string `json:"filename"`
	ContentType string `json:"content_type,omitempty"` // Resend derives it from the name
	ContentID   string `json:"content_id,omitempty"`
}

// encode is the request's body, or an Unsupported fault that names each field which
// Resend can't take.
func encode(m *email.Message, now time.Time) ([]byte, error) {
	if err := unsupported(m, now); err != nil {
		return nil, err
	}
	r := request{
		From: limits.Mailbox(m.From), To: limits.Mailboxes(m.To), Cc: limits.Mailboxes(m.Cc), Bcc: limits.Mailboxes(m.Bcc), ReplyTo: limits.Mailboxes(m.ReplyTo),
		Subject: m.Subject, HTML: m.HTML, Text: m.Text, Headers: maps.Collect(m.HeaderFields()), Tags: tags(m),
	}
	if m.SendAt.After(now) {
		r.ScheduledAt = m.SendAt.UTC().Format("2006-01-02T15:04:05.000Z") // of microseconds it can't make sense
	}
	for _, a := range m.Attachments {
		r.Attachments = append(r.Attachments, attachment{a.Data, a.Name, a.ContentType, a.ContentID})
	}
	body, err := transport.JSON(r)
	if err != nil {
		return nil, fault.New(fault.Invalid, fmt.Errorf("resend: encode: %w", err))
	}
	if len(body) > maxMail {
		return nil, fault.New(fault.Unsupported, tooLarge())
	}
	return body, nil
}

// tags: Resend has pairs alone.
func tags(m *email.Message) []tag {
	out := []tag{{idTag, m.ID}}
	for _, t := range m.Tags {
		out = append(out, tag{t, "1"})
	}
	for _, k := range slices.Sorted(maps.Keys(m.Metadata)) {
		out = append(out, tag{k, m.Metadata[k]})
	}
	return out
}

var label = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

const labels = "Resend takes 1 to 256 of [A-Za-z0-9_-]"

// unsupported collects what would be taken elsewhere.
func unsupported(m *email.Message, now time.Time) error {
	var found limits.Broken
	found.Require(len(m.To) > 0, "to", "Resend requires a recipient in to, not only in cc or bcc")
	found.Require(len(m.To)+len(m.Cc)+len(m.Bcc) <= maxRecipients, "to", "Resend takes at most 50 recipients")
	found.Require(!m.SendAt.After(now.Add(maxAhead)), "send_at", "Resend schedules at most 30 days ahead")
	found.LocalParts(m, "Resend takes ASCII alone before the @")
	found.Require(len(m.Tags)+len(m.Metadata) < maxTags, "tags", "Resend takes 74 tags and metadata together, beside the message's id")
	for i, t := range m.Tags {
		_, twice := m.Metadata[t]
		found.Require(label.MatchString(t) && !twice && t != idTag, fmt.Sprintf("tags[%d]", i), labels+", not a key of metadata")
	}
	for _, k := range slices.Sorted(maps.Keys(m.Metadata)) {
		found.Require(label.MatchString(m.Metadata[k]), "metadata["+k+"]", labels)
	}
	found.FileTypes(m, unsupportedTypes, "has an extension that Resend doesn't support")
	for i, a := range m.Attachments {
		field := fmt.Sprintf("attachments[%d]", i)
		found.Require(len(a.Data) > 0, field+".data", "Resend takes no empty file")
		found.Require(fits(a), field+".content_type", "doesn't fit the extension of the file's name: Resend would never deliver the mail")
		found.Require(len(a.ContentID) <= maxContentID, field+".content_id", "Resend takes less than 128 characters")
	}
	if m.Size() > maxMail { // before it is encoded
		found = append(found, tooLarge())
	}
	return found.Unsupported()
}

// fits is a guess, as django-anymail's (docs, "Attachment filename extension must
// match content type"): nobody but Resend knows which pairs it drops.
func fits(a email.Attachment) bool {
	named, given := mime.TypeByExtension(filepath.Ext(a.Name)), a.ContentType
	if named == "" || given == "" || subtype(named) == subtype(given) {
		return true
	}
	known, _ := mime.ExtensionsByType(given)
	return slices.Contains(known, strings.ToLower(filepath.Ext(a.Name)))
}

// subtype tells neither text/xml from application/xml nor gzip from x-gzip.
func subtype(mediaType string) string {
	t, _, _ := mime.ParseMediaType(mediaType)
	_, sub, _ := strings.Cut(t, "/")
	return strings.TrimPrefix(sub, "x-")
}

func tooLarge() error {
	return &email.FieldError{Field: "attachments", Problem: "the mail has more than 40 MB when encoded, which is what Resend takes"}
}
