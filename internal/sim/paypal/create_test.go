package paypal_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/smilefactory/integrations/internal/sim/paypal"
)

// amount is a purchase unit of an amount, with more fields.
func amount(currency, value string, more ...string) string {
	return `{"amount":{"currency_code":"` + currency + `","value":"` + value + `"}` + strings.Join(append([]string{""}, more...), ",") + `}`
}

func TestABodyIsCheckedAgainstItsShape(t *testing.T) {
	r := open(t, false)
	long := strings.Repeat("x", 128)
	for name, c := range map[string]struct{ body, issue string }{
		"no JSON":                   {`{"intent":`, "MALFORMED_REQUEST_JSON /"},
		"two values":                {`{} {}`, "MALFORMED_REQUEST_JSON /"},
		"another kind of value":     {`[]`, "INVALID_PARAMETER_SYNTAX"},
		"no intent":                 {`{"purchase_units":[` + unit + `]}`, "MISSING_REQUIRED_PARAMETER /intent"},
		"an unknown intent":         {`{"intent":"SALE","purchase_units":[` + unit + `]}`, "INVALID_PARAMETER_VALUE /intent"},
		"no units":                  {`{"intent":"CAPTURE"}`, "MISSING_REQUIRED_PARAMETER /purchase_units"},
		"an empty list of units":    {order(``), "INVALID_ARRAY_MIN_ITEMS /purchase_units"},
		"eleven units":              {order(strings.Repeat(unit+",", 10) + unit), "INVALID_ARRAY_MAX_ITEMS /purchase_units"},
		"an unknown field":          {order(unit, `"colour":"red"`), "NOT_SUPPORTED /colour"},
		"a misspelt field":          {order(amount("USD", "1", `"customid":"a"`)), "NOT_SUPPORTED /purchase_units/0/customid"},
		"a number for a text":       {order(amount("USD", "1", `"custom_id":7`)), "INVALID_PARAMETER_SYNTAX /purchase_units/0/custom_id"},
		"a number as amount":        {order(`{"amount":{"currency_code":"USD","value":10}}`), "INVALID_PARAMETER_SYNTAX /purchase_units/0/amount/value"},
		"no amount":                 {order(`{}`), "MISSING_REQUIRED_PARAMETER /purchase_units/0/amount"},
		"no currency":               {order(`{"amount":{"value":"1"}}`), "MISSING_REQUIRED_PARAMETER /purchase_units/0/amount/currency_code"},
		"a word as amount":          {order(amount("USD", "ten")), "INVALID_PARAMETER_SYNTAX /purchase_units/0/amount/value"},
		"a long currency":           {order(amount("EURO", "1")), "INVALID_STRING_LENGTH /purchase_units/0/amount/currency_code"},
		"a custom_id of 128":        {order(amount("USD", "1", `"custom_id":"`+long+`"`)), "INVALID_STRING_LENGTH /purchase_units/0/custom_id"},
		"an invoice_id of 128":      {order(amount("USD", "1", `"invoice_id":"`+long+`"`)), "INVALID_STRING_LENGTH /purchase_units/0/invoice_id"},
		"an empty custom_id":        {order(amount("USD", "1", `"custom_id":""`)), "INVALID_STRING_LENGTH /purchase_units/0/custom_id"},
		"a payee that is no id":     {order(amount("USD", "1", `"payee":{"merchant_id":"0000000000000"}`)), "INVALID_PARAMETER_SYNTAX /purchase_units/0/payee/merchant_id"},
		"a return_url without http": {order(unit, `"application_context":{"return_url":"shop"}`), "INVALID_PARAMETER_SYNTAX /application_context/return_url"},
		"another payment source":    {order(unit, `"payment_source":{"blik":{}}`), "NOT_SUPPORTED /payment_source/blik"},
	} {
		t.Run(name, func(t *testing.T) {
			got := r.post(orders, c.body, requestID(unique()))
			assert.Equal(t, 400, got.status, got.raw)
			assert.Equal(t, "INVALID_REQUEST", got.text("name"))
			assert.Equal(t, c.issue, got.issue())
		})
	}
}

