package river

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	riverqueue "github.com/riverqueue/river"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/internal/pgfault"
)

// store is the part of a [queue.Store] that needs no worker: it inserts by River's
// client, and reads River's table. A [handover] adds the rest.
type store struct {
	pool   *pgxpool.Pool
	client *riverqueue.Client[pgx.Tx] // that inserts
	schema string
	queue  string // of River's
}

// find looks for River's tables. The columns are those of its migration 6.
func (s *store) find(ctx context.Context, schema string) error {
	table := "river_job"
	if schema != "" {
		table = pgx.Identifier{schema, table}.Sanitize()
	}
	err := s.pool.QueryRow(ctx, `select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.oid = to_regclass($1)
		and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'unique_states')`, table).Scan(&s.schema)
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.New(fault.Unavailable, errors.New("queue/river: the database has no table river_job, or an old one: run River's own migrations (6 or later)"))
	}
	return failure(ctx, err)
}

// sql puts the schema into a statement.
func (s *store) sql(statement string) string {
	return strings.ReplaceAll(statement, "{schema}", pgx.Identifier{s.schema}.Sanitize())
}

// Insert stores records, see [queue.Store].
func (s *store) Insert(ctx context.Context, now time.Time, records []queue.Record) (out []queue.Enqueued, err error) {
	err = retry(ctx, func() error {
		tx, err := s.pool.BeginTx(ctx, readCommitted)
		if err != nil {
			return pgfault.NothingDone(err)
		}
		if out, err = s.insert(ctx, tx, now, records); err != nil {
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = tx.Rollback(undo)
			return pgfault.NothingDone(err)
		}
		return tx.Commit(ctx)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// insertTx stores records in somebody else's transaction, in a savepoint of it.
func (s *store) insertTx(ctx context.Context, tx pgx.Tx, now time.Time, records []queue.Record) (out []queue.Enqueued, err error) {
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) (err error) {
		out, err = s.insert(ctx, tx, now, records)
		return err
	})
	if err != nil {
		return nil, failure(ctx, pgfault.NothingDone(err)) // somebody else commits
	}
	return out, nil
}

func (s *store) insert(ctx context.Context, tx pgx.Tx, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
	if err := unordered(records); err != nil {
		return nil, err
	}
	out, err := s.dedupe(ctx, tx, now, records)
	if err != nil {
		return nil, err
	}
	var params []riverqueue.InsertManyParams
	ids := map[string]bool{}
	for i := range records {
		if out[i].Duplicate {
			continue
		}
		if ids[records[i].ID] {
			return nil, known()
		}
		ids[records[i].ID] = true
		params = append(params, s.params(now, &records[i]))
	}
	return out, s.insertMany(ctx, tx, params)
}

func (s *store) insertMany(ctx context.Context, tx pgx.Tx, params []riverqueue.InsertManyParams) error {
	if len(params) == 0 {
		return nil
	}
	results, err := s.client.InsertManyTx(ctx, tx, params)
	if err != nil {
		return err
	}
	for _, r := range results {
		if r.UniqueSkippedAsDuplicate {
			return known()
		}
	}
	return nil
}

// unordered refuses a Key before anything is stored: what wants an order must not
// run without it.
func unordered(records []queue.Record) error {
	for i := range records {
		if records[i].Key != "" {
			return fault.New(fault.Unsupported, &queue.FieldError{Field: "key", Problem: "needs a queue that keeps order, such as queue/postgres: River's doesn't"})
		}
	}
	return nil
}

// dedupe takes the dedupe keys of records, and says which are taken already.
func (s *store) dedupe(ctx context.Context, tx pgx.Tx, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
	out := make([]queue.Enqueued, len(records))
	b := &pgx.Batch{}
	for i := range records {
		r := &records[i]
		if out[i].ID = r.ID; r.DedupeKey == "" {
			continue
		}
		b.Queue(s.sql(`insert into {schema}.integrations_dedupe as d (queue, kind, key, id, hash, until) values ($1, $2, $3, $4, $5, $6)
			on conflict (queue, kind, key) do update set id = excluded.id, hash = excluded.hash, until = excluded.until where d.until <= $7`),
			s.queue, r.Kind, r.DedupeKey, r.ID, r.DedupeHash[:], r.DedupeUntil.UnixMilli(), now.UnixMilli(),
		).Exec(func(tag pgconn.CommandTag) error {
			out[i].Duplicate = tag.RowsAffected() == 0
			return nil
		})
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return nil, err
	}
	for i := range out {
		if !out[i].Duplicate {
			continue
		}
		var hash []byte
		err := tx.QueryRow(ctx, s.sql(`select id, hash from {schema}.integrations_dedupe where queue = $1 and kind = $2 and key = $3`),
			s.queue, records[i].Kind, records[i].DedupeKey).Scan(&out[i].ID, &hash)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(hash, records[i].DedupeHash[:]) {
			return nil, conflict("dedupe_key", "was used for another payload")
		}
	}
	return out, nil
}

// sweep forgets dedupe keys whose time is over.
func (s *store) sweep(ctx context.Context, now time.Time) error {
	_, err := s.pool.Exec(ctx, s.sql(`delete from {schema}.integrations_dedupe where until <= $1`), now.UnixMilli())
	return failure(ctx, err)
}

// led says whether a client leads this River.
func (s *store) led(ctx context.Context) (led bool, err error) {
	err = s.pool.QueryRow(ctx, s.sql(`select exists (select from {schema}.river_leader where expires_at > now())`)).Scan(&led)
	return led, failure(ctx, err)
}

// Claim belongs to a [handover].
func (s *store) Claim(context.Context, queue.Claim) ([]queue.Claimed, error) {
	return nil, fault.New(fault.Unsupported, errNotHere)
}

// Settle belongs to a [handover].
func (s *store) Settle(context.Context, time.Time, []queue.Settlement) ([]bool, error) {
	return nil, fault.New(fault.Unsupported, errNotHere)
}

// Due belongs to a [handover].
func (s *store) Due(context.Context, []string) (time.Time, error) {
	return time.Time{}, fault.New(fault.Unsupported, errNotHere)
}

var readCommitted = pgx.TxOptions{IsoLevel: pgx.ReadCommitted}

// undefinedTable is a SQLSTATE, from appendix A of PostgreSQL's manual.
const undefinedTable = "42P01"

// retry is [pgfault.Retry], with an error that has a kind.
func retry(ctx context.Context, do func() error) error { return failure(ctx, pgfault.Retry(ctx, do)) }

// failure gives an error its kind.
func failure(ctx context.Context, err error) error { return pgfault.Of(ctx, "queue/river", err) }

func conflict(field, problem string) error {
	return fault.New(fault.Conflict, &queue.FieldError{Field: field, Problem: problem})
}

func known() error { return conflict("id", "is known already") }
