package paypal

import (
	"net/http"
	"time"
)

// capture is one capture. Everything in it is guarded by the simulator's lock.
type capture struct {
	id               string
	order            *order
	unit             *unit
	authorization    *authorization // nil: the order was captured at once
	amount           money
	state            string // COMPLETED, PENDING, DECLINED, FAILED; refunds aren't in it
	reason, code     string
	invoice          string
	final            bool
	created, updated time.Time
	refunds          []*refund
	requestID        string
}

// capture takes the whole of a unit.
func (s *Sim) capture(c *call, o *order, u *unit, outcome Outcome) *capture {
	taken := &capture{order: o, unit: u, amount: u.amount, invoice: u.invoice, final: true}
	s.take(c, taken, outcome)
	return taken
}

func (s *Sim) take(c *call, taken *capture, outcome Outcome) {
	taken.id, taken.created, taken.updated, taken.requestID = newID(idAlphabet, 17), c.now, c.now, c.requestID()
	taken.state, taken.reason, taken.code = outcome.Status, outcome.Reason, outcome.Code
	switch {
	case taken.state == "":
		taken.state = completed
	case taken.state == "PENDING" && taken.reason == "":
		taken.reason = "PENDING_REVIEW"
	}
	if taken.invoice != "" && (taken.state == completed || taken.state == "PENDING") {
		s.invoices[invoiceKey(taken.unit, taken.invoice)] = taken.order.id
	}
	s.captures[taken.id] = taken
	taken.unit.captures = append(taken.unit.captures, taken)
	s.settled(taken, c.now)
}

// settled enters what moved, and tells of it. DENIED is what the events of declined captures were called before
// DECLINED (page "Webhook event names"); a pending one that ends badly is DENIED, another DECLINED.
func (s *Sim) settled(c *capture, now time.Time) {
	name := "PAYMENT.CAPTURE." + c.state
	switch c.state {
	case completed:
		s.Charges.Add(c.unit.custom, c.movement(now))
	case "FAILED":
		name = "PAYMENT.CAPTURE.DECLINED" // No event of its own is documented.
	}
	s.emitCapture(c, name)
}

func (s *Sim) emitCapture(c *capture, name string) {
	s.emit(c.order.account, name, "capture", c.id, c.alone(s.base))
}

func (c *capture) movement(now time.Time) Movement {
	return Movement{
		ID: c.id, OrderID: c.order.id, CustomID: c.unit.custom, InvoiceID: c.invoice, Payee: c.unit.payeeName(),
		ClientID: c.order.account.ClientID, Live: c.order.account.Live, Currency: c.amount.currency, Minor: c.amount.minor,
		RequestID: c.requestID, At: now,
	}
}

// refunded is what was or is being given back. That pending refunds count is unverified.
func (c *capture) refunded() int64 {
	var sum int64
	for _, r := range c.refunds {
		if r.status == completed || r.status == "PENDING" {
			sum += r.amount.minor
		}
	}
	return sum
}

// status has the refunds in it, so it goes back when one fails.
func (c *capture) status() string {
	switch back := c.refunded(); {
	case c.state != completed || back == 0:
		return c.state
	case back < c.amount.minor:
		return "PARTIALLY_REFUNDED"
	}
	return "REFUNDED"
}

// json is the capture as orders show it (Orders v2 specification, capture).
func (c *capture) json(base string) object {
	self := base + "/v2/payments/captures/" + c.id
	links := []object{link(self, "self", "GET"), link(self+"/refund", "refund", "POST"), link(base+"/v2/checkout/orders/"+c.order.id, "up", "GET")}
	body := object{
		"id": c.id, "status": c.status(), "amount": c.amount.json(), "final_capture": c.final, "links": links,
		"create_time": stamp(c.created), "update_time": stamp(c.updated),
		"seller_protection": object{"status": "ELIGIBLE", "dispute_categories": []string{"ITEM_NOT_RECEIVED", "UNAUTHORIZED_TRANSACTION"}},
	}
	put(body, "custom_id", c.unit.custom)
	put(body, "invoice_id", c.invoice)
	if c.reason != "" {
		body["status_details"] = object{"reason": c.reason}
	}
	if c.code != "" {
		body["processor_response"] = object{"response_code": c.code}
	}
	if c.state == completed {
		fee := c.fee()
		net := money{c.amount.currency, c.amount.minor - fee.minor}
		body["seller_receivable_breakdown"] = object{"gross_amount": c.amount.json(), "paypal_fee": fee.json(), "net_amount": net.json()}
	}
	return body
}

// alone is the capture by itself (Payments v2 specification, capture-2).
func (c *capture) alone(base string) object {
	body := c.json(base)
	body["payee"] = c.unit.payee
	related := object{"order_id": c.order.id}
	if c.authorization != nil {
		related["authorization_id"] = c.authorization.id
	}
	body["supplementary_data"] = object{"related_ids": related}
	return body
}

// fee is the simulator's own: 3 %.
func (c *capture) fee() money { return money{c.amount.currency, c.amount.minor / 100 * 3} }

func put(o object, name, value string) {
	if value != "" {
		o[name] = value
	}
}

// getCapture is captures.get of the Payments v2 specification.
func (s *Sim) getCapture(c *call) (answer, *problem) {
	found, p := s.findCapture(c)
	if p != nil {
		return answer{}, p
	}
	return answer{status: http.StatusOK, body: found.alone(c.base)}, nil
}

func (s *Sim) findCapture(c *call) (*capture, *problem) {
	found, known := s.captures[c.id]
	if !known {
		return nil, notFound()
	}
	return found, owned(c, found.order.account)
}

// owned is 404 for what belongs to the other environment, and 403 for what belongs to another caller of the same one.
func owned(c *call, owner Account) *problem {
	switch {
	case owner.Live != c.account.Live:
		return notFound()
	case owner.ClientID != c.account.ClientID:
		return forbidden()
	}
	return nil
}

// minimalAnswer is the id, the status and the links of an answer, unless the caller wants the whole.
func minimalAnswer(c *call, whole object) object {
	if c.whole() {
		return whole
	}
	return object{"id": whole["id"], "status": whole["status"], "links": whole["links"]}
}