func TestAnOrderMustMakeSense(t *testing.T) {
	r := open(t, false)
	broken := func(breakdown string, more ...string) string {
		return order(`{"amount":{"currency_code":"USD","value":"10.00","breakdown":{` + breakdown + `}}` + strings.Join(append([]string{""}, more...), ",") + `}`)
	}
	part := func(name, value string) string {
		return `"` + name + `":{"currency_code":"USD","value":"` + value + `"}`
	}
	items := `"items":[{"name":"a","quantity":"2","unit_amount":{"currency_code":"USD","value":"5.00"}}]`
	field := " /purchase_units/0/amount/value"
	for name, c := range map[string]struct{ body, issue string }{
		"a negative amount":           {order(amount("USD", "-1.00")), "CANNOT_BE_ZERO_OR_NEGATIVE" + field},
		"nothing":                     {order(amount("USD", "0.00")), "CANNOT_BE_ZERO_OR_NEGATIVE" + field},
		"three decimals":              {order(amount("USD", "1.000")), "DECIMAL_PRECISION" + field},
		"a currency PayPal lacks":     {order(amount("KWD", "1")), "INVALID_CURRENCY_CODE /purchase_units/0/amount/currency_code"},
		"decimals of yen":             {order(amount("JPY", "100.5")), "DECIMALS_NOT_SUPPORTED" + field},
		"zeros behind forints":        {order(amount("HUF", "100.00")), "DECIMALS_NOT_SUPPORTED" + field},
		"zeros behind Taiwan dollars": {order(amount("TWD", "100.0")), "DECIMALS_NOT_SUPPORTED" + field},
		"too much":                    {order(amount("USD", "1000000000000000")), "MAX_VALUE_EXCEEDED" + field},
		"two currencies":              {order(amount("USD", "1", `"reference_id":"a"`) + "," + amount("EUR", "1", `"reference_id":"b"`)), "MULTI_CURRENCY_ORDER /purchase_units/1/amount/currency_code"},
		"two units without names":     {order(unit + "," + unit), "REFERENCE_ID_REQUIRED /purchase_units/0/reference_id"},
		"two units of one name":       {order(amount("USD", "1", `"reference_id":"a"`) + "," + amount("USD", "1", `"reference_id":"a"`)), "DUPLICATE_REFERENCE_ID /purchase_units/1/reference_id"},
		"two units to authorize":      {authorized(order(amount("USD", "1", `"reference_id":"a"`) + "," + amount("USD", "1", `"reference_id":"b"`))), "UNSUPPORTED_INTENT /intent"},
		"a payee without a name":      {order(amount("USD", "1", `"payee":{}`)), "PAYEE_ACCOUNT_INVALID /purchase_units/0/payee"},
		"parts that don't add up":     {broken(part("item_total", "9.00") + "," + part("discount", "1.00")), "AMOUNT_MISMATCH" + field},
		"items without their total":   {broken(part("shipping", "10.00"), items), "ITEM_TOTAL_REQUIRED /purchase_units/0/amount/breakdown/item_total"},
		"items of another total":      {broken(part("item_total", "9.00")+","+part("shipping", "1.00"), items), "ITEM_TOTAL_MISMATCH /purchase_units/0/amount/breakdown/item_total"},
		"completion on approval":      {order(unit, `"processing_instruction":"ORDER_COMPLETE_ON_PAYMENT_APPROVAL"`), "UNSUPPORTED_PROCESSING_INSTRUCTION /processing_instruction"},
		"two payment sources":         {order(unit, `"payment_source":{"paypal":{},"venmo":{}}`), "ONLY_ONE_PAYMENT_SOURCE_ALLOWED /payment_source"},
		"an empty payment source":     {order(unit, `"payment_source":{}`), "NO_PAYMENT_SOURCE_PROVIDED /payment_source"},
		"a card number":               {order(unit, `"payment_source":{"card":{"number":"4111111111111111"}}`), "NOT_ENABLED_FOR_CARD_PROCESSING /payment_source/card"},
		"a card without anything":     {order(unit, `"payment_source":{"card":{}}`), "CARD_NUMBER_REQUIRED /payment_source/card/number"},
		"an unknown saved method":     {order(unit, `"payment_source":{"paypal":{"vault_id":"x"}}`), "TOKEN_ID_NOT_FOUND /payment_source/paypal"},
		"saving without a way back":   {order(unit, `"payment_source":{"paypal":{"attributes":{"vault":{"store_in_vault":"ON_SUCCESS"}}}}`), "RETURN_URL_REQUIRED /payment_source/paypal/experience_context/return_url"},
	} {
		t.Run(name, func(t *testing.T) {
			got := r.post(orders, c.body, requestID(unique()))
			assert.Equal(t, 422, got.status, got.raw)
			assert.Equal(t, "UNPROCESSABLE_ENTITY", got.text("name"))
			assert.Equal(t, c.issue, got.issue())
		})
	}
	for name, body := range map[string]string{
		"forints":                order(amount("HUF", "100")),
		"yen":                    order(amount("JPY", "1")),
		"cents without a zero":   order(amount("USD", ".5")),
		"the longest ids":        order(amount("USD", "1", `"custom_id":"`+strings.Repeat("x", 127)+`"`, `"invoice_id":"`+strings.Repeat("y", 127)+`"`)),
		"parts that add up":      broken(part("item_total", "10.00")+","+part("shipping", "1.00")+","+part("tax_total", "1.00")+","+part("discount", "2.00"), items),
		"ten units":              order(strings.TrimSuffix(strings.Repeat(`{"amount":{"currency_code":"USD","value":"1"},"reference_id":"#"},`, 10), ",")),
		"what isn't looked into": order(unit, `"payer":{"name":{"given_name":"A"}}`),
	} {
		for i := range 10 {
			body = strings.Replace(body, "#", string(rune('a'+i)), 1)
		}
		got := r.post(orders, body, requestID(unique()))
		assert.Equal(t, 201, got.status, "%s: %s", name, got.raw)
	}
}

