package stripe_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// refusal is what a refused request is told.
type refusal struct {
	status            int
	kind, code, param string
}

func (r reply) refusal() refusal {
	return refusal{r.status, r.text("error.type"), r.text("error.code"), r.text("error.param")}
}

func TestWhoIsLetIn(t *testing.T) {
	b := open(t)
	tests := map[string]struct {
		options []option
		status  int
	}{
		"the test key":                        {nil, 200},
		"the live key":                        {[]option{header("Authorization", "Bearer "+liveKey)}, 200},
		"the key as a user name":              {[]option{func(r *http.Request) { r.SetBasicAuth(testKey, "") }}, 200},
		"a connected account":                 {[]option{header("Stripe-Account", member)}, 200},
		"the API's version":                   {[]option{header("Stripe-Version", "2023-10-16")}, 200},
		"another key":                         {[]option{header("Authorization", "Bearer sk_test_other")}, 401},
		"no key":                              {[]option{header("Authorization", "")}, 401},
		"an account that isn't connected":     {[]option{header("Stripe-Account", "acct_stranger")}, 403},
		"a version that isn't simulated":      {[]option{header("Stripe-Version", "2020-08-27")}, 400},
		"an empty user name with a password":  {[]option{func(r *http.Request) { r.SetBasicAuth("", "x") }}, 401},
		"a publishable key isn't let in here": {[]option{header("Authorization", "Bearer pk_test_1")}, 401},
	}
	for name, tt := range tests {
		r := b.get("/v1/account", "", tt.options...)
		assert.Equal(t, tt.status, r.status, name)
		assert.True(t, strings.HasPrefix(r.header.Get("Request-Id"), "req_"), name)
		assert.NotContains(t, r.raw, "sk_test_other", "a key isn't told")
	}
	assert.Equal(t, 404, b.get("/v1/nothing", "").status)
	assert.Equal(t, 404, b.post("/v1/account", "").status)
}

func TestModesAndAccountsSeeNothingOfEachOther(t *testing.T) {
	b := open(t)
	id := b.intent("")
	live, connected := header("Authorization", "Bearer "+liveKey), header("Stripe-Account", member)
	assert.Equal(t, false, b.get("/v1/payment_intents/"+id, "").at("livemode"))
	for _, o := range []option{live, connected} {
		assert.Equal(t, refusal{404, "invalid_request_error", "resource_missing", "intent"}, b.get("/v1/payment_intents/"+id, "", o).refusal())
	}
	assert.Equal(t, true, b.must("/v1/payment_intents", order, live).at("livemode"))
	assert.Equal(t, member, b.must("/v1/payment_intents", order, connected).header.Get("Stripe-Account"))
	assert.Equal(t, refusal{400, "invalid_request_error", "resource_missing", "payment_method"},
		b.post("/v1/payment_intents", order+"&payment_method=pm_card_visa", live).refusal(), "test cards are for test mode")
	pm, err := b.NewPaymentMethod("", true, "pm_card_visa")
	require.NoError(t, err)
	b.must("/v1/payment_intents", order+"&confirm=true&payment_method="+pm, live)
	require.Len(t, b.Charges("o1"), 1)
	assert.True(t, b.Charges("o1")[0].Live)
	_, err = b.NewPaymentMethod("", true, "pm_card_nobody")
	require.Error(t, err)
}

