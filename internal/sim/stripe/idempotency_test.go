package stripe_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/internal/sim/stripe"
)

const pay = order + "&confirm=true&payment_method="

// What the second request of a key gets: docs.stripe.com/api/idempotent_requests.
func TestAKeysSecondRequest(t *testing.T) {
	type request struct {
		path, form string
		options    []option
	}
	replayed, mismatch, fresh := "replayed", "mismatch", "fresh"
	charge := request{"/v1/payment_intents", pay + "pm_card_visa", nil}
	tests := map[string]struct {
		first, second request
		want          string
		charges       int
	}{
		"the same":                              {charge, charge, replayed, 1},
		"the same in another order":             {charge, request{"/v1/payment_intents", "payment_method=pm_card_visa&confirm=true&" + order, nil}, replayed, 1},
		"other parameters":                      {charge, request{"/v1/payment_intents", pay + "pm_card_mastercard", nil}, mismatch, 1},
		"more parameters":                       {charge, request{"/v1/payment_intents", pay + "pm_card_visa&description=x", nil}, mismatch, 1},
		"other parameters, invalid":             {charge, request{"/v1/payment_intents", "amount=x", nil}, mismatch, 1},
		"another endpoint":                      {charge, request{"/v1/customers", pay + "pm_card_visa", nil}, mismatch, 1},
		"another account":                       {charge, request{"/v1/payment_intents", charge.form, []option{header("Stripe-Account", member)}}, fresh, 2},
		"another mode":                          {request{"/v1/customers", "", nil}, request{"/v1/customers", "", []option{header("Authorization", "Bearer "+liveKey)}}, fresh, 0},
		"a decline":                             {request{"/v1/payment_intents", pay + "pm_card_chargeDeclined", nil}, request{"/v1/payment_intents", pay + "pm_card_chargeDeclined", nil}, replayed, 0},
		"a decline, then another card":          {request{"/v1/payment_intents", pay + "pm_card_chargeDeclined", nil}, charge, mismatch, 0},
		"an object that isn't there":            {request{"/v1/payment_intents/pi_none/confirm", "", nil}, request{"/v1/payment_intents/pi_none/confirm", "", nil}, replayed, 0},
		"validation failed: the key is free":    {request{"/v1/payment_intents", "amount=1&currency=usd", nil}, charge, fresh, 1},
		"validation failed, and fails again":    {request{"/v1/payment_intents", "amount=1&currency=usd", nil}, request{"/v1/payment_intents", "amount=1&currency=usd", nil}, fresh, 0},
		"no such path: the key is free":         {request{"/v1/nothing", "", nil}, charge, fresh, 1},
		"a wrong API key: the key is free":      {request{"/v1/payment_intents", charge.form, []option{header("Authorization", "Bearer x")}}, charge, fresh, 1},
		"the return_url rule: the key is free":  {request{"/v1/payment_intents", "amount=1000&currency=usd&confirm=true&payment_method=pm_card_visa", nil}, charge, fresh, 1},
		"a state that doesn't allow it is kept": {request{"/v1/refunds", "payment_intent=pi_none", nil}, request{"/v1/refunds", "payment_intent=pi_none", nil}, replayed, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			one := b.post(tt.first.path, tt.first.form, append(tt.first.options, key("k"))...)
			two := b.post(tt.second.path, tt.second.form, append(tt.second.options, key("k"))...)
			assert.Empty(t, one.header.Get("Idempotent-Replayed"))
			assert.NotEqual(t, one.header.Get("Request-Id"), two.header.Get("Request-Id"))
			switch tt.want {
			case replayed:
				assert.Equal(t, "true", two.header.Get("Idempotent-Replayed"))
				assert.Equal(t, []any{one.status, one.raw}, []any{two.status, two.raw})
				assert.Equal(t, one.header.Get("Request-Id"), two.header.Get("Original-Request"))
				assert.Equal(t, 1, b.Replayed("k"))
			case mismatch:
				assert.Equal(t, refusal{400, "idempotency_error", "", ""}, two.refusal())
			default:
				assert.Empty(t, two.header.Get("Idempotent-Replayed"))
				assert.NotEqual(t, "idempotency_error", two.text("error.type"))
			}
			assert.Len(t, b.Charges("o1"), tt.charges)
			assert.Empty(t, two.header.Get("Sim-Unkept"))
		})
	}
}

