package stripe_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCustomers(t *testing.T) {
	b := open(t)
	r := b.must("/v1/customers", "email=a@example.com&name=A&metadata[user]=u1&preferred_locales[]=de&address[city]=Berlin&shipping[name]=A&phone=1&description=d")
	id := r.text("id")
	assert.Equal(t, []any{"a@example.com", "A", "u1", "de", "Berlin", "A", nil}, []any{
		r.text("email"), r.text("name"), r.text("metadata.user"), r.at("preferred_locales.0"), r.text("address.city"), r.text("shipping.name"),
		r.at("invoice_settings.default_payment_method"),
	})
	r = b.must("/v1/customers/"+id, "email=b@example.com&name=&metadata[user]=&metadata[team]=t")
	assert.Equal(t, []any{"b@example.com", nil, nil, "t"}, []any{r.text("email"), r.at("name"), r.at("metadata.user"), r.text("metadata.team")})
	assert.Empty(t, b.must("/v1/customers/"+id, "metadata=").at("metadata"), "an empty metadata unsets all")
	assert.Len(t, b.get("/v1/customers", "email=b@example.com").at("data"), 1)
	assert.Empty(t, b.get("/v1/customers", "email=a@example.com").at("data"))
	assert.Equal(t, refusal{404, "invalid_request_error", "resource_missing", "id"}, b.get("/v1/customers/cus_none", "").refusal())
	assert.Equal(t, 404, b.post("/v1/customers/cus_none", "").status)
	assert.Equal(t, []string{"customer.created", "customer.updated", "customer.updated"}, b.types())
}

func TestADeletedCustomerIsShownAsDeleted(t *testing.T) {
	b := open(t)
	id := b.must("/v1/customers", "").text("id")
	pm := b.must("/v1/payment_methods/pm_card_visa/attach", "customer="+id).text("id")
	r, err := b.send(t.Context(), "DELETE", "/v1/customers/"+id, "")
	require.NoError(t, err)
	assert.Equal(t, true, r.at("deleted"))
	assert.Equal(t, []any{true, nil}, []any{b.get("/v1/customers/"+id, "").at("deleted"), b.get("/v1/customers/"+id, "").at("created")})
	assert.Empty(t, b.get("/v1/customers", "").at("data"))
	r, err = b.send(t.Context(), "DELETE", "/v1/customers/"+id, "")
	require.NoError(t, err)
	assert.Equal(t, refusal{404, "invalid_request_error", "resource_missing", "id"}, r.refusal())
	assert.Equal(t, 400, b.post("/v1/payment_intents", order+"&payment_method="+pm).status, "its payment methods are detached")
}

