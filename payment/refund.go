package payment

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
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
// its amount back. RefundUnknown comes with an error of kind fault.Uncertain: ask
// again with the same id and amount, or see the Refunds of Resume.
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
	w.committing.Store(true)
	return detached(ctx, w, func(ctx context.Context) (*Refund, error) {
		return c.refundOf(ctx, w.key, 0, id, amount)
	}, func(_ *Result, err error) (*Refund, error) {
		return &Refund{ID: id, State: RefundUnknown, Amount: amount}, err
	})
}

// refundOf refunds an attempt, that which was paid where number is zero.
func (c *Client) refundOf(ctx context.Context, k Key, number int, id string, amount Money) (*Refund, error) {
	owner := rand.Text()
	e, err := c.change(ctx, k, func(e *Entry) error {
		return e.reserve(number, id, amount, owner, c.rules.Now())
	})
	if errors.Is(err, fault.Uncertain) {
		e, err = c.entry(ctx, k)
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
	case e.refund(id).Owner != owner: // it is known
		return c.lookUpRefund(ctx, e, id)
	}
	return c.askRefund(ctx, e, id, true)
}

// change changes an entry without a lease, and tells the handler.
func (c *Client) change(ctx context.Context, k Key, do func(e *Entry) error) (*Entry, error) {
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
		return c.tell(ctx, nil, changes(was, e))
	})
}

// reserve notes a refund with its amount, unless it is known.
func (e *Entry) reserve(number int, id string, amount Money, owner string, now time.Time) error {
	if r := e.refund(id); r != nil {
		if amount != (Money{}) && amount != r.Amount || amount == (Money{}) && !r.Whole && number == 0 {
			return fault.New(fault.Conflict, &FieldError{"amount", "differs from what was asked for before under this id"})
		}
		return nil
	}
	a := e.paid()
	if number > 0 {
		a = e.attempt(number)
	}
	switch {
	case e.Version == 0:
		return fault.New(fault.NotFound, errNoEntry)
	case a == nil:
		return fault.New(fault.Conflict, errors.New("payment: nothing was taken for this order"))
	}
	left := a.Captured.Minor - e.reserved(a)
	if amount == (Money{}) {
		amount = Money{left, a.Captured.Currency}
	}
	switch {
	case amount.Currency != a.Captured.Currency:
		return invalid("amount.currency", "isn't that of the payment")
	case left <= 0 || amount.Minor > left:
		return fault.New(fault.Conflict, &FieldError{"amount", "is more than what is left of the payment"})
	}
	e.Refunds = append(e.Refunds, RefundRecord{
		Refund:  Refund{ID: id, State: RefundUnknown, Amount: amount, FeeReturned: Money{0, amount.Currency}, Recorded: true},
		Attempt: a.Number, Whole: amount.Minor == left, Asks: 1, Owner: owner, Began: now,
	})
	return nil
}

// refunding is what a Gateway gets of a refund.
func (e *Entry) refunding(id string) *Refunding {
	r := e.refund(id)
	a := e.attempt(r.Attempt)
	return &Refunding{
		Attempt: e.gatewayAttempt(a), ID: id, Amount: r.Amount, Whole: r.Whole && r.Amount == a.Captured, ProviderID: r.ProviderID, Began: r.Began,
	}
}

// askRefund asks for a refund that is noted. What the first call provably couldn't
// send is forgotten; a later one can't speak for those before it, unless the
// provider has understood and refused, and nothing can be on its way any more.
func (c *Client) askRefund(ctx context.Context, e *Entry, id string, first bool) (*Refund, error) {
	within, cancel := context.WithTimeout(ctx, c.commitWithin())
	defer cancel()
	ask := e.refunding(id)
	got, err := pinned(within, c, ask.Attempt.Provider, c.moving(opRefund), refund, ask)
	switch {
	case err == nil:
		return c.recordRefund(ctx, e, id, got)
	case fault.MayHaveActed(err):
		return c.lookUpAfter(ctx, e, id, err)
	case first:
		owner := e.refund(id).Owner
		after, changeErr := c.change(ctx, e.Key, func(e *Entry) error { // it was not made: its amount is free again
			e.Refunds = slices.DeleteFunc(e.Refunds, func(r RefundRecord) bool {
				return r.ID == id && r.State == RefundUnknown && r.Asks == 1 && r.Owner == owner
			})
			return nil
		})
		if changeErr != nil || after.refund(id) != nil { // whoever looks after it may ask for it yet
			return c.doubtful(e, id, causes{err, changeErr})
		}
		return nil, err
	case refusedFor(err) && c.rules.Now().Sub(ask.Began) > resendWithin:
		return c.recordRefund(ctx, e, id, &Refund{State: RefundFailed, Reason: "refused"})
	}
	return c.doubtful(e, id, err)
}

