// Package paymenttest helps to test what takes payments: [Bank] stands in for a
// provider, [RunGateway] and [RunJournal] check that an adapter or a journal keeps
// the contract of package payment.
//
//	bank := &paymenttest.Bank{}
//	pay, err := payment.New(bank)
//	…
//	result, err := pay.Charge(ctx, &payment.Order{
//		ID: "order-1", Amount: payment.Money{Minor: 1999, Currency: "USD"},
//		Methods: map[string]payment.Method{"bank": {ID: paymenttest.Good}},
//	})
//	assert.Equal(t, 1, len(bank.Charges("order-1")))
package paymenttest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

// The methods that a Bank knows. Others are [Good].
const (
	// Good pays at once.
	Good = "good"
	// Poor is declined for want of funds, Stolen and Expired for what they say.
	Poor    = "poor"
	Stolen  = "stolen"
	Expired = "expired"
	// Strict needs the customer once more, and pays when he has confirmed: see
	// [Bank.Confirm]. A merchant initiated payment with it is refused.
	Strict = "strict"
	// Slow is processing until [Bank.Clear].
	Slow = "slow"
)

// Step is one of the calls of a Bank.
type Step string

// The steps.
const (
	Prepare Step = "prepare"
	Commit  Step = "commit"
	LookUp  Step = "look up"
	Fence   Step = "fence"
	Capture Step = "capture"
	Void    Step = "void"
	Refund  Step = "refund"
)

// Bank is a payment provider in memory. The zero value is ready: it is called
// "bank", and takes every currency. An attempt without a method is paid on a page,
// see [Bank.Confirm]. It is safe for concurrent use; its fields are set before.
type Bank struct {
	// Called is its name.
	Called string
	// Account and Live are its identity.
	Account string
	Live    bool
	// Approves makes it like PayPal: an attempt without a method is Prepared until the
	// customer approves, and then committed by us.
	Approves bool
	// NoFence makes it one that can't cancel what was prepared.
	NoFence bool
	// Refuses says why it can't take an attempt, nil where it can.
	Refuses func(a *payment.Attempt) error
	// Now replaces time.Now.
	Now func() time.Time

	mu       sync.Mutex
	payments map[string]*account // by id
	keys     map[string]any      // what a key was answered
	ledger   []Charge
	troubles []*trouble
	calls    map[Step]int
}

// account is one payment.
type account struct {
	payment.Payment
	attempt   payment.Attempt
	method    string
	refunds   []*payment.Refund
	holds     bool
	opened    bool // the customer may try again after a decline, as at Stripe
	initiated payment.Presence
}

// Charge is money that a Bank took.
type Charge struct {
	PaymentID string
	Reference payment.Reference
	Amount    payment.Money
}

type trouble struct {
	step  Step
	err   error
	after bool
	hang  chan struct{}
}

var errTrouble = errors.New("paymenttest: trouble")

// Fail makes the next call of that step fail with err, before anything is done.
func (b *Bank) Fail(s Step, err error) { b.trouble(&trouble{step: s, err: err}) }

// Lose makes the next call of that step do its work and then fail, as when the
// answer is lost on its way.
func (b *Bank) Lose(s Step) {
	b.trouble(&trouble{step: s, err: &fault.Error{Kind: fault.Uncertain, Deduped: true, Err: errTrouble}, after: true})
}

// Hang makes the next call of that step wait until its context ends, or the
// returned function is called; then it goes on.
func (b *Bank) Hang(s Step) (release func()) {
	t := &trouble{step: s, hang: make(chan struct{})}
	b.trouble(t)
	return sync.OnceFunc(func() { close(t.hang) })
}

func (b *Bank) trouble(t *trouble) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.troubles = append(b.troubles, t)
}

// Calls is how often a step was called.
func (b *Bank) Calls(s Step) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls[s]
}

// Charges are those of an order, all where it is empty.
func (b *Bank) Charges(order string) []Charge {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Charge
	for _, c := range b.ledger {
		if order == "" || c.Reference.Order == order {
			out = append(out, c)
		}
	}
	return out
}

