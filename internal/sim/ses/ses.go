// Package ses simulates Amazon SES v2's SendEmail (POST /v2/email/outbound-emails)
// on a loopback port: it refuses what the API reference says SES refuses, and
// keeps what it accepted. Signatures are not verified, only whose key made them.
//
// Comments name the rules' sources: "SendEmail" and "Tag" are pages of the SES
// API v2 reference, "Quotas" is the developer guide's page on service quotas.
package ses

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/mail"
	"regexp"
	"slices"
	"strings"

	"github.com/smilefactory/integrations/internal/sim"
)

// Config says whom the simulator knows.
type Config struct {
	// AccessKeyID that is let in. An empty one lets nobody in.
	AccessKeyID string
	HTTP2       bool
}

// Sim is a running simulator. It's safe for concurrent use.
type Sim struct {
	*sim.Server
	// Mails are those accepted, by the tag [sim.IDKey].
	Mails sim.Ledger[sim.Mail]
	cfg   Config
}

// Path of the one operation that there is.
const Path = "/v2/email/outbound-emails"

const (
	maxSize       = 40 << 20 // Quotas: message size, after base64.
	maxRecipients = 50       // Quotas: recipients per message.
	maxTags       = 50       // SendEmail, EmailTags.
)

// New starts a simulator; Close ends it.
func New(cfg Config) *Sim {
	s := &Sim{cfg: cfg}
	s.Server = sim.NewServer(sim.Config{HTTP2: cfg.HTTP2, MaxBody: 2 * maxSize}, s.serve)
	return s
}

// Error is the step that answers with a typed error, and does nothing.
func Error(status int, typ, message string) sim.Step {
	r := failure(status, typ, message)
	return sim.Step{Status: r.Status, Header: r.Header, Body: r.Body}
}

func failure(status int, typ, message string) sim.Reply {
	body, _ := json.Marshal(map[string]string{"message": message}) // strings alone can't fail
	return sim.Reply{Status: status, Body: string(body), Header: http.Header{"X-Amzn-Errortype": {typ}, "X-Amzn-Requestid": {rand.Text()}}}
}

type text struct{ Data, Charset string }

type request struct {
	FromEmailAddress string
	ReplyToAddresses []string
	Destination      struct{ ToAddresses, CcAddresses, BccAddresses []string }
	Content          struct {
		Simple *struct {
			Subject text
			Body    struct{ Text, Html *text } //nolint:revive // the wire's name
			Headers []struct{ Name, Value string }

			Attachments []struct {
				FileName, ContentType, ContentDisposition, ContentId string //nolint:revive // the wire's name
				RawContent                                           []byte
			}
		}
		Raw *struct{ Data []byte }
	}
	EmailTags []struct{ Name, Value string }
}

