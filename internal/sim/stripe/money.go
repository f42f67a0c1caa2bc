package stripe

import (
	"maps"
	"time"
)

// OrderKey is the metadata by which [Sim.Money] knows an order.
const OrderKey = "order_id"

// Kind is which way money moved.
type Kind string

// The kinds.
const (
	Charged      Kind = "charged"       // from the customer: a capture
	Refunded     Kind = "refunded"      // back to the customer, or on its way there
	RefundFailed Kind = "refund_failed" // a refund that came back
)

// Movement is money that moved. Authorisations aren't in the ledger: they move none.
type Movement struct {
	Kind          Kind
	ID            string // of the charge or the refund
	Charge        string
	PaymentIntent string
	Account       string
	Live          bool
	Amount        int64 // in minor units, positive
	Currency      string
	Customer      string
	Fee           int64  // application_fee_amount of a charge
	Destination   string // transfer_data[destination]
	OrderID       string
	Metadata      map[string]string // the PaymentIntent's, when the money moved
	Key           string            // the idempotency key of the request that moved it
	At            time.Time
}

func (c *call) move(kind Kind, pi *paymentIntent, charge, id string, amount int64) {
	m := Movement{
		Kind: kind, ID: id, Charge: charge, PaymentIntent: pi.ID, Account: c.account, Live: c.live, Amount: amount, Currency: pi.Currency,
		OrderID: pi.Metadata[OrderKey], Metadata: maps.Clone(pi.Metadata), Key: c.key, At: c.cfg.Now(),
	}
	if pi.Customer != nil {
		m.Customer = *pi.Customer
	}
	if pi.ApplicationFeeAmount != nil && kind == Charged {
		m.Fee = *pi.ApplicationFeeAmount
	}
	if to, ok := pi.TransferData.(map[string]any); ok {
		m.Destination, _ = to["destination"].(string)
	}
	c.Money.Add(m.OrderID, m)
}

// Charges are the charges of an order, oldest first.
func (s *Sim) Charges(order string) []Movement { return s.moved(order, Charged) }

// Refunds are the refunds of an order, oldest first, those included that failed later.
func (s *Sim) Refunds(order string) []Movement { return s.moved(order, Refunded) }

func (s *Sim) moved(order string, kind Kind) []Movement {
	var out []Movement
	for _, m := range s.Money.All() {
		if m.OrderID == order && m.Kind == kind {
			out = append(out, m)
		}
	}
	return out
}

// Balance is what an order's customer has paid after all, by currency in minor units.
func (s *Sim) Balance(order string) map[string]int64 {
	out := map[string]int64{}
	for _, m := range s.Money.All() {
		if m.OrderID != order {
			continue
		}
		if m.Kind == Refunded {
			out[m.Currency] -= m.Amount
		} else {
			out[m.Currency] += m.Amount
		}
	}
	return out
}

// balanceTransaction is docs.stripe.com/api/balance_transactions/object. Stripe's own fee isn't simulated.
type balanceTransaction struct {
	ID                string   `json:"id"`
	Object            string   `json:"object"`
	Amount            int64    `json:"amount"`
	AvailableOn       int64    `json:"available_on"`
	Created           int64    `json:"created"`
	Currency          string   `json:"currency"`
	Description       *string  `json:"description"`
	ExchangeRate      *float64 `json:"exchange_rate"`
	Fee               int64    `json:"fee"`
	FeeDetails        []string `json:"fee_details"`
	Net               int64    `json:"net"`
	ReportingCategory string   `json:"reporting_category"`
	Source            string   `json:"source"`
	Status            string   `json:"status"`
	Type              string   `json:"type"`
}

// book enters a balance transaction and returns its id.
func (c *call) book(kind string, amount int64, currency, source string) string {
	t := &balanceTransaction{
		ID: newID("txn"), Object: "balance_transaction", Amount: amount, AvailableOn: c.now, Created: c.now, Currency: currency,
		FeeDetails: []string{}, Net: amount, ReportingCategory: kind, Source: source, Status: "available", Type: kind,
	}
	c.balance.put(t.ID, t)
	return t.ID
}
