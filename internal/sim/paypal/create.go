package paypal

import (
	"maps"
	"math"
	"net/http"
	"strconv"
)

// createOrder is orders.create of the Orders v2 specification. With a saved payment method in payment_source it charges
// at once: there is no second step.
func (s *Sim) createOrder(c *call) (answer, *problem) {
	body := c.record()
	o := &order{id: newID(idAlphabet, 17), account: c.account, intent: text(body, "intent"), status: created, created: c.now, updated: c.now}
	if p := o.read(body); p != nil {
		return answer{}, p
	}
	source := record(body, "payment_source")
	if source != nil && c.requestID() == "" { // Orders v2 specification, schema 400.
		return answer{}, refuse(http.StatusBadRequest, detail{Issue: "PAYPAL_REQUEST_ID_REQUIRED", Description: descriptions["PAYPAL_REQUEST_ID_REQUIRED"]})
	}
	o.takeURLs(record(body, "application_context"))
	if p := s.choose(c, o, source); p != nil {
		return answer{}, p
	}
	o.preferred = o.kind
	if o.token == nil && o.kind != "" {
		o.status, o.payerAction = payerActionRequired, true
	}
	if o.token != nil {
		if p := s.chargeAtOnce(c, o); p != nil {
			return answer{}, p
		}
	}
	s.orders[o.id] = o
	return answer{http.StatusCreated, o.answer(c), s.latest(o)}, nil
}

// chargeAtOnce is the one step. Of a refusal comes no order (unverified), but where the buyer must act there is one that
// waits (page "3D Secure": status PAYER_ACTION_REQUIRED with a link).
func (s *Sim) chargeAtOnce(c *call, o *order) *problem {
	p := s.charge(c, o)
	if p == nil {
		return nil
	}
	if o.status != payerActionRequired {
		p.links = nil
		return p
	}
	o.token, o.payerAction = nil, true
	return nil
}

// latest is the state of an order at the time of a repeated request, with status 200 (Orders v2 specification, response
// 200 of create, capture and authorize).
func (s *Sim) latest(o *order) func(*call) (answer, *problem) {
	return func(c *call) (answer, *problem) {
		s.refreshOrder(o, c.now)
		if o.status == expired { // As for orders.get (unverified).
			return answer{}, notFound()
		}
		return answer{status: http.StatusOK, body: o.answer(c)}, nil
	}
}

// takeURLs takes where the buyer goes afterwards from application_context or experience_context.
func (o *order) takeURLs(context object) {
	if u := text(context, "return_url"); u != "" {
		o.returnURL = u
	}
	if u := text(context, "cancel_url"); u != "" {
		o.cancelURL = u
	}
}

// read takes the purchase units and checks what their form doesn't say (Orders v2 specification, schema 422).
func (o *order) read(body object) *problem {
	switch text(body, "processing_instruction") {
	case "", "NO_INSTRUCTION":
	default:
		return issueAt("UNSUPPORTED_PROCESSING_INSTRUCTION", "/processing_instruction")
	}
	units := list(body, "purchase_units")
	if o.intent == "AUTHORIZE" && len(units) > 1 {
		return issueAt("UNSUPPORTED_INTENT", "/intent")
	}
	seen := map[string]bool{}
	for i, raw := range units {
		field := "/purchase_units/" + strconv.Itoa(i)
		u, p := readUnit(raw, field, o.account)
		if p != nil {
			return p
		}
		if p := o.fits(u, field, seen, len(units) > 1); p != nil {
			return p
		}
		o.units = append(o.units, u)
	}
	return nil
}

// fits is whether a unit goes with those before it.
func (o *order) fits(u *unit, field string, seen map[string]bool, several bool) *problem {
	switch {
	case several && text(u.raw, "reference_id") == "":
		return issueAt("REFERENCE_ID_REQUIRED", field+"/reference_id")
	case seen[u.reference]:
		return issueAt("DUPLICATE_REFERENCE_ID", field+"/reference_id")
	case len(o.units) > 0 && o.units[0].amount.currency != u.amount.currency:
		return issueAt("MULTI_CURRENCY_ORDER", field+"/amount/currency_code")
	}
	seen[u.reference] = true
	return nil
}

func readUnit(raw object, field string, account Account) (*unit, *problem) {
	u := &unit{raw: maps.Clone(raw), reference: text(raw, "reference_id"), custom: text(raw, "custom_id"), invoice: text(raw, "invoice_id")}
	if u.reference == "" {
		u.reference = "default" // Orders v2 specification, orders.patch.
	}
	var p *problem
	if u.amount, p = readAmount(raw, field); p != nil {
		return nil, p
	}
	u.payee = record(raw, "payee")
	if u.payee != nil && u.payeeName() == "" {
		return nil, issueAt("PAYEE_ACCOUNT_INVALID", field+"/payee")
	}
	if u.payee == nil { // Orders v2 specification, payee: the API caller where it's omitted.
		u.payee = object{"merchant_id": account.MerchantID, "email_address": account.Email}
	}
	return u, nil
}

