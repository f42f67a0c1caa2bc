package payment

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/webhook"
)

// Webhooks takes the providers' events:
//
//	mux.Handle("POST /hooks/{provider...}", pay.Webhooks())
//
// An event is verified over its raw bytes and taken for a hint: the payment that
// it is about is looked up at the provider, under the order's lease. What that
// changes is recorded, and told to the handler, in one transaction with the mark
// that the event was seen. It answers
//
//	200  done; it was seen before; or it is about nothing of ours ([Foreign])
//	400, 401  it can't be read, or isn't genuine, or is of the other mode
//	503  another call works on the order, or nothing is in the journal of it yet: come
//	     again. After an hour that is an [Orphan], and 200.
func (c *Client) Webhooks() http.Handler { return webhook.Handler(c.takeEvent) }

const (
	readEventWithin = 10 * time.Second
	eventJoin       = 2 * time.Second // for a call that works on the order; then it comes again
	orphanAfter     = time.Hour
)

func (h *Hint) key(provider string) string { return provider + ":" + h.ID }

func (c *Client) takeEvent(ctx context.Context, provider string, header http.Header, body []byte) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.running.Done()
	if !slices.Contains(c.names(), provider) {
		return fault.New(fault.NotFound, errors.New("payment: no such provider"))
	}
	hint, err := c.readEvent(ctx, provider, header, body)
	if err != nil {
		return err
	}
	k, err := c.locate(ctx, provider, hint)
	if errors.Is(err, fault.NotFound) {
		return c.homeless(ctx, provider, hint)
	}
	if err != nil {
		return err
	}
	own, err := c.ofOurAccount(ctx, provider, k, hint)
	switch {
	case err != nil:
		return err
	case !own:
		return c.foreign(ctx, provider, hint)
	}
	w := &work{c: c, caller: ctx, key: k, hint: hint}
	ctx = context.WithoutCancel(ctx)
	if err := w.claim(ctx, eventJoin, mustExist); err != nil {
		return again(err)
	}
	defer w.release(ctx)
	return again(w.takeHint(ctx, provider))
}

// again keeps what isn't the event's fault from being taken for it.
func again(err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Unavailable, err)
}

// readEvent verifies an event. It goes past the provider's breaker, which forged
// events must not open.
func (c *Client) readEvent(ctx context.Context, provider string, header http.Header, body []byte) (*Hint, error) {
	hook, ok := c.leaf(provider).(Hook)
	if !ok {
		return nil, fault.New(fault.NotFound, errCant)
	}
	ctx, cancel := context.WithTimeout(ctx, readEventWithin)
	defer cancel()
	hint, err := hook.ReadEvent(ctx, header, body)
	if err != nil {
		return nil, err
	}
	if hint.Live != c.identity(provider).Live {
		return nil, fault.New(fault.Denied, errors.New("payment: the event is of the other mode, live or test"))
	}
	return hint, nil
}

// locate is the order that an event is about: by what travelled with the payment,
// else by the provider's ids.
func (c *Client) locate(ctx context.Context, provider string, h *Hint) (Key, error) {
	if h.Reference.Order != "" {
		k := Key{h.Reference.Tenant, h.Reference.Order}
		e, err := c.entry(ctx, k)
		if err != nil {
			return k, err
		}
		if e.attemptOf(provider, h) == nil {
			return k, fault.New(fault.NotFound, errNoEntry)
		}
		return k, nil
	}
	for _, id := range []string{h.PaymentID, h.ChargeID, h.AuthorizationID, h.RefundID} {
		if id == "" {
			continue
		}
		k, err := c.find(ctx, ProviderID{provider, id})
		if !errors.Is(err, fault.NotFound) {
			return k, err
		}
	}
	return Key{}, fault.New(fault.NotFound, errNoEntry)
}

func (c *Client) find(ctx context.Context, id ProviderID) (Key, error) {
	ctx, cancel := context.WithTimeout(ctx, recordWithin)
	defer cancel()
	return c.book.Find(ctx, id)
}

