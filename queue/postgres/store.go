package postgres

import (
	"context"
	"errors"
	"hash/fnv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/internal/pgfault"
)

// store is a [queue.Store] in PostgreSQL.
//
// # Order within a key, and locks
//
// Of each key one job is its head, which alone can be claimed; a unique index
// sees to that. Whoever enqueues takes no lock of a key, since a caller's
// transaction would hold it for as long as it likes: a job with a key is stored
// as new, and sorted in by the next claim, behind the head of its key or as it.
// The head goes when it is settled, or cancelled, and then the next takes its
// place. Sorting in and going hold an advisory lock of the key, so that neither
// overlooks what the other does. All transactions take their locks in this order:
//
//  1. advisory locks of keys, in the order of their hashes, in a statement of
//     their own: the next one sees what those did who held them before;
//  2. rows of jobs in the order of seq, or only those that nobody has locked.
//
// So they can't wait for one another in a circle. Inserts wait for nothing but
// another insert of the same ID or DedupeKey. Everything runs READ COMMITTED,
// whatever the database's default is.
type store struct {
	pool   *pgxpool.Pool
	schema string
	seed   int64 // of the hashes of keys, and the lock of migrations
	sql    statements
	bell   bell
	sweep  atomic.Int64 // when the next sweep is due, in milliseconds
}

func newStore(pool *pgxpool.Pool, schema string) *store {
	h := fnv.New64a()
	h.Write([]byte("queue/postgres\x00" + schema))
	s := &store{pool: pool, schema: schema, seed: int64(h.Sum64()), sql: prepared(schema)} //nolint:gosec // any 64 bits do
	s.bell.init()
	return s
}

func (s *store) close(ctx context.Context) error { return s.bell.close(ctx) }

// milli is a time as it is stored: nil where it is zero.
func milli(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	m := t.UnixMilli()
	return &m
}

func fromMilli(m *int64) time.Time {
	if m == nil {
		return time.Time{}
	}
	return time.UnixMilli(*m)
}

// text is what a column of text can hold: an error may say anything.
func text(s string) string { return strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", "�") }

// SQLSTATEs, from appendix A of PostgreSQL's manual.
const (
	invalidParameter = "22023"
	uniqueViolation  = "23505"
	undefinedSchema  = "3F000"
	undefinedTable   = "42P01"
)

var readCommitted = pgx.TxOptions{IsoLevel: pgx.ReadCommitted}

// transact runs what fill queues as one transaction, in one round trip.
func (s *store) transact(ctx context.Context, fill func(b *pgx.Batch)) error {
	return s.retry(ctx, func() error {
		b := &pgx.Batch{}
		b.Queue("begin isolation level read committed")
		fill(b)
		b.Queue("commit")
		c, err := s.pool.Acquire(ctx)
		if err != nil {
			return pgfault.NothingDone(err)
		}
		defer c.Release() // which closes a connection whose transaction isn't over
		if err = c.SendBatch(ctx, b).Close(); err != nil && pgfault.Answered(err) {
			_, _ = c.Exec(ctx, "rollback")
		}
		return err
	})
}

// retry is [pgfault.Retry], with an error that has a kind.
func (s *store) retry(ctx context.Context, do func() error) error {
	return failure(ctx, pgfault.Retry(ctx, do))
}

// failure gives an error its kind.
func failure(ctx context.Context, err error) error {
	_, known := fault.As(err)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && !known && e.Code == uniqueViolation {
		return conflict("id", "is known already")
	}
	return pgfault.Of(ctx, "queue/postgres", err)
}

func conflict(field, problem string) error {
	return fault.New(fault.Conflict, &queue.FieldError{Field: field, Problem: problem})
}
