package postmark

import (
	"encoding/base64"
	"net/http"
	"net/mail"
	"path"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/smilefactory/integrations/internal/sim"
)

type address = mail.Address

// Request is a mail as it was asked for (Email API).
type Request struct {
	From, To, Cc, Bcc, ReplyTo  string
	Subject, TextBody, HtmlBody string //nolint:revive // the wire's name
	Tag, MessageStream          string
	TrackOpens                  bool
	TrackLinks                  string
	Metadata                    map[string]string
	Headers                     []struct{ Name, Value string }
	Attachments                 []struct{ Name, Content, ContentType, ContentID string }
}

// Header is a header field of the request, empty where there is none.
func (r Request) Header(name string) string {
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value
		}
	}
	return ""
}

const (
	maxFrom          = 255  // Email API, From: UTF-16 code units.
	maxSubject       = 2000 // Email API, Subject: UTF-16 code units.
	maxTag           = 1000 // Email API, Tag.
	maxRecipients    = 50   // Email API: To, Cc and Bcc together.
	maxMetadata      = 10   // Custom metadata.
	maxKey           = 20   // Custom metadata: characters of a key.
	maxValue         = 80   // Custom metadata: characters of a value.
	maxText          = 5 << 20
	keepID, keepWhat = "X-PM-KeepID", "Message-ID"
)

type problem struct {
	code    int
	message string
}

// invalid is the code for nearly everything that is wrong with a mail (Overview: 300).
func invalid(message string) *problem { return &problem{300, message} }

// check is nil where Postmark would take the mail.
func (s *Sim) check(r Request) *problem {
	if stream := r.MessageStream; stream != "" && !slices.Contains(s.streams, stream) { // Overview: 1235.
		return &problem{1235, "The stream provided: '" + stream + "' does not exist on this server."}
	}
	for _, check := range []func(Request) *problem{checkAddresses, checkContent, checkMetadata, checkHeaders, checkAttachments} {
		if p := check(r); p != nil {
			return p
		}
	}
	return nil
}

func checkAddresses(r Request) *problem {
	if from, ok := parse(r.From); !ok || len(from) != 1 {
		return invalid("Invalid 'From' address: '" + r.From + "'.")
	}
	if units(r.From) > maxFrom {
		return invalid("The 'From' field is too long.")
	}
	n := 0
	for _, f := range []struct{ name, value string }{{"To", r.To}, {"Cc", r.Cc}, {"Bcc", r.Bcc}, {"ReplyTo", r.ReplyTo}} {
		list, ok := parse(f.value)
		if !ok || f.name == "To" && len(list) == 0 { // Email API: To is required.
			return invalid("Invalid '" + f.name + "' address: '" + f.value + "'.")
		}
		if f.name != "ReplyTo" {
			n += len(list)
		}
	}
	if n > maxRecipients {
		return invalid("Exceeded the maximum of 50 recipients per message.")
	}
	return nil
}

// parse reads a list of addresses in one string. What is before the @ must be ASCII: Postmark takes no others
// (django-anymail, "No non-ASCII mailboxes").
func parse(list string) ([]address, bool) {
	all, err := sim.ParseAddressList(list)
	if err != nil {
		return nil, false
	}
	return all, !slices.ContainsFunc(all, func(a address) bool { return !sim.ValidAddress(a.Address) || !sim.IsASCII(a.Address) })
}

func units(s string) int { return len(utf16.Encode([]rune(s))) }

func checkContent(r Request) *problem {
	switch {
	case r.TextBody == "" && r.HtmlBody == "":
		return invalid("Provide either email TextBody or HtmlBody or both.")
	case len(r.TextBody) > maxText || len(r.HtmlBody) > maxText: // Size limits: 5 MB each.
		return invalid("The body is too large.")
	case units(r.Subject) > maxSubject:
		return invalid("The 'Subject' field is too long.")
	case units(r.Tag) > maxTag:
		return invalid("The 'Tag' field is too long.")
	}
	switch r.TrackLinks { // User guide, Tracking links.
	case "", "None", "HtmlAndText", "HtmlOnly", "TextOnly":
		return nil
	}
	return invalid("Invalid 'TrackLinks' value.")
}

