package payment

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// notSent is the error where the journal could not be told before a step: nothing
// was sent.
func notSent(err error) error {
	switch fault.KindOf(err) {
	case fault.Conflict, fault.NotFound, fault.Invalid:
		return err
	default:
	}
	return causes{errJournal, err}.of(fault.Unavailable)
}

var errJournal = errors.New("payment: this call sent nothing, since the journal can't be written")

// prepare makes the newest attempt known to its provider. It has been noted.
func (w *work) prepare(ctx context.Context) error {
	p, err := w.ask(ctx, opPrepare, w.patience(), Gateway.Prepare)
	if err == nil {
		return w.learn(ctx, p)
	}
	return w.failed(ctx, prepareStep, err)
}

// patience is how long a provider may take to prepare: while another is left, no
// more than lets that one have its turn.
func (w *work) patience() time.Duration {
	within := prepareWithin
	if w.others {
		within = min(within, w.c.timeout)
		if deadline, ok := w.caller.Deadline(); ok {
			within = min(within, time.Until(deadline)/2)
		}
	}
	return within
}

// failed ends a step that provably moved nothing. Where another provider may try,
// the attempt is fenced by the note that keeps everybody from committing it; else
// it goes back to where it was, for the next call.
func (w *work) failed(ctx context.Context, s step, err error) error {
	another := w.others && after(s, err, w.c.rules.FailoverOnDenied) == tryAnother
	state := AttemptFenced
	switch {
	case s == prepareStep && errors.Is(err, fault.Conflict): // a key that was used for something else stays so
		return err
	case s == commitStep && !another:
		state = AttemptPrepared
	}
	w.goesOn = true
	w.failures = append(w.failures, err)
	switch markErr := w.mark(ctx, state, ""); {
	case markErr == nil:
	case s == commitStep || errors.Is(markErr, errLeaseLost): // whoever looks after it may commit it yet
		return w.unsure(causes{err, markErr})
	default:
		w.failures = append(w.failures, markErr)
		return w.nothingDone()
	}
	if another {
		return errAnother
	}
	return w.nothingDone()
}

// unsure is the error where others may yet do what this call did not: the journal
// says that it was to be done.
func (w *work) unsure(cause error) error {
	w.doubted = true
	return &fault.Error{Kind: fault.Uncertain, Op: "payment.charge", Err: causes{cause}}
}

// nothingDone is the error of a call that moved nothing: why each provider failed.
func (w *work) nothingDone() error {
	w.committing.Store(false)
	last := w.failures[len(w.failures)-1]
	out := &fault.Error{Kind: fault.KindOf(last), Op: "payment.charge", Err: causes(w.failures)}
	if fault.MayHaveActed(last) { // a prepare, which moves nothing, and is fenced
		out.Kind = fault.Unavailable
	}
	if f, ok := fault.As(last); ok {
		out.Provider, out.Code, out.RequestID, out.RetryAfter = f.Provider, f.Code, f.RequestID, f.RetryAfter
	}
	return out
}

// mark notes a state that the provider hasn't told.
func (w *work) mark(ctx context.Context, state AttemptState, reason string) error {
	return w.update(ctx, func(e *Entry) error {
		a := w.of(e)
		a.State, a.Reason = state, cmp.Or(reason, a.Reason)
		if state == AttemptPrepared { // the right to commit was used by nobody
			a.Committer = 0
		}
		if state.Settled() {
			a.Settled = w.c.rules.Now()
		}
		return nil
	})
}

// commit notes that money may move, and moves it. Nothing is sent unless the note
// is known to be there.
func (w *work) commit(ctx context.Context) error {
	if err := w.goOn(); err != nil {
		return err
	}
	err := w.update(ctx, func(e *Entry) error {
		a := e.last()
		if w.fresh != nil {
			e.learn(a, w.fresh, w.c.rules.Now())
		}
		if a.State != AttemptPrepared {
			return errLeaseLost
		}
		a.State = AttemptCommitting
		a.Committer = cmp.Or(a.Committer, w.lease.Token)
		return nil
	})
	if errors.Is(err, fault.Uncertain) { // the note may be there
		return w.unsure(err)
	}
	if err != nil {
		w.committing.Store(false)
		return notSent(err)
	}
	return w.send(ctx)
}

