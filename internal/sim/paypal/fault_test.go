package paypal_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/internal/sim/paypal"
)

// A request that was cut off is sent again with its id: the money moves once in every case.
func TestAFaultLosesOrDelaysButNeverDoubles(t *testing.T) {
	capture := sim.Match{Method: "POST", Path: "/v2/checkout/orders/*/capture"}
	for name, c := range map[string]struct {
		fault sim.Fault
		first int // the status, 0 where the connection broke
		acted int // charges after the first try
		again int
	}{
		"reset before reading":    {sim.Fault{At: sim.BeforeReading, Do: sim.Reset}, 0, 0, 201},
		"reset before acting":     {sim.Fault{At: sim.BeforeActing, Do: sim.Reset}, 0, 0, 201},
		"close before acting":     {sim.Fault{At: sim.BeforeActing, Do: sim.Close}, 0, 0, 201},
		"reset after acting":      {sim.Fault{At: sim.AfterActing, Do: sim.Reset}, 0, 1, 200},
		"reset in the reply":      {sim.Fault{At: sim.MidAnswer, Do: sim.Reset}, 0, 1, 200},
		"503 before acting":       {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: paypal.Error(503, "")}, 503, 0, 201},
		"500 after acting":        {sim.Fault{At: sim.AfterActing, Do: sim.Answer, Reply: paypal.Error(500, "")}, 500, 1, 200},
		"500 of PayPal's, before": {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Kept: true, Reply: paypal.Error(500, "")}, 500, 0, 201},
		"500 of PayPal's, after":  {sim.Fault{At: sim.AfterActing, Do: sim.Answer, Kept: true, Reply: paypal.Error(500, "")}, 500, 1, 200},
		"429 with a wait":         {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: paypal.RateLimited(7 * time.Second)}, 429, 0, 201},
	} {
		for protocol, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
			t.Run(name+", "+protocol, func(t *testing.T) {
				r := open(t, http2)
				id := r.created(order(unit, urls))
				r.approve(id, paypal.Outcome{})
				c.fault.On, c.fault.Nth = capture, 1
				r.Add(c.fault)
				got := r.post(orders+"/"+id+"/capture", "", requestID("k"))
				assert.Equal(t, c.first, got.status)
				assert.Equal(t, c.acted, r.Charges.Len())
				if c.first == 429 {
					assert.Equal(t, []string{"RATE_LIMIT_REACHED", "7"}, []string{got.text("name"), got.header.Get("Retry-After")})
				}
				assert.Equal(t, c.again, r.post(orders+"/"+id+"/capture", "", requestID("k")).status)
				assert.Equal(t, 1, r.Charges.Count("order-1"))
			})
		}
	}
}

func TestTheStateOutlivesItsServer(t *testing.T) {
	for protocol, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(protocol, func(t *testing.T) {
			r := open(t, http2)
			id := r.created(order(unit, urls))
			r.approve(id, paypal.Outcome{})
			gate := sim.NewGate()
			r.Add(sim.Fault{On: sim.Match{Path: "/v2/checkout/orders/*/capture"}, At: sim.AfterActing, Do: sim.Stall, Gate: gate, Nth: 1})
			first := make(chan reply)
			go func() { first <- r.post(orders+"/"+id+"/capture", "", requestID("k")) }()
			<-gate.Arrived()
			r.host.Kill()
			assert.Zero(t, (<-first).status)
			assert.Zero(t, r.get(orders+"/"+id).status, "nobody listens")
			r.host.Restart()
			assert.Equal(t, "COMPLETED", r.get(orders+"/"+id).text("status"))
			assert.Equal(t, 200, r.post(orders+"/"+id+"/capture", "", requestID("k")).status)
			assert.Equal(t, 1, r.Charges.Len())
		})
	}
}

func TestManyAtOnceCaptureOnceAndNeverRefundTooMuch(t *testing.T) {
	r := open(t, false)
	id := r.created(order(unit, urls))
	r.approve(id, paypal.Outcome{})
	all := func(do func(i int)) {
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { do(i) })
		}
		wg.Wait()
	}
	all(func(i int) { r.post(orders+"/"+id+"/capture", "", requestID("k"+string(rune('a'+i%4)))) })
	require.Equal(t, 1, r.Charges.Count("order-1"))
	capture := r.Charges.All()[0].ID
	all(func(i int) {
		for {
			got := r.post("/v2/payments/captures/"+capture+"/refund", `{"amount":{"currency_code":"USD","value":"0.90"}}`, requestID(string(rune('a'+i))))
			if got.status != 409 {
				return
			}
		}
	})
	balance := r.Balance("order-1")["USD"]
	assert.Equal(t, paypal.Balance{Charges: 1, Charged: 1000, Refunds: 11, Refunded: 990}, balance)
	assert.Equal(t, 11, r.Refunds.Count("order-1"))
}
