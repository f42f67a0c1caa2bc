package main

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/smilefactory/integrations/internal/sim"
	paypalsim "github.com/smilefactory/integrations/internal/sim/paypal"
	stripesim "github.com/smilefactory/integrations/internal/sim/stripe"
	"github.com/smilefactory/integrations/payment"
)

const (
	stripeKey        = "sk_test_demo"
	stripeHookSecret = "whsec_demo" //nolint:gosec // the simulator's
)

// world is what a shop doesn't own: the simulated providers, and what they know.
type world struct {
	stripe                 *stripesim.Sim
	payPal                 *paypalsim.Sim
	stripeHost, payPalHost *sim.Host
	account                paypalsim.Account
	payPalHook             paypalsim.Webhook
	wallet                 string // a PayPal wallet that the customer saved some day
	client                 *http.Client

	mu    sync.Mutex
	told  map[string]bool   // PayPal's events that the shop has taken
	notes map[string]string // the trouble of each provider, and how webhooks went

	closed  chan struct{}
	running sync.WaitGroup
}

func (w *world) note(what, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes[what] = text
}

func (w *world) noted(what string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.notes[what]
}

func newWorld(shopURL string) *world {
	w := &world{
		stripe: stripesim.New(stripesim.Config{Keys: []string{stripeKey}}), payPal: paypalsim.New(paypalsim.Config{}),
		account: paypalsim.DefaultAccount, client: &http.Client{Transport: &http.Transport{}},
		told: map[string]bool{}, notes: map[string]string{}, closed: make(chan struct{}),
	}
	w.stripeHost, w.payPalHost = w.stripe.Start(false), sim.NewHost(w.payPal, false)
	w.payPal.SetBaseURL(w.payPalHost.URL)
	w.stripe.Register(shopURL+"/hooks/stripe", stripeHookSecret)
	w.payPalHook = w.payPal.AddWebhook(w.account.ClientID, shopURL+"/hooks/paypal")
	w.wallet, _ = w.payPal.SaveMethod(w.account.ClientID, "customer-1", "paypal", paypalsim.Outcome{})
	return w
}

func (w *world) close() {
	close(w.closed)
	w.running.Wait()
	w.stripe.Faults.Close()
	w.payPal.Close()
	w.stripeHost.Close()
	w.payPalHost.Close()
	w.client.CloseIdleConnections()
}

// method is a way to pay that the page offers.
type method struct {
	Name   string
	card   string   // a token of Stripe's test cards
	wallet bool     // the customer has a PayPal wallet saved too
	only   []string // the providers that he chose
}

// IsCard: Stripe's form takes it.
func (m method) IsCard() bool { return m.card != "" && !m.wallet }

// methods by their names in the form. A card is Stripe's: where PayPal must stand
// in, it needs a wallet that was saved there, or asks the customer to approve.
var methods = map[string]method{
	"visa":   {Name: "Visa 4242", card: "pm_card_visa"},
	"wallet": {Name: "Visa 4242, and a saved PayPal wallet", card: "pm_card_visa", wallet: true},
	"secure": {Name: "Visa 3220, to be confirmed (3-D Secure)", card: "pm_card_threeDSecure2Required"},
	"poor":   {Name: "Visa 9995, insufficient funds", card: "pm_card_visa_chargeDeclinedInsufficientFunds"},
	"form":   {Name: "Another card, in Stripe's form", only: []string{"stripe"}},
	"paypal": {Name: "PayPal", only: []string{"paypal"}},
}

// tokens are the providers' names of a method, as an Order wants them.
func (w *world) tokens(m method) map[string]payment.Method {
	tokens := map[string]payment.Method{}
	if m.card != "" {
		tokens["stripe"] = payment.Method{ID: m.card}
	}
	if m.wallet {
		tokens["paypal"] = payment.Method{ID: w.wallet}
	}
	return tokens
}

// confirm is what Stripe's script asks of Stripe, with the publishable key that a
// page has: the simulator takes the secret one in its place. next is where the
// customer must authenticate, empty where he needn't. A decline is no error here:
// the shop learns of it from Stripe.
func (w *world) confirm(ctx context.Context, intent string, form url.Values) (next string, err error) {
	to := w.stripeHost.URL + "/v1/payment_intents/" + url.PathEscape(intent) + "/confirm"
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode())) //nolint:gosec // the host is the simulator's
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(stripeKey, "")
	answer, err := w.client.Do(r) //nolint:gosec // as above
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	var said struct {
		NextAction struct {
			Redirect struct {
				URL string `json:"url"`
			} `json:"redirect_to_url"`
		} `json:"next_action"`
	}
	err = json.NewDecoder(answer.Body).Decode(&said)
	return said.NextAction.Redirect.URL, err
}

// movement is money that moved, by a provider's own ledger: the proof.
type movement struct {
	Provider, ID, Order string
	Amount              payment.Money
	Refund              bool
}

func (w *world) ledger() (all []movement) {
	for _, m := range w.stripe.Money.All() {
		all = append(all, movement{"stripe", m.ID, m.OrderID, payment.Money{Minor: m.Amount, Currency: payment.USD}, m.Kind != stripesim.Charged})
	}
	for _, m := range w.payPal.Charges.All() {
		all = append(all, payPalMovement(m, false))
	}
	for _, m := range w.payPal.Refunds.All() {
		all = append(all, payPalMovement(m, true))
	}
	return all
}

func payPalMovement(m paypalsim.Movement, refund bool) movement {
	return movement{"paypal", m.ID, payment.ParseReference(m.CustomID).Order, payment.Money{Minor: m.Minor, Currency: payment.USD}, refund}
}

// verdict is what the ledgers say: how many orders were paid, by how many charges,
// and how many of them more than once.
type verdict struct{ Orders, Charges, Twice int }

func (w *world) verdict() (v verdict) {
	charges := map[string]int{}
	for _, m := range w.ledger() {
		if !m.Refund {
			charges[m.Order]++
			v.Charges++
		}
	}
	for _, n := range charges {
		v.Orders++
		if n > 1 {
			v.Twice++
		}
	}
	return v
}

// waiting are the events that the shop hasn't taken yet, each as a function that
// sends it.
func (w *world) waiting() (events []func(context.Context) error) {
	for _, e := range w.stripe.Pending() {
		events = append(events, func(ctx context.Context) error { return w.stripe.Deliver(ctx, w.client, e) })
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.payPal.Events() {
		if !w.told[e.ID] {
			events = append(events, func(ctx context.Context) error { return w.tell(ctx, e) })
		}
	}
	return events
}

func (w *world) tell(ctx context.Context, e paypalsim.Event) error {
	if err := w.payPal.Deliver(ctx, e); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told[e.ID] = true
	return nil
}

// deliverEvents sends what is waiting; shuffled, each twice and in any order. What
// isn't taken with a 2xx stays waiting, as at the providers.
func (w *world) deliverEvents(ctx context.Context, shuffled bool) (taken, refused int) {
	events := w.waiting()
	if shuffled {
		events = append(events, events...)
		rand.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] }) //nolint:gosec // any order will do
	}
	for _, deliver := range events {
		if deliver(ctx) == nil {
			taken++
		} else {
			refused++
		}
	}
	return taken, refused
}
