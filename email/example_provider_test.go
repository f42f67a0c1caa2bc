package email_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/secret"
)

// Acme is a provider in the smallest form that keeps the contract: settings as
// fields, a name, a check of the settings, and one attempt.
type Acme struct {
	Key        secret.Source
	BaseURL    string
	HTTPClient *http.Client
}

// Name is "acme".
func (Acme) Name() string { return "acme" }

// Check lets email.New refuse an Acme that can't work.
func (a Acme) Check() error {
	if a.Key == nil || a.BaseURL == "" || a.HTTPClient == nil {
		return errors.New("acme: Key, BaseURL and HTTPClient are required")
	}
	return nil
}

// Send makes one request.
func (a Acme) Send(ctx context.Context, m *email.Message) (*email.Receipt, error) {
	m, err := m.Ready()
	if err != nil {
		return nil, err
	}
	if !m.SendAt.IsZero() {
		return nil, fault.New(fault.Unsupported, errors.New("acme: send_at: Acme sends at once"))
	}
	req, err := a.request(ctx, m)
	if err != nil {
		return nil, err
	}
	ctx, latch := fault.Trace(ctx) // sees whether there ever was a connection
	resp, err := a.HTTPClient.Do(req.WithContext(ctx))
	if err != nil {
		return nil, fault.New(latch.Kind(), fmt.Errorf("acme: %w", withoutURL(err)))
	}
	defer resp.Body.Close()
	return acmeAnswer(m, resp)
}

// request holds all that can fail before anything is sent.
func (a Acme) request(ctx context.Context, m *email.Message) (*http.Request, error) {
	if err := ctx.Err(); err != nil {
		return nil, fault.New(fault.Unavailable, err)
	}
	key, err := a.Key.Secret(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, fault.New(fault.Unavailable, ctx.Err())
	case err != nil:
		return nil, fault.New(fault.Denied, fmt.Errorf("acme: read Key: %w", err))
	}
	body, err := json.Marshal(m) // Acme is kind: its API takes our own message
	if err != nil {
		return nil, fault.New(fault.Invalid, fmt.Errorf("acme: encode: %w", err))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.BaseURL+"/mails", bytes.NewReader(body))
	if err != nil {
		return nil, fault.New(fault.Denied, errors.New("acme: BaseURL is not a URL"))
	}
	req.Header.Set("Authorization", "Bearer "+key.Reveal())
	return req, nil
}

// acmeKinds are Acme's error codes. A real table names its source, such as
// "Acme API reference, Errors".
var acmeKinds = map[string]fault.Kind{
	"bad_key":   fault.Denied,
	"too_fast":  fault.RateLimited,
	"bad_words": fault.Rejected,
}

// acmeAnswer reads a bounded part of what Acme says, and shows none of its text:
// it may quote the mail.
func acmeAnswer(m *email.Message, resp *http.Response) (*email.Receipt, error) {
	var said struct{ ID, Error string }
	wrong := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&said)
	if resp.StatusCode == http.StatusAccepted { // taken, even where the rest breaks off
		return email.NewReceipt(m, "acme", said.ID), nil
	}
	e := &fault.Error{Kind: fault.FromStatus(resp.StatusCode), RetryAfter: fault.RetryAfter(resp.Header, time.Now())}
	if kind, known := acmeKinds[said.Error]; known && wrong == nil {
		e.Kind, e.Code = kind, said.Error
	}
	e.Err = fmt.Errorf("acme: status %d", resp.StatusCode)
	return nil, e
}

// withoutURL drops what net/http puts before its errors: a URL may hold a secret.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// A provider of one's own: everything that email.New, a Client and
// emailtest.Run ask for.
func Example_provider() {
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"id": "acme-1"}`)
	}))
	defer far.Close()

	mail, err := email.New(Acme{Key: secret.Literal("k"), BaseURL: far.URL, HTTPClient: far.Client()})
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := mail.Send(context.Background(), &email.Message{
		From:    email.Address{Address: "ada@example.com"},
		To:      []email.Address{{Address: "grace@example.org"}},
		Subject: "Hello",
		Text:    "How are you?",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(receipt.Provider, receipt.ProviderID, receipt.Status)
	// Output: acme acme-1 accepted
}
