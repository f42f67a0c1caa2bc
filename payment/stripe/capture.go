package stripe

import (
	"context"
	"strconv"

	sdk "github.com/stripe/stripe-go/v76"

	"github.com/smilefactory/integrations/payment"
)

// CaptureAttempt takes some or all of what is held. Stripe lets go of the rest.
func (g Gateway) CaptureAttempt(ctx context.Context, a *payment.Attempt, take payment.Money) (*payment.Payment, error) {
	n, err := amount(take)
	if err != nil {
		return nil, err
	}
	params := &sdk.PaymentIntentCaptureParams{AmountToCapture: &n, Expand: expand("latest_charge")}
	r := step(a, "capture:"+strconv.Itoa(a.Captures))
	return g.move(ctx, a, r, payment.Held, func(c api) (*sdk.PaymentIntent, error) {
		params.Params = c.params
		return c.intents().Capture(a.PaymentID, params)
	})
}

// VoidAttempt cancels the PaymentIntent, which lets go of what is held.
func (g Gateway) VoidAttempt(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	return g.cancel(ctx, a, sdk.PaymentIntentCancellationReasonRequestedByCustomer)
}
