// Package river keeps jobs in River (github.com/riverqueue/river), for teams that
// run River already: the jobs are rows of its table beside all others, and show in
// its UI.
//
//	q, err := river.Open(ctx, pool)
//	…
//	_, err = q.Enqueue(ctx, queue.Job{Kind: "email.send", Payload: data})
//	…
//	_, err = q.Tx(tx).Enqueue(ctx, job) // runs if tx commits, and only then
//
// A job of kind "email.send" is one of River's kind "integrations:email.send", in
// a queue of River's that must have no other jobs ([DefaultQueue]). River's tables
// are there before [Open], made by River's own migrations (6 or later); Open adds
// the table integrations_dedupe beside them.
//
// # The client that leads
//
// One client of all that work on a River database leads it. It makes delayed jobs
// ready, rescues those whose worker died, and deletes old ones. That is to be one
// of the team's own: the client that [Queue.Run] starts doesn't stand for election,
// since a leader discards the stuck jobs of every kind that it doesn't know.
// Therefore:
//
//   - Give our kinds to each client that may lead, with [Register]; else a job
//     whose worker died becomes a dead letter, whatever attempts it had left.
//   - Its RescueStuckJobsAfter (an hour by default) says after what time a job
//     runs again whose worker died. It must be longer than the
//     [queue.RunOptions].Lease of those who work, or jobs run twice at once.
//   - Set CancelledJobRetentionPeriod and DiscardedJobRetentionPeriod to -1 there,
//     or dead letters are deleted after 24 hours (buried, expired, unreadable) and
//     7 days (no attempt left).
//   - Where River works for nobody else, and each Run has all kinds, let Run
//     lead: [WithConfig] with LeaderElectionDisabled false. It rescues after twice
//     the [queue.RunOptions].Lease then, and deletes no dead letters.
//
// Where nobody leads, Run reports that as [queue.StoreFailed] every minute.
//
// # What is otherwise than the contract of package queue says
//
//   - No order: River runs jobs of one queue side by side. A Job with a Key is
//     fault.Unsupported; queue/postgres keeps order, in the same database.
//   - Priority: River has four. 6 to 10 are its 1, 1 to 5 its 2, 0 its 3, and what
//     is below 0 its 4. They don't age: a lower one waits for as long as there are
//     higher ones.
//   - Leases: River has none, and no sign of life. [queue.RunOptions].Lease is
//     instead how long a handler may take (River's JobTimeout); then its context
//     ends. A job whose worker died runs again once the leader has rescued it.
//     The leader looks every 30 seconds, which nothing changes, for what was
//     claimed longer ago than its RescueStuckJobsAfter, which River lets be no
//     less than JobTimeout: even with the shortest lease, a second, that can make
//     35 seconds. A handler that goes on beyond it runs beside its successor,
//     and what it answers counts for that one: River asks whether a job runs, not
//     who runs it.
//   - A delay of less than 5 seconds may last 5: that is the pace of River's
//     scheduler, which looks as far ahead. Longer ones, and the waits between
//     attempts, are exact to a poll; River needs one at least every second,
//     whatever [queue.RunOptions].Poll says.
//   - That a job is done is written before [queue.Finished] is said. Everything
//     else is written by River in batches, every 250 ms at the latest: a crash in
//     between repeats that attempt.
//   - Payloads are base64 in JSON in the column args, for all who may look at
//     River: seal them with [WithKeys]. Jobs that are done stay there for as long
//     as the leader's CompletedJobRetentionPeriod, 24 hours by default.
//   - A job that is cancelled in River's UI is a dead letter. One that is retried
//     there goes on counting its attempts; [queue.Engine.Replay] makes it as new.
package river

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	riverqueue "github.com/riverqueue/river"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
)

// Queue is a [queue.Queue] with [queue.DeadLetters]. It is safe for concurrent
// use, in any number of processes, and owns no goroutine but while it Runs.
type Queue struct {
	*queue.Engine
	store   *store
	options []queue.Option
	change  func(*riverqueue.Config)
}

var (
	_ queue.Queue       = (*Queue)(nil)
	_ queue.DeadLetters = (*Queue)(nil)
)

