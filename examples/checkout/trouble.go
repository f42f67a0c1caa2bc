package main

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/smilefactory/integrations/internal/sim"
)

// trouble is a way in which a provider can fail.
type trouble struct {
	Name, Text string
	begin      func(w *world, host *sim.Host, faults *sim.Plan)
}

// calls are the requests of the shop; the customer's pages go on working.
var calls = sim.Match{If: func(r *http.Request, _ []byte) bool {
	return strings.HasPrefix(r.URL.Path, "/v1/") || strings.HasPrefix(r.URL.Path, "/v2/")
}}

// moving are those that move money.
var moving = sim.Match{Method: http.MethodPost, If: func(r *http.Request, _ []byte) bool {
	return slices.Contains([]string{"confirm", "capture", "authorize", "refund", "refunds"}, path.Base(r.URL.Path))
}}

var troubles = []trouble{
	{"down", "is down", func(_ *world, host *sim.Host, _ *sim.Plan) { host.Kill() }},
	{"hangs", "hangs", func(_ *world, _ *sim.Host, faults *sim.Plan) {
		faults.Add(sim.Fault{On: calls, At: sim.BeforeActing, Do: sim.Stall})
	}},
	{"500", "answers 500", func(_ *world, _ *sim.Host, faults *sim.Plan) {
		faults.Add(sim.Fault{On: calls, At: sim.BeforeActing, Do: sim.Answer, Reply: sim.Reply{Status: http.StatusInternalServerError}})
	}},
	{"drops", "takes the money and drops the answer", func(_ *world, _ *sim.Host, faults *sim.Plan) {
		faults.Add(sim.Fault{On: moving, At: sim.AfterActing, Do: sim.Reset})
	}},
	{"killed", "is killed when it has taken the money", killed},
}

// killed ends the provider's server at the next payment, once the money has moved
// and before anybody hears of it. It stays down until it is mended.
func killed(w *world, host *sim.Host, faults *sim.Plan) {
	gate := sim.NewGate()
	faults.Add(sim.Fault{On: moving, At: sim.AfterActing, Do: sim.Stall, Gate: gate, Times: 1})
	w.running.Go(func() {
		select {
		case <-gate.Arrived():
			host.Kill()
		case <-w.closed:
		}
	})
}

// trouble is a button of the page. Without a name of a trouble it mends.
func (s *shop) trouble(w http.ResponseWriter, r *http.Request) {
	provider := r.PostFormValue("provider")
	host, faults := s.world.stripeHost, &s.world.stripe.Faults
	switch provider {
	case "stripe":
	case "paypal":
		host, faults = s.world.payPalHost, &s.world.payPal.Plan
	default:
		http.Error(w, "There is no such provider.", http.StatusBadRequest)
		return
	}
	faults.Heal()
	host.Restart() //nolint:contextcheck // it outlives the request
	text := ""
	for _, t := range troubles {
		if t.Name == r.PostFormValue("trouble") {
			text = t.Text
			t.begin(s.world, host, faults)
		}
	}
	s.world.note(provider, text)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// deliver is the button that lets the providers send their webhooks.
func (s *shop) deliver(w http.ResponseWriter, r *http.Request) {
	taken, refused := s.world.deliverEvents(r.Context(), r.PostFormValue("shuffled") != "")
	s.world.note("webhooks", fmt.Sprintf("Of those sent last the shop took %d, and %d come again.", taken, refused))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
