package paypal_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sim/paypal"
)

const day = 24 * time.Hour

func usd(value string, more string) string {
	return `{"amount":{"currency_code":"USD","value":"` + value + `"}` + more + `}`
}

func TestWhatCanBeRefunded(t *testing.T) {
	for name, c := range map[string]struct {
		funding paypal.Outcome
		before  []string // refunds that went before
		wait    time.Duration
		body    string
		issue   string
		capture string // its status afterwards
		minor   int64  // given back in all
	}{
		"all of it":                      {body: "", capture: "REFUNDED", minor: 1000},
		"an empty object is all of it":   {body: "{}", capture: "REFUNDED", minor: 1000},
		"a part":                         {body: usd("4.00", ""), capture: "PARTIALLY_REFUNDED", minor: 400},
		"the rest, by name":              {before: []string{usd("4.00", "")}, body: usd("6.00", ""), capture: "REFUNDED", minor: 1000},
		"the rest, by saying nothing":    {before: []string{usd("4.00", "")}, capture: "REFUNDED", minor: 1000},
		"more than was captured":         {body: usd("10.01", ""), issue: "REFUND_AMOUNT_EXCEEDED /amount/value", capture: "COMPLETED"},
		"more than is left":              {before: []string{usd("4.00", "")}, body: usd("6.01", ""), issue: "REFUND_AMOUNT_EXCEEDED /amount/value", capture: "PARTIALLY_REFUNDED", minor: 400},
		"again what is refunded":         {before: []string{""}, issue: "CAPTURE_FULLY_REFUNDED", capture: "REFUNDED", minor: 1000},
		"another currency":               {body: `{"amount":{"currency_code":"EUR","value":"1.00"}}`, issue: "REFUND_CAPTURE_CURRENCY_MISMATCH /amount/currency_code", capture: "COMPLETED"},
		"nothing":                        {body: usd("0.00", ""), issue: "CANNOT_BE_ZERO_OR_NEGATIVE /amount/value", capture: "COMPLETED"},
		"a fraction of a cent":           {body: usd("0.001", ""), issue: "DECIMAL_PRECISION /amount/value", capture: "COMPLETED"},
		"an unknown field":               {body: `{"reason":"x"}`, issue: "NOT_SUPPORTED /reason", capture: "COMPLETED"},
		"what is pending":                {funding: paypal.Outcome{Status: "PENDING"}, issue: "PENDING_CAPTURE", capture: "PENDING"},
		"what was declined":              {funding: paypal.Outcome{Status: "DECLINED"}, issue: "REFUND_NOT_ALLOWED", capture: "DECLINED"},
		"just before 180 days":           {wait: 180*day - 1, capture: "REFUNDED", minor: 1000},
		"after 180 days":                 {wait: 180 * day, issue: "REFUND_TIME_LIMIT_EXCEEDED", capture: "COMPLETED"},
		"with an invoice of another one": {before: []string{usd("1.00", `,"invoice_id":"r1"`)}, body: usd("1.00", `,"invoice_id":"r1"`), issue: "DUPLICATE_INVOICE_ID", capture: "PARTIALLY_REFUNDED", minor: 100},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, false)
			r.NextCharge(c.funding)
			id := r.captured(unit)
			for _, body := range c.before {
				require.Equal(t, 201, r.post("/v2/payments/captures/"+id+"/refund", body, requestID(unique())).status)
			}
			r.clock.Advance(c.wait)
			r.token = r.tokenOf(paypal.DefaultAccount)
			got := r.post("/v2/payments/captures/"+id+"/refund", c.body, requestID("k"))
			assert.Equal(t, c.issue, got.issue(), got.raw)
			if c.issue == "" {
				assert.Equal(t, []any{201, "COMPLETED"}, []any{got.status, got.text("status")})
				refund := r.get("/v2/payments/refunds/" + got.text("id"))
				assert.Equal(t, r.host.URL+"/v2/payments/captures/"+id, refund.link("up"))
			}
			assert.Equal(t, c.capture, r.get("/v2/payments/captures/"+id).text("status"))
			assert.Equal(t, c.minor, r.Balance("order-1")["USD"].Refunded)
		})
	}
}

