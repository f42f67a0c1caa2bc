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
	"github.com/smilefactory/integrations/resilience"
)

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
	for _, provider := range d.s.pay.Control().Members() {
		if _, err := d.post(ctx, d.s.url+"/trouble", "provider", provider); err != nil {
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
