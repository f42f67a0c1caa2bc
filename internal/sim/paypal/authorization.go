package paypal

import (
	"net/http"
	"time"
)

const (
	// authorizationTime is how long an authorization holds (PayPal's page "Authorization and honor period").
	authorizationTime = 29 * 24 * time.Hour
	// honorTime is how long it is sure, and must not be renewed (the same page; error REAUTHORIZATION_TOO_SOON).
	honorTime = 3 * 24 * time.Hour
)

// authorization is one authorization. Everything in it is guarded by the simulator's lock.
type authorization struct {
	id               string
	order            *order
	unit             *unit
	root             *authorization // the first one, of which this is a renewal; itself where it is the first
	amount           money
	state            string // CREATED, DENIED, PENDING, VOIDED; captures aren't in it
	reason           string
	final            bool // a final capture was made
	lapsed           bool // VOIDED because its time was over
	created, updated time.Time
	expires          time.Time
	captures         []*capture // of the first one: those of its renewals too
}

func (s *Sim) authorize(c *call, o *order, u *unit, outcome Outcome) {
	a := &authorization{order: o, unit: u, amount: u.amount, state: created, reason: outcome.Reason, expires: c.now.Add(authorizationTime)}
	a.root = a
	switch outcome.Status {
	case "PENDING":
		a.state, a.reason = "PENDING", "PENDING_REVIEW"
	case "DECLINED", "FAILED":
		a.state = "DENIED"
	}
	s.hold(c, a)
}

func (s *Sim) hold(c *call, a *authorization) {
	a.id, a.created, a.updated = newID(idAlphabet, 17), c.now, c.now
	s.authorizations[a.id] = a
	a.unit.authorizations = append(a.unit.authorizations, a)
	if a.state == created {
		s.emitAuthorization(a, "PAYMENT.AUTHORIZATION.CREATED")
	}
}

func (s *Sim) emitAuthorization(a *authorization, name string) {
	s.emit(a.order.account, name, "authorization", a.id, a.alone(s.base))
}

// captured is what was taken or may still be, of all renewals together.
func (a *authorization) captured() int64 {
	var sum int64
	for _, c := range a.root.captures {
		if c.state == completed || c.state == "PENDING" {
			sum += c.amount.minor
		}
	}
	return sum
}

func (a *authorization) open() bool {
	return a.state == created && !a.root.final && a.captured() < a.root.amount.minor
}

// status has the captures in it.
func (a *authorization) status() string {
	switch taken := a.captured(); {
	case a.state != created:
		return a.state
	case a.root.final && taken > 0 || taken >= a.root.amount.minor:
		return "CAPTURED"
	case taken > 0:
		return "PARTIALLY_CAPTURED"
	}
	return created
}

// refreshAuthorization voids one whose time is over (page "Webhook event names", PAYMENT.AUTHORIZATION.VOIDED).
func (s *Sim) refreshAuthorization(a *authorization, now time.Time) {
	if now.Before(a.expires) || !a.open() && a.state != "PENDING" {
		return
	}
	a.state, a.lapsed, a.updated = voided, true, a.expires
	if a.captured() == 0 {
		a.order.status, a.order.updated = voided, a.expires
	}
	s.emitAuthorization(a, "PAYMENT.AUTHORIZATION.VOIDED")
}

// json is the authorization as orders show it (Orders v2 specification, authorization).
func (a *authorization) json(base string) object {
	self := base + "/v2/payments/authorizations/" + a.id
	links := []object{link(self, "self", "GET")}
	if a.open() {
		links = append(links, link(self+"/capture", "capture", "POST"), link(self+"/void", "void", "POST"), link(self+"/reauthorize", "reauthorize", "POST"))
	}
	body := object{
		"id": a.id, "status": a.status(), "amount": a.amount.json(), "expiration_time": stamp(a.expires),
		"create_time": stamp(a.created), "update_time": stamp(a.updated),
		"links":             append(links, link(base+"/v2/checkout/orders/"+a.order.id, "up", "GET")),
		"seller_protection": object{"status": "ELIGIBLE", "dispute_categories": []string{"ITEM_NOT_RECEIVED", "UNAUTHORIZED_TRANSACTION"}},
	}
	put(body, "custom_id", a.unit.custom)
	put(body, "invoice_id", a.unit.invoice)
	if a.state == "PENDING" {
		body["status_details"] = object{"reason": a.reason}
	}
	return body
}

// alone is the authorization by itself (Payments v2 specification, authorization-2).
func (a *authorization) alone(base string) object {
	body := a.json(base)
	body["payee"] = a.unit.payee
	body["supplementary_data"] = object{"related_ids": object{"order_id": a.order.id}}
	return body
}

func (s *Sim) findAuthorization(c *call) (*authorization, *problem) {
	a, known := s.authorizations[c.id]
	if !known {
		return nil, notFound()
	}
	if p := owned(c, a.order.account); p != nil {
		return nil, p
	}
	s.refreshAuthorization(a, c.now)
	return a, nil
}

// getAuthorization is authorizations.get of the Payments v2 specification.
func (s *Sim) getAuthorization(c *call) (answer, *problem) {
	a, p := s.findAuthorization(c)
	if p != nil {
		return answer{}, p
	}
	return answer{status: http.StatusOK, body: a.alone(c.base)}, nil
}

