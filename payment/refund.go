package payment

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// Refund gives back some of what was taken for an order; a zero amount is all
// that is left. id is the caller's, 1 to 44 of [A-Za-z0-9_-]: the same one twice is one
// refund, and with another amount fault.Conflict. It goes to the provider and
// account that took the money.
//
// Refunds that are open, done or of unknown outcome never sum up to more than was
// taken. One that is pending ends later, see [RefundChanged]; one that fails gives
// its amount back. RefundUnknown comes with an error of kind fault.Uncertain.
func (c *Client) Refund(ctx context.Context, orderID, id string, amount Money) (*Refund, error) {
	if id == "" || !isID(id, maxOrderID) {
		return nil, invalid("refund_id", fmt.Sprintf("must be 1 to %d of [A-Za-z0-9_-]", maxOrderID))
	}
	if amount.Minor < 0 || amount != (Money{}) && (amount.Minor == 0 || !amount.Currency.Valid()) {
		return nil, invalid("amount", "must be positive, or zero for all that is left")
	}
	w, err := c.work(ctx, orderID)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.New(fault.Canceled, err)
	}
	var refund *Refund
	_, err = c.detached(ctx, w, func(ctx context.Context) (*Result, error) {
		w.committing.Store(true)
		var err error
		refund, err = c.refundOf(ctx, w.key, 0, id, amount)
		return nil, err
	})
	if errors.Is(err, fault.Canceled) || ctx.Err() != nil && refund == nil && errors.Is(err, fault.Uncertain) {
		return &Refund{ID: id, State: RefundUnknown, Amount: amount}, err
	}
	return refund, err
}

// refundOf refunds an attempt, that which was paid where number is zero.
func (c *Client) refundOf(ctx context.Context, k Key, number int, id string, amount Money) (*Refund, error) {
	known := false
	e, err := c.change(ctx, k, nil, func(e *Entry) error {
		var err error
		known, err = e.reserve(number, id, amount, c.rules.Now())
		return err
	})
	if errors.Is(err, fault.Uncertain) {
		e, err = c.book.Entry(ctx, k)
		if err != nil {
			return nil, fault.New(fault.Uncertain, err)
		}
		if e.refund(id) == nil {
			err = fault.New(fault.Unavailable, errNoEntry)
		}
	}
	switch {
	case err != nil:
		return nil, notSent(err)
	case known:
		return c.lookUpRefund(ctx, e, id)
	}
	return c.askRefund(ctx, e, id)
}

// change changes an entry without a lease, and tells the handler.
func (c *Client) change(ctx context.Context, k Key, hint *Hint, do func(e *Entry) error) (*Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, recordWithin)
	defer cancel()
	return c.book.Update(ctx, k, func(ctx context.Context, e *Entry) error {
		was := e.Clone()
		if err := do(e); err != nil {
			return err
		}
		if now := c.rules.Now(); e.Lease.Until.Before(now) {
			e.Due = c.due(e)
		}
		e.Updated = c.rules.Now()
		return c.tell(ctx, hint, changes(was, e))
	})
}

// reserve notes a refund with its amount, unless it is known.
func (e *Entry) reserve(number int, id string, amount Money, now time.Time) (known bool, err error) {
	if r := e.refund(id); r != nil {
		if amount != (Money{}) && amount != r.Amount || amount == (Money{}) && !r.Whole && number == 0 {
			return true, fault.New(fault.Conflict, &FieldError{"amount", "differs from what was asked for before under this id"})
		}
		return true, nil
	}
	a := e.paid()
	if number > 0 {
		a = e.attempt(number)
	}
	switch {
	case e.Version == 0:
		return false, fault.New(fault.NotFound, errNoEntry)
	case a == nil:
		return false, fault.New(fault.Conflict, errors.New("payment: nothing was taken for this order"))
	}
	left := a.Captured.Minor - e.reserved(a.Number)
	if amount == (Money{}) {
		amount = Money{left, a.Captured.Currency}
	}
	switch {
	case amount.Currency != a.Captured.Currency:
		return false, invalid("amount.currency", "isn't that of the payment")
	case left <= 0 || amount.Minor > left:
		return false, fault.New(fault.Conflict, &FieldError{"amount", "is more than what is left of the payment"})
	}
	e.Refunds = append(e.Refunds, RefundRecord{
		Refund:  Refund{ID: id, State: RefundUnknown, Amount: amount, FeeReturned: Money{0, amount.Currency}, Recorded: true},
		Attempt: a.Number, Whole: amount.Minor == left, Began: now,
	})
	return false, nil
}

// reserved is what is given back of an attempt, or may be.
func (e *Entry) reserved(attempt int) int64 {
	var sum int64
	for _, r := range e.Refunds {
		if r.Attempt == attempt && r.State != RefundFailed {
			sum += r.Amount.Minor
		}
	}
	return max(sum, e.refunded(attempt))
}

// refunding is what a Gateway gets of a refund.
func (e *Entry) refunding(id string) *Refunding {
	r := e.refund(id)
	a := e.attempt(r.Attempt)
	return &Refunding{
		Attempt: e.gatewayAttempt(a), ID: id, Amount: r.Amount, Whole: r.Whole && r.Amount == a.Captured, ProviderID: r.ProviderID, Began: r.Began,
	}
}