// attemptOf is the attempt that an event is about.
func (e *Entry) attemptOf(provider string, h *Hint) *AttemptRecord {
	if a := e.attempt(h.Reference.Attempt); a != nil && a.Provider == provider {
		return a
	}
	for i := range e.Attempts {
		a := &e.Attempts[i]
		if a.Provider == provider && (a.PaymentID != "" && a.PaymentID == h.PaymentID || a.ChargeID != "" && a.ChargeID == h.ChargeID ||
			a.AuthorizationID != "" && a.AuthorizationID == h.AuthorizationID) {
			return a
		}
	}
	for _, r := range e.Refunds {
		if a := e.attempt(r.Attempt); r.ProviderID != "" && r.ProviderID == h.RefundID && a.Provider == provider {
			return a
		}
	}
	return nil
}

// homeless is an event of which the journal knows nothing.
func (c *Client) homeless(ctx context.Context, provider string, h *Hint) error {
	if h.Reference.Order == "" {
		return c.foreign(ctx, provider, h)
	}
	if c.rules.Now().Sub(h.Created) < orphanAfter {
		return fault.New(fault.Unavailable, errNoEntry)
	}
	return c.pass(ctx, Event{Type: Orphan, Tenant: h.Reference.Tenant, Order: h.Reference.Order, Provider: provider, Hint: h})
}

func (c *Client) foreign(ctx context.Context, provider string, h *Hint) error {
	return c.pass(ctx, Event{Type: Foreign, Provider: provider, Hint: h})
}

// pass hands the handler an event that the journal knows nothing of.
func (c *Client) pass(ctx context.Context, e Event) error {
	if c.handler == nil {
		return nil
	}
	return again(c.handler(ctx, e))
}

// ofOurAccount reports whether an event is of the account that we charge, or of one
// that the order is paid to.
func (c *Client) ofOurAccount(ctx context.Context, provider string, k Key, h *Hint) (bool, error) {
	if h.Account == "" || h.Account == c.identity(provider).Account {
		return true, nil
	}
	e, err := c.entry(ctx, k)
	if err != nil {
		return false, again(err)
	}
	return byPath(e.Order.Payees, provider) == h.Account, nil
}

// takeHint looks up what an event is about, and marks the event as seen with what
// that has changed.
func (w *work) takeHint(ctx context.Context, provider string) error {
	event := w.hint.key(provider)
	if slices.Contains(w.e.Events, event) {
		return nil
	}
	a := w.e.attemptOf(provider, w.hint)
	if a == nil {
		return fault.New(fault.Unavailable, errNoEntry)
	}
	if err := w.lookAt(ctx, a); err != nil {
		return err
	}
	if w.unrecorded {
		return fault.New(fault.Unavailable, errNoEntry)
	}
	if w.hint.Subject == AboutRefund {
		if err := w.settleRefunds(ctx); err != nil {
			return err
		}
	}
	if slices.Contains(w.e.Events, event) {
		return nil
	}
	return w.update(ctx, func(e *Entry) error { // nothing had to be recorded of it
		e.see(event)
		if w.hint.Subject != AboutDispute || w.c.handler == nil {
			return nil
		}
		return w.c.handler(ctx, Event{
			Type: Dispute, Tenant: w.key.Tenant, Order: w.key.Order, Provider: provider, Result: e.Result(), Hint: w.hint,
		})
	})
}

// lookAt asks how an attempt stands, and goes on with it where it is the newest.
func (w *work) lookAt(ctx context.Context, a *AttemptRecord) error {
	if last := w.e.last(); a.Number == last.Number && !a.State.Settled() && a.State != AttemptPaid && a.State != AttemptNoted {
		if err := w.settle(ctx); err != nil {
			return err
		}
		return w.cause
	}
	return w.settleOther(ctx, a.Number)
}
