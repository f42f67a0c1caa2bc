package main

import (
	"database/sql"
	"errors"
	"net/http"
	"strconv"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

// handler is the whole service. Whatever changes something is a POST, and refused
// when it comes from another site's page.
func (s *shop) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /style.css", style)
	mux.HandleFunc("POST /orders", s.order)
	mux.HandleFunc("POST /orders/{id}/pay", s.of(s.charge))
	mux.HandleFunc("GET /orders/{id}/back", s.of(s.back)) // the ReturnURL
	mux.HandleFunc("POST /orders/{id}/resume", s.of(s.resume))
	mux.HandleFunc("POST /orders/{id}/capture", s.of(s.capture))
	mux.HandleFunc("POST /orders/{id}/void", s.of(s.void))
	mux.HandleFunc("POST /orders/{id}/refund", s.of(s.refund))
	mux.HandleFunc("POST /orders/{id}/form", s.of(s.fillForm))
	mux.HandleFunc("POST /trouble", s.trouble)
	mux.HandleFunc("POST /deliver", s.deliver)
	mux.Handle("POST /hooks/{provider...}", s.pay.Webhooks()) // that is all there is to webhooks
	return s.guarded(http.NewCrossOriginProtection().Handler(mux))
}

// guarded sets what every answer has. Nobody keeps a copy of the pages, and forms
// go to the shop, or on to the providers' pages.
func (s *shop) guarded(next http.Handler) http.Handler {
	policy := "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self' " +
		s.world.stripeHost.URL + " " + s.world.payPalHost.URL
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("Referrer-Policy", "same-origin")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
		next.ServeHTTP(w, r)
	})
}

// of is a handler of one order.
func (s *shop) of(do func(http.ResponseWriter, *http.Request, order)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o, err := s.book.order(r.Context(), r.PathValue("id"))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			http.NotFound(w, r)
		case err != nil:
			http.Error(w, "The order can't be read.", http.StatusInternalServerError)
		default:
			do(w, r, o)
		}
	}
}

// order makes an order. Nothing is paid yet.
func (s *shop) order(w http.ResponseWriter, r *http.Request) {
	i, ok := items[r.PostFormValue("item")]
	if !ok {
		http.Error(w, "There is no such item.", http.StatusBadRequest)
		return
	}
	id, err := s.book.add(r.Context(), i, r.PostFormValue("hold") != "")
	if err != nil {
		http.Error(w, "The order can't be booked.", http.StatusInternalServerError)
		return
	}
	http.Redirect(w, r, "/#"+id, http.StatusSeeOther)
}

// charge takes the money. It may be called any number of times, by customers who
// click twice and in many processes: an order is paid once.
func (s *shop) charge(w http.ResponseWriter, r *http.Request, o order) {
	m, known := methods[r.PostFormValue("method")]
	try, err := strconv.Atoi(r.PostFormValue("try")) // see orderView.Try
	if !known || err != nil {
		http.Error(w, "There is no such method.", http.StatusBadRequest)
		return
	}
	result, err := s.pay.Charge(r.Context(), &payment.Order{
		ID: o.ID, Amount: o.Amount, Description: o.Item, User: "user-1",
		Providers: m.only, Methods: s.world.tokens(m), Hold: o.Hold, Try: try,
		ReturnURL: s.url + "/orders/" + o.ID + "/back",
	})
	s.answer(w, r, o, result, err, true)
}

// back is where the customer comes back to. What the address says isn't believed:
// Resume asks the provider, and takes the money that the customer has approved.
func (s *shop) back(w http.ResponseWriter, r *http.Request, o order) {
	result, err := s.pay.Resume(r.Context(), o.ID)
	s.answer(w, r, o, result, err, false) // he has just been there: not again by itself
}

// resume is the button for whatever was left open.
func (s *shop) resume(w http.ResponseWriter, r *http.Request, o order) {
	result, err := s.pay.Resume(r.Context(), o.ID)
	s.answer(w, r, o, result, err, true)
}