func TestParametersThatAreRefused(t *testing.T) {
	b := open(t)
	const invalid = "invalid_request_error"
	intent := b.intent("")
	tests := map[string]struct {
		path, form string
		want       refusal
	}{
		"no amount":                       {"/v1/payment_intents", "currency=usd", refusal{400, invalid, "parameter_missing", "amount"}},
		"no currency":                     {"/v1/payment_intents", "amount=1000", refusal{400, invalid, "parameter_missing", "currency"}},
		"an unknown parameter":            {"/v1/payment_intents", order + "&colour=red", refusal{400, invalid, "parameter_unknown", "colour"}},
		"an unknown nested parameter":     {"/v1/payment_intents", order + "&automatic_payment_methods[x]=1", refusal{400, invalid, "parameter_unknown", "automatic_payment_methods[x]"}},
		"an amount with a fraction":       {"/v1/payment_intents", "amount=10.5&currency=usd", refusal{400, invalid, "parameter_invalid_integer", "amount"}},
		"an amount of nothing":            {"/v1/payment_intents", "amount=0&currency=usd", refusal{400, invalid, "parameter_invalid_integer", "amount"}},
		"a negative amount":               {"/v1/payment_intents", "amount=-1&currency=usd", refusal{400, invalid, "parameter_invalid_integer", "amount"}},
		"an amount beyond 64 bits":        {"/v1/payment_intents", "amount=9223372036854775808&currency=usd", refusal{400, invalid, "parameter_invalid_integer", "amount"}},
		"less than fifty cents":           {"/v1/payment_intents", "amount=49&currency=usd", refusal{400, invalid, "amount_too_small", "amount"}},
		"less than the currency's own":    {"/v1/payment_intents", "amount=17499&currency=huf", refusal{400, invalid, "amount_too_small", "amount"}},
		"nine digits":                     {"/v1/payment_intents", "amount=100000000&currency=usd", refusal{400, invalid, "amount_too_large", "amount"}},
		"no such currency":                {"/v1/payment_intents", "amount=1000&currency=xxx", refusal{400, invalid, "", "currency"}},
		"three decimals, the last not 0":  {"/v1/payment_intents", "amount=1001&currency=kwd", refusal{400, invalid, "", "amount"}},
		"ISK with decimals":               {"/v1/payment_intents", "amount=1050&currency=isk", refusal{400, invalid, "", "amount"}},
		"UGX with decimals":               {"/v1/payment_intents", "amount=1050&currency=ugx", refusal{400, invalid, "", "amount"}},
		"more digits than INR has":        {"/v1/payment_intents", "amount=1000000000&currency=inr", refusal{400, invalid, "amount_too_large", "amount"}},
		"a truth that is none":            {"/v1/payment_intents", order + "&confirm=yes", refusal{400, invalid, "", "confirm"}},
		"an unknown value":                {"/v1/payment_intents", order + "&capture_method=later", refusal{400, invalid, "", "capture_method"}},
		"an object that is a text":        {"/v1/payment_intents", order + "&shipping=1&transfer_data=1", refusal{400, invalid, "", "transfer_data"}},
		"a text that is an object":        {"/v1/payment_intents", order + "&description[a]=1", refusal{400, invalid, "", "description"}},
		"a list that is a text":           {"/v1/payment_intents", order + "&expand=customer", refusal{400, invalid, "", "expand"}},
		"a value that is an object too":   {"/v1/payment_intents", order + "&metadata=x", refusal{400, invalid, "", "metadata[order_id]"}},
		"an odd bracket":                  {"/v1/payment_intents", order + "&a[b=1", refusal{400, invalid, "", "a[b"}},
		"an empty id":                     {"/v1/payment_intents", order + "&customer=", refusal{400, invalid, "parameter_invalid_empty", "customer"}},
		"no such customer":                {"/v1/payment_intents", order + "&customer=cus_none", refusal{400, invalid, "resource_missing", "customer"}},
		"no such payment method":          {"/v1/payment_intents", order + "&payment_method=pm_none", refusal{400, invalid, "resource_missing", "payment_method"}},
		"a method of another type":        {"/v1/payment_intents", "amount=1000&currency=usd&payment_method_types[]=card&payment_method=pm_usBankAccount_success", refusal{400, invalid, "", "payment_method"}},
		"a metadata key of 41 characters": {"/v1/payment_intents", order + "&metadata[" + strings.Repeat("k", 41) + "]=1", refusal{400, invalid, "", "metadata[" + strings.Repeat("k", 41) + "]"}},
		"a metadata value of 501":         {"/v1/payment_intents", order + "&metadata[k]=" + strings.Repeat("v", 501), refusal{400, invalid, "", "metadata[k]"}},
		"51 metadata":                     {"/v1/payment_intents", order + many(51), refusal{400, invalid, "", "metadata"}},
		"off_session without confirm":     {"/v1/payment_intents", order + "&off_session=true", refusal{400, invalid, "", "off_session"}},
		"return_url without confirm":      {"/v1/payment_intents", order + "&return_url=https://example.com", refusal{400, invalid, "", "return_url"}},
		"enabled missing":                 {"/v1/payment_intents", "amount=1000&currency=usd&automatic_payment_methods[allow_redirects]=never", refusal{400, invalid, "parameter_missing", "automatic_payment_methods[enabled]"}},
		"automatic and types":             {"/v1/payment_intents", order + "&payment_method_types[]=card", refusal{400, invalid, "", ""}},
		"automatic and manual":            {"/v1/payment_intents", order + "&confirmation_method=manual", refusal{400, invalid, "", ""}},
		"a fee of the platform's own":     {"/v1/payment_intents", order + "&application_fee_amount=10", refusal{400, invalid, "", "application_fee_amount"}},
		"a fee above the amount":          {"/v1/payment_intents", order + "&application_fee_amount=1001&transfer_data[destination]=acct_member", refusal{400, invalid, "", "application_fee_amount"}},
		"a transfer to nobody":            {"/v1/payment_intents", order + "&transfer_data[amount]=1", refusal{400, invalid, "parameter_missing", "transfer_data[destination]"}},
		"what isn't simulated is said":    {"/v1/payment_intents", order + "&payment_method_options[card][moto]=true", refusal{501, "api_error", "", "payment_method_options"}},
		"another client's secret":         {"/v1/payment_intents/" + intent + "/confirm", "client_secret=x", refusal{400, invalid, "", "client_secret"}},
		"no such intent":                  {"/v1/payment_intents/pi_none/confirm", "", refusal{404, invalid, "resource_missing", "intent"}},
		"a refund of nothing":             {"/v1/refunds", "amount=10", refusal{400, invalid, "parameter_missing", "payment_intent"}},
		"a refund of no such intent":      {"/v1/refunds", "payment_intent=pi_none", refusal{400, invalid, "resource_missing", "payment_intent"}},
		"a refund of no such charge":      {"/v1/refunds", "charge=ch_none", refusal{400, invalid, "resource_missing", "charge"}},
		"a property that isn't there":     {"/v1/payment_intents", order + "&expand[]=colour", refusal{400, invalid, "", "expand"}},
		"a raw card number":               {"/v1/payment_methods", "type=card&card[number]=4242424242424242&card[exp_month]=1&card[exp_year]=2030", refusal{402, invalid, "", ""}},
	}
	for name, tt := range tests {
		r := b.post(tt.path, tt.form)
		assert.Equal(t, tt.want, r.refusal(), "%s: %s", name, r.raw)
	}
	assert.Zero(t, b.Money.Len())
	assert.Len(t, b.get("/v1/payment_intents", "").at("data"), 1, "nothing was made of what was refused")
}

