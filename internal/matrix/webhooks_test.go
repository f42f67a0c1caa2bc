package matrix_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sim"
	paypalsim "github.com/smilefactory/integrations/internal/sim/paypal"
	stripesim "github.com/smilefactory/integrations/internal/sim/stripe"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymentsql"
	"github.com/smilefactory/integrations/payment/paypal"
	"github.com/smilefactory/integrations/payment/stripe"
	"github.com/smilefactory/integrations/secret"
)

const hookSecret = "whsec_matrix"

// post is a service of several processes, each with a Client and a pool of its own
// on one SQLite file, and the two providers that send it events.
type post struct {
	t      *testing.T
	stripe *stripesim.Sim
	paypal *paypalsim.Sim
	hook   paypalsim.Webhook
	cards  stripe.Gateway
	wallet *paypal.Gateway
	client *http.Client
	file   string
	shops  []*shop

	mu    sync.Mutex
	rng   *rand.Rand
	fails float64 // how often the handler fails
}

// shop is one process.
type shop struct {
	pay    *payment.Client
	db     *sql.DB
	server *httptest.Server
}

func openPost(t *testing.T, seed uint64, shops int) *post {
	t.Helper()
	x := &post{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), client: &http.Client{Transport: &http.Transport{}},
		stripe: stripesim.New(stripesim.Config{Keys: []string{stripeKey}}), paypal: paypalsim.New(paypalsim.Config{}),
		file: "file:" + filepath.Join(t.TempDir(), "shop.db") + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)",
	}
	t.Cleanup(x.client.CloseIdleConnections)
	ends := map[string]*sim.Host{"stripe": x.stripe.Start(false), "paypal": sim.NewHost(x.paypal, false)}
	for _, end := range ends {
		t.Cleanup(end.Close)
	}
	t.Cleanup(x.paypal.Close)
	t.Cleanup(x.stripe.Faults.Close)
	x.paypal.SetBaseURL(ends["paypal"].URL)
	x.hook = x.paypal.AddWebhook(paypalsim.DefaultAccount.ClientID, "http://127.0.0.1/hooks/paypal")
	x.cards = stripe.Gateway{Key: secret.Literal(stripeKey), Webhook: []secret.Source{secret.Literal(hookSecret)}, BaseURL: ends["stripe"].URL, HTTPClient: x.client}
	x.wallet = &paypal.Gateway{
		ClientID: paypalsim.DefaultAccount.ClientID, Secret: secret.Literal(paypalsim.DefaultAccount.Secret), Sandbox: true,
		WebhookID: x.hook.ID, BaseURL: ends["paypal"].URL, HTTPClient: x.client,
	}
	for range shops {
		x.shops = append(x.shops, x.openShop(x.file))
	}
	return x
}

func (x *post) openShop(file string) *shop {
	x.t.Helper()
	s := &shop{}
	var err error
	s.db, err = sql.Open("sqlite", file)
	require.NoError(x.t, err)
	x.t.Cleanup(func() { assert.NoError(x.t, s.db.Close()) })
	_, err = s.db.ExecContext(x.t.Context(), "create table if not exists told (number integer primary key, order_id text, refund text, says text)")
	require.NoError(x.t, err)
	journal, err := paymentsql.Open(x.t.Context(), s.db)
	require.NoError(x.t, err)
	s.pay, err = payment.New(x.cards, payment.WithBackup(x.wallet), payment.WithJournal(journal), payment.WithHandler(x.tell))
	require.NoError(x.t, err)
	x.t.Cleanup(func() { assert.NoError(x.t, s.pay.Close(context.Background())) })
	mux := http.NewServeMux()
	mux.Handle("POST /hooks/{provider...}", s.pay.Webhooks())
	s.server = httptest.NewServer(mux)
	x.t.Cleanup(s.server.Close)
	return s
}

var errHandler = errors.New("the service can't write that just now")

