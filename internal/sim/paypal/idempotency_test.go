package paypal_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/internal/sim/paypal"
)

func TestARequestIDRepeatsTheLatestState(t *testing.T) {
	r := open(t, false)
	first := r.post(orders, order(unit, urls), requestID("k"))
	again := r.post(orders, order(unit, urls), requestID("k"))
	assert.Equal(t, []any{201, 200}, []any{first.status, again.status})
	id := first.text("id")
	assert.Equal(t, id, again.text("id"))
	r.approve(id, paypal.Outcome{Status: "PENDING"})
	assert.Equal(t, "APPROVED", r.post(orders, order(unit, urls), requestID("k")).text("status"), "the latest status, not the first answer")
	other := r.post(orders, order(amount("EUR", "99.00")), requestID("k"))
	assert.Equal(t, id, other.text("id"), "the body isn't compared")

	got := r.post(orders+"/"+id+"/capture", "", requestID("k"), whole)
	assert.Equal(t, 201, got.status, "the id of one operation is free for another")
	require.NoError(t, r.SettleCapture(got.text("purchase_units.0.payments.captures.0.id"), "COMPLETED"))
	got = r.post(orders+"/"+id+"/capture", "", requestID("k"), whole)
	assert.Equal(t, 200, got.status)
	assert.Equal(t, "COMPLETED", got.text("purchase_units.0.payments.captures.0.status"))
	assert.Equal(t, 1, r.Charges.Len())
	assert.Equal(t, 201, r.as(live).post(orders, order(unit, urls), requestID("k")).status, "another caller's id is another")
}

func TestARequestIDOfWhatIsGone(t *testing.T) {
	r := open(t, false)
	r.post(orders, order(unit), requestID("k"))
	r.clock.Advance(3 * time.Hour)
	got := r.post(orders, order(unit), requestID("k"))
	assert.Equal(t, "INVALID_RESOURCE_ID", got.issue(), "the order expired, and its id doesn't make another one")
}

func TestARequestIDIsKeptForItsTime(t *testing.T) {
	refund := func(r *rig) string { return "/v2/payments/captures/" + r.captured(amount("USD", "9.00")) + "/refund" }
	part := `{"amount":{"currency_code":"USD","value":"1.00"}}`
	held := func(r *rig) string { return r.held(unit) + "/capture" }
	atOnce := func(r *rig) string {
		vaultID, err := r.SaveMethod("sim-client", "c", "paypal", paypal.Outcome{})
		require.NoError(t, err)
		return order(unit, `"payment_source":{"paypal":{"vault_id":"`+vaultID+`"}}`)
	}
	always := func(body string) func(*rig) string { return func(*rig) string { return body } }
	for name, c := range map[string]struct {
		path   func(*rig) string
		body   func(*rig) string
		keep   time.Duration
		repeat int // the status of a repetition
		after  int // the status once the id is forgotten
	}{
		"an order: 6 hours":                      {always(orders), atOnce, 6 * time.Hour, 200, 201},
		"a refund: 45 days":                      {refund, always(part), 45 * day, 201, 201},
		"a capture of an authorization: 45 days": {held, always(part), 45 * day, 201, 422},
		"a setup token: 3 hours":                 {always("/v3/vault/setup-tokens"), always(`{"payment_source":{"paypal":{}}}`), 3 * time.Hour, 200, 201},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, false)
			path, body := c.path(r), c.body(r)
			first := r.post(path, body, requestID("k"))
			require.Equal(t, 201, first.status, first.raw)
			r.clock.Advance(c.keep - 1)
			r.token = r.tokenOf(paypal.DefaultAccount)
			again := r.post(path, body, requestID("k"))
			assert.Equal(t, c.repeat, again.status)
			assert.Equal(t, first.text("id"), again.text("id"))
			r.clock.Advance(1)
			again = r.post(path, body, requestID("k"))
			assert.Equal(t, c.after, again.status, "it acts again, on an authorization that has run out")
			assert.NotEqual(t, first.text("id"), again.text("id"))
		})
	}
}

