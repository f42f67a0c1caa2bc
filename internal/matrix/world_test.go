package matrix_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sim"
	paypalsim "github.com/smilefactory/integrations/internal/sim/paypal"
	stripesim "github.com/smilefactory/integrations/internal/sim/stripe"
)

const (
	stripeKey     = "sk_test_matrix"
	stripeAccount = "acct_platform"
	user          = "user-42"
	minor         = 1999
	refundMinor   = 500
)

// world is the far side: both providers, each behind its proxy, on one clock.
type world struct {
	c      cell
	clock  *sim.Clock
	stripe *stripesim.Sim
	paypal *paypalsim.Sim
	vault  string // the customer's saved method at PayPal
	sites  map[string]*site
	late   []*sim.Gate // of what is done late
}

// site is a provider on the loopback.
type site struct {
	end    endpoint
	plan   *sim.Plan
	proxy  *proxy
	server *httptest.Server
}

func newWorld(t testing.TB, c cell) *world {
	t.Helper()
	w := &world{c: c, clock: sim.NewClock(time.Now().Truncate(time.Millisecond)), sites: map[string]*site{}}
	w.stripe = stripesim.New(stripesim.Config{Keys: []string{stripeKey}, Account: stripeAccount, Now: w.clock.Now})
	w.paypal = paypalsim.New(paypalsim.Config{Now: w.clock.Now})
	outcome := paypalsim.Outcome{}
	switch {
	case c.Decline && c.HTTP2: // PayPal's order is COMPLETED all the same
		outcome.Status = "DECLINED"
	case c.Decline:
		outcome.Issue = "INSTRUMENT_DECLINED"
	}
	var err error
	w.vault, err = w.paypal.SaveMethod(paypalsim.DefaultAccount.ClientID, "", "paypal", outcome)
	require.NoError(t, err)
	w.sites["stripe"] = newSite(t, c, w.stripe, &w.stripe.Faults)
	w.sites["paypal"] = newSite(t, c, w.paypal, &w.paypal.Plan)
	w.plan()
	return w
}

func newSite(t testing.TB, c cell, h http.Handler, plan *sim.Plan) *site {
	t.Helper()
	s := &site{plan: plan, server: httptest.NewUnstartedServer(h)}
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0) // of what was broken off
	scheme := "http://"
	if c.Step == inTLS {
		scheme = "https://"
		s.server.EnableHTTP2 = c.HTTP2
		s.server.StartTLS()
		s.end.Root = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
	} else {
		s.server.Config.Protocols = new(http.Protocols)
		s.server.Config.Protocols.SetHTTP1(!c.HTTP2)
		s.server.Config.Protocols.SetUnencryptedHTTP2(c.HTTP2)
		s.server.Start()
	}
	s.proxy = newProxy(t, c, s.server.Listener.Addr().String())
	s.end.URL = scheme + s.proxy.listener.Addr().String()
	s.end.Spoil = s.proxy.spoiler.Addr().String()
	return s
}

func (w *world) close() {
	for _, g := range w.late {
		g.Open()
	}
	for _, s := range w.sites {
		s.plan.Close()
		s.proxy.close()
		s.server.CloseClientConnections()
		s.server.Close()
	}
}

func (w *world) ends() map[string]endpoint {
	return map[string]endpoint{"stripe": w.sites["stripe"].end, "paypal": w.sites["paypal"].end}
}

// onPull is what happens where a flaw of the process or the caller is to happen
// and this side sees the moment; once.
func (w *world) onPull(f func()) {
	pull := sync.OnceFunc(f)
	s := w.sites[w.c.target()]
	s.proxy.pull = pull
	at, ok := map[step]sim.When{written: sim.BeforeActing, acted: sim.AfterActing, inReply: sim.MidAnswer}[w.c.Step]
	if !ok {
		return
	}
	g := sim.NewGate()
	w.late = append(w.late, g)
	s.plan.Add(sim.Fault{On: marked(hit), At: at, Do: sim.Stall, Gate: g, Times: 1})
	go func() {
		<-g.Arrived()
		pull()
		g.Open()
	}()
}

func marked(mark string) sim.Match {
	return sim.Match{If: func(r *http.Request, _ []byte) bool { return r.Header.Get(markHeader) == mark }}
}

// plan is what the marks mean to the simulators.
func (w *world) plan() {
	for name, s := range w.sites {
		s.plan.Add(
			sim.Fault{On: marked(cutDone), At: sim.AfterActing, Do: sim.Reset},
			sim.Fault{On: marked(cutIdle), At: sim.BeforeActing, Do: sim.Reset},
			sim.Fault{On: marked(busy), At: sim.BeforeActing, Do: sim.Answer, Reply: reply(name, status429)},
			sim.Fault{On: marked(unwell), At: sim.BeforeActing, Do: sim.Answer, Reply: reply(name, status503)},
		)
	}
	f, ok := w.fault()
	if !ok {
		return
	}
	f.On = marked(hit)
	if w.c.Extent == once {
		f.Times = 1
	}
	w.sites[w.c.target()].plan.Add(f)
}

// moments of the simulators.
var moments = map[step]sim.When{inBody: sim.BeforeReading, written: sim.BeforeActing, acted: sim.AfterActing, inReply: sim.MidAnswer}

