package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	paypalsim "github.com/smilefactory/integrations/internal/sim/paypal"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/resilience"
)

// scene is a part of the demo: what happens, and how the order stands after it.
type scene struct {
	title  string
	play   func(ctx context.Context, d *demo) error
	status payment.Status
	by     string // who has the payment
	// charges and net are what the providers' ledgers say: how often money was taken,
	// and how much of it was kept, in cents.
	charges int
	net     int64
}

const price = 1999 // of items["book"]

var scenes = []scene{
	{"A good card", pays("visa"), payment.Succeeded, "stripe", 1, price},
	{"The button is clicked ten times at once", clicksTenTimes, payment.Succeeded, "stripe", 1, price},
	{"A card without funds", pays("poor"), payment.Declined, "stripe", 0, 0},
	{"  then another card", paysNow("visa"), payment.Succeeded, "stripe", 1, price},
	{"A card that must be confirmed (3-D Secure)", pays("secure", "outcome", "complete"), payment.Succeeded, "stripe", 1, price},
	{"  the bank isn't convinced", pays("secure", "outcome", "fail"), payment.Declined, "stripe", 0, 0},
	{"Stripe's form in the shop's page", fillsTheForm, payment.Succeeded, "stripe", 1, price},
	{"The customer chooses PayPal", pays("paypal", "choice", "pay"), payment.Succeeded, "paypal", 1, price},
	{"  he agrees, and closes his browser", closesTheBrowser, payment.NeedsAction, "paypal", 0, 0},
	{"  the webhook says so", hears, payment.Succeeded, "paypal", 1, price},
	{"Money is held", holds, payment.Authorized, "stripe", 0, 0},
	{"  half of it is taken", clicks("capture", "amount", "half"), payment.Succeeded, "stripe", 1, price / 2},
	{"Money is held", holds, payment.Authorized, "stripe", 0, 0},
	{"  it is let go", clicks("void"), payment.Canceled, "stripe", 0, 0},
	{"Paid, and 5.00 refunded with two clicks", refundsTwice, payment.Succeeded, "stripe", 1, price - 500},
	{"  the rest too", refunds("all"), payment.Succeeded, "stripe", 1, 0},
	{"PayPal takes the money and drops the answer", troubled("paypal", "drops", pays("paypal", "choice", "pay")), payment.Succeeded, "paypal", 1, price},
	{"Stripe does so", troubled("stripe", "drops", pays("visa")), payment.Succeeded, "stripe", 1, price},
	{"Stripe is down, a PayPal wallet was saved", troubled("stripe", "down", pays("wallet")), payment.Succeeded, "paypal", 1, price},
	{"  none was: PayPal asks the customer", pays("visa", "choice", "pay"), payment.Succeeded, "paypal", 1, price},
	{"Stripe answers 500", troubled("stripe", "500", pays("wallet")), payment.Succeeded, "paypal", 1, price},
	{"Stripe hangs", troubled("stripe", "hangs", pays("wallet")), payment.Succeeded, "paypal", 1, price},
	{"Stripe is killed when it has taken the money", troubled("stripe", "killed", pays("wallet")), payment.Unknown, "stripe", 1, price},
	{"  the customer tries PayPal instead", paysNow("paypal"), payment.Unknown, "stripe", 1, price},
	{"  Stripe is back", mends, payment.Succeeded, "stripe", 1, price},
}

// demo plays the customer, over HTTP, and looks at the books.
type demo struct {
	s      *shop
	client *http.Client
	id     string // the order
	paid   map[string]bool
	failed []error
}

func play(ctx context.Context, out io.Writer, s *shop) error {
	d := &demo{s: s, client: &http.Client{Transport: &http.Transport{}}, paid: map[string]bool{}}
	defer d.client.CloseIdleConnections()
	fmt.Fprintf(out, "%-46s %-13s %-7s %8s %8s %7s\n", "", "journal", "by", "attempts", "charges", "kept")
	for _, sc := range scenes {
		if err := d.scene(ctx, out, sc); err != nil {
			return fmt.Errorf("%s: %w", sc.title, err)
		}
	}
	if err := d.webhooks(ctx, out); err != nil {
		return err
	}
	v := s.world.verdict()
	if v.Orders != len(d.paid) || v.Charges != v.Orders || v.Twice != 0 {
		d.failed = append(d.failed, fmt.Errorf("the shop knows of %d paid orders, the ledgers of %d", len(d.paid), v.Orders))
	}
	fmt.Fprintf(out, "\n%d orders, %d charges, %d twice\n", v.Orders, v.Charges, v.Twice)
	return errors.Join(d.failed...)
}

