package stripe

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"strings"

	"github.com/smilefactory/integrations/internal/sim"
)

// pagePath is where next_action sends the customer.
const pagePath = "/authenticate/"

// Authenticate does what a customer does on the page of next_action: it completes or fails the authentication of a
// PaymentIntent or SetupIntent that requires it.
func (s *Sim) Authenticate(id string, completes bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.authenticate(id, completes)
	return err
}

// authenticate returns the address to return to, if there is one.
func (s *Sim) authenticate(id string, completes bool) (string, error) {
	for _, sp := range s.spaces {
		c := s.own(sp)
		if pi, ok := sp.intents.byID[id]; ok {
			if pi.Status != requiresAction {
				return "", fmt.Errorf("sim/stripe: authenticate %s: its status is %s", id, pi.Status)
			}
			c.authenticated(pi, completes)
			return returnTo(pi.returnURL, "payment_intent", id, pi.ClientSecret, pi.LastPaymentError), nil
		}
		if si, ok := sp.setups.byID[id]; ok {
			if si.Status != requiresAction {
				return "", fmt.Errorf("sim/stripe: authenticate %s: its status is %s", id, si.Status)
			}
			c.setupAuthenticated(si, completes)
			return returnTo(si.returnURL, "setup_intent", id, si.ClientSecret, si.LastSetupError), nil
		}
	}
	return "", fmt.Errorf("sim/stripe: authenticate %s: there is no such intent", id)
}

// authenticated goes on with the payment, or ends the attempt without a charge (docs.stripe.com/error-codes,
// payment_intent_authentication_failure). With manual confirmation the server confirms once more
// (docs.stripe.com/payments/finalize-payments-on-the-server).
func (c *call) authenticated(pi *paymentIntent, completes bool) {
	pm := c.methods.byID[*pi.PaymentMethod]
	switch {
	case !completes || pm.card.asks == asksAndBreaks:
		p := refused("payment_intent_authentication_failure", "", "We are unable to authenticate your payment method. Please choose a different payment method and try again.")
		p.PaymentMethod = pm
		pi.Status, pi.PaymentMethod, pi.NextAction, pi.LastPaymentError = requiresPaymentMethod, nil, nil, &p.detail
		c.emit("payment_intent.payment_failed", pi)
	case pi.ConfirmationMethod == "manual":
		pi.Status, pi.NextAction, pi.authenticated = requiresConfirmation, nil, true
	default:
		_ = c.pay(pi, pm) // A decline shows in last_payment_error.
	}
}

func (c *call) setupAuthenticated(si *setupIntent, completes bool) {
	pm := c.methods.byID[*si.PaymentMethod]
	if !completes || pm.card.asks == asksAndBreaks {
		p := refused("setup_intent_authentication_failure", "", "We are unable to authenticate your payment method. Please choose a different payment method and try again.")
		_ = c.failSetup(si, pm, p.detail)
		return
	}
	_ = c.finishSetup(si, pm) // A decline shows in last_setup_error.
}

// returnTo: docs.stripe.com/payments/accept-a-payment, the parameters that Stripe adds to return_url.
func returnTo(returnURL, name, id, secret string, failed *detail) string {
	to, err := url.Parse(returnURL)
	if returnURL == "" || err != nil {
		return ""
	}
	status := "succeeded"
	if failed != nil {
		status = "failed"
	}
	q := to.Query()
	q.Set(name, id)
	q.Set(name+"_client_secret", secret)
	q.Set("redirect_status", status)
	to.RawQuery = q.Encode()
	return to.String()
}

// page is the customer's bank: GET shows two buttons, POST with outcome=complete or fail is what they do.
func (s *Sim) page(r *http.Request, body []byte) sim.Reply {
	id := strings.TrimPrefix(r.URL.Path, pagePath)
	if r.Method != http.MethodPost {
		return htmlPage(http.StatusOK, `<h1>3D Secure</h1><p>The simulated bank asks whether you make the payment `+html.EscapeString(id)+`.</p>
<form method="post"><button name="outcome" value="complete">Complete</button> <button name="outcome" value="fail">Fail</button></form>`)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return htmlPage(http.StatusBadRequest, "<p>The form can't be read.</p>")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	to, err := s.authenticate(id, form.Get("outcome") == "complete")
	switch {
	case err != nil:
		return htmlPage(http.StatusConflict, "<p>"+html.EscapeString(err.Error())+"</p>")
	case to == "":
		return htmlPage(http.StatusOK, "<p>Done. You may close this page.</p>")
	}
	return sim.Reply{Status: http.StatusSeeOther, Header: http.Header{"Location": {to}}}
}

func htmlPage(status int, content string) sim.Reply {
	return sim.Reply{
		Status: status, Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}},
		Body: "<!doctype html><html lang=\"en\"><title>Simulated bank</title><body>" + content + "</body></html>\n",
	}
}

// Settle ends the processing of a payment that takes days (docs.stripe.com/payments/ach-direct-debit).
func (s *Sim) Settle(intent string, succeeds bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sp := range s.spaces {
		pi, ok := sp.intents.byID[intent]
		if !ok {
			continue
		}
		if pi.Status != processing {
			return fmt.Errorf("sim/stripe: settle %s: its status is %s", intent, pi.Status)
		}
		s.own(sp).settle(pi, succeeds)
		return nil
	}
	return fmt.Errorf("sim/stripe: settle %s: there is no such PaymentIntent", intent)
}

func (c *call) settle(pi *paymentIntent, succeeds bool) {
	ch := c.charges.byID[*pi.LatestCharge]
	if succeeds {
		c.collect(pi, ch, pi.Amount)
		c.emit("charge.succeeded", ch)
		c.emit("payment_intent.succeeded", pi)
		return
	}
	ch.fail(bankRefused)
	d := bankRefused.detail()
	d.Charge, d.PaymentMethod = ch.ID, c.methods.byID[*ch.PaymentMethod]
	pi.Status, pi.PaymentMethod, pi.LastPaymentError = requiresPaymentMethod, nil, &d
	c.emit("charge.failed", ch)
	c.emit("payment_intent.payment_failed", pi)
}