// checkMetadata follows Custom metadata, "What are the limitations?".
func checkMetadata(r Request) *problem {
	if len(r.Metadata) > maxMetadata {
		return invalid("Invalid metadata content. Too many fields.")
	}
	seen := map[string]bool{}
	for k, v := range r.Metadata {
		lower := strings.ToLower(k)
		switch {
		case k == "" || units(k) > maxKey:
			return invalid("Invalid metadata content. A field name is too long.")
		case units(v) > maxValue:
			return invalid("Invalid metadata content. A field value is too long.")
		case seen[lower]:
			return invalid("Invalid metadata content. Duplicate field names.")
		}
		seen[lower] = true
	}
	return nil
}

func checkHeaders(r Request) *problem {
	for _, h := range r.Headers {
		if h.Name == "" || !sim.IsASCII(h.Name) || strings.ContainsAny(h.Name, " :") || strings.ContainsAny(h.Value, "\r\n\x00") {
			return invalid("Invalid header.")
		}
	}
	return nil
}

// forbidden are the extensions that no file may have (User guide, Send email with API, Attachments).
var forbidden = strings.Fields("vbs exe bin bat chm com cpl crt hlp hta inf ins isp jse lnk mdb pcd pif reg scr sct shs vbe vba wsf wsh wsl msc msi msp mst")

func checkAttachments(r Request) *problem {
	for _, a := range r.Attachments {
		_, err := base64.StdEncoding.DecodeString(a.Content)
		switch {
		case slices.Contains(forbidden, strings.ToLower(strings.TrimPrefix(path.Ext(a.Name), "."))): // Overview: 411.
			return &problem{411, "Attachment file type not allowed."}
		case a.Name == "" || a.ContentType == "":
			return invalid("An attachment needs a Name and a ContentType.")
		case a.Content == "" || err != nil:
			return invalid("The content of an attachment isn't base64.")
		case a.ContentID != "" && !strings.HasPrefix(a.ContentID, "cid:"): // User guide: "cid:" marks an inline image.
			return invalid("A ContentID must begin with 'cid:'.")
		}
	}
	return nil
}

// mail is what is sent. A Message-ID of the request is kept where X-PM-KeepID says so (User guide, Send email with SMTP),
// and isn't among the headers.
func (r Request) mail() sim.Mail {
	from, _ := parse(r.From) // checked before
	m := sim.Mail{From: from[0], Subject: r.Subject, Text: r.TextBody, HTML: r.HtmlBody, ID: r.Metadata[sim.IDKey]}
	m.To, _ = parse(r.To)
	m.Cc, _ = parse(r.Cc)
	m.Bcc, _ = parse(r.Bcc)
	m.ReplyTo, _ = parse(r.ReplyTo)
	if r.Tag != "" {
		m.Tags = []string{r.Tag}
	}
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, keepID) || strings.EqualFold(h.Name, keepWhat) {
			continue
		}
		if m.Headers == nil {
			m.Headers = map[string]string{}
		}
		m.Headers[http.CanonicalHeaderKey(h.Name)] = h.Value
	}
	for k, v := range r.Metadata {
		if k == sim.IDKey {
			continue
		}
		if m.Metadata == nil {
			m.Metadata = map[string]string{}
		}
		m.Metadata[k] = v
	}
	for _, a := range r.Attachments {
		data, _ := base64.StdEncoding.DecodeString(a.Content) // checked before
		m.Attachments = append(m.Attachments, sim.Attachment{Name: a.Name, Type: a.ContentType, ContentID: strings.TrimPrefix(a.ContentID, "cid:"), Data: data})
	}
	return m
}