func (s *shop) capture(w http.ResponseWriter, r *http.Request, o order) {
	amount := payment.Money{} // all
	if r.PostFormValue("amount") == "half" {
		amount = payment.Money{Minor: o.Amount.Minor / 2, Currency: o.Amount.Currency}
	}
	result, err := s.pay.Capture(r.Context(), o.ID, amount)
	s.answer(w, r, o, result, err, false)
}

func (s *shop) void(w http.ResponseWriter, r *http.Request, o order) {
	result, err := s.pay.Void(r.Context(), o.ID)
	s.answer(w, r, o, result, err, false)
}

// refund gives money back. Its id comes with the form, so that a second click is
// the same refund.
func (s *shop) refund(w http.ResponseWriter, r *http.Request, o order) {
	amount := payment.Money{} // all that is left
	if r.PostFormValue("amount") == "part" {
		amount = payment.Money{Minor: 500, Currency: o.Amount.Currency}
	}
	refund, err := s.pay.Refund(r.Context(), o.ID, r.PostFormValue("refund"), amount)
	var said string
	switch {
	case errors.Is(err, fault.Uncertain):
		said = "We don't know yet whether the refund was made."
	case err != nil:
		said = "Nothing was refunded: " + err.Error()
	default:
		said = "Refund of " + refund.Amount.String() + ": " + string(refund.State) + "."
	}
	s.show(w, r, o, said)
}

// answer tells the customer how his order stands, and sends him where he must act.
func (s *shop) answer(w http.ResponseWriter, r *http.Request, o order, result *payment.Result, err error, send bool) {
	if send && err == nil && result.Action != nil {
		s.act(w, r, o, result.Action)
		return
	}
	s.show(w, r, o, inWords(result, err))
}

// inWords is how an order stands. The errors are shown as they are, since this is
// a demonstration: they hold no secret, but a customer can do nothing with them.
func inWords(result *payment.Result, err error) string {
	switch {
	case errors.Is(err, fault.Uncertain):
		return "We don't know yet whether you have paid. We are finding out; you won't pay twice."
	case errors.Is(err, payment.ErrInProgress):
		return "Your payment is under way."
	case err != nil:
		return "That could not be done: " + err.Error()
	}
	switch result.Status {
	case payment.Succeeded:
		return "Thank you. You have paid " + result.Captured.String() + " with " + result.Provider + "."
	case payment.Authorized:
		return result.Amount.String() + " is held by " + result.Provider + "; you pay when we send the parcel."
	case payment.Declined:
		return result.Decline.Message
	case payment.NeedsAction:
		return "Please confirm the payment at " + result.Provider + "."
	case payment.Pending:
		return "Your payment takes some days (" + result.Reason + ")."
	case payment.Canceled:
		return "Nothing was paid."
	default: // Ready, Unknown and NeedsCustomer don't come here
		return string(result.Status)
	}
}

// act sends the customer to the provider's page, or shows the provider's form.
func (s *shop) act(w http.ResponseWriter, r *http.Request, o order, a *payment.NextAction) {
	if err := s.book.say(r.Context(), o.ID, "Please confirm the payment at "+a.Provider+"."); err != nil {
		http.Error(w, "The order can't be written.", http.StatusInternalServerError)
		return
	}
	if a.RedirectURL == "" {
		s.form(w, o, a.ClientSecret)
		return
	}
	a.ServeHTTP(w, r)
}

// show goes to the order on the page.
func (s *shop) show(w http.ResponseWriter, r *http.Request, o order, said string) {
	if err := s.book.say(r.Context(), o.ID, said); err != nil {
		http.Error(w, "The order can't be written.", http.StatusInternalServerError)
		return
	}
	http.Redirect(w, r, "/#"+o.ID, http.StatusSeeOther)
}