func many(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, "&metadata[k%d]=v", i)
	}
	return out.String()
}

func TestAmountsThatAreTaken(t *testing.T) {
	b := open(t)
	for _, form := range []string{
		"amount=50&currency=usd", "amount=50&currency=USD", "amount=99999999&currency=usd", "amount=50&currency=jpy", "amount=30&currency=gbp",
		"amount=1000&currency=kwd", "amount=100&currency=isk", "amount=50&currency=krw",
		"amount=1&currency=bdt", "amount=500&currency=ugx", "amount=999999999999&currency=idr",
	} {
		r := b.must("/v1/payment_intents", form)
		assert.Equal(t, strings.ToLower(form[strings.LastIndex(form, "=")+1:]), r.text("currency"))
	}
}

// The rule that a confirmation needs a return_url, and how to do without.
func TestReturnURL(t *testing.T) {
	const plain = "amount=1000&currency=usd&payment_method=pm_card_visa"
	tests := map[string]struct {
		create, confirm string
		status          int
	}{
		"by default automatic methods may redirect": {plain, "", 400},
		"said outright":         {plain + "&automatic_payment_methods[enabled]=true", "", 400},
		"always said outright":  {plain + "&automatic_payment_methods[enabled]=true&automatic_payment_methods[allow_redirects]=always", "", 400},
		"with a return_url":     {plain, "return_url=https://example.com/back", 200},
		"redirects ruled out":   {plain + "&automatic_payment_methods[enabled]=true&automatic_payment_methods[allow_redirects]=never", "", 200},
		"cards alone":           {plain + "&payment_method_types[]=card", "", 200},
		"automatic methods off": {plain + "&automatic_payment_methods[enabled]=false", "", 200},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			id := b.must("/v1/payment_intents", tt.create).text("id")
			assert.Equal(t, tt.status, b.post("/v1/payment_intents/"+id+"/confirm", tt.confirm).status, "in two steps")
			form := tt.create + "&confirm=true"
			if tt.confirm != "" {
				form += "&" + tt.confirm
			}
			assert.Equal(t, tt.status, b.post("/v1/payment_intents", form).status, "in one step")
			want := 0
			if tt.status == 200 {
				want = 2
			}
			assert.Equal(t, want, b.Money.Len())
		})
	}
}