func TestCreatingWithAPaymentSourceNeedsARequestID(t *testing.T) {
	r := open(t, false)
	assert.Equal(t, 201, r.post(orders, order(unit)).status)
	got := r.post(orders, order(unit, `"payment_source":{"paypal":{}}`))
	assert.Equal(t, 400, got.status)
	assert.Equal(t, "PAYPAL_REQUEST_ID_REQUIRED", got.issue())
	got = r.post(orders, order(unit), requestID(strings.Repeat("k", 109)))
	assert.Equal(t, 400, got.status)
	assert.Equal(t, "INVALID_STRING_LENGTH PayPal-Request-Id", got.issue())
	assert.Equal(t, 201, r.post(orders, order(unit), requestID(strings.Repeat("k", 108))).status)
}

// The trap: what looks like a preparation takes the money.
func TestCreatingWithASavedMethodChargesInOneStep(t *testing.T) {
	r := open(t, false)
	for _, kind := range []string{"paypal", "venmo", "card"} {
		vaultID, err := r.SaveMethod("sim-client", "customer-1", kind, paypal.Outcome{})
		assert.NoError(t, err)
		got := r.post(orders, order(amount("USD", "10.00", `"custom_id":"`+kind+`"`), `"payment_source":{"`+kind+`":{"vault_id":"`+vaultID+`"}}`), requestID(kind), whole)
		assert.Equal(t, 201, got.status, got.raw)
		assert.Equal(t, []string{"COMPLETED", "COMPLETED"}, []string{got.text("status"), got.text("purchase_units.0.payments.captures.0.status")})
		assert.Equal(t, 1, r.Charges.Count(kind))
		got = r.post(orders+"/"+got.text("id")+"/capture", "", requestID(unique()))
		assert.Equal(t, "ORDER_ALREADY_CAPTURED", got.issue())
	}
	vaultID, err := r.SaveMethod("sim-client", "customer-1", "card", paypal.Outcome{Issue: "TRANSACTION_REFUSED"})
	assert.NoError(t, err)
	got := r.post(orders, order(amount("USD", "1.00", `"custom_id":"no"`), `"payment_source":{"card":{"vault_id":"`+vaultID+`"}}`), requestID("no"))
	assert.Equal(t, "TRANSACTION_REFUSED", got.issue())
	assert.Empty(t, r.Balance("no"))
	got = r.post(orders, order(unit, `"payment_source":{"paypal":{"vault_id":"`+vaultID+`"}}`), requestID("kind"))
	assert.Equal(t, "MISMATCHED_VAULT_ID_TO_PAYMENT_SOURCE /payment_source/paypal", got.issue())
	got = r.as(other).post(orders, order(unit, `"payment_source":{"card":{"vault_id":"`+vaultID+`"}}`), requestID("other"))
	assert.Equal(t, "TOKEN_ID_NOT_FOUND /payment_source/card", got.issue())
}

