package stripe

import (
	"cmp"
	"slices"
	"strings"
)

// paymentIntent is docs.stripe.com/api/payment_intents/object.
type paymentIntent struct {
	ID                        string            `json:"id"`
	Object                    string            `json:"object"`
	Amount                    int64             `json:"amount"`
	AmountCapturable          int64             `json:"amount_capturable"`
	AmountDetails             any               `json:"amount_details"`
	AmountReceived            int64             `json:"amount_received"`
	Application               *string           `json:"application"`
	ApplicationFeeAmount      *int64            `json:"application_fee_amount"`
	AutomaticPaymentMethods   *automatic        `json:"automatic_payment_methods"`
	CanceledAt                *int64            `json:"canceled_at"`
	CancellationReason        *string           `json:"cancellation_reason"`
	CaptureMethod             string            `json:"capture_method"`
	ClientSecret              string            `json:"client_secret"`
	ConfirmationMethod        string            `json:"confirmation_method"`
	Created                   int64             `json:"created"`
	Currency                  string            `json:"currency"`
	Customer                  *string           `json:"customer"`
	Description               *string           `json:"description"`
	Invoice                   *string           `json:"invoice"`
	LastPaymentError          *detail           `json:"last_payment_error"`
	LatestCharge              *string           `json:"latest_charge"`
	Livemode                  bool              `json:"livemode"`
	Metadata                  map[string]string `json:"metadata"`
	NextAction                *nextAction       `json:"next_action"`
	OnBehalfOf                *string           `json:"on_behalf_of"`
	PaymentMethod             *string           `json:"payment_method"`
	PaymentMethodOptions      any               `json:"payment_method_options"`
	PaymentMethodTypes        []string          `json:"payment_method_types"`
	Processing                *string           `json:"processing"`
	ReceiptEmail              *string           `json:"receipt_email"`
	Review                    *string           `json:"review"`
	SetupFutureUsage          *string           `json:"setup_future_usage"`
	Shipping                  any               `json:"shipping"`
	StatementDescriptor       *string           `json:"statement_descriptor"`
	StatementDescriptorSuffix *string           `json:"statement_descriptor_suffix"`
	Status                    string            `json:"status"`
	TransferData              any               `json:"transfer_data"`
	TransferGroup             *string           `json:"transfer_group"`

	returnURL     string
	authenticated bool  // the customer did what next_action asked for, and a manual confirmation is awaited
	captureBefore int64 // when the authorisation ends; 0 without one
}

type automatic struct {
	AllowRedirects string `json:"allow_redirects"`
	Enabled        bool   `json:"enabled"`
}

// nextAction is docs.stripe.com/api/payment_intents/object, next_action.
type nextAction struct {
	Type          string         `json:"type"`
	RedirectToURL *redirect      `json:"redirect_to_url,omitempty"`
	UseStripeSDK  map[string]any `json:"use_stripe_sdk,omitempty"`
}

type redirect struct {
	ReturnURL string `json:"return_url"`
	URL       string `json:"url"`
}

// The states (docs.stripe.com/payments/paymentintents/lifecycle).
const (
	requiresPaymentMethod = "requires_payment_method"
	requiresConfirmation  = "requires_confirmation"
	requiresAction        = "requires_action"
	requiresCapture       = "requires_capture"
	processing            = "processing"
	succeeded             = "succeeded"
	canceled              = "canceled"
)

var (
	captureMethod = oneOf("automatic", "automatic_async", "manual")
	futureUsage   = oneOf("", "on_session", "off_session")

	// described can be set at creation and by an update.
	described = spec{
		"customer": id, "description": text, "metadata": metadata, "payment_method": id, "receipt_email": text,
		"setup_future_usage": futureUsage, "shipping": anything, "statement_descriptor": text, "statement_descriptor_suffix": text,
		"transfer_group": text, "payment_method_types": list, "capture_method": captureMethod, "application_fee_amount": integer,
		"payment_method_configuration": unsimulated, "payment_method_data": unsimulated, "payment_method_options": unsimulated,
	}
	// confirming can be given with a confirmation.
	confirming = spec{
		"off_session": oneOf("true", "false", "one_off", "recurring"), "return_url": text, "error_on_requires_action": boolean,
		"use_stripe_sdk": boolean, "mandate": unsimulated, "mandate_data": anything, "radar_options": anything,
	}
	transferTo = object(spec{"destination": id, "amount": integer})
)

