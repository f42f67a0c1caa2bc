package stripe

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// event is docs.stripe.com/api/events/object. Account is there for events of connected accounts alone
// (docs.stripe.com/connect/webhooks).
type event struct {
	ID              string       `json:"id"`
	Object          string       `json:"object"`
	Account         string       `json:"account,omitempty"`
	APIVersion      string       `json:"api_version"`
	Created         int64        `json:"created"`
	Data            eventData    `json:"data"`
	Livemode        bool         `json:"livemode"`
	PendingWebhooks int          `json:"pending_webhooks"`
	Request         eventRequest `json:"request"`
	Type            string       `json:"type"`
}

type eventData struct {
	Object json.RawMessage `json:"object"`
}

type eventRequest struct {
	ID             *string `json:"id"`
	IdempotencyKey *string `json:"idempotency_key"`
}

// Event is a webhook that is to be delivered.
type Event struct {
	ID, Type string
	Live     bool
	Account  string // "" for the platform's own
	Payload  []byte // as it's signed and sent
}

// hooks is where events go.
type hooks struct {
	url, secret string
	version     string
	pending     []Event
	wake        chan struct{}
}

// Register names the endpoint that events are delivered to and its signing secret (docs.stripe.com/webhooks).
func (s *Sim) Register(url, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks.url, s.hooks.secret = url, secret
}

// SetEventVersion makes the events to come say that they were rendered at another API version: they follow the endpoint's
// or the account's, not the request's (docs.stripe.com/webhooks/versioning). Their shape stays the same.
func (s *Sim) SetEventVersion(version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hooks.version = version
}

// emit renders what v is now: an event is a snapshot (docs.stripe.com/api/events).
func (c *call) emit(kind string, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("sim/stripe: render %T: %v", v, err)) // Our own types can't fail.
	}
	e := &event{
		ID: newID("evt"), Object: "event", APIVersion: Version, Created: c.now, Data: eventData{Object: raw}, Livemode: c.live, PendingWebhooks: 1, Type: kind,
	}
	if c.hooks.version != "" {
		e.APIVersion = c.hooks.version
	}
	if c.connected {
		e.Account = c.account
	}
	if c.requestID != "" {
		e.Request.ID = &c.requestID
	}
	if c.key != "" {
		e.Request.IdempotencyKey = &c.key
	}
	c.events.put(e.ID, e)
	payload, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("sim/stripe: render an event: %v", err)) // Our own types can't fail.
	}
	c.hooks.pending = append(c.hooks.pending, Event{ID: e.ID, Type: kind, Live: c.live, Account: e.Account, Payload: payload})
	select {
	case c.hooks.wake <- struct{}{}:
	default:
	}
}

// Pending are the events not yet taken with a 2xx, oldest first.
func (s *Sim) Pending() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.hooks.pending)
}

// Drop forgets pending events, as if they were never sent; /v1/events still lists them.
func (s *Sim) Drop(events ...Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range events {
		s.hooks.pending = slices.DeleteFunc(s.hooks.pending, func(p Event) bool { return p.ID == e.ID })
	}
}

// Deliver sends events to the registered endpoint in the order given, which may name one twice. Those answered with 2xx
// are pending no more. The error joins those of the others.
func (s *Sim) Deliver(ctx context.Context, client *http.Client, events ...Event) error {
	s.mu.Lock()
	url, secret := s.hooks.url, s.hooks.secret
	s.mu.Unlock()
	var failed []error
	for _, e := range events {
		status, err := Send(ctx, client, url, e.Payload, Signature(e.Payload, secret, s.cfg.Now()))
		switch {
		case err != nil:
			failed = append(failed, err)
		case status < 200 || status > 299:
			failed = append(failed, fmt.Errorf("sim/stripe: deliver %s: status %d", e.Type, status))
		default:
			s.Drop(e)
		}
	}
	return errors.Join(failed...)
}

// DeliverAll delivers what is pending, in order, until ctx ends; what is refused is tried again after wait.
func (s *Sim) DeliverAll(ctx context.Context, client *http.Client, wait time.Duration) {
	for ctx.Err() == nil {
		var again <-chan time.Time
		if s.Deliver(ctx, client, s.Pending()...) != nil {
			again = time.After(wait)
		}
		select {
		case <-ctx.Done():
		case <-again:
		case <-s.hooks.wake:
		}
	}
}

// Signature is the header Stripe-Signature of payload (docs.stripe.com/webhooks, Verify webhook signatures manually).
func Signature(payload []byte, secret string, at time.Time) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.%s", at.Unix(), payload)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}

// Send posts a payload with any signature, and returns the status.
func Send(ctx context.Context, client *http.Client, url string, payload []byte, signature string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(payload))
	if err != nil {
		return 0, fmt.Errorf("sim/stripe: deliver: %w", err)
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
	req.Header.Set("Stripe-Signature", signature)
	resp, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("sim/stripe: deliver: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, nil
}

// account is docs.stripe.com/api/accounts/object, the part that says whether it can take payments.
type account struct {
	ID               string            `json:"id"`
	Object           string            `json:"object"`
	ChargesEnabled   bool              `json:"charges_enabled"`
	Country          string            `json:"country"`
	DefaultCurrency  string            `json:"default_currency"`
	DetailsSubmitted bool              `json:"details_submitted"`
	PayoutsEnabled   bool              `json:"payouts_enabled"`
	Capabilities     map[string]string `json:"capabilities"`
	Metadata         map[string]string `json:"metadata"`
	Type             string            `json:"type"`
}

var otherEndpoints = []endpoint{
	{method: "GET", path: "/v1/account", do: (*call).getAccount},
	{
		method: "GET", path: "/v1/events", do: (*call).listEvents,
		known: with(paging, spec{"type": text, "types": list, "created": created, "delivery_success": unsimulated}),
	},
	{method: "GET", path: "/v1/events/*", do: (*call).getEvent},
	{method: "GET", path: "/v1/balance_transactions/*", do: (*call).getBalanceTransaction},
}

func (c *call) getAccount() (any, *problem) {
	return account{
		ID: c.account, Object: "account", ChargesEnabled: true, Country: "US", DefaultCurrency: "usd", DetailsSubmitted: true,
		PayoutsEnabled: true, Capabilities: map[string]string{"card_payments": "active", "transfers": "active"}, Metadata: map[string]string{}, Type: "standard",
	}, nil
}

func (c *call) getEvent() (any, *problem) {
	e, ok := c.events.byID[c.path]
	if !ok {
		return nil, noSuch("event", c.path, "id")
	}
	return e, nil
}

func (c *call) listEvents() (any, *problem) {
	types := c.p.list("types")
	return listed(c, "/v1/events", &c.events, func(e *event) string { return e.ID }, func(e *event) bool {
		return c.within(e.Created) && c.wants("type", &e.Type) && (len(types) == 0 || slices.Contains(types, e.Type))
	})
}

func (c *call) getBalanceTransaction() (any, *problem) {
	t, ok := c.balance.byID[c.path]
	if !ok {
		return nil, noSuch("balance transaction", c.path, "id")
	}
	return t, nil
}
