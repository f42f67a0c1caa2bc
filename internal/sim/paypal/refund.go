package paypal

import (
	"net/http"
	"time"
)

// refund is one refund. Everything in it is guarded by the simulator's lock.
type refund struct {
	id               string
	capture          *capture
	amount           money
	status           string // COMPLETED, PENDING, FAILED, CANCELLED
	custom, invoice  string
	note             string
	created, updated time.Time
	requestID        string
}

// refundTime is how long a capture can be refunded: 180 days (PayPal's page "Issue a refund").
const refundTime = 180 * 24 * time.Hour

// refundCapture is captures.refund of the Payments v2 specification.
func (s *Sim) refundCapture(c *call) (answer, *problem) {
	from, p := s.findCapture(c)
	if p != nil {
		return answer{}, p
	}
	amount, p := s.refundable(c, from)
	if p != nil {
		return answer{}, p
	}
	outcome := s.refundOutcome(c)
	if outcome.Issue != "" {
		p := issue(outcome.Issue)
		p.final = true
		return answer{}, p
	}
	r := s.giveBack(c, from, amount, outcome)
	return answer{http.StatusCreated, minimalAnswer(c, r.json(c.base)), func(c *call) (answer, *problem) {
		return answer{status: http.StatusCreated, body: minimalAnswer(c, r.json(c.base))}, nil
	}}, nil
}

// refundable is what a request may give back: its amount, or all that is left (the page says that an empty body is a
// full refund; that it is the rest after partial ones is unverified).
func (s *Sim) refundable(c *call, from *capture) (money, *problem) {
	left := money{from.amount.currency, from.amount.minor - from.refunded()}
	invoice := text(c.record(), "invoice_id")
	switch {
	case from.state == "PENDING":
		return money{}, issue("PENDING_CAPTURE")
	case from.state != completed:
		return money{}, issue("REFUND_NOT_ALLOWED")
	case left.minor == 0:
		return money{}, issue("CAPTURE_FULLY_REFUNDED")
	case !c.now.Before(from.created.Add(refundTime)):
		return money{}, issue("REFUND_TIME_LIMIT_EXCEEDED")
	case invoice != "" && s.refundInvoices[invoiceKey(from.unit, invoice)]:
		return money{}, issue("DUPLICATE_INVOICE_ID")
	}
	raw := record(c.record(), "amount")
	if raw == nil {
		return left, nil
	}
	amount, p := parse(raw, "/amount", false)
	switch {
	case p != nil:
		return money{}, p
	case amount.currency != left.currency:
		return money{}, issueAt("REFUND_CAPTURE_CURRENCY_MISMATCH", "/amount/currency_code")
	case amount.minor > left.minor:
		return money{}, issueAt("REFUND_AMOUNT_EXCEEDED", "/amount/value")
	}
	return amount, nil
}

func (s *Sim) giveBack(c *call, from *capture, amount money, outcome RefundOutcome) *refund {
	body := c.record()
	r := &refund{
		id: newID(idAlphabet, 17), capture: from, amount: amount, status: outcome.Status, created: c.now, updated: c.now,
		custom: text(body, "custom_id"), invoice: text(body, "invoice_id"), note: text(body, "note_to_payer"), requestID: c.requestID(),
	}
	if r.status == "" {
		r.status = completed
	}
	if r.invoice != "" {
		s.refundInvoices[invoiceKey(from.unit, r.invoice)] = true
	}
	s.refunds[r.id] = r
	from.refunds = append(from.refunds, r)
	from.updated = c.now
	s.refundSettled(r, c.now)
	return r
}

// refundSettled enters a refund that moved money, and tells of it. PAYMENT.CAPTURE.REFUNDED carries the refund (page
// "Webhook event names" and its samples); PAYMENT.REFUND.PENDING, FAILED and CANCELLED are unverified.
func (s *Sim) refundSettled(r *refund, now time.Time) {
	name := "PAYMENT.REFUND." + r.status
	if r.status == completed {
		name = "PAYMENT.CAPTURE.REFUNDED"
		s.Refunds.Add(r.capture.unit.custom, r.movement(now))
	}
	s.emit(r.capture.order.account, name, "refund", r.id, r.json(s.base))
}

func (r *refund) movement(now time.Time) Movement {
	m := r.capture.movement(now)
	m.ID, m.CaptureID, m.Minor, m.RequestID, m.InvoiceID = r.id, r.capture.id, r.amount.minor, r.requestID, r.invoice
	return m
}

func (r *refund) json(base string) object {
	self := base + "/v2/payments/refunds/" + r.id
	body := object{
		"id": r.id, "status": r.status, "amount": r.amount.json(), "create_time": stamp(r.created), "update_time": stamp(r.updated),
		"links": []object{link(self, "self", "GET"), link(base+"/v2/payments/captures/"+r.capture.id, "up", "GET")},
		"seller_payable_breakdown": object{
			"gross_amount": r.amount.json(), "net_amount": r.amount.json(), "paypal_fee": money{r.amount.currency, 0}.json(),
			"total_refunded_amount": money{r.amount.currency, r.capture.refunded()}.json(),
		},
	}
	put(body, "custom_id", r.custom)
	put(body, "invoice_id", r.invoice)
	put(body, "note_to_payer", r.note)
	if r.status == "PENDING" || r.status == "FAILED" {
		body["status_details"] = object{"reason": "ECHECK"} // The only reason that the specification knows.
	}
	return body
}

// getRefund is refunds.get of the Payments v2 specification.
func (s *Sim) getRefund(c *call) (answer, *problem) {
	r, known := s.refunds[c.id]
	if !known {
		return answer{}, notFound()
	}
	if p := owned(c, r.capture.order.account); p != nil {
		return answer{}, p
	}
	return answer{status: http.StatusOK, body: r.json(c.base)}, nil
}
