package paypal_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sim/paypal"
)

func (r *rig) approve(id string, funding paypal.Outcome) {
	r.t.Helper()
	_, err := r.Approve(id, funding)
	require.NoError(r.t, err)
}

func TestWhatAnOrdersStateAllows(t *testing.T) {
	for name, c := range map[string]struct {
		intent    func(string) string
		steps     func(r *rig, id string)
		operation string
		issue     string
		status    string // of the order afterwards
	}{
		"capture before approval":        {operation: "capture", issue: "ORDER_NOT_APPROVED", status: "CREATED"},
		"authorize before approval":      {intent: authorized, operation: "authorize", issue: "ORDER_NOT_APPROVED", status: "CREATED"},
		"capture what is to authorize":   {intent: authorized, operation: "capture", issue: "ACTION_DOES_NOT_MATCH_INTENT", status: "CREATED"},
		"authorize what is to capture":   {operation: "authorize", issue: "ACTION_DOES_NOT_MATCH_INTENT", status: "CREATED"},
		"capture after the buyer turned": {steps: func(r *rig, id string) { _, _ = r.Cancel(id) }, operation: "capture", issue: "ORDER_NOT_APPROVED", status: "CREATED"},
		"capture after approval":         {steps: func(r *rig, id string) { r.approve(id, paypal.Outcome{}) }, operation: "capture", status: "COMPLETED"},
		"authorize after approval":       {intent: authorized, steps: func(r *rig, id string) { r.approve(id, paypal.Outcome{}) }, operation: "authorize", status: "COMPLETED"},
		"capture twice":                  {steps: func(r *rig, id string) { r.approve(id, paypal.Outcome{}); r.post(orders+"/"+id+"/capture", "") }, operation: "capture", issue: "ORDER_ALREADY_CAPTURED", status: "COMPLETED"},
		"authorize twice":                {intent: authorized, steps: func(r *rig, id string) { r.approve(id, paypal.Outcome{}); r.post(orders+"/"+id+"/authorize", "") }, operation: "authorize", issue: "ORDER_ALREADY_AUTHORIZED", status: "COMPLETED"},
		"confirm what is done":           {steps: func(r *rig, id string) { r.approve(id, paypal.Outcome{}); r.post(orders+"/"+id+"/capture", "") }, operation: "confirm-payment-source", issue: "ORDER_CANNOT_BE_CONFIRMED", status: "COMPLETED"},
		"capture what nobody captured":   {steps: func(r *rig, id string) { r.approve(id, paypal.Outcome{}); r.clock.Advance(3 * time.Hour) }, operation: "capture", issue: "ORDER_COMPLETED_OR_VOIDED", status: "VOIDED"},
		"capture just before that":       {steps: func(r *rig, id string) { r.approve(id, paypal.Outcome{}); r.clock.Advance(3*time.Hour - 1) }, operation: "capture", status: "COMPLETED"},
		"authorize what nobody approved": {intent: authorized, steps: func(r *rig, _ string) { r.clock.Advance(3 * time.Hour) }, operation: "authorize", issue: "ORDER_EXPIRED"},
		"capture what nobody approved":   {steps: func(r *rig, _ string) { r.clock.Advance(3 * time.Hour) }, operation: "capture", issue: "INVALID_RESOURCE_ID"},
		"a visit gives three hours more": {steps: func(r *rig, id string) {
			r.clock.Advance(2 * time.Hour)
			r.get("/checkoutnow?token=" + id)
			r.clock.Advance(2 * time.Hour)
			r.approve(id, paypal.Outcome{})
		}, operation: "capture", status: "COMPLETED"},
		"a second visit doesn't": {steps: func(r *rig, id string) {
			r.get("/checkoutnow?token=" + id)
			r.clock.Advance(2 * time.Hour)
			r.get("/checkoutnow?token=" + id)
			r.clock.Advance(time.Hour)
		}, operation: "capture", issue: "INVALID_RESOURCE_ID"},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, false)
			body := order(unit, urls)
			if c.intent != nil {
				body = c.intent(body)
			}
			id := r.created(body)
			if c.steps != nil {
				c.steps(r, id)
			}
			before := r.Charges.Len()
			source := ""
			if c.operation == "confirm-payment-source" {
				source = `{"payment_source":{"paypal":{}}}`
			}
			got := r.post(orders+"/"+id+"/"+c.operation, source, requestID("k"))
			assert.Equal(t, c.issue, got.issue(), got.raw)
			if c.issue == "" {
				assert.Equal(t, 201, got.status)
			} else {
				assert.Equal(t, before, r.Charges.Len())
			}
			assert.Equal(t, c.status, r.get(orders+"/"+id).text("status"))
		})
	}
}

