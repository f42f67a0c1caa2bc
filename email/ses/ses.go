// Package ses sends mail through Amazon SES, API version 2.
//
//	cfg, err := config.LoadDefaultConfig(ctx)
//	…
//	mail, err := email.New(ses.New(cfg))
//
// A Sender makes one attempt per Send: the SDK's own retries are off, since they
// repeat a mail whose answer was lost. SES has no idempotency key; the message's
// own id travels as the tag "message_id", beside the metadata.
package ses

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/internal/mime"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
)

// Limits of SES (developer guide, service quotas; API v2 reference, SendEmail,
// MessageHeader and Attachment).
const (
	maxRecipients = 50
	maxSize       = 40 << 20    // bytes after base64
	maxLabels     = 49          // of 50 tags, one is the message's id
	maxValue      = 995         // characters of a header field's value
	maxField      = 996         // and of its name and value together
	maxPartHeader = 78          // characters of a media type or content id
	maxAnswer     = 1 << 20     // bytes of an answer that are read
	maxWait       = time.Minute // of a context that has no deadline
)

// Sender sends through one SES account and region.
type Sender struct {
	client *sesv2.Client
	raw    bool
	set    string
}

// Option changes a Sender.
type Option func(*Sender, *sesv2.Options)

// WithBaseURL replaces the region's endpoint.
func WithBaseURL(url string) Option {
	return func(_ *Sender, o *sesv2.Options) { o.BaseEndpoint = aws.String(url) }
}

// WithConfigurationSet names the configuration set that each mail is sent with.
func WithConfigurationSet(name string) Option {
	return func(s *Sender, _ *sesv2.Options) { s.set = name }
}

// WithRaw hands every mail over as finished MIME, which is otherwise done only
// where SES's own fields can't carry it.
func WithRaw() Option { return func(s *Sender, _ *sesv2.Options) { s.raw = true } }

// New takes region, credentials and HTTP client from cfg.
func New(cfg aws.Config, options ...Option) *Sender {
	s := &Sender{}
	s.client = sesv2.NewFromConfig(cfg, func(o *sesv2.Options) {
		o.Retryer = aws.NopRetryer{}
		for _, option := range options {
			option(s, o)
		}
		if c, ok := o.HTTPClient.(*http.Client); ok {
			o.HTTPClient = unredirected(*c)
		}
		o.HTTPClient = bounded{o.HTTPClient}
	})
	return s
}

// unredirected never follows a redirect: it would repeat the mail elsewhere.
func unredirected(c http.Client) *http.Client {
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// exchange is one request to SES. Its latch is nil until the SDK hands the request
// over: what fails before that, such as asking another service for credentials,
// has sent nothing.
type exchange struct{ latch *fault.Latch }

type exchangeKey struct{}

// bounded limits what is read of an answer, and begins the exchange.
type bounded struct{ sesv2.HTTPClient }

func (b bounded) Do(r *http.Request) (*http.Response, error) {
	if x, ok := r.Context().Value(exchangeKey{}).(*exchange); ok {
		ctx, latch := fault.Trace(r.Context())
		r, x.latch = r.WithContext(ctx), latch
	}
	res, err := b.HTTPClient.Do(r)
	if err == nil {
		transport.Limit(res, maxAnswer)
	}
	return res, err
}

// Check reports what is missing or wrong in the settings, without any I/O. Without
// credentials the SDK would send requests that nobody has signed.
func (s *Sender) Check() error {
	switch o := s.client.Options(); {
	case o.Region == "":
		return errors.New("ses: Region is required")
	case o.Credentials == nil: // also where they are anonymous
		return errors.New("ses: Credentials are required")
	case o.BaseEndpoint != nil:
		if _, err := transport.BaseURL(*o.BaseEndpoint); err != nil {
			return fmt.Errorf("ses: %w", err)
		}
	}
	return nil
}

// Name is "ses".
func (*Sender) Name() string { return "ses" }

// Send hands one mail to SES. See [email.Sender] for the errors.
func (s *Sender) Send(ctx context.Context, m *email.Message) (*email.Receipt, error) {
	m, err := m.Ready()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.New(fault.Unavailable, err)
	}
	if err := s.Check(); err != nil {
		return nil, fault.New(fault.Denied, err)
	}
	if err := unsupported(m); err != nil {
		return nil, err
	}
	in, err := s.input(m)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	var x exchange
	out, err := s.client.SendEmail(context.WithValue(ctx, exchangeKey{}, &x), in)
	switch {
	case err != nil && x.latch == nil:
		return nil, unsent(ctx, err)
	case err != nil:
		return nil, failure(m, err, x.latch)
	}
	if aws.ToString(out.MessageId) == "" {
		return nil, fault.New(fault.Uncertain, errors.New("ses: the answer has no MessageId"))
	}
	return email.NewReceipt(m, s.Name(), *out.MessageId), nil
}

var tagValue = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