func TestARefundCanTakeTimeAndFail(t *testing.T) {
	for end, want := range map[string]struct {
		capture string
		balance paypal.Balance
	}{
		"COMPLETED": {"REFUNDED", paypal.Balance{Charges: 1, Charged: 1000, Refunds: 1, Refunded: 1000}},
		"FAILED":    {"COMPLETED", paypal.Balance{Charges: 1, Charged: 1000}},
		"CANCELLED": {"COMPLETED", paypal.Balance{Charges: 1, Charged: 1000}},
	} {
		t.Run(end, func(t *testing.T) {
			r := open(t, false)
			id := r.captured(unit)
			path := "/v2/payments/captures/" + id
			r.NextRefund(paypal.RefundOutcome{Issue: "REFUND_FAILED_INSUFFICIENT_FUNDS"}, paypal.RefundOutcome{Status: "PENDING"})
			assert.Equal(t, "REFUND_FAILED_INSUFFICIENT_FUNDS", r.post(path+"/refund", "", requestID("k1")).issue())
			assert.Equal(t, "REFUND_FAILED_INSUFFICIENT_FUNDS", r.post(path+"/refund", "", requestID("k1")).issue(), "kept")
			got := r.post(path+"/refund", "", requestID("k2"))
			assert.Equal(t, "PENDING", got.text("status"))
			assert.Equal(t, paypal.Balance{Charges: 1, Charged: 1000, PendingRefunds: 1, PendingRefunded: 1000}, r.Balance("order-1")["USD"])
			assert.Equal(t, "CAPTURE_FULLY_REFUNDED", r.post(path+"/refund", "", requestID("k3")).issue(), "a pending one holds its amount")
			require.NoError(t, r.SettleRefund(got.text("id"), end))
			require.Error(t, r.SettleRefund(got.text("id"), end), "once")
			assert.Equal(t, want.capture, r.get(path).text("status"))
			assert.Equal(t, end, r.get("/v2/payments/refunds/"+got.text("id")).text("status"))
			assert.Equal(t, end, r.post(path+"/refund", "", requestID("k2")).text("status"), "the latest status")
			assert.Equal(t, want.balance, r.Balance("order-1")["USD"])
			assert.Equal(t, want.balance.Refunds, r.Refunds.Len())
		})
	}
}

func TestAPendingCaptureEnds(t *testing.T) {
	for end, charges := range map[string]int{"COMPLETED": 1, "DECLINED": 0, "FAILED": 0} {
		r := open(t, false)
		r.NextCharge(paypal.Outcome{Status: "PENDING"})
		id := r.captured(amount("USD", "10.00", `"custom_id":"order-1"`, `"invoice_id":"i1"`))
		assert.Zero(t, r.Charges.Len())
		require.Error(t, r.SettleCapture(id, "REFUNDED"))
		r.clock.Advance(day)
		require.NoError(t, r.SettleCapture(id, end))
		require.Error(t, r.SettleCapture(id, end), "once")
		r.token = r.tokenOf(paypal.DefaultAccount)
		assert.Equal(t, end, r.get("/v2/payments/captures/"+id).text("status"))
		assert.Equal(t, charges, r.Charges.Count("order-1"))
		if charges == 1 {
			assert.Equal(t, start.Add(day), r.Charges.All()[0].At, "when the money moved")
		} else {
			r.captured(amount("USD", "10.00", `"invoice_id":"i1"`)) // its invoice is free again
		}
	}
}

// held is the path of the authorization of a new order.
func (r *rig) held(units string) string {
	r.t.Helper()
	id := r.created(authorized(order(units, urls)))
	r.approve(id, paypal.Outcome{})
	got := r.post(orders+"/"+id+"/authorize", "", whole, requestID("authorize-"+id))
	require.Equal(r.t, 201, got.status, got.raw)
	return "/v2/payments/authorizations/" + got.text("purchase_units.0.payments.authorizations.0.id")
}

