package stripe

import (
	"cmp"
	"slices"
	"strings"
)

// setupIntent is docs.stripe.com/api/setup_intents/object.
type setupIntent struct {
	ID                      string            `json:"id"`
	Object                  string            `json:"object"`
	Application             *string           `json:"application"`
	AutomaticPaymentMethods *automatic        `json:"automatic_payment_methods"`
	CancellationReason      *string           `json:"cancellation_reason"`
	ClientSecret            string            `json:"client_secret"`
	Created                 int64             `json:"created"`
	Customer                *string           `json:"customer"`
	Description             *string           `json:"description"`
	LastSetupError          *detail           `json:"last_setup_error"`
	LatestAttempt           *string           `json:"latest_attempt"`
	Livemode                bool              `json:"livemode"`
	Mandate                 *string           `json:"mandate"`
	Metadata                map[string]string `json:"metadata"`
	NextAction              *nextAction       `json:"next_action"`
	OnBehalfOf              *string           `json:"on_behalf_of"`
	PaymentMethod           *string           `json:"payment_method"`
	PaymentMethodOptions    any               `json:"payment_method_options"`
	PaymentMethodTypes      []string          `json:"payment_method_types"`
	SingleUseMandate        *string           `json:"single_use_mandate"`
	Status                  string            `json:"status"`
	Usage                   string            `json:"usage"`

	returnURL string
}

var (
	setupConfirming = spec{
		"payment_method": id, "return_url": text, "use_stripe_sdk": boolean, "mandate_data": anything,
		"payment_method_data": unsimulated, "payment_method_options": unsimulated,
	}
	setupEndpoints = []endpoint{
		{
			method: "POST", path: "/v1/setup_intents", do: (*call).createSetup,
			known: with(setupConfirming, spec{
				"confirm": boolean, "customer": id, "description": text, "metadata": metadata, "payment_method_types": list,
				"usage": oneOf("on_session", "off_session"), "on_behalf_of": text, "single_use": unsimulated, "attach_to_self": unsimulated,
				"automatic_payment_methods":    object(spec{"enabled": boolean, "allow_redirects": oneOf("always", "never")}),
				"payment_method_configuration": unsimulated, "flow_directions": unsimulated,
			}),
		},
		{method: "GET", path: "/v1/setup_intents/*", do: (*call).getSetup, known: spec{"client_secret": text}},
		{method: "POST", path: "/v1/setup_intents/*/confirm", do: (*call).confirmSetup, known: with(setupConfirming, spec{"client_secret": text})},
		{
			method: "POST", path: "/v1/setup_intents/*/cancel", do: (*call).cancelSetup,
			known: spec{"cancellation_reason": oneOf("abandoned", "requested_by_customer", "duplicate")},
		},
	}
)

func (c *call) createSetup() (any, *problem) {
	si := &setupIntent{
		ID: newID("seti"), Object: "setup_intent", Created: c.now, Description: c.p.optional("description"), Livemode: c.live,
		Metadata: merge(nil, c.p), OnBehalfOf: c.p.optional("on_behalf_of"), PaymentMethodOptions: map[string]any{},
		PaymentMethodTypes: []string{"card"}, Status: requiresPaymentMethod, Usage: cmp.Or(c.p.text("usage"), "off_session"),
	}
	si.ClientSecret = newID(si.ID + "_secret")
	if p := cmp.Or(c.checkCreation(), c.describeSetup(si)); p != nil {
		return nil, p
	}
	if !c.p.truth("confirm") {
		c.setups.put(si.ID, si)
		c.emit("setup_intent.created", si)
		return si, nil
	}
	if p := c.checkReturnURL(si.AutomaticPaymentMethods, "SetupIntent"); p != nil {
		return nil, p
	}
	c.setups.put(si.ID, si)
	c.emit("setup_intent.created", si)
	return si, c.setUp(si)
}

func (c *call) describeSetup(si *setupIntent) *problem {
	if c.p.has("customer") {
		if _, ok := c.customers.byID[c.p.text("customer")]; !ok {
			return noSuch("customer", c.p.text("customer"), "customer")
		}
		si.Customer = c.p.optional("customer")
	}
	switch auto := c.p.object("automatic_payment_methods"); {
	case c.p.has("payment_method_types"):
		si.PaymentMethodTypes = c.p.list("payment_method_types")
	case auto == nil || auto.truth("enabled"):
		si.AutomaticPaymentMethods = &automatic{Enabled: true, AllowRedirects: cmp.Or(auto.text("allow_redirects"), "always")}
	}
	return c.chooseSetup(si)
}