func TestDeclinesAreTheDocumentedOnes(t *testing.T) {
	tests := map[string][]string{ // code, decline_code, param, advice_code, outcome
		"pm_card_chargeDeclined":                           {"card_declined", "generic_decline", "", "try_again_later", "issuer_declined"},
		"pm_card_visa_chargeDeclined":                      {"card_declined", "generic_decline", "", "try_again_later", "issuer_declined"},
		"pm_card_chargeDeclinedInsufficientFunds":          {"card_declined", "insufficient_funds", "", "try_again_later", "issuer_declined"},
		"pm_card_visa_chargeDeclinedInsufficientFunds":     {"card_declined", "insufficient_funds", "", "try_again_later", "issuer_declined"},
		"pm_card_chargeDeclinedLostCard":                   {"card_declined", "lost_card", "", "do_not_try_again", "issuer_declined"},
		"pm_card_visa_chargeDeclinedStolenCard":            {"card_declined", "stolen_card", "", "do_not_try_again", "issuer_declined"},
		"pm_card_visa_chargeDeclinedVelocityLimitExceeded": {"card_declined", "card_velocity_exceeded", "", "", "issuer_declined"},
		"pm_card_chargeDeclinedExpiredCard":                {"expired_card", "expired_card", "exp_month", "confirm_card_data", "issuer_declined"},
		"pm_card_chargeDeclinedIncorrectCvc":               {"incorrect_cvc", "incorrect_cvc", "cvc", "confirm_card_data", "issuer_declined"},
		"pm_card_chargeDeclinedProcessingError":            {"processing_error", "processing_error", "", "try_again_later", "issuer_declined"},
		"pm_card_chargeDeclinedFraudulent":                 {"card_declined", "fraudulent", "", "", "issuer_declined"},
		"pm_card_radarBlock":                               {"card_declined", "fraudulent", "", "", "blocked"},
		"pm_card_chargeCustomerFail":                       {"card_declined", "generic_decline", "", "try_again_later", "issuer_declined"},
	}
	for pm, want := range tests {
		t.Run(pm, func(t *testing.T) {
			b := open(t)
			id := b.intent("&payment_method=" + pm)
			r := b.post("/v1/payment_intents/"+id+"/confirm", "")
			require.Equal(t, 402, r.status)
			assert.Equal(t, "card_error", r.text("error.type"))
			assert.NotEmpty(t, r.text("error.message"))
			charge := b.get("/v1/charges/"+r.text("error.charge"), "")
			assert.Equal(t, want, []string{
				r.text("error.code"), r.text("error.decline_code"), r.text("error.param"), r.text("error.advice_code"), charge.text("outcome.type"),
			})
			assert.Equal(t, []any{"failed", false, want[0]}, []any{charge.text("status"), charge.at("paid"), charge.text("failure_code")})
			pi := b.get("/v1/payment_intents/"+id, "")
			for _, seen := range []any{r.at("error.payment_intent"), pi.body} {
				got := reply{body: seen.(map[string]any)}
				assert.Equal(t, []any{id, "requires_payment_method", nil, want[1]}, []any{
					got.text("id"), got.text("status"), got.at("payment_method"), got.text("last_payment_error.decline_code"),
				})
			}
			assert.Equal(t, []string{"payment_intent.created", "charge.failed", "payment_intent.payment_failed"}, b.types())
			assert.Zero(t, b.Money.Len())
			assert.Equal(t, "succeeded", b.must("/v1/payment_intents/"+id+"/confirm", "payment_method=pm_card_visa").text("status"), "another card pays")
		})
	}
}