func TestWhatCanBeDoneWithAnAuthorization(t *testing.T) {
	capture := func(body string) func(*rig, string) {
		return func(r *rig, path string) { r.post(path+"/capture", body) }
	}
	void := func(r *rig, path string) { r.post(path+"/void", "") }
	wait := func(d time.Duration) func(*rig, string) {
		return func(r *rig, _ string) {
			r.clock.Advance(d)
			r.token = r.tokenOf(paypal.DefaultAccount)
		}
	}
	renew := func(r *rig, path string) {
		wait(3*day)(r, path)
		require.Equal(t, 201, r.post(path+"/reauthorize", "").status)
	}
	for name, c := range map[string]struct {
		before    []func(*rig, string)
		operation string
		body      string
		status    int
		issue     string
		state     string // of the authorization afterwards
		charged   int64
	}{
		"capture all":                     {operation: "capture", status: 201, state: "CAPTURED", charged: 10000},
		"capture a part":                  {operation: "capture", body: usd("40.00", ""), status: 201, state: "PARTIALLY_CAPTURED", charged: 4000},
		"capture a part, and no more":     {operation: "capture", body: usd("40.00", `,"final_capture":true`), status: 201, state: "CAPTURED", charged: 4000},
		"capture the rest":                {before: []func(*rig, string){capture(usd("40.00", ""))}, operation: "capture", status: 201, state: "CAPTURED", charged: 10000},
		"capture after the final one":     {before: []func(*rig, string){capture(usd("40.00", `,"final_capture":true`))}, operation: "capture", body: usd("1.00", ""), status: 422, issue: "AUTHORIZATION_ALREADY_CAPTURED", state: "CAPTURED", charged: 4000},
		"capture 115 %":                   {operation: "capture", body: usd("115.00", ""), status: 201, state: "CAPTURED", charged: 11500},
		"capture more than that":          {operation: "capture", body: usd("115.01", ""), status: 422, issue: "MAX_CAPTURE_AMOUNT_EXCEEDED /amount/value", state: "CREATED"},
		"capture too much in parts":       {before: []func(*rig, string){capture(usd("60.00", ""))}, operation: "capture", body: usd("55.01", ""), status: 422, issue: "MAX_CAPTURE_AMOUNT_EXCEEDED /amount/value", state: "PARTIALLY_CAPTURED", charged: 6000},
		"capture in another currency":     {operation: "capture", body: `{"amount":{"currency_code":"EUR","value":"1.00"}}`, status: 422, issue: "AUTH_CAPTURE_CURRENCY_MISMATCH /amount/currency_code", state: "CREATED"},
		"capture what is voided":          {before: []func(*rig, string){void}, operation: "capture", status: 422, issue: "AUTHORIZATION_VOIDED", state: "VOIDED"},
		"capture just before 29 days":     {before: []func(*rig, string){wait(29*day - 1)}, operation: "capture", status: 201, state: "CAPTURED", charged: 10000},
		"capture after 29 days":           {before: []func(*rig, string){wait(29 * day)}, operation: "capture", status: 422, issue: "AUTHORIZATION_EXPIRED", state: "VOIDED"},
		"void":                            {operation: "void", status: 204, state: "VOIDED"},
		"void twice":                      {before: []func(*rig, string){void}, operation: "void", status: 422, issue: "PREVIOUSLY_VOIDED", state: "VOIDED"},
		"void what is captured":           {before: []func(*rig, string){capture("")}, operation: "void", status: 422, issue: "PREVIOUSLY_CAPTURED", state: "CAPTURED", charged: 10000},
		"void the rest":                   {before: []func(*rig, string){capture(usd("40.00", ""))}, operation: "void", status: 204, state: "VOIDED", charged: 4000},
		"reauthorize in the honor period": {before: []func(*rig, string){wait(3*day - 1)}, operation: "reauthorize", status: 422, issue: "REAUTHORIZATION_TOO_SOON", state: "CREATED"},
		"reauthorize after it":            {before: []func(*rig, string){wait(3 * day)}, operation: "reauthorize", status: 201, state: "CREATED"},
		"reauthorize again at once":       {before: []func(*rig, string){renew}, operation: "reauthorize", status: 422, issue: "REAUTHORIZATION_TOO_SOON", state: "CREATED"},
		"reauthorize again, later":        {before: []func(*rig, string){renew, wait(3 * day)}, operation: "reauthorize", status: 201, state: "CREATED"},
		"reauthorize more than 115 %":     {before: []func(*rig, string){wait(3 * day)}, operation: "reauthorize", body: usd("115.01", ""), status: 422, issue: "TRANSACTION_REFUSED /amount/value", state: "CREATED"},
		"reauthorize in another currency": {before: []func(*rig, string){wait(3 * day)}, operation: "reauthorize", body: `{"amount":{"currency_code":"EUR","value":"1.00"}}`, status: 422, issue: "AUTH_CURRENCY_MISMATCH /amount/currency_code", state: "CREATED"},
		"reauthorize after 29 days":       {before: []func(*rig, string){wait(29 * day)}, operation: "reauthorize", status: 422, issue: "AUTHORIZATION_VOIDED", state: "VOIDED"},
		"reauthorize what is captured":    {before: []func(*rig, string){capture(""), wait(3 * day)}, operation: "reauthorize", status: 422, issue: "AUTHORIZATION_ALREADY_CAPTURED", state: "CAPTURED", charged: 10000},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, false)
			path := r.held(amount("USD", "100.00", `"custom_id":"order-1"`))
			assert.EqualValues(t, 10000, r.Balance("order-1")["USD"].Authorized)
			for _, step := range c.before {
				step(r, path)
			}
			got := r.post(path+"/"+c.operation, c.body)
			assert.Equal(t, c.status, got.status, got.raw)
			assert.Equal(t, c.issue, got.issue())
			assert.Equal(t, c.state, r.get(path).text("status"))
			assert.Equal(t, c.charged, r.Balance("order-1")["USD"].Charged)
		})
	}
}