func TestHowAChargeCanEnd(t *testing.T) {
	for name, c := range map[string]struct {
		funding paypal.Outcome
		status  int
		order   string
		capture string // status and reason
		balance paypal.Balance
	}{
		"it completes":               {paypal.Outcome{}, 201, "COMPLETED", "COMPLETED", paypal.Balance{Charges: 1, Charged: 1000}},
		"pending, for review":        {paypal.Outcome{Status: "PENDING"}, 201, "COMPLETED", "PENDING PENDING_REVIEW", paypal.Balance{Pending: 1, PendingAmount: 1000}},
		"pending, for an eCheck":     {paypal.Outcome{Status: "PENDING", Reason: "ECHECK"}, 201, "COMPLETED", "PENDING ECHECK", paypal.Balance{Pending: 1, PendingAmount: 1000}},
		"declined by the card":       {paypal.Outcome{Status: "DECLINED", Code: "5120"}, 201, "COMPLETED", "DECLINED", paypal.Balance{Declined: 1}},
		"failed":                     {paypal.Outcome{Status: "FAILED"}, 201, "COMPLETED", "FAILED", paypal.Balance{Declined: 1}},
		"the instrument is declined": {paypal.Outcome{Issue: "INSTRUMENT_DECLINED"}, 422, "APPROVED", "", paypal.Balance{}},
		"the buyer must act":         {paypal.Outcome{Issue: "PAYER_ACTION_REQUIRED"}, 422, "PAYER_ACTION_REQUIRED", "", paypal.Balance{}},
		"it is refused":              {paypal.Outcome{Issue: "TRANSACTION_REFUSED"}, 422, "APPROVED", "", paypal.Balance{}},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, false)
			id := r.created(order(unit, urls))
			r.approve(id, c.funding)
			got := r.post(orders+"/"+id+"/capture", "", whole)
			assert.Equal(t, c.status, got.status, got.raw)
			assert.Equal(t, c.funding.Issue, got.issue())
			assert.Equal(t, c.order, r.get(orders+"/"+id).text("status"))
			taken := got.text("purchase_units.0.payments.captures.0.status")
			if reason := got.text("purchase_units.0.payments.captures.0.status_details.reason"); reason != "" {
				taken += " " + reason
			}
			assert.Equal(t, c.capture, taken)
			assert.Equal(t, c.funding.Code, got.text("purchase_units.0.payments.captures.0.processor_response.response_code"))
			assert.Equal(t, c.balance, r.Balance("order-1")["USD"])
			assert.Equal(t, c.balance.Charges, r.Charges.Len())
		})
	}
}

func TestADeclinedBuyerChoosesAgain(t *testing.T) {
	r := open(t, false)
	id := r.created(order(unit, urls))
	r.approve(id, paypal.Outcome{Issue: "INSTRUMENT_DECLINED"})
	got := r.post(orders+"/"+id+"/capture", "", requestID("a1"))
	assert.Equal(t, "INSTRUMENT_DECLINED", got.issue())
	assert.Equal(t, r.host.URL+"/checkoutnow?token="+id, got.link("payer-action"))
	assert.Equal(t, got.link("payer-action"), got.link("redirect"))
	assert.Equal(t, "INSTRUMENT_DECLINED", r.post(orders+"/"+id+"/capture", "", requestID("a2")).issue(), "the same choice again")
	assert.Equal(t, 303, r.post(got.link("payer-action"), "choice=pay").status)
	assert.Equal(t, "INSTRUMENT_DECLINED", r.post(orders+"/"+id+"/capture", "", requestID("a1")).issue(), "the id keeps its decline")
	assert.Equal(t, 201, r.post(orders+"/"+id+"/capture", "", requestID("a3")).status)
	assert.Equal(t, 1, r.Charges.Count("order-1"))
}

