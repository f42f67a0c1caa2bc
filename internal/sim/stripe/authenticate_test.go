package stripe_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Which card asks for the customer when: docs.stripe.com/testing, Authentication and setup.
func TestWhenTheIssuerAsksForTheCustomer(t *testing.T) {
	const asks, pays, refuses = "requires_action", "succeeded", "authentication_required"
	tests := map[string]struct{ onSession, offSession, offAfterSetup string }{
		"pm_card_visa":                                     {pays, pays, pays},
		"pm_card_authenticationRequired":                   {asks, refuses, refuses},
		"pm_card_authenticationRequiredOnSetup":            {asks, refuses, pays},
		"pm_card_authenticationRequiredSetupForOffSession": {asks, pays, pays},
		"pm_card_threeDSecure2Required":                    {asks, refuses, refuses},
		"pm_card_threeDSecureOptional":                     {pays, pays, pays},
		"pm_card_amex_threeDSecureNotSupported":            {pays, pays, pays},
	}
	for pm, tt := range tests {
		t.Run(pm, func(t *testing.T) {
			b := open(t)
			outcome := func(form string) string {
				r := b.post("/v1/payment_intents", order+"&confirm=true&"+form)
				if r.status == 402 {
					assert.Equal(t, "card_error", r.text("error.type"))
					assert.Equal(t, r.text("error.code"), r.text("error.decline_code"))
					assert.Equal(t, "requires_payment_method", r.text("error.payment_intent.status"))
					return r.text("error.code")
				}
				return r.text("status")
			}
			assert.Equal(t, tt.onSession, outcome("payment_method="+pm))
			assert.Equal(t, tt.onSession, outcome("payment_method="+pm+"&off_session=false"))
			assert.Equal(t, tt.offSession, outcome("payment_method="+pm+"&off_session=true"))
			customer := b.must("/v1/customers", "").text("id")
			setup := b.must("/v1/setup_intents", "confirm=true&payment_method_types[]=card&customer="+customer+"&payment_method="+pm)
			if setup.text("status") == asks {
				require.NoError(t, b.Authenticate(setup.text("id"), true))
			}
			saved := b.get("/v1/setup_intents/"+setup.text("id"), "").text("payment_method")
			assert.Equal(t, tt.offAfterSetup, outcome("off_session=recurring&customer="+customer+"&payment_method="+saved))
			assert.Equal(t, tt.onSession, outcome("customer="+customer+"&payment_method="+saved))
		})
	}
}

func TestTheNextActionLeadsSomewhere(t *testing.T) {
	b := open(t)
	const form = order + "&confirm=true&payment_method=pm_card_threeDSecure2Required"
	r := b.must("/v1/payment_intents", form+"&return_url=https://shop.example/back?order=1")
	assert.Equal(t, "redirect_to_url", r.text("next_action.type"))
	assert.Equal(t, "https://shop.example/back?order=1", r.text("next_action.redirect_to_url.return_url"))
	assert.Equal(t, b.host.URL+"/authenticate/"+r.text("id"), r.text("next_action.redirect_to_url.url"))
	assert.NotEmpty(t, r.text("client_secret"))
	for _, extra := range []string{"", "&return_url=https://shop.example/back&use_stripe_sdk=true"} {
		r = b.must("/v1/payment_intents", form+extra)
		assert.Equal(t, []string{"use_stripe_sdk", "three_d_secure_redirect"}, []string{r.text("next_action.type"), r.text("next_action.use_stripe_sdk.type")})
	}
	assert.Zero(t, b.Money.Len())
}