// Each operation of each state: 200, or the code of the refusal.
func TestTheLifecycleOfAPaymentIntent(t *testing.T) {
	const moved = "payment_intent_unexpected_state"
	states := map[string]func(b *bench) string{
		"requires_payment_method": func(b *bench) string { return b.intent("") },
		"requires_confirmation":   func(b *bench) string { return b.intent("&payment_method=pm_card_visa") },
		"requires_action": func(b *bench) string {
			return b.must("/v1/payment_intents", order+"&confirm=true&payment_method=pm_card_threeDSecure2Required").text("id")
		},
		"processing": func(b *bench) string {
			return b.must("/v1/payment_intents", order+"&confirm=true&payment_method=pm_usBankAccount_success").text("id")
		},
		"requires_capture": func(b *bench) string { return b.paid("&capture_method=manual") },
		"succeeded":        func(b *bench) string { return b.paid("") },
		"canceled": func(b *bench) string {
			id := b.intent("")
			b.must("/v1/payment_intents/"+id+"/cancel", "")
			return id
		},
	}
	tests := map[string]map[string]string{ // state: operation: code, "" where it's done
		"requires_payment_method": {"/confirm": moved, "/capture": moved, "/cancel": "", "": ""},
		"requires_confirmation":   {"/confirm": "", "/capture": moved, "/cancel": "", "": ""},
		"requires_action":         {"/confirm": "", "/capture": moved, "/cancel": "", "": ""},
		"processing":              {"/confirm": moved, "/capture": moved, "/cancel": "", "": moved},
		"requires_capture":        {"/confirm": moved, "/capture": "", "/cancel": "", "": moved},
		"succeeded":               {"/confirm": moved, "/capture": moved, "/cancel": moved, "": moved},
		"canceled":                {"/confirm": moved, "/capture": moved, "/cancel": moved, "": moved},
	}
	for state, operations := range tests {
		for operation, code := range operations {
			t.Run(state+operation, func(t *testing.T) {
				b := open(t)
				id := states[state](b)
				require.Equal(t, state, b.get("/v1/payment_intents/"+id, "").text("status"))
				form := ""
				if operation == "" {
					form = "amount=2000"
				}
				r := b.post("/v1/payment_intents/"+id+operation, form)
				assert.Equal(t, code, r.text("error.code"), r.raw)
				if code != "" {
					assert.Equal(t, 400, r.status)
					assert.Equal(t, state, r.text("error.payment_intent.status"), "the refusal shows the intent")
				}
				assert.Equal(t, 200, b.post("/v1/payment_intents/"+id, "metadata[note]=x").status, "metadata can be set in any state")
			})
		}
	}
}

