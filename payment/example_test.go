package payment_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	paypalsim "github.com/smilefactory/integrations/internal/sim/paypal"
	stripesim "github.com/smilefactory/integrations/internal/sim/stripe"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymentsql"
	"github.com/smilefactory/integrations/payment/paymenttest"
	"github.com/smilefactory/integrations/payment/paypal"
	"github.com/smilefactory/integrations/payment/stripe"
	"github.com/smilefactory/integrations/secret"
)

// Stripe, with PayPal behind it, and a journal in SQLite. The simulators stand for
// both: drop them, BaseURL, HTTPClient and Sandbox.
func ExampleNew() {
	cards, wallet := stripesim.New(stripesim.Config{Keys: []string{"sk_test_1"}}), paypalsim.New(paypalsim.Config{})
	defer cards.Faults.Close()
	defer wallet.Close()
	first, second := cards.Start(false), sim.NewHost(wallet, false)
	defer first.Close()
	defer second.Close()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path, ctx := filepath.ToSlash(filepath.Join(dir, "shop.db")), context.Background()

	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	journal, err := paymentsql.Open(ctx, db)
	if err != nil {
		fmt.Println(err)
		return
	}
	pay, err := payment.New(
		stripe.Gateway{Key: secret.Literal("sk_test_1"), BaseURL: first.URL, HTTPClient: first.Client()},
		payment.WithBackup(&paypal.Gateway{
			ClientID: "sim-client", Secret: secret.Literal("sim-secret"), Sandbox: true, BaseURL: second.URL, HTTPClient: second.Client(),
		}),
		payment.WithJournal(journal),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pay.Close(ctx)
	result, err := pay.Charge(ctx, &payment.Order{
		ID: "order-4711", User: "user-42",
		Amount:    payment.Money{Minor: 1999, Currency: "USD"},
		Methods:   map[string]payment.Method{"stripe": {ID: "pm_card_visa"}},
		ReturnURL: "https://shop.example.com/paid?order=order-4711",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Provider, result.Status, result.Captured)
	// Output: stripe succeeded 19.99 USD
}

// tea is an order of which the examples need no more. The Bank stands for a
// provider.
func tea(method string) *payment.Order {
	return &payment.Order{
		ID: "order-1", Amount: payment.Money{Minor: 1999, Currency: "USD"},
		Methods:   map[string]payment.Method{"bank": {ID: method}},
		ReturnURL: "https://shop.example.com/paid?order=order-1",
	}
}

// A decline is a result. Another method is another attempt of the same order, and
// after a success there are no more attempts.
func ExampleClient_Charge() {
	bank := &paymenttest.Bank{}
	pay, err := payment.New(bank)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	for _, method := range []string{paymenttest.Poor, paymenttest.Good, paymenttest.Good} {
		result, err := pay.Charge(ctx, tea(method))
		switch {
		case err != nil: // it isn't known, or wasn't done: Resume tells
			fmt.Println(err)
		case result.Status == payment.Declined:
			fmt.Println(result.Decline.Reason, "-", result.Decline.Message)
		case result.Status == payment.Succeeded:
			fmt.Println("paid by attempt", result.Attempt)
		}
	}
	fmt.Println("charges:", len(bank.Charges("order-1")))
	// Output:
	// insufficient funds - There isn't enough money on this account. Please use another payment method.
	// paid by attempt 2
	// paid by attempt 2
	// charges: 1
}

// The bank wants the customer to confirm. He is sent to a page, and what the page
// says that he comes back to is what the bank says, not what is in the address.
func ExampleClient_Resume() {
	bank := &paymenttest.Bank{}
	pay, err := payment.New(bank)
	if err != nil {
		fmt.Println(err)
		return
	}
	answer := func(w http.ResponseWriter, r *http.Request, result *payment.Result, err error) {
		switch {
		case err != nil: // the order may be paid: never offer to pay again, look again
			http.Error(w, "One moment, please.", http.StatusServiceUnavailable)
		case result.Status == payment.NeedsAction && result.Action != nil:
			result.Action.ServeHTTP(w, r)
		case result.Status == payment.Declined:
			http.Error(w, result.Decline.Message, http.StatusPaymentRequired)
		default:
			fmt.Fprintln(w, result.Status)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /pay", func(w http.ResponseWriter, r *http.Request) {
		result, err := pay.Charge(r.Context(), tea(paymenttest.Strict))
		answer(w, r, result, err)
	})
	mux.HandleFunc("GET /paid", func(w http.ResponseWriter, r *http.Request) {
		result, err := pay.Resume(r.Context(), r.FormValue("order"))
		answer(w, r, result, err)
	})

	page := httptest.NewRecorder()
	mux.ServeHTTP(page, httptest.NewRequest(http.MethodPost, "/pay", nil))
	fmt.Println(page.Code, page.Header().Get("Location"))
	bank.Confirm("bank_pay_1") // what the customer does there
	page = httptest.NewRecorder()
	mux.ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/paid?order=order-1", nil))
	fmt.Print(page.Code, " ", page.Body)
	// Output:
	// 303 https://bank.example.com/confirm/bank_pay_1
	// 200 succeeded
}

// Nothing moves between the two steps.
func ExampleClient_Start() {
	bank := &paymenttest.Bank{}
	pay, err := payment.New(bank)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	result, err := pay.Start(ctx, tea(paymenttest.Good))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Status, len(bank.Charges("order-1")))
	result, err = pay.Finish(ctx, "order-1") // when there is tea
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Status, len(bank.Charges("order-1")))
	// Output:
	// ready 0
	// succeeded 1
}