// DefaultQueue is the queue of River's in which the jobs are.
const DefaultQueue = "integrations"

// Option changes a Queue.
type Option func(*settings)

type settings struct {
	schema string
	queue  string
	keys   *queue.Keys
	change func(*riverqueue.Config)
}

// WithSchema says in which schema River's tables are; without it they are found
// by the pool's search_path.
func WithSchema(name string) Option { return func(s *settings) { s.schema = name } }

// WithQueue takes another queue of River's, and makes another queue: 1 to 64 of
// [a-z0-9], in words with a single _ or - between them.
func WithQueue(name string) Option { return func(s *settings) { s.queue = name } }

// WithKeys seals payloads at rest.
func WithKeys(k queue.Keys) Option { return func(s *settings) { s.keys = &k } }

// WithConfig changes what River's clients are made with: hooks, plugins, a logger
// (without one, what River logs as an error is reported as [queue.StoreFailed]),
// or leadership, see the package's text. It is called for each Run, and for
// [Open], and must give a new Workers each time where it gives one. What Run
// itself decides (Schema, Queues, JobTimeout, how it fetches and stops) stays.
func WithConfig(change func(*riverqueue.Config)) Option {
	return func(s *settings) { s.change = change }
}

var (
	schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,45}$`)
	queueName  = regexp.MustCompile(`^[a-z0-9]+([_-][a-z0-9]+)*$`) // River allows no other
)

func (s *settings) check() error {
	switch {
	case s.schema != "" && !schemaName.MatchString(s.schema):
		return invalid("schema", "must be 1 to 46 of [a-z0-9_], with no digit at the front")
	case len(s.queue) > 64 || !queueName.MatchString(s.queue):
		return invalid("queue", "must be 1 to 64 of [a-z0-9], in words with a single _ or - between them")
	}
	return nil
}

func invalid(field, problem string) error {
	return fault.New(fault.Invalid, &queue.FieldError{Field: field, Problem: problem})
}

// Open makes a Queue of a database with River's tables. The pool stays the
// caller's; each Run takes a connection of it to listen.
func Open(ctx context.Context, pool *pgxpool.Pool, options ...Option) (*Queue, error) {
	set := settings{queue: DefaultQueue, change: func(*riverqueue.Config) {}}
	for _, o := range options {
		o(&set)
	}
	if err := set.check(); err != nil {
		return nil, err
	}
	q := &Queue{store: &store{pool: pool, queue: set.queue}, change: set.change}
	if set.keys != nil {
		q.options = append(q.options, queue.WithKeys(*set.keys))
	}
	var err error
	if q.Engine, err = queue.NewEngine(q.store, q.options...); err != nil {
		return nil, err
	}
	if err := q.store.find(ctx, set.schema); err != nil {
		return nil, err
	}
	if err := q.store.migrate(ctx); err != nil {
		return nil, fault.New(fault.Unavailable, fmt.Errorf("queue/river: make or update the table in schema %s: %w", q.store.schema, err))
	}
	if q.store.client, err = q.inserting(); err != nil {
		return nil, fault.New(fault.Invalid, err)
	}
	return q, nil
}

// Tx enqueues within a transaction of somebody else's. When it ends without a
// commit, nothing was enqueued.
type Tx struct {
	queue *Queue
	tx    pgx.Tx
}

// Tx enqueues within tx, of any isolation level. An error leaves the
// transaction as it was before the call, as long as the connection lasts.
func (q *Queue) Tx(tx pgx.Tx) Tx { return Tx{q, tx} }

// Enqueue is that of [queue.Queue], but that the jobs are durable, and can be
// seen by workers, when the transaction has been committed. Workers are woken
// then.
func (t Tx) Enqueue(ctx context.Context, jobs ...queue.Job) ([]queue.Enqueued, error) {
	return t.queue.EnqueueWith(ctx, func(ctx context.Context, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
		return t.queue.store.insertTx(ctx, t.tx, now, records)
	}, jobs...)
}

var errNotHere = errors.New("queue/river: River claims jobs, and only while Run runs")