func TestAnUpdateChangesAllOrNothing(t *testing.T) {
	b := open(t)
	customer := b.must("/v1/customers", "").text("id")
	id := b.intent("&description=old&shipping[name]=A")
	path := "/v1/payment_intents/" + id
	r := b.must(path, "amount=2000&currency=EUR&description=new&customer="+customer+"&receipt_email=a@example.com&metadata[k]=v")
	assert.Equal(t, []any{2000, "eur", "new", customer, "a@example.com", "v", "o1", "A"}, []any{
		r.at("amount"), r.text("currency"), r.text("description"), r.text("customer"), r.text("receipt_email"), r.text("metadata.k"),
		r.text("metadata.order_id"), r.text("shipping.name"),
	})
	for _, form := range []string{"amount=3000&payment_method=pm_none", "amount=3000&customer=cus_none", "amount=1", "amount=3000&currency=xxx"} {
		assert.Equal(t, 400, b.post(path, form).status, form)
	}
	assert.Equal(t, 2000, b.get(path, "").at("amount"))
	assert.Equal(t, "requires_confirmation", b.must(path, "payment_method=pm_card_visa").text("status"))
	assert.Equal(t, 404, b.post("/v1/payment_intents/pi_none", "").status)
	assert.Equal(t, 400, b.post(path+"/confirm", "payment_method=pm_none").status)
	assert.Equal(t, 404, b.get("/v1/charges/ch_none", "").status)
	assert.Contains(t, b.post("/v1/payment_intents", "amount=17499&currency=huf").text("error.message"), "175.00 huf")
	assert.Contains(t, b.post("/v1/payment_intents", "amount=49&currency=jpy").text("error.message"), "50 jpy")
}

func TestAMissingPaymentMethodIsToldAtConfirmation(t *testing.T) {
	b := open(t)
	r := b.post("/v1/payment_intents", order+"&confirm=true")
	assert.Equal(t, refusal{400, "invalid_request_error", "payment_intent_unexpected_state", ""}, r.refusal())
	assert.Equal(t, "requires_payment_method", r.text("error.payment_intent.status"))
}

func TestCaptureTakesAtMostWhatIsHeld(t *testing.T) {
	tests := map[string]struct {
		form     string
		want     refusal
		captured int
	}{
		"all":             {"", refusal{200, "", "", ""}, 1000},
		"all, said so":    {"amount_to_capture=1000", refusal{200, "", "", ""}, 1000},
		"a part":          {"amount_to_capture=400", refusal{200, "", "", ""}, 400},
		"more than held":  {"amount_to_capture=1001", refusal{400, "invalid_request_error", "amount_too_large", "amount_to_capture"}, 0},
		"nothing":         {"amount_to_capture=0", refusal{400, "invalid_request_error", "parameter_invalid_integer", "amount_to_capture"}, 0},
		"less than that":  {"amount_to_capture=-5", refusal{400, "invalid_request_error", "parameter_invalid_integer", "amount_to_capture"}, 0},
		"part of a cent":  {"amount_to_capture=0.5", refusal{400, "invalid_request_error", "parameter_invalid_integer", "amount_to_capture"}, 0},
		"not now, please": {"final_capture=false", refusal{400, "invalid_request_error", "", "final_capture"}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			id := b.paid("&capture_method=manual")
			held := b.get("/v1/payment_intents/"+id, "expand[]=latest_charge")
			assert.Equal(t, []any{1000, 0, false, int(start.AddDate(0, 0, 7).Unix())}, []any{
				held.at("amount_capturable"), held.at("amount_received"), held.at("latest_charge.captured"), held.at("latest_charge.payment_method_details.card.capture_before"),
			})
			assert.Zero(t, b.Money.Len(), "an authorisation moves nothing")
			r := b.post("/v1/payment_intents/"+id+"/capture", tt.form)
			assert.Equal(t, tt.want, r.refusal(), r.raw)
			if tt.captured == 0 {
				assert.Zero(t, b.Money.Len())
				return
			}
			require.Equal(t, 1, b.Money.Len())
			assert.Equal(t, int64(tt.captured), b.Charges("o1")[0].Amount)
			assert.Equal(t, []any{"succeeded", tt.captured, 0, 1000}, []any{r.text("status"), r.at("amount_received"), r.at("amount_capturable"), r.at("amount")})
			assert.Equal(t, []string{"payment_intent.created", "charge.succeeded", "payment_intent.amount_capturable_updated", "charge.captured", "payment_intent.succeeded"}, b.types())
			charge := b.get("/v1/payment_intents/"+id, "expand[]=latest_charge")
			assert.Equal(t, []any{tt.captured, 1000 - tt.captured, false}, []any{
				charge.at("latest_charge.amount_captured"), charge.at("latest_charge.amount_refunded"), charge.at("latest_charge.refunded"),
			})
			over := b.post("/v1/refunds", fmt.Sprintf("payment_intent=%s&amount=%d", id, tt.captured+1))
			assert.Equal(t, 400, over.status, "what was released can't be refunded")
		})
	}
}

