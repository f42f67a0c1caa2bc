package stripe

import (
	"encoding/json"
	"fmt"
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