// send commits an attempt that is noted as committing.
func (w *work) send(ctx context.Context) error {
	first := w.e.last().Committer == w.lease.Token && !w.e.last().Recommitted
	p, err := w.ask(ctx, w.c.moving(opCommit), w.c.commitWithin(), Gateway.Commit)
	switch {
	case err == nil:
		return w.learn(ctx, p)
	case first && errors.Is(err, fault.Conflict) && w.paidBefore(ctx):
		return w.mark(ctx, AttemptFenced, "an earlier attempt was paid")
	case first && after(commitStep, err, w.c.rules.FailoverOnDenied) != settle:
		// Nobody else has ever had the right to commit it, and we provably did not.
		return w.failed(ctx, commitStep, err)
	}
	w.cause = err
	return w.resolve(ctx)
}

// paidBefore reports whether an earlier attempt at the same provider was paid after
// all, as PayPal says by refusing a second payment of an invoice.
func (w *work) paidBefore(ctx context.Context) bool {
	last := w.e.last()
	for i := range last.Number - 1 {
		if a := w.e.Attempts[i]; a.Provider == last.Provider && a.PaymentID != "" {
			_ = w.settleOther(ctx, a.Number) // it isn't known then, as before
		}
	}
	w.fresh = nil
	return w.e.paid() != nil
}

// resolve finds out how a commit ended that may have moved money. It stays
// committing where that can't be learnt.
func (w *work) resolve(ctx context.Context) error {
	p, err := w.ask(ctx, opLookUp, prepareWithin, Gateway.LookUp)
	if err != nil {
		return nil //nolint:nilerr // it isn't known, as before
	}
	if p.State != Prepared {
		return w.learn(ctx, p)
	}
	if w.others { // the commit may still be on its way: a fence that holds decides
		if err := w.noteFencing(ctx); err != nil {
			return nil //nolint:nilerr // it isn't known, as before
		}
		p, err := w.ask(ctx, opFence, prepareWithin, Gateway.Fence)
		switch {
		case err == nil && p.State == Ended:
			w.failures, w.goesOn = append(w.failures, w.cause), true
			if err := w.mark(ctx, AttemptFenced, "it could not be committed"); err != nil {
				w.failures = append(w.failures, err)
				return w.nothingDone() // the provider won't commit it any more
			}
			return errAnother
		case err == nil:
			return w.learn(ctx, p)
		case !errors.Is(err, fault.Unsupported):
			return nil
		}
	}
	return w.resend(ctx)
}

// resend commits once more, with the same key, what was not committed when it was
// looked up. The provider's own object keeps it from being paid twice.
func (w *work) resend(ctx context.Context) error {
	if err := w.goOn(); err != nil {
		w.cause = err
		return nil //nolint:nilerr // it isn't known, as before
	}
	err := w.update(ctx, func(e *Entry) error {
		a := e.last()
		a.Recommitted = a.Recommitted || a.Committer != w.lease.Token
		return nil
	})
	if err != nil {
		w.cause = err
		return nil //nolint:nilerr // it isn't known, as before
	}
	p, err := w.ask(ctx, w.c.moving(opCommit), w.c.commitWithin(), Gateway.Commit)
	if err != nil {
		w.cause = err
		if p, err = w.ask(ctx, opLookUp, prepareWithin, Gateway.LookUp); err != nil || p.State == Prepared {
			return nil //nolint:nilerr // it isn't known, as before
		}
	}
	return w.learn(ctx, p)
}

// learn records how the attempt stands. What is true stays true where the
// journal can't be told; but a payment that the customer could complete is not
// handed out before it is recorded.
func (w *work) learn(ctx context.Context, p *Payment) error {
	if err := w.matches(ctx, p); err != nil {
		return err
	}
	w.fresh = p
	now := w.c.rules.Now()
	err := w.update(ctx, func(e *Entry) error {
		e.learn(w.of(e), p, now)
		if w.hint != nil && w.hint.Subject == AboutPayment { // it has had its effect
			e.see(w.hint.key(w.of(e).Provider))
		}
		return nil
	})
	if err == nil {
		return nil
	}
	if p.State == Prepared || p.State == Actionable {
		if w.of(w.e).State.moving() {
			return w.unsure(err)
		}
		return notSent(err)
	}
	w.unrecorded = true
	w.e = w.e.Clone()
	w.e.learn(w.of(w.e), p, now)
	return nil
}

// errMismatch is why a payment isn't believed.
var errMismatch = errors.New("payment: the provider's payment isn't the one that was asked for")

