package payment

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// work is what one call does on one order, under a lease.
type work struct {
	c      *Client
	caller context.Context //nolint:containedctx // that of the caller, who may go while the work goes on
	key    Key
	lease  Lease
	e      *Entry
	// number is the attempt in work, the newest where it is zero.
	number int
	// hint is the webhook that the work is for.
	hint *Hint
	// fresh is how the newest attempt stands at its provider, where this call has
	// learnt it.
	fresh *Payment
	// unrecorded: the journal could not be told how a step ended.
	unrecorded bool
	// committing: money may move from here on, whoever has gone.
	committing atomic.Bool
	// cause is why something isn't known.
	cause    error
	skipped  []Skipped
	tried    map[string]bool // providers that this call has tried
	failures []error         // why they were given up
	others   bool            // another candidate is left
	order    *Order          // that of Charge and Start
	cant     error           // why no provider can take it
	mode     mode
	finishes bool // what was only started is committed too
	goesOn   bool // what is fenced is so for another attempt, or with an error
	doubted  bool // what the provider says isn't believed
}

// mode says what may be done to an attempt that is neither paid nor fenced.
type mode uint8

const (
	modePay   mode = iota // it is committed
	modeStart             // it is left as it is
	modeStop              // it is fenced
)

// errGone is why a step was not begun.
var errGone = errors.New("payment: the caller gave up before anything moved")

// detached runs do in a goroutine of its own, since what has begun must end and be
// recorded, and returns when the caller gives up. A panic is raised again in the
// caller's goroutine, where he is still there.
func detached[R any](ctx context.Context, w *work, do func(ctx context.Context) (R, error), left func(*Result, error) (R, error)) (R, error) {
	type outcome struct {
		result R
		err    error
		panic  any
	}
	var none R
	if err := w.c.begin(); err != nil {
		return none, err
	}
	done := make(chan outcome, 1)
	go func() {
		defer w.c.running.Done()
		out := outcome{panic: errGoexit}
		defer func() { done <- out }()
		defer func() {
			if p := recover(); p != nil {
				out.panic = p
			}
		}()
		out.result, out.err = do(context.WithoutCancel(ctx))
		out.panic = nil
	}()
	select {
	case out := <-done:
		if out.panic != nil {
			panic(out.panic)
		}
		return out.result, out.err
	case <-ctx.Done():
		return left(w.left(ctx.Err()))
	}
}

// leased runs do detached, once the lease on the order is had; without it the
// answer is how the order stands.
func (w *work) leased(ctx context.Context, admit func(e *Entry) error, do func(ctx context.Context) (*Result, error)) (*Result, error) {
	return detached(ctx, w, func(ctx context.Context) (*Result, error) {
		if err := w.claim(ctx, w.c.rules.Join, admit); err != nil {
			return w.joined(ctx, err)
		}
		defer w.release(ctx)
		return do(ctx)
	}, func(r *Result, err error) (*Result, error) { return r, err })
}

var errGoexit = errors.New("payment: a Gateway ended its goroutine")

// left is what a caller is told who goes while the work goes on.
func (w *work) left(cause error) (*Result, error) {
	if !w.committing.Load() {
		return nil, &fault.Error{Kind: fault.Canceled, Op: opPrepare.Name, Err: cause}
	}
	return &Result{Tenant: w.key.Tenant, Order: w.key.Order, Status: Unknown},
		&fault.Error{Kind: fault.Uncertain, Op: opCommit.Name, Err: cause}
}

// goOn notes that money may move from here on, unless the caller has gone.
func (w *work) goOn() error {
	w.committing.Store(true) // first: he may go at any moment
	if err := w.caller.Err(); err != nil {
		w.committing.Store(w.e.last().State.moving())
		return fault.New(fault.Canceled, causes{errGone, err})
	}
	return nil
}