func TestAKeyIsForgottenAfterADay(t *testing.T) {
	b := open(t)
	b.must("/v1/payment_intents", pay+"pm_card_visa", key("k"))
	b.clock.Advance(24*time.Hour - time.Second)
	assert.Equal(t, "true", b.must("/v1/payment_intents", pay+"pm_card_visa", key("k")).header.Get("Idempotent-Replayed"))
	b.clock.Advance(time.Second)
	b.must("/v1/payment_intents", pay+"pm_card_visa", key("k"))
	assert.Len(t, b.Charges("o1"), 2, "what is sent again after the retention charges again")
}

func TestTheLengthOfAKey(t *testing.T) {
	b := open(t)
	assert.Equal(t, 200, b.post("/v1/customers", "", key(strings.Repeat("k", 255))).status)
	assert.Equal(t, 400, b.post("/v1/customers", "", key(strings.Repeat("k", 256))).status)
	assert.Equal(t, 200, b.get("/v1/account", "", key(strings.Repeat("k", 256))).status, "only of POST is it a key")
}

func TestAKeyOfAReadIsIgnored(t *testing.T) {
	b := open(t)
	id := b.intent("")
	first := b.get("/v1/payment_intents/"+id, "", key("k"))
	b.must("/v1/payment_intents/"+id, "description=new")
	second := b.get("/v1/payment_intents/"+id, "", key("k"))
	assert.NotEqual(t, first.raw, second.raw)
	assert.Empty(t, second.header.Get("Idempotent-Replayed"))
}

func TestAKeyInUseIsAConflict(t *testing.T) {
	b := open(t)
	gate := sim.NewGate()
	b.Faults.Add(sim.Fault{At: sim.BeforeActing, Do: sim.Stall, Gate: gate, Times: 1})
	first := make(chan reply)
	go func() {
		r, err := b.send(t.Context(), http.MethodPost, "/v1/payment_intents", pay+"pm_card_visa", key("k"))
		assert.NoError(t, err)
		first <- r
	}()
	<-gate.Arrived()
	r := b.post("/v1/payment_intents", pay+"pm_card_visa", key("k"))
	assert.Equal(t, refusal{409, "idempotency_error", "idempotency_key_in_use", ""}, r.refusal())
	assert.Equal(t, "true", r.header.Get("Stripe-Should-Retry"))
	assert.Equal(t, 200, b.post("/v1/customers", "", key("other")).status)
	gate.Open()
	done := <-first
	assert.Equal(t, 200, done.status)
	r = b.post("/v1/payment_intents", pay+"pm_card_visa", key("k"))
	assert.Equal(t, done.raw, r.raw, "the conflict wasn't kept")
	assert.Len(t, b.Charges("o1"), 1)
}

// While Stripe executes, the money may have moved, and the key is still in use.
func TestAKeyIsInUseUntilItsAnswerIsKept(t *testing.T) {
	b := open(t)
	gate := sim.NewGate()
	b.Faults.Add(sim.Fault{At: sim.Acted, Do: sim.Stall, Gate: gate, Times: 1})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-gate.Arrived()
		cancel()
	}()
	_, err := b.send(ctx, http.MethodPost, "/v1/payment_intents", pay+"pm_card_visa", key("k"))
	require.ErrorIs(t, err, context.Canceled)
	assert.Len(t, b.Charges("o1"), 1)
	assert.Equal(t, 409, b.post("/v1/payment_intents", pay+"pm_card_visa", key("k")).status)
	gate.Open()
	require.Eventually(t, func() bool { return b.post("/v1/payment_intents", pay+"pm_card_visa", key("k")).status == 200 }, 5*time.Second, time.Millisecond)
	assert.Len(t, b.Charges("o1"), 1)
}

