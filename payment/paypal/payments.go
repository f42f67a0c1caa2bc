package paypal

import (
	"time"

	"github.com/smilefactory/integrations/payment"
)

// payments is payment_collection of the Orders v2 specification.
type payments struct {
	Authorizations []authorization `json:"authorizations"`
	Captures       []capture       `json:"captures"`
	Refunds        []refund        `json:"refunds"`
}

// authorization is money that is held (Orders v2 and Payments v2 specifications).
type authorization struct {
	ID        string    `json:"id"`
	Status    string    `json:"status"`
	Details   details   `json:"status_details"`
	Expires   time.Time `json:"expiration_time"`
	Processor processor `json:"processor_response"`
}

// capture is money that was taken, or is to be (likewise).
type capture struct {
	ID        string    `json:"id"`
	Status    string    `json:"status"`
	Details   details   `json:"status_details"`
	Amount    money     `json:"amount"`
	Processor processor `json:"processor_response"`
}

type details struct {
	Reason string `json:"reason"`
}

// processor is processor_response; its codes come of cards.
type processor struct {
	Code string `json:"response_code"`
}

func (p *payments) empty() bool { return p == nil || len(p.Captures)+len(p.Authorizations) == 0 }

// into sets how a payment stands by what was captured and held, whatever the order
// says of itself: a COMPLETED one may have a capture that is pending or was declined.
func (p *payments) into(to *payment.Payment) error {
	if p.empty() {
		return uncertain("a completed order without a payment")
	}
	for _, c := range p.Captures {
		if err := c.into(to); err != nil {
			return err
		}
	}
	for _, r := range p.Refunds {
		if err := r.into(to); err != nil {
			return err
		}
	}
	if len(p.Authorizations) == 0 {
		return nil
	}
	last := &p.Authorizations[len(p.Authorizations)-1] // a renewed one comes after the first
	if !ids.MatchString(last.ID) {
		return uncertain("an authorization can't be read")
	}
	to.AuthorizationID = last.ID
	if to.State == payment.Paid || to.State == payment.Processing {
		return nil
	}
	return last.into(to)
}

// into adds a capture (Payments v2 specification, capture_status). One that was paid
// counts for more than one that is pending, and that for more than a declined one.
func (c *capture) into(to *payment.Payment) error {
	amount, ok := c.Amount.read()
	if !ok || !ids.MatchString(c.ID) {
		return uncertain("a capture can't be read")
	}
	switch c.Status {
	case "COMPLETED", "PARTIALLY_REFUNDED", "REFUNDED":
		sum, err := to.Captured.Add(amount)
		if err != nil {
			return uncertain("the captures can't be summed up: %w", err)
		}
		to.Captured, to.State, to.ChargeID, to.Reason, to.Decline = sum, payment.Paid, c.ID, "", nil
	case "PENDING":
		if to.State != payment.Paid {
			to.State, to.ChargeID, to.Reason, to.Decline = payment.Processing, c.ID, name(c.Details.Reason), nil
		}
	case "DECLINED", "FAILED":
		if to.State == "" {
			to.State, to.ChargeID, to.Decline = payment.Refused, c.ID, declined(c.Processor.Code, c.Details.Reason, c.Status)
		}
	default:
		return uncertain("a capture of status %q", name(c.Status))
	}
	return nil
}

// into sets how held money stands (Payments v2 specification, authorization_status).
func (z *authorization) into(to *payment.Payment) error {
	switch z.Status {
	case "CREATED", "PARTIALLY_CAPTURED":
		to.State, to.HeldUntil, to.Decline = payment.Held, z.Expires, nil
	case "PENDING":
		to.State, to.Reason = payment.Processing, name(z.Details.Reason)
	case "DENIED":
		to.State, to.Decline = payment.Refused, declined(z.Processor.Code, z.Details.Reason, z.Status)
	case "VOIDED", "EXPIRED": // the latter isn't in the specification
		to.State, to.Reason, to.Decline = payment.Ended, z.Status, nil
	case "CAPTURED":
		if to.State == "" {
			return uncertain("a captured authorization without a capture")
		}
	default:
		return uncertain("an authorization of status %q", name(z.Status))
	}
	return nil
}
