package payment

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// Status is what has become of an order, as far as is known.
type Status string

// What may have become of it.
const (
	// Succeeded: the money was taken.
	Succeeded Status = "succeeded"
	// Authorized: the money is held until it is captured or voided.
	Authorized Status = "authorized"
	// Pending: the provider will say later how it ends.
	Pending Status = "pending"
	// NeedsAction: the customer must do something, see Result.Action.
	NeedsAction Status = "needs action"
	// NeedsCustomer: a merchant initiated payment must be repeated with the customer
	// present, which is a new attempt. Nothing moved.
	NeedsCustomer Status = "needs customer"
	// Declined: the method was refused, see Result.Decline. Nothing moved.
	Declined Status = "declined"
	// Canceled: nothing moved, and nothing will.
	Canceled Status = "canceled"
	// Ready: it is prepared, and moves when Finish, or Charge, is called.
	Ready Status = "ready"
	// Unknown: it isn't known whether money moved. Resume and Reconcile find out.
	Unknown Status = "unknown"
)

// Result is what has become of an order.
type Result struct {
	Tenant, Order string
	Status        Status
	// Provider is who has the payment, a path where Clients are nested, and Attempt
	// the number of the attempt there. Both are zero before the first.
	Provider string
	Attempt  int
	// PaymentID and ChargeID are the provider's.
	PaymentID, ChargeID string
	// Amount is what was asked for, Captured what was taken, Refunded what was given
	// back of it, and Fee and Net the shares of what was taken.
	Amount, Captured, Refunded, Fee, Net Money
	// Action is what the customer must do, with NeedsAction.
	Action *NextAction
	// Decline says why, with Declined and NeedsCustomer.
	Decline *Decline
	// Reason is the provider's word, with Pending and Canceled.
	Reason string
	// HeldUntil is when an authorisation ends, where it is known.
	HeldUntil time.Time
	// Saved is the method that was kept for later.
	Saved Method
	// Skipped are the providers that couldn't take this order, with the reasons: they
	// would not have stood in for the others.
	Skipped []Skipped
	// Refunds are all refunds of the order.
	Refunds []Refund
	// Recorded: the journal knows all this. Where it doesn't, Reconcile settles it.
	Recorded bool
}

// Skipped is a provider that couldn't take an order.
type Skipped struct {
	Provider string
	Reason   error
}

// status is that of an order whose newest attempt is a.
func (a *AttemptRecord) status(o *Order) Status {
	switch a.State {
	case AttemptPaid:
		return Succeeded
	case AttemptHeld:
		return Authorized
	case AttemptProcessing:
		return Pending
	case AttemptOpen:
		return NeedsAction
	case AttemptPrepared:
		if a.Approval {
			return NeedsAction
		}
		return Ready
	case AttemptDeclined:
		if o.Presence == MerchantInitiated && a.Decline != nil && a.Decline.Reason == AuthenticationFault {
			return NeedsCustomer
		}
		return Declined
	case AttemptFenced, AttemptEnded:
		return Canceled
	default:
		return Unknown
	}
}

// Recorded is how an order stands by the journal, for pages that list many: no
// provider is asked, and nothing waits for other calls. An order that isn't there
// is fault.NotFound.
func (c *Client) Recorded(ctx context.Context, orderID string) (*Result, error) {
	e, err := c.Entry(ctx, orderID)
	if err != nil {
		return nil, err
	}
	return e.Result(), nil
}

// Entry is all that the journal knows of an order, with its attempts, for whoever
// answers a customer's question. An order that isn't there is fault.NotFound.
func (c *Client) Entry(ctx context.Context, orderID string) (*Entry, error) {
	w, err := c.work(ctx, orderID)
	if err != nil {
		return nil, err
	}
	return c.entry(ctx, w.key)
}

// Result is what the entry says of its order: by the attempt that was paid, else
// the newest. It has no Action, which is never stored.
func (e *Entry) Result() *Result {
	r := &Result{Tenant: e.Key.Tenant, Order: e.Key.Order, Status: Canceled, Amount: e.Order.Amount, Recorded: true}
	zero := Money{0, e.Order.Amount.Currency}
	r.Captured, r.Refunded, r.Fee, r.Net = zero, zero, zero, zero
	a := e.paid()
	if a == nil {
		a = e.last()
	}
	if a == nil {
		return r
	}
	r.Status, r.Provider, r.Attempt, r.PaymentID, r.ChargeID = a.status(&e.Order), a.Provider, a.Number, a.PaymentID, a.ChargeID
	r.Decline, r.Reason, r.HeldUntil, r.Saved = a.Decline, a.Reason, a.HeldUntil, a.Saved
	if a.State == AttemptPaid {
		r.Captured = a.Captured
		r.Fee, r.Net, _ = e.Order.Fee.Of(a.Captured) // valid since the order was
	}
	for _, f := range e.Refunds {
		r.Refunds = append(r.Refunds, f.Refund)
	}
	r.Refunded.Minor = a.Elsewhere.Minor + e.refunds(a.Number, func(s RefundState) bool { return s == RefundSucceeded })
	return r
}

// refunds is the sum of an attempt's refunds in some states.
func (e *Entry) refunds(attempt int, in func(RefundState) bool) int64 {
	var sum int64
	for _, f := range e.Refunds {
		if f.Attempt == attempt && in(f.State) {
			sum += f.Amount.Minor
		}
	}
	return sum
}

// reserved is what was given back of an attempt, or may have been.
func (e *Entry) reserved(a *AttemptRecord) int64 {
	return a.Elsewhere.Minor + e.refunds(a.Number, func(s RefundState) bool { return s != RefundFailed })
}

// unknown is the error beside a result that isn't known.
func (r *Result) unknown(cause error) error {
	if r.Status != Unknown {
		return nil
	}
	return &fault.Error{Kind: fault.Uncertain, Provider: r.Provider, Op: "payment.charge", Err: cause}
}

// ServeHTTP sends the customer to the page, or gives the browser's script the
// secret as JSON, with no copy kept on the way. It writes nothing else before.
func (n *NextAction) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if n == nil { // it could not be looked up
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if n.RedirectURL != "" {
		http.Redirect(w, r, n.RedirectURL, http.StatusSeeOther)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	body, _ := json.Marshal(map[string]string{"provider": n.Provider, "client_secret": n.ClientSecret.Reveal()})
	_, _ = w.Write(body) // else the customer has gone
}