// fault is the cell's flaw, where the simulator is to play it.
func (w *world) fault() (sim.Fault, bool) {
	c := w.c
	f := sim.Fault{At: moments[c.Step]}
	switch {
	case f.At == 0 || !c.Flaw.ofWire():
		return f, false
	case c.Flaw.among(answers):
		f.Do, f.Reply = sim.Answer, reply(c.target(), c.Flaw)
		f.Kept = c.target() == "stripe" && (c.Flaw == status500 || c.Flaw == noRetry500) && c.Step != inBody
	case c.Step == inBody:
		return f, false // the proxy's
	case c.Flaw == resets:
		f.Do = sim.Reset
	case c.Flaw == closes:
		f.Do = sim.Close
	case c.Flaw == stalls:
		f.Do = sim.Stall
	case c.Flaw == late:
		f.Do, f.Gate = sim.Stall, sim.NewGate()
		w.late = append(w.late, f.Gate)
	case c.Flaw == truncates: // well-formed at the level of HTTP
		f.At, f.Do, f.Reply = sim.AfterActing, sim.Answer, sim.Reply{Body: `{"id": "`}
	}
	return f, true
}

// reply is an answer in a provider's words.
func reply(provider string, f flaw) sim.Reply {
	switch f {
	default:
	case page502:
		return stripesim.BadGateway()
	case page404:
		return sim.Reply{Status: http.StatusNotFound, Header: http.Header{"Content-Type": {"text/html"}}, Body: "<html>404 Not Found</html>"}
	}
	if provider == "paypal" {
		code := map[flaw]int{status429: 429, status500: 500, status503: 503, status409: 409}[f]
		issue := ""
		if f == status409 {
			issue = "PREVIOUS_REQUEST_IN_PROGRESS"
		}
		return paypalsim.Error(code, issue)
	}
	switch f {
	case status429:
		return stripesim.RateLimited()
	case status409:
		return stripesim.KeyInUse("k")
	case status503:
		return stripesim.ServerError(http.StatusServiceUnavailable, "true")
	case retry500:
		return stripesim.ServerError(http.StatusInternalServerError, "true")
	case noRetry500:
		return stripesim.ServerError(http.StatusInternalServerError, "false")
	default:
		return stripesim.ServerError(http.StatusInternalServerError, "")
	}
}

// heal ends what goes wrong, and lets what is late be done.
func (w *world) heal() {
	for _, s := range w.sites {
		s.plan.Heal()
		s.proxy.heal()
	}
	for _, g := range w.late {
		g.Open()
	}
}

// charged is money that moved.
type charged struct {
	provider, account, order, currency string
	amount                             int64
}

// ledger is what both providers say of an order.
type ledger struct {
	charges, refunds []charged
	holds            int
}

func (w *world) ledger(order string) ledger {
	var l ledger
	for _, m := range w.stripe.Money.All() {
		if m.OrderID != order {
			continue
		}
		c := charged{"stripe", m.Account, m.OrderID, strings.ToUpper(m.Currency), m.Amount}
		if m.Kind == stripesim.Charged {
			l.charges = append(l.charges, c)
		} else {
			l.refunds = append(l.refunds, c)
		}
	}
	add := func(to *[]charged, all []paypalsim.Movement) {
		for _, m := range all {
			if id, _, _ := strings.Cut(m.CustomID, "."); id == order {
				*to = append(*to, charged{"paypal", m.Payee, id, m.Currency, m.Minor})
			}
		}
	}
	add(&l.charges, w.paypal.Charges.All())
	add(&l.refunds, w.paypal.Refunds.All())
	for n := 1; n < 10; n++ {
		l.holds += w.paypal.Balance(fmt.Sprintf("%s.%d:%s", order, n, user))["USD"].OpenAuthorizations
	}
	l.holds += w.intents(order, "requires_capture")
	return l
}

// intents counts Stripe's PaymentIntents of an order in that status.
func (w *world) intents(order, status string) int {
	r := httptest.NewRequest(http.MethodGet, "/v1/payment_intents?limit=100", nil)
	r.Header.Set("Authorization", "Bearer "+stripeKey)
	out := httptest.NewRecorder()
	w.stripe.ServeHTTP(out, r)
	var list struct {
		Data []struct {
			Status   string
			Metadata map[string]string
		}
	}
	if err := json.Unmarshal(out.Body.Bytes(), &list); err != nil {
		panic(err)
	}
	n := 0
	for _, pi := range list.Data {
		if pi.Status == status && pi.Metadata[stripesim.OrderKey] == order {
			n++
		}
	}
	return n
}

// asked counts the requests that a provider got which make or move a payment.
func (w *world) asked(provider string) int {
	n := 0
	for _, c := range w.sites[provider].plan.Calls(sim.Match{Method: http.MethodPost}) {
		if c.Path != "/v1/oauth2/token" {
			n++
		}
	}
	return n
}

// anotherVault is a method of the same customer that isn't declined.
func (w *world) anotherVault() string {
	id, err := w.paypal.SaveMethod(paypalsim.DefaultAccount.ClientID, "", "paypal", paypalsim.Outcome{})
	if err != nil {
		panic(err)
	}
	return id
}
