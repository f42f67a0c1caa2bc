// Package postgres is a durable queue in PostgreSQL, for fleets whose services
// have that database already.
//
//	q, err := postgres.Open(ctx, pool)
//	…
//	_, err = q.Enqueue(ctx, queue.Job{Kind: "email.send", Payload: data})
//	…
//	_, err = q.Tx(tx).Enqueue(ctx, job) // runs if tx commits, and only then
//
// It keeps its two tables in a schema of its own, which [Open] makes and brings
// up to date: that takes the right to create a schema, once. Rules that a caller
// must know beside those of package queue:
//
//   - PostgreSQL 13 or later, with fsync and synchronous_commit as they are by
//     default; without them an acknowledged job is as durable as they leave it.
//   - The clocks of the processes decide what is due, what has expired and whose
//     lease has ended. They should agree to a second or so.
//   - Workers are woken by LISTEN on a connection of their own. Where that can't be
//     had (a pooler between, say) they ask every [queue.RunOptions].Poll.
//   - Enqueueing in a caller's transaction waits for nothing, and locks nothing
//     but the ID and the DedupeKey of its jobs, until that transaction ends.
package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
)

// Queue is a [queue.Queue] with [queue.DeadLetters]. It is safe for concurrent
// use, in any number of processes.
type Queue struct {
	*queue.Engine
	store *store
	now   func() time.Time
}

var (
	_ queue.Queue       = (*Queue)(nil)
	_ queue.DeadLetters = (*Queue)(nil)
)

// DefaultSchema is where the tables are.
const DefaultSchema = "integrations_queue"

// Option changes a Queue.
type Option func(*settings)

type settings struct {
	schema string
	keys   *queue.Keys
	now    func() time.Time
}

// WithSchema puts the tables into another schema, and makes another queue: 1 to
// 50 of [a-z0-9_], with no digit at the front.
func WithSchema(name string) Option { return func(s *settings) { s.schema = name } }

// WithKeys seals payloads at rest.
func WithKeys(k queue.Keys) Option { return func(s *settings) { s.keys = &k } }

// WithClock replaces time.Now, for tests.
func WithClock(now func() time.Time) Option { return func(s *settings) { s.now = now } }

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,49}$`)

// Open makes a Queue, and its tables where they aren't there or are older than
// this program; several processes may do so at once. The pool stays the
// caller's, who closes it after the Queue.
func Open(ctx context.Context, pool *pgxpool.Pool, options ...Option) (*Queue, error) {
	set := settings{schema: DefaultSchema, now: time.Now}
	for _, o := range options {
		o(&set)
	}
	if !schemaName.MatchString(set.schema) {
		return nil, fault.New(fault.Invalid, &queue.FieldError{Field: "schema", Problem: "must be 1 to 50 of [a-z0-9_], with no digit at the front"})
	}
	s := newStore(pool, set.schema)
	of := []queue.Option{queue.WithClock(set.now)}
	if set.keys != nil {
		of = append(of, queue.WithKeys(*set.keys))
	}
	engine, err := queue.NewEngine(s, of...)
	if err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, fault.New(fault.Unavailable, fmt.Errorf("queue/postgres: make or update the tables in schema %s: %w", set.schema, err))
	}
	return &Queue{Engine: engine, store: s, now: set.now}, nil
}

// Close ends what listens and notifies, and waits for it until ctx ends. Call it
// when every Run has returned; jobs can still be enqueued, workers are no longer
// woken.
func (q *Queue) Close(ctx context.Context) error { return q.store.close(ctx) }

// Tx enqueues within a transaction of somebody else's. When it ends without a
// commit, nothing was enqueued.
type Tx struct {
	queue  *Queue
	insert func(ctx context.Context, now time.Time, records []queue.Record) ([]queue.Enqueued, error)
}

// Tx enqueues within tx, of any isolation level. An error leaves the
// transaction as it was before the call, as long as the connection lasts.
func (q *Queue) Tx(tx pgx.Tx) Tx {
	return Tx{q, func(ctx context.Context, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
		return q.store.insertTx(ctx, tx, now, records)
	}}
}

// SQLTx is [Queue.Tx] for users of database/sql, with any driver for PostgreSQL.
func (q *Queue) SQLTx(tx *sql.Tx) Tx {
	return Tx{q, func(ctx context.Context, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
		return q.store.insertSQL(ctx, tx, now, records)
	}}
}

// Enqueue is that of [queue.Queue], but that the jobs are durable, and can be
// seen by workers, when the transaction has been committed. Workers are woken
// then. PostgreSQL lets transactions that wake commit one after the other only.
func (t Tx) Enqueue(ctx context.Context, jobs ...queue.Job) ([]queue.Enqueued, error) {
	if len(jobs) == 0 {
		return nil, nil
	}
	now := t.queue.now()
	records, err := t.queue.Records(ctx, now, jobs...)
	if err != nil {
		return nil, err
	}
	return t.insert(ctx, now, records)
}