// Refunded is how much of a payment was given back.
func (b *Bank) Refunded(paymentID string) payment.Money {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.payments[paymentID]; a != nil {
		return a.Refunded
	}
	return payment.Money{}
}

// Confirm is the customer who does what he was asked to: the payment is paid, or
// approved where the Bank Approves.
func (b *Bank) Confirm(paymentID string) {
	b.change(paymentID, func(a *account) {
		a.Action = nil // where it is Prepared, that is what we wait for
		if a.State == payment.Actionable || a.State == payment.Refused && a.opened {
			a.Decline = nil
			b.take(a)
		}
	})
}

// GiveUp is the customer who fails: the payment is refused, but he may Confirm it
// yet, with another card, unless it is fenced.
func (b *Bank) GiveUp(paymentID string) {
	b.change(paymentID, func(a *account) {
		if a.State == payment.Actionable {
			a.State, a.Action, a.Decline = payment.Refused, nil, payment.NewDecline(payment.AuthenticationFault, "authentication_failed")
			a.opened = true
		}
	})
}

// Clear ends what was processing: paid, or refused.
func (b *Bank) Clear(paymentID string, paid bool) {
	b.change(paymentID, func(a *account) {
		switch {
		case a.State != payment.Processing:
		case paid:
			b.take(a)
		default:
			a.State, a.Decline = payment.Refused, payment.NewDecline(payment.Generic, "failed")
		}
	})
}

// EndRefund ends a pending refund; see [PendingRefunds].
func (b *Bank) EndRefund(paymentID, refundID string, state payment.RefundState) {
	b.change(paymentID, func(a *account) {
		for _, r := range a.refunds {
			if r.ID == refundID && r.State != state {
				if state == payment.RefundFailed {
					a.Refunded.Minor -= r.Amount.Minor
				}
				r.State, r.Reason = state, "by the test"
			}
		}
	})
}

func (b *Bank) change(paymentID string, do func(a *account)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.payments[paymentID]; a != nil {
		do(a)
	}
}

// Name is the Bank's.
func (b *Bank) Name() string { return cmp.Or(b.Called, "bank") }

// Identity is the Bank's account.
func (b *Bank) Identity() payment.Identity { return payment.Identity{Account: b.Account, Live: b.Live} }

// CanTake asks Refuses.
func (b *Bank) CanTake(a *payment.Attempt) error {
	if b.Refuses != nil {
		return b.Refuses(a)
	}
	return nil
}

