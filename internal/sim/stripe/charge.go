package stripe

// charge is docs.stripe.com/api/charges/object: one attempt to pay.
type charge struct {
	ID                  string            `json:"id"`
	Object              string            `json:"object"`
	Amount              int64             `json:"amount"`
	AmountCaptured      int64             `json:"amount_captured"`
	AmountRefunded      int64             `json:"amount_refunded"`
	ApplicationFee      *string           `json:"application_fee"`
	ApplicationFeeAmt   *int64            `json:"application_fee_amount"`
	BalanceTransaction  *string           `json:"balance_transaction"`
	BillingDetails      any               `json:"billing_details"`
	Captured            bool              `json:"captured"`
	Created             int64             `json:"created"`
	Currency            string            `json:"currency"`
	Customer            *string           `json:"customer"`
	Description         *string           `json:"description"`
	Disputed            bool              `json:"disputed"`
	FailureCode         *string           `json:"failure_code"`
	FailureMessage      *string           `json:"failure_message"`
	FraudDetails        any               `json:"fraud_details"`
	Invoice             *string           `json:"invoice"`
	Livemode            bool              `json:"livemode"`
	Metadata            map[string]string `json:"metadata"`
	OnBehalfOf          *string           `json:"on_behalf_of"`
	Outcome             *outcome          `json:"outcome"`
	Paid                bool              `json:"paid"`
	PaymentIntent       *string           `json:"payment_intent"`
	PaymentMethod       *string           `json:"payment_method"`
	PaymentMethodDetail map[string]any    `json:"payment_method_details"`
	ReceiptEmail        *string           `json:"receipt_email"`
	ReceiptURL          *string           `json:"receipt_url"`
	Refunded            bool              `json:"refunded"`
	Review              *string           `json:"review"`
	Shipping            any               `json:"shipping"`
	StatementDescriptor *string           `json:"statement_descriptor"`
	Status              string            `json:"status"`
	TransferData        any               `json:"transfer_data"`
	TransferGroup       *string           `json:"transfer_group"`

	card     card
	released int64 // of an authorisation, by a partial capture
	returned int64 // by refunds that haven't failed
}

// outcome is docs.stripe.com/declines, Outcome of a charge.
type outcome struct {
	NetworkStatus string  `json:"network_status"`
	Reason        *string `json:"reason"`
	RiskLevel     string  `json:"risk_level"`
	SellerMessage string  `json:"seller_message"`
	Type          string  `json:"type"`
}

var chargeEndpoints = []endpoint{
	{
		method: "GET", path: "/v1/charges", do: (*call).listCharges,
		known: with(paging, spec{"customer": id, "payment_intent": id, "created": created}),
	},
	{method: "GET", path: "/v1/charges/*", do: (*call).getCharge},
}

func (c *call) getCharge() (any, *problem) {
	ch, ok := c.charges.byID[c.path]
	if !ok {
		return nil, noSuch("charge", c.path, "id")
	}
	return ch, nil
}

func (c *call) listCharges() (any, *problem) {
	return listed(c, "/v1/charges", &c.charges, func(ch *charge) string { return ch.ID }, func(ch *charge) bool {
		return c.within(ch.Created) && c.wants("customer", ch.Customer) && c.wants("payment_intent", ch.PaymentIntent)
	})
}

// wants reports whether a list isn't filtered by name or value is what is asked for.
func (c *call) wants(name string, value *string) bool {
	return !c.p.has(name) || value != nil && *value == c.p.text(name)
}

// newCharge has not been decided yet.
func (c *call) newCharge(pi *paymentIntent, pm *paymentMethod) *charge {
	prefix := "ch"
	if pm.card.bank { // docs.stripe.com/api/charges: payments that aren't by card have ids of their own.
		prefix = "py"
	}
	pmID := pm.ID
	ch := &charge{
		ID: newID(prefix), Object: "charge", Amount: pi.Amount, ApplicationFeeAmt: pi.ApplicationFeeAmount, BillingDetails: pm.BillingDetails,
		Created: c.now, Currency: pi.Currency, Customer: pi.Customer, Description: pi.Description, FraudDetails: map[string]any{},
		Livemode: c.live, Metadata: clone(pi.Metadata), OnBehalfOf: pi.OnBehalfOf, PaymentIntent: &pi.ID, PaymentMethod: &pmID,
		PaymentMethodDetail: pm.details(), ReceiptEmail: pi.ReceiptEmail, Shipping: pi.Shipping, StatementDescriptor: pi.StatementDescriptor,
		Status: "succeeded", Paid: true, TransferData: pi.TransferData, TransferGroup: pi.TransferGroup, card: pm.card,
		Outcome: &outcome{NetworkStatus: "approved_by_network", RiskLevel: "normal", SellerMessage: "Payment complete.", Type: "authorized"},
	}
	c.charges.put(ch.ID, ch)
	return ch
}

func (ch *charge) fail(why *decline) {
	ch.Status, ch.Paid = "failed", false
	ch.FailureCode, ch.FailureMessage = &why.code, &why.message
	reason := why.declineCode
	ch.Outcome = &outcome{NetworkStatus: "declined_by_network", Reason: &reason, RiskLevel: "normal", SellerMessage: "The bank did not return any further details with this decline.", Type: "issuer_declined"}
	if why.blocked {
		reason = "highest_risk_level"
		ch.Outcome = &outcome{NetworkStatus: "not_sent_to_network", Reason: &reason, RiskLevel: "highest", SellerMessage: "Stripe blocked this payment as too risky.", Type: "blocked"}
	}
}

// authorize marks what awaits its capture (docs.stripe.com/payments/place-a-hold-on-a-payment-method: capture_before).
func (ch *charge) authorize(captureBefore int64) {
	if details, ok := ch.PaymentMethodDetail["card"].(map[string]any); ok {
		details["capture_before"] = captureBefore
		details["amount_authorized"] = ch.Amount
	}
}

func (ch *charge) capture(amount int64) {
	ch.Captured, ch.AmountCaptured, ch.Paid, ch.Status = true, amount, true, "succeeded"
	ch.released = ch.Amount - amount
	ch.tally()
}

// tally computes what was given back. What a partial capture released counts in amount_refunded, though no refund is made
// of it (not verified against Stripe).
func (ch *charge) tally() {
	ch.AmountRefunded = ch.released + ch.returned
	ch.Refunded = ch.AmountCaptured > 0 && ch.returned == ch.AmountCaptured
}
