package sendgrid

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"net/mail"
	"strings"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

// request is the part of a mail send that is looked at. Objects whose values must be strings are kept loose, so that a
// wrong type is refused in SendGrid's words and not as bad JSON.
type request struct {
	Personalizations []personalization `json:"personalizations"`
	From             *person           `json:"from"`
	ReplyTo          *person           `json:"reply_to"`
	ReplyToList      []person          `json:"reply_to_list"`
	Subject          *string           `json:"subject"`
	Content          []content         `json:"content"`
	Attachments      []attachment      `json:"attachments"`
	TemplateID       string            `json:"template_id"`
	Headers          map[string]any    `json:"headers"`
	Categories       []string          `json:"categories"`
	CustomArgs       map[string]any    `json:"custom_args"`
	SendAt           int64             `json:"send_at"`
	MailSettings     struct {
		SandboxMode struct {
			Enable bool `json:"enable"`
		} `json:"sandbox_mode"`
	} `json:"mail_settings"`
}

type personalization struct {
	From       *person        `json:"from"`
	To         []person       `json:"to"`
	Cc         []person       `json:"cc"`
	Bcc        []person       `json:"bcc"`
	Subject    *string        `json:"subject"`
	Headers    map[string]any `json:"headers"`
	CustomArgs map[string]any `json:"custom_args"`
	SendAt     int64          `json:"send_at"`
}

type person struct {
	Email string `json:"email"`
	Name  string `json:"name"`
}

type content struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

type attachment struct {
	Content     string `json:"content"`
	Type        string `json:"type"`
	Filename    string `json:"filename"`
	Disposition string `json:"disposition"`
	ContentID   string `json:"content_id"`
}

// mails are what is sent: one mail for each personalization, whose settings override or join those of the whole.
func (r request) mails(providerID, key string) []sim.Mail {
	out := make([]sim.Mail, len(r.Personalizations))
	for i, p := range r.Personalizations {
		m := r.mail(p)
		m.ProviderID, m.Key = providerID, key
		out[i] = m
	}
	return out
}

func (r request) mail(p personalization) sim.Mail {
	m := sim.Mail{
		From: r.From.address(), To: addresses(p.To), Cc: addresses(p.Cc), Bcc: addresses(p.Bcc),
		ReplyTo: addresses(r.ReplyToList), Subject: first(p.Subject, r.Subject),
		Attachments: attachments(r.Attachments), Tags: r.Categories,
		Headers: canonical(merge(r.Headers, p.Headers)), Metadata: merge(r.CustomArgs, p.CustomArgs),
	}
	if p.From != nil {
		m.From = p.From.address()
	}
	if r.ReplyTo != nil {
		m.ReplyTo = []mail.Address{r.ReplyTo.address()}
	}
	for _, c := range r.Content {
		switch mediaType(c.Type) {
		case "text/plain":
			m.Text = c.Value
		case "text/html":
			m.HTML = c.Value
		}
	}
	if at := p.SendAt | r.SendAt; at != 0 {
		m.SendAt = sendAt(p, r)
	}
	m.ID = m.Metadata[sim.IDKey]
	delete(m.Metadata, sim.IDKey)
	if len(m.Metadata) == 0 {
		m.Metadata = nil
	}
	return m
}

func sendAt(p personalization, r request) time.Time {
	if p.SendAt != 0 {
		return time.Unix(p.SendAt, 0)
	}
	return time.Unix(r.SendAt, 0)
}

func (p person) address() mail.Address { return mail.Address{Name: p.Name, Address: p.Email} }

func addresses(people []person) []mail.Address {
	if len(people) == 0 {
		return nil
	}
	out := make([]mail.Address, len(people))
	for i, p := range people {
		out[i] = p.address()
	}
	return out
}

func attachments(in []attachment) []sim.Attachment {
	var out []sim.Attachment
	for _, a := range in {
		data, _ := base64.StdEncoding.DecodeString(a.Content) // Checked before.
		out = append(out, sim.Attachment{Name: a.Filename, Type: mediaType(a.Type), ContentID: a.ContentID, Data: data})
	}
	return out
}

func mediaType(s string) string {
	t, _, err := mime.ParseMediaType(s)
	if err != nil {
		return s
	}
	return t
}

func first(subjects ...*string) string {
	for _, s := range subjects {
		if s != nil {
			return *s
		}
	}
	return ""
}

// merge lets the personalization's values win over those of the whole (Mail Send errors, custom_args).
func merge(whole, own map[string]any) map[string]string {
	all := maps.Clone(whole)
	if all == nil {
		all = map[string]any{}
	}
	maps.Copy(all, own)
	if len(all) == 0 {
		return nil
	}
	out := make(map[string]string, len(all))
	for k, v := range all {
		out[k], _ = v.(string)
	}
	return out
}

func canonical(headers map[string]string) map[string]string {
	if headers == nil {
		return nil
	}
	out := make(map[string]string, len(headers))
	for k, v := range headers {
		out[http.CanonicalHeaderKey(strings.ToLower(k))] = v
	}
	return out
}

// size in bytes as JSON, which is how custom arguments travel.
func size(args map[string]string) int {
	out, _ := json.Marshal(args)
	return len(out)
}