var tag = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`) // Tag: letters, numbers, underscores, dashes; 256 at most.

func (s *Sim) serve(r *http.Request, body []byte) sim.Reply {
	switch auth := r.Header.Get("Authorization"); {
	case r.URL.Path != Path || r.Method != http.MethodPost:
		return failure(http.StatusNotFound, "NotFoundException", "not found")
	case auth == "": // SES common errors.
		return failure(http.StatusForbidden, "MissingAuthenticationTokenException", "Missing Authentication Token")
	case s.cfg.AccessKeyID == "" || !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential="+s.cfg.AccessKeyID+"/"):
		return failure(http.StatusForbidden, "UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	var req request
	if json.Unmarshal(body, &req) != nil {
		return failure(http.StatusBadRequest, "SerializationException", "can't be read")
	}
	m, problem := req.mail()
	if problem != "" {
		return failure(http.StatusBadRequest, "BadRequestException", problem)
	}
	m.ProviderID = rand.Text()
	return sim.Reply{
		Body: `{"MessageId":"` + m.ProviderID + `"}`,
		Act:  func() { s.Mails.Add(m.ID, m) },
	}
}

func (r *request) mail() (sim.Mail, string) {
	m, problem := r.content()
	if problem != "" {
		return m, problem
	}
	for _, l := range []struct {
		from []string
		to   *[]mail.Address
	}{{r.Destination.ToAddresses, &m.To}, {r.Destination.CcAddresses, &m.Cc}, {r.Destination.BccAddresses, &m.Bcc}, {r.ReplyToAddresses, &m.ReplyTo}} {
		list, problem := addresses(l.from)
		if problem != "" {
			return m, problem
		}
		if list != nil {
			*l.to = list
		}
	}
	switch n := len(m.To) + len(m.Cc) + len(m.Bcc); {
	case n == 0:
		return m, "Destination is missing."
	case n > maxRecipients:
		return m, "Recipient count exceeds 50."
	}
	return m, r.tags(&m)
}

func (r *request) content() (sim.Mail, string) {
	c := r.Content
	if (c.Simple == nil) == (c.Raw == nil) { // SendEmail, Content: one of them.
		return sim.Mail{}, "Content must be one of Simple, Raw and Template."
	}
	if c.Raw != nil {
		m, err := sim.ParseMIME(c.Raw.Data)
		switch {
		case err != nil:
			return m, "Raw message can't be parsed."
		case len(c.Raw.Data) > maxSize:
			return m, "Message length is more than 41943040 bytes long."
		}
		for line := range strings.SplitSeq(string(c.Raw.Data), "\r\n") {
			if len(line) > 998 { // SendEmail, Raw: lines of 1000 octets with CRLF at most.
				return m, "Lines in the message are too long."
			}
		}
		return m, ""
	}
	return r.simple()
}

func (r *request) simple() (sim.Mail, string) {
	in := r.Content.Simple
	from, problem := addresses([]string{r.FromEmailAddress})
	if problem != "" {
		return sim.Mail{}, problem
	}
	m := sim.Mail{From: from[0], Subject: in.Subject.Data}
	if in.Subject.Data == "" || in.Body.Text == nil && in.Body.Html == nil { // Message: subject and a body are required.
		return m, "Subject and Body are required."
	}
	if in.Body.Text != nil {
		m.Text = in.Body.Text.Data
	}
	if in.Body.Html != nil {
		m.HTML = in.Body.Html.Data
	}
	size := len(m.Text) + len(m.HTML)
	for _, h := range in.Headers { // MessageHeader: names of at most 126, values of at most 870 printable ASCII.
		if len(h.Name) > 126 || len(h.Value) > 870 || !sim.IsASCII(h.Name+h.Value) {
			return m, "Header " + h.Name + " is invalid."
		}
		if m.Headers == nil {
			m.Headers = map[string]string{}
		}
		m.Headers[http.CanonicalHeaderKey(h.Name)] = h.Value
	}
	for _, a := range in.Attachments {
		if a.FileName == "" || len(a.FileName) > 255 { // Attachment, FileName.
			return m, "FileName is required."
		}
		size += len(a.RawContent) * 4 / 3
		m.Attachments = append(m.Attachments, sim.Attachment{Name: a.FileName, Type: a.ContentType, ContentID: a.ContentId, Data: a.RawContent})
	}
	if size > maxSize {
		return m, "Message length is more than 41943040 bytes long."
	}
	return m, ""
}

func (r *request) tags(m *sim.Mail) string {
	if len(r.EmailTags) > maxTags {
		return "Too many tags."
	}
	all := map[string]string{}
	for _, t := range r.EmailTags {
		if !tag.MatchString(t.Name) || !tag.MatchString(t.Value) {
			return fmt.Sprintf("Invalid tag name or value <%s>.", t.Name)
		}
		if _, ok := all[t.Name]; ok {
			return "Duplicate tag name."
		}
		all[t.Name] = t.Value
	}
	if id := all[sim.IDKey]; id != "" {
		m.ID = id
		delete(all, sim.IDKey)
	}
	m.Tags = slices.Sorted(maps.Keys(all))
	if len(all) > 0 {
		m.Metadata = all
	}
	return ""
}

// addresses: SES has no SMTPUTF8, so the part before the @ is ASCII (SendEmail, Destination).
func addresses(list []string) ([]mail.Address, string) {
	var out []mail.Address
	for _, a := range list {
		parsed, err := mail.ParseAddress(a)
		if err != nil || !sim.ValidAddress(parsed.Address) {
			return nil, "Illegal address"
		}
		if local, _, _ := strings.Cut(parsed.Address, "@"); !sim.IsASCII(local) {
			return nil, "Local address contains control or whitespace"
		}
		out = append(out, *parsed)
	}
	return out, ""
}