// The request ends for the caller, not for Stripe.
func TestAnAnswerIsKeptThoughTheCallerLeftWhileItWasMade(t *testing.T) {
	b := open(t)
	b.Faults.Add(sim.Fault{At: sim.Acted, Do: sim.Stall, Times: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := b.send(ctx, http.MethodPost, "/v1/payment_intents", pay+"pm_card_visa", key("k"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Eventually(t, func() bool {
		return b.post("/v1/payment_intents", pay+"pm_card_visa", key("k")).header.Get("Idempotent-Replayed") == "true"
	}, 5*time.Second, time.Millisecond)
	assert.Len(t, b.Charges("o1"), 1)
}

func TestTwentyCallersOfOneKeyChargeOnce(t *testing.T) {
	b := open(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			r, err := b.send(t.Context(), http.MethodPost, "/v1/payment_intents", pay+"pm_card_visa", key("k"))
			if assert.NoError(t, err) {
				assert.Contains(t, []int{200, 409}, r.status)
			}
		})
	}
	wg.Wait()
	assert.Len(t, b.Charges("o1"), 1)
}

func TestTwentyConfirmationsChargeOnce(t *testing.T) {
	b := open(t)
	id := b.intent("&payment_method=pm_card_visa")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := b.send(t.Context(), http.MethodPost, "/v1/payment_intents/"+id+"/confirm", "")
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	assert.Len(t, b.Charges("o1"), 1)
}

// Where a confirmation fails, what the ledger has then, and what the key's repetition gets.
func TestAFailedConfirmationAndItsRepetition(t *testing.T) {
	kept := stripe.ServerError(500, "")
	confirm := sim.Match{Method: "POST", Path: "/v1/payment_intents/*/confirm"}
	tests := map[string]struct {
		fault   sim.Fault
		status  int // 0: the connection broke
		charges int
		again   int
		after   int // charges after the repetition
	}{
		"the limiter":                       {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: stripe.RateLimited()}, 429, 0, 200, 1},
		"a lock":                            {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: stripe.LockTimeout()}, 429, 0, 200, 1},
		"a key in use":                      {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: stripe.KeyInUse("k")}, 409, 0, 200, 1},
		"a proxy before it":                 {sim.Fault{At: sim.BeforeReading, Do: sim.Answer, Reply: stripe.BadGateway()}, 502, 0, 200, 1},
		"a proxy that lost the answer":      {sim.Fault{At: sim.AfterActing, Do: sim.Answer, Reply: stripe.BadGateway()}, 502, 1, 200, 1},
		"unavailable":                       {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: stripe.ServerError(503, "true")}, 503, 0, 200, 1},
		"Stripe's own 500, nothing done":    {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: kept, Kept: true}, 500, 0, 500, 0},
		"Stripe's own 500, though it acted": {sim.Fault{At: sim.AfterActing, Do: sim.Answer, Reply: kept, Kept: true}, 500, 1, 500, 1},
		"broken off before":                 {sim.Fault{At: sim.BeforeActing, Do: sim.Reset}, 0, 0, 200, 1},
		"broken off after":                  {sim.Fault{At: sim.AfterActing, Do: sim.Reset}, 0, 1, 200, 1},
		"cut in the header":                 {sim.Fault{At: sim.MidHeader, Do: sim.Close}, 0, 1, 200, 1},
		"cut in the body":                   {sim.Fault{At: sim.MidAnswer, Do: sim.Close}, 0, 1, 200, 1},
	}
	for name, tt := range tests {
		for _, http2 := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				b := openHTTP(t, http2)
				id := b.intent("&payment_method=pm_card_visa")
				tt.fault.On, tt.fault.Times = confirm, 1
				b.Faults.Add(tt.fault)
				r, err := b.send(t.Context(), http.MethodPost, "/v1/payment_intents/"+id+"/confirm", "", key("k"))
				if tt.status == 0 {
					require.Error(t, err)
				} else {
					require.NoError(t, err)
					assert.Equal(t, tt.status, r.status)
				}
				assert.Len(t, b.Charges("o1"), tt.charges)
				want := map[int]string{0: "requires_confirmation", 1: "succeeded"}
				assert.Equal(t, want[tt.charges], b.get("/v1/payment_intents/"+id, "").text("status"), "a look-up tells")
				again := b.post("/v1/payment_intents/"+id+"/confirm", "", key("k"))
				assert.Equal(t, tt.again, again.status)
				assert.Equal(t, tt.charges == 1 || tt.again == 500, again.header.Get("Idempotent-Replayed") == "true")
				assert.Len(t, b.Charges("o1"), tt.after)
				assert.Len(t, b.Faults.Calls(confirm), 2)
			})
		}
	}
}

func TestStateOutlivesItsServer(t *testing.T) {
	b := open(t)
	id := b.intent("&payment_method=pm_card_visa")
	b.Faults.Add(sim.Fault{On: sim.Match{Path: "/v1/payment_intents/*/confirm"}, At: sim.AfterActing, Do: sim.Reset, Times: 1})
	_, err := b.send(t.Context(), http.MethodPost, "/v1/payment_intents/"+id+"/confirm", "", key("k"))
	require.Error(t, err)
	b.host.Kill()
	_, err = b.send(t.Context(), http.MethodGet, "/v1/payment_intents/"+id, "")
	require.Error(t, err)
	b.host.Restart()
	r := b.must("/v1/payment_intents/"+id+"/confirm", "", key("k"))
	assert.Equal(t, []any{"succeeded", "true"}, []any{r.text("status"), r.header.Get("Idempotent-Replayed")})
	assert.Len(t, b.Charges("o1"), 1)
}
