package paypal

import (
	"maps"
	"time"
)

// States of an order (Orders v2 specification, order_status). SAVED isn't simulated.
const (
	created             = "CREATED"
	payerActionRequired = "PAYER_ACTION_REQUIRED"
	approved            = "APPROVED"
	completed           = "COMPLETED"
	voided              = "VOIDED"
	expired             = "EXPIRED" // The simulator's own: the order can't be found any more.
)

// approvalTime is what the merchant has to send the buyer to PayPal, and then the buyer to approve and the merchant to
// capture (Orders v2 specification, order.links; page "Handle uncaptured payments").
const approvalTime = 3 * time.Hour

// order is one order. Everything in it is guarded by the simulator's lock.
type order struct {
	id               string
	account          Account
	intent, status   string
	created, updated time.Time
	redirected       time.Time // when the buyer came to PayPal; zero before
	units            []*unit
	kind             string  // paypal, venmo or card, empty as long as the payment method isn't known
	preferred        string  // the kind that the order was created with
	funding          Outcome // how charging what the buyer chose ends
	token            *paymentToken
	store            object // the attributes of the source that ask for vaulting; nil: none do
	stored           *paymentToken
	returnURL        string
	cancelURL        string
	payerAction      bool // the link for the buyer is called payer-action and not approve
}

// unit is one purchase unit.
type unit struct {
	raw                        object // as it was sent
	amount                     money
	reference, custom, invoice string
	payee                      object
	captures                   []*capture
	authorizations             []*authorization
}

// payeeName is the merchant, or the email address where no merchant is named.
func (u *unit) payeeName() string {
	if id := text(u.payee, "merchant_id"); id != "" {
		return id
	}
	return text(u.payee, "email_address")
}

func (o *order) deadline() time.Time {
	if o.redirected.IsZero() {
		return o.created.Add(approvalTime)
	}
	return o.redirected.Add(approvalTime)
}

// refreshOrder lets time pass for an order: one that nobody approved is gone, one that nobody captured is voided and its
// approval reversed (page "Handle uncaptured payments", which says so of payment methods other than the wallet;
// unverified for the wallet).
func (s *Sim) refreshOrder(o *order, now time.Time) {
	if now.Before(o.deadline()) {
		return
	}
	switch o.status {
	case created, payerActionRequired:
		o.status = expired
	case approved:
		o.status, o.updated = voided, o.deadline()
		s.emit(o.account, "CHECKOUT.PAYMENT-APPROVAL.REVERSED", "checkout-order", o.id, o.whole(s.base))
	}
}

// whole is the order as a whole, minimal what Prefer: return=minimal promises.
func (o *order) whole(base string) object {
	units := make([]object, len(o.units))
	for i, u := range o.units {
		units[i] = u.json(base)
	}
	body := object{
		"id": o.id, "intent": o.intent, "status": o.status, "purchase_units": units, "create_time": stamp(o.created), "links": o.links(base),
	}
	if !o.updated.Equal(o.created) {
		body["update_time"] = stamp(o.updated)
	}
	if source := o.source(); source != nil {
		body["payment_source"] = source
	}
	return body
}

func (o *order) minimal(base string) object {
	return object{"id": o.id, "status": o.status, "links": o.links(base)}
}

func (o *order) answer(c *call) object {
	if c.whole() {
		return o.whole(c.base)
	}
	return o.minimal(c.base)
}

// links are those that fit the state (page "Create order", sample responses).
func (o *order) links(base string) []object {
	self := base + "/v2/checkout/orders/" + o.id
	out := []object{link(self, "self", "GET")}
	act := link(self+"/capture", "capture", "POST")
	if o.intent == "AUTHORIZE" {
		act = link(self+"/authorize", "authorize", "POST")
	}
	switch {
	case o.status == payerActionRequired:
		out = append(out, link(o.approveURL(base), "payer-action", "GET"))
	case o.status == created && o.payerAction:
		out = append(out, link(o.approveURL(base), "payer-action", "GET"), link(self, "update", "PATCH"), act)
	case o.status == created:
		out = append(out, link(o.approveURL(base), "approve", "GET"), link(self, "update", "PATCH"), act)
	case o.status == approved:
		out = append(out, link(self, "update", "PATCH"), act)
	}
	return out
}

func (o *order) approveURL(base string) string { return base + approvePath + "?token=" + o.id }

// source is payment_source_response, as far as the buyer is known.
func (o *order) source() object {
	if o.kind == "" {
		return nil
	}
	body := object{}
	if o.status == approved || o.status == completed {
		body = instrument(o.kind)
		if o.stored != nil {
			body["attributes"] = object{"vault": object{
				"id": o.stored.id, "status": "VAULTED", "customer": object{"id": o.stored.customer},
			}}
		}
	}
	return object{o.kind: body}
}

// payerID is the buyer's account: there is one buyer.
const payerID = "BUYER23456789"

// instrument is what an answer shows of a payment method.
func instrument(kind string) object {
	switch kind {
	case "card":
		return object{"last_digits": "1111", "expiry": "2035-02", "brand": "VISA", "type": "CREDIT"}
	case "venmo":
		return object{"account_id": payerID, "user_name": "buyer"}
	}
	return object{
		"account_id": payerID, "account_status": "VERIFIED", "email_address": "buyer@example.com",
		"name": object{"given_name": "John", "surname": "Doe"}, "address": object{"country_code": "US"},
	}
}

func (u *unit) json(base string) object {
	body := maps.Clone(u.raw)
	amount := maps.Clone(record(u.raw, "amount"))
	amount["value"] = u.amount.value() // "10" comes back as "10.00".
	body["amount"], body["reference_id"], body["payee"] = amount, u.reference, u.payee
	payments := object{}
	if len(u.captures) > 0 {
		captures := make([]object, len(u.captures))
		for i, c := range u.captures {
			captures[i] = c.json(base)
		}
		payments["captures"] = captures
	}
	if len(u.authorizations) > 0 {
		authorizations := make([]object, len(u.authorizations))
		for i, a := range u.authorizations {
			authorizations[i] = a.json(base)
		}
		payments["authorizations"] = authorizations
	}
	if refunds := u.refunds(base); len(refunds) > 0 {
		payments["refunds"] = refunds
	}
	if len(payments) > 0 {
		body["payments"] = payments
	}
	return body
}

func (u *unit) refunds(base string) []object {
	var out []object
	for _, c := range u.captures {
		for _, r := range c.refunds {
			out = append(out, r.json(base))
		}
	}
	return out
}