// readAmount checks the amount against its breakdown and the items.
func readAmount(raw object, field string) (money, *problem) {
	amount := record(raw, "amount")
	total, p := parse(amount, field+"/amount", false)
	if p != nil {
		return money{}, p
	}
	breakdown := record(amount, "breakdown")
	items, p := itemTotal(list(raw, "items"), field, total.currency)
	if p != nil {
		return money{}, p
	}
	if raw["items"] != nil && breakdown["item_total"] == nil {
		return money{}, issueAt("ITEM_TOTAL_REQUIRED", field+"/amount/breakdown/item_total")
	}
	if breakdown == nil {
		return total, nil
	}
	sum, itemSum, p := breakdownSum(breakdown, field+"/amount/breakdown", total.currency)
	switch {
	case p != nil:
		return money{}, p
	case raw["items"] != nil && itemSum != items:
		return money{}, issueAt("ITEM_TOTAL_MISMATCH", field+"/amount/breakdown/item_total")
	case sum != total.minor:
		return money{}, issueAt("AMOUNT_MISMATCH", field+"/amount/value")
	}
	return total, nil
}

// breakdownSum is item_total + tax_total + shipping + handling + insurance - shipping_discount - discount, and the
// item_total alone.
func breakdownSum(breakdown object, field, currency string) (sum, items int64, p *problem) {
	for name := range breakdown {
		part, p := parse(record(breakdown, name), field+"/"+name, true)
		switch {
		case p != nil:
			return 0, 0, p
		case part.currency != currency:
			return 0, 0, issueAt("MULTI_CURRENCY_ORDER", field+"/"+name+"/currency_code")
		case name == "discount" || name == "shipping_discount":
			part.minor = -part.minor
		case name == "item_total":
			items = part.minor
		}
		sum += part.minor // Seven amounts of at most 10^17 can't overflow.
	}
	return sum, items, nil
}

func itemTotal(items []object, field, currency string) (int64, *problem) {
	var sum int64
	for i, item := range items {
		at := field + "/items/" + strconv.Itoa(i)
		price, p := parse(record(item, "unit_amount"), at+"/unit_amount", true)
		if p != nil {
			return 0, p
		}
		if price.currency != currency {
			return 0, issueAt("MULTI_CURRENCY_ORDER", at+"/unit_amount/currency_code")
		}
		n, err := strconv.ParseInt(text(item, "quantity"), 10, 64)
		if err != nil || price.minor != 0 && n > (math.MaxInt64-sum)/price.minor {
			return 0, issueAt("MAX_VALUE_EXCEEDED", at+"/quantity")
		}
		sum += n * price.minor
	}
	return sum, nil
}

// choose takes the payment method of a request into the order: a saved one, which can be charged, or the kind that the
// buyer will come with.
func (s *Sim) choose(c *call, o *order, source object) *problem {
	if source == nil {
		return nil
	}
	kind, method, p := theOne(source)
	if p != nil {
		return p
	}
	if o.preferred != "" && kind != o.preferred && kind != "token" {
		return issueAt("PREFERRED_PAYMENT_SOURCE_MISMATCH", "/payment_source")
	}
	o.takeURLs(record(method, "experience_context"))
	if p := o.takeVaulting(kind, method); p != nil {
		return p
	}
	id := text(method, "vault_id")
	if kind == "token" {
		id = text(method, "id")
	}
	if id != "" {
		return s.pay(c, o, kind, id)
	}
	if kind == "card" { // A card's number needs PCI DSS SAQ D, which no caller of ours has.
		return cardRefusal(method)
	}
	o.kind = kind
	return nil
}

func theOne(source object) (kind string, method object, p *problem) {
	switch len(source) { // Orders v2 specification, orders.confirm-422.
	case 0:
		return "", nil, issueAt("NO_PAYMENT_SOURCE_PROVIDED", "/payment_source")
	case 1:
	default:
		return "", nil, issueAt("ONLY_ONE_PAYMENT_SOURCE_ALLOWED", "/payment_source")
	}
	for kind = range source {
		method = record(source, kind)
	}
	return kind, method, nil
}

func cardRefusal(card object) *problem {
	if text(card, "number") != "" {
		return issueAt("NOT_ENABLED_FOR_CARD_PROCESSING", "/payment_source/card")
	}
	return issueAt("CARD_NUMBER_REQUIRED", "/payment_source/card/number")
}

// takeVaulting notes that the method is to be saved when the charge succeeds (Orders v2 specification, store_in_vault,
// RETURN_URL_REQUIRED, CANCEL_URL_REQUIRED).
func (o *order) takeVaulting(kind string, method object) *problem {
	attributes := record(method, "attributes")
	if text(record(attributes, "vault"), "store_in_vault") == "" {
		return nil
	}
	switch {
	case o.returnURL == "":
		return issueAt("RETURN_URL_REQUIRED", "/payment_source/"+kind+"/experience_context/return_url")
	case o.cancelURL == "":
		return issueAt("CANCEL_URL_REQUIRED", "/payment_source/"+kind+"/experience_context/cancel_url")
	}
	o.store = attributes
	return nil
}

// pay sets a saved payment method, which belongs to the merchant that saved it.
func (s *Sim) pay(c *call, o *order, kind, id string) *problem {
	t, known := s.vault[id]
	switch {
	case !known || t.account.ClientID != c.account.ClientID:
		return issueAt("TOKEN_ID_NOT_FOUND", "/payment_source/"+kind)
	case kind != "token" && kind != t.kind:
		return issueAt("MISMATCHED_VAULT_ID_TO_PAYMENT_SOURCE", "/payment_source/"+kind)
	}
	o.kind, o.token = t.kind, t
	return nil
}