// tell is the service: what it does of an event is in the journal's transaction,
// and sometimes it can't, before or after it has written.
func (x *post) tell(ctx context.Context, e payment.Event) error {
	tx, ok := paymentsql.Tx(ctx)
	if !ok {
		return nil
	}
	x.mu.Lock()
	early, later := x.rng.Float64() < x.fails, x.rng.Float64() < x.fails
	x.mu.Unlock()
	if early {
		return errHandler
	}
	id, says := "", of(e.Result)
	if e.Refund != nil {
		id, says = e.Refund.ID, string(e.Refund.State)
	}
	_, err := tx.ExecContext(ctx, "insert into told (order_id, refund, says) values (?, ?, ?)", e.Order, id, says)
	if err == nil && later {
		err = errHandler
	}
	return err
}

// of is how an order stands, in a word.
func of(r *payment.Result) string { return fmt.Sprint(r.Status, " ", r.Captured, " ", r.Refunded) }

// told is what the service was told of an order, or of one of its refunds.
func (x *post) told(order, refund string) (says []string) {
	x.t.Helper()
	rows, err := x.shops[0].db.QueryContext(x.t.Context(), "select says from told where order_id = ? and refund = ? order by number", order, refund)
	require.NoError(x.t, err)
	defer rows.Close()
	for rows.Next() {
		var s string
		require.NoError(x.t, rows.Scan(&s))
		says = append(says, s)
	}
	require.NoError(x.t, rows.Err())
	return says
}

// letter is an event of either provider, signed anew whenever it is sent.
type letter struct {
	id, kind string
	send     func(ctx context.Context, shop string) (status int, err error)
}

// letters are all events so far.
func (x *post) letters() (all []letter) {
	for _, e := range x.stripe.Pending() {
		all = append(all, letter{e.ID, e.Type, func(ctx context.Context, shop string) (int, error) {
			return stripesim.Send(ctx, x.client, shop+"/hooks/stripe", e.Payload, stripesim.Signature(e.Payload, hookSecret, time.Now()))
		}})
	}
	for _, e := range x.paypal.Events() {
		all = append(all, letter{e.ID, e.Type, func(ctx context.Context, shop string) (int, error) {
			to := x.hook
			to.URL = shop + "/hooks/paypal"
			r, err := x.paypal.Notification(ctx, to, e)
			if err != nil {
				return 0, err
			}
			res, err := x.client.Do(r)
			if err != nil {
				return 0, err
			}
			_, _ = io.Copy(io.Discard, res.Body)
			return res.StatusCode, res.Body.Close()
		}})
	}
	return all
}

// storm sends every event one to three times, in any order, four at a time, to
// either shop, until each was taken; those that are taken cause others.
func (x *post) storm() {
	x.t.Helper()
	taken := map[string]bool{}
	for range 60 {
		var bag []letter
		for _, l := range x.letters() {
			for range 1 + x.rng.IntN(3) {
				if !taken[l.id] {
					bag = append(bag, l)
				}
			}
		}
		if len(bag) == 0 {
			return
		}
		x.rng.Shuffle(len(bag), func(i, j int) { bag[i], bag[j] = bag[j], bag[i] })
		for id, ok := range x.sendAll(bag) {
			taken[id] = taken[id] || ok
		}
	}
	x.t.Error("some events are never taken")
}

// sendAll says of each event whether any of its deliveries was taken.
func (x *post) sendAll(bag []letter) map[string]bool {
	taken := map[string]bool{}
	var mu sync.Mutex
	var senders sync.WaitGroup
	queue := make(chan letter, len(bag))
	for _, l := range bag {
		queue <- l
	}
	close(queue)
	for i := range 4 {
		senders.Go(func() {
			for l := range queue {
				status, err := l.send(x.t.Context(), x.shops[i%len(x.shops)].server.URL)
				assert.NoError(x.t, err)
				assert.Contains(x.t, []int{200, 503}, status, l.kind)
				mu.Lock()
				taken[l.id] = taken[l.id] || status == http.StatusOK
				mu.Unlock()
			}
		})
	}
	senders.Wait()
	return taken
}

