package payment

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// When an order is looked after that nobody calls for.
const (
	firstLook      = 30 * time.Second // after a step whose end isn't known; doubled each time
	longestLook    = time.Hour
	actionLook     = 10 * time.Minute // while the customer has something to do
	abandoned      = time.Hour        // after which what was prepared and not committed is fenced
	holdWarning    = 24 * time.Hour
	unsettledFrom  = time.Hour          // from when on what isn't known is reported
	processingLong = 7 * 24 * time.Hour // a bank debit takes days
)

// due is when an entry is to be looked after next; zero where it is at its end.
func (c *Client) due(e *Entry) time.Time {
	now := c.rules.Now()
	look := min(firstLook<<min(e.Rounds, 10), longestLook)
	at := c.dueAt(e, now, now.Add(look))
	if !at.IsZero() && at.Before(now.Add(firstLook)) { // what could not be done comes again, and not at once
		at = now.Add(look)
	}
	return at
}

func (c *Client) dueAt(e *Entry, now, look time.Time) time.Time {
	for _, r := range e.Refunds {
		if r.State == RefundPending || r.State == RefundUnknown {
			return look
		}
	}
	a := e.last()
	if a == nil {
		return time.Time{}
	}
	for _, o := range e.Attempts {
		if o.Number != a.Number && (o.State == AttemptHeld || o.State == AttemptProcessing) || !c.rules.KeepDuplicates && e.duplicate(&o) {
			return look
		}
	}
	if a.retryable() {
		return sooner(now.Add(actionLook<<min(e.Rounds, 6)), e.Order.Expires)
	}
	switch a.State {
	case AttemptNoted, AttemptCommitting, AttemptCapturing, AttemptVoiding, AttemptProcessing:
		return look
	case AttemptPrepared:
		if !a.Approval {
			return e.idleUntil(a)
		}
		return sooner(now.Add(actionLook<<min(e.Rounds, 6)), e.Order.Expires)
	case AttemptOpen:
		return sooner(now.Add(actionLook<<min(e.Rounds, 6)), e.Order.Expires)
	case AttemptHeld:
		if warn := a.HeldUntil.Add(-holdWarning); !a.HeldUntil.IsZero() && warn.After(now) {
			return warn
		}
		return now.Add(longestLook)
	default:
		return time.Time{}
	}
}

func sooner(a, b time.Time) time.Time {
	if b.IsZero() || a.Before(b) {
		return a
	}
	return b
}

// Reconcile looks after orders until ctx ends, every so often and at once: it
// asks the providers how what isn't known has ended, commits what the customer
// has approved, and fences what nobody wants any more. A commit that got lost is
// sent again within an hour; later the payment is fenced, but for a provider that
// can't (PayPal), where it is sent again as long as the provider has it. Any number of processes may
// do so. Its error is that of wrong arguments: what fails comes again, and is
// reported to the handler as [Unsettled] when it has lasted an hour.
func (c *Client) Reconcile(ctx context.Context, every time.Duration) error {
	if every <= 0 {
		return invalid("every", "must be positive")
	}
	for {
		if _, err := c.ReconcileOnce(ctx); err != nil && ctx.Err() == nil && c.handler != nil {
			_ = c.handler(ctx, Event{Type: JournalDown, Err: err}) // it comes again
		}
		select { // spread, so that many processes don't ask at once
		case <-time.After(every/2 + rand.N(every)): //nolint:gosec // no secret
		case <-ctx.Done():
			return nil
		}
	}
}

// What one round reads of the journal, and works on, at once.
const (
	reconciledAtOnce     = 100
	reconciledInParallel = 8
)

// ReconcileOnce is one round of Reconcile, for a scheduler of one's own: it looks
// after all orders that are due and answers how many those were.
func (c *Client) ReconcileOnce(ctx context.Context) (int, error) {
	if err := c.begin(); err != nil {
		return 0, err
	}
	defer c.running.Done()
	start, n := c.rules.Now(), 0
	for ctx.Err() == nil {
		keys, err := c.dueBy(ctx, start)
		if err != nil || len(keys) == 0 {
			return n, err
		}
		done := c.lookAfterAll(ctx, keys)
		if n += done; done == 0 { // others work on all of them
			return n, nil
		}
	}
	return n, nil
}