func TestTheMostThatAnAuthorizationGives(t *testing.T) {
	r := open(t, false)
	for name, c := range map[string]struct{ currency, held, most, more string }{
		"115 % of a small amount":  {"USD", "10.00", "11.50", "11.51"},
		"75 dollars over a large":  {"USD", "1000.00", "1075.00", "1075.01"},
		"115 % of a large in euro": {"EUR", "1000.00", "1150.00", "1150.01"},
		"115 % of yen":             {"JPY", "101", "116", "117"},
	} {
		path := r.held(amount(c.currency, c.held))
		assert.Equal(t, "MAX_CAPTURE_AMOUNT_EXCEEDED /amount/value", r.post(path+"/capture", amount(c.currency, c.more)).issue(), name)
		assert.Equal(t, 201, r.post(path+"/capture", amount(c.currency, c.most)).status, name)
	}
}

func TestARenewedAuthorizationStandsForTheFirst(t *testing.T) {
	r := open(t, false)
	first := r.held(amount("USD", "100.00", `"custom_id":"order-1"`))
	r.clock.Advance(10 * day)
	r.token = r.tokenOf(paypal.DefaultAccount)
	got := r.post(first+"/reauthorize", usd("110.00", ""), whole)
	renewed := "/v2/payments/authorizations/" + got.text("id")
	assert.Equal(t, start.Add(29*day).Format(time.RFC3339), got.text("expiration_time"), "the time isn't begun anew")
	assert.Equal(t, "REAUTHORIZATION_NOT_SUPPORTED", r.post(renewed+"/reauthorize", "").issue())
	assert.Equal(t, "CANNOT_BE_VOIDED", r.post(renewed+"/void", "").issue())
	assert.Equal(t, 1, r.Balance("order-1")["USD"].OpenAuthorizations)
	assert.Equal(t, 201, r.post(renewed+"/capture", usd("110.00", "")).status)
	assert.Equal(t, "AUTHORIZATION_ALREADY_CAPTURED", r.post(first+"/capture", usd("1.00", "")).issue())
	assert.Equal(t, paypal.Balance{Charges: 1, Charged: 11000}, r.Balance("order-1")["USD"])
}

func TestVoidingAnswersAsPreferred(t *testing.T) {
	r := open(t, false)
	path := r.held(unit)
	got := r.post(path+"/void", "", whole, requestID("k"))
	assert.Equal(t, []any{200, "VOIDED"}, []any{got.status, got.text("status")})
	assert.Equal(t, "PREVIOUSLY_VOIDED", r.post(path+"/void", "", requestID("k")).issue(), "void keeps no request id")
	assert.Equal(t, "VOIDED", r.get(orders+"/"+got.text("supplementary_data.related_ids.order_id")).text("status"))
}

func TestAnAuthorizationCanBeDeniedOrPending(t *testing.T) {
	r := open(t, false)
	for end, outcome := range map[string]string{"DENIED": "DECLINED", "PENDING": "PENDING"} {
		r.NextCharge(paypal.Outcome{Status: outcome})
		path := r.held(unit)
		assert.Equal(t, end, r.get(path).text("status"))
		assert.Equal(t, "AUTHORIZATION_DENIED", r.post(path+"/capture", "").issue())
		if end == "PENDING" {
			id := r.get(path).text("id")
			require.NoError(t, r.SettleAuthorization(id, "CREATED"))
			require.Error(t, r.SettleAuthorization(id, "CREATED"))
			assert.Equal(t, 201, r.post(path+"/capture", "").status)
		}
	}
	path := r.held(unit)
	r.NextCharge(paypal.Outcome{Issue: "PAYER_CANNOT_PAY"}, paypal.Outcome{Status: "PENDING"})
	assert.Equal(t, "PAYER_CANNOT_PAY", r.post(path+"/capture", "", requestID("k")).issue())
	assert.Equal(t, "PENDING", r.post(path+"/capture", "", requestID("k2")).text("status"))
	assert.Equal(t, paypal.Balance{Charges: 1, Charged: 1000, Pending: 1, PendingAmount: 1000}, r.Balance("order-1")["USD"])
}

func TestAnInvoiceOfALaterCapture(t *testing.T) {
	r := open(t, false)
	r.captured(amount("USD", "1.00", `"invoice_id":"i1"`))
	path := r.held(amount("USD", "10.00"))
	assert.Equal(t, "DUPLICATE_INVOICE_ID", r.post(path+"/capture", usd("1.00", `,"invoice_id":"i1"`)).issue())
	for range 2 {
		got := r.post(path+"/capture", usd("1.00", `,"invoice_id":"i2"`), whole)
		assert.Equal(t, "i2", got.text("invoice_id"), "one order may use its own again")
		assert.Equal(t, path[len("/v2/payments/authorizations/"):], got.text("supplementary_data.related_ids.authorization_id"))
	}
}