// claim waits for the lease on the entry, and fails with [ErrInProgress] where
// another call has it for too long. prepare may change the entry, or refuse, with
// the lease in hand.
func (w *work) claim(ctx context.Context, wait time.Duration, prepare func(e *Entry) error) error {
	until := time.Now().Add(wait)
	if deadline, ok := w.caller.Deadline(); ok { // he is told before it ends
		until = sooner(until, deadline.Add(-20*time.Millisecond))
	}
	err := w.tryClaim(ctx, prepare)
	for pause := 20 * time.Millisecond; errors.Is(err, ErrInProgress); pause = min(2*pause, 500*time.Millisecond) {
		w.committing.Store(true) // the other call may move money
		if left := time.Until(until); left < pause {
			return err
		}
		select {
		case <-time.After(pause):
		case <-w.caller.Done():
			return err
		}
		if e, readErr := w.c.entry(ctx, w.key); readErr == nil && w.held(e) { // who waits reads, and locks nothing
			continue
		}
		err = w.tryClaim(ctx, prepare)
	}
	return err
}

// tryClaim takes the lease where it is free. Nothing was sent where it fails.
func (w *work) tryClaim(ctx context.Context, prepare func(e *Entry) error) error {
	owner := rand.Text()
	ctx, cancel := context.WithTimeout(ctx, recordWithin) // who sleeps with the entry locked must not hold up all others
	defer cancel()
	e, err := w.c.book.Update(ctx, w.key, func(_ context.Context, e *Entry) error {
		if w.held(e) {
			return inProgress()
		}
		now := w.c.rules.Now()
		if e.Version == 0 {
			e.Created = now
		}
		if err := prepare(e); err != nil {
			return err
		}
		e.Lease = Lease{Token: e.Lease.Token + 1, Owner: owner, Until: now.Add(w.c.rules.Lease), Writes: e.Lease.Writes}
		e.Due, e.Updated = e.Lease.Until, now
		return nil
	})
	if errors.Is(err, fault.Uncertain) { // it is found again by its owner
		e, err = w.c.entry(context.WithoutCancel(ctx), w.key)
		if err == nil && e.Lease.Owner != owner || errors.Is(err, fault.NotFound) {
			err = errLost
		}
	}
	switch {
	case errors.Is(err, ErrInProgress), errors.Is(err, errNotDue):
		return err
	case err != nil:
		return notSent(err)
	}
	w.e, w.lease = e, e.Lease
	last := e.last()
	w.committing.Store(last != nil && last.State.moving())
	if e.Voided {
		w.mode = modeStop
	}
	return nil
}

var errLost = fault.New(fault.Unavailable, errors.New("payment: the journal lost what it was told"))

// ours reports whether the lease is still this work's. The owner tells it from one
// of the same number, after a journal was restored.
func (w *work) ours(e *Entry) bool {
	return e.Lease.Token == w.lease.Token && e.Lease.Owner == w.lease.Owner
}

func (w *work) held(e *Entry) bool {
	return e.Lease.Until.After(w.c.rules.Now())
}

func inProgress() error { return fault.New(fault.Conflict, ErrInProgress) }

// update changes the entry under the lease, and tells the handler what that means,
// in the same transaction. Where the journal can't say whether it was stored, it
// is asked.
func (w *work) update(ctx context.Context, change func(e *Entry) error) error {
	ctx, cancel := context.WithTimeout(ctx, recordWithin)
	defer cancel()
	writes := w.e.Lease.Writes + 1
	e, err := w.c.book.Update(ctx, w.key, func(ctx context.Context, e *Entry) error {
		if !w.ours(e) {
			return errLeaseLost
		}
		if e.Lease.Writes == writes { // an uncertain one had been stored after all
			return nil
		}
		now := w.c.rules.Now()
		was := e.Clone()
		if err := change(e); err != nil {
			return err
		}
		e.Lease.Until, e.Lease.Writes, e.Updated = now.Add(w.c.rules.Lease), writes, now
		e.Due = e.Lease.Until
		return w.c.tell(ctx, w.hint, w.worthTelling(changes(was, e)))
	})
	if errors.Is(err, fault.Uncertain) {
		e, err = w.reread(context.WithoutCancel(ctx), writes)
	}
	if err != nil {
		return err
	}
	w.e = e
	return nil
}

