package matrix_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

// book is a journal with the flaw of a cell: before the request that is hit is
// noted, or after its answer.
type book struct {
	payment.Journal

	c        cell
	pull     func()
	returned chan string // see link

	mu     sync.Mutex
	on     bool
	done   bool // the flaw has come
	failed bool // and lasts
}

func (b *book) set(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.on, b.failed = on, false
}

var errJournal = errors.New("the journal's disk is full")

const slow = 100 * time.Millisecond

func (b *book) Update(ctx context.Context, k payment.Key, change func(context.Context, *payment.Entry) error) (*payment.Entry, error) {
	if !b.victim(ctx, k, change) {
		return b.Journal.Update(ctx, k, change)
	}
	switch b.c.Flaw {
	case journalDown:
		return nil, fault.New(fault.Unavailable, errJournal)
	case journalLost:
		return nil, fault.New(fault.Uncertain, errJournal)
	case journalKept:
		if _, err := b.Journal.Update(ctx, k, change); err != nil {
			return nil, err
		}
		return nil, fault.New(fault.Uncertain, errJournal)
	case journalSlow:
		time.Sleep(slow)
	default:
		b.pull()
	}
	return b.Journal.Update(ctx, k, change)
}

func (b *book) Entry(ctx context.Context, k payment.Key) (*payment.Entry, error) {
	b.mu.Lock()
	down := b.failed && b.c.Flaw == journalDown
	b.mu.Unlock()
	if down {
		return nil, fault.New(fault.Unavailable, errJournal)
	}
	return b.Journal.Entry(ctx, k)
}

// Due leaves out the orders of other cells in the same database.
func (b *book) Due(ctx context.Context, until time.Time, n int) ([]payment.Key, error) {
	all, err := b.Journal.Due(ctx, until, 100*n)
	return slices.DeleteFunc(all, func(k payment.Key) bool { return k.Order != b.c.orderID() }), err
}

// victim reports whether the flaw hits this change.
func (b *book) victim(ctx context.Context, k payment.Key, change func(context.Context, *payment.Entry) error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.on || b.c.Step != inNote && b.c.Step != answered {
		return false
	}
	if b.done {
		return b.failed
	}
	if b.c.Step == answered {
		select {
		case <-b.returned:
		default:
			return false
		}
	} else if !b.notes(ctx, k, change) {
		return false
	}
	b.done, b.failed = true, b.c.Extent == lasting
	return true
}

// notes tries a change out, to see whether it is the note before the request
// that is hit.
func (b *book) notes(ctx context.Context, k payment.Key, change func(context.Context, *payment.Entry) error) bool {
	was, err := b.Journal.Entry(ctx, k)
	if err != nil {
		was = &payment.Entry{Key: k}
	}
	is := was.Clone()
	if change(ctx, is) != nil {
		return false
	}
	return b.c.noted(was, is)
}

func (c cell) noted(was, is *payment.Entry) bool {
	state := func(e *payment.Entry) payment.AttemptState {
		if n := len(e.Attempts); n > 0 {
			return e.Attempts[n-1].State
		}
		return ""
	}
	if n := len(is.Attempts); c.Hit == toPrepare {
		return n > len(was.Attempts) && is.Attempts[n-1].Provider == c.target()
	} else if n == 0 || is.Attempts[n-1].Provider != c.target() {
		return false
	}
	begins := map[request]payment.AttemptState{
		toCommit: payment.AttemptCommitting, toCapture: payment.AttemptCapturing, toVoid: payment.AttemptVoiding,
	}
	switch {
	case c.Hit == toRefund:
		return len(is.Refunds) > len(was.Refunds)
	case c.Op == resume:
		return state(is) == begins[c.Hit] && is.Lease.Writes > was.Lease.Writes
	}
	return state(is) == begins[c.Hit] && state(was) != begins[c.Hit]
}
