// Package sendgrid sends mail through Twilio SendGrid's v3 API.
//
//	var mail email.Sender = sendgrid.Sender{Key: key}
//
// One Send is one request, which is never repeated: SendGrid has no idempotency
// key. A message's id travels as the custom argument "message_id", its Metadata
// as custom arguments and its Tags as categories, all of which come back with
// SendGrid's events. SendGrid keeps them long-term: no personal data.
//
// What SendGrid doesn't take is refused before anything is sent, with
// fault.Unsupported and the field's name: a mail without To, a delivery more
// than 72 hours ahead, a mail of 30 MB, non-ASCII tags or sender's address,
// commas and semicolons in recipients' names, and metadata under a name that
// SendGrid's events have already, such as "status".
package sendgrid

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sendgrid/rest"
	sg "github.com/sendgrid/sendgrid-go"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/internal/redact"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
	"github.com/smilefactory/integrations/secret"
)

const (
	provider       = "sendgrid"
	defaultBaseURL = "https://api.sendgrid.com"
	path           = "/v3/mail/send"
)

// Sender is SendGrid as an email.Sender. It is safe for concurrent use.
type Sender struct {
	// Key is the API key, which needs no more than the scope mail.send. It is
	// asked for anew at every Send, so that it can rotate. Required.
	Key secret.Source
	// BaseURL is where the API is; empty means https://api.sendgrid.com, and an
	// account of the EU uses https://api.eu.sendgrid.com. Plain http is refused
	// for anything but a loopback host.
	BaseURL string
	// HTTPClient brings transport and timeout; nil means http.DefaultTransport.
	// A timeout of zero means one minute. Redirects are never followed.
	HTTPClient *http.Client
	// SandboxMode lets SendGrid check the mails and deliver none.
	SandboxMode bool
}

// Name is "sendgrid".
func (s Sender) Name() string { return provider }

// Check reports what is missing or wrong in the settings, without any I/O.
func (s Sender) Check() error {
	if s.Key == nil {
		return errors.New("sendgrid: Key is required")
	}
	_, err := s.base()
	return err
}

// base is the checked BaseURL without a slash at its end.
func (s Sender) base() (string, error) { return transport.Base(provider, s.BaseURL, defaultBaseURL) }

// Send hands m to SendGrid in one request. SendGrid takes a mail as a whole: the
// receipt has the same status for every recipient.
func (s Sender) Send(ctx context.Context, m *email.Message) (*email.Receipt, error) {
	m, err := m.Ready()
	if err != nil {
		return nil, err
	}
	body, err := encode(m, s.SandboxMode, time.Now())
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.New(fault.Unavailable, err)
	}
	req, key, err := s.request(ctx, body)
	if err != nil {
		return nil, err
	}
	resp, err := s.do(ctx, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, refusal(resp, append(redact.Mail(m), key), time.Now())
	}
	return email.NewReceipt(m, provider, redact.Line(http.Header(resp.Headers).Get("X-Message-Id"), maxID)), nil
}

// request is a new one each time: a shared sendgrid.Client mixes the bodies of
// concurrent sends (sendgrid-go issue 474).
func (s Sender) request(ctx context.Context, body []byte) (req rest.Request, key string, err error) {
	if err := s.Check(); err != nil {
		return req, "", fault.New(fault.Denied, err)
	}
	base, _ := s.base()
	key, err = transport.Key(ctx, "sendgrid: Key", s.Key)
	if err != nil {
		return req, "", err
	}
	req = sg.GetRequest(key, path, base)
	req.Method = http.MethodPost
	req.Body = body
	return req, key, nil
}

// do makes the request. Once a status has arrived it is the answer, even where
// the body behind it breaks off.
func (s Sender) do(ctx context.Context, req rest.Request) (*rest.Response, error) {
	ctx, latch := fault.Trace(ctx)
	resp, err := (&rest.Client{HTTPClient: transport.Client(s.HTTPClient)}).SendWithContext(ctx, req)
	if err != nil && resp == nil {
		return nil, fault.New(latch.Kind(), fmt.Errorf("sendgrid: %w", transport.WithoutURL(err)))
	}
	return resp, nil
}
