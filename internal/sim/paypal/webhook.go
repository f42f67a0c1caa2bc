package paypal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

const deliveryTimeout = 10 * time.Second

// Event is something that PayPal tells of. It goes nowhere by itself: see [Sim.Deliver] and [Sim.Notification].
type Event struct {
	ID, Type   string
	ResourceID string
	ClientID   string // whose it is
	At         time.Time
	Body       []byte // as it is sent, byte for byte
}

// Webhook is where an account wants its events.
type Webhook struct {
	ID, URL  string
	ClientID string
	Types    []string // "*" is all
}

func (w Webhook) wants(e Event) bool {
	return w.ClientID == e.ClientID && (slices.Contains(w.Types, "*") || slices.Contains(w.Types, e.Type))
}

// emit notes an event (Webhooks v1 specification, event).
func (s *Sim) emit(account Account, name, resourceType, id string, resource object) {
	e := Event{ID: "WH-" + newID(idAlphabet, 17) + "-" + newID(idAlphabet, 17), Type: name, ResourceID: id, ClientID: account.ClientID, At: s.now()}
	e.Body = encode(object{
		"id": e.ID, "event_type": name, "resource_type": resourceType, "event_version": "1.0", "resource_version": "2.0",
		"create_time": e.At.UTC().Format("2006-01-02T15:04:05.000Z"), "summary": name + " " + id, "resource": resource,
		"links": []object{link(s.base+"/v1/notifications/webhooks-events/"+e.ID, "self", "GET")},
	})
	s.events = append(s.events, e)
}

// Events are all events so far, oldest first. What time alone did since the last look is at their end, in any order.
func (s *Sim) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for _, o := range s.orders {
		s.refreshOrder(o, now)
	}
	for _, a := range s.authorizations {
		s.refreshAuthorization(a, now)
	}
	return slices.Clone(s.events)
}

// AddWebhook registers a URL for events of the account with clientID; no type is all of them.
func (s *Sim) AddWebhook(clientID, url string, types ...string) Webhook {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(types) == 0 {
		types = []string{"*"}
	}
	w := Webhook{ID: newID(idAlphabet, 17), URL: url, ClientID: clientID, Types: types}
	s.hooks = append(s.hooks, w)
	return w
}

// Notification is the request that tells w of e, signed anew: sent twice or later, it is what PayPal sends again.
func (s *Sim) Notification(ctx context.Context, w Webhook, e Event) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(e.Body))
	if err != nil {
		return nil, fmt.Errorf("paypal: notify %s: %w", w.URL, err)
	}
	req.Header = s.Sign(w.ID, e.Body)
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// Deliver tells every webhook that wants e, once. An answer that isn't 2xx, for which PayPal would come again, is an
// error.
func (s *Sim) Deliver(ctx context.Context, e Event) error {
	s.mu.Lock()
	hooks := slices.Clone(s.hooks)
	s.mu.Unlock()
	var failed []error
	for _, w := range hooks {
		if w.wants(e) {
			failed = append(failed, s.deliver(ctx, w, e))
		}
	}
	return errors.Join(failed...)
}

func (s *Sim) deliver(ctx context.Context, w Webhook, e Event) error {
	req, err := s.Notification(ctx, w, e)
	if err != nil {
		return err
	}
	res, err := s.cfg.HTTPClient.Do(req)
	if err != nil {
		return fmt.Errorf("paypal: deliver %s: %w", e.Type, err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("paypal: deliver %s: status %d", e.Type, res.StatusCode)
	}
	return nil
}

// getEvent is webhooks-events.get of the Webhooks v1 specification.
func (s *Sim) getEvent(c *call) (answer, *problem) {
	for _, e := range s.events {
		if e.ID == c.id && e.ClientID == c.account.ClientID {
			return answer{status: http.StatusOK, body: json.RawMessage(e.Body)}, nil
		}
	}
	return answer{}, notFound()
}

// webhookShape is webhook of the Webhooks v1 specification.
var webhookShape = recordOf(map[string]shape{
	"url":         needed(returnURL),
	"event_types": needed(listOf(1, 500, recordOf(map[string]shape{"name": needed(shape{kind: aText, min: 1})}))),
})

func (w Webhook) json(base string) object {
	types := make([]object, len(w.Types))
	for i, t := range w.Types {
		types[i] = object{"name": t}
	}
	self := base + "/v1/notifications/webhooks/" + w.ID
	return object{"id": w.ID, "url": w.URL, "event_types": types, "links": []object{link(self, "self", "GET"), link(self, "delete", "DELETE")}}
}

// createWebhook is webhooks.post of the Webhooks v1 specification.
func (s *Sim) createWebhook(c *call) (answer, *problem) {
	w := Webhook{ID: newID(idAlphabet, 17), URL: text(c.record(), "url"), ClientID: c.account.ClientID}
	for _, t := range list(c.record(), "event_types") {
		w.Types = append(w.Types, text(t, "name"))
	}
	s.hooks = append(s.hooks, w)
	return answer{status: http.StatusCreated, body: w.json(c.base)}, nil
}

// listWebhooks is webhooks.list of the Webhooks v1 specification.
func (s *Sim) listWebhooks(c *call) (answer, *problem) {
	found := []object{}
	for _, w := range s.hooks {
		if w.ClientID == c.account.ClientID {
			found = append(found, w.json(c.base))
		}
	}
	return answer{status: http.StatusOK, body: object{"webhooks": found}}, nil
}

func (s *Sim) hook(c *call, id string) (int, *problem) {
	i := slices.IndexFunc(s.hooks, func(w Webhook) bool { return w.ID == id && w.ClientID == c.account.ClientID })
	if i < 0 {
		return 0, notFound()
	}
	return i, nil
}

// getWebhook is webhooks.get of the Webhooks v1 specification.
func (s *Sim) getWebhook(c *call) (answer, *problem) {
	i, p := s.hook(c, c.id)
	if p != nil {
		return answer{}, p
	}
	return answer{status: http.StatusOK, body: s.hooks[i].json(c.base)}, nil
}

// deleteWebhook is webhooks.delete of the Webhooks v1 specification.
func (s *Sim) deleteWebhook(c *call) (answer, *problem) {
	i, p := s.hook(c, c.id)
	if p != nil {
		return answer{}, p
	}
	s.hooks = slices.Delete(s.hooks, i, i+1)
	return answer{status: http.StatusNoContent}, nil
}