func TestAnAuthorisationEndsAfterSevenDays(t *testing.T) {
	b := open(t)
	id := b.paid("&capture_method=manual")
	b.clock.Advance(7*24*time.Hour - time.Second)
	assert.Equal(t, "requires_capture", b.get("/v1/payment_intents/"+id, "").text("status"))
	b.clock.Advance(time.Second)
	r := b.post("/v1/payment_intents/"+id+"/capture", "")
	assert.Equal(t, "canceled", r.text("error.payment_intent.status"))
	assert.Equal(t, "automatic", r.text("error.payment_intent.cancellation_reason"))
	assert.Contains(t, b.types(), "payment_intent.canceled")
	assert.Zero(t, b.Money.Len())
}

func TestACancellationLetsTheAuthorisationGo(t *testing.T) {
	b := open(t)
	id := b.paid("&capture_method=manual")
	r := b.must("/v1/payment_intents/"+id+"/cancel", "cancellation_reason=abandoned&expand[]=latest_charge")
	assert.Equal(t, []any{"canceled", "abandoned", int(start.Unix()), 0, true}, []any{
		r.text("status"), r.text("cancellation_reason"), r.at("canceled_at"), r.at("amount_capturable"), r.at("latest_charge.refunded"),
	})
	assert.Equal(t, 400, b.post("/v1/payment_intents/"+id+"/cancel", "cancellation_reason=whim").status)
	assert.Zero(t, b.Money.Len())
}

func TestABankDebitTakesItsTime(t *testing.T) {
	for succeeds, want := range map[bool][]string{true: {"succeeded", "payment_intent.succeeded"}, false: {"requires_payment_method", "payment_intent.payment_failed"}} {
		b := open(t)
		id := b.must("/v1/payment_intents", order+"&confirm=true&payment_method=pm_usBankAccount_processing").text("id")
		assert.Equal(t, "processing", b.get("/v1/payment_intents/"+id, "").text("status"))
		assert.Zero(t, b.Money.Len())
		require.NoError(t, b.Settle(id, succeeds))
		require.Error(t, b.Settle(id, succeeds), "once")
		assert.Equal(t, want[0], b.get("/v1/payment_intents/"+id, "").text("status"))
		assert.Equal(t, succeeds, len(b.Charges("o1")) == 1)
		types := b.types()
		assert.Equal(t, want[1], types[len(types)-1])
	}
	require.Error(t, open(t).Settle("pi_none", true))
}

