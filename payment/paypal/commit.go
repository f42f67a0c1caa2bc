package paypal

import (
	"context"
	"net/http"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

// charge is what captures or authorizes an order (Orders v2 specification,
// order_capture_request and order_authorize_request).
type charge struct {
	Source map[string]payer `json:"payment_source,omitempty"`
}

// Commit captures the order, or authorizes it where it is to be held.
func (g *Gateway) Commit(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	id, err := segment("payment_id", a.PaymentID)
	if err == nil {
		err = g.mine(a)
	}
	if err != nil {
		return nil, err
	}
	if !kept(a.Began, ordersKeep) {
		return g.late(ctx, a)
	}
	p, err := g.charge(ctx, a, id, a.Key("commit"), paying(a))
	switch cause := issue(err); cause {
	case "ORDER_NOT_APPROVED", "PAYER_ACTION_REQUIRED":
		if a.Order.Presence == payment.MerchantInitiated { // nobody is there
			return g.refused(a, payment.AuthenticationFault, cause), nil
		}
		return g.approved(ctx, a, id, err)
	case "ORDER_ALREADY_CAPTURED", "ORDER_ALREADY_AUTHORIZED", "ORDER_COMPLETED_OR_VOIDED", "ORDER_EXPIRED",
		"MAX_AUTHORIZATION_COUNT_EXCEEDED", "DUPLICATE_INVOICE_ID":
		return g.settle(ctx, a, err)
	default:
		if reason, ok := declines[cause]; ok {
			return g.refused(a, reason, cause), nil
		}
	}
	return p, err
}

// late is Commit when PayPal may have forgotten the key: nothing is sent.
func (g *Gateway) late(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	p, err := g.LookUp(ctx, a)
	if err == nil && p.State == payment.Prepared && p.Action == nil {
		return nil, uncertain("capture order: the attempt began more than 6 hours ago, and isn't sent again: look it up until the order is over")
	}
	return p, err
}

func (g *Gateway) charge(ctx context.Context, a *payment.Attempt, id, key string, body *charge) (*payment.Payment, error) {
	r := &request{op: "capture order", method: http.MethodPost, path: ordersPath + "/" + id + "/capture", body: body, key: key, deduped: true}
	if a.Order.Hold {
		r.op, r.path = "authorize order", ordersPath+"/"+id+"/authorize"
	}
	var o order
	if err := g.call(ctx, r, &o); err != nil {
		return nil, err
	}
	p, err := g.payment(a, &o)
	if err != nil {
		return nil, r.mark(err)
	}
	return p, nil
}

// paying is the saved method, if any: what the customer approved needs no saying.
func paying(a *payment.Attempt) *charge {
	if a.Method.ID == "" {
		return &charge{}
	}
	s := source(a.Method.ID)
	with := payer{VaultID: s.id}
	present := a.Order.Presence == payment.CustomerPresent
	if present && a.Order.ReturnURL != "" && s.kind != "venmo" {
		with.Experience = pages(a.Order) // for an authentication
	}
	if s.kind == "card" {
		with.Stored = &stored{"MERCHANT", "UNSCHEDULED", "SUBSEQUENT"}
		if present {
			with.Stored = &stored{"CUSTOMER", "ONE_TIME", "SUBSEQUENT"}
		}
	}
	return &charge{map[string]payer{s.kind: with}}
}

// approved goes on where PayPal said that the customer must act. Either he still
// must; or he has meanwhile, and PayPal repeats the answer that it keeps under the
// key. Then the order is charged under another key, which is made of the approval,
// so that it too is the same at every repetition. An order can be captured once,
// whatever the keys (ORDER_ALREADY_CAPTURED).
func (g *Gateway) approved(ctx context.Context, a *payment.Attempt, id string, cause error) (*payment.Payment, error) {
	o, err := g.order(ctx, a)
	if err != nil {
		return nil, unsettled(cause, err)
	}
	if o.Status == "APPROVED" {
		return g.again(ctx, a, id, o.UpdateTime)
	}
	p, err := g.payment(a, o)
	if err != nil {
		return nil, unsettled(cause, err)
	}
	if p.State == payment.Prepared && p.Action == nil { // what PayPal wants of a saved method is in its answer alone
		p.Action = o.action()
		if p.Action.RedirectURL == "" {
			p.Action.RedirectURL = linkOf(cause)
		}
		if p.Action.RedirectURL == "" {
			return nil, unsettled(cause, uncertain("the customer must act, and there is no link"))
		}
	}
	return p, nil
}

func (g *Gateway) again(ctx context.Context, a *payment.Attempt, id, approval string) (*payment.Payment, error) {
	p, err := g.charge(ctx, a, id, a.Key("commit:"+approval), &charge{})
	cause := issue(err)
	if reason, ok := declines[cause]; ok {
		return g.refused(a, reason, cause), nil
	}
	if fault.KindOf(err) == fault.Conflict {
		return g.settle(ctx, a, err)
	}
	return p, err
}

// settle looks up what became of an order that PayPal won't charge.
func (g *Gateway) settle(ctx context.Context, a *payment.Attempt, cause error) (*payment.Payment, error) {
	p, err := g.LookUp(ctx, a)
	switch {
	case err != nil && fault.KindOf(err) == fault.NotFound && issue(cause) == "ORDER_EXPIRED":
		return g.ended(a, "EXPIRED"), nil
	case err != nil:
		return nil, unsettled(cause, err)
	case p.State == payment.Prepared && issue(cause) == "DUPLICATE_INVOICE_ID":
		return nil, cause // another order was paid
	case p.State == payment.Prepared && p.Action == nil:
		return nil, unsettled(cause, uncertain("PayPal says that the order is charged, and shows it as approved"))
	}
	return p, nil
}

// unsettled is for what has happened already, by PayPal's word, where the look-up
// that was to say how failed. That the look-up sent nothing must not count.
func unsettled(cause, err error) error {
	f := fault.New(fault.Uncertain, err)
	f.Deduped = true
	if said, ok := fault.As(cause); ok {
		f.Code, f.RequestID = said.Code, said.RequestID
	}
	return f
}

func linkOf(err error) string {
	if f, ok := fault.As(err); ok {
		if e, ok := f.Err.(*Error); ok { //nolint:errorlint // as in issue
			return e.link
		}
	}
	return ""
}

// refused is a decline. The customer could choose another way to pay for the same
// order at PayPal; nothing comes of it, since it moves only when it is captured.
func (g *Gateway) refused(a *payment.Attempt, reason payment.DeclineReason, code string) *payment.Payment {
	p := g.ended(a, "")
	p.State, p.Decline = payment.Refused, payment.NewDecline(reason, code)
	return p
}
