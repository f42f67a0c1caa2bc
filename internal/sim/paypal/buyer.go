package paypal

import (
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

const (
	approvePath = "/checkoutnow"        // of an order
	agreePath   = "/agreements/approve" // of a setup token
)

// Approve is the buyer who agrees, with a payment method that a charge then ends with as funding says, to an order or a
// setup token, by its id. It returns where the buyer is sent afterwards.
func (s *Sim) Approve(id string, funding Outcome) (returnURL string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.approve(id, funding)
}

func (s *Sim) approve(id string, funding Outcome) (string, error) {
	if t, known := s.setups[id]; known {
		return s.approveSetup(t, funding)
	}
	o, known := s.orders[id]
	if !known {
		return "", fmt.Errorf("paypal: approve %s: neither an order nor a setup token", id)
	}
	now := s.now()
	s.refreshOrder(o, now)
	if o.status != created && o.status != payerActionRequired && o.status != approved {
		return "", fmt.Errorf("paypal: approve order %s: it is %s", id, o.status)
	}
	s.visit(o, now)
	o.status, o.funding, o.updated, o.token = approved, funding, now, nil
	if o.kind == "" {
		o.kind = "paypal"
	}
	s.emit(o.account, "CHECKOUT.ORDER.APPROVED", "checkout-order", o.id, o.whole(s.base))
	return withQuery(o.returnURL, url.Values{"token": {o.id}, "PayerID": {payerID}}), nil
}

func (s *Sim) approveSetup(t *setupToken, funding Outcome) (string, error) {
	if t.status == "VAULTED" || !s.now().Before(t.created.Add(setupTime)) {
		return "", fmt.Errorf("paypal: approve setup token %s: it is used up", t.id)
	}
	t.status, t.outcome = approved, funding
	return withQuery(t.returnURL, url.Values{"approval_token_id": {t.id}, "approval_session_id": {t.id}}), nil
}

// Cancel is the buyer who turns back. It changes nothing at PayPal, where an order can't be cancelled, and returns where
// the buyer is sent.
func (s *Sim) Cancel(id string) (cancelURL string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cancel(id)
}

func (s *Sim) cancel(id string) (string, error) {
	if t, known := s.setups[id]; known {
		return withQuery(t.cancelURL, url.Values{"approval_token_id": {t.id}}), nil
	}
	o, known := s.orders[id]
	if !known {
		return "", fmt.Errorf("paypal: cancel %s: neither an order nor a setup token", id)
	}
	return withQuery(o.cancelURL, url.Values{"token": {o.id}}), nil
}

// visit starts the time for approving and capturing anew when the buyer first comes.
func (s *Sim) visit(o *order, now time.Time) {
	if o.redirected.IsZero() && (o.status == created || o.status == payerActionRequired) {
		o.redirected = now
	}
}

func withQuery(to string, add url.Values) string {
	u, err := url.Parse(to)
	if err != nil || to == "" {
		return ""
	}
	query := u.Query()
	maps.Copy(query, add)
	u.RawQuery = query.Encode()
	return u.String()
}

// choices are the buttons of the buyer's page.
var choices = map[string]Outcome{
	"pay":     {},
	"decline": {Issue: "INSTRUMENT_DECLINED"},
	"pending": {Status: "PENDING", Reason: "ECHECK"},
}

var buyerPage = template.Must(template.New("buyer").Parse(`<!doctype html>
<html lang="en"><title>PayPal simulator</title>
<h1>PayPal simulator</h1>
<p>{{.What}}</p>
<form method="post">
<button name="choice" value="pay">Agree and pay</button>
<button name="choice" value="decline">Pay with a card that will be declined</button>
<button name="choice" value="pending">Pay with an eCheck that takes days</button>
<button name="choice" value="cancel">Cancel and return</button>
</form></html>
`))

// page is where the buyer agrees; it needs no access token.
func (s *Sim) page(c *call) sim.Reply {
	id := c.r.URL.Query().Get("token") + c.r.URL.Query().Get("approval_session_id")
	what, ok := s.offer(id, c.now)
	if !ok {
		return page(http.StatusNotFound, "We're sorry, things don't appear to be working at the moment.")
	}
	var html strings.Builder
	if err := buyerPage.Execute(&html, struct{ What string }{what}); err != nil {
		return page(http.StatusInternalServerError, "The page can't be shown.")
	}
	return page(http.StatusOK, html.String())
}

func (s *Sim) offer(id string, now time.Time) (string, bool) {
	if t, known := s.setups[id]; known {
		return "Save a payment method (" + t.kind + ") with " + t.account.MerchantID + ".", t.status != "VAULTED"
	}
	o, known := s.orders[id]
	if !known {
		return "", false
	}
	s.refreshOrder(o, now)
	s.visit(o, now)
	var amounts []string
	for _, u := range o.units {
		amounts = append(amounts, u.amount.value()+" "+u.amount.currency)
	}
	return "Pay " + strings.Join(amounts, " and ") + " to " + o.units[0].payeeName() + ".", o.status != expired && o.status != voided && o.status != completed
}

func page(status int, html string) sim.Reply {
	return sim.Reply{Status: status, Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}, Body: html}
}

// decide is a button of the buyer's page.
func (s *Sim) decide(c *call) sim.Reply {
	form, err := url.ParseQuery(string(c.raw))
	if err != nil {
		return page(http.StatusBadRequest, "The form can't be read.")
	}
	id := c.r.URL.Query().Get("token") + c.r.URL.Query().Get("approval_session_id")
	to, err := s.decided(id, form.Get("choice"))
	if err != nil || to == "" { // Without a return_url: Orders v2 specification, order.links.
		return page(http.StatusConflict, "We're sorry, things don't appear to be working at the moment.")
	}
	return sim.Reply{Status: http.StatusSeeOther, Header: http.Header{"Location": {to}}}
}

func (s *Sim) decided(id, choice string) (string, error) {
	funding, pays := choices[choice]
	if !pays {
		return s.cancel(id)
	}
	return s.approve(id, funding)
}
