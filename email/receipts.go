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
//
// Who gets a key from Begin gets a token too, higher than all before it, and says
// with that how the mail ended. A sender that is slower than it was given time for
// may find its key in other hands: it can't take it from them, but that a mail of
// the key has gone is true whoever says so.
type Receipts interface {
	// Begin notes a key until then, and that its mail is being sent, unless the key
	// is known: then it answers what is known and notes nothing. A key whose mail
	// has been on its way since before stale is taken over by an equal hash, and
	// answered as known with Abandoned.
	Begin(ctx context.Context, key string, hash [32]byte, now, stale, until time.Time) (Known, error)
	// End keeps the receipt of who got that token for the key, or of who had it when
	// the key was taken over; nil says that nobody can tell whether the mail went, and
	// gives way to a receipt. The first receipt stays: End changes nothing where there
	// is one, nor where the key has run out or stands for something else by now.
	End(ctx context.Context, key string, token int64, r *Receipt) error
	// Drop forgets the key, whose mail was not sent by who got that token. It changes
	// nothing where another has the key, or has ended it; nor does it lose the receipt
	// of one from whom the key was taken over, which may still come.
	Drop(ctx context.Context, key string, token int64) error
}

// Known is what a key stands for.
type Known struct {
	// Known: the key was there.
	Known bool
	Hash  [32]byte
	// Token is that of the key's new holder: above zero where the key is new or
	// Abandoned.
	Token int64
	// Receipt is the first one, nil while the mail is on its way.
	Receipt *Receipt
	// Unsettled: the mail may have gone, and nobody can tell.
	Unsettled bool
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
	first, token, err := c.beginKey(ctx, key, m)
	if first != nil || err != nil {
		return first, err
	}
	r, err := send(ctx, m)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWithin)
	defer cancel()
	switch { // whatever the store says: a mail that was sent was sent
	case err == nil:
		_ = c.receipts.End(ctx, key, token, r)
	case m.AtMostOnce && fault.MayHaveActed(err):
		_ = c.receipts.End(ctx, key, token, nil)
	default:
		_ = c.receipts.Drop(ctx, key, token)
	}
	return r, err
}

// beginKey answers with the first receipt where there is one, else with the token
// of the key.
func (c *Client) beginKey(ctx context.Context, key string, m *Message) (*Receipt, int64, error) {
	hash, err := m.hash()
	if err != nil {
		return nil, 0, err
	}
	for start := time.Now(); ; {
		now := time.Now()
		known, err := c.receipts.Begin(ctx, key, hash, now, now.Add(-abandonedAfter), now.Add(c.keep))
		switch {
		case err != nil:
			return nil, 0, fault.New(fault.Unavailable, fmt.Errorf("email: note the idempotency key: %w", err))
		case !known.Known:
			return nil, known.Token, nil
		case known.Hash != hash:
			return nil, 0, fault.New(fault.Conflict, ErrKeyReused)
		case known.Receipt != nil:
			return known.Receipt, 0, nil
		case known.Unsettled:
			return nil, 0, fault.New(fault.Uncertain, errUnsettled)
		case known.Abandoned && m.AtMostOnce:
			_ = c.receipts.End(ctx, key, known.Token, nil) // until its sender says otherwise
			return nil, 0, fault.New(fault.Uncertain, errUnsettled)
		case known.Abandoned:
			return nil, known.Token, nil // it may go twice rather than not at all
		case now.Sub(start) >= inProgressWait:
			return nil, 0, fault.New(fault.Conflict, ErrInProgress)
		}
		select {
		case <-time.After(inProgressPoll):
		case <-ctx.Done():
			return nil, 0, fault.New(fault.Canceled, ctx.Err())
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
	mu     sync.Mutex
	notes  map[string]note
	tokens int64
}

type note struct {
	hash         [32]byte
	began, until time.Time
	token        int64 // of who has it, 0: of nobody any more
	from         int64 // the token of the first of those who had it for this mail
	receipt      *Receipt
	unsettled    bool
}

// open: nobody has said how its mail ended.
func (n *note) open() bool { return n.receipt == nil && !n.unsettled }

// Begin notes a key, see [Receipts].
func (r *MemoryReceipts) Begin(_ context.Context, key string, hash [32]byte, now, stale, until time.Time) (Known, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.notes == nil {
		r.notes = map[string]note{}
	}
	n, ok := r.notes[key]
	if !ok || !now.Before(n.until) || n.token == 0 {
		r.sweep(now)
		fresh := note{hash: hash, began: now, until: until, token: r.next(), from: r.tokens}
		if ok && n.token == 0 && n.hash == hash && now.Before(n.until) {
			fresh.from = n.from
		}
		r.notes[key] = fresh
		return Known{Token: fresh.token}, nil
	}
	known := Known{Known: true, Hash: n.hash, Receipt: n.receipt.clone(), Unsettled: n.unsettled}
	if n.open() && n.hash == hash && n.began.Before(stale) {
		n.began, n.token = now, r.next()
		known.Abandoned, known.Token = true, n.token
		r.notes[key] = n
	}
	return known, nil
}

func (r *MemoryReceipts) next() int64 {
	r.tokens++
	return r.tokens
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
func (r *MemoryReceipts) End(_ context.Context, key string, token int64, receipt *Receipt) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n, ok := r.notes[key]; ok && n.from <= token && n.receipt == nil {
		n.receipt, n.unsettled = receipt.clone(), receipt == nil
		n.token = max(n.token, token)
		r.notes[key] = n
	}
	return nil
}

// Drop forgets the key, see [Receipts].
func (r *MemoryReceipts) Drop(_ context.Context, key string, token int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.notes[key]
	switch {
	case !ok || n.token != token || !n.open():
	case n.from == token:
		delete(r.notes, key)
	default: // one from whom it was taken over may still have sent it
		n.token = 0
		r.notes[key] = n
	}
	return nil
}
