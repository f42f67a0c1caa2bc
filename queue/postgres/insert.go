package postgres

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/internal/pgfault"
)

// Insert stores records, see [queue.Store]. A connection lost while they were
// being committed is no reason not to know: the server is asked what became of
// the transaction.
func (s *store) Insert(ctx context.Context, now time.Time, records []queue.Record) (out []queue.Enqueued, err error) {
	err = s.retry(ctx, func() error {
		c, err := s.pool.Acquire(ctx)
		if err != nil {
			return pgfault.NothingDone(err)
		}
		defer c.Release()
		out, err = s.insert(ctx, c, now, records)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.announce()
	return out, nil
}

func (s *store) insert(ctx context.Context, c *pgxpool.Conn, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
	b := &pgx.Batch{}
	b.BeginTx(readCommitted)
	stored := s.queueInserts(b, now, records)
	var xid *string // of the transaction; nil where it wrote nothing
	b.Queue(`select pg_current_xact_id_if_assigned()::text`).QueryRow(func(row pgx.Row) error { return row.Scan(&xid) })
	results := c.SendBatch(ctx, b)
	tx := results.Tx()
	var out []queue.Enqueued
	err := results.Close()
	if err == nil {
		out, err = s.outcomes(records, stored, lookUp(ctx, tx, s.sql.first))
	}
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = tx.Rollback(undo)
		return nil, pgfault.NothingDone(err)
	}
	if err := tx.Commit(ctx); err != nil && xid != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		c.Release() // it is lost, and the pool may have no other
		return out, s.fate(ctx, *xid, records, stored, err)
	}
	return out, nil
}

// lookUp asks for the first job of a dedupe key. It is in the transaction that
// met it, and has locked it.
func lookUp(ctx context.Context, tx pgx.Tx, query string) func(kind, key string) (string, []byte, error) {
	return func(kind, key string) (id string, hash []byte, err error) {
		err = tx.QueryRow(ctx, query, kind, key).Scan(&id, &hash)
		return id, hash, err
	}
}

// knowWithin bounds how long the server is asked what became of a transaction.
const knowWithin = 10 * time.Second

// fate answers nil where a transaction was committed after all, and an error that
// says that it wasn't, or that nobody knows.
//
// The number of the transaction isn't enough: where the server crashed before it
// had written anything of it to disk, another one may have that number now. So
// what is committed must be seen, too. It can't be seen any more where a worker
// was quicker.
func (s *store) fate(ctx context.Context, xid string, records []queue.Record, stored []bool, cause error) error {
	ctx, cancel := context.WithTimeout(ctx, knowWithin)
	defer cancel()
	ids := [3][]string{}
	for i, r := range records {
		if stored[i] {
			ids[0], ids[1], ids[2] = append(ids[0], r.ID), append(ids[1], r.Kind), append(ids[2], r.DedupeKey)
		}
	}
	for {
		var status *string // nil: too old
		err := s.pool.QueryRow(ctx, `select pg_xact_status($1::text::xid8)`, xid).Scan(&status)
		e, _ := errors.AsType[*pgconn.PgError](err)
		if e != nil && e.Code == invalidParameter || err == nil && status != nil && *status == "aborted" {
			return pgfault.NothingDone(cause) // the number isn't taken yet: it was lost in a crash
		}
		var seen bool // by a statement of its own, which began after the one above
		if err == nil {
			err = s.pool.QueryRow(ctx, s.sql.seen, ids[0], ids[1], ids[2]).Scan(&seen)
		}
		switch {
		case err == nil && seen:
			return nil
		case err == nil && (status == nil || *status == "committed"):
			return uncertain(cause)
		}
		select { // the server may be starting, or not know yet that the connection is lost
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return uncertain(cause)
		}
	}
}

func uncertain(cause error) error {
	return fault.New(fault.Uncertain, fmt.Errorf("queue/postgres: the connection was lost in the commit: %w", cause))
}

