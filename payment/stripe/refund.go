package stripe

import (
	"context"
	"errors"

	sdk "github.com/stripe/stripe-go/v76"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

// RefundAttempt gives money of a payment back. The caller's id travels as metadata.
func (g Gateway) RefundAttempt(ctx context.Context, r *payment.Refunding) (*payment.Refund, error) {
	n, err := amount(r.Amount)
	if err != nil {
		return nil, err
	}
	if r.Attempt.PaymentID == "" {
		return nil, fault.New(fault.Invalid, &payment.FieldError{Field: "payment_id", Problem: "is missing: there is nothing to refund"})
	}
	about := metadata(r.Attempt.Reference())
	about[refundKey] = r.ID
	params := &sdk.RefundParams{PaymentIntent: &r.Attempt.PaymentID, Amount: &n, Metadata: about}
	var made *sdk.Refund
	ans, err := g.do(ctx, write(r.Attempt, r.Key()), func(c api) (err error) {
		params.Params = c.params
		made, err = c.refunds().New(params)
		return first(err, func() error { return wanted(made.Object, "refund", made.ID, "") })
	})
	if err != nil {
		return nil, err
	}
	if ans.replayed() {
		known := *r
		known.ProviderID = made.ID
		if now, err := g.LookUpRefund(ctx, &known); err == nil {
			return now, nil
		}
	}
	return refunded(r, made)
}

// LookUpRefund retrieves a refund, or looks for the caller's id among those of the
// PaymentIntent.
func (g Gateway) LookUpRefund(ctx context.Context, r *payment.Refunding) (*payment.Refund, error) {
	if r.ProviderID == "" {
		return g.findRefund(ctx, r)
	}
	params := &sdk.RefundParams{}
	var made *sdk.Refund
	_, err := g.do(ctx, read(r.Attempt), func(c api) (err error) {
		params.Params = c.params
		made, err = c.refunds().Get(r.ProviderID, params)
		return first(err, func() error { return wanted(made.Object, "refund", made.ID, r.ProviderID) })
	})
	if err != nil {
		return nil, err
	}
	return refunded(r, made)
}

func (g Gateway) findRefund(ctx context.Context, r *payment.Refunding) (*payment.Refund, error) {
	params := &sdk.RefundListParams{PaymentIntent: &r.Attempt.PaymentID}
	var made *sdk.Refund
	seen := 0
	_, err := g.do(ctx, read(r.Attempt), func(c api) error {
		params.ListParams = c.pages()
		all := c.refunds().List(params)
		for ; made == nil && seen < maxFind && all.Next(); seen++ {
			if all.Refund().Metadata[refundKey] == r.ID {
				made = all.Refund()
			}
		}
		return all.Err()
	})
	switch {
	case err != nil:
		return nil, err
	case made != nil:
		return refunded(r, made)
	case seen >= maxFind:
		return nil, fault.New(fault.Unavailable, errors.New("stripe: the payment has more than a thousand refunds, and the last thousand aren't this one"))
	}
	return nil, fault.New(fault.NotFound, errors.New("stripe: no refund of the payment has that id"))
}

// refundStates are those of the API reference, "The Refund object". requires_action
// waits for the customer's bank details.
var refundStates = map[sdk.RefundStatus]payment.RefundState{
	sdk.RefundStatusPending:        payment.RefundPending,
	sdk.RefundStatusRequiresAction: payment.RefundPending,
	sdk.RefundStatusSucceeded:      payment.RefundSucceeded,
	sdk.RefundStatusFailed:         payment.RefundFailed,
	sdk.RefundStatusCanceled:       payment.RefundFailed,
}

func refunded(r *payment.Refunding, made *sdk.Refund) (*payment.Refund, error) {
	state, known := refundStates[made.Status]
	given, err := money(made.Amount, made.Currency)
	if err != nil || !known {
		return nil, unreadable(request{write: r.ProviderID == ""}, "the refund has a status or currency that version %s doesn't know", sdk.APIVersion)
	}
	out := &payment.Refund{ID: r.ID, ProviderID: made.ID, State: state, Amount: given}
	if state == payment.RefundFailed {
		out.Reason = string(made.FailureReason)
		if out.Reason == "" {
			out.Reason = string(made.Status)
		}
	}
	return out, nil
}
