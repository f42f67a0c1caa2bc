package queue

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// Engine makes a Queue of a Store. It is safe for concurrent use and owns no
// goroutine but while it Runs.
type Engine struct {
	store Store
	keys  *Keys
	now   func() time.Time
}

// Option changes an Engine.
type Option func(*Engine)

// WithKeys seals payloads at rest.
func WithKeys(k Keys) Option { return func(e *Engine) { e.keys = &k } }

// WithClock replaces time.Now, for tests.
func WithClock(now func() time.Time) Option { return func(e *Engine) { e.now = now } }

// NewEngine makes a Queue of a Store.
func NewEngine(store Store, options ...Option) (*Engine, error) {
	e := &Engine{store: store, now: time.Now}
	for _, o := range options {
		o(e)
	}
	if e.keys != nil {
		if err := e.keys.check(); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Enqueue makes jobs durable, see [Queue].
func (e *Engine) Enqueue(ctx context.Context, jobs ...Job) ([]Enqueued, error) {
	return e.EnqueueWith(ctx, e.store.Insert, jobs...)
}

// EnqueueWith is Enqueue with another insert than the Store's: for a Queue that
// enqueues within its caller's transaction.
func (e *Engine) EnqueueWith(
	ctx context.Context, insert func(context.Context, time.Time, []Record) ([]Enqueued, error), jobs ...Job,
) ([]Enqueued, error) {
	if len(jobs) == 0 {
		return nil, nil
	}
	now := e.now()
	records, err := e.Records(ctx, now, jobs...)
	if err != nil {
		return nil, err
	}
	return insert(ctx, now, records)
}

// aging is how much later a job of the next higher priority may come and still
// go first.
const aging = time.Minute

// Records checks jobs and makes what a Store keeps of them: for a Queue that
// enqueues within its caller's transaction.
func (e *Engine) Records(ctx context.Context, now time.Time, jobs ...Job) ([]Record, error) {
	records := make([]Record, len(jobs))
	for i := range jobs {
		j := &jobs[i]
		if err := j.Validate(); err != nil {
			return nil, err
		}
		r := Record{
			ID: j.ID, Kind: j.Kind, Key: j.Key, NotBefore: j.NotBefore, Expires: j.Expires, MaxAttempts: j.MaxAttempts, EnqueuedAt: now,
			Rank: now.Add(-time.Duration(j.Priority) * aging).UnixMilli(),
		}
		if r.ID == "" {
			r.ID = newID(now)
		}
		if r.MaxAttempts == 0 {
			r.MaxAttempts = DefaultMaxAttempts
		}
		if j.DedupeKey != "" {
			r.DedupeKey, r.DedupeHash = j.DedupeKey, sha256.Sum256(j.Payload)
			r.DedupeUntil = now.Add(defaultDedupe)
			if j.DedupeFor > 0 {
				r.DedupeUntil = now.Add(j.DedupeFor)
			}
		}
		var err error
		if r.Payload, err = e.keys.seal(ctx, r.Kind, r.ID, j.Payload); err != nil {
			return nil, err
		}
		records[i] = r
	}
	return records, nil
}

// newID begins with the time, so that jobs which are enqueued one after the other
// lie side by side in a database's index of them: with random ones a queue in
// SQLite writes half as much again. 85 random bits follow.
func newID(now time.Time) string {
	return strings.ToUpper(strconv.FormatInt(now.UnixMilli(), 32)) + rand.Text()[:17]
}

// Stats says what is in the queue.
func (e *Engine) Stats(ctx context.Context) (Stats, error) { return e.store.Count(ctx, e.now()) }

func (e *Engine) graveyard() (Graveyard, error) {
	g, ok := e.store.(Graveyard)
	if !ok {
		return nil, fault.New(fault.Unsupported, errors.New("queue: this store keeps no dead letters"))
	}
	return g, nil
}

// Dead lists dead letters, see [DeadLetters]. One whose payload can't be opened
// has none; its Reason says so.
func (e *Engine) Dead(ctx context.Context, after string, n int) ([]Dead, error) {
	g, err := e.graveyard()
	if err != nil {
		return nil, err
	}
	list, err := g.List(ctx, after, n)
	if err != nil {
		return nil, err
	}
	out := make([]Dead, len(list))
	for i, b := range list {
		d, err := e.open(ctx, b.Claimed)
		if err != nil {
			d.Payload = nil
		}
		out[i] = Dead{Delivery: d, Reason: b.Reason, Died: b.Died}
	}
	return out, nil
}

// Replay enqueues dead letters again, see [DeadLetters].
func (e *Engine) Replay(ctx context.Context, ids ...string) error {
	g, err := e.graveyard()
	if err != nil {
		return err
	}
	ok, err := g.Revive(ctx, e.now(), ids)
	if err == nil && !ok {
		return fault.New(fault.NotFound, &FieldError{"id", "is not that of a dead letter"})
	}
	return err
}

// Discard forgets dead letters, see [DeadLetters].
func (e *Engine) Discard(ctx context.Context, ids ...string) error {
	g, err := e.graveyard()
	if err != nil {
		return err
	}
	return g.Erase(ctx, ids)
}

// Cancel forgets jobs that are no longer wanted, dead letters among them, and says
// of each whether it did: one that runs, or is unknown, stays as it is. What
// waited behind a cancelled head of its key moves up. A Store that can't is
// fault.Unsupported.
func (e *Engine) Cancel(ctx context.Context, ids ...string) ([]bool, error) {
	c, ok := e.store.(Canceler)
	if !ok {
		return nil, fault.New(fault.Unsupported, errors.New("queue: this store can't cancel"))
	}
	return c.Cancel(ctx, e.now(), ids)
}

// open is a claimed job with its payload unsealed.
func (e *Engine) open(ctx context.Context, c Claimed) (Delivery, error) {
	d := Delivery{
		Job: Job{
			ID: c.ID, Kind: c.Kind, Key: c.Key, DedupeKey: c.DedupeKey, NotBefore: c.NotBefore, Expires: c.Expires, MaxAttempts: c.MaxAttempts,
			Priority: int(c.EnqueuedAt.Sub(time.UnixMilli(c.Rank)).Round(aging) / aging),
		},
		Attempt: c.Attempt, EnqueuedAt: c.EnqueuedAt, LastError: c.LastError,
	}
	var err error
	d.Payload, err = e.keys.open(ctx, c.Kind, c.ID, c.Payload)
	return d, err
}