// A hotel holds the price of three nights and takes that of two. The rest is let
// go.
func ExampleClient_Capture() {
	pay, err := payment.New(&paymenttest.Bank{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	stay := tea(paymenttest.Good)
	stay.Amount, stay.Hold = payment.Money{Minor: 30000, Currency: "EUR"}, true
	result, err := pay.Charge(ctx, stay)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Status, result.Amount)
	result, err = pay.Capture(ctx, "order-1", payment.Money{Minor: 20000, Currency: "EUR"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Status, result.Captured)
	// Output:
	// authorized 300.00 EUR
	// succeeded 200.00 EUR
}

// The platform keeps 2.5 percent, and gives back its share of what is refunded.
func ExampleClient_Refund() {
	pay, err := payment.New(&paymenttest.Bank{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	order := tea(paymenttest.Good)
	order.Fee = payment.Fee{BasisPoints: 250}
	result, err := pay.Charge(ctx, order)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Captured, "=", result.Fee, "+", result.Net)
	for _, id := range []string{"broken-cup", "broken-cup", "the-rest"} {
		amount := payment.Money{Minor: 500, Currency: "USD"}
		if id == "the-rest" {
			amount = payment.Money{} // all that is left
		}
		refund, err := pay.Refund(ctx, "order-1", id, amount)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(refund.ID, refund.State, refund.Amount, "of it fee:", refund.FeeReturned)
	}
	// Output:
	// 19.99 USD = 0.50 USD + 19.49 USD
	// broken-cup succeeded 5.00 USD of it fee: 0.12 USD
	// broken-cup succeeded 5.00 USD of it fee: 0.12 USD
	// the-rest succeeded 14.99 USD of it fee: 0.38 USD
}

// Nothing could be sent to the first provider, so the second one may be asked. Had
// the answer to a commit been lost, it might not.
func ExampleWithBackup() {
	first, second := &paymenttest.Bank{Called: "first"}, &paymenttest.Bank{Called: "second"}
	policy := payment.Policy
	policy.Retries = 0 // each failure below is one attempt
	journal := &payment.MemoryJournal{AssumeDurable: true}
	pay, err := payment.New(first, payment.WithBackup(second), payment.WithJournal(journal), payment.WithPolicy(policy))
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	order := tea("")
	order.Methods = map[string]payment.Method{"first": {ID: paymenttest.Good}, "second": {ID: paymenttest.Good}}

	first.Fail(paymenttest.Prepare, fault.New(fault.Unavailable, errors.New("connection refused")))
	result, err := pay.Charge(ctx, order)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Provider, result.Status)

	order.ID = "order-2"
	first.Lose(paymenttest.Commit)
	first.Fail(paymenttest.LookUp, fault.New(fault.Unavailable, errors.New("connection refused")))
	result, err = pay.Charge(ctx, order)
	fmt.Println(result.Provider, result.Status, errors.Is(err, fault.Uncertain))
	result, err = pay.Resume(ctx, "order-2")
	fmt.Println(result.Provider, result.Status, err)
	// Output:
	// second succeeded
	// first unknown true
	// first succeeded <nil>
}

// The provider's events change nothing by themselves: they make the Client look.
func ExampleClient_Webhooks() {
	bank := &paymenttest.Bank{}
	pay, err := payment.New(bank, payment.WithHandler(func(_ context.Context, e payment.Event) error {
		if e.Result != nil { // all but Orphan and Foreign
			fmt.Println(e.Type, e.Order, e.Result.Status)
		}
		return nil // an error leaves the order as it was, and the event comes again
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("POST /hooks/{provider...}", pay.Webhooks())

	result, err := pay.Charge(context.Background(), tea(paymenttest.Slow)) // a bank transfer
	if err != nil {
		fmt.Println(err)
		return
	}
	bank.Clear(result.PaymentID, true) // days later it is there, and the Bank says so, twice
	for range 2 {
		page := httptest.NewRecorder()
		mux.ServeHTTP(page, bank.Webhook("/hooks/bank", "evt_1", result.PaymentID))
		fmt.Println(page.Code)
	}
	// Output:
	// order changed order-1 pending
	// order changed order-1 succeeded
	// 200
	// 200
}

// The answer was lost, and the caller has gone. Reconcile finds out what became of
// the order; a service runs it in every process.
func ExampleClient_Reconcile() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	bank, now := &paymenttest.Bank{}, time.Now()
	policy := payment.Policy
	policy.Retries = 0
	pay, err := payment.New(bank, payment.WithPolicy(policy),
		payment.WithRules(payment.Rules{Now: func() time.Time { return now }}),
		payment.WithHandler(func(_ context.Context, e payment.Event) error {
			fmt.Println(e.Type, e.Order, e.Result.Status)
			stop()
			return nil
		}))
	if err != nil {
		fmt.Println(err)
		return
	}
	bank.Lose(paymenttest.Commit)
	bank.Fail(paymenttest.LookUp, fault.New(fault.Unavailable, errors.New("connection refused")))
	result, err := pay.Charge(ctx, tea(paymenttest.Good))
	fmt.Println(result.Status, errors.Is(err, fault.Uncertain))

	now = now.Add(time.Minute)
	if err := pay.Reconcile(ctx, time.Minute); err != nil { // until ctx ends
		fmt.Println(err)
	}
	// Output:
	// unknown true
	// order changed order-1 succeeded
}

// The customer presses "Pay with PayPal", and no card is charged.
func ExampleOrder_providers() {
	cards, wallet := &paymenttest.Bank{Called: "stripe"}, &paymenttest.Bank{Called: "paypal", Approves: true}
	pay, err := payment.New(cards, payment.WithBackup(wallet), payment.WithJournal(&payment.MemoryJournal{AssumeDurable: true}))
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	order := tea("")
	order.Methods, order.Providers = nil, []string{"paypal"}
	result, err := pay.Charge(ctx, order)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Provider, result.Status, result.Action.RedirectURL)
	wallet.Confirm(result.PaymentID) // he approves, and comes back
	result, err = pay.Resume(ctx, "order-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Provider, result.Status)
	// Output:
	// paypal needs action https://bank.example.com/pay/paypal_pay_1
	// paypal succeeded
}

// Shop is a service that takes payments.
type Shop struct{ Pay *payment.Client }

// Buy answers what the customer is told.
func (s Shop) Buy(ctx context.Context, order, card string) string {
	result, err := s.Pay.Charge(ctx, &payment.Order{
		ID: order, Amount: payment.Money{Minor: 1999, Currency: "USD"},
		Methods: map[string]payment.Method{"bank": {ID: card}},
	})
	switch {
	case errors.Is(err, fault.Uncertain):
		return "We will write to you."
	case err != nil:
		return "Nothing was charged. Please try again later."
	case result.Status == payment.Declined:
		return result.Decline.Message
	}
	return "Thank you."
}

// What a test of a shop looks like: the Bank stands where the provider does.
func Example_testOfAShop() {
	bank := &paymenttest.Bank{}
	policy := payment.Policy
	policy.Retries = 0
	pay, err := payment.New(bank, payment.WithPolicy(policy))
	if err != nil {
		fmt.Println(err)
		return
	}
	shop, ctx := Shop{pay}, context.Background()

	fmt.Println(shop.Buy(ctx, "order-1", paymenttest.Expired))
	fmt.Println(shop.Buy(ctx, "order-1", paymenttest.Good), len(bank.Charges("order-1")))

	bank.Fail(paymenttest.Prepare, fault.New(fault.Unavailable, errors.New("connection refused"))) // the next call alone
	fmt.Println(shop.Buy(ctx, "order-2", paymenttest.Good), len(bank.Charges("order-2")))

	bank.Lose(paymenttest.Commit) // the money is taken, and the answer lost
	bank.Lose(paymenttest.LookUp)
	fmt.Println(shop.Buy(ctx, "order-3", paymenttest.Good), len(bank.Charges("order-3")))
	// Output:
	// This card has expired. Please use another one.
	// Thank you. 1
	// Nothing was charged. Please try again later. 0
	// We will write to you. 1
}

// Amounts are whole numbers of the smallest unit; nothing is rounded or lost.
func ExampleMoney() {
	price, err := payment.ParseMoney("19.99", "EUR")
	if err != nil {
		fmt.Println(err)
		return
	}
	thirds, err := price.Split(3)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(price, "=", thirds)
	_, err = payment.Money{Minor: 1999, Currency: "HUF"}.In(0) // PayPal takes no decimals of HUF
	fmt.Println(err)
	_, err = price.Add(payment.Money{Minor: 1, Currency: "USD"})
	fmt.Println(err)
	// Output:
	// 19.99 EUR = [6.67 EUR 6.66 EUR 6.66 EUR]
	// payment: the amount has more decimals than allowed
	// payment: the amounts have different currencies
}
