package stripe

import (
	"strings"
	"time"
)

// authorizationLasts: docs.stripe.com/payments/place-a-hold-on-a-payment-method, seven days for a card paid online.
const authorizationLasts = 7 * 24 * time.Hour

// collect moves the money: the one place where a charge enters the ledger.
func (c *call) collect(pi *paymentIntent, ch *charge, amount int64) {
	pi.Status, pi.AmountReceived, pi.AmountCapturable, pi.captureBefore = succeeded, amount, 0, 0
	ch.capture(amount)
	txn := c.book("charge", amount, ch.Currency, ch.ID)
	ch.BalanceTransaction = &txn
	c.move(Charged, pi, ch.ID, ch.ID, amount)
}

// captureIntent: docs.stripe.com/api/payment_intents/capture. What isn't captured is released.
func (c *call) captureIntent() (any, *problem) {
	pi, p := c.intent()
	if p != nil {
		return nil, p
	}
	if pi.Status != requiresCapture {
		return nil, unexpectedState(pi, "captured", requiresCapture)
	}
	amount := pi.AmountCapturable
	if c.p.has("amount_to_capture") {
		amount = c.p.number("amount_to_capture")
	}
	switch {
	case amount < 1:
		return nil, invalid("parameter_invalid_integer", "amount_to_capture", "This value must be greater than or equal to 1.")
	case amount > pi.AmountCapturable:
		return nil, invalid("amount_too_large", "amount_to_capture", "The amount to capture (%s) is larger than the amount that can be captured (%s).",
			decimal(amount, pi.Currency), decimal(pi.AmountCapturable, pi.Currency))
	}
	pi.Metadata = merge(pi.Metadata, c.p)
	ch := c.charges.byID[*pi.LatestCharge]
	c.collect(pi, ch, amount)
	c.emit("charge.captured", ch)
	c.emit("payment_intent.succeeded", pi)
	return pi, nil
}

// cancelIntent: docs.stripe.com/api/payment_intents/cancel.
func (c *call) cancelIntent() (any, *problem) {
	pi, p := c.intent()
	if p != nil {
		return nil, p
	}
	allowed := []string{requiresPaymentMethod, requiresCapture, requiresConfirmation, requiresAction, processing}
	if !pi.in(allowed...) {
		p := unexpectedState(pi, "canceled", allowed...)
		p.Message = "You cannot cancel this PaymentIntent because it has a status of " + pi.Status + ". Only a PaymentIntent with one of the following statuses may be canceled: " + strings.Join(allowed, ", ") + "."
		return nil, p
	}
	c.release(pi, c.p.optional("cancellation_reason"))
	return pi, nil
}

// release cancels an intent and lets an authorisation go.
func (c *call) release(pi *paymentIntent, reason *string) {
	held := pi.Status == requiresCapture
	if pi.LatestCharge != nil && pi.in(requiresCapture, processing) {
		ch := c.charges.byID[*pi.LatestCharge]
		if held {
			ch.Refunded, ch.AmountRefunded = true, ch.Amount
		} else {
			ch.Status = "failed"
		}
	}
	now := c.now
	pi.Status, pi.CanceledAt, pi.CancellationReason = canceled, &now, reason
	pi.AmountCapturable, pi.NextAction, pi.captureBefore = 0, nil, 0
	if held {
		c.emit("charge.refunded", c.charges.byID[*pi.LatestCharge])
	}
	c.emit("payment_intent.canceled", pi)
}

// expireAuthorizations cancels what wasn't captured in time (docs.stripe.com/payments/place-a-hold-on-a-payment-method:
// the status changes to canceled).
func (c *call) expireAuthorizations() {
	reason := "automatic"
	for _, pi := range c.intents.newest() {
		if pi.captureBefore != 0 && c.now >= pi.captureBefore {
			c.release(pi, &reason)
		}
	}
}