// unsupported refuses what SES can't do and another provider may.
func unsupported(m *email.Message) error {
	switch {
	case m.SendAt.After(time.Now()):
		return refuse("send_at", "SES has no scheduling")
	case len(m.To)+len(m.Cc)+len(m.Bcc) > maxRecipients:
		return refuse("to", "SES takes 50 recipients at most")
	case m.Size()/3*4 > maxSize:
		return tooLarge()
	case len(m.Tags)+len(m.Metadata) > maxLabels:
		return refuse("tags", "SES takes 49 tags and metadata together")
	}
	for i, t := range m.Tags {
		if _, twice := m.Metadata[t]; twice || !tagValue.MatchString(t) || t == "message_id" {
			return refuse(fmt.Sprintf("tags[%d]", i), "SES takes 1 to 256 of [A-Za-z0-9_-], not a key of metadata")
		}
	}
	for _, k := range slices.Sorted(maps.Keys(m.Metadata)) {
		if !tagValue.MatchString(m.Metadata[k]) {
			return refuse("metadata["+k+"]", "SES takes 1 to 256 of [A-Za-z0-9_-]")
		}
	}
	return localParts(m)
}

// localParts: SES has no SMTPUTF8 (SendEmail, Destination).
func localParts(m *email.Message) error {
	if !ascii(email.ASCIIDomain(m.From).Address) {
		return refuse("from.address", onlyASCII)
	}
	for _, l := range []struct {
		field string
		list  []email.Address
	}{{"to", m.To}, {"cc", m.Cc}, {"bcc", m.Bcc}, {"reply_to", m.ReplyTo}} {
		for i, a := range l.list {
			if !ascii(email.ASCIIDomain(a).Address) {
				return refuse(fmt.Sprintf("%s[%d].address", l.field, i), onlyASCII)
			}
		}
	}
	return nil
}

const onlyASCII = "SES takes ASCII alone before the @"

func tooLarge() error { return refuse("attachments", "SES takes 40 MB at most, after base64") }

func refuse(field, problem string) error {
	return fault.New(fault.Unsupported, &email.FieldError{Field: field, Problem: problem})
}

func ascii(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r > '~' }) }

func (s *Sender) input(m *email.Message) (*sesv2.SendEmailInput, error) {
	in := &sesv2.SendEmailInput{
		FromEmailAddress: aws.String(format([]email.Address{m.From})[0]),
		Destination:      &types.Destination{ToAddresses: format(m.To), CcAddresses: format(m.Cc), BccAddresses: format(m.Bcc)},
		ReplyToAddresses: format(m.ReplyTo),
		Content:          &types.EmailContent{},
		EmailTags:        []types.MessageTag{pair("message_id", m.ID)},
	}
	if s.set != "" {
		in.ConfigurationSetName = aws.String(s.set)
	}
	for _, t := range m.Tags { // SES has pairs alone; the statistics are by name
		in.EmailTags = append(in.EmailTags, pair(t, "1"))
	}
	for k, v := range m.Metadata {
		in.EmailTags = append(in.EmailTags, pair(k, v))
	}
	simple, ok := content(m)
	if ok && !s.raw {
		in.Content.Simple = simple
		return in, nil
	}
	data, err := mime.Write(m, mime.Options{})
	switch {
	case err != nil:
		return nil, fault.New(fault.Invalid, fmt.Errorf("ses: %w", err))
	case len(data) > maxSize:
		return nil, tooLarge()
	}
	in.Content.Raw = &types.RawMessage{Data: data}
	return in, nil
}

func pair(name, value string) types.MessageTag {
	return types.MessageTag{Name: aws.String(name), Value: aws.String(value)}
}

// format writes addresses as SES takes them: names as encoded words, domains in
// Punycode (SendEmail, Destination).
func format(list []email.Address) []string {
	var out []string
	for _, a := range list {
		a = email.ASCIIDomain(a)
		out = append(out, a.String())
	}
	return out
}

// content is the mail in SES's own fields, and whether they can carry it.
func content(m *email.Message) (*types.Message, bool) {
	msg := &types.Message{Subject: utf8(m.Subject), Body: &types.Body{}}
	if m.Text != "" {
		msg.Body.Text = utf8(m.Text)
	}
	if m.HTML != "" {
		msg.Body.Html = utf8(m.HTML)
	}
	for name, value := range m.HeaderFields() {
		if len(value) > maxValue || len(name)+len(value) > maxField || !ascii(value) {
			return nil, false
		}
		msg.Headers = append(msg.Headers, types.MessageHeader{Name: aws.String(name), Value: aws.String(value)})
	}
	for _, a := range m.Attachments {
		if len(a.ContentType) > maxPartHeader || len(a.ContentID) > maxPartHeader {
			return nil, false
		}
		out := types.Attachment{
			FileName: aws.String(a.Name), RawContent: a.Data,
			ContentDisposition: types.AttachmentContentDispositionAttachment, ContentTransferEncoding: types.AttachmentContentTransferEncodingBase64,
		}
		if out.RawContent == nil {
			out.RawContent = []byte{} // the SDK takes nil for missing
		}
		if a.ContentType != "" {
			out.ContentType = aws.String(a.ContentType)
		}
		if a.ContentID != "" {
			out.ContentId, out.ContentDisposition = aws.String(a.ContentID), types.AttachmentContentDispositionInline
		}
		msg.Attachments = append(msg.Attachments, out)
	}
	return msg, true
}

func utf8(s string) *types.Content {
	return &types.Content{Data: aws.String(s), Charset: aws.String("UTF-8")}
}