func TestSavedPaymentMethods(t *testing.T) {
	b := open(t)
	customer, other := b.must("/v1/customers", "").text("id"), b.must("/v1/customers", "").text("id")
	visa := b.must("/v1/payment_methods/pm_card_visa/attach", "customer="+customer).text("id")
	amex := b.must("/v1/payment_methods", "type=card&card[token]=tok_amex&metadata[k]=v").text("id")
	assert.NotEqual(t, "pm_card_visa", visa, "a test id stands for a new payment method")
	assert.Equal(t, customer, b.must("/v1/payment_methods/"+amex+"/attach", "customer="+customer).text("customer"))
	assert.Equal(t, "amex", b.get("/v1/payment_methods/"+amex, "").text("card.brand"))
	assert.Equal(t, "w", b.must("/v1/payment_methods/"+amex, "metadata[k]=w").text("metadata.k"))
	for _, list := range []reply{
		b.get("/v1/payment_methods", "type=card&customer="+customer), b.get("/v1/customers/"+customer+"/payment_methods", "type=card"),
	} {
		require.Len(t, list.at("data"), 2)
		assert.Equal(t, []string{amex, visa}, []string{list.text("data.0.id"), list.text("data.1.id")})
	}
	assert.Empty(t, b.get("/v1/payment_methods", "type=us_bank_account&customer="+customer).at("data"))

	tests := map[string]struct {
		path, form string
		want       refusal
	}{
		"attached already":          {"/v1/payment_methods/" + visa + "/attach", "customer=" + other, refusal{400, "invalid_request_error", "", ""}},
		"no customer":               {"/v1/payment_methods/pm_card_visa/attach", "", refusal{400, "invalid_request_error", "parameter_missing", "customer"}},
		"no such customer":          {"/v1/payment_methods/pm_card_visa/attach", "customer=cus_none", refusal{400, "invalid_request_error", "resource_missing", "customer"}},
		"no such method":            {"/v1/payment_methods/pm_none/attach", "customer=" + customer, refusal{404, "invalid_request_error", "resource_missing", "payment_method"}},
		"a card that declines":      {"/v1/payment_methods/pm_card_chargeDeclinedLostCard/attach", "customer=" + customer, refusal{402, "card_error", "card_declined", ""}},
		"detaching what isn't":      {"/v1/payment_methods/pm_none/detach", "", refusal{404, "invalid_request_error", "resource_missing", "payment_method"}},
		"paying for nobody with it": {"/v1/payment_intents", order + "&payment_method=" + visa, refusal{400, "invalid_request_error", "", "payment_method"}},
		"paying for somebody else":  {"/v1/payment_intents", order + "&customer=" + other + "&payment_method=" + visa, refusal{400, "invalid_request_error", "", "payment_method"}},
		"somebody else's default":   {"/v1/customers/" + other, "invoice_settings[default_payment_method]=" + visa, refusal{400, "invalid_request_error", "resource_missing", "invoice_settings[default_payment_method]"}},
		"a token that isn't one":    {"/v1/payment_methods", "type=card&card[token]=tok_none", refusal{400, "invalid_request_error", "resource_missing", "card[token]"}},
	}
	for name, tt := range tests {
		assert.Equal(t, tt.want, b.post(tt.path, tt.form).refusal(), name)
	}
	assert.Equal(t, "parameter_missing", b.get("/v1/payment_methods", "").text("error.code"))
	assert.Equal(t, 400, b.get("/v1/payment_methods", "customer=cus_none").status)
	assert.Equal(t, 404, b.get("/v1/payment_methods/pm_none", "").status)
	assert.Equal(t, 404, b.post("/v1/payment_methods/pm_none", "").status)

	assert.Equal(t, visa, b.must("/v1/customers/"+customer, "invoice_settings[default_payment_method]="+visa).text("invoice_settings.default_payment_method"))
	for range 2 { // A saved one pays more than once.
		b.must("/v1/payment_intents", order+"&confirm=true&customer="+customer+"&payment_method="+visa)
	}
	assert.Nil(t, b.must("/v1/payment_methods/"+visa+"/detach", "").at("customer"))
	assert.Nil(t, b.get("/v1/customers/"+customer, "").at("invoice_settings.default_payment_method"))
	assert.Equal(t, 400, b.post("/v1/payment_methods/"+visa+"/detach", "").status)
	assert.Equal(t, 400, b.post("/v1/payment_methods/"+visa+"/attach", "customer="+customer).status, "detached for good")
}

func TestACustomerCanBeMadeWithACard(t *testing.T) {
	b := open(t)
	id := b.must("/v1/customers", "payment_method=pm_card_visa").text("id")
	assert.Len(t, b.get("/v1/customers/"+id+"/payment_methods", "").at("data"), 1)
	assert.Equal(t, 402, b.post("/v1/customers", "payment_method=pm_card_chargeDeclined").status)
	assert.Len(t, b.get("/v1/customers", "").at("data"), 1, "a card that's refused makes no customer")
}

// A payment method without a customer pays once.
func TestAPaymentMethodThatIsntSavedPaysOnce(t *testing.T) {
	b := open(t)
	pm, err := b.NewPaymentMethod("", false, "pm_card_visa")
	require.NoError(t, err)
	b.must("/v1/payment_intents", order+"&confirm=true&payment_method="+pm)
	assert.Equal(t, refusal{400, "invalid_request_error", "", ""}, b.post("/v1/payment_intents", order+"&confirm=true&payment_method="+pm).refusal())
	customer := b.must("/v1/customers", "").text("id")
	assert.Equal(t, 400, b.post("/v1/payment_methods/"+pm+"/attach", "customer="+customer).status)
	assert.Len(t, b.Charges("o1"), 1)
}

