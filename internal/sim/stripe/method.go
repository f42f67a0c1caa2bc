package stripe

import "strings"

// paymentMethod is docs.stripe.com/api/payment_methods/object.
type paymentMethod struct {
	ID             string            `json:"id"`
	Object         string            `json:"object"`
	BillingDetails any               `json:"billing_details"`
	Card           map[string]any    `json:"card,omitempty"`
	Created        int64             `json:"created"`
	Customer       *string           `json:"customer"`
	Livemode       bool              `json:"livemode"`
	Metadata       map[string]string `json:"metadata"`
	Type           string            `json:"type"`
	USBankAccount  map[string]any    `json:"us_bank_account,omitempty"`

	card     card
	used     bool // it paid once
	setUp    bool // for off-session payments
	detached bool
}

var methodEndpoints = []endpoint{
	{
		method: "GET", path: "/v1/payment_methods", do: (*call).listMethods,
		known: with(paging, spec{"customer": id, "type": text}),
	},
	{
		method: "POST", path: "/v1/payment_methods", do: (*call).createMethod, need: []string{"type"},
		known: spec{"type": oneOf("card", "us_bank_account"), "card": object(spec{
			"token": id, "number": text, "exp_month": integer, "exp_year": integer, "cvc": text,
		}), "billing_details": anything, "metadata": metadata, "us_bank_account": unsimulated},
	},
	{method: "GET", path: "/v1/payment_methods/*", do: (*call).getMethod},
	{method: "POST", path: "/v1/payment_methods/*", do: (*call).updateMethod, known: spec{"metadata": metadata, "billing_details": anything}},
	{method: "POST", path: "/v1/payment_methods/*/attach", do: (*call).attachMethod, need: []string{"customer"}, known: spec{"customer": id}},
	{method: "POST", path: "/v1/payment_methods/*/detach", do: (*call).detachMethod},
	{
		method: "GET", path: "/v1/customers/*/payment_methods", do: (*call).listCustomerMethods,
		known: with(paging, spec{"type": text}),
	},
	{method: "GET", path: "/v1/customers/*/payment_methods/*", do: (*call).getMethod},
}

// NewPaymentMethod makes a payment method that behaves as one of docs.stripe.com/testing's does ("pm_card_visa"), and
// returns its id. It's what Stripe.js would have made, and the only way to one in live mode. "" is the platform's account.
func (s *Sim) NewPaymentMethod(account string, live bool, name string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if account == "" {
		account = s.cfg.Account
	}
	known, ok := cardNamed(name)
	if !ok {
		return "", noTestMethod(name)
	}
	return s.own(s.space(account, live)).newMethod(known).ID, nil
}

type noTestMethod string

func (e noTestMethod) Error() string { return "sim/stripe: no test payment method " + string(e) }

func (c *call) newMethod(behaves card) *paymentMethod {
	pm := &paymentMethod{
		ID: newID("pm"), Object: "payment_method", Created: c.now, Livemode: c.live, Metadata: map[string]string{}, Type: "card", card: behaves,
		BillingDetails: map[string]any{"address": nil, "email": nil, "name": nil, "phone": nil},
	}
	if behaves.bank {
		pm.Type = "us_bank_account"
		pm.USBankAccount = map[string]any{"account_holder_type": "individual", "account_type": "checking", "bank_name": "STRIPE TEST BANK", "last4": behaves.last4}
	} else {
		pm.Card = behaves.shown()
	}
	c.methods.put(pm.ID, pm)
	return pm
}

// shown is docs.stripe.com/api/payment_methods/object, card.
func (c card) shown() map[string]any {
	funding := c.funding
	if funding == "" {
		funding = "credit"
	}
	return map[string]any{
		"brand": c.brand, "country": "US", "exp_month": 12, "exp_year": 2034, "funding": funding, "last4": c.last4, "fingerprint": "sim" + c.brand + c.last4,
		"checks": map[string]any{"cvc_check": "pass", "address_line1_check": nil, "address_postal_code_check": nil},
		"wallet": nil, "three_d_secure_usage": map[string]any{"supported": true},
	}
}

// details is docs.stripe.com/api/charges/object, payment_method_details.
func (pm *paymentMethod) details() map[string]any {
	if pm.card.bank {
		return map[string]any{"type": pm.Type, pm.Type: pm.USBankAccount}
	}
	shown := pm.card.shown()
	delete(shown, "three_d_secure_usage")
	shown["network"], shown["three_d_secure"] = pm.card.brand, nil
	return map[string]any{"type": pm.Type, "card": shown}
}

// method finds a payment method, or makes one of a test id, which stands for a new one each time (docs.stripe.com/testing).
func (c *call) method(id, param string) (*paymentMethod, *problem) {
	if pm, ok := c.methods.byID[id]; ok {
		return pm, nil
	}
	behaves, isTest := cardNamed(id)
	if isTest && !c.live {
		return c.newMethod(behaves), nil
	}
	p := noSuch("PaymentMethod", id, param)
	if isTest {
		p.Message += "; a similar object exists in test mode, but a live mode key was used to make this request."
	}
	return nil, p
}