var intentEndpoints = []endpoint{
	{
		method: "POST", path: "/v1/payment_intents", need: []string{"amount", "currency"}, do: (*call).createIntent,
		known: with(described, confirming, spec{
			"amount": integer, "currency": text, "confirm": boolean, "confirmation_method": oneOf("automatic", "manual"),
			"automatic_payment_methods": object(spec{"enabled": boolean, "allow_redirects": oneOf("always", "never")}),
			"on_behalf_of":              text, "transfer_data": transferTo,
		}),
	},
	{
		method: "GET", path: "/v1/payment_intents", do: (*call).listIntents,
		known: with(paging, spec{"customer": id, "created": created}),
	},
	{method: "GET", path: "/v1/payment_intents/*", do: (*call).getIntent, known: spec{"client_secret": text}},
	{
		method: "POST", path: "/v1/payment_intents/*", do: (*call).updateIntent,
		known: with(described, spec{"amount": integer, "currency": text, "transfer_data": object(spec{"amount": integer})}),
	},
	{
		method: "POST", path: "/v1/payment_intents/*/confirm", do: (*call).confirmIntent,
		known: with(confirming, spec{
			"capture_method": captureMethod, "client_secret": text, "payment_method": id, "receipt_email": text,
			"setup_future_usage": futureUsage, "shipping": anything, "payment_method_types": list,
			"payment_method_data": unsimulated, "payment_method_options": unsimulated,
		}),
	},
	{
		method: "POST", path: "/v1/payment_intents/*/capture", do: (*call).captureIntent,
		known: spec{
			"amount_to_capture": integer, "application_fee_amount": integer, "final_capture": oneOf("true"), "metadata": metadata,
			"statement_descriptor": text, "statement_descriptor_suffix": text, "transfer_data": unsimulated,
		},
	},
	{
		method: "POST", path: "/v1/payment_intents/*/cancel", do: (*call).cancelIntent,
		known: spec{"cancellation_reason": oneOf("duplicate", "fraudulent", "requested_by_customer", "abandoned")},
	},
}

func (c *call) createIntent() (any, *problem) {
	currency := strings.ToLower(c.p.text("currency"))
	if p := cmp.Or(checkAmount(c.p.number("amount"), currency), c.checkCreation(), c.checkFee(c.p.number("amount"))); p != nil {
		return nil, p
	}
	pi := &paymentIntent{
		ID: newID("pi"), Object: "payment_intent", Amount: c.p.number("amount"), AmountDetails: map[string]any{"tip": map[string]any{}},
		CaptureMethod: "automatic", ConfirmationMethod: cmp.Or(c.p.text("confirmation_method"), "automatic"), Created: c.now,
		Currency: currency, Livemode: c.live, PaymentMethodOptions: map[string]any{}, Status: requiresPaymentMethod,
		OnBehalfOf: c.p.optional("on_behalf_of"), TransferData: c.p.object("transfer_data").plain(),
	}
	pi.ClientSecret = newID(pi.ID + "_secret")
	c.chooseMethods(pi)
	if p := c.describe(pi); p != nil {
		return nil, p
	}
	if c.p.truth("confirm") {
		if p := c.checkReturnURL(pi.AutomaticPaymentMethods, "PaymentIntent"); p != nil {
			return nil, p
		}
	}
	// From here on there is a PaymentIntent, also where the confirmation is refused.
	c.intents.put(pi.ID, pi)
	c.emit("payment_intent.created", pi)
	if c.p.truth("confirm") {
		return pi, c.confirm(pi)
	}
	return pi, nil
}

// checkCreation: docs.stripe.com/api/payment_intents/create, the parameters that need confirm or exclude another one.
func (c *call) checkCreation() *problem {
	if !c.p.truth("confirm") {
		for _, name := range []string{"off_session", "return_url", "error_on_requires_action", "mandate_data"} {
			if c.p.has(name) {
				return malformed("The parameter `"+name+"` can only be passed when `confirm=true`.", name)
			}
		}
	}
	auto := c.p.object("automatic_payment_methods")
	switch {
	case auto != nil && !auto.has("enabled"):
		return missing("automatic_payment_methods[enabled]")
	case auto.truth("enabled") && c.p.has("confirmation_method"):
		return malformed("You may only specify one of these parameters: automatic_payment_methods, confirmation_method.", "")
	case auto.truth("enabled") && c.p.has("payment_method_types"):
		return malformed("You may only specify one of these parameters: automatic_payment_methods, payment_method_types.", "")
	case c.p.has("transfer_data") && !c.p.object("transfer_data").has("destination"):
		return missing("transfer_data[destination]")
	}
	return nil
}

// checkFee: docs.stripe.com/connect, application fees of direct and destination charges.
func (c *call) checkFee(amount int64) *problem {
	fee := c.p.number("application_fee_amount")
	switch {
	case !c.p.has("application_fee_amount"):
		return nil
	case !c.connected && !c.p.has("transfer_data"):
		return malformed("Can only apply an application_fee_amount when the PaymentIntent is attempting a direct payment (using an OAuth key or Stripe-Account header) or destination payment (using `transfer_data[destination]`).", "application_fee_amount")
	case fee < 0 || fee > amount:
		return malformed("Your application fee cannot be larger than the payment intent's amount.", "application_fee_amount")
	}
	return nil
}

// chooseMethods: since 2023-08-16 automatic payment methods are on where nothing else is said
// (docs.stripe.com/upgrades, 2023-08-16).
func (c *call) chooseMethods(pi *paymentIntent) {
	auto := c.p.object("automatic_payment_methods")
	pi.PaymentMethodTypes = []string{"card"}
	switch {
	case c.p.has("payment_method_types"):
		pi.PaymentMethodTypes = c.p.list("payment_method_types")
	case auto == nil && c.p.has("confirmation_method"), auto != nil && !auto.truth("enabled"):
	default:
		pi.AutomaticPaymentMethods = &automatic{Enabled: true, AllowRedirects: cmp.Or(auto.text("allow_redirects"), "always")}
		pi.PaymentMethodTypes = []string{"card", "us_bank_account"}
	}
}

