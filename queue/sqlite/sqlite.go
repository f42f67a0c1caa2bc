// Package sqlite is a durable queue in a SQLite file: no server, any number of
// processes of one machine, and a few ten thousand jobs a second.
//
//	q, err := sqlite.Open(ctx, "mail.db")
//	if err != nil { … }
//	defer q.Close(context.WithoutCancel(ctx))
//	_, err = q.Enqueue(ctx, queue.Job{Kind: "email.send", Payload: data})
//	…
//	_, err = q.Tx(tx).Enqueue(ctx, job) // runs if tx commits, and only then
//
// The driver is modernc.org/sqlite, which needs no C. The file may be the
// service's own database: the queue's tables begin with queue_, and it becomes
// one with a write-ahead log (files beside it end in -wal and -shm; they belong
// to it). Rules that a caller must know beside those of package queue:
//
//   - What has been acknowledged has been synced to the disk (synchronous=FULL).
//     Callers that write at the same time share one transaction and its sync.
//   - The file lies on a local disk: a write-ahead log works over no network file
//     system. Processes in two containers may share it where they share the kernel.
//   - A process that keeps the file locked for longer than 5 seconds makes others
//     fail with fault.Unavailable; nothing is stored then. One that keeps reading
//     in a single transaction keeps the log from shrinking.
//   - The file grows with what is queued, and keeps its size for what comes next.
//     Deleted payloads stay in its free pages until they are written over; seal
//     them with [queue.WithKeys] where they hold secrets.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/smilefactory/integrations/queue"
)

// Queue is a [queue.Queue] with [queue.DeadLetters]. It is safe for concurrent
// use, in any number of processes.
type Queue struct {
	*queue.Engine
	store *store
}

var (
	_ queue.Queue       = (*Queue)(nil)
	_ queue.DeadLetters = (*Queue)(nil)
)

// lockTimeout is how long a lock of another process is waited for.
const lockTimeout = 5 * time.Second

// Open opens the queue in a file, and makes it, or the tables in it, where there
// is none; several processes may do so at once. A file that isn't a database, is
// damaged, or was made by a later version of this package is an error.
func Open(ctx context.Context, path string, options ...queue.Option) (*Queue, error) {
	return open(ctx, path, lockTimeout, options...)
}

func open(ctx context.Context, path string, patience time.Duration, options ...queue.Option) (*Queue, error) {
	s, err := openStore(ctx, path, patience)
	if err != nil {
		return nil, err
	}
	engine, err := queue.NewEngine(s, options...)
	if err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return &Queue{Engine: engine, store: s}, nil
}

// Close lets what is being written end, and closes the file. Call it when every
// Run has returned; whatever is called later is fault.Unavailable. An error is
// that of ctx, whose end it doesn't outlast.
func (q *Queue) Close(ctx context.Context) error { return q.store.close(ctx) }

// Tx enqueues within a transaction of the caller's, which is on the same file.
type Tx struct {
	queue *Queue
	tx    *sql.Tx
}

// Tx enqueues within tx, which a sql.DB of the driver modernc.org/sqlite began on
// the queue's own file (another driver in one process breaks the file's locks).
// The connection's settings are the caller's: with PRAGMA synchronous = NORMAL
// a crash of the machine may undo what was committed. No worker, and nobody else
// who writes, gets on until tx ends; begin it with _txlock=immediate, or SQLite
// may refuse to write in it.
func (q *Queue) Tx(tx *sql.Tx) Tx { return Tx{q, tx} }

// Enqueue is that of [queue.Queue], but that the jobs are durable, and can be
// seen by workers, when the transaction has been committed. An error leaves the
// transaction as it was before the call, but for one of the disk: roll back
// after fault.Unavailable.
func (t Tx) Enqueue(ctx context.Context, jobs ...queue.Job) ([]queue.Enqueued, error) {
	return t.queue.EnqueueWith(ctx, func(ctx context.Context, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
		return t.queue.store.insertTx(ctx, t.tx, now, records)
	}, jobs...)
}
