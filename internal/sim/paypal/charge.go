package paypal

import (
	"net/http"
	"slices"
)

// getOrder is orders.get of the Orders v2 specification; it is always the whole.
func (s *Sim) getOrder(c *call) (answer, *problem) {
	o, p := s.order(c)
	if p != nil {
		return answer{}, p
	}
	return answer{status: http.StatusOK, body: o.whole(c.base)}, nil
}

// order finds an order of the caller's. Another caller's is 404 where the specification has no 403 for the operation,
// else 403; of the other environment's nothing is known.
func (s *Sim) order(c *call) (*order, *problem) {
	o, known := s.orders[c.id]
	if !known || o.account.Live != c.account.Live {
		return nil, notFound()
	}
	if o.account.ClientID != c.account.ClientID {
		if c.op.id == "orders.get" || c.op.id == "orders.patch" {
			return nil, notFound()
		}
		return nil, forbidden()
	}
	s.refreshOrder(o, c.now)
	if o.status == expired {
		// ORDER_EXPIRED is in the specification for orders.authorize alone; that the others don't find it is unverified.
		if c.op.id == "orders.authorize" {
			return nil, issue("ORDER_EXPIRED")
		}
		return nil, notFound()
	}
	return o, nil
}

// captureOrder is orders.capture of the Orders v2 specification.
func (s *Sim) captureOrder(c *call) (answer, *problem) { return s.complete(c, "CAPTURE") }

// authorizeOrder is orders.authorize of the Orders v2 specification.
func (s *Sim) authorizeOrder(c *call) (answer, *problem) { return s.complete(c, "AUTHORIZE") }

func (s *Sim) complete(c *call, intent string) (answer, *problem) {
	o, p := s.order(c)
	if p != nil {
		return answer{}, p
	}
	if p := o.completable(intent); p != nil {
		return answer{}, p
	}
	before := *o
	if p := s.choose(c, o, record(c.record(), "payment_source")); p != nil {
		*o = before
		return answer{}, p
	}
	if o.token == nil && o.status != approved {
		*o = before
		return answer{}, issue("ORDER_NOT_APPROVED")
	}
	if p := s.charge(c, o); p != nil {
		o.token, o.kind = before.token, before.kind
		return answer{}, p
	}
	return answer{http.StatusCreated, o.answer(c), s.latest(o)}, nil
}

// completable is whether an order can still be paid. The issues are those of the Orders v2 specification for capture and
// authorize; ACTION_DOES_NOT_MATCH_INTENT and ORDER_COMPLETED_OR_VOIDED are there for authorize, and unverified for
// capture.
func (o *order) completable(intent string) *problem {
	switch {
	case o.intent != intent:
		return issue("ACTION_DOES_NOT_MATCH_INTENT")
	case o.status == completed && intent == "CAPTURE":
		return issue("ORDER_ALREADY_CAPTURED")
	case o.status == completed:
		return issue("ORDER_ALREADY_AUTHORIZED")
	case o.status == voided:
		return issue("ORDER_COMPLETED_OR_VOIDED")
	}
	return nil
}

// charge captures or authorizes every unit of an order with its saved method or what the buyer chose.
func (s *Sim) charge(c *call, o *order) *problem {
	if p := s.checkInvoices(o); p != nil {
		return p
	}
	method := o.funding
	if o.token != nil {
		method = o.token.outcome
	}
	outcome := s.chargeOutcome(c, method)
	if outcome.Issue != "" {
		return o.declined(c, outcome.Issue)
	}
	o.status, o.updated = completed, c.now
	for _, u := range o.units {
		if o.intent == "CAPTURE" {
			s.capture(c, o, u, outcome)
		} else {
			s.authorize(c, o, u, outcome)
		}
	}
	if o.store != nil && outcome.Status == "" {
		o.stored = s.save(o.account, o.kind, text(record(o.store, "customer"), "id"), Outcome{})
	}
	s.emit(o.account, "CHECKOUT.ORDER.COMPLETED", "checkout-order", o.id, o.whole(c.base))
	return nil
}

// declined is a charge that was refused. Nothing moved. The order stays, and where another choice of the buyer's could
// help, a link goes there: "redirect" as INSTRUMENT_DECLINED was seen to have it, and "payer-action" as
// PAYER_ACTION_REQUIRED has it (Orders v2 specification).
func (o *order) declined(c *call, name string) *problem {
	p := issue(name)
	p.final = true
	if !slices.Contains(buyerHelps, name) {
		return p
	}
	p.links = []object{link(o.approveURL(c.base), "payer-action", "GET")}
	if name == "INSTRUMENT_DECLINED" {
		p.links = append(p.links, link(o.approveURL(c.base), "redirect", "GET"))
	}
	if name == "PAYER_ACTION_REQUIRED" {
		o.status, o.updated = payerActionRequired, c.now
	}
	return p
}

var buyerHelps = []string{"INSTRUMENT_DECLINED", "PAYER_ACTION_REQUIRED", "REDIRECT_PAYER_FOR_ALTERNATE_FUNDING"}

// checkInvoices refuses an invoice id that another order of the payee was paid with (Orders v2 specification,
// DUPLICATE_INVOICE_ID).
func (s *Sim) checkInvoices(o *order) *problem {
	for _, u := range o.units {
		if s.paidBefore(o, u, u.invoice) {
			return issue("DUPLICATE_INVOICE_ID")
		}
	}
	return nil
}

// paidBefore is whether another order of the payee was paid, or is being paid, with an invoice id. One order may be
// captured more than once.
func (s *Sim) paidBefore(o *order, u *unit, invoice string) bool {
	paid := s.invoices[invoiceKey(u, invoice)]
	return invoice != "" && paid != "" && paid != o.id && !o.account.ReuseInvoices
}

func invoiceKey(u *unit, invoice string) string { return u.payeeName() + "\n" + invoice }
