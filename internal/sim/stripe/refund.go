package stripe

import (
	"fmt"
	"slices"
)

// refund is docs.stripe.com/api/refunds/object.
type refund struct {
	ID                        string            `json:"id"`
	Object                    string            `json:"object"`
	Amount                    int64             `json:"amount"`
	BalanceTransaction        *string           `json:"balance_transaction"`
	Charge                    string            `json:"charge"`
	Created                   int64             `json:"created"`
	Currency                  string            `json:"currency"`
	FailureBalanceTransaction *string           `json:"failure_balance_transaction,omitempty"`
	FailureReason             *string           `json:"failure_reason,omitempty"`
	Metadata                  map[string]string `json:"metadata"`
	PaymentIntent             *string           `json:"payment_intent"`
	Reason                    *string           `json:"reason"`
	ReceiptNumber             *string           `json:"receipt_number"`
	SourceTransferReversal    *string           `json:"source_transfer_reversal"`
	Status                    string            `json:"status"`
	TransferReversal          *string           `json:"transfer_reversal"`
}

var refundEndpoints = []endpoint{
	{
		method: "POST", path: "/v1/refunds", do: (*call).createRefund,
		known: spec{
			"amount": integer, "charge": id, "payment_intent": id, "metadata": metadata, "instructions_email": text,
			"reason":                 oneOf("duplicate", "fraudulent", "requested_by_customer"),
			"refund_application_fee": unsimulated, "reverse_transfer": unsimulated, "customer": unsimulated, "currency": unsimulated, "origin": unsimulated,
		},
	},
	{
		method: "GET", path: "/v1/refunds", do: (*call).listRefunds,
		known: with(paging, spec{"charge": id, "payment_intent": id, "created": created}),
	},
	{method: "GET", path: "/v1/refunds/*", do: (*call).getRefund},
	{method: "POST", path: "/v1/refunds/*", do: (*call).updateRefund, known: spec{"metadata": metadata}},
}

func (c *call) getRefund() (any, *problem) { return result(c.refund()) }

func (c *call) refund() (*refund, *problem) {
	re, ok := c.refunds.byID[c.path]
	if !ok {
		return nil, noSuch("refund", c.path, "id")
	}
	return re, nil
}

func (c *call) updateRefund() (any, *problem) {
	re, p := c.refund()
	if p != nil {
		return nil, p
	}
	re.Metadata = merge(re.Metadata, c.p)
	return re, nil
}

func (c *call) listRefunds() (any, *problem) {
	return listed(c, "/v1/refunds", &c.refunds, func(re *refund) string { return re.ID }, func(re *refund) bool {
		return c.within(re.Created) && c.wants("charge", &re.Charge) && c.wants("payment_intent", re.PaymentIntent)
	})
}

// refundable is the charge to give back (docs.stripe.com/api/refunds/create).
func (c *call) refundable() (*charge, *problem) {
	if c.p.has("charge") {
		ch, ok := c.charges.byID[c.p.text("charge")]
		if !ok {
			return nil, noSuch("charge", c.p.text("charge"), "charge")
		}
		return ch, nil
	}
	if !c.p.has("payment_intent") {
		return nil, invalid("parameter_missing", "payment_intent", "One of the following params should be provided for this request: payment_intent or charge.")
	}
	pi, ok := c.intents.byID[c.p.text("payment_intent")]
	if !ok {
		return nil, noSuch("payment_intent", c.p.text("payment_intent"), "payment_intent")
	}
	if pi.LatestCharge == nil || !pi.in(succeeded, requiresCapture) {
		return nil, refused("", "", "This PaymentIntent (%s) does not have a successful charge to refund.", pi.ID)
	}
	return c.charges.byID[*pi.LatestCharge], nil
}

func (c *call) createRefund() (any, *problem) {
	ch, p := c.refundable()
	if p != nil {
		return nil, p
	}
	left := ch.AmountCaptured - ch.returned
	amount := left
	if c.p.has("amount") {
		amount = c.p.number("amount")
	}
	if p := checkRefund(ch, amount, left); p != nil {
		return nil, p
	}
	re := &refund{
		ID: newID("re"), Object: "refund", Amount: amount, Charge: ch.ID, Created: c.now, Currency: ch.Currency,
		Metadata: merge(nil, c.p), PaymentIntent: ch.PaymentIntent, Reason: c.p.optional("reason"), Status: "succeeded",
	}
	if ch.card.refunds != "" {
		re.Status = ch.card.refunds
	}
	txn := c.book("refund", -amount, ch.Currency, re.ID)
	re.BalanceTransaction = &txn
	c.refunds.put(re.ID, re)
	ch.returned += amount
	ch.tally()
	c.move(Refunded, c.intents.byID[*ch.PaymentIntent], ch.ID, re.ID, amount)
	c.emit("charge.refunded", ch)
	c.emit("refund.created", re)
	return re, nil
}

// checkRefund: an authorisation is canceled, not refunded; a whole refund comes once; no more is given back than was
// captured (seen in test mode: the first and the last have no code; docs.stripe.com/error-codes: charge_already_refunded).
func checkRefund(ch *charge, amount, left int64) *problem {
	switch {
	case !ch.Captured:
		return refused("", "", "This charge (%s) has not been captured, so it can't be refunded. Cancel its PaymentIntent instead.", ch.ID)
	case left == 0:
		return refused("charge_already_refunded", "", "Charge %s has already been refunded.", ch.ID)
	case amount < 1:
		return invalid("parameter_invalid_integer", "amount", "This value must be greater than or equal to 1.")
	case amount > left:
		return refused("", "amount", "Refund amount (%s %s) is greater than unrefunded amount on charge (%s %s)",
			decimal(amount, ch.Currency), ch.Currency, decimal(left, ch.Currency), ch.Currency)
	}
	return nil
}

// SettleRefund ends a refund later: a pending one succeeds or fails, and one that succeeded may yet fail
// (docs.stripe.com/refunds, failed refunds: the amount returns to the balance, and the refund is to be made another way).
// The reason is of docs.stripe.com/api/refunds/object, failure_reason, such as "expired_or_canceled_card".
func (s *Sim) SettleRefund(id string, succeeds bool, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.spaces {
		re, ok := sp.refunds.byID[id]
		if !ok {
			continue
		}
		if !slices.Contains([]string{"pending", "succeeded"}, re.Status) {
			return fmt.Errorf("sim/stripe: settle refund %s: its status is %s", id, re.Status)
		}
		c := s.own(sp)
		if succeeds {
			re.Status = "succeeded"
		} else {
			c.failRefund(re, reason)
		}
		c.emit("charge.refund.updated", re)
		c.emit("refund.updated", re)
		return nil
	}
	return fmt.Errorf("sim/stripe: settle refund %s: there is none", id)
}

func (c *call) failRefund(re *refund, reason string) {
	re.Status, re.FailureReason = "failed", &reason
	txn := c.book("refund_failure", re.Amount, re.Currency, re.ID)
	re.FailureBalanceTransaction = &txn
	ch := c.charges.byID[re.Charge]
	ch.returned -= re.Amount
	ch.tally()
	c.move(RefundFailed, c.intents.byID[*ch.PaymentIntent], ch.ID, re.ID, re.Amount)
}

// own is a call of Stripe's own making, for what happens without a request.
func (s *Sim) own(sp *space) *call { return &call{Sim: s, space: sp, now: s.cfg.Now().Unix()} }