// usableBy: a payment method that belongs to a customer needs that customer, and one that belongs to none pays once
// (docs.stripe.com/payments/payment-methods, and the messages that Stripe answers with).
func (pm *paymentMethod) usableBy(customer *string) *problem {
	switch {
	case pm.Customer != nil && customer == nil:
		return malformed("The `payment_method` parameter supplied "+pm.ID+" belongs to the Customer "+*pm.Customer+". Please include the Customer in the `customer` parameter on the PaymentIntent.", "payment_method")
	case pm.Customer != nil && *pm.Customer != *customer:
		return malformed("The payment method supplied ("+pm.ID+") belongs to a different Customer.", "payment_method")
	case pm.Customer == nil && (pm.used || pm.detached):
		return malformed("The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, shared with a connected account without Customer attachment, or was detached from a Customer. It may not be used again. To use a PaymentMethod multiple times, you must attach it to a Customer first.", "")
	}
	return nil
}

// createMethod takes tokens of docs.stripe.com/testing alone: raw numbers are refused as Stripe refuses them of an account
// that isn't allowed to send any (docs.stripe.com/security/guide).
func (c *call) createMethod() (any, *problem) {
	given := c.p.object("card")
	if given.has("number") {
		p := refused("", "", "Sending credit card numbers directly to the Stripe API is generally unsafe. To continue processing use Stripe.js, the Stripe mobile bindings, or Stripe Elements.")
		p.status, p.unkept = 402, true
		return nil, p
	}
	token := given.text("token")
	behaves, ok := cardNamed("pm_card_" + strings.TrimPrefix(strings.TrimPrefix(token, "tok_"), "card_"))
	if !ok || c.live {
		return nil, noSuch("token", token, "card[token]")
	}
	pm := c.newMethod(behaves)
	pm.Metadata = merge(nil, c.p)
	return pm, nil
}

func (c *call) getMethod() (any, *problem) { return result(c.ownMethod()) }

func (c *call) ownMethod() (*paymentMethod, *problem) {
	pm, ok := c.methods.byID[c.path]
	if !ok {
		p := noSuch("PaymentMethod", c.path, "payment_method")
		p.status = 404
		return nil, p
	}
	return pm, nil
}

func (c *call) updateMethod() (any, *problem) {
	pm, p := c.ownMethod()
	if p != nil {
		return nil, p
	}
	pm.Metadata = merge(pm.Metadata, c.p)
	c.emit("payment_method.updated", pm)
	return pm, nil
}

// attachMethod: cards that decline are refused here already, but for pm_card_chargeCustomerFail (docs.stripe.com/testing,
// Declined payments).
func (c *call) attachMethod() (any, *problem) {
	customer, ok := c.customers.byID[c.p.text("customer")]
	if !ok {
		return nil, noSuch("customer", c.p.text("customer"), "customer")
	}
	pm, p := c.method(c.path, "payment_method")
	if p != nil {
		p.status = 404
		return nil, p
	}
	switch {
	case pm.Customer != nil:
		return nil, refused("", "", "The payment method you provided has already been attached to a customer.")
	case pm.used || pm.detached:
		return nil, pm.usableBy(nil)
	case pm.card.decline != nil && !pm.card.attaches:
		return nil, &problem{status: 402, detail: pm.card.decline.detail(), retry: "false"}
	}
	pm.Customer = &customer.ID
	c.emit("payment_method.attached", pm)
	return pm, nil
}

// detachMethod: a detached payment method can't be attached or used again (docs.stripe.com/api/payment_methods/detach).
func (c *call) detachMethod() (any, *problem) {
	pm, p := c.ownMethod()
	if p != nil {
		return nil, p
	}
	if pm.Customer == nil {
		return nil, refused("", "", "The payment method you provided is not attached to a customer so detachment is impossible.")
	}
	customer := c.customers.byID[*pm.Customer]
	if settings := &customer.InvoiceSettings; settings.DefaultPaymentMethod != nil && *settings.DefaultPaymentMethod == pm.ID {
		settings.DefaultPaymentMethod = nil
	}
	pm.Customer, pm.detached = nil, true
	c.emit("payment_method.detached", pm)
	return pm, nil
}

func (c *call) listMethods() (any, *problem) {
	if !c.p.has("customer") {
		return nil, missing("customer")
	}
	return c.methodsOf(c.p.text("customer"), "/v1/payment_methods", "customer")
}

func (c *call) listCustomerMethods() (any, *problem) {
	return c.methodsOf(c.path, "/v1/customers/"+c.path+"/payment_methods", "id")
}

func (c *call) methodsOf(customer, url, param string) (any, *problem) {
	if _, ok := c.customers.byID[customer]; !ok {
		return nil, noSuch("customer", customer, param)
	}
	return listed(c, url, &c.methods, func(pm *paymentMethod) string { return pm.ID }, func(pm *paymentMethod) bool {
		return pm.Customer != nil && *pm.Customer == customer && c.wants("type", &pm.Type)
	})
}
