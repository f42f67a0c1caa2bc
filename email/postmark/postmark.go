// Package postmark sends mail through Postmark's REST API.
//
//	var mail email.Sender = postmark.Sender{Token: token}
//
// One Send is one request, which is never repeated: Postmark has no idempotency
// key. A message's id travels as the metadata "message_id", beside its Metadata;
// its one tag is Postmark's Tag. All come back with Postmark's webhooks. The mail's
// Message-ID header field is made of the id too, so that it is the same however
// often the mail is tried, and is in the receipt.
//
// Postmark may take a mail for some of its recipients only, where others are on
// the stream's suppression list: the receipt then says email.StatusRefused for
// those. A mail whose recipients all are is fault.Rejected.
//
// What Postmark doesn't take is refused before anything is sent, with
// fault.Unsupported and the field's name: a mail without To, more than 50
// recipients, more than one tag, delivery at a later time, 10 MB when encoded, more
// than 9 entries of metadata, keys of more than 20 and values of more than 80
// characters, non-ASCII before an @, and files with an extension that Postmark
// forbids.
package postmark

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/internal/redact"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
	"github.com/smilefactory/integrations/secret"
)

const (
	provider       = "postmark"
	defaultBaseURL = "https://api.postmarkapp.com"
	path           = "/email"
)

// Sender is Postmark as an email.Sender. It is safe for concurrent use.
type Sender struct {
	// Token is the server token. It is asked for anew at every Send, so that it can
	// rotate. Required. With "POSTMARK_API_TEST" Postmark checks mails and delivers
	// none.
	Token secret.Source
	// MessageStream is the id of the stream that mails go through; empty means
	// Postmark's "outbound", which is for transactional mail.
	MessageStream string
	// TrackOpens lets Postmark put a pixel into HTML. A server whose own setting is
	// on does so in any case.
	TrackOpens bool
	// BaseURL is where the API is; empty means https://api.postmarkapp.com. Plain
	// http is refused for anything but a loopback host.
	BaseURL string
	// HTTPClient brings transport and timeout; nil means http.DefaultTransport.
	// A timeout of zero means one minute. Redirects are never followed.
	HTTPClient *http.Client
}

// Name is "postmark".
func (s Sender) Name() string { return provider }

// Check reports what is missing or wrong in the settings, without any I/O.
func (s Sender) Check() error {
	if s.Token == nil {
		return errors.New("postmark: Token is required")
	}
	_, err := s.base()
	return err
}

// base is the checked BaseURL without a slash at its end.
func (s Sender) base() (string, error) { return transport.Base(provider, s.BaseURL, defaultBaseURL) }

// Send hands m to Postmark in one request.
func (s Sender) Send(ctx context.Context, m *email.Message) (*email.Receipt, error) {
	m, err := m.Ready()
	if err != nil {
		return nil, err
	}
	body, err := s.encode(m, time.Now())
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
	token, err := transport.Key(ctx, "postmark: Token", s.Token)
	if err != nil {
		return nil, err
	}
	header := http.Header{"X-Postmark-Server-Token": {token}}
	a, err := transport.Post(ctx, s.HTTPClient, provider, base+path, header, body)
	if err != nil {
		return nil, err
	}
	said := read(a)
	if !a.OK() || said.ErrorCode != 0 {
		return nil, refusal(a, said, append(redact.Mail(m), token), time.Now())
	}
	return receipt(m, said), nil
}

// answer is the body of every answer (Email API, Response; API error codes).
type answer struct {
	ErrorCode int
	Message   string
	MessageID string
}

// read takes the code from the header where the body can't be read: Postmark gives
// it in both.
func read(a *transport.Answer) answer {
	var said answer
	if json.Unmarshal(a.Body, &said) != nil {
		said = answer{}
		_, _ = fmt.Sscan(a.Header.Get("X-Pm-Apierrorcode"), &said.ErrorCode)
	}
	return said
}

func receipt(m *email.Message, said answer) *email.Receipt {
	r := email.NewReceipt(m, provider, redact.Line(said.MessageID, maxID))
	r.MessageID = messageID(m)
	gone := inactive(said.Message)
	for i, to := range r.Recipients {
		if slices.Contains(gone, strings.ToLower(email.ASCIIDomain(email.Address{Address: to.Address}).Address)) {
			r.Recipients[i].Status, r.Recipients[i].Code = email.StatusRefused, inactiveRecipient
		}
	}
	return r
}

// inactiveRecipient is Postmark's code for what is on the suppression list.
const inactiveRecipient = "406"

// found is how Postmark names the recipients that it leaves out, in words alone
// (postmark.js, postmark-gem and django-anymail read them alike).
var found = regexp.MustCompile(`(?s)inactive addresses:\s*(.*?)\.?\s*(?:Inactive recipients|$)`)

// inactive are the addresses that a text names, in lower case.
func inactive(text string) []string {
	match := found.FindStringSubmatch(text)
	if match == nil {
		return nil
	}
	var out []string
	for a := range strings.SplitSeq(match[1], ",") {
		out = append(out, strings.ToLower(strings.TrimSpace(a)))
	}
	return out
}
