package paypal_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sim/paypal"
)

const (
	setups = "/v3/vault/setup-tokens"
	saved  = "/v3/vault/payment-tokens"
)

func fromSetup(id string) string {
	return `{"payment_source":{"token":{"id":"` + id + `","type":"SETUP_TOKEN"}}}`
}

func TestAMethodIsSavedWithTheBuyersConsent(t *testing.T) {
	r := open(t, false)
	got := r.post(setups, `{"customer":{"id":"customer-1"},"payment_source":{"paypal":{"usage_type":"MERCHANT","experience_context":{"return_url":"https://shop.example/saved","cancel_url":"https://shop.example/no"}}}}`, requestID("s"))
	require.Equal(t, 201, got.status, got.raw)
	assert.Equal(t, "PAYER_ACTION_REQUIRED", got.text("status"))
	id := got.text("id")
	assert.Equal(t, "PAYER_ACTION_REQUIRED", r.post(saved, fromSetup(id), requestID("p")).issue(), "not before")
	assert.Contains(t, r.get(got.link("approve")).raw, "Save a payment method (paypal)")
	assert.Equal(t, "https://shop.example/no?approval_token_id="+id, r.post(got.link("approve"), "choice=cancel").header.Get("Location"))
	assert.Contains(t, r.post(got.link("approve"), "choice=pay").header.Get("Location"), "https://shop.example/saved?")
	assert.Equal(t, "APPROVED", r.get(setups+"/"+id).text("status"))

	token := r.post(saved, fromSetup(id), requestID("p"))
	require.Equal(t, 201, token.status, token.raw)
	assert.Equal(t, "customer-1", token.text("customer.id"))
	assert.Equal(t, token.text("id"), r.post(saved, fromSetup(id), requestID("p")).text("id"), "repeated")
	assert.Equal(t, "TOKEN_EXPIRED /payment_source/token/id", r.post(saved, fromSetup(id), requestID("p2")).issue(), "good for one")
	paid := r.post(orders, order(unit, `"payment_source":{"paypal":{"vault_id":"`+token.text("id")+`"}}`), requestID("o"))
	assert.Equal(t, "COMPLETED", paid.text("status"))
}

func TestWhatTheVaultRefuses(t *testing.T) {
	r := open(t, false)
	for name, c := range map[string]struct {
		path, body string
		status     int
		issue      string
	}{
		"a card number":            {setups, `{"payment_source":{"card":{"number":"4111111111111111"}}}`, 422, "NOT_ENABLED_TO_VAULT_PAYMENT_SOURCE /payment_source/card"},
		"no method":                {setups, `{}`, 400, "MISSING_REQUIRED_PARAMETER /payment_source"},
		"two methods":              {setups, `{"payment_source":{"card":{},"paypal":{}}}`, 422, "ONLY_ONE_PAYMENT_SOURCE_ALLOWED /payment_source"},
		"a long customer id":       {setups, `{"customer":{"id":"12345678901234567890123"},"payment_source":{"card":{}}}`, 400, "INVALID_STRING_LENGTH /customer/id"},
		"an unknown setup token":   {saved, fromSetup("X"), 404, "INVALID_RESOURCE_ID"},
		"another kind of token":    {saved, `{"payment_source":{"token":{"id":"X","type":"BILLING_AGREEMENT"}}}`, 400, "INVALID_PARAMETER_VALUE /payment_source/token/type"},
		"saving without its token": {saved, `{"payment_source":{}}`, 400, "MISSING_REQUIRED_PARAMETER /payment_source/token"},
	} {
		got := r.post(c.path, c.body)
		assert.Equal(t, c.status, got.status, name)
		assert.Equal(t, c.issue, got.issue(), name)
	}
	id := r.post(setups, `{"payment_source":{"card":{}}}`).text("id")
	r.clock.Advance(3 * 24 * time.Hour)
	r.token = r.tokenOf(paypal.DefaultAccount)
	assert.Equal(t, 404, r.get(setups+"/"+id).status, "a setup token ends")
	_, err := r.Approve(id, paypal.Outcome{})
	require.Error(t, err)
	_, err = r.SaveMethod("sim-client", "c", "blik", paypal.Outcome{})
	require.Error(t, err)
	require.Error(t, r.SetMethod("x", paypal.Outcome{}))
}

func TestMethodsAreListedAndDeleted(t *testing.T) {
	r := open(t, false)
	var ids []string
	for _, kind := range []string{"paypal", "card", "venmo"} {
		id, err := r.SaveMethod("sim-client", "customer-1", kind, paypal.Outcome{})
		require.NoError(t, err)
		ids = append(ids, id)
	}
	_, err := r.SaveMethod("other", "customer-1", "card", paypal.Outcome{})
	require.NoError(t, err)
	got := r.get(saved + "?customer_id=customer-1&total_required=true&page_size=2")
	assert.Equal(t, []any{ids[0], ids[1], nil, 3.0, 2.0}, []any{got.at("payment_tokens.0.id"), got.at("payment_tokens.1.id"), got.at("payment_tokens.2"), got.at("total_items"), got.at("total_pages")})
	got = r.get(got.link("next"))
	assert.Equal(t, []any{ids[2], nil}, []any{got.at("payment_tokens.0.id"), got.at("payment_tokens.1")})
	assert.Empty(t, got.link("next"))
	assert.Equal(t, "VISA", r.get(saved+"/"+ids[1]).text("payment_source.card.brand"))
	assert.Equal(t, 204, r.send("DELETE", saved+"/"+ids[0], "").status)
	assert.Equal(t, 204, r.send("DELETE", saved+"/"+ids[0], "").status, "again")
	assert.Equal(t, 404, r.get(saved+"/"+ids[0]).status)
	assert.Empty(t, r.get(saved+"?customer_id=nobody").at("payment_tokens"))
	for _, query := range []string{"", "?customer_id=c&page=0", "?customer_id=c&page_size=x"} {
		assert.Equal(t, 400, r.get(saved+query).status, query)
	}
	paid := r.post(orders, order(unit, `"payment_source":{"paypal":{"vault_id":"`+ids[0]+`"}}`), requestID("o"))
	assert.Equal(t, "TOKEN_ID_NOT_FOUND /payment_source/paypal", paid.issue(), "what is deleted can't be charged")
}

func TestAMethodIsSavedWithAPurchase(t *testing.T) {
	r := open(t, false)
	source := `"payment_source":{"paypal":{"attributes":{"customer":{"id":"customer-9"},"vault":{"store_in_vault":"ON_SUCCESS","usage_type":"MERCHANT"}},` +
		`"experience_context":{"return_url":"https://shop.example/r","cancel_url":"https://shop.example/c"}}}`
	id := r.created(order(unit, source))
	r.approve(id, paypal.Outcome{Issue: "INSTRUMENT_DECLINED"})
	assert.Equal(t, 422, r.post(orders+"/"+id+"/capture", "").status)
	assert.Empty(t, r.get(saved+"?customer_id=customer-9").at("payment_tokens"), "not where the charge fails")
	r.approve(id, paypal.Outcome{})
	got := r.post(orders+"/"+id+"/capture", "", whole)
	vaultID := got.text("payment_source.paypal.attributes.vault.id")
	assert.Equal(t, "VAULTED", got.text("payment_source.paypal.attributes.vault.status"))
	assert.Equal(t, vaultID, r.get(saved+"?customer_id=customer-9").text("payment_tokens.0.id"))
}