func TestWhatIsKeptUnderARequestID(t *testing.T) {
	r := open(t, false)
	id := r.created(order(unit, urls))
	path := orders + "/" + id + "/capture"
	assert.Equal(t, "ORDER_NOT_APPROVED", r.post(path, "", requestID("k")).issue())
	r.approve(id, paypal.Outcome{Issue: "INSTRUMENT_DECLINED"})
	assert.Equal(t, "INSTRUMENT_DECLINED", r.post(path, "", requestID("k")).issue(), "a refusal before the charge isn't kept")
	r.approve(id, paypal.Outcome{})
	assert.Equal(t, "INSTRUMENT_DECLINED", r.post(path, "", requestID("k")).issue(), "a decline is")
	assert.Equal(t, 201, r.post(path, "").status, "without an id it is done anew")
	assert.Equal(t, "ORDER_ALREADY_CAPTURED", r.post(path, "").issue())

	bad := order(amount("USD", "x"))
	assert.Equal(t, 400, r.post(orders, bad, requestID("k2")).status)
	assert.Equal(t, 201, r.post(orders, order(unit), requestID("k2")).status, "a malformed request uses no id up")

	setup := `{"payment_source":{"paypal":{}}}`
	assert.Equal(t, 201, r.post("/v3/vault/setup-tokens", setup, requestID("k3")).status)
	got := r.post("/v3/vault/setup-tokens", strings.Replace(setup, "paypal", "venmo", 1), requestID("k3"))
	assert.Equal(t, 422, got.status)
	assert.Equal(t, "PAYPAL_REQUEST_ID_PREVIOUSLY_USED", got.issue(), "the vault compares the body")
}

func TestADuplicateInFlightIsRefused(t *testing.T) {
	capture := sim.Match{Method: "POST", Path: "/v2/checkout/orders/*/capture"}
	for name, c := range map[string]struct {
		on        sim.Match
		second    string // the request id of the duplicate
		duplicate int
		issue     string
	}{
		"a capture, same id":    {capture, "k", 409, "PREVIOUS_REQUEST_IN_PROGRESS"},
		"a capture, another id": {capture, "k2", 201, ""}, // it overtakes the first
		"a refund, same id":     {sim.Match{Path: "/v2/payments/captures/*/refund"}, "k", 409, "PREVIOUS_REQUEST_IN_PROGRESS"},
		"a refund, another id":  {sim.Match{Path: "/v2/payments/captures/*/refund"}, "k2", 409, "PREVIOUS_REQUEST_IN_PROGRESS"},
	} {
		for protocol, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
			t.Run(name+", "+protocol, func(t *testing.T) {
				r := open(t, http2)
				path := orders + "/" + r.created(order(unit, urls)) + "/capture"
				r.approve(strings.Split(path, "/")[4], paypal.Outcome{})
				if c.on.Path != capture.Path {
					path = "/v2/payments/captures/" + r.captured(unit) + "/refund"
				}
				gate := sim.NewGate()
				r.Add(sim.Fault{On: c.on, At: sim.BeforeActing, Do: sim.Stall, Gate: gate, Nth: 1})
				first := make(chan reply)
				go func() { first <- r.post(path, "", requestID("k")) }()
				<-gate.Arrived()
				got := r.post(path, "", requestID(c.second))
				assert.Equal(t, c.duplicate, got.status, got.raw)
				assert.Equal(t, c.issue, got.issue())
				gate.Open()
				answered := <-first
				if c.duplicate == 409 {
					assert.Equal(t, 201, answered.status, answered.raw)
					assert.Equal(t, "RESOURCE_CONFLICT", got.text("name"))
				} else {
					assert.Equal(t, "ORDER_ALREADY_CAPTURED", answered.issue())
				}
				assert.Equal(t, 1, r.Charges.Len())
			})
		}
	}
}
