// Package sendgrid sends mail through SendGrid's v3 Mail Send API.
//
//	mail, err := email.New(sendgrid.Sender{Key: secret.Env("SENDGRID_API_KEY")})
//
// A Sender makes one attempt per Send and never retries. SendGrid has no
// idempotency key; the message's own id travels as the custom argument
// "message_id", beside the metadata, and comes back with its events.
package sendgrid

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sendgrid/rest"
	"github.com/sendgrid/sendgrid-go"
	"github.com/sendgrid/sendgrid-go/helpers/mail"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/secret"
)

// Limits of Mail Send (SendGrid, v3 API reference, Mail Send limitations).
const (
	maxAhead  = 72 * time.Hour
	maxSize   = 30 << 20 // bytes, of the whole mail; checked before base64
	maxArgs   = 10_000   // bytes of custom arguments
	maxAnswer = 1 << 20  // bytes of an answer that are read
)

// Sender sends through one SendGrid account. It is a value: copy it freely.
type Sender struct {
	// Key is the API key, asked for at each mail.
	Key secret.Source
	// BaseURL replaces https://api.sendgrid.com. Plain http is for loopback only.
	BaseURL string
	// HTTPClient replaces a client without a timeout (the context's deadline
	// rules). Redirects are never followed.
	HTTPClient *http.Client
	// SandboxMode has SendGrid check the mail without sending it.
	SandboxMode bool
}

// Name is "sendgrid".
func (Sender) Name() string { return "sendgrid" }

// Check reports a setting that is missing or wrong.
func (s Sender) Check() error {
	if s.Key == nil {
		return errors.New("sendgrid: Sender.Key is required")
	}
	if s.BaseURL == "" {
		return nil
	}
	u, err := url.Parse(s.BaseURL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("sendgrid: Sender.BaseURL is not an absolute URL")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("sendgrid: Sender.BaseURL must be https, but for a loopback address")
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Send hands one mail to SendGrid. See [email.Sender] for the errors.
func (s Sender) Send(ctx context.Context, m *email.Message) (*email.Receipt, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if err := s.Check(); err != nil {
		return nil, fault.New(fault.Denied, err)
	}
	m = m.WithID()
	if err := unsupported(m); err != nil {
		return nil, err
	}
	key, err := s.Key.Secret(ctx)
	if err != nil {
		return nil, fault.New(fault.Denied, err)
	}
	req := sendgrid.GetRequest(key.Reveal(), "/v3/mail/send", s.BaseURL)
	req.Method = rest.Post
	req.Body = mail.GetRequestBody(s.mail(m))
	traced, latch := fault.Trace(ctx)
	res, err := (&rest.Client{HTTPClient: s.client()}).SendWithContext(traced, req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return nil, fault.New(latch.Kind(), fmt.Errorf("sendgrid: %w", err))
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return nil, answerFault(res, time.Now())
	}
	return email.NewReceipt(m, s.Name(), http.Header(res.Headers).Get("X-Message-Id")), nil
}

// client is the user's, with bounded answers and without redirects.
func (s Sender) client() *http.Client {
	c := http.Client{}
	if s.HTTPClient != nil {
		c = *s.HTTPClient
	}
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	c.Transport = bounded{c.Transport}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(res.Body, maxAnswer), res.Body}
	}
	return res, err
}

// unsupported refuses what SendGrid can't do and another provider may.
func unsupported(m *email.Message) error {
	size := 0
	for k, v := range m.Metadata {
		size += len(k) + len(v) + 6
	}
	switch {
	case len(m.To) == 0:
		return refuse("to", "SendGrid needs one recipient there")
	case time.Until(m.SendAt) > maxAhead:
		return refuse("send_at", "SendGrid schedules 72 hours ahead at most")
	case !ascii(m.From.Address):
		return refuse("from.address", "SendGrid takes ASCII alone there")
	case m.Size() > maxSize:
		return refuse("attachments", "SendGrid takes 30 MB at most")
	case size+len(m.ID) > maxArgs-100:
		return refuse("metadata", "SendGrid takes less than 10,000 bytes")
	}
	for i, t := range m.Tags {
		if !ascii(t) {
			return refuse(fmt.Sprintf("tags[%d]", i), "SendGrid takes ASCII alone there")
		}
	}
	for field, list := range map[string][]email.Address{"to": m.To, "cc": m.Cc, "bcc": m.Bcc} {
		for i, a := range list {
			if strings.ContainsAny(a.Name, ";,") {
				return refuse(fmt.Sprintf("%s[%d].name", field, i), "SendGrid takes no comma or semicolon there")
			}
		}
	}
	return nil
}

func refuse(field, problem string) error {
	return fault.New(fault.Unsupported, &email.FieldError{Field: field, Problem: problem})
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > '~' })
}

func (s Sender) mail(m *email.Message) *mail.SGMailV3 {
	out := mail.NewV3Mail()
	out.SetFrom(mail.NewEmail(m.From.Name, m.From.Address))
	out.Subject = m.Subject
	out.SetReplyToList(people(m.ReplyTo))
	p := mail.NewPersonalization()
	p.To, p.CC, p.BCC = people(m.To), people(m.Cc), people(m.Bcc)
	for k, v := range m.Metadata {
		p.SetCustomArg(k, v)
	}
	p.SetCustomArg("message_id", m.ID)
	out.AddPersonalizations(p)
	if m.Text != "" {
		out.AddContent(mail.NewContent("text/plain", m.Text))
	}
	if m.HTML != "" {
		out.AddContent(mail.NewContent("text/html", m.HTML))
	}
	for name, value := range m.HeaderFields() {
		out.SetHeader(name, value)
	}
	for _, a := range m.Attachments {
		out.AddAttachment(attachment(a))
	}
	out.AddCategories(m.Tags...)
	if m.SendAt.After(time.Now()) {
		out.SetSendAt(int(m.SendAt.Unix()))
	}
	if s.SandboxMode {
		out.SetMailSettings(mail.NewMailSettings().SetSandboxMode(mail.NewSetting(true)))
	}
	return out
}

func people(list []email.Address) []*mail.Email {
	out := make([]*mail.Email, len(list))
	for i, a := range list {
		out[i] = mail.NewEmail(a.Name, a.Address)
	}
	return out
}

func attachment(a email.Attachment) *mail.Attachment {
	mediaType, _, _ := mime.ParseMediaType(cmp.Or(a.ContentType, "application/octet-stream")) // parameters are refused there
	out := &mail.Attachment{
		Content: base64.StdEncoding.EncodeToString(a.Data), Type: mediaType, Filename: a.Name, Disposition: "attachment",
	}
	if a.ContentID != "" {
		out.ContentID, out.Disposition = a.ContentID, "inline"
	}
	return out
}