// refusedFor reports whether the provider has understood and refused.
func refusedFor(err error) bool {
	switch fault.KindOf(err) {
	case fault.Rejected, fault.Invalid, fault.Conflict, fault.NotFound, fault.Unsupported:
		return true
	default:
		return false
	}
}

// doubtful is the answer where it isn't known whether a refund was made.
func (c *Client) doubtful(e *Entry, id string, cause error) (*Refund, error) {
	r := e.refund(id)
	out := r.Refund
	return &out, &fault.Error{Kind: fault.Uncertain, Provider: e.attempt(r.Attempt).Provider, Op: opRefund.Name, Err: causes{cause}}
}

// lookUpAfter finds out whether a refund was made that was asked for in vain.
func (c *Client) lookUpAfter(ctx context.Context, e *Entry, id string, cause error) (*Refund, error) {
	ctx, cancel := context.WithTimeout(ctx, prepareWithin)
	defer cancel()
	ask := e.refunding(id)
	got, err := pinned(ctx, c, ask.Attempt.Provider, opRefunded, lookUpRefund, ask)
	if err == nil {
		return c.recordRefund(context.WithoutCancel(ctx), e, id, got)
	}
	return c.doubtful(e, id, cause)
}

// lookUpRefund says how a refund stands that an earlier call asked for. One that
// the provider doesn't know is asked for again, with its key.
func (c *Client) lookUpRefund(ctx context.Context, e *Entry, id string) (*Refund, error) {
	if r := e.refund(id); r.State == RefundSucceeded || r.State == RefundFailed {
		done := r.Refund
		return &done, nil
	}
	r, err := c.lookUpRefundNow(ctx, e, id)
	if err != nil && r != nil && r.State == RefundPending {
		return r, nil // as far as is known
	}
	return r, err
}

// lookUpRefundNow asks the provider whatever is known: what succeeded may have
// failed since.
func (c *Client) lookUpRefundNow(ctx context.Context, e *Entry, id string) (*Refund, error) {
	within, cancel := context.WithTimeout(ctx, prepareWithin)
	defer cancel()
	ask := e.refunding(id)
	got, err := pinned(within, c, ask.Attempt.Provider, opRefunded, lookUpRefund, ask)
	switch {
	case err == nil:
		return c.recordRefund(ctx, e, id, got)
	case errors.Is(err, fault.NotFound) && ask.ProviderID == "":
		again, err := c.change(ctx, e.Key, func(e *Entry) error {
			if r := e.refund(id); r != nil {
				r.Asks++
			}
			return nil
		})
		if err != nil || again.refund(id) == nil {
			return c.doubtful(e, id, err)
		}
		return c.askRefund(ctx, again, id, false)
	}
	return c.doubtful(e, id, err)
}

// recordRefund notes how a refund stands. What is true stays true where the
// journal can't be told.
func (c *Client) recordRefund(ctx context.Context, e *Entry, id string, got *Refund) (*Refund, error) {
	after, err := c.change(ctx, e.Key, func(e *Entry) error {
		if r := e.refund(id); r != nil {
			e.learnRefund(r, got)
		}
		return nil
	})
	if err != nil || after.refund(id) == nil {
		out := *got
		out.ID, out.Amount, out.Recorded = id, e.refund(id).Amount, false
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

// settleRefunds asks how the order's open refunds stand, and that one which a
// webhook is about, whose error it returns.
func (w *work) settleRefunds(ctx context.Context) error {
	var hinted error
	for _, r := range w.e.Refunds {
		if w.hint != nil && r.ProviderID != "" && r.ProviderID == w.hint.RefundID {
			is, err := w.c.lookUpRefundNow(ctx, w.e, r.ID)
			if hinted = err; err == nil && !is.Recorded {
				hinted = fault.New(fault.Unavailable, errNoEntry)
			}
		} else if r.State == RefundPending || r.State == RefundUnknown {
			_, _ = w.c.lookUpRefund(ctx, w.e, r.ID) // what it can't say now, it may later
		}
	}
	if len(w.e.Refunds) > 0 {
		if e, err := w.c.entry(ctx, w.key); err == nil {
			w.e = e
		}
	}
	return hinted
}