func (c *call) chooseSetup(si *setupIntent) *problem {
	if !c.p.has("payment_method") {
		return nil
	}
	pm, p := c.method(c.p.text("payment_method"), "payment_method")
	if p == nil {
		p = pm.usableBy(si.Customer)
	}
	if p != nil {
		return p
	}
	si.PaymentMethod = &pm.ID
	if si.Status == requiresPaymentMethod {
		si.Status = requiresConfirmation
	}
	return nil
}

func (c *call) setup() (*setupIntent, *problem) {
	si, ok := c.setups.byID[c.path]
	if !ok {
		return nil, noSuch("setupintent", c.path, "intent")
	}
	if secret := c.p.text("client_secret"); secret != "" && secret != si.ClientSecret {
		return nil, malformed("The client_secret provided does not match the client_secret associated with the SetupIntent.", "client_secret")
	}
	return si, nil
}

func (c *call) getSetup() (any, *problem) { return result(c.setup()) }

// setupState: docs.stripe.com/error-codes, setup_intent_unexpected_state.
func setupState(si *setupIntent, done string, allowed ...string) *problem {
	p := refused("setup_intent_unexpected_state", "", "You cannot %s this SetupIntent because it has a status of %s. Only a SetupIntent with one of the following statuses may be used so: %s.",
		done, si.Status, strings.Join(allowed, ", "))
	p.SetupIntent = si
	return p
}

func (c *call) confirmSetup() (any, *problem) {
	si, p := c.setup()
	if p != nil {
		return nil, p
	}
	allowed := []string{requiresPaymentMethod, requiresConfirmation, requiresAction}
	if !slices.Contains(allowed, si.Status) {
		return nil, setupState(si, "confirm", allowed...)
	}
	if p := cmp.Or(c.checkReturnURL(si.AutomaticPaymentMethods, "SetupIntent"), c.chooseSetup(si)); p != nil {
		return nil, p
	}
	return si, c.setUp(si)
}

func (c *call) cancelSetup() (any, *problem) {
	si, p := c.setup()
	if p != nil {
		return nil, p
	}
	allowed := []string{requiresPaymentMethod, requiresConfirmation, requiresAction}
	if !slices.Contains(allowed, si.Status) {
		return nil, setupState(si, "cancel", allowed...)
	}
	si.Status, si.CancellationReason, si.NextAction = canceled, c.p.optional("cancellation_reason"), nil
	c.emit("setup_intent.canceled", si)
	return si, nil
}

// setUp tries to set the payment method up: the customer is present, so its issuer may ask.
func (c *call) setUp(si *setupIntent) *problem {
	if si.PaymentMethod == nil {
		p := refused("setup_intent_unexpected_state", "", "You cannot confirm this SetupIntent because it's missing a payment method. Update the SetupIntent with a payment method and then confirm it again.")
		p.SetupIntent = si
		return p
	}
	pm := c.methods.byID[*si.PaymentMethod]
	si.LastSetupError, si.NextAction, si.returnURL = nil, nil, c.p.text("return_url")
	if pm.card.asksNow(false, false) && pm.card.asks != asksOnSession {
		si.Status, si.NextAction = requiresAction, c.nextAction(si.ID, si.returnURL, c.p.truth("use_stripe_sdk"))
		c.emit("setup_intent.requires_action", si)
		return nil
	}
	return c.finishSetup(si, pm)
}

func (c *call) finishSetup(si *setupIntent, pm *paymentMethod) *problem {
	if pm.card.decline != nil && !pm.card.attaches {
		return c.failSetup(si, pm, pm.card.decline.detail())
	}
	si.Status, si.NextAction, pm.setUp = succeeded, nil, true
	c.emit("setup_intent.succeeded", si)
	if si.Customer != nil && pm.Customer == nil {
		pm.Customer = si.Customer
		c.emit("payment_method.attached", pm)
	}
	return nil
}

func (c *call) failSetup(si *setupIntent, pm *paymentMethod, d detail) *problem {
	d.PaymentMethod = pm
	si.Status, si.PaymentMethod, si.NextAction, si.LastSetupError = requiresPaymentMethod, nil, nil, &d
	c.emit("setup_intent.setup_failed", si)
	shown := d
	shown.SetupIntent = si
	return &problem{status: 402, detail: shown, retry: "false"}
}