// matches refuses what isn't the payment that was asked for: that is never a
// success.
func (w *work) matches(ctx context.Context, p *Payment) error {
	a := w.of(w.e)
	amount := p.Amount == Money{} || p.Amount == w.e.Order.Amount
	ours := p.Reference.Order == "" || p.Reference.Order == w.key.Order && p.Reference.Tenant == w.key.Tenant && p.Reference.Attempt == a.Number
	if amount && ours && p.Live == a.Identity.Live {
		return nil
	}
	w.doubted = true
	event := Event{Type: Mismatch, Tenant: w.key.Tenant, Order: w.key.Order, Provider: a.Provider, Result: w.e.Result()}
	if w.c.handler != nil {
		_ = w.c.handler(ctx, event) // nothing was changed that could be undone
	}
	return &fault.Error{Kind: fault.Uncertain, Provider: a.Provider, Op: opLookUp.Name, Err: errMismatch}
}

// learn takes over how the payment stands at its provider. Money that was taken
// stays taken, whatever comes after it; what we have fenced off stays so unless
// money moved all the same.
func (e *Entry) learn(a *AttemptRecord, p *Payment, now time.Time) {
	a.PaymentID, a.ChargeID = cmp.Or(p.ID, a.PaymentID), cmp.Or(p.ChargeID, a.ChargeID)
	a.AuthorizationID = cmp.Or(p.AuthorizationID, a.AuthorizationID)
	known := e.refunds(a.Number, func(s RefundState) bool { return s != RefundFailed })
	a.Elsewhere = Money{max(0, p.Refunded.Minor-known), e.Order.Amount.Currency}
	if p.Saved != (Method{}) {
		a.Saved = p.Saved
	}
	moved := p.State == Paid || p.State == Held || p.State == Processing
	if a.State == AttemptPaid || a.State.Settled() && !moved {
		return
	}
	a.Approval, a.Decline, a.Reason, a.HeldUntil = false, p.Decline, p.Reason, p.HeldUntil
	switch p.State {
	case Prepared:
		a.State, a.Approval = AttemptPrepared, p.Action != nil
	case Actionable:
		a.State, a.Opened = AttemptOpen, true
	case Processing:
		a.State = AttemptProcessing
	case Held:
		a.State = AttemptHeld
	case Paid:
		a.State, a.Captured, a.PaidIn = AttemptPaid, p.Captured, e.Version+1
	case Refused:
		a.State = AttemptDeclined
	case Ended:
		a.State = AttemptEnded
		if a.Fencing {
			a.State = AttemptFenced
		}
	}
	a.Settled = time.Time{}
	if a.State == AttemptPaid || a.State.Settled() {
		a.Settled = now
	}
}

// noteFencing notes what an attempt is about to be fenced for.
func (w *work) noteFencing(ctx context.Context) error {
	return w.update(ctx, func(e *Entry) error {
		w.of(e).Fencing = true
		return nil
	})
}

// fence sees to it that the newest attempt can't move money any more, and notes
// it as to. Where the provider can't, the note is enough for one that is prepared,
// since nobody commits it against the journal; nothing else is.
func (w *work) fence(ctx context.Context, to AttemptState, reason string) error {
	if to == AttemptFenced {
		if err := w.noteFencing(ctx); err != nil {
			return notSent(err)
		}
	}
	p, err := w.ask(ctx, opFence, prepareWithin, Gateway.Fence)
	switch {
	case err == nil && p.State == Ended && w.e.last().retryable(): // declined it was, and stays
		return w.update(ctx, func(e *Entry) error {
			e.last().Opened = false
			return nil
		})
	case err == nil && p.State == Ended:
		return w.mark(ctx, to, reason)
	case err == nil && p.State != Prepared:
		return w.learn(ctx, p)
	case err != nil && !errors.Is(err, fault.Unsupported):
		return err
	case err != nil && w.e.last().State == AttemptPrepared: // the note is enough, if it is so
		if p, err = w.ask(ctx, opLookUp, prepareWithin, Gateway.LookUp); err != nil {
			return err
		}
		if p.State != Prepared {
			return w.learn(ctx, p)
		}
	case w.e.last().State != AttemptPrepared:
		return fault.New(fault.Conflict, errors.New("payment: the former attempt may still be paid, and this provider can't prevent it"))
	}
	return w.mark(ctx, to, reason)
}