// The way that prepares without charging.
func TestASavedMethodComesWithTheCapture(t *testing.T) {
	r := open(t, false)
	pays, err := r.SaveMethod("sim-client", "c1", "paypal", paypal.Outcome{})
	require.NoError(t, err)
	declines, err := r.SaveMethod("sim-client", "c1", "card", paypal.Outcome{Issue: "INSTRUMENT_DECLINED"})
	require.NoError(t, err)
	id := r.created(order(unit))
	assert.Zero(t, r.Charges.Len())
	capture := func(source string) reply {
		return r.post(orders+"/"+id+"/capture", `{"payment_source":{`+source+`}}`, requestID(unique()))
	}
	assert.Equal(t, "INSTRUMENT_DECLINED", capture(`"card":{"vault_id":"`+declines+`"}`).issue())
	assert.Equal(t, "CREATED", r.get(orders+"/"+id).text("status"), "a decline leaves nothing behind")
	assert.Equal(t, "ORDER_NOT_APPROVED", capture(`"paypal":{}`).issue())
	assert.Equal(t, "TOKEN_ID_NOT_FOUND /payment_source/paypal", capture(`"paypal":{"vault_id":"x"}`).issue())
	got := capture(`"token":{"id":"` + pays + `","type":"BILLING_AGREEMENT"}`)
	assert.Equal(t, "COMPLETED", got.text("status"), got.raw)
	assert.Equal(t, 1, r.Charges.Count("order-1"))

	id = r.created(order(unit))
	assert.Equal(t, 201, capture(`"paypal":{"vault_id":"`+pays+`"}`).status)
	id = r.created(order(unit))
	require.NoError(t, r.SetMethod(declines, paypal.Outcome{Status: "PENDING"}))
	assert.Equal(t, 201, capture(`"card":{"vault_id":"`+declines+`"}`).status)
	assert.Equal(t, paypal.Balance{Charges: 2, Charged: 2000, Pending: 1, PendingAmount: 1000}, r.Balance("order-1")["USD"])
}

func TestASavedMethodMayNeedTheBuyer(t *testing.T) {
	for name, c := range map[string]struct {
		pay    func(r *rig, source string) (id string, got reply)
		status int
	}{
		"at the capture": {func(r *rig, source string) (string, reply) {
			id := r.created(order(unit, urls))
			return id, r.post(orders+"/"+id+"/capture", `{`+source+`}`, requestID("k"))
		}, 422},
		"in one step": {func(r *rig, source string) (string, reply) {
			got := r.post(orders, order(unit, urls, source), requestID("k"))
			return got.text("id"), got
		}, 201},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, false)
			vaultID, err := r.SaveMethod("sim-client", "c1", "card", paypal.Outcome{Issue: "PAYER_ACTION_REQUIRED"})
			require.NoError(t, err)
			id, got := c.pay(r, `"payment_source":{"card":{"vault_id":"`+vaultID+`"}}`)
			assert.Equal(t, c.status, got.status, got.raw)
			assert.Equal(t, "PAYER_ACTION_REQUIRED", r.get(orders+"/"+id).text("status"))
			assert.Equal(t, "ORDER_NOT_APPROVED", r.post(orders+"/"+id+"/capture", "").issue())
			assert.Equal(t, 303, r.post(got.link("payer-action"), "choice=pay").status)
			assert.Zero(t, r.Charges.Len())
			assert.Equal(t, 201, r.post(orders+"/"+id+"/capture", "", requestID("k2")).status)
			assert.Equal(t, 1, r.Charges.Count("order-1"))
		})
	}
}

func TestConfirmingMovesNoMoney(t *testing.T) {
	r := open(t, false)
	vaultID, err := r.SaveMethod("sim-client", "c1", "paypal", paypal.Outcome{})
	require.NoError(t, err)
	id := r.created(order(unit))
	got := r.post(orders+"/"+id+"/confirm-payment-source", `{"payment_source":{"paypal":{}}}`)
	assert.Equal(t, "PAYER_ACTION_REQUIRED", got.text("status"))
	got = r.post(orders+"/"+id+"/confirm-payment-source", `{"payment_source":{"paypal":{"vault_id":"`+vaultID+`"}}}`)
	assert.Equal(t, "APPROVED", got.text("status"))
	got = r.post(orders+"/"+id+"/confirm-payment-source", `{"payment_source":{"paypal":{}}}`)
	assert.Equal(t, "PAYMENT_ALREADY_APPROVED", got.issue())
	assert.Zero(t, r.Charges.Len())
	assert.Equal(t, 201, r.post(orders+"/"+id+"/capture", "").status)
	id = r.created(order(unit, `"payment_source":{"venmo":{}}`))
	got = r.post(orders+"/"+id+"/confirm-payment-source", `{"payment_source":{"paypal":{}}}`)
	assert.Equal(t, "PREFERRED_PAYMENT_SOURCE_MISMATCH /payment_source", got.issue())
}

func TestOutcomesAreQueuedAndMocked(t *testing.T) {
	r := open(t, false)
	mock := func(req *http.Request) {
		req.Header.Set("PayPal-Mock-Response", `{"mock_application_codes":"PAYER_CANNOT_PAY"}`)
	}
	r.NextCharge(paypal.Outcome{Issue: "TRANSACTION_REFUSED"})
	id := r.created(order(unit, urls))
	r.approve(id, paypal.Outcome{})
	assert.Equal(t, "TRANSACTION_REFUSED", r.post(orders+"/"+id+"/capture", "", mock).issue())
	assert.Equal(t, "PAYER_CANNOT_PAY", r.post(orders+"/"+id+"/capture", "", mock).issue())
	assert.Equal(t, 201, r.post(orders+"/"+id+"/capture", "").status)

	r = r.as(live)
	id = r.created(order(unit, urls))
	r.approve(id, paypal.Outcome{})
	assert.Equal(t, 201, r.post(orders+"/"+id+"/capture", "", mock).status, "live knows no mock")
}

