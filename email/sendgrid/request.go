package sendgrid

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"
	"time"

	"github.com/sendgrid/sendgrid-go/helpers/mail"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/internal/limits"
	"github.com/smilefactory/integrations/fault"
)

// idArg is the custom argument that holds our own id of a message; Validate keeps
// it free.
const idArg = "message_id"

const (
	maxAhead      = 72 * time.Hour // Mail Send reference, send_at
	maxRecipients = 1000           // Mail Send limitations
	maxCustomArgs = 10_000         // bytes; Mail Send limitations: "must be less than"
	// maxMail is "less than 30 MB" (Mail Send limitations), in the smaller
	// reading of MB and of the whole request.
	maxMail = 30_000_000
)

// encode is the request's body, or an Unsupported fault that names each field
// which SendGrid can't take.
func encode(m *email.Message, sandbox bool, now time.Time) ([]byte, error) {
	if err := unsupported(m, now); err != nil {
		return nil, err
	}
	v3 := mail.NewV3Mail()
	v3.From = person(m.From)
	v3.Subject = m.Subject
	v3.Personalizations = []*mail.Personalization{{To: people(m.To), CC: people(m.Cc), BCC: people(m.Bcc), CustomArgs: customArgs(m)}}
	switch len(m.ReplyTo) { // the one or the other, never both (Mail Send reference)
	case 0:
	case 1:
		v3.ReplyTo = person(m.ReplyTo[0])
	default:
		v3.ReplyToList = people(m.ReplyTo)
	}
	v3.Content = contents(m)
	v3.Attachments = attachments(m.Attachments)
	v3.Categories = m.Tags
	for name, value := range m.HeaderFields() {
		v3.SetHeader(name, value)
	}
	if m.SendAt.After(now) {
		v3.SendAt = int(m.SendAt.Unix())
	}
	if sandbox {
		v3.MailSettings = mail.NewMailSettings().SetSandboxMode(mail.NewSetting(true))
	}
	body := mail.GetRequestBody(v3)
	if len(body) >= maxMail {
		return nil, fault.New(fault.Unsupported, tooLarge())
	}
	return body, nil
}

func tooLarge() error {
	return &email.FieldError{Field: "attachments", Problem: "the mail has 30 MB or more when encoded; SendGrid takes less"}
}

// unsupported collects what would be taken elsewhere.
func unsupported(m *email.Message, now time.Time) error {
	var found limits.Broken
	found.Require(len(m.To) > 0, "to", "SendGrid requires a recipient in to, not only in cc or bcc")
	found.Require(len(m.To)+len(m.Cc)+len(m.Bcc) <= maxRecipients, "to", "SendGrid takes at most 1000 recipients")
	found.Require(limits.ASCII(email.ASCIIDomain(m.From).Address), "from.address", "SendGrid takes only ASCII in the sender's address")
	found.Require(!m.SendAt.After(now.Add(maxAhead)), "send_at", "SendGrid schedules at most 72 hours ahead")
	names(&found, "to", m.To)
	names(&found, "cc", m.Cc)
	names(&found, "bcc", m.Bcc)
	for i, tag := range m.Tags {
		found.Require(limits.ASCII(tag), fmt.Sprintf("tags[%d]", i), "SendGrid takes only ASCII in categories")
	}
	args, _ := json.Marshal(customArgs(m)) // strings alone can't fail
	found.Require(len(args) < maxCustomArgs, "metadata", "SendGrid takes less than 10,000 bytes of custom arguments")
	for _, key := range slices.Sorted(maps.Keys(m.Metadata)) {
		found.Require(!eventField(key), "metadata["+key+"]", "is a field of SendGrid's own in its events, which would hide it")
	}
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		found.Require(!reserved(name), "headers["+name+"]", "is one that SendGrid sets")
	}
	for i, a := range m.Attachments {
		found.Require(len(a.Data) > 0, fmt.Sprintf("attachments[%d].data", i), "SendGrid takes no empty file")
	}
	if m.Size() >= maxMail { // before it is encoded
		found = append(found, tooLarge())
	}
	return found.Unsupported()
}

// names: recipients' names hold neither character (Mail Send limitations); the
// sender's may.
func names(found *limits.Broken, field string, list []email.Address) {
	for i, a := range list {
		found.Require(!strings.ContainsAny(a.Name, ";,"), fmt.Sprintf("%s[%d].name", field, i),
			"SendGrid takes neither semicolon nor comma in a recipient's name")
	}
}

// reserved are the names of the Mail Send reference, headers, that email.Message
// doesn't refuse itself.
func reserved(name string) bool {
	return strings.EqualFold(name, "x-sg-id") || strings.EqualFold(name, "x-sg-eid")
}

// eventFields are SendGrid's own in its events (Event Webhook Reference: the
// properties of delivery, engagement and account events). Custom arguments stand
// beside them, in the same object, so that one of the same name would be lost.
var eventFields = []string{
	"asm_group_id", "attempt", "bounce_classification", "category", "email", "event", "ip", "pool", "reason", "response", "smtp-id",
	"status", "timestamp", "tls", "type", "unique_args", "url", "url_offset", "useragent",
}

// eventField is true for what SendGrid puts before names of its own, too:
// sg_event_id, sg_message_id, sg_machine_open, marketing_campaign_id and others.
func eventField(key string) bool {
	return slices.Contains(eventFields, key) || strings.HasPrefix(key, "sg_") || strings.HasPrefix(key, "marketing_campaign_")
}

func customArgs(m *email.Message) map[string]string {
	args := make(map[string]string, len(m.Metadata)+1)
	maps.Copy(args, m.Metadata)
	args[idArg] = m.ID
	return args
}

// person writes the domain in ASCII: of the sender's address, SendGrid takes
// nothing else (Mail Send limitations).
func person(a email.Address) *mail.Email {
	a = email.ASCIIDomain(a)
	return &mail.Email{Name: a.Name, Address: a.Address}
}

func people(list []email.Address) []*mail.Email {
	out := make([]*mail.Email, len(list))
	for i, a := range list {
		out[i] = person(a)
	}
	return out
}

// contents puts the text first, as the Mail Send errors page requires.
func contents(m *email.Message) []*mail.Content {
	var out []*mail.Content
	if m.Text != "" {
		out = append(out, mail.NewContent("text/plain", m.Text))
	}
	if m.HTML != "" {
		out = append(out, mail.NewContent("text/html", m.HTML))
	}
	return out
}

func attachments(list []email.Attachment) []*mail.Attachment {
	var out []*mail.Attachment
	for _, a := range list {
		file := &mail.Attachment{
			Content: base64.StdEncoding.EncodeToString(a.Data), Type: mediaType(a.ContentType),
			Filename: a.Name, Disposition: "attachment", ContentID: a.ContentID,
		}
		if a.ContentID != "" {
			file.Disposition = "inline"
		}
		out = append(out, file)
	}
	return out
}

// mediaType drops parameters: a type holds no semicolon (Mail Send errors).
func mediaType(s string) string {
	if t, _, err := mime.ParseMediaType(s); err == nil {
		return t
	}
	return "application/octet-stream"
}