// reread asks whether the entry was stored.
func (w *work) reread(ctx context.Context, writes int64) (*Entry, error) {
	e, err := w.c.entry(ctx, w.key)
	switch {
	case err != nil:
		return nil, fault.New(fault.Uncertain, err)
	case !w.ours(e):
		return nil, errLeaseLost
	case e.Lease.Writes != writes:
		return nil, errLost
	}
	return e, nil
}

// entry reads an entry, within the time that the journal has for everything.
func (c *Client) entry(ctx context.Context, k Key) (*Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, recordWithin)
	defer cancel()
	return c.book.Entry(ctx, k)
}

// tell hands events to the handler.
func (c *Client) tell(ctx context.Context, hint *Hint, events []Event) error {
	if c.handler == nil {
		return nil
	}
	for _, e := range events {
		e.Hint = hint
		if err := c.handler(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// worthTelling leaves out that an attempt was fenced for another one, or that its
// caller is told so by an error: the order isn't canceled by that.
func (w *work) worthTelling(events []Event) []Event {
	if !w.goesOn {
		return events
	}
	return slices.DeleteFunc(events, func(e Event) bool { return e.Type == OrderChanged && e.Result.Status == Canceled })
}

// release ends the lease, and says when the entry is next looked after.
func (w *work) release(ctx context.Context) {
	if w.e == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, recordWithin)
	defer cancel()
	_, _ = w.c.book.Update(ctx, w.key, func(_ context.Context, e *Entry) error { // else it runs out
		if !w.ours(e) {
			return errLeaseLost
		}
		e.Lease.Until = time.Time{}
		e.Due = w.c.due(e)
		return nil
	})
}

// result is what the caller is told.
func (w *work) result() *Result {
	r := w.e.Result()
	r.Skipped, r.Recorded = w.skipped, !w.unrecorded
	if w.doubted {
		r.Status = Unknown
	}
	if w.fresh != nil && r.Status == NeedsAction && w.fresh.Action != nil {
		action := *w.fresh.Action
		if action.Provider == "" {
			action.Provider = r.Provider
		}
		r.Action = &action
	}
	return r
}

// known is the result of an entry that is read alone.
func (w *work) known(e *Entry) *Result {
	w.e = e
	return w.result()
}

// of is the attempt in work.
func (w *work) of(e *Entry) *AttemptRecord {
	if w.number > 0 {
		return e.attempt(w.number)
	}
	return e.last()
}

// gatewayAttempt is what a Gateway gets of an attempt.
func (e *Entry) gatewayAttempt(a *AttemptRecord) *Attempt {
	order := e.Order.clone()
	order.Methods = a.Methods
	return &Attempt{
		Tenant: e.Key.Tenant, Order: &order, Number: a.Number, Identity: a.Identity, Provider: a.Provider,
		Method: a.Method, Payee: byPath(order.Payees, a.Provider), PaymentID: a.PaymentID, ChargeID: a.ChargeID,
		AuthorizationID: a.AuthorizationID, Captures: a.Captures, Began: a.Began,
	}
}

// ask calls a method of the attempt's provider, within a time of its own.
func (w *work) ask(ctx context.Context, op resilience.Op, within time.Duration, method func(Gateway, context.Context, *Attempt) (*Payment, error)) (*Payment, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if op.Safety != fault.Read && !w.c.rules.Now().Before(w.e.Lease.Until) { // the machine slept
		return nil, errLeaseLost
	}
	a := w.e.gatewayAttempt(w.of(w.e))
	if a.PaymentID == "" && w.hint != nil {
		a.PaymentID = w.hint.PaymentID // the prepare's answer was lost
	}
	p, err := pinned(ctx, w.c, a.Provider, op, method, a)
	if err != nil && w.caller.Err() == nil && errors.Is(err, fault.Canceled) { // our own time was up
		f, _ := fault.As(err)
		c := *f
		c.Kind = fault.Uncertain
		return p, &c
	}
	return p, err
}
