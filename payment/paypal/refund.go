package paypal

import (
	"context"
	"net/http"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

// givingBack is refund_request of the Payments v2 specification.
type givingBack struct {
	Amount    money  `json:"amount"`
	CustomID  string `json:"custom_id"`
	InvoiceID string `json:"invoice_id"`
}

// refund is money that went back, or is to (Orders v2 and Payments v2
// specifications).
type refund struct {
	ID        string  `json:"id"`
	Status    string  `json:"status"`
	Details   details `json:"status_details"`
	Amount    money   `json:"amount"`
	InvoiceID string  `json:"invoice_id"`
}

// refundInvoice is what a refund is found by, and of which PayPal takes no second
// one: the payment's invoice, the refund's id, and the attempt's number. It has at
// most 127 characters.
func refundInvoice(r *payment.Refunding) string {
	ref := r.Attempt.Reference()
	ref.User = ""
	if s := ref.String() + "/" + r.ID; len(s) <= maxOwnID {
		return s
	}
	return r.Key()
}

// maxOwnID is the longest custom_id and invoice_id.
const maxOwnID = 127

// RefundAttempt gives back some or all of a capture. The amount is always sent, so that what
// goes back is what was reserved.
func (g *Gateway) RefundAttempt(ctx context.Context, r *payment.Refunding) (*payment.Refund, error) {
	if field, problem := payable(r.Amount); field != "" {
		return nil, unsupported(field, problem)
	}
	id, err := g.charged(ctx, r.Attempt)
	if err != nil {
		return nil, err
	}
	fresh := kept(r.Began, paymentsKeep)
	if !fresh {
		if out, err := g.LookUpRefund(ctx, r); fault.KindOf(err) != fault.NotFound || err == nil {
			return out, err
		}
	}
	q := &request{
		op: "refund capture", method: http.MethodPost, path: "/v2/payments/captures/" + id + "/refund",
		body: givingBack{moneyOf(r.Amount), r.Attempt.Reference().String(), refundInvoice(r)}, key: r.Key(), deduped: fresh,
	}
	var made refund
	if err := g.call(ctx, q, &made); err != nil {
		return g.refunded(ctx, r, err)
	}
	out, err := made.read(r)
	if err != nil {
		return nil, q.mark(err)
	}
	return out, nil
}

// charged is the id of the capture, which an attempt needn't know.
func (g *Gateway) charged(ctx context.Context, a *payment.Attempt) (string, error) {
	if err := g.mine(a); err != nil {
		return "", err
	}
	if a.ChargeID != "" {
		return segment("charge_id", a.ChargeID)
	}
	p, err := g.LookUp(ctx, a)
	switch {
	case err != nil:
		return "", err
	case p.ChargeID == "" || p.State != payment.Paid:
		return "", fault.New(fault.Conflict, &payment.FieldError{Field: "charge_id", Problem: "there is none: nothing was taken"})
	}
	return p.ChargeID, nil
}

// refunded looks whether the refund is among those that PayPal says are there.
func (g *Gateway) refunded(ctx context.Context, r *payment.Refunding, cause error) (*payment.Refund, error) {
	switch issue(cause) {
	case "CAPTURE_FULLY_REFUNDED", "REFUND_AMOUNT_EXCEEDED", "DUPLICATE_INVOICE_ID":
	default:
		return nil, cause
	}
	out, err := g.LookUpRefund(ctx, r)
	switch {
	case err == nil:
		return out, nil
	case fault.KindOf(err) == fault.NotFound:
		return nil, cause
	}
	return nil, unsettled(cause, err)
}

// LookUpRefund asks for a refund by PayPal's id, or looks for ours among those of
// the order.
func (g *Gateway) LookUpRefund(ctx context.Context, r *payment.Refunding) (*payment.Refund, error) {
	if r.ProviderID == "" {
		return g.findRefund(ctx, r)
	}
	id, err := segment("provider_id", r.ProviderID)
	if err != nil {
		return nil, err
	}
	var made refund
	if err := g.call(ctx, &request{op: "look up refund", method: http.MethodGet, path: "/v2/payments/refunds/" + id}, &made); err != nil {
		return nil, err
	}
	return made.read(r)
}

func (g *Gateway) findRefund(ctx context.Context, r *payment.Refunding) (*payment.Refund, error) {
	o, err := g.order(ctx, r.Attempt)
	switch {
	case err != nil && fault.KindOf(err) == fault.NotFound: // which doesn't say that the refund isn't there
		return nil, uncertain("look up refund: PayPal doesn't know the order: %w", err)
	case err != nil:
		return nil, err
	case o.ID != r.Attempt.PaymentID || len(o.Units) == 0:
		return nil, uncertain("look up refund: the answer has no order")
	}
	if p := o.Units[0].Payments; p != nil {
		for _, made := range p.Refunds {
			if made.InvoiceID == refundInvoice(r) {
				return made.read(r)
			}
		}
	}
	return nil, fault.New(fault.NotFound, &payment.FieldError{Field: "refund.id", Problem: "isn't among the order's refunds at PayPal"})
}

// read is how a refund stands (Payments v2 specification, refund_status).
func (f *refund) read(r *payment.Refunding) (*payment.Refund, error) {
	amount, ok := f.Amount.read()
	if !ok || !ids.MatchString(f.ID) {
		return nil, uncertain("a refund can't be read")
	}
	out := &payment.Refund{ID: r.ID, ProviderID: f.ID, Amount: amount, Reason: name(f.Details.Reason)}
	switch f.Status {
	case "COMPLETED":
		out.State, out.Reason = payment.RefundSucceeded, ""
	case "PENDING":
		out.State = payment.RefundPending
	case "FAILED", "CANCELLED":
		out.State = payment.RefundFailed
		if out.Reason == "" {
			out.Reason = f.Status
		}
	default:
		return nil, uncertain("a refund of status %q", name(f.Status))
	}
	return out, nil
}

// into adds a refund that was made to a payment.
func (f *refund) into(to *payment.Payment) error {
	if f.Status != "COMPLETED" {
		return nil
	}
	amount, ok := f.Amount.read()
	if !ok {
		return uncertain("a refund's amount can't be read")
	}
	sum, err := to.Refunded.Add(amount)
	if err != nil {
		return uncertain("the refunds can't be summed up: %w", err)
	}
	to.Refunded = sum
	return nil
}