// describe sets what creation and update share.
func (c *call) describe(pi *paymentIntent) *problem {
	if c.p.has("customer") {
		if _, ok := c.customers.byID[c.p.text("customer")]; !ok {
			return noSuch("customer", c.p.text("customer"), "customer")
		}
		pi.Customer = c.p.optional("customer")
	}
	for name, field := range map[string]**string{
		"description": &pi.Description, "receipt_email": &pi.ReceiptEmail, "statement_descriptor": &pi.StatementDescriptor,
		"statement_descriptor_suffix": &pi.StatementDescriptorSuffix, "transfer_group": &pi.TransferGroup,
		"setup_future_usage": &pi.SetupFutureUsage,
	} {
		if c.p.has(name) {
			*field = c.p.optional(name)
		}
	}
	if c.p.has("shipping") {
		pi.Shipping = c.p.object("shipping").plain()
	}
	if c.p.has("application_fee_amount") {
		fee := c.p.number("application_fee_amount")
		pi.ApplicationFeeAmount = &fee
	}
	pi.CaptureMethod = cmp.Or(c.p.text("capture_method"), pi.CaptureMethod)
	pi.Metadata = merge(pi.Metadata, c.p)
	return c.choose(pi)
}

// choose sets the payment method, if one is named, and the state that follows.
func (c *call) choose(pi *paymentIntent) *problem {
	if !c.p.has("payment_method") {
		return nil
	}
	pm, p := c.method(c.p.text("payment_method"), "payment_method")
	if p != nil {
		return p
	}
	if p := pm.usableBy(pi.Customer); p != nil {
		return p
	}
	if !slices.Contains(pi.PaymentMethodTypes, pm.Type) {
		return malformed("The PaymentMethod provided ("+pm.Type+") is not allowed for this PaymentIntent. Please attach a PaymentMethod of one of the following types: "+strings.Join(pi.PaymentMethodTypes, ", ")+".", "payment_method")
	}
	pi.PaymentMethod = &pm.ID
	if pi.in(requiresPaymentMethod, requiresAction) {
		pi.Status, pi.NextAction = requiresConfirmation, nil
	}
	return nil
}

func (c *call) intent() (*paymentIntent, *problem) {
	pi, ok := c.intents.byID[c.path]
	if !ok {
		return nil, noSuch("payment_intent", c.path, "intent")
	}
	if secret := c.p.text("client_secret"); secret != "" && secret != pi.ClientSecret {
		return nil, malformed("The client_secret provided does not match any associated PaymentIntent on this account.", "client_secret")
	}
	return pi, nil
}

func (c *call) getIntent() (any, *problem) { return result(c.intent()) }

// result keeps a nil pointer from becoming a value that isn't nil.
func result[T any](v *T, p *problem) (any, *problem) {
	if p != nil {
		return nil, p
	}
	return v, nil
}

func (c *call) listIntents() (any, *problem) {
	return listed(c, "/v1/payment_intents", &c.intents, func(pi *paymentIntent) string { return pi.ID }, func(pi *paymentIntent) bool {
		return c.within(pi.Created) && (!c.p.has("customer") || pi.Customer != nil && *pi.Customer == c.p.text("customer"))
	})
}

// unexpectedState: docs.stripe.com/error-codes, payment_intent_unexpected_state.
func unexpectedState(pi *paymentIntent, done string, allowed ...string) *problem {
	p := refused("payment_intent_unexpected_state", "", "This PaymentIntent could not be %s because it has a status of %s. Only a PaymentIntent with one of the following statuses may be %s: %s.",
		done, pi.Status, done, strings.Join(allowed, ", "))
	p.PaymentIntent = pi
	return p
}

func (pi *paymentIntent) in(states ...string) bool { return slices.Contains(states, pi.Status) }

func (c *call) updateIntent() (any, *problem) {
	pi, p := c.intent()
	if p != nil {
		return nil, p
	}
	allowed := []string{requiresPaymentMethod, requiresConfirmation, requiresAction}
	if !pi.in(allowed...) && len(c.p) > len(c.p.only("metadata", "description", "expand")) {
		return nil, unexpectedState(pi, "updated", allowed...)
	}
	amount, currency := pi.Amount, pi.Currency
	if c.p.has("amount") {
		amount = c.p.number("amount")
	}
	if c.p.has("currency") {
		currency = strings.ToLower(c.p.text("currency"))
	}
	if p := checkAmount(amount, currency); p != nil {
		return nil, p
	}
	draft := *pi
	draft.Amount, draft.Currency = amount, currency
	if p := c.describe(&draft); p != nil {
		return nil, p
	}
	*pi = draft
	return pi, nil
}

func (p params) only(names ...string) params {
	out := params{}
	for k, v := range p {
		if slices.Contains(names, k) {
			out[k] = v
		}
	}
	return out
}