// scene plays one, and holds what the journal and the ledgers say against what is
// expected.
func (d *demo) scene(ctx context.Context, out io.Writer, sc scene) error {
	if err := sc.play(ctx, d); err != nil {
		return err
	}
	o, err := d.look(ctx)
	if err != nil {
		return err
	}
	result := o.Entry.Result()
	charges, net := 0, payment.Money{Currency: payment.USD}
	for _, m := range o.Ledger {
		if m.Refund {
			net.Minor -= m.Amount.Minor
		} else {
			charges++
			net.Minor += m.Amount.Minor
		}
	}
	fmt.Fprintf(out, "%-46s %-13s %-7s %8d %8d %7s\n", sc.title, result.Status, result.Provider, result.Attempt, charges, net.Decimal(2))
	parcels := 0
	if result.Status == payment.Succeeded {
		parcels, d.paid[d.id] = 1, true
	}
	if result.Status != sc.status || result.Provider != sc.by || charges != sc.charges || net.Minor != sc.net || o.Parcels != parcels {
		d.failed = append(d.failed, fmt.Errorf("%s: expected %s by %s, charged %d times, %d cents kept, %d parcels; it is %s by %s, %d, %d and %d",
			sc.title, sc.status, sc.by, sc.charges, sc.net, parcels, result.Status, result.Provider, charges, net.Minor, o.Parcels))
	}
	return nil
}

// webhooks lets the providers tell of all that happened, twice and in any order:
// the shop knows it all.
func (d *demo) webhooks(ctx context.Context, out io.Writer) error {
	before, err := d.s.book.lines(ctx)
	if err != nil {
		return err
	}
	n := 2 * len(d.s.world.waiting())
	if _, err := d.post(ctx, d.s.url+"/deliver", "shuffled", "1"); err != nil {
		return err
	}
	after, err := d.s.book.lines(ctx)
	left := len(d.s.world.waiting())
	fmt.Fprintf(out, "\n%d webhooks arrive, each event twice, shuffled: %d changes, %d not taken\n", n, after-before, left)
	if after != before || left != 0 {
		d.failed = append(d.failed, errors.New("webhooks: "+d.s.world.noted("webhooks")))
	}
	return err
}

func (d *demo) look(ctx context.Context) (orderView, error) {
	o, err := d.s.book.order(ctx, d.id)
	if err != nil {
		return orderView{}, err
	}
	return d.s.orderView(ctx, o)
}

// page is where a browser ends up.
type page struct {
	url  *url.URL
	body string
}