func (x *post) buy(id string, method payment.Method, at string, change ...func(*payment.Order)) *payment.Result {
	x.t.Helper()
	o := &payment.Order{
		ID: id, User: user, Amount: payment.Money{Minor: minor, Currency: payment.USD}, ReturnURL: "https://shop.example.com/paid", Providers: []string{at},
	}
	if method != (payment.Method{}) {
		o.Methods = map[string]payment.Method{at: method}
	}
	for _, c := range change {
		c(o)
	}
	r, err := x.any().pay.Charge(x.t.Context(), o)
	require.NoError(x.t, err)
	return r
}

func (x *post) any() *shop { return x.shops[x.rng.IntN(len(x.shops))] }

func (x *post) vault(o paypalsim.Outcome) payment.Method {
	id, err := x.paypal.SaveMethod(paypalsim.DefaultAccount.ClientID, "", "paypal", o)
	require.NoError(x.t, err)
	return payment.Method{ID: id}
}

func (x *post) back(order, id string, part int64) *payment.Refund {
	x.t.Helper()
	r, err := x.any().pay.Refund(x.t.Context(), order, id, payment.Money{Minor: part, Currency: payment.USD})
	require.NoError(x.t, err)
	return r
}

func (x *post) ok(err error) {
	x.t.Helper()
	require.NoError(x.t, err)
}