func TestAnInvoicePaysOnce(t *testing.T) {
	r := open(t, false)
	invoiced := amount("USD", "1.00", `"invoice_id":"i1"`)
	pay := func(r *rig, units string, funding paypal.Outcome) string {
		id := r.created(order(units, urls))
		r.approve(id, funding)
		return r.post(orders+"/"+id+"/capture", "", requestID(unique())).issue()
	}
	assert.Equal(t, "TRANSACTION_REFUSED", pay(r, invoiced, paypal.Outcome{Issue: "TRANSACTION_REFUSED"}))
	assert.Empty(t, pay(r, invoiced, paypal.Outcome{Status: "DECLINED"}))
	assert.Empty(t, pay(r, invoiced, paypal.Outcome{}), "what didn't pay doesn't count")
	assert.Equal(t, "DUPLICATE_INVOICE_ID", pay(r, invoiced, paypal.Outcome{}))
	assert.Empty(t, pay(r, amount("USD", "1.00", `"invoice_id":"i1"`, `"payee":{"email_address":"p@example.com"}`), paypal.Outcome{}), "another payee's invoice")
	assert.Empty(t, pay(r, amount("USD", "1.00", `"invoice_id":"i2"`), paypal.Outcome{Status: "PENDING"}))
	assert.Equal(t, "DUPLICATE_INVOICE_ID", pay(r, amount("USD", "1.00", `"invoice_id":"i2"`), paypal.Outcome{}), "a pending one counts")
	lax := other
	lax.ReuseInvoices = true
	r.SetAccount(lax)
	theirs := r.as(other)
	assert.Empty(t, pay(theirs, invoiced, paypal.Outcome{})+pay(theirs, invoiced, paypal.Outcome{}))
}

func TestWhoIsPaidIsInTheLedger(t *testing.T) {
	r := open(t, false)
	units := amount("JPY", "500", `"reference_id":"a"`, `"custom_id":"o1"`, `"payee":{"merchant_id":"SELLERA222222"}`) + "," +
		amount("JPY", "700", `"reference_id":"b"`, `"custom_id":"o2"`, `"payee":{"email_address":"b@example.com"}`, `"invoice_id":"i"`)
	r.captured(units)
	var got []string
	for _, m := range r.Charges.All() {
		got = append(got, m.CustomID+" "+m.Payee+" "+m.Currency+" "+m.InvoiceID)
	}
	assert.Equal(t, []string{"o1 SELLERA222222 JPY ", "o2 b@example.com JPY i"}, got)
	assert.EqualValues(t, 700, r.Balance("o2")["JPY"].Charged)
	theirs := r.as(live)
	theirs.captured(unit)
	last := r.Charges.All()[2]
	assert.Equal(t, []any{true, "live", "LVEMERCHANT22"}, []any{last.Live, last.ClientID, last.Payee})
}

func TestTheBuyersPage(t *testing.T) {
	r := open(t, false)
	id := r.created(order(unit, urls))
	path := "/checkoutnow?token=" + id
	assert.Equal(t, 404, r.get("/checkoutnow?token=x").status)
	back := r.post(path, "choice=cancel")
	assert.Equal(t, "https://shop.example/cancel?token="+id, back.header.Get("Location"))
	assert.Equal(t, "CREATED", r.get(orders+"/"+id).text("status"), "nothing can be cancelled at PayPal")
	r.post(path, "choice=decline")
	assert.Equal(t, "INSTRUMENT_DECLINED", r.post(orders+"/"+id+"/capture", "").issue())
	r.post(path, "choice=pending")
	got := r.post(orders+"/"+id+"/capture", "", whole)
	assert.Equal(t, "ECHECK", got.text("purchase_units.0.payments.captures.0.status_details.reason"))
	assert.Equal(t, 404, r.get(path).status, "paid")
	assert.Equal(t, 409, r.post(path, "choice=pay").status)

	id = r.created(order(unit))
	got = r.post("/checkoutnow?token="+id, "choice=pay")
	assert.Equal(t, 409, got.status, "no return_url, nowhere to go")
	assert.Equal(t, "APPROVED", r.get(orders+"/"+id).text("status"))
	_, err := r.Approve("x", paypal.Outcome{})
	require.ErrorContains(t, err, "neither an order nor a setup token")
	_, err = r.Cancel("x")
	require.ErrorContains(t, err, "neither an order nor a setup token")
}