// askRefund asks for a refund that is noted.
func (c *Client) askRefund(ctx context.Context, e *Entry, id string) (*Refund, error) {
	within, cancel := context.WithTimeout(ctx, c.rules.CommitWithin)
	defer cancel()
	ask := e.refunding(id)
	got, err := pinned(within, c, ask.Attempt.Provider, opRefund, refund, ask)
	switch {
	case err == nil:
		return c.recordRefund(ctx, e, id, got, nil)
	case fault.MayHaveActed(err) || errors.Is(err, fault.Canceled) && !local(err):
		return c.lookUpAfter(ctx, e, id, err)
	}
	_, changeErr := c.change(ctx, e.Key, nil, func(e *Entry) error { // it was not made: its amount is free again
		e.Refunds = remove(e.Refunds, id)
		return nil
	})
	return nil, errors.Join(err, changeErr)
}

func local(err error) bool {
	f, ok := fault.As(err)
	return ok && f.Local
}

// remove forgets a refund that is still unknown.
func remove(refunds []RefundRecord, id string) []RefundRecord {
	var kept []RefundRecord
	for _, r := range refunds {
		if r.ID != id || r.State != RefundUnknown {
			kept = append(kept, r)
		}
	}
	return kept
}

// lookUpAfter finds out whether a refund was made that was asked for in vain.
func (c *Client) lookUpAfter(ctx context.Context, e *Entry, id string, cause error) (*Refund, error) {
	ctx, cancel := context.WithTimeout(ctx, prepareWithin)
	defer cancel()
	ask := e.refunding(id)
	got, err := pinned(ctx, c, ask.Attempt.Provider, opRefunded, lookUpRefund, ask)
	if err == nil {
		return c.recordRefund(context.WithoutCancel(ctx), e, id, got, nil)
	}
	r := e.refund(id).Refund
	return &r, &fault.Error{Kind: fault.Uncertain, Provider: ask.Attempt.Provider, Op: opRefund.Name, Err: cause}
}

// lookUpRefund says how a refund stands that an earlier call asked for. One that
// the provider doesn't know is asked for again, with its key.
func (c *Client) lookUpRefund(ctx context.Context, e *Entry, id string) (*Refund, error) {
	if r := e.refund(id); r.State == RefundSucceeded || r.State == RefundFailed {
		done := r.Refund
		return &done, nil
	}
	within, cancel := context.WithTimeout(ctx, prepareWithin)
	defer cancel()
	ask := e.refunding(id)
	got, err := pinned(within, c, ask.Attempt.Provider, opRefunded, lookUpRefund, ask)
	switch {
	case err == nil:
		return c.recordRefund(ctx, e, id, got, nil)
	case errors.Is(err, fault.NotFound) && ask.ProviderID == "":
		return c.askRefund(ctx, e, id)
	}
	r := e.refund(id).Refund
	if r.State == RefundPending {
		return &r, nil
	}
	return &r, &fault.Error{Kind: fault.Uncertain, Provider: ask.Attempt.Provider, Op: opRefund.Name, Err: err}
}

// recordRefund notes how a refund stands. What is true stays true where the
// journal can't be told.
func (c *Client) recordRefund(ctx context.Context, e *Entry, id string, got *Refund, hint *Hint) (*Refund, error) {
	after, err := c.change(ctx, e.Key, hint, func(e *Entry) error {
		if r := e.refund(id); r != nil {
			e.learnRefund(r, got)
		}
		return nil
	})
	if err != nil {
		out := *got
		out.ID, out.Recorded = id, false
		return &out, nil //nolint:nilerr // a refund that was made was made
	}
	out := after.refund(id).Refund
	return &out, nil
}

// learnRefund takes over how a refund stands. One that was made may still fail
// (a closed account); one that failed stays so.
func (e *Entry) learnRefund(r *RefundRecord, got *Refund) {
	if r.State == RefundFailed {
		return
	}
	if got.ProviderID != "" {
		r.ProviderID = got.ProviderID
	}
	r.State, r.Reason = got.State, got.Reason
	r.FeeReturned = Money{0, r.Amount.Currency}
	if r.State == RefundFailed {
		return
	}
	refunded, returned := r.FeeReturned, r.FeeReturned
	for i := range e.Refunds {
		if o := &e.Refunds[i]; o.Attempt == r.Attempt && o.State != RefundFailed && o.State != RefundUnknown {
			refunded.Minor += o.Amount.Minor
			if o != r {
				returned.Minor += o.FeeReturned.Minor
			}
		}
	}
	r.FeeReturned, _ = e.Order.Fee.Returned(refunded, returned) // valid since the order was
}

// settleRefunds asks how the order's open refunds stand.
func (w *work) settleRefunds(ctx context.Context) {
	for _, r := range w.e.Refunds {
		if r.State == RefundPending || r.State == RefundUnknown {
			_, _ = w.c.lookUpRefund(ctx, w.e, r.ID) // what it can't say now, it may later
		}
	}
	if len(w.e.Refunds) > 0 {
		if e, err := w.c.book.Entry(ctx, w.key); err == nil {
			w.e = e
		}
	}
}