func TestAWalletToComeAsksForTheBuyer(t *testing.T) {
	r := open(t, false)
	got := r.post(orders, order(unit, `"payment_source":{"paypal":{"experience_context":{"return_url":"https://shop.example/r"}}}`), requestID("k"))
	assert.Equal(t, 201, got.status)
	assert.Equal(t, "PAYER_ACTION_REQUIRED", got.text("status"))
	assert.Empty(t, got.link("approve"))
	assert.NotEmpty(t, got.link("payer-action"))
	back := r.post(got.link("payer-action"), "choice=pay")
	assert.Contains(t, back.header.Get("Location"), "https://shop.example/r?")
	assert.Equal(t, "APPROVED", r.get(orders+"/"+got.text("id")).text("status"))
}

func TestAnOrderIsPatched(t *testing.T) {
	r := open(t, false)
	patch := func(op, name, value string) string {
		return `[{"op":"` + op + `","path":"/purchase_units/@reference_id=='default'/` + name + `"` + value + `}]`
	}
	five := `,"value":{"currency_code":"USD","value":"5.00"}`
	id := r.created(order(unit, urls))
	for name, c := range map[string]struct {
		body   string
		status int
		issue  string
	}{
		"another unit":             {`[{"op":"replace","path":"/purchase_units/@reference_id=='x'/amount"` + five + `}]`, 422, "REFERENCE_ID_NOT_FOUND /0/path"},
		"another field":            {patch("replace", "payee", five), 422, "NOT_PATCHABLE /0/path"},
		"a value that isn't there": {patch("replace", "invoice_id", `,"value":"i"`), 400, "INVALID_PATCH_OPERATION /0/op"},
		"a value that is there":    {patch("add", "custom_id", `,"value":"i"`), 400, "INVALID_PATCH_OPERATION /0/op"},
		"no value":                 {patch("replace", "amount", ``), 422, "PATCH_VALUE_REQUIRED /0/value"},
		"a wrong value":            {patch("replace", "amount", `,"value":7`), 400, "INVALID_PARAMETER_SYNTAX /0/value"},
		"a senseless value":        {patch("replace", "amount", strings.Replace(five, "5.00", "5.001", 1)), 422, "DECIMAL_PRECISION /0/amount/value"},
		"an unknown operation":     {patch("change", "amount", five), 400, "INVALID_PARAMETER_VALUE /0/op"},
	} {
		got := r.send("PATCH", orders+"/"+id, c.body)
		assert.Equal(t, c.status, got.status, "%s: %s", name, got.raw)
		assert.Equal(t, c.issue, got.issue(), name)
	}
	assert.Equal(t, 204, r.send("PATCH", orders+"/"+id, patch("replace", "amount", five)).status)
	assert.Equal(t, 204, r.send("PATCH", orders+"/"+id, patch("remove", "custom_id", "")).status)
	got := r.get(orders + "/" + id)
	assert.Equal(t, "5.00", got.text("purchase_units.0.amount.value"))
	assert.Nil(t, got.at("purchase_units.0.custom_id"))
	_, err := r.Approve(id, paypal.Outcome{})
	assert.NoError(t, err)
	assert.Equal(t, "AMOUNT_CHANGE_NOT_ALLOWED /0/value", r.send("PATCH", orders+"/"+id, patch("replace", "amount", strings.Replace(five, "5.00", "6.00", 1))).issue())
	assert.Equal(t, 201, r.post(orders+"/"+id+"/capture", "").status)
	assert.Equal(t, "ORDER_ALREADY_COMPLETED", r.send("PATCH", orders+"/"+id, patch("replace", "amount", five)).issue())
	assert.EqualValues(t, 500, r.Charges.All()[0].Minor)

	id = r.created(order(amount("USD", "7")))
	assert.Equal(t, "7.00", r.get(orders+"/"+id).text("purchase_units.0.amount.value"), "in the currency's own form")
}
