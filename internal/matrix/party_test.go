package matrix_test

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/smilefactory/integrations/fault"
	paypalsim "github.com/smilefactory/integrations/internal/sim/paypal"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paypal"
	"github.com/smilefactory/integrations/payment/stripe"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/secret"
)

// party is our side: a Client of both providers with what breaks its wire and
// its journal.
type party struct {
	c     cell
	pay   *payment.Client
	links []*link
	book  *book
}

func newParty(c cell, ends map[string]endpoint, j payment.Journal, now func() time.Time, at pace, pull func()) *party {
	p := &party{c: c, book: &book{Journal: j, c: c, pull: pull, returned: make(chan string, 1)}}
	clients := map[string]*http.Client{}
	for name, end := range ends {
		l := newLink(c, name, end, pull)
		l.returned = p.book.returned
		p.links = append(p.links, l)
		clients[name] = &http.Client{Transport: l, Timeout: at.patience}
	}
	gateways := map[string]payment.Gateway{
		"stripe": stripe.Gateway{Key: secret.Literal(stripeKey), BaseURL: ends["stripe"].URL, HTTPClient: clients["stripe"]},
		"paypal": aged{&paypal.Gateway{
			ClientID: paypalsim.DefaultAccount.ClientID, Secret: secret.Literal(paypalsim.DefaultAccount.Secret), Sandbox: true,
			BaseURL: ends["paypal"].URL, HTTPClient: clients["paypal"],
		}, now},
	}
	var err error
	p.pay, err = payment.New(gateways[c.Primary], payment.WithBackup(gateways[other(c.Primary)]), payment.WithJournal(p.book),
		payment.WithPolicy(at.policy()), payment.WithRules(payment.Rules{Now: now, Join: 30 * time.Second, CommitWithin: 30 * time.Second, Lease: time.Minute}))
	if err != nil {
		panic(err)
	}
	return p
}

func (p pace) policy() resilience.Policy {
	return resilience.Policy{
		Timeout: 30 * time.Second, Total: time.Minute, Retries: 2, MaxWait: time.Second,
		Backoff: resilience.Backoff{Initial: p.backoff, Max: 2 * p.backoff},
	}
}

// set begins the flaw, or ends it.
func (p *party) set(r rule, journal bool) {
	for _, l := range p.links {
		l.set(r)
	}
	p.book.set(journal)
}

// close waits for what goes on after its caller has gone.
func (p *party) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	defer func() {
		for _, l := range p.links {
			l.close()
		}
	}()
	return p.pay.Close(ctx)
}

// aged tells PayPal's adapter, which has the real clock, how old an attempt is by
// the clock of the cell.
type aged struct {
	*paypal.Gateway

	now func() time.Time
}

func (g aged) shift(a *payment.Attempt) *payment.Attempt {
	if a.Began.IsZero() {
		return a
	}
	out := *a
	out.Began = time.Now().Add(a.Began.Sub(g.now()))
	return &out
}

func (g aged) Prepare(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	return g.Gateway.Prepare(ctx, g.shift(a))
}

func (g aged) Commit(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	return g.Gateway.Commit(ctx, g.shift(a))
}

func (g aged) LookUp(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	return g.Gateway.LookUp(ctx, g.shift(a))
}

func (g aged) Fence(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	return g.Gateway.Fence(ctx, g.shift(a))
}

func (g aged) CaptureAttempt(ctx context.Context, a *payment.Attempt, amount payment.Money) (*payment.Payment, error) {
	return g.Gateway.CaptureAttempt(ctx, g.shift(a), amount)
}

func (g aged) VoidAttempt(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	return g.Gateway.VoidAttempt(ctx, g.shift(a))
}

func (g aged) RefundAttempt(ctx context.Context, r *payment.Refunding) (*payment.Refund, error) {
	return g.Gateway.RefundAttempt(ctx, g.refunding(r))
}

func (g aged) LookUpRefund(ctx context.Context, r *payment.Refunding) (*payment.Refund, error) {
	return g.Gateway.LookUpRefund(ctx, g.refunding(r))
}

func (g aged) refunding(r *payment.Refunding) *payment.Refunding {
	out := *r
	out.Attempt = g.shift(r.Attempt)
	return &out
}

func (c cell) order(id, vault string) *payment.Order {
	o := &payment.Order{
		ID: id, User: user, Amount: payment.Money{Minor: minor, Currency: payment.USD}, ReturnURL: "https://shop.example.com/paid",
		Methods: map[string]payment.Method{"stripe": {ID: "pm_card_visa"}, "paypal": {ID: vault}},
		Hold:    c.Op == capture || c.Op == void,
	}
	if c.Decline {
		o.Methods["stripe"] = payment.Method{ID: "pm_card_visa_chargeDeclined"}
	}
	return o
}

// outcome is what a caller was told.
type outcome string

const (
	succeeded outcome = "success"
	declined  outcome = "declined"
	unknown   outcome = "unknown"
	failed    outcome = "failed" // not done
)

var outcomes = []outcome{succeeded, declined, unknown, failed}

// answer is that, with the words.
type answer struct {
	Outcome    outcome
	Said       string
	Unrecorded bool
	InProgress bool
}

const refundID = "refund-1" // of a part, so that the provider would take a second one

// perform asks for a cell's operation.
func (p *party) perform(ctx context.Context, o *payment.Order) answer {
	var r *payment.Result
	var err error
	switch p.c.Op {
	case charge:
		r, err = p.pay.Charge(ctx, o)
	case capture:
		r, err = p.pay.Capture(ctx, o.ID, payment.Money{})
	case void:
		r, err = p.pay.Void(ctx, o.ID)
	case resume:
		r, err = p.pay.Resume(ctx, o.ID)
	case refund:
		return refundAnswer(p.pay.Refund(ctx, o.ID, refundID, payment.Money{Minor: refundMinor, Currency: payment.USD}))
	}
	a := answer{Outcome: failed, Said: words(err), InProgress: errors.Is(err, payment.ErrInProgress)}
	if r != nil {
		a.Said = string(r.Status) + ": " + a.Said
		a.Unrecorded = !r.Recorded
	}
	switch {
	case p.c.Op == resume && fault.KindOf(err) == fault.Canceled: // a question without an answer
		a.Outcome = unknown
	case err != nil && (a.InProgress || fault.KindOf(err) == fault.Uncertain || r != nil && r.Status == payment.Unknown):
		a.Outcome = unknown
	case err != nil:
	case p.c.Op == void && r.Status == payment.Canceled:
		a.Outcome = succeeded
	case r.Status == payment.Succeeded:
		a.Outcome = succeeded
	case r.Status == payment.Declined:
		a.Outcome = declined
	case r.Status != payment.Canceled:
		a.Outcome = unknown
	}
	return a
}

func refundAnswer(r *payment.Refund, err error) answer {
	a := answer{Outcome: failed, Said: words(err)}
	if r != nil {
		a.Said = string(r.State) + ": " + a.Said
		a.Unrecorded = !r.Recorded
	}
	switch {
	case err != nil && (fault.KindOf(err) == fault.Uncertain || r != nil && r.State == payment.RefundUnknown):
		a.Outcome = unknown
	case err == nil && r.State == payment.RefundSucceeded:
		a.Outcome = succeeded
	case err == nil && r.State != payment.RefundFailed:
		a.Outcome = unknown
	}
	return a
}

func words(err error) string {
	if err == nil {
		return "nil"
	}
	return fault.KindOf(err).String() + ": " + err.Error()
}
