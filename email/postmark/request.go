package postmark

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/internal/limits"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
)

// idKey is the metadata that holds our own id of a message; Validate keeps it free
// in this spelling.
const idKey = "message_id"

// Limits of Postmark: "Email API" of its developer documentation, "Custom metadata
// FAQ" and "What are the attachment and email size limits?" of its support center.
const (
	maxRecipients = 50
	maxFrom       = 255 // UTF-16 code units of the sender, its name included
	maxMetadata   = 10  // one of them is the message's id
	maxKey        = 20  // characters of a metadata key
	maxValue      = 80  // and of its value
	// Sizes are in the smaller reading of MB, and of the whole request.
	maxText = 5_000_000  // of text, and of HTML
	maxMail = 10_000_000 // "including attachments", after base64
)

// forbidden are the extensions that no file may have ("Send email with API",
// Attachments).
var forbidden = []string{
	".vbs", ".exe", ".bin", ".bat", ".chm", ".com", ".cpl", ".crt", ".hlp", ".hta", ".inf", ".ins", ".isp", ".jse", ".lnk", ".mdb", ".pcd", ".pif", ".reg",
	".scr", ".sct", ".shs", ".vbe", ".vba", ".wsf", ".wsh", ".wsl", ".msc", ".msi", ".msp", ".mst",
}

// request is the body (Email API).
type request struct {
	From          string            `json:"From"`
	To            string            `json:"To"`
	Cc            string            `json:"Cc,omitempty"`
	Bcc           string            `json:"Bcc,omitempty"`
	ReplyTo       string            `json:"ReplyTo,omitempty"`
	Subject       string            `json:"Subject"`
	TextBody      string            `json:"TextBody,omitempty"`
	HTMLBody      string            `json:"HtmlBody,omitempty"`
	Tag           string            `json:"Tag,omitempty"`
	MessageStream string            `json:"MessageStream,omitempty"`
	TrackOpens    bool              `json:"TrackOpens"`
	Metadata      map[string]string `json:"Metadata"`
	Headers       []header          `json:"Headers"`
	Attachments   []attachment      `json:"Attachments,omitempty"`
}

type header struct{ Name, Value string }

type attachment struct {
	Name        string
	Content     []byte // JSON writes it in base64
	ContentType string
	ContentID   string `json:",omitempty"`
}

// encode is the request's body, or an Unsupported fault that names each field which
// Postmark can't take.
func (s Sender) encode(m *email.Message, now time.Time) ([]byte, error) {
	if err := unsupported(m, now); err != nil {
		return nil, err
	}
	r := request{
		From: limits.Mailbox(m.From), To: list(m.To), Cc: list(m.Cc), Bcc: list(m.Bcc), ReplyTo: list(m.ReplyTo),
		Subject: m.Subject, TextBody: m.Text, HTMLBody: m.HTML, Tag: strings.Join(m.Tags, ""), // at most one
		MessageStream: s.MessageStream, TrackOpens: s.TrackOpens, Metadata: maps.Clone(m.Metadata),
	}
	if r.Metadata == nil {
		r.Metadata = map[string]string{}
	}
	r.Metadata[idKey] = m.ID
	for name, value := range m.HeaderFields() {
		r.Headers = append(r.Headers, header{name, value})
	}
	// Postmark replaces a Message-ID unless it is told to keep it ("Send email with
	// SMTP"; its own libraries send both through the API).
	r.Headers = append(r.Headers, header{"Message-ID", "<" + messageID(m) + ">"}, header{keepID, "true"})
	for _, a := range m.Attachments {
		r.Attachments = append(r.Attachments, file(a))
	}
	body, err := transport.JSON(r)
	if err != nil {
		return nil, fault.New(fault.Invalid, fmt.Errorf("postmark: encode: %w", err))
	}
	if len(body) > maxMail {
		return nil, fault.New(fault.Unsupported, tooLarge())
	}
	return body, nil
}

const keepID = "X-PM-KeepID"

// messageID is that of the mail, without angle brackets.
func messageID(m *email.Message) string {
	from := email.ASCIIDomain(m.From).Address
	return m.ID + from[strings.LastIndexByte(from, '@'):]
}

func list(addresses []email.Address) string { return strings.Join(limits.Mailboxes(addresses), ", ") }

// file marks what is shown inline by "cid:" ("Send email with API", Inline images).
func file(a email.Attachment) attachment {
	out := attachment{Name: a.Name, Content: a.Data, ContentType: a.ContentType}
	if out.ContentType == "" {
		out.ContentType = "application/octet-stream"
	}
	if a.ContentID != "" {
		out.ContentID = "cid:" + a.ContentID
	}
	return out
}

// unsupported collects what would be taken elsewhere.
func unsupported(m *email.Message, now time.Time) error {
	var found limits.Broken
	found.Require(len(m.To) > 0, "to", "Postmark requires a recipient in to, not only in cc or bcc")
	found.Require(len(m.To)+len(m.Cc)+len(m.Bcc) <= maxRecipients, "to", "Postmark takes at most 50 recipients")
	found.Require(!m.SendAt.After(now), "send_at", "Postmark has no scheduling")
	found.Require(units(limits.Mailbox(m.From)) <= maxFrom, "from.name", "Postmark takes at most 255 characters, the address included")
	found.LocalParts(m, "Postmark takes ASCII alone before the @")
	if len(m.Tags) > 1 {
		found.Require(false, "tags[1]", "Postmark takes one tag")
	}
	metadata(&found, m.Metadata)
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		found.Require(!strings.EqualFold(name, keepID), "headers["+name+"]", "is one that is set for Postmark")
	}
	found.FileTypes(m, forbidden, "has an extension that Postmark forbids")
	for i, a := range m.Attachments {
		found.Require(len(a.Data) > 0, fmt.Sprintf("attachments[%d].data", i), "Postmark takes no empty file")
	}
	found.Require(len(m.Text) <= maxText, "text", "Postmark takes at most 5 MB")
	found.Require(len(m.HTML) <= maxText, "html", "Postmark takes at most 5 MB")
	if m.Size() > maxMail { // before it is encoded
		found = append(found, tooLarge())
	}
	return found.Unsupported()
}

// metadata: Postmark tells keys apart without regard to case.
func metadata(found *limits.Broken, all map[string]string) {
	found.Require(len(all) < maxMetadata, "metadata", "Postmark takes 9 entries, beside the message's id")
	seen := map[string]bool{idKey: true}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		field := "metadata[" + key + "]"
		found.Require(len(key) <= maxKey, field, "Postmark takes keys of at most 20 characters")
		found.Require(units(all[key]) <= maxValue, field, "Postmark takes values of at most 80 characters")
		found.Require(!seen[strings.ToLower(key)], field, "is the same key as another, for Postmark")
		seen[strings.ToLower(key)] = true
	}
}

// units are the characters that Postmark counts.
func units(s string) int { return len(utf16.Encode([]rune(s))) }

func tooLarge() error {
	return &email.FieldError{Field: "attachments", Problem: "the mail has more than 10 MB when encoded, which is what Postmark takes"}
}