func TestSetupFutureUsageSavesTheCard(t *testing.T) {
	b := open(t)
	customer := b.must("/v1/customers", "").text("id")
	id := b.must("/v1/payment_intents", order+"&confirm=true&setup_future_usage=off_session&customer="+customer+"&payment_method=pm_card_authenticationRequiredOnSetup").text("id")
	assert.Empty(t, b.get("/v1/customers/"+customer+"/payment_methods", "").at("data"), "not before it paid")
	require.NoError(t, b.Authenticate(id, true))
	saved := b.get("/v1/customers/"+customer+"/payment_methods", "").text("data.0.id")
	assert.Equal(t, "succeeded", b.must("/v1/payment_intents", order+"&confirm=true&off_session=true&customer="+customer+"&payment_method="+saved).text("status"))
	assert.Contains(t, b.types(), "payment_method.attached")
}

func TestSetupIntents(t *testing.T) {
	const moved = "setup_intent_unexpected_state"
	b := open(t)
	customer := b.must("/v1/customers", "").text("id")
	si := b.must("/v1/setup_intents", "customer="+customer+"&automatic_payment_methods[enabled]=true&automatic_payment_methods[allow_redirects]=never&metadata[order_id]=o1&usage=on_session")
	id := si.text("id")
	assert.Equal(t, []string{"requires_payment_method", "o1", "on_session"}, []string{si.text("status"), si.text("metadata.order_id"), si.text("usage")})
	assert.Equal(t, moved, b.post("/v1/setup_intents/"+id+"/confirm", "").text("error.code"), "no payment method")
	r := b.post("/v1/setup_intents/"+id+"/confirm", "payment_method=pm_card_chargeDeclinedExpiredCard")
	assert.Equal(t, []any{402, "expired_card", "requires_payment_method"}, []any{r.status, r.text("error.code"), r.text("error.setup_intent.status")})
	r = b.must("/v1/setup_intents/"+id+"/confirm", "payment_method=pm_card_authenticationRequired")
	assert.Equal(t, "requires_action", r.text("status"))
	require.NoError(t, b.Authenticate(id, false))
	assert.Equal(t, "setup_intent_authentication_failure", b.get("/v1/setup_intents/"+id, "").text("last_setup_error.code"))
	r = b.must("/v1/setup_intents/"+id+"/confirm", "payment_method=pm_card_visa")
	assert.Equal(t, "succeeded", r.text("status"))
	assert.Equal(t, r.text("payment_method"), b.get("/v1/customers/"+customer+"/payment_methods", "").text("data.0.id"))
	for _, operation := range []string{"confirm", "cancel"} {
		assert.Equal(t, moved, b.post("/v1/setup_intents/"+id+"/"+operation, "").text("error.code"), operation)
	}
	assert.Equal(t, []string{
		"customer.created", "setup_intent.created", "setup_intent.setup_failed", "setup_intent.requires_action", "setup_intent.setup_failed",
		"setup_intent.succeeded", "payment_method.attached",
	}, b.types())
	assert.Zero(t, b.Money.Len(), "setting up moves nothing")
}

func TestASetupIntentNeedsAReturnURLToo(t *testing.T) {
	b := open(t)
	assert.Equal(t, 400, b.post("/v1/setup_intents", "confirm=true&payment_method=pm_card_visa").status)
	assert.Equal(t, 200, b.post("/v1/setup_intents", "confirm=true&payment_method=pm_card_visa&return_url=https://example.com").status)
	id := b.must("/v1/setup_intents", "payment_method=pm_card_visa").text("id")
	assert.Equal(t, 400, b.post("/v1/setup_intents/"+id+"/confirm", "").status)
	assert.Equal(t, "canceled", b.must("/v1/setup_intents/"+id+"/cancel", "cancellation_reason=abandoned").text("status"))
	assert.Equal(t, refusal{404, "invalid_request_error", "resource_missing", "intent"}, b.post("/v1/setup_intents/seti_none/cancel", "").refusal())
	assert.Equal(t, 400, b.get("/v1/setup_intents/"+id, "client_secret=x").status)
}
