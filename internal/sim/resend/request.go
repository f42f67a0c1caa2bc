package resend

import (
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"net/mail"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

// request is the part of a mail that is looked at (Send Email, Body Parameters).
type request struct {
	From        string            `json:"from"`
	To          texts             `json:"to"`
	Cc          texts             `json:"cc"`
	Bcc         texts             `json:"bcc"`
	ReplyTo     texts             `json:"reply_to"`
	Subject     string            `json:"subject"`
	HTML        string            `json:"html"`
	Text        *string           `json:"text"`
	Headers     map[string]string `json:"headers"`
	ScheduledAt string            `json:"scheduled_at"`
	Tags        []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"tags"`
	Attachments []attachment `json:"attachments"`
}

type attachment struct {
	Content     string `json:"content"`
	Filename    string `json:"filename"`
	ContentType string `json:"content_type"`
	ContentID   string `json:"content_id"`
}

// texts are one string or many.
type texts []string

// UnmarshalJSON reads both.
func (t *texts) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*t = texts{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(t))
}

const (
	maxRecipients = 50                  // Send Email, to; here to, cc and bcc together.
	maxTags       = 75                  // Tags.
	maxContentID  = 128                 // Attachments: "must be less than".
	maxAhead      = 30 * 24 * time.Hour // Schedule Email.
)

type problem struct {
	status        int
	name, message string
}

func invalid(message string) *problem {
	return &problem{http.StatusBadRequest, "validation_error", message} // Errors
}

func missing(field string) *problem {
	return &problem{http.StatusUnprocessableEntity, "missing_required_field", "Missing `" + field + "` field."} // Errors
}

// check is nil where Resend would take the mail.
func (r request) check(now time.Time) *problem {
	for _, check := range []func(time.Time) *problem{r.checkAddresses, r.checkContent, r.checkTags, r.checkHeaders, r.checkAttachments, r.checkScheduledAt} {
		if p := check(now); p != nil {
			return p
		}
	}
	return nil
}

func (r request) checkAddresses(time.Time) *problem {
	switch {
	case r.From == "":
		return missing("from")
	case len(r.To) == 0:
		return missing("to")
	case len(r.To)+len(r.Cc)+len(r.Bcc) > maxRecipients:
		return invalid("Too many recipients.")
	}
	for name, list := range map[string]texts{"from": {r.From}, "to": r.To, "cc": r.Cc, "bcc": r.Bcc, "reply_to": r.ReplyTo} {
		for _, a := range list {
			if _, ok := parse(a); !ok {
				return invalid("Invalid `" + name + "` field. The email address needs to follow the `email@example.com` or `Name <email@example.com>` format.")
			}
		}
	}
	return nil
}

// parse reads one address. What is before the @ must be ASCII: Resend takes no others (django-anymail, "No non-ASCII
// mailboxes").
func parse(s string) (mail.Address, bool) {
	a, err := mail.ParseAddress(s)
	if err != nil || !sim.ValidAddress(a.Address) || !sim.IsASCII(a.Address) {
		return mail.Address{}, false
	}
	return *a, true
}

func (r request) checkContent(time.Time) *problem {
	switch {
	case r.Subject == "":
		return missing("subject")
	case r.HTML == "" && (r.Text == nil || *r.Text == ""):
		return missing("html")
	}
	return nil
}

// tag: ASCII letters, numbers, underscores or dashes, 256 characters at most (Send Email, tags).
var tag = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

func (r request) checkTags(time.Time) *problem {
	if len(r.Tags) > maxTags {
		return invalid("Too many tags.")
	}
	for _, t := range r.Tags {
		if !tag.MatchString(t.Name) || !tag.MatchString(t.Value) {
			return invalid("Tags should only contain ASCII letters, numbers, underscores, or dashes.")
		}
	}
	return nil
}

func (r request) checkHeaders(time.Time) *problem {
	for name, value := range r.Headers {
		if name == "" || !sim.IsASCII(name) || strings.ContainsAny(name, " :") || strings.ContainsAny(value, "\r\n\x00") {
			return invalid("Invalid `headers` field.")
		}
	}
	return nil
}

// unsupported are the extensions that no file may have (Unsupported attachments).
var unsupported = strings.Fields(`adp app asp bas bat cer chm cmd com cpl crt csh der exe fxp gadget hlp hta inf ins isp its js jse ksh lib lnk mad maf
	mag mam maq mar mas mat mau mav maw mda mdb mde mdt mdw mdz msc msh msh1 msh2 mshxml msh1xml msh2xml msi msp mst ops pcd pif plg prf prg reg scf scr
	sct shb shs sys ps1 ps1xml ps2 ps2xml psc1 psc2 tmp url vb vbe vbs vps vsmacros vss vst vsw vxd ws wsc wsf wsh xnk`)

func (r request) checkAttachments(time.Time) *problem {
	for _, a := range r.Attachments {
		_, err := base64.StdEncoding.DecodeString(a.Content)
		switch {
		case a.Content == "": // Errors
			return &problem{http.StatusUnprocessableEntity, "invalid_attachment", "Attachment must have either a `content` or `path`."}
		case err != nil || a.Filename == "":
			return invalid("Invalid `attachments` field.")
		case len(a.ContentID) >= maxContentID:
			return invalid("The `content_id` must be less than 128 characters.")
		case slices.Contains(unsupported, strings.ToLower(strings.TrimPrefix(path.Ext(a.Filename), "."))):
			return invalid("The attachment's file type is not supported.")
		}
	}
	return nil
}

func (r request) checkScheduledAt(now time.Time) *problem {
	if r.ScheduledAt == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339, r.ScheduledAt)
	switch {
	case err != nil:
		return invalid("Invalid `scheduled_at` field.")
	case strings.Contains(r.ScheduledAt, ".") && at.Nanosecond()%int(time.Millisecond) != 0: // django-anymail: "can't handle microseconds"
		return invalid("Invalid `scheduled_at` field.")
	case at.After(now.Add(maxAhead)):
		return invalid("The `scheduled_at` must be within 30 days.")
	}
	return nil
}

// dropped reports whether Resend would take the mail and never deliver it, since a file's extension and its type don't fit
// each other (django-anymail, "Attachment filename extension must match content type").
func (r request) dropped() bool {
	return slices.ContainsFunc(r.Attachments, func(a attachment) bool {
		byName := base(mime.TypeByExtension(path.Ext(a.Filename)))
		return byName != "" && a.ContentType != "" && byName != base(a.ContentType)
	})
}

func base(mediaType string) string {
	t, _, _ := mime.ParseMediaType(mediaType)
	return t
}

// made stands for the text that Resend makes of HTML where none is given (Send Email, text).
const made = "(made of the HTML)"

func (r request) mail() sim.Mail {
	m := sim.Mail{Subject: r.Subject, HTML: r.HTML, Text: made, To: addresses(r.To), Cc: addresses(r.Cc), Bcc: addresses(r.Bcc), ReplyTo: addresses(r.ReplyTo)}
	m.From, _ = parse(r.From) // checked before
	if r.Text != nil {
		m.Text = *r.Text
	}
	if at, err := time.Parse(time.RFC3339, r.ScheduledAt); err == nil {
		m.SendAt = at
	}
	for name, value := range r.Headers {
		if m.Headers == nil {
			m.Headers = map[string]string{}
		}
		m.Headers[http.CanonicalHeaderKey(name)] = value
	}
	for _, t := range r.Tags {
		if t.Name == sim.IDKey {
			m.ID = t.Value
			continue
		}
		if m.Metadata == nil {
			m.Metadata = map[string]string{}
		}
		m.Tags, m.Metadata[t.Name] = append(m.Tags, t.Name), t.Value
	}
	slices.Sort(m.Tags)
	for _, a := range r.Attachments {
		data, _ := base64.StdEncoding.DecodeString(a.Content) // checked before
		out := sim.Attachment{Name: a.Filename, Type: a.ContentType, ContentID: a.ContentID, Data: data}
		if out.Type == "" { // Send Email: derived from the filename
			out.Type = base(mime.TypeByExtension(path.Ext(a.Filename)))
		}
		m.Attachments = append(m.Attachments, out)
	}
	return m
}

func addresses(list texts) []mail.Address {
	var out []mail.Address
	for _, s := range list {
		a, _ := parse(s)
		out = append(out, a)
	}
	return out
}
