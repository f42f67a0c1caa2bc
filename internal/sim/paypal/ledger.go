package paypal

import "time"

// Movement is money that moved: a capture or a refund.
type Movement struct {
	ID        string // of the capture or the refund
	CaptureID string // of a refund: the capture that it gives back
	OrderID   string // PayPal's
	CustomID  string // the merchant's own, from the purchase unit
	InvoiceID string
	Payee     string // merchant id, or the email address where the order names no merchant
	ClientID  string // whose credentials asked for it
	Live      bool
	Currency  string
	Minor     int64 // in the currency's minor unit as PayPal counts: HUF, JPY and TWD have none
	RequestID string
	At        time.Time // when the money moved
}

// Balance is what happened under one custom_id in one currency, in minor units.
type Balance struct {
	Charges, Refunds   int   // those that moved money
	Charged, Refunded  int64 // by them
	Pending            int   // captures that may still move money
	PendingAmount      int64
	PendingRefunds     int
	PendingRefunded    int64
	Authorized         int64 // held by open authorizations, less what was captured
	Declined           int   // captures that were declined or failed
	OpenAuthorizations int
}

// Balance is what happened under a custom_id, by currency.
func (s *Sim) Balance(customID string) map[string]Balance {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]Balance{}
	add := func(currency string, change func(*Balance)) {
		b := out[currency]
		change(&b)
		out[currency] = b
	}
	for _, c := range s.captures {
		if c.unit.custom == customID {
			add(c.amount.currency, c.count)
		}
	}
	for _, a := range s.authorizations {
		s.refreshAuthorization(a, s.now())
		if a.unit.custom == customID && a.open() && a.root == a {
			add(a.amount.currency, func(b *Balance) {
				b.OpenAuthorizations++
				b.Authorized += max(0, a.amount.minor-a.captured())
			})
		}
	}
	return out
}

func (c *capture) count(b *Balance) {
	switch c.state {
	case "COMPLETED":
		b.Charges++
		b.Charged += c.amount.minor
	case "PENDING":
		b.Pending++
		b.PendingAmount += c.amount.minor
	default:
		b.Declined++
	}
	for _, r := range c.refunds {
		switch r.status {
		case "COMPLETED":
			b.Refunds++
			b.Refunded += r.amount.minor
		case "PENDING":
			b.PendingRefunds++
			b.PendingRefunded += r.amount.minor
		}
	}
}