// form is the customer who pays with Stripe's script; a decline is his.
func (x *post) form(intent, card string) {
	x.t.Helper()
	form := url.Values{"payment_method": {card}, "return_url": {"https://shop.example.com/paid"}}
	r, err := http.NewRequestWithContext(x.t.Context(), http.MethodPost, x.cards.BaseURL+"/v1/payment_intents/"+intent+"/confirm", strings.NewReader(form.Encode()))
	require.NoError(x.t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(stripeKey, "")
	res, err := x.client.Do(r)
	require.NoError(x.t, err)
	require.NoError(x.t, res.Body.Close())
}

func holding(o *payment.Order) { o.Hold = true }

// fates are the ways of an order, by what becomes of it. What happens at the
// provider after the last call here is known by events alone.
var fates = map[string]func(x *post, id string){
	"paid at Stripe": func(x *post, id string) { x.buy(id, payment.Method{ID: "pm_card_visa"}, "stripe") },
	"paid at PayPal": func(x *post, id string) { x.buy(id, x.vault(paypalsim.Outcome{}), "paypal") },
	"declined":       func(x *post, id string) { x.buy(id, payment.Method{ID: "pm_card_visa_chargeDeclined"}, "stripe") },
	"declined, PayPal": func(x *post, id string) {
		x.buy(id, x.vault(paypalsim.Outcome{Issue: "INSTRUMENT_DECLINED"}), "paypal")
	},
	"declined, then paid": func(x *post, id string) {
		x.buy(id, payment.Method{ID: "pm_card_visa_chargeDeclined"}, "stripe")
		x.buy(id, payment.Method{ID: "pm_card_visa"}, "stripe")
	},
	"declined, then paid at PayPal": func(x *post, id string) {
		x.buy(id, payment.Method{ID: "pm_card_visa_chargeDeclined"}, "stripe")
		x.buy(id, x.vault(paypalsim.Outcome{}), "paypal")
	},
	"paid in the form, declined there first": func(x *post, id string) {
		r := x.buy(id, payment.Method{}, "stripe")
		x.form(r.PaymentID, "pm_card_visa_chargeDeclined")
		x.form(r.PaymentID, "pm_card_visa")
	},
	"declined in the form": func(x *post, id string) {
		x.form(x.buy(id, payment.Method{}, "stripe").PaymentID, "pm_card_visa_chargeDeclined")
	},
	"authenticated": func(x *post, id string) {
		x.ok(x.stripe.Authenticate(x.buy(id, payment.Method{ID: "pm_card_threeDSecure2Required"}, "stripe").PaymentID, true))
	},
	"not authenticated": func(x *post, id string) {
		x.ok(x.stripe.Authenticate(x.buy(id, payment.Method{ID: "pm_card_threeDSecure2Required"}, "stripe").PaymentID, false))
	},
	"a debit that is paid": func(x *post, id string) {
		x.ok(x.stripe.Settle(x.buy(id, payment.Method{ID: "pm_usBankAccount_success"}, "stripe").PaymentID, true))
	},
	"a debit that fails": func(x *post, id string) {
		x.ok(x.stripe.Settle(x.buy(id, payment.Method{ID: "pm_usBankAccount_success"}, "stripe").PaymentID, false))
	},
	"approved at PayPal": func(x *post, id string) {
		_, err := x.paypal.Approve(x.buy(id, payment.Method{}, "paypal").PaymentID, paypalsim.Outcome{})
		x.ok(err)
	},
	"approved at PayPal, and declined": func(x *post, id string) {
		_, err := x.paypal.Approve(x.buy(id, payment.Method{}, "paypal").PaymentID, paypalsim.Outcome{Status: "DECLINED", Code: "5120"})
		x.ok(err)
	},
	"an eCheck that is paid": func(x *post, id string) {
		x.ok(x.paypal.SettleCapture(x.buy(id, x.vault(paypalsim.Outcome{Status: "PENDING", Reason: "ECHECK"}), "paypal").ChargeID, "COMPLETED"))
	},
	"an eCheck that bounces": func(x *post, id string) {
		x.ok(x.paypal.SettleCapture(x.buy(id, x.vault(paypalsim.Outcome{Status: "PENDING", Reason: "ECHECK"}), "paypal").ChargeID, "DECLINED"))
	},
	"captured in part":         func(x *post, id string) { x.half(id, payment.Method{ID: "pm_card_visa"}, "stripe") },
	"captured in part, PayPal": func(x *post, id string) { x.half(id, x.vault(paypalsim.Outcome{}), "paypal") },
	"held":                     func(x *post, id string) { x.buy(id, payment.Method{ID: "pm_card_visa"}, "stripe", holding) },
	"voided":                   func(x *post, id string) { x.let(id, payment.Method{ID: "pm_card_visa"}, "stripe") },
	"voided, PayPal":           func(x *post, id string) { x.let(id, x.vault(paypalsim.Outcome{}), "paypal") },
	"refunded in parts": func(x *post, id string) {
		x.buy(id, payment.Method{ID: "pm_card_visa"}, "stripe")
		x.back(id, "r-1", 500)
		x.back(id, "r-2", 1499)
	},
	"a refund that is paid later": func(x *post, id string) {
		x.buy(id, payment.Method{ID: "pm_card_pendingRefund"}, "stripe")
		x.ok(x.stripe.SettleRefund(x.back(id, "r-1", 500).ProviderID, true, ""))
	},
	"a refund that fails later": func(x *post, id string) {
		x.buy(id, payment.Method{ID: "pm_card_pendingRefund"}, "stripe")
		x.ok(x.stripe.SettleRefund(x.back(id, "r-1", 500).ProviderID, false, "expired_or_canceled_card"))
	},
	"a refund that succeeded and fails": func(x *post, id string) {
		x.buy(id, payment.Method{ID: "pm_card_refundFail"}, "stripe")
		x.back(id, "r-1", 500)
		x.ok(x.stripe.SettleRefund(x.back(id, "r-2", 700).ProviderID, false, "lost_or_stolen_card"))
	},
	"a refund that is paid later, PayPal": func(x *post, id string) { x.later(id, "COMPLETED") },
	"a refund that fails later, PayPal":   func(x *post, id string) { x.later(id, "FAILED") },
}

func (x *post) half(id string, m payment.Method, at string) {
	x.buy(id, m, at, holding)
	_, err := x.any().pay.Capture(x.t.Context(), id, payment.Money{Minor: 500, Currency: payment.USD})
	x.ok(err)
	x.back(id, "r-1", 200)
}

func (x *post) let(id string, m payment.Method, at string) {
	x.buy(id, m, at, holding)
	_, err := x.any().pay.Void(x.t.Context(), id)
	x.ok(err)
}

func (x *post) later(id, status string) {
	x.buy(id, x.vault(paypalsim.Outcome{}), "paypal")
	x.paypal.NextRefund(paypalsim.RefundOutcome{Status: "PENDING"})
	x.ok(x.paypal.SettleRefund(x.back(id, "r-1", 500).ProviderID, status))
}

// agrees checks that the journal says of an order what the provider's look-up
// says, and that the service was told so, each change once.
func (x *post) agrees(name, id string) {
	x.t.Helper()
	ctx := x.t.Context()
	recorded, err := x.shops[0].pay.Recorded(ctx, id)
	require.NoError(x.t, err, name)
	var g interface {
		payment.Gateway
		payment.Refunder
		payment.Identifier
	} = x.cards
	if recorded.Provider == "paypal" {
		g = x.wallet
	}
	a := &payment.Attempt{
		Number: recorded.Attempt, Identity: g.Identity(), Provider: recorded.Provider, PaymentID: recorded.PaymentID, ChargeID: recorded.ChargeID,
		Order: &payment.Order{ID: id, User: user, Amount: recorded.Amount}, Began: time.Now(),
	}
	p, err := g.LookUp(ctx, a)
	require.NoError(x.t, err, name)
	if recorded.Status == payment.Declined && recorded.Provider == "paypal" && p.State == payment.Prepared {
		p.State = payment.Refused // a refusal leaves PayPal's order open, and nothing tells of it
	}
	assert.Equal(x.t, statusOf(p), recorded.Status, name)
	assert.Equal(x.t, p.Captured.Minor, recorded.Captured.Minor, "%s: captured", name)
	var sum int64
	for _, r := range recorded.Refunds {
		is, err := g.LookUpRefund(ctx, &payment.Refunding{Attempt: a, ID: r.ID, ProviderID: r.ProviderID, Amount: r.Amount})
		require.NoError(x.t, err, name)
		assert.Equal(x.t, is.State, r.State, "%s: refund %s", name, r.ID)
		if is.State == payment.RefundSucceeded {
			sum += is.Amount.Minor
		}
		x.once(name+", refund "+r.ID, x.told(id, r.ID), string(r.State))
	}
	assert.Equal(x.t, sum, recorded.Refunded.Minor, "%s: refunded", name)
	x.once(name, x.told(id, ""), of(recorded))
}

// once checks that the last of what was told is so, and nothing was told twice
// running: a change that comes twice is one.
func (x *post) once(name string, told []string, last string) {
	x.t.Helper()
	require.NotEmpty(x.t, told, name)
	assert.Equal(x.t, last, told[len(told)-1], "%s: %v", name, told)
	for i := range told[1:] {
		assert.NotEqual(x.t, told[i], told[i+1], "%s was told twice: %v", name, told)
	}
}

func statusOf(p *payment.Payment) payment.Status {
	if p.State == payment.Prepared && p.Action == nil {
		return payment.Ready
	}
	return map[payment.State]payment.Status{
		payment.Prepared: payment.NeedsAction, payment.Actionable: payment.NeedsAction, payment.Processing: payment.Pending, payment.Held: payment.Authorized,
		payment.Paid: payment.Succeeded, payment.Refused: payment.Declined, payment.Ended: payment.Canceled,
	}[p.State]
}

const (
	storms     = 50 // with -full; else a few, which have every fate once
	aFewStorms = 7
	perStorm   = 4 // orders
	handlerBad = 0.15
)

// Whatever order events come in, how often, and to which process, while the
// handler fails at random: the journal ends as the provider's look-up says.
func TestShuffledDoubledAndConcurrentWebhooksEndAsTheLookUpSays(t *testing.T) {
	t.Parallel()
	names := slices.Sorted(maps.Keys(fates))
	seeds := uint64(aFewStorms)
	if *full {
		seeds = storms
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			x := openPost(t, seed, 2)
			orders := map[string]string{}
			for i := range perStorm { // all fates in turn, each many times
				name := names[(int(seed)*perStorm+i)%len(names)]
				orders[name] = fmt.Sprint("order-", i)
				fates[name](x, orders[name])
			}
			x.set(handlerBad)
			x.storm()
			x.set(0)
			for name, id := range orders {
				x.agrees(name, id)
			}
		})
	}
}

