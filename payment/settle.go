package payment

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// Resume says how an order stands, for the page that the customer comes back to,
// for polling, after an error, after a crash. It asks the provider, under the
// order's lease, and believes nothing else; what the customer has approved is
// committed, what was begun is brought to its end. An order that isn't there is
// fault.NotFound; one that another call works on [ErrInProgress], with a result.
func (c *Client) Resume(ctx context.Context, orderID string) (*Result, error) {
	w, err := c.work(ctx, orderID)
	if err != nil {
		return nil, err
	}
	return w.leased(ctx, mustExist, func(ctx context.Context) (*Result, error) {
		r, err := w.resume(ctx)
		return w.overtaken(ctx, r, err)
	})
}

// resume settles what can be settled, and says how the order stands.
func (w *work) resume(ctx context.Context) (*Result, error) {
	if w.e.last() != nil {
		if err := w.settle(ctx); err != nil {
			return w.result(), err
		}
	}
	w.settleOthers(ctx)
	_ = w.settleRefunds(ctx) // what can't be said now comes again
	r := w.result()
	return r, w.because(r)
}

// settleOthers looks after attempts that aren't the newest and turned out not to be
// at their end: what they hold is let go.
func (w *work) settleOthers(ctx context.Context) {
	for i := range w.e.Attempts[:max(len(w.e.Attempts)-1, 0)] {
		if s := w.e.Attempts[i].State; s == AttemptProcessing || s == AttemptHeld {
			_ = w.settleOther(ctx, w.e.Attempts[i].Number) // it comes again
		}
	}
}

// settleOther looks an older attempt up, and voids what it holds.
func (w *work) settleOther(ctx context.Context, number int) error {
	w.number = number
	defer func() { w.number = 0 }()
	p, err := w.ask(ctx, opLookUp, prepareWithin, Gateway.LookUp)
	if err == nil {
		err = w.learn(ctx, p)
	}
	if err == nil && w.of(w.e).State == AttemptHeld {
		if p, err = w.ask(ctx, w.c.moving(opVoid), w.c.commitWithin(), void); err == nil {
			err = w.learn(ctx, p)
		}
	}
	if err != nil {
		return err
	}
	return w.duplicates(ctx)
}

// resendWithin is how long after its beginning an attempt that was to be committed
// is committed once more; later it is rather fenced: nobody waits for it.
const resendWithin = time.Hour

// settle asks the provider how the newest attempt stands, and brings to its end
// what was begun.
func (w *work) settle(ctx context.Context) error {
	a := w.e.last()
	switch {
	case a.State == AttemptNoted: // its id was never learnt, so nobody can commit it
		return w.mark(ctx, AttemptFenced, "it was cut off")
	case a.State.Settled() && !a.retryable():
		return nil
	}
	p, err := w.ask(ctx, opLookUp, prepareWithin, Gateway.LookUp)
	switch {
	case err != nil:
		w.cause = err
		if a.State.doubtful() {
			return nil // Unknown says so
		}
		return err
	case a.State == AttemptCommitting && p.State == Prepared:
		return w.uncommitted(ctx)
	case (a.State == AttemptCapturing || a.State == AttemptVoiding) && p.State == Held:
		return w.takeHeld(ctx, false)
	case a.State == AttemptPrepared && p.State == Prepared && p.Action == nil && a.Approval && w.commits(a):
		if err := w.matches(ctx, p); err != nil {
			return err
		}
		return w.commit(ctx)
	}
	asItWas := a.State == AttemptPrepared && p.State == Prepared && !a.Approval // nobody has committed it
	if !asItWas {
		if err := w.learn(ctx, p); err != nil {
			return err
		}
	}
	open := p.State == Prepared || p.State == Actionable || w.e.last().retryable()
	switch {
	case open && w.e.Voided:
		return w.fence(ctx, AttemptEnded, "voided")
	case open && !asItWas && !w.e.Order.Expires.After(w.c.rules.Now()):
		return w.fence(ctx, AttemptEnded, "expired")
	}
	return w.duplicates(ctx)
}

// commits reports whether this work may commit what the customer has approved.
func (w *work) commits(a *AttemptRecord) bool { return w.mode == modePay && (!a.Started || w.finishes) }

// retryable: it was declined, and the customer may yet pay it with another card,
// as in Stripe's form, whose payment goes back to where it was.
func (a *AttemptRecord) retryable() bool { return a.State == AttemptDeclined && a.Opened }

// uncommitted is an attempt that was to be committed, and wasn't when it was
// looked up. The commit may still be on its way, from us or from a process that
// sleeps.
func (w *work) uncommitted(ctx context.Context) error {
	if w.mode == modeStart {
		return nil
	}
	if w.mode == modeStop || w.c.rules.Now().Sub(w.e.last().Began) > resendWithin {
		p, err := w.ask(ctx, opFence, prepareWithin, Gateway.Fence)
		switch {
		case err == nil && p.State == Ended:
			return w.mark(ctx, AttemptFenced, "it was cut off")
		case err == nil && p.State != Prepared:
			return w.learn(ctx, p)
		case err != nil && !errors.Is(err, fault.Unsupported):
			w.cause = err
			return nil
		}
		if w.mode == modeStop { // it can't be fenced, and must not be paid
			w.cause = err
			return nil
		}
	}
	return w.resend(ctx)
}

// duplicate reports whether an attempt took money beside the first, and it wasn't
// given back.
func (e *Entry) duplicate(a *AttemptRecord) bool {
	first := e.paid()
	if a.State != AttemptPaid || first.Number == a.Number {
		return false
	}
	f := e.refund(duplicateID(a)) // one that failed was told, and is somebody's to look at
	return e.reserved(a) < a.Captured.Minor && (f == nil || f.State != RefundFailed)
}

func duplicateID(a *AttemptRecord) string { return fmt.Sprintf("duplicate-%d", a.Number) }

// duplicates gives back what a second attempt of the order took.
func (w *work) duplicates(ctx context.Context) error {
	first := w.e.paid()
	if first == nil || w.c.rules.KeepDuplicates {
		return nil
	}
	for i := range w.e.Attempts {
		a := &w.e.Attempts[i]
		if !w.e.duplicate(a) {
			continue
		}
		_, err := w.c.refundOf(ctx, w.key, a.Number, duplicateID(a), Money{})
		if err != nil && !errors.Is(err, fault.Conflict) {
			return err
		}
		e, err := w.c.entry(ctx, w.key)
		if err != nil {
			return err
		}
		w.e = e
	}
	return nil
}