func (c *Client) dueBy(ctx context.Context, until time.Time) ([]Key, error) {
	ctx, cancel := context.WithTimeout(ctx, recordWithin)
	defer cancel()
	return c.book.Due(ctx, until, reconciledAtOnce)
}

// lookAfterAll looks after some orders at once, so that a provider that hangs
// doesn't hold up the others' orders, and says of how many it could.
func (c *Client) lookAfterAll(ctx context.Context, keys []Key) int {
	var done atomic.Int64
	var all sync.WaitGroup
	var panicked atomic.Value // raised again here, where the caller can see it
	free := make(chan struct{}, reconciledInParallel)
	for _, k := range keys {
		free <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		all.Go(func() {
			defer func() { <-free }()
			defer func() {
				if p := recover(); p != nil {
					panicked.CompareAndSwap(nil, fmt.Sprint(p))
				}
			}()
			if c.lookAfter(ctx, k) {
				done.Add(1)
			}
		})
	}
	all.Wait()
	if p := panicked.Load(); p != nil {
		panic(p)
	}
	return int(done.Load())
}

// lookAfter settles one order, unless somebody else works on it.
func (c *Client) lookAfter(ctx context.Context, k Key) bool {
	w := &work{c: c, caller: ctx, key: k}
	ctx = context.WithoutCancel(ctx)
	err := w.tryClaim(ctx, func(e *Entry) error {
		if e.Due.IsZero() || e.Due.After(c.rules.Now()) {
			return errNotDue
		}
		e.Rounds++
		return mustExist(e)
	})
	if err != nil {
		return false
	}
	defer w.release(ctx)
	_, err = w.resume(ctx)
	if err == nil {
		err = w.tidy(ctx)
	}
	w.report(ctx, err)
	return true
}

// idleUntil is when an attempt that is prepared, and that nobody commits, is fenced.
func (e *Entry) idleUntil(a *AttemptRecord) time.Time {
	if a.Started {
		return e.Order.Expires
	}
	return a.Began.Add(abandoned)
}

var errNotDue = errors.New("payment: not due")

// tidy fences what was prepared and never committed.
func (w *work) tidy(ctx context.Context) error {
	a := w.e.last()
	if a == nil || a.State != AttemptPrepared || a.Approval || w.c.rules.Now().Before(w.e.idleUntil(a)) {
		return nil
	}
	return w.fence(ctx, AttemptFenced, "nobody committed it")
}

// report tells the handler of what doesn't come to an end, and of holds that do.
func (w *work) report(ctx context.Context, cause error) {
	a := w.e.last()
	if a == nil || w.c.handler == nil {
		return
	}
	now := w.c.rules.Now()
	event := Event{Tenant: w.key.Tenant, Order: w.key.Order, Provider: a.Provider, Result: w.e.Result()}
	switch {
	case a.State == AttemptHeld && !a.HeldUntil.IsZero() && !now.Before(a.HeldUntil.Add(-holdWarning)):
		event.Type = HoldEnding
	case w.unsettled(a, cause, now):
		event.Type = Unsettled
	default:
		return
	}
	_ = w.c.handler(ctx, event) // it comes again
}

// unsettled reports whether something has lasted for too long.
func (w *work) unsettled(a *AttemptRecord, cause error, now time.Time) bool {
	since := now.Sub(a.Began)
	failed := cause != nil && !errors.Is(cause, errLeaseLost)
	return since >= unsettledFrom && (a.State.doubtful() || failed || w.unrecorded || w.openRefund(now)) ||
		since >= processingLong && a.State == AttemptProcessing
}

// openRefund reports whether a refund's end has been unknown for long.
func (w *work) openRefund(now time.Time) bool {
	for _, r := range w.e.Refunds {
		if r.State == RefundUnknown && now.Sub(r.Began) >= unsettledFrom {
			return true
		}
	}
	return false
}