func (x *post) set(fails float64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fails = fails
}

// answers sends an event to the first shop and checks the status.
func (x *post) answers(want int, l letter, why string) {
	x.t.Helper()
	status, err := l.send(x.t.Context(), x.shops[0].server.URL)
	require.NoError(x.t, err)
	assert.Equal(x.t, want, status, "%s: %s", why, l.kind)
}

// Another process, of another journal here, has made the payment: this one hears of
// it before it knows the order.
func TestAnEventThatComesBeforeItsOrderComesAgain(t *testing.T) {
	t.Parallel()
	x := openPost(t, 1, 1)
	elsewhere := x.openShop("file:" + filepath.Join(t.TempDir(), "other.db") + "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	here := x.shops
	for _, id := range []string{"order-1", "order-2"} {
		buy := func() { x.buy(id, payment.Method{ID: "pm_card_visa"}, "stripe") }
		if id == "order-2" {
			buy = func() { x.buy(id, payment.Method{}, "paypal") }
		}
		x.shops = []*shop{elsewhere}
		buy()
		if id == "order-2" {
			r, err := elsewhere.pay.Recorded(t.Context(), id)
			require.NoError(t, err)
			_, err = x.paypal.Approve(r.PaymentID, paypalsim.Outcome{})
			require.NoError(t, err)
		}
		x.shops = here
		early := x.letters()
		require.NotEmpty(t, early)
		for _, l := range early {
			x.answers(http.StatusServiceUnavailable, l, "before its order")
		}
		assert.Empty(t, x.told(id, ""))
		buy() // with the same keys: it is the same payment
		for _, l := range early {
			x.answers(http.StatusOK, l, "after it")
		}
		x.agrees(id, id)
		r, err := here[0].pay.Recorded(t.Context(), id)
		require.NoError(t, err)
		assert.Equal(t, payment.Succeeded, r.Status)
		x.stripe.Drop(x.stripe.Pending()...)
	}
	assert.Len(t, x.stripe.Money.All(), 1)
	assert.Equal(t, 1, x.paypal.Charges.Len())
}

// The charge holds the order while its commit is under way.
func TestAnEventThatComesDuringTheChargeComesAgain(t *testing.T) {
	t.Parallel()
	x := openPost(t, 1, 2)
	gate := sim.NewGate()
	x.stripe.Faults.Add(sim.Fault{On: sim.Match{Method: http.MethodPost, Path: "/v1/payment_intents/*/confirm"}, At: sim.AfterActing, Do: sim.Stall, Gate: gate})
	var charging sync.WaitGroup
	charging.Go(func() {
		_, err := x.shops[1].pay.Charge(t.Context(), &payment.Order{
			ID: "order-1", User: user, Amount: payment.Money{Minor: minor, Currency: payment.USD}, Methods: map[string]payment.Method{"stripe": {ID: "pm_card_visa"}},
		})
		assert.NoError(t, err)
	})
	<-gate.Arrived()
	events := x.letters()
	require.NotEmpty(t, events)
	last := events[len(events)-1] // it was paid, which nobody here knows yet
	x.answers(http.StatusServiceUnavailable, last, "during the charge")
	assert.Empty(t, x.told("order-1", ""))
	gate.Open()
	charging.Wait()
	for _, l := range events {
		x.answers(http.StatusOK, l, "after it")
	}
	x.agrees("during the charge", "order-1")
	assert.Len(t, x.told("order-1", ""), 1)
}

// What an event must be, and how it is answered otherwise.
func TestEventsThatArentGenuineChangeNothing(t *testing.T) {
	t.Parallel()
	x := openPost(t, 1, 1)
	r := x.buy("order-1", payment.Method{}, "stripe")
	before := x.told("order-1", "")
	x.form(r.PaymentID, "pm_card_visa") // paid, which the events alone tell
	pending := x.stripe.Pending()
	paid := pending[slices.IndexFunc(pending, func(e stripesim.Event) bool { return e.Type == "payment_intent.succeeded" })].Payload
	now := time.Now()
	for name, c := range map[string]struct {
		body      []byte
		signature string
		want      int
	}{
		"without a signature":     {paid, "", 401},
		"another secret":          {paid, stripesim.Signature(paid, "whsec_other", now), 401},
		"an empty secret":         {paid, stripesim.Signature(paid, "", now), 401},
		"another body":            {bytes.Replace(paid, []byte("succeeded"), []byte("processing"), 1), stripesim.Signature(paid, hookSecret, now), 401},
		"a later time":            {paid, stripesim.Signature(paid, hookSecret, now.Add(10*time.Minute)), 401},
		"a day later":             {paid, stripesim.Signature(paid, hookSecret, now.Add(23*time.Hour)), 401},
		"an earlier time":         {paid, stripesim.Signature(paid, hookSecret, now.Add(-10*time.Minute)), 401},
		"real money, a test key":  signed(bytes.ReplaceAll(paid, []byte(`"livemode": false`), []byte(`"livemode": true`)), 401),
		"no event":                signed([]byte(`{"object":"charge"}`), 400),
		"no JSON":                 signed([]byte("succeeded"), 400),
		"nothing of ours":         signed([]byte(`{"id":"evt_1","object":"event","type":"charge.succeeded","created":1,"data":{"object":{"id":"ch_other","object":"charge"}}}`), 200),
		"about a kind unknown":    signed([]byte(`{"id":"evt_2","object":"event","type":"future.thing","created":1,"data":{"object":{"id":"x_1","object":"thing"}}}`), 200),
		"a payment of nobody's":   signed(fmt.Appendf(nil, `{"id":"evt_3","object":"event","type":"charge.succeeded","created":%d,"data":{"object":{"id":"ch_9","object":"charge","metadata":{"order_id":"none","attempt":"1"}}}}`, now.Unix()), 503),
		"the same, two hours ago": signed(fmt.Appendf(nil, `{"id":"evt_4","object":"event","type":"charge.succeeded","created":%d,"data":{"object":{"id":"ch_9","object":"charge","metadata":{"order_id":"none","attempt":"1"}}}}`, now.Unix()-7200), 200),
	} {
		status, err := stripesim.Send(t.Context(), x.client, x.shops[0].server.URL+"/hooks/stripe", c.body, c.signature)
		require.NoError(t, err)
		assert.Equal(t, c.want, status, name)
	}
	assert.Equal(t, before, x.told("order-1", ""), "nothing of that was taken for a payment")

	// One of another version of the API is taken: what it is about is looked up.
	other := bytes.Replace(paid, []byte(stripesim.Version), []byte("2099-01-01"), 1)
	require.NotEqual(t, paid, other)
	status, err := stripesim.Send(t.Context(), x.client, x.shops[0].server.URL+"/hooks/stripe", other, stripesim.Signature(other, hookSecret, now))
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, status)
	x.agrees("another version", "order-1")
	assert.Len(t, x.told("order-1", ""), len(before)+1)
}

