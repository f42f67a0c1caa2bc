package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/smilefactory/integrations/payment"
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
	{"  5.00 of that are refunded", refunds("part"), payment.Succeeded, "stripe", 1, price/2 - 500},
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
	failed []error
}

func play(ctx context.Context, out io.Writer, s *shop) error {
	d := &demo{s: s, client: &http.Client{Transport: &http.Transport{}}}
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
	fmt.Fprintf(out, "\n%d orders, %d charges, %d twice\n", v.Orders, v.Charges, v.Twice)
	if v.Charges != v.Orders || v.Twice != 0 {
		d.failed = append(d.failed, errors.New("an order was charged twice"))
	}
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
	charges, net := o.kept()
	fmt.Fprintf(out, "%-46s %-13s %-7s %8d %8d %7s\n",
		sc.title, result.Status, result.Provider, result.Attempt, charges, payment.Money{Minor: net, Currency: payment.USD}.Decimal(2))
	if result.Status != sc.status || result.Provider != sc.by || charges != sc.charges || net != sc.net {
		d.failed = append(d.failed, fmt.Errorf("%s: expected %s by %s, %d charges, %d cents kept", sc.title, sc.status, sc.by, sc.charges, sc.net))
	}
	if err := o.disagree(); err != nil {
		d.failed = append(d.failed, fmt.Errorf("%s: %w", sc.title, err))
	}
	return nil
}

// kept is what the ledgers say of an order: how often it was charged, and how many
// cents of that were not given back.
func (o orderView) kept() (charges int, cents int64) {
	for _, m := range o.Ledger {
		if m.Refund {
			cents -= m.Amount.Minor
		} else {
			charges++
			cents += m.Amount.Minor
		}
	}
	return charges, cents
}

// disagree is where the shop's books and the providers' ledgers differ. Of what is
// unknown the shop says nothing.
func (o orderView) disagree() error {
	result, paid := o.Entry.Result(), 0
	charges, cents := o.kept()
	switch result.Status {
	case payment.Unknown:
		return nil
	case payment.Succeeded:
		paid = 1
	default:
	}
	if charges != paid || o.Parcels != paid || cents != result.Captured.Minor-result.Refunded.Minor {
		return fmt.Errorf("%s is %s in the journal, with %s taken and %s given back, and %d parcels; charged %d times, %d cents kept by the ledgers",
			o.ID, result.Status, result.Captured, result.Refunded, o.Parcels, charges, cents)
	}
	return nil
}

// webhooks lets the providers tell of all that happened, twice and in any order.
// The shop knows it all, and its books stay as they are.
func (d *demo) webhooks(ctx context.Context, out io.Writer) error {
	before, err := d.s.view(ctx)
	if err != nil {
		return err
	}
	if _, err := d.post(ctx, d.s.url+"/deliver", "shuffled", "1"); err != nil {
		return err
	}
	after, err := d.s.view(ctx)
	if err != nil {
		return err
	}
	told := 0
	for i, o := range after.Orders {
		told += len(o.Told) - len(before.Orders[i].Told)
		if err := o.disagree(); err != nil {
			d.failed = append(d.failed, err)
		}
	}
	fmt.Fprintf(out, "\n%d webhooks arrive twice, shuffled: %d news, %d not taken\n", before.Waiting, told, after.Waiting)
	if told != 0 || after.Waiting != 0 {
		d.failed = append(d.failed, errors.New("webhooks: "+after.Webhooks))
	}
	return nil
}
