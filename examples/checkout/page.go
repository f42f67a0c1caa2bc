package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/secret"
)

//go:embed page.html form.html style.css
var files embed.FS

var pages = template.Must(template.ParseFS(files, "*.html"))

type item struct {
	Name  string
	Price payment.Money
}

var items = map[string]item{
	"book": {"Two books", payment.Money{Minor: 1999, Currency: payment.USD}},
	"lamp": {"A lamp", payment.Money{Minor: 4500, Currency: payment.USD}},
}

// view is all that the page shows.
type view struct {
	Items     map[string]item
	Methods   map[string]method
	Orders    []orderView
	Providers []providerView
	Troubles  []trouble
	Waiting   int // webhooks
	Webhooks  string
	Verdict   verdict
}

type providerView struct {
	resilience.Status

	Trouble string
}

// orderView is an order, what the journal remembers of it, what the shop was told,
// and what the providers' ledgers say.
type orderView struct {
	order

	Entry   payment.Entry
	Status  payment.Status // empty where nobody has tried to pay yet
	Told    []string
	Parcels int
	Ledger  []movement

	// Try and RefundID go out with the forms. They count what the page shows, so that a
	// second click on the same page is a repetition, and joins the first; a click on the
	// next page is a new try, and a new refund.
	Try      int
	RefundID string
}

// CanPay: nothing was paid, and nothing is under way that must end first.
func (o orderView) CanPay() bool {
	switch o.Status {
	case "", payment.Ready, payment.Declined, payment.Canceled, payment.NeedsAction:
		return true
	default:
		return false
	}
}

// CanResume: it isn't known how it ends, or the customer has something to do.
func (o orderView) CanResume() bool {
	return o.Status == payment.Unknown || o.Status == payment.Pending || o.Status == payment.NeedsAction
}

func (o orderView) CanCapture() bool { return o.Status == payment.Authorized }

func (o orderView) CanRefund() bool { return o.Status == payment.Succeeded }

func (s *shop) view(ctx context.Context) (*view, error) {
	orders, err := s.book.orders(ctx)
	if err != nil {
		return nil, err
	}
	v := &view{
		Items: items, Methods: methods, Troubles: troubles,
		Waiting: len(s.world.waiting()), Webhooks: s.world.noted("webhooks"), Verdict: s.world.verdict(),
	}
	for _, status := range s.pay.Inspect() {
		last := len(v.Providers) - 1
		switch {
		case status.Class == "":
			v.Providers = append(v.Providers, providerView{status, s.world.noted(status.Name)})
		case status.State != resilience.Closed: // of one class of operations
			v.Providers[last].State = status.State
		}
	}
	for _, o := range orders {
		shown, err := s.orderView(ctx, o)
		if err != nil {
			return nil, err
		}
		v.Orders = append(v.Orders, shown)
	}
	return v, nil
}

func (s *shop) orderView(ctx context.Context, o order) (v orderView, err error) {
	v = orderView{order: o}
	entry, err := s.journal.Entry(ctx, payment.Key{Order: o.ID})
	switch {
	case err == nil:
		v.Entry, v.Status = *entry, entry.Result().Status
	case !errors.Is(err, fault.NotFound): // which is an order that nobody has tried to pay
		return v, err
	}
	v.Try, v.RefundID = len(v.Entry.Attempts), "refund-"+strconv.Itoa(len(v.Entry.Refunds)+1)
	for _, m := range s.world.ledger() {
		if m.Order == o.ID {
			v.Ledger = append(v.Ledger, m)
		}
	}
	v.Told, v.Parcels, err = s.book.told(ctx, o.ID)
	return v, err
}

func (s *shop) page(w http.ResponseWriter, r *http.Request) {
	v, err := s.view(r.Context())
	if err != nil {
		http.Error(w, "The page can't be made.", http.StatusInternalServerError)
		return
	}
	render(w, "page.html", v)
}

func style(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "style.css") }

// render sends nothing where the template fails.
func render(w http.ResponseWriter, name string, data any) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, "The page can't be made.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = b.WriteTo(w)
}

// form stands in for Stripe's form, which is a script of Stripe's in the shop's
// page: the customer's card goes from there to Stripe, never through the shop. The
// client secret lets its holder pay, so it goes to this customer alone, into no
// log, no address and no database.
func (s *shop) form(w http.ResponseWriter, o order, clientSecret secret.Value) {
	render(w, "form.html", struct {
		Order  order
		Secret string
		Cards  map[string]method
	}{o, clientSecret.Reveal(), methods})
}

// fillForm is what the script does: it confirms the payment at Stripe with the
// client secret, lets the customer authenticate, and returns to the shop.
func (s *shop) fillForm(w http.ResponseWriter, r *http.Request, o order) {
	clientSecret, card := r.PostFormValue("secret"), methods[r.PostFormValue("card")].card
	intent, _, found := strings.Cut(clientSecret, "_secret_")
	if !found || card == "" {
		http.Error(w, "There is no such card.", http.StatusBadRequest)
		return
	}
	back := s.url + "/orders/" + o.ID + "/back"
	next, err := s.world.confirm(r.Context(), intent, url.Values{"client_secret": {clientSecret}, "payment_method": {card}, "return_url": {back}})
	if err != nil {
		s.show(w, r, o, "Stripe's form doesn't work: "+err.Error())
		return
	}
	if next == "" {
		next = back
	}
	http.Redirect(w, r, next, http.StatusSeeOther) //nolint:gosec // it is Stripe's address, or ours
}