func signed(body []byte, want int) struct {
	body      []byte
	signature string
	want      int
} {
	return struct {
		body      []byte
		signature string
		want      int
	}{body, stripesim.Signature(body, hookSecret, time.Now()), want}
}

func TestEventsThatArentPayPalsChangeNothing(t *testing.T) {
	t.Parallel()
	x := openPost(t, 1, 1)
	r := x.buy("order-1", payment.Method{}, "paypal")
	before := x.told("order-1", "")
	_, err := x.paypal.Approve(r.PaymentID, paypalsim.Outcome{})
	require.NoError(t, err)
	events := x.paypal.Events()
	approved := events[len(events)-1].Body
	genuine := x.paypal.Sign(x.hook.ID, approved)
	cert, now := genuine.Get("Paypal-Cert-Url"), time.Now()
	without := genuine.Clone()
	without.Del("Paypal-Transmission-Sig")
	for name, c := range map[string]struct {
		body   []byte
		header http.Header
		want   int
	}{
		"without a signature":        {approved, without, 401},
		"another webhook":            {approved, x.paypal.Sign("OTHERWEBHOOK", approved), 401},
		"another body":               {append(slices.Clone(approved), ' '), genuine, 401},
		"a later time":               {approved, x.paypal.SignAt(x.hook.ID, approved, now.Add(10*time.Minute), cert), 401},
		"a week old":                 {approved, x.paypal.SignAt(x.hook.ID, approved, now.Add(-7*24*time.Hour), cert), 401},
		"a certificate of anybody":   {approved, x.paypal.SignAt(x.hook.ID, approved, now, "https://paypal.example.com/v1/notifications/certs/CERT-1"), 401},
		"a certificate in the clear": {approved, x.paypal.SignAt(x.hook.ID, approved, now, "http://api.sandbox.paypal.com/v1/notifications/certs/CERT-1"), 401},
		"no JSON":                    {[]byte("approved"), x.paypal.Sign(x.hook.ID, []byte("approved")), 400},
	} {
		assert.Equal(t, c.want, x.sendPayPal(c.body, c.header), name)
	}
	assert.Equal(t, before, x.told("order-1", ""))
	assert.Zero(t, x.paypal.Charges.Len())
	assert.Equal(t, http.StatusOK, x.sendPayPal(approved, genuine))
	assert.Equal(t, http.StatusOK, x.sendPayPal(approved, genuine), "twice is once")
	x.agrees("approved", "order-1")
	assert.Equal(t, 1, x.paypal.Charges.Len())
}