// queueInserts queues a statement for each record. When they have run, the
// answer says of each whether it was stored; the others are duplicates.
func (s *store) queueInserts(b *pgx.Batch, now time.Time, records []queue.Record) []bool {
	stored := make([]bool, len(records))
	for i := range records {
		query, args := s.insertOf(now, &records[i])
		q := b.Queue(query, args...)
		q.Fn = func(br pgx.BatchResults) error {
			tag, err := br.Exec()
			stored[i] = tag.RowsAffected() == 1
			return err
		}
	}
	return stored
}

func (s *store) insertOf(now time.Time, r *queue.Record) (string, []any) {
	due, state := int64(0), "ready"
	for i, t := range []time.Time{r.NotBefore, r.Expires} {
		if !t.IsZero() && (i == 0 || t.UnixMilli() < due) {
			due = t.UnixMilli()
		}
	}
	switch {
	case r.Key != "":
		state = "new"
	case due > now.UnixMilli():
		state = "waiting"
	}
	args := []any{
		r.ID, r.Kind, r.Key, state, r.Rank, due, append([]byte{}, r.Payload...), milli(r.NotBefore), milli(r.Expires), r.MaxAttempts, r.EnqueuedAt.UnixMilli(), r.DedupeKey,
	}
	if r.DedupeKey == "" {
		return s.sql.insert, args
	}
	return s.sql.insertDeduped, append(args, r.DedupeHash[:], r.DedupeUntil.UnixMilli(), now.UnixMilli())
}

// outcomes names the first job where one wasn't stored.
func (s *store) outcomes(records []queue.Record, stored []bool, first func(kind, key string) (string, []byte, error)) ([]queue.Enqueued, error) {
	out := make([]queue.Enqueued, len(records))
	for i, r := range records {
		if out[i].ID = r.ID; stored[i] {
			continue
		}
		id, hash, err := first(r.Kind, r.DedupeKey)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(hash, r.DedupeHash[:]) {
			return nil, conflict("dedupe_key", "was used for another payload")
		}
		out[i] = queue.Enqueued{ID: id, Duplicate: true}
	}
	return out, nil
}

// insertTx stores records in somebody else's transaction, in a savepoint of it.
func (s *store) insertTx(ctx context.Context, tx pgx.Tx, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
	var out []queue.Enqueued
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		stored := s.queueInserts(b, now, records)
		b.Queue(notify, s.schema)
		err := tx.SendBatch(ctx, b).Close()
		if err == nil {
			out, err = s.outcomes(records, stored, lookUp(ctx, tx, s.sql.first))
		}
		return err
	})
	return out, joined(ctx, err)
}

// insertSQL is insertTx, statement by statement.
func (s *store) insertSQL(ctx context.Context, tx *sql.Tx, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
	if _, err := tx.ExecContext(ctx, "savepoint integrations_queue"); err != nil {
		return nil, joined(ctx, err)
	}
	out, err := s.insertEach(ctx, tx, now, records)
	end := "release savepoint integrations_queue"
	if err != nil {
		end = "rollback to savepoint integrations_queue"
	}
	_, ended := tx.ExecContext(ctx, end)
	return out, joined(ctx, errors.Join(err, ended))
}

func (s *store) insertEach(ctx context.Context, tx *sql.Tx, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
	stored := make([]bool, len(records))
	for i := range records {
		query, args := s.insertOf(now, &records[i])
		result, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return nil, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return nil, err
		}
		stored[i] = n == 1
	}
	if _, err := tx.ExecContext(ctx, notify, s.schema); err != nil {
		return nil, err
	}
	return s.outcomes(records, stored, func(kind, key string) (id string, hash []byte, err error) {
		err = tx.QueryRowContext(ctx, s.sql.first, kind, key).Scan(&id, &hash)
		return id, hash, err
	})
}

// joined is the failure of something that is committed by somebody else.
func joined(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	return failure(ctx, pgfault.NothingDone(err))
}
