package email

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// Receipts remembers which mail an idempotency key stood for, and what became
// of it. Keys are opaque, and apart for each tenant. A Client with one notes the
// key before the first attempt.
type Receipts interface {
	// Begin notes a key until then, and that its mail is being sent, unless the key
	// is known: then it answers what is known and notes nothing. A key whose mail
	// has been on its way since before stale is taken over by an equal hash, and
	// answered as known with Abandoned.
	Begin(ctx context.Context, key string, hash [32]byte, now, stale, until time.Time) (Known, error)
	// End keeps the receipt.
	End(ctx context.Context, key string, r *Receipt) error
	// Drop forgets the key: its mail was not sent.
	Drop(ctx context.Context, key string) error
}

// Known is what a key stands for.
type Known struct {
	// Known: the key was there.
	Known bool
	Hash  [32]byte
	// Receipt is the first one, nil while the mail is on its way.
	Receipt *Receipt
	// Abandoned: whoever sent it has not said how it ended, for long.
	Abandoned bool
}

// WithReceipts makes equal idempotency keys safe between calls and processes,
// for the given time, 24 hours where it is zero: the same mail under the same key
// gets the first receipt, another one is fault.Conflict. Without it a key covers
// one call of Send. A store that can't be asked is fault.Unavailable, and nothing
// is sent; one that fails after the mail was sent doesn't make that a failure.
func WithReceipts(r Receipts, keep time.Duration) Option {
	return func(c *settings) {
		c.receipts, c.keep = r, keep
		if keep == 0 {
			c.keep = 24 * time.Hour
		}
	}
}

// The causes where a key is known.
var (
	// ErrKeyReused: the idempotency key was used for another mail.
	ErrKeyReused = errors.New("email: the idempotency key was used for another mail")
	// ErrInProgress: another call is sending the mail of this key.
	ErrInProgress = errors.New("email: the mail of this idempotency key is being sent")
)

const (
	inProgressWait = time.Second           // for another call's receipt
	inProgressPoll = 50 * time.Millisecond // between two looks
	abandonedAfter = 5 * time.Minute       // more than any send takes
	recordWithin   = 5 * time.Second       // to note how it ended, whatever is left of the caller's time
)

// keyed sends under the message's idempotency key.
func (c *Client) keyed(ctx context.Context, m *Message, send func(context.Context, *Message) (*Receipt, error)) (*Receipt, error) {
	key := digest(resilience.Tenant(ctx), m.IdempotencyKey)
	first, err := c.beginKey(ctx, key, m)
	if first != nil || err != nil {
		return first, err
	}
	r, err := send(ctx, m)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	switch { // whatever the store says: a mail that was sent was sent
	case err == nil:
		_ = c.receipts.End(ctx, key, r)
	case m.AtMostOnce && fault.MayHaveActed(err):
		_ = c.receipts.End(ctx, key, unsettled(m))
	default:
		_ = c.receipts.Drop(ctx, key)
	}
	return r, err
}

// unsettled stands in a store for the receipt of a mail that may have gone, and
// must not go twice. No caller gets it.
func unsettled(m *Message) *Receipt { return &Receipt{ID: m.ID, Status: statusUnsettled} }

const statusUnsettled Status = "unsettled"

// beginKey answers with the first receipt where there is one.
func (c *Client) beginKey(ctx context.Context, key string, m *Message) (*Receipt, error) {
	hash, err := m.hash()
	if err != nil {
		return nil, err
	}
	for start := time.Now(); ; {
		now := time.Now()
		known, err := c.receipts.Begin(ctx, key, hash, now, now.Add(-abandonedAfter), now.Add(c.keep))
		switch {
		case err != nil:
			return nil, fault.New(fault.Unavailable, fmt.Errorf("email: note the idempotency key: %w", err))
		case !known.Known:
			return nil, nil //nolint:nilnil // the key is new: go on
		case known.Hash != hash:
			return nil, fault.New(fault.Conflict, ErrKeyReused)
		case known.Receipt != nil && known.Receipt.Status == statusUnsettled:
			return nil, fault.New(fault.Uncertain, errUnsettled)
		case known.Receipt != nil:
			return known.Receipt, nil
		case known.Abandoned && m.AtMostOnce:
			_ = c.receipts.End(ctx, key, unsettled(m)) // until its sender says otherwise
			return nil, fault.New(fault.Uncertain, errUnsettled)
		case known.Abandoned:
			return nil, nil //nolint:nilnil // it may go twice rather than not at all
		case now.Sub(start) >= inProgressWait:
			return nil, fault.New(fault.Conflict, ErrInProgress)
		}
		select {
		case <-time.After(inProgressPoll):
		case <-ctx.Done():
			return nil, fault.New(fault.Canceled, ctx.Err())
		}
	}
}

// hash is that of what the reader gets; the id and the times may differ between
// two calls for the same mail.
func (m *Message) hash() ([32]byte, error) {
	m, err := m.loaded(MaxSize)
	if err != nil {
		return [32]byte{}, err
	}
	c := *m
	c.ID, c.Expires, c.SendAt, c.Priority = "", time.Time{}, time.Time{}, 0
	data, err := json.Marshal(&c)
	if err != nil {
		return [32]byte{}, fault.New(fault.Invalid, fmt.Errorf("email: write the mail: %w", err))
	}
	return sha256.Sum256(data), nil
}

// MemoryReceipts are Receipts of one process, for tests and for services that
// have but one. The zero value is ready.
type MemoryReceipts struct {
	mu    sync.Mutex
	notes map[string]note
}

type note struct {
	hash         [32]byte
	began, until time.Time
	receipt      *Receipt
}

// Begin notes a key, see [Receipts].
func (r *MemoryReceipts) Begin(_ context.Context, key string, hash [32]byte, now, stale, until time.Time) (Known, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.notes == nil {
		r.notes = map[string]note{}
	}
	n, ok := r.notes[key]
	if !ok || !now.Before(n.until) {
		r.sweep(now)
		r.notes[key] = note{hash: hash, began: now, until: until}
		return Known{}, nil
	}
	known := Known{Known: true, Hash: n.hash, Receipt: n.receipt.clone()}
	if n.receipt == nil && n.hash == hash && n.began.Before(stale) {
		known.Abandoned = true
		n.began = now
		r.notes[key] = n
	}
	return known, nil
}

// sweep forgets what has run out, now and then.
func (r *MemoryReceipts) sweep(now time.Time) {
	if len(r.notes)%1024 != 0 {
		return
	}
	for k, n := range r.notes {
		if !now.Before(n.until) {
			delete(r.notes, k)
		}
	}
}

// End keeps the receipt, see [Receipts].
func (r *MemoryReceipts) End(_ context.Context, key string, receipt *Receipt) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n, ok := r.notes[key]; ok {
		n.receipt = receipt.clone()
		r.notes[key] = n
	}
	return nil
}

// Drop forgets the key, see [Receipts].
func (r *MemoryReceipts) Drop(_ context.Context, key string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.notes, key)
	return nil
}