// post submits a form, and goes wherever that leads.
func (d *demo) post(ctx context.Context, to string, fields ...string) (page, error) {
	form := url.Values{}
	for pair := range slices.Chunk(fields, 2) {
		form.Set(pair[0], pair[1])
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		return page{}, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := d.client.Do(r)
	if err != nil {
		return page{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("POST %s: %s", to, resp.Status)
	}
	return page{resp.Request.URL, string(body)}, err
}

// click presses a button of the order, with what its form has.
func (d *demo) click(ctx context.Context, button string, fields ...string) (page, error) {
	return d.post(ctx, d.s.url+"/orders/"+d.id+"/"+button, fields...)
}

func (d *demo) order(ctx context.Context, fields ...string) error {
	p, err := d.post(ctx, d.s.url+"/orders", append(fields, "item", "book")...)
	if err == nil {
		d.id = p.url.Fragment
	}
	return err
}

func (d *demo) pay(ctx context.Context, method string) (page, error) {
	o, err := d.look(ctx)
	if err != nil {
		return page{}, err
	}
	return d.click(ctx, "pay", "method", method, "try", strconv.Itoa(o.Try))
}

// The parts of scenes.

func clicks(button string, fields ...string) func(context.Context, *demo) error {
	return func(ctx context.Context, d *demo) error {
		_, err := d.click(ctx, button, fields...)
		return err
	}
}

// pays makes a new order, pays, and presses a button of the provider's page.
func pays(method string, button ...string) func(context.Context, *demo) error {
	return func(ctx context.Context, d *demo) error {
		if err := d.order(ctx); err != nil {
			return err
		}
		p, err := d.pay(ctx, method)
		if err == nil && len(button) > 0 {
			_, err = d.post(ctx, p.url.String(), button...)
		}
		return err
	}
}

// paysNow pays an order that is there.
func paysNow(method string) func(context.Context, *demo) error {
	return func(ctx context.Context, d *demo) error {
		_, err := d.pay(ctx, method)
		return err
	}
}

func clicksTenTimes(ctx context.Context, d *demo) error {
	if err := d.order(ctx); err != nil {
		return err
	}
	var failed [10]error
	var all sync.WaitGroup
	for i := range failed {
		all.Go(func() { _, failed[i] = d.click(ctx, "pay", "method", "visa", "try", "0") })
	}
	all.Wait()
	return errors.Join(failed[:]...)
}

var secretField = regexp.MustCompile(`name="secret" value="([^"]+)"`)

func fillsTheForm(ctx context.Context, d *demo) error {
	if err := d.order(ctx); err != nil {
		return err
	}
	p, err := d.pay(ctx, "form")
	if err != nil {
		return err
	}
	found := secretField.FindStringSubmatch(p.body)
	if found == nil {
		return errors.New("the page has no form of Stripe's")
	}
	p, err = d.click(ctx, "form", "secret", found[1], "card", "secure")
	if err != nil {
		return err
	}
	_, err = d.post(ctx, p.url.String(), "outcome", "complete")
	return err
}

// closesTheBrowser is a customer who agrees at PayPal and never comes back.
func closesTheBrowser(ctx context.Context, d *demo) error {
	if err := d.order(ctx); err != nil {
		return err
	}
	p, err := d.pay(ctx, "paypal")
	if err != nil {
		return err
	}
	_, err = d.s.world.payPal.Approve(p.url.Query().Get("token"), paypalsim.Outcome{})
	return err
}

func hears(ctx context.Context, d *demo) error {
	_, err := d.post(ctx, d.s.url+"/deliver")
	return err
}

func holds(ctx context.Context, d *demo) error {
	if err := d.order(ctx, "hold", "1"); err != nil {
		return err
	}
	return paysNow("visa")(ctx, d)
}

func refundsTwice(ctx context.Context, d *demo) error {
	if err := pays("visa")(ctx, d); err != nil {
		return err
	}
	for range 2 {
		if _, err := d.click(ctx, "refund", "refund", "refund-1", "amount", "part"); err != nil {
			return err
		}
	}
	return nil
}

func refunds(amount string) func(context.Context, *demo) error {
	return func(ctx context.Context, d *demo) error {
		o, err := d.look(ctx)
		if err == nil {
			_, err = d.click(ctx, "refund", "refund", o.RefundID, "amount", amount)
		}
		return err
	}
}

// troubled mends all, waits until the breakers let calls through, and plays with a
// provider in trouble.
func troubled(provider, trouble string, play func(context.Context, *demo) error) func(context.Context, *demo) error {
	return func(ctx context.Context, d *demo) error {
		if err := d.mend(ctx); err != nil {
			return err
		}
		if _, err := d.post(ctx, d.s.url+"/trouble", "provider", provider, "trouble", trouble); err != nil {
			return err
		}
		return play(ctx, d)
	}
}

func mends(ctx context.Context, d *demo) error {
	if err := d.mend(ctx); err != nil {
		return err
	}
	_, err := d.click(ctx, "resume")
	return err
}

func (d *demo) mend(ctx context.Context) error {
	for _, provider := range d.s.pay.Inspect() {
		if _, err := d.post(ctx, d.s.url+"/trouble", "provider", provider.Name); err != nil {
			return err
		}
	}
	for slices.ContainsFunc(d.s.pay.Inspect(), func(p resilience.Status) bool { return p.State == resilience.Open }) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}