func (x *post) sendPayPal(body []byte, header http.Header) int {
	x.t.Helper()
	r, err := http.NewRequestWithContext(x.t.Context(), http.MethodPost, x.shops[0].server.URL+"/hooks/paypal", bytes.NewReader(body))
	require.NoError(x.t, err)
	r.Header = header.Clone()
	res, err := x.client.Do(r)
	require.NoError(x.t, err)
	require.NoError(x.t, res.Body.Close())
	return res.StatusCode
}

// A signing secret that is empty fits nothing, least of all a signature made with it.
func TestAnEmptySigningSecretTakesNoEvent(t *testing.T) {
	t.Parallel()
	x := openPost(t, 1, 0)
	x.cards.Webhook = []secret.Source{secret.Literal("")}
	x.shops = []*shop{x.openShop(x.file)}
	body := []byte(`{"id":"evt_1","object":"event","type":"charge.succeeded","created":1,"data":{"object":{"id":"ch_other","object":"charge"}}}`)
	for _, key := range []string{"", hookSecret} {
		status, err := stripesim.Send(t.Context(), x.client, x.shops[0].server.URL+"/hooks/stripe", body, stripesim.Signature(body, key, time.Now()))
		require.NoError(t, err)
		assert.Equal(t, http.StatusUnauthorized, status)
	}
}
