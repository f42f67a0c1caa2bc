package payment

import (
	"context"
	"errors"

	"github.com/smilefactory/integrations/fault"
)

// Capture takes some or all of what is held for an order, and lets go of the
// rest; a zero amount is all of it. It goes to the provider and account that the
// journal names, and to no other. Called again with the same amount it has the
// same result; with another one it is fault.Conflict.
func (c *Client) Capture(ctx context.Context, orderID string, amount Money) (*Result, error) {
	if amount != (Money{}) && (amount.Minor <= 0 || !amount.Currency.Valid()) {
		return nil, invalid("amount", "must be positive, or zero for all that is held")
	}
	return c.held(ctx, orderID, modePay, func(w *work, ctx context.Context) error {
		o := &w.e.Order
		if amount == (Money{}) {
			amount = o.Amount
		}
		if amount.Currency != o.Amount.Currency || amount.Minor > o.Amount.Minor {
			return invalid("amount", "is more than what is held, or of another currency")
		}
		switch a := w.e.last(); {
		case a.State == AttemptPaid && a.Captured == amount, a.State == AttemptCapturing && a.Capturing == amount:
			return nil
		case a.State != AttemptHeld:
			return fault.New(fault.Conflict, errors.New("payment: nothing is held for this order that could be captured"))
		}
		return w.step(ctx, AttemptCapturing, amount)
	})
}

// Void lets go of what is held for an order, or sees to it that a payment which
// wasn't made yet can't be made any more. What was taken is fault.Conflict: see
// Refund.
func (c *Client) Void(ctx context.Context, orderID string) (*Result, error) {
	return c.held(ctx, orderID, modeStop, func(w *work, ctx context.Context) error {
		if a := w.e.last(); a.State != AttemptPaid && !w.e.Voided {
			err := w.update(ctx, func(e *Entry) error {
				e.Voided = true
				return nil
			})
			if err != nil {
				return notSent(err)
			}
		}
		switch a := w.e.last(); {
		case a.State == AttemptPrepared, a.State == AttemptOpen, a.retryable():
			if err := w.fence(ctx, AttemptEnded, "voided"); err != nil || w.e.last().State != AttemptPaid {
				return err
			}
			return fault.New(fault.Conflict, errTaken)
		case a.State.Settled(), a.State == AttemptVoiding, a.State == AttemptCommitting: // the last isn't known, which its status says
			return nil
		case a.State != AttemptHeld:
			return fault.New(fault.Conflict, errTaken)
		}
		return w.step(ctx, AttemptVoiding, Money{})
	})
}

var errTaken = errors.New("payment: the money was taken, or may have been: see Refund")

// held does something to an order whose money is held, once it is known how it
// stands.
func (c *Client) held(ctx context.Context, orderID string, m mode, do func(*work, context.Context) error) (*Result, error) {
	w, err := c.work(ctx, orderID)
	if err != nil {
		return nil, err
	}
	w.mode = m
	return w.leased(ctx, mustExist, func(ctx context.Context) (*Result, error) {
		if w.e.last() == nil {
			return nil, fault.New(fault.NotFound, errNoEntry)
		}
		if w.e.last().State.doubtful() {
			if err := w.settle(ctx); err != nil {
				return w.result(), err
			}
		}
		if err := do(w, ctx); err != nil {
			if errors.Is(err, errLeaseLost) {
				return w.joined(ctx, inProgress())
			}
			return w.result(), err
		}
		r := w.result()
		return r, w.because(r)
	})
}

// step notes that what is held may be taken, or let go, and does it.
func (w *work) step(ctx context.Context, state AttemptState, amount Money) error {
	if err := w.goOn(); err != nil {
		return err
	}
	err := w.update(ctx, func(e *Entry) error {
		a := e.last()
		a.State, a.Capturing = state, amount
		return nil
	})
	if errors.Is(err, fault.Uncertain) { // the note may be there
		return w.unsure(err)
	}
	if err != nil {
		w.committing.Store(false)
		return notSent(err)
	}
	return w.takeHeld(ctx, true)
}

// takeHeld takes or lets go what is noted so, with the key that it always has. Only
// the first call can say that nothing was done, or the provider where it has
// understood and refused.
func (w *work) takeHeld(ctx context.Context, first bool) error {
	op, method := opVoid, void
	if a := w.e.last(); a.State == AttemptCapturing {
		op, method = opCapture, capture(a.Capturing)
	}
	p, err := w.ask(ctx, w.c.moving(op), w.c.commitWithin(), method)
	if err == nil {
		return w.learn(ctx, p)
	}
	if fault.MayHaveActed(err) || !first {
		w.cause = err
		p, lookErr := w.ask(ctx, opLookUp, prepareWithin, Gateway.LookUp)
		switch {
		case lookErr == nil && p.State != Held:
			return w.learn(ctx, p)
		case lookErr != nil || fault.MayHaveActed(err) || !refusedFor(err):
			return nil //nolint:nilerr // it isn't known
		}
	}
	markErr := w.update(ctx, func(e *Entry) error {
		a := e.last()
		if a.State == AttemptCapturing && refusedFor(err) {
			a.Captures++
		}
		a.State = AttemptHeld
		return nil
	})
	if markErr != nil {
		return w.unsure(causes{err, markErr})
	}
	w.committing.Store(false)
	return err
}