// captureAuthorization is authorizations.capture of the Payments v2 specification.
func (s *Sim) captureAuthorization(c *call) (answer, *problem) {
	a, p := s.findAuthorization(c)
	if p != nil {
		return answer{}, p
	}
	amount, p := s.capturable(c, a)
	if p != nil {
		return answer{}, p
	}
	outcome := s.chargeOutcome(c, Outcome{})
	if outcome.Issue != "" {
		p := issue(outcome.Issue)
		p.final = true
		return answer{}, p
	}
	taken := s.takeHeld(c, a, amount, outcome)
	return answer{http.StatusCreated, minimalAnswer(c, taken.alone(c.base)), func(c *call) (answer, *problem) {
		// 201 again: the specification has no 200 here, and the page "Idempotency" shows 201 for a repetition.
		return answer{status: http.StatusCreated, body: minimalAnswer(c, taken.alone(c.base))}, nil
	}}, nil
}

func (s *Sim) takeHeld(c *call, a *authorization, amount money, outcome Outcome) *capture {
	final, _ := c.record()["final_capture"].(bool)
	taken := &capture{order: a.order, unit: a.unit, authorization: a, amount: amount, invoice: text(c.record(), "invoice_id"), final: final}
	if taken.invoice == "" {
		taken.invoice = a.unit.invoice
	}
	a.root.captures = append(a.root.captures, taken)
	a.updated = c.now
	s.take(c, taken, outcome)
	if final && (taken.state == completed || taken.state == "PENDING") {
		a.root.final = true
	}
	return taken
}

// capturable is what a request may take: its amount, or all that is held.
func (s *Sim) capturable(c *call, a *authorization) (money, *problem) {
	switch {
	case a.lapsed:
		return money{}, issue("AUTHORIZATION_EXPIRED")
	case a.state == voided:
		return money{}, issue("AUTHORIZATION_VOIDED")
	case a.state != created:
		return money{}, issue("AUTHORIZATION_DENIED") // Of PENDING too (unverified).
	case !a.open():
		return money{}, issue("AUTHORIZATION_ALREADY_CAPTURED")
	}
	if s.paidBefore(a.order, a.unit, text(c.record(), "invoice_id")) {
		return money{}, issue("DUPLICATE_INVOICE_ID")
	}
	raw := record(c.record(), "amount")
	if raw == nil {
		return money{a.amount.currency, a.amount.minor - a.captured()}, nil
	}
	amount, p := parse(raw, "/amount", false)
	switch {
	case p != nil:
		return money{}, p
	case amount.currency != a.amount.currency:
		return money{}, issueAt("AUTH_CAPTURE_CURRENCY_MISMATCH", "/amount/currency_code")
	case amount.minor > a.root.amount.overLimit()-a.captured():
		return money{}, issueAt("MAX_CAPTURE_AMOUNT_EXCEEDED", "/amount/value")
	}
	return amount, nil
}

// voidAuthorization is authorizations.void of the Payments v2 specification, which keeps no request id.
func (s *Sim) voidAuthorization(c *call) (answer, *problem) {
	a, p := s.findAuthorization(c)
	if p != nil {
		return answer{}, p
	}
	switch {
	case a.root != a:
		return answer{}, issue("CANNOT_BE_VOIDED")
	case a.state == voided, a.state == "DENIED": // Of DENIED unverified.
		return answer{}, issue("PREVIOUSLY_VOIDED")
	case a.state == created && !a.open():
		return answer{}, issue("PREVIOUSLY_CAPTURED")
	}
	s.void(a, c.now)
	if c.whole() {
		return answer{status: http.StatusOK, body: a.alone(c.base)}, nil
	}
	return answer{status: http.StatusNoContent}, nil
}

// void ends an authorization and its renewals, and the order where nothing was captured (Orders v2 specification,
// order_status VOIDED).
func (s *Sim) void(first *authorization, now time.Time) {
	for _, a := range first.unit.authorizations {
		if a.state != voided {
			a.state, a.updated = voided, now
		}
	}
	if first.captured() == 0 {
		first.order.status, first.order.updated = voided, now
	}
	s.emitAuthorization(first, "PAYMENT.AUTHORIZATION.VOIDED")
}

// reauthorize is authorizations.reauthorize of the Payments v2 specification.
func (s *Sim) reauthorize(c *call) (answer, *problem) {
	a, p := s.findAuthorization(c)
	if p != nil {
		return answer{}, p
	}
	amount, p := renewable(c, a)
	if p != nil {
		return answer{}, p
	}
	renewed := &authorization{order: a.order, unit: a.unit, root: a, amount: amount, state: created, expires: a.expires}
	s.hold(c, renewed)
	return answer{http.StatusCreated, minimalAnswer(c, renewed.alone(c.base)), func(c *call) (answer, *problem) {
		return answer{status: http.StatusCreated, body: minimalAnswer(c, renewed.alone(c.base))}, nil
	}}, nil
}

func renewable(c *call, a *authorization) (money, *problem) {
	switch {
	case a.root != a || a.order.kind == "card":
		return money{}, issue("REAUTHORIZATION_NOT_SUPPORTED")
	case a.state != created:
		return money{}, issue("AUTHORIZATION_VOIDED")
	case !a.open():
		return money{}, issue("AUTHORIZATION_ALREADY_CAPTURED")
	case c.now.Before(latestOf(a).created.Add(honorTime)):
		return money{}, issue("REAUTHORIZATION_TOO_SOON")
	}
	raw := record(c.record(), "amount")
	if raw == nil {
		return a.amount, nil
	}
	amount, p := parse(raw, "/amount", false)
	switch {
	case p != nil:
		return money{}, p
	case amount.currency != a.amount.currency:
		return money{}, issueAt("AUTH_CURRENCY_MISMATCH", "/amount/currency_code")
	case amount.minor > a.amount.overLimit():
		return money{}, issueAt("TRANSACTION_REFUSED", "/amount/value") // The specification has no issue for it.
	}
	return amount, nil
}

// latestOf is the last renewal of an authorization, or itself: a unit is authorized once, and the others are renewals.
func latestOf(first *authorization) *authorization {
	all := first.unit.authorizations
	return all[len(all)-1]
}