// call counts a step, lets the trouble that waits for it happen, and does it
// under the lock, once for each key.
func (b *Bank) call(ctx context.Context, s Step, key string, do func() (any, error)) (any, error) {
	b.mu.Lock()
	if b.calls == nil {
		b.calls, b.payments, b.keys = map[Step]int{}, map[string]*account{}, map[string]any{}
	}
	b.calls[s]++
	t := &trouble{}
	if i := slices.IndexFunc(b.troubles, func(t *trouble) bool { return t.step == s }); i >= 0 {
		t = b.troubles[i]
		b.troubles = slices.Delete(b.troubles, i, i+1)
	}
	b.mu.Unlock()
	if t.hang != nil {
		select {
		case <-t.hang:
		case <-ctx.Done():
			return nil, &fault.Error{Kind: fault.Uncertain, Deduped: key != "", Err: ctx.Err()}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.New(fault.Unavailable, err)
	}
	if t.err != nil && !t.after {
		return nil, t.err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	out, known := b.keys[key]
	if !known || key == "" {
		var err error
		if out, err = do(); err != nil {
			return nil, err
		}
		b.keys[key] = out
	}
	if t.after {
		return nil, t.err
	}
	return out, nil
}

func (b *Bank) pay(ctx context.Context, s Step, key string, do func() (*payment.Payment, error)) (*payment.Payment, error) {
	out, err := b.call(ctx, s, key, func() (any, error) {
		p, err := do()
		if err != nil {
			return nil, err
		}
		c := *p
		return &c, nil
	})
	if err != nil {
		return nil, err
	}
	c := *out.(*payment.Payment)
	return &c, nil
}

// Prepare makes a payment.
func (b *Bank) Prepare(ctx context.Context, at *payment.Attempt) (*payment.Payment, error) {
	return b.pay(ctx, Prepare, at.Key("prepare"), func() (*payment.Payment, error) {
		a := &account{attempt: *at, method: at.Method.ID, holds: at.Order.Hold, initiated: at.Order.Presence}
		zero := payment.Money{Currency: at.Order.Amount.Currency}
		a.Payment = payment.Payment{
			ID: fmt.Sprintf("%s_pay_%d", b.Name(), len(b.payments)+1), State: payment.Prepared, Amount: at.Order.Amount,
			Captured: zero, Refunded: zero, Live: b.Live, Reference: at.Reference(),
		}
		if a.method == "" {
			a.Action = &payment.NextAction{Provider: b.Name(), RedirectURL: "https://bank.example.com/pay/" + a.ID}
			if !b.Approves {
				a.State = payment.Actionable
			}
		}
		b.payments[a.ID] = a
		return &a.Payment, nil
	})
}

// Commit moves the money.
func (b *Bank) Commit(ctx context.Context, at *payment.Attempt) (*payment.Payment, error) {
	return b.pay(ctx, Commit, at.Key("commit"), func() (*payment.Payment, error) {
		a, err := b.find(at)
		if err != nil || a.State != payment.Prepared || a.Action != nil {
			return payOf(a), err
		}
		switch a.method {
		case Poor:
			a.State, a.Decline = payment.Refused, payment.NewDecline(payment.InsufficientFunds, "insufficient_funds")
		case Stolen:
			a.State, a.Decline = payment.Refused, payment.NewDecline(payment.LostOrStolen, "stolen_card")
		case Expired:
			a.State, a.Decline = payment.Refused, payment.NewDecline(payment.ExpiredMethod, "expired_card")
		case Slow:
			a.State, a.Reason = payment.Processing, "clearing"
		case Strict:
			a.State, a.Action = payment.Actionable, &payment.NextAction{Provider: b.Name(), RedirectURL: "https://bank.example.com/confirm/" + a.ID}
			if a.initiated == payment.MerchantInitiated {
				a.State, a.Action, a.Decline = payment.Refused, nil, payment.NewDecline(payment.AuthenticationFault, "authentication_required")
			}
		default:
			b.take(a)
		}
		return &a.Payment, nil
	})
}

func payOf(a *account) *payment.Payment {
	if a == nil {
		return nil
	}
	return &a.Payment
}

// take takes the money, or holds it.
func (b *Bank) take(a *account) {
	a.Reason = ""
	if a.holds && a.State != payment.Held {
		a.State, a.AuthorizationID, a.HeldUntil = payment.Held, a.ID+"_auth", b.now().Add(7*24*time.Hour)
		return
	}
	b.takeAmount(a, a.Amount)
}

func (b *Bank) takeAmount(a *account, amount payment.Money) {
	a.State, a.ChargeID, a.Captured = payment.Paid, a.ID+"_charge", amount
	b.ledger = append(b.ledger, Charge{PaymentID: a.ID, Reference: a.Reference, Amount: amount})
}

func (b *Bank) now() time.Time {
	if b.Now != nil {
		return b.Now()
	}
	return time.Now()
}

var errUnknown = errors.New("paymenttest: no such payment")

// find is the payment of an attempt: by its id, else by what travelled with it.
func (b *Bank) find(at *payment.Attempt) (*account, error) {
	if a := b.payments[at.PaymentID]; a != nil {
		return a, nil
	}
	for _, a := range b.payments {
		if at.PaymentID == "" && a.Reference == at.Reference() {
			return a, nil
		}
	}
	return nil, fault.New(fault.NotFound, errUnknown)
}

// LookUp says how a payment stands.
func (b *Bank) LookUp(ctx context.Context, at *payment.Attempt) (*payment.Payment, error) {
	return b.pay(ctx, LookUp, "", func() (*payment.Payment, error) {
		a, err := b.find(at)
		return payOf(a), err
	})
}

// Fence cancels a payment that isn't made yet.
func (b *Bank) Fence(ctx context.Context, at *payment.Attempt) (*payment.Payment, error) {
	return b.pay(ctx, Fence, "", func() (*payment.Payment, error) {
		if b.NoFence {
			return nil, fault.New(fault.Unsupported, errTrouble)
		}
		a, err := b.find(at)
		if err == nil && (a.State == payment.Prepared || a.State == payment.Actionable || a.State == payment.Refused && a.opened) {
			a.State, a.Action, a.Reason = payment.Ended, nil, "canceled"
		}
		return payOf(a), err
	})
}

// CaptureAttempt takes what is held.
func (b *Bank) CaptureAttempt(ctx context.Context, at *payment.Attempt, amount payment.Money) (*payment.Payment, error) {
	return b.pay(ctx, Capture, at.Key("capture:"+amount.String()), func() (*payment.Payment, error) {
		a, err := b.find(at)
		switch {
		case err != nil:
			return nil, err
		case a.State != payment.Held, amount.Minor > a.Amount.Minor:
			return nil, fault.New(fault.Conflict, errTrouble)
		}
		b.takeAmount(a, amount)
		return &a.Payment, nil
	})
}

// VoidAttempt lets go of what is held.
func (b *Bank) VoidAttempt(ctx context.Context, at *payment.Attempt) (*payment.Payment, error) {
	return b.pay(ctx, Void, "", func() (*payment.Payment, error) {
		a, err := b.find(at)
		switch {
		case err != nil:
			return nil, err
		case a.State == payment.Held:
			a.State, a.Reason = payment.Ended, "voided"
		case a.State != payment.Ended:
			return nil, fault.New(fault.Conflict, errTrouble)
		}
		return &a.Payment, nil
	})
}

// PendingRefunds is the part of a refund's id that leaves it pending, until
// [Bank.EndRefund].
const PendingRefunds = "pending"

// RefundAttempt gives money back.
func (b *Bank) RefundAttempt(ctx context.Context, r *payment.Refunding) (*payment.Refund, error) {
	return b.refund(ctx, Refund, r.Key(), func() (*payment.Refund, error) {
		a, err := b.find(r.Attempt)
		switch {
		case err != nil:
			return nil, err
		case a.State != payment.Paid || a.Refunded.Minor+r.Amount.Minor > a.Captured.Minor:
			return nil, fault.New(fault.Rejected, errTrouble)
		}
		f := &payment.Refund{ID: r.ID, ProviderID: fmt.Sprintf("%s_refund_%d", a.ID, len(a.refunds)+1), State: payment.RefundSucceeded, Amount: r.Amount}
		if len(r.ID) >= len(PendingRefunds) && r.ID[:len(PendingRefunds)] == PendingRefunds {
			f.State = payment.RefundPending
		}
		a.refunds = append(a.refunds, f)
		a.Refunded.Minor += r.Amount.Minor
		return f, nil
	})
}

// LookUpRefund says how a refund stands.
func (b *Bank) LookUpRefund(ctx context.Context, r *payment.Refunding) (*payment.Refund, error) {
	return b.refund(ctx, LookUp, "", func() (*payment.Refund, error) {
		a, err := b.find(r.Attempt)
		if err != nil {
			return nil, err
		}
		for _, f := range a.refunds {
			if f.ID == r.ID {
				return f, nil
			}
		}
		return nil, fault.New(fault.NotFound, errUnknown)
	})
}

func (b *Bank) refund(ctx context.Context, s Step, key string, do func() (*payment.Refund, error)) (*payment.Refund, error) {
	out, err := b.call(ctx, s, key, func() (any, error) {
		f, err := do()
		if err != nil {
			return nil, err
		}
		c := *f
		return &c, nil
	})
	if err != nil {
		return nil, err
	}
	c := *out.(*payment.Refund)
	return &c, nil
}

// CantTake is the error of a Gateway that can't take an order for that field.
func CantTake(field string) error {
	return fault.New(fault.Unsupported, &payment.FieldError{Field: field, Problem: "can't be taken here"})
}
