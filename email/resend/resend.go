// Package resend sends mail through Resend's REST API.
//
//	var mail email.Sender = resend.Sender{Key: key}
//
// Resend deduplicates: a mail travels with its IdempotencyKey, or else its ID, as
// the request's idempotency key, and for 24 hours Resend sends nothing twice under
// one key. A Client therefore repeats a mail that must go at most once here, where
// it may have gone already, and nowhere else. Under one key Resend wants one and the
// same request: who calls Send again with a key of his own must give the message the
// same ID again, too, or the answer is fault.Conflict. Keys are those of the whole
// Resend team.
//
// A message's id travels as the tag "message_id", beside its Metadata and its Tags,
// which have the value "1". They come back with Resend's webhooks.
//
// What Resend doesn't take is refused before anything is sent, with
// fault.Unsupported and the field's name: a mail without To, more than 50
// recipients, a delivery more than 30 days ahead, 40 MB when encoded, tags and
// metadata of other characters than [A-Za-z0-9_-], non-ASCII before an @, and files
// with an extension that Resend doesn't support. So is a file whose name and type
// don't fit each other, such as a.txt as text/csv: Resend takes such a mail, and
// never delivers it.
package resend

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/internal/redact"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
	"github.com/smilefactory/integrations/secret"
)

const (
	provider       = "resend"
	defaultBaseURL = "https://api.resend.com"
	path           = "/emails"
	userAgent      = "smilefactory-integrations" // required: "Introduction", User-Agent
)

// Sender is Resend as an email.Sender. It is safe for concurrent use.
type Sender struct {
	// Key is the API key, which needs no more than sending access. It is asked for
	// anew at every Send, so that it can rotate. Required.
	Key secret.Source
	// BaseURL is where the API is; empty means https://api.resend.com. Plain http is
	// refused for anything but a loopback host.
	BaseURL string
	// HTTPClient brings transport and timeout; nil means http.DefaultTransport.
	// A timeout of zero means one minute. Redirects are never followed.
	HTTPClient *http.Client
}

// Name is "resend".
func (s Sender) Name() string { return provider }

// Check reports what is missing or wrong in the settings, without any I/O.
func (s Sender) Check() error {
	if s.Key == nil {
		return errors.New("resend: Key is required")
	}
	_, err := s.base()
	return err
}

// base is the checked BaseURL without a slash at its end.
func (s Sender) base() (string, error) { return transport.Base(provider, s.BaseURL, defaultBaseURL) }

// Send hands m to Resend in one request. Resend takes a mail as a whole: the receipt
// has the same status for every recipient.
func (s Sender) Send(ctx context.Context, m *email.Message) (*email.Receipt, error) {
	m, err := m.Ready()
	if err != nil {
		return nil, err
	}
	body, err := encode(m, time.Now())
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.New(fault.Unavailable, err)
	}
	if err := s.Check(); err != nil {
		return nil, fault.New(fault.Denied, err)
	}
	base, _ := s.base()
	key, err := transport.Key(ctx, "resend: Key", s.Key)
	if err != nil {
		return nil, err
	}
	a, err := transport.Post(ctx, s.HTTPClient, provider, base+path, header(m, key), body)
	if err != nil {
		return nil, deduped(err)
	}
	if !a.OK() {
		return nil, deduped(refusal(a, append(redact.Mail(m), key), time.Now()))
	}
	var said struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(a.Body, &said) // the status says enough
	return email.NewReceipt(m, provider, redact.Line(said.ID, maxID)), nil
}

// header spells the idempotency key in lower case: under the name that net/http
// knows, it would repeat the request by itself when a connection breaks.
func header(m *email.Message, key string) http.Header {
	idempotency := m.IdempotencyKey
	if idempotency == "" {
		idempotency = m.ID
	}
	return http.Header{"Authorization": {"Bearer " + key}, "User-Agent": {userAgent}, "idempotency-key": {idempotency}}
}

// deduped marks an error of an attempt that carried the key. A refusal of the mail
// itself isn't marked: together they would say that the refusal also settles what
// became of an earlier attempt, and Resend doesn't say that it looks at the key first.
func deduped(err error) error {
	if f, ok := fault.As(err); ok {
		f.Deduped = f.Kind != fault.Rejected // made for this call alone
	}
	return err
}
