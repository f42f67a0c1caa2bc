package stripe

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

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
