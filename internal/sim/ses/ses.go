// Package ses simulates Amazon SES v2's SendEmail (POST /v2/email/outbound-emails)
// on a loopback port: it refuses what the API reference says SES refuses, and
// keeps what it accepted. Signatures are not verified, only whose key made them,
// and when.
//
// Comments name the rules' sources: "SendEmail", "Message", "MessageHeader",
// "MessageTag", "Attachment", "RawMessage", "Destination" and "Common Errors" are
// pages of the SES API v2 reference, "Quotas" and "Header fields" are the developer
// guide's pages on service quotas and on header fields, "Signatures" is the IAM
// user guide's on signed requests.
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
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

// Config says whom the simulator knows.
type Config struct {
	// AccessKeyID that is let in. An empty one lets nobody in.
	AccessKeyID string
	// ConfigurationSet is the only one that there is.
	ConfigurationSet string
	// HTTP2 serves HTTP/2 over TLS, which only [sim.Server.Client] trusts.
	HTTP2 bool
	// Now is the clock against which signatures are held; nil is time.Now.
	Now func() time.Time
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
	maxTags       = 50       // Quotas: tags per message.

	maxHeaderName  = 126 // MessageHeader.
	maxHeaderValue = 995 // MessageHeader.
	maxHeader      = 996 // MessageHeader: name and value together.
	maxFileName    = 255 // Attachment, FileName.
	maxPartHeader  = 78  // Attachment, ContentType and ContentId.
	maxLine        = 998 // RawMessage: 1,000 with CRLF (RFC 5321).

	maxSkew = 5 * time.Minute // Signatures: "must reach AWS within five minutes of the time stamp".
)

// New starts a simulator; Close ends it.
func New(cfg Config) *Sim {
	s := &Sim{cfg: cfg}
	if s.cfg.Now == nil {
		s.cfg.Now = time.Now
	}
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
	FromEmailAddress     string
	ReplyToAddresses     []string
	ConfigurationSetName string

	Destination struct{ ToAddresses, CcAddresses, BccAddresses []string }
	Content     struct {
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

var tag = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`) // MessageTag: letters, numbers, underscores, dashes; 256 at most.

func (s *Sim) serve(r *http.Request, body []byte) sim.Reply {
	reply := s.judge(r, body)
	if reply.Header == nil {
		reply.Header = http.Header{}
	}
	reply.Header.Set("Date", s.cfg.Now().UTC().Format(http.TimeFormat))
	return reply
}

func (s *Sim) judge(r *http.Request, body []byte) sim.Reply {
	if refusal, ok := s.admit(r); !ok {
		return refusal
	}
	var req request
	if json.Unmarshal(body, &req) != nil {
		return failure(http.StatusBadRequest, "SerializationException", "can't be read")
	}
	if set := req.ConfigurationSetName; set != "" && set != s.cfg.ConfigurationSet { // SendEmail, ConfigurationSetName.
		return failure(http.StatusNotFound, "NotFoundException", "Configuration set <"+set+"> does not exist.")
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

// admit checks who asks, and for what (Common Errors).
func (s *Sim) admit(r *http.Request) (sim.Reply, bool) {
	if r.URL.Path != Path || r.Method != http.MethodPost {
		return failure(http.StatusNotFound, "UnknownOperationException", ""), false
	}
	auth := r.Header.Get("Authorization")
	switch {
	case auth == "":
		return failure(http.StatusForbidden, "MissingAuthenticationTokenException", "Missing Authentication Token"), false
	case s.cfg.AccessKeyID == "" || !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential="+s.cfg.AccessKeyID+"/"):
		return failure(http.StatusForbidden, "UnrecognizedClientException", "The security token included in the request is invalid."), false
	}
	signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date")) // Signatures: a signed request is dated.
	switch skew := s.cfg.Now().Sub(signed); {
	case err != nil:
		return failure(http.StatusForbidden, "IncompleteSignature", "Date must be in ISO-8601 'basic format'."), false
	case skew.Abs() > maxSkew:
		return failure(http.StatusForbidden, "InvalidSignatureException", "Signature expired: "+signed.String()), false
	}
	return sim.Reply{}, true
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
			if len(line) > maxLine {
				return m, "Lines in the message are too long."
			}
		}
		return m, ""
	}
	return r.simple()
}

// disallowed are set by SES itself where the content is Simple (Header fields, Considerations).
var disallowed = []string{
	"bcc", "cc", "content-disposition", "content-type", "date", "from", "message-id", "mime-version", "reply-to", "return-path", "subject", "to",
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
	for _, h := range in.Headers { // MessageHeader: printable ASCII, in names neither space nor colon.
		if h.Name == "" || len(h.Name) > maxHeaderName || len(h.Value) > maxHeaderValue || len(h.Name)+len(h.Value) > maxHeader ||
			!sim.IsASCII(h.Name+h.Value) || strings.ContainsAny(h.Name, " :") {
			return m, "Header " + h.Name + " is invalid."
		}
		if slices.Contains(disallowed, strings.ToLower(h.Name)) {
			return m, "Header " + h.Name + " is not allowed."
		}
		if m.Headers == nil {
			m.Headers = map[string]string{}
		}
		m.Headers[http.CanonicalHeaderKey(h.Name)] = h.Value
	}
	for _, a := range in.Attachments {
		switch {
		case a.FileName == "" || len(a.FileName) > maxFileName: // Attachment, FileName: required.
			return m, "FileName is required."
		case len(a.ContentType) > maxPartHeader || len(a.ContentId) > maxPartHeader:
			return m, "ContentType or ContentId is too long."
		case a.ContentDisposition != "" && a.ContentDisposition != "ATTACHMENT" && a.ContentDisposition != "INLINE": // Attachment.
			return m, "ContentDisposition is unknown."
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

// addresses: SES has no SMTPUTF8, so the part before the @ is ASCII, and what is behind it in Punycode (Destination).
func addresses(list []string) ([]mail.Address, string) {
	var out []mail.Address
	for _, a := range list {
		parsed, err := mail.ParseAddress(a)
		if err != nil || !sim.ValidAddress(parsed.Address) {
			return nil, "Illegal address"
		}
		if local, domain, _ := strings.Cut(parsed.Address, "@"); !sim.IsASCII(local) {
			return nil, "Local address contains control or whitespace"
		} else if !sim.IsASCII(domain) {
			return nil, "Domain contains illegal character"
		}
		out = append(out, *parsed)
	}
	return out, ""
}