func TestTheCustomersPage(t *testing.T) {
	tests := map[string]struct {
		outcome, status, redirect string
		charges                   int
	}{
		"completed": {"complete", "succeeded", "succeeded", 1},
		"failed":    {"fail", "requires_payment_method", "failed", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			r := b.must("/v1/payment_intents", order+"&confirm=true&payment_method=pm_card_threeDSecure2Required&return_url=https://shop.example/back?order=1")
			id, secret := r.text("id"), r.text("client_secret")
			page := r.text("next_action.redirect_to_url.url")
			client := *b.host.Client()
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			got, err := client.Get(page)
			require.NoError(t, err)
			require.NoError(t, got.Body.Close())
			assert.Equal(t, 200, got.StatusCode)
			got, err = client.PostForm(page, url.Values{"outcome": {tt.outcome}})
			require.NoError(t, err)
			require.NoError(t, got.Body.Close())
			assert.Equal(t, 303, got.StatusCode)
			to, err := url.Parse(got.Header.Get("Location"))
			require.NoError(t, err)
			assert.Equal(t, url.Values{
				"order": {"1"}, "payment_intent": {id}, "payment_intent_client_secret": {secret}, "redirect_status": {tt.redirect},
			}, to.Query())
			pi := b.get("/v1/payment_intents/"+id, "")
			assert.Equal(t, tt.status, pi.text("status"))
			assert.Nil(t, pi.at("next_action"))
			assert.Len(t, b.Charges("o1"), tt.charges)
			if tt.charges == 0 {
				assert.Equal(t, "payment_intent_authentication_failure", pi.text("last_payment_error.code"))
				assert.Nil(t, pi.at("latest_charge"), "no charge was tried")
			}
			got, err = client.PostForm(page, url.Values{"outcome": {tt.outcome}})
			require.NoError(t, err)
			require.NoError(t, got.Body.Close())
			assert.Equal(t, 409, got.StatusCode, "once")
			assert.Len(t, b.Charges("o1"), tt.charges)
		})
	}
}

func TestThePageWithoutAReturnURLJustEnds(t *testing.T) {
	b := open(t)
	id := b.must("/v1/payment_intents", order+"&confirm=true&payment_method=pm_card_threeDSecure2Required").text("id")
	r := b.post("/authenticate/"+id, "outcome=complete")
	assert.Equal(t, 200, r.status)
	assert.Equal(t, 409, b.post("/authenticate/pi_none", "outcome=complete").status)
	assert.Equal(t, 400, b.post("/authenticate/"+id, "a=%").status)
	require.Error(t, b.Authenticate("pi_none", true))
}

func TestADeclineAfterTheAuthentication(t *testing.T) {
	for pm, code := range map[string]string{
		"pm_card_threeDSecureRequiredChargeDeclined":                    "generic_decline",
		"pm_card_authenticationRequiredChargeDeclinedInsufficientFunds": "insufficient_funds",
	} {
		b := open(t)
		id := b.must("/v1/payment_intents", order+"&confirm=true&payment_method="+pm).text("id")
		require.NoError(t, b.Authenticate(id, true))
		pi := b.get("/v1/payment_intents/"+id, "")
		assert.Equal(t, []any{"requires_payment_method", code}, []any{pi.text("status"), pi.text("last_payment_error.decline_code")})
		assert.Zero(t, b.Money.Len())
	}
	b := open(t)
	id := b.must("/v1/payment_intents", order+"&confirm=true&payment_method=pm_card_threeDSecureRequiredProcessingError").text("id")
	require.NoError(t, b.Authenticate(id, true))
	assert.Equal(t, "payment_intent_authentication_failure", b.get("/v1/payment_intents/"+id, "").text("last_payment_error.code"))
}

// A refused create still makes a PaymentIntent, which no success names.
func TestErrorOnRequiresAction(t *testing.T) {
	b := open(t)
	r := b.post("/v1/payment_intents", order+"&confirm=true&error_on_requires_action=true&payment_method=pm_card_threeDSecure2Required")
	assert.Equal(t, []any{402, "authentication_required", "authentication_not_handled", ""}, []any{
		r.status, r.text("error.code"), r.text("error.decline_code"), r.text("error.charge"),
	})
	left := b.get("/v1/payment_intents", "")
	require.Len(t, left.at("data"), 1)
	assert.Equal(t, "requires_payment_method", left.text("data.0.status"))
}

func TestManualConfirmationIsConfirmedTwice(t *testing.T) {
	b := open(t)
	id := b.must("/v1/payment_intents", "amount=1000&currency=usd&metadata[order_id]=o1&confirmation_method=manual&confirm=true&payment_method=pm_card_threeDSecure2Required").text("id")
	require.NoError(t, b.Authenticate(id, true))
	assert.Equal(t, "requires_confirmation", b.get("/v1/payment_intents/"+id, "").text("status"))
	assert.Zero(t, b.Money.Len())
	assert.Equal(t, "succeeded", b.must("/v1/payment_intents/"+id+"/confirm", "").text("status"))
	assert.Len(t, b.Charges("o1"), 1)
}

func TestACanceledIntentCanNoLongerBeAuthenticated(t *testing.T) {
	b := open(t)
	id := b.must("/v1/payment_intents", order+"&confirm=true&payment_method=pm_card_threeDSecure2Required").text("id")
	b.must("/v1/payment_intents/"+id+"/cancel", "")
	require.Error(t, b.Authenticate(id, true))
	assert.Zero(t, b.Money.Len())
}