func TestAHeldObjectIsALockTimeout(t *testing.T) {
	b := open(t)
	id := b.paid("")
	unlock := b.Lock(id)
	for _, r := range []reply{
		b.get("/v1/payment_intents/"+id, ""), b.post("/v1/payment_intents/"+id+"/cancel", "", key("a")), b.post("/v1/refunds", "payment_intent="+id, key("b")),
	} {
		assert.Equal(t, refusal{429, "invalid_request_error", "lock_timeout", ""}, r.refusal())
		assert.Equal(t, "true", r.header.Get("Stripe-Should-Retry"))
	}
	unlock()
	unlock()
	assert.Equal(t, 200, b.post("/v1/refunds", "payment_intent="+id, key("b")).status, "a conflict isn't kept under the key")
}

func TestListsAreFilteredAndPaged(t *testing.T) {
	b := open(t)
	customer := b.must("/v1/customers", "email=a@example.com").text("id")
	var mine []string
	for range 3 {
		mine = append(mine, b.intent("&customer="+customer))
		b.clock.Advance(10 * time.Second)
		b.intent("")
		b.clock.Advance(10 * time.Second)
	}
	ids := func(r reply) []string {
		var out []string
		for _, v := range r.at("data").([]any) {
			out = append(out, v.(map[string]any)["id"].(string))
		}
		return out
	}
	all := b.get("/v1/payment_intents", "")
	assert.Len(t, ids(all), 6)
	assert.Equal(t, []any{"list", false, "/v1/payment_intents"}, []any{all.text("object"), all.at("has_more"), all.text("url")})
	assert.Equal(t, []string{mine[2], mine[1], mine[0]}, ids(b.get("/v1/payment_intents", "customer="+customer)), "newest first")
	at := func(seconds int64) string { return fmt.Sprint(start.Unix() + seconds) }
	assert.Equal(t, []string{mine[1]}, ids(b.get("/v1/payment_intents", "customer="+customer+"&created[gte]="+at(20)+"&created[lt]="+at(40))))
	assert.Equal(t, []string{mine[1]}, ids(b.get("/v1/payment_intents", "created="+at(20))))
	assert.Equal(t, []string{mine[2]}, ids(b.get("/v1/payment_intents", "customer="+customer+"&created[gt]="+at(20)+"&created[lte]="+at(40))))
	first := b.get("/v1/payment_intents", "customer="+customer+"&limit=2")
	assert.Equal(t, true, first.at("has_more"))
	rest := b.get("/v1/payment_intents", "customer="+customer+"&limit=2&starting_after="+ids(first)[1])
	assert.Equal(t, []string{mine[0]}, ids(rest))
	assert.Equal(t, false, rest.at("has_more"))
	for _, form := range []string{"limit=0", "limit=101", "limit=x", "starting_after=pi_none", "created[after]=1", "created=now"} {
		assert.Equal(t, 400, b.get("/v1/payment_intents", form).status, form)
	}
}

func TestExpandedPropertiesAreObjects(t *testing.T) {
	b := open(t)
	customer := b.must("/v1/customers", "").text("id")
	id := b.paid("&customer=" + customer)
	r := b.get("/v1/payment_intents/"+id, "expand[]=latest_charge.balance_transaction&expand[]=customer&expand[]=payment_method")
	assert.Equal(t, []any{1000, customer, "card"}, []any{r.at("latest_charge.balance_transaction.net"), r.text("customer.id"), r.text("payment_method.type")})
	r = b.get("/v1/payment_intents", "expand[]=data.latest_charge")
	assert.Equal(t, "charge", r.text("data.0.latest_charge.object"))
	txn := b.get("/v1/payment_intents/"+id, "expand[]=latest_charge").text("latest_charge.balance_transaction")
	assert.Equal(t, 1000, b.get("/v1/balance_transactions/"+txn, "").at("amount"))
	assert.Equal(t, 404, b.get("/v1/balance_transactions/txn_none", "").status)
	assert.Equal(t, member, b.get("/v1/account", "", header("Stripe-Account", member)).text("id"))
}
