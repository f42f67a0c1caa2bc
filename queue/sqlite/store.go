package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
)

// store is a [queue.Store] in a SQLite file, see migrations/1.sql for its tables.
type store struct {
	db     *sql.DB
	path   string
	id     string // of the queue, in its file
	writer *writer
	bell   bell
}

// start begins what goes on until close.
func (s *store) start(ctx context.Context) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	watching, err := s.db.Conn(ctx)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	s.bell.init()
	s.writer = newWriter(conn, s.path, s.bell.ring)
	go s.bell.watch(watching)
	return nil
}

func (s *store) close(ctx context.Context) error {
	s.writer.close()
	s.bell.close()
	for _, done := range []chan struct{}{s.writer.done, s.bell.done} {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.writer.session.close()
	return kind(s.path, s.db.Close())
}

// milli is a time as it is stored.
func milli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMilli(m int64) time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMilli(m)
}

// The states of a job that are told apart here.
const (
	ready   = 0
	waiting = 1
	behind  = 3
)

// stand is the state and place of a job that is the head of its key.
func stand(now, rank, due, expires int64) (state, place int64) {
	if expires != 0 && expires < due {
		due = expires // only to be buried
	}
	if due <= now {
		return ready, rank
	}
	return waiting, due
}

// Insert stores records, see [queue.Store].
func (s *store) Insert(ctx context.Context, now time.Time, records []queue.Record) (out []queue.Enqueued, err error) {
	bytes := 0
	for _, r := range records {
		bytes += len(r.Payload)
	}
	err = s.writer.do(ctx, bytes, func(ctx context.Context, on session) (bool, error) {
		out, err = insertAll(ctx, on, milli(now), records)
		return true, err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// insertTx stores records in a caller's transaction.
func (s *store) insertTx(ctx context.Context, tx *sql.Tx, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
	var id string
	if err := tx.QueryRowContext(ctx, `SELECT id FROM queue_schema`).Scan(&id); err != nil || id != s.id {
		return nil, fault.New(fault.Invalid, errors.Join(errors.New("queue/sqlite: the transaction isn't one of the queue's file"), err))
	}
	out, err := insertAll(ctx, tx, milli(now), records)
	return out, kind(s.path, err)
}

// insertAll undoes what it did where one of several is in conflict.
func insertAll(ctx context.Context, on session, now int64, records []queue.Record) (out []queue.Enqueued, err error) {
	if len(records) > 1 {
		if _, err := on.ExecContext(ctx, `SAVEPOINT queue_insert`); err != nil {
			return nil, err
		}
		defer func() { err = release(ctx, on, err) }()
	}
	for _, r := range records {
		e, err := insert(ctx, on, now, &r)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// release ends the savepoint of an insert. What isn't a conflict undoes the whole
// transaction.
func release(ctx context.Context, on session, answer error) error {
	if _, conflicts := fault.As(answer); conflicts {
		if _, err := on.ExecContext(ctx, `ROLLBACK TO queue_insert`); err != nil {
			return err
		}
	} else if answer != nil {
		return answer
	}
	if _, err := on.ExecContext(ctx, `RELEASE queue_insert`); err != nil {
		return err
	}
	return answer
}

func insert(ctx context.Context, on session, now int64, r *queue.Record) (queue.Enqueued, error) {
	if r.DedupeKey != "" {
		known, err := duplicate(ctx, on, now, r)
		if known != "" || err != nil {
			return queue.Enqueued{ID: known, Duplicate: true}, err
		}
	}
	state, place := stand(now, r.Rank, milli(r.NotBefore), milli(r.Expires))
	if r.Key != "" {
		var head int64
		switch err := on.QueryRowContext(ctx, `SELECT seq FROM queue_jobs WHERE order_key = ? AND order_key <> '' AND state < 4 LIMIT 1`, r.Key).Scan(&head); {
		case err == nil:
			state, place = behind, 0
		case !errors.Is(err, sql.ErrNoRows):
			return queue.Enqueued{}, err
		}
	}
	result, err := on.ExecContext(ctx, `INSERT INTO queue_jobs
		(id, kind, order_key, state, place, rank, not_before, expires, enqueued, max_attempts, token, dedupe_key)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		r.ID, r.Kind, r.Key, state, place, r.Rank, milli(r.NotBefore), milli(r.Expires), milli(r.EnqueuedAt), r.MaxAttempts, newToken(), r.DedupeKey)
	if err != nil {
		return queue.Enqueued{}, err
	}
	if n, err := result.RowsAffected(); n == 0 || err != nil {
		return queue.Enqueued{}, cmp.Or(err, conflict("id", "is known already"))
	}
	seq, err := result.LastInsertId()
	if err != nil {
		return queue.Enqueued{}, err
	}
	if _, err := on.ExecContext(ctx, `INSERT INTO queue_payloads (seq, data) VALUES (?, ?)`, seq, notNil(r.Payload)); err != nil {
		return queue.Enqueued{}, err
	}
	return queue.Enqueued{ID: r.ID}, remember(ctx, on, now, r)
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// newToken begins a job's tokens where no other job's do.
func newToken() int64 { return rand.Int64N(1 << 62) } //nolint:gosec // it need not be secret

func conflict(field, problem string) error {
	return fault.New(fault.Conflict, &queue.FieldError{Field: field, Problem: problem})
}

// duplicate is the ID that the record's dedupe key stands for, if any.
func duplicate(ctx context.Context, on session, now int64, r *queue.Record) (id string, err error) {
	var hash []byte
	err = on.QueryRowContext(ctx, `SELECT id, hash FROM queue_dedupe WHERE kind = ? AND key = ? AND until > ?`, r.Kind, r.DedupeKey, now).Scan(&id, &hash)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", nil
	case err != nil:
		return "", err
	case string(hash) != string(r.DedupeHash[:]):
		return "", conflict("dedupe_key", "was used for another payload")
	}
	return id, nil
}

// remember keeps the record's dedupe key, and forgets two whose time is over: so
// they never become many.
func remember(ctx context.Context, on session, now int64, r *queue.Record) error {
	if r.DedupeKey == "" {
		return nil
	}
	_, err := on.ExecContext(ctx, `DELETE FROM queue_dedupe WHERE (kind, key) IN (SELECT kind, key FROM queue_dedupe WHERE until <= ? LIMIT 2)`, now)
	if err != nil {
		return err
	}
	_, err = on.ExecContext(ctx, `INSERT INTO queue_dedupe (kind, key, id, hash, until) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (kind, key) DO UPDATE SET id = excluded.id, hash = excluded.hash, until = excluded.until`,
		r.Kind, r.DedupeKey, r.ID, r.DedupeHash[:], milli(r.DedupeUntil))
	return err
}

// candidate is a job that can be claimed.
type candidate struct{ seq, rank int64 }

// Claim leases jobs, see [queue.Store].
func (s *store) Claim(ctx context.Context, c queue.Claim) (out []queue.Claimed, err error) {
	err = s.writer.do(ctx, 0, func(ctx context.Context, on session) (bool, error) {
		out = nil
		able, err := candidates(ctx, on, c)
		if err != nil {
			return false, err
		}
		for _, job := range able {
			claimed, err := lease(ctx, on, job.seq, milli(c.Until))
			if err != nil {
				return false, err
			}
			out = append(out, claimed)
		}
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Queries say state < 3 beside the state, since that is how SQLite sees that the
// index queue_claimable has all that they look for.

// candidates are the first jobs that can be claimed: what is due, and what was
// leased until now, or for longer than anything is leased.
func candidates(ctx context.Context, on session, c queue.Claim) ([]candidate, error) {
	now := milli(c.Now)
	var able []candidate
	for _, kind := range c.Kinds {
		_, err := on.ExecContext(ctx, `UPDATE queue_jobs SET state = 0, place = rank WHERE kind = ? AND state = 1 AND state < 3 AND place <= ?`, kind, now)
		if err != nil {
			return nil, err
		}
		for _, q := range []struct {
			statement string
			args      []any
		}{
			{`SELECT seq, rank FROM queue_jobs WHERE kind = ? AND state = 0 AND state < 3 ORDER BY place, seq LIMIT ?`, []any{kind, c.N}},
			{`SELECT seq, rank FROM queue_jobs WHERE kind = ? AND state = 2 AND state < 3 AND (place <= ? OR place > ?) LIMIT ?`, []any{kind, now, milli(c.Now.Add(queue.MaxLease)), c.N}},
		} {
			found, err := all(ctx, on, func(r *sql.Rows, c *candidate) error { return r.Scan(&c.seq, &c.rank) }, q.statement, q.args...)
			if err != nil {
				return nil, err
			}
			able = append(able, found...)
		}
	}
	slices.SortFunc(able, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.seq, b.seq)) })
	return able[:min(c.N, len(able))], nil
}

// all reads every row of a query.
func all[T any](ctx context.Context, on session, scan func(*sql.Rows, *T) error, query string, args ...any) (out []T, err error) {
	rows, err := on.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // nothing is lost with it
	for rows.Next() {
		var v T
		if err := scan(rows, &v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// columns are those of a job that comes back, in the order of its scan.
const columns = `seq, id, kind, order_key, rank, not_before, expires, enqueued, max_attempts, attempt, token, dedupe_key, last_error`

// row is a job as it is stored.
type row struct {
	queue.Claimed
	seq, notBefore, expires, enqueued int64
}

func (r *row) fields(more ...any) []any {
	return append([]any{
		&r.seq, &r.ID, &r.Kind, &r.Key, &r.Rank, &r.notBefore, &r.expires, &r.enqueued, &r.MaxAttempts, &r.Attempt, &r.Token, &r.DedupeKey, &r.LastError,
	}, more...)
}

// claimed is the row with its times.
func (r *row) claimed() queue.Claimed {
	r.NotBefore, r.Expires, r.EnqueuedAt = fromMilli(r.notBefore), fromMilli(r.expires), fromMilli(r.enqueued)
	return r.Claimed
}

func lease(ctx context.Context, on session, seq, until int64) (queue.Claimed, error) {
	var r row
	err := on.QueryRowContext(ctx, `UPDATE queue_jobs SET state = 2, place = ?, attempt = attempt + 1, token = token + 1
		WHERE seq = ? RETURNING `+columns, until, seq).Scan(r.fields()...)
	if err != nil {
		return queue.Claimed{}, err
	}
	err = on.QueryRowContext(ctx, `SELECT data FROM queue_payloads WHERE seq = ?`, seq).Scan(&r.Payload)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil // somebody has deleted it: unreadable, and no reason to claim nothing
	}
	return r.claimed(), err
}

// Settle ends or extends leases, see [queue.Store].
func (s *store) Settle(ctx context.Context, now time.Time, settlements []queue.Settlement) (lost []bool, err error) {
	err = s.writer.do(ctx, 0, func(ctx context.Context, on session) (wakes bool, err error) {
		lost = make([]bool, len(settlements))
		for i, e := range settlements {
			held, woke, err := settle(ctx, on, milli(now), &e)
			if err != nil {
				return false, err
			}
			lost[i] = !held
			wakes = wakes || woke
		}
		return wakes, nil
	})
	if err != nil {
		return nil, err
	}
	return lost, nil
}

// held is the row of a settlement, while its lease lasts.
const held = ` WHERE id = ? AND token = ? AND state = 2`

func settle(ctx context.Context, on session, now int64, e *queue.Settlement) (isHeld, wakes bool, err error) {
	switch e.Outcome {
	case queue.Extend:
		isHeld, err = touched(on.ExecContext(ctx, `UPDATE queue_jobs SET place = ?`+held, milli(e.At), e.ID, e.Token))
		return isHeld, false, err
	case queue.Again:
		isHeld, err = touched(on.ExecContext(ctx, `UPDATE queue_jobs SET state = 1, last_error = ?,
			place = min(?, iif(expires = 0, 9223372036854775807, expires))`+held, e.Reason, milli(e.At), e.ID, e.Token))
		return isHeld, isHeld, err
	case queue.Buries:
		return leaves(ctx, on, now, `UPDATE queue_jobs SET state = 4, place = 0, reason = ?, died = ?`+held, e.Reason, now, e.ID, e.Token)
	case queue.Done:
	}
	return leaves(ctx, on, now, `DELETE FROM queue_jobs`+held, e.ID, e.Token)
}

func touched(r sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n > 0, err
}

// leaves runs a statement by which a job is no longer alive, and lets the next of
// its key move up.
func leaves(ctx context.Context, on session, now int64, statement string, args ...any) (left, wakes bool, err error) {
	var seq int64
	var key string
	var isDead bool
	err = on.QueryRowContext(ctx, statement+` RETURNING seq, order_key, died <> 0`, args...).Scan(&seq, &key, &isDead)
	if errors.Is(err, sql.ErrNoRows) {
		return false, false, nil
	}
	if err == nil && !isDead {
		_, err = on.ExecContext(ctx, `DELETE FROM queue_payloads WHERE seq = ?`, seq)
	}
	if err == nil && key != "" {
		wakes, err = moveUp(ctx, on, now, key)
	}
	return true, wakes, err
}

// moveUp makes the first live job of a key its head.
func moveUp(ctx context.Context, on session, now int64, key string) (bool, error) {
	var seq, state, rank, notBefore, expires int64
	err := on.QueryRowContext(ctx, `SELECT seq, state, rank, not_before, expires FROM queue_jobs
		WHERE order_key = ? AND order_key <> '' AND state < 4 ORDER BY seq LIMIT 1`, key).Scan(&seq, &state, &rank, &notBefore, &expires)
	if errors.Is(err, sql.ErrNoRows) || err == nil && state != behind {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	state, place := stand(now, rank, notBefore, expires)
	_, err = on.ExecContext(ctx, `UPDATE queue_jobs SET state = ?, place = ? WHERE seq = ?`, state, place, seq)
	return true, err
}

// Due is when the next job can be claimed, see [queue.Store].
func (s *store) Due(ctx context.Context, kinds []string) (time.Time, error) {
	var first time.Time
	for _, kind := range kinds {
		var at sql.NullInt64
		err := s.db.QueryRowContext(ctx, `SELECT min(at) FROM (
			SELECT * FROM (SELECT 0 AS at FROM queue_jobs WHERE kind = ?1 AND state = 0 AND state < 3 LIMIT 1)
			UNION ALL SELECT min(place) FROM queue_jobs WHERE kind = ?1 AND state = 1 AND state < 3
			UNION ALL SELECT min(place) FROM queue_jobs WHERE kind = ?1 AND state = 2 AND state < 3)`, kind).Scan(&at)
		if err != nil {
			return time.Time{}, s.failed(err)
		}
		if due := time.UnixMilli(at.Int64); at.Valid && (first.IsZero() || due.Before(first)) {
			first = due
		}
	}
	return first, nil
}

// failed is the fault of something that reads.
func (s *store) failed(err error) error {
	if errors.Is(err, sql.ErrConnDone) || err != nil && err.Error() == "sql: database is closed" {
		return errClosed()
	}
	return kind(s.path, err)
}

// Count counts jobs, see [queue.Store].
func (s *store) Count(ctx context.Context, now time.Time) (queue.Stats, error) {
	var c queue.Stats
	var oldest sql.NullInt64
	err := s.db.QueryRowContext(ctx, `SELECT
			count(*) FILTER (WHERE able), count(*) FILTER (WHERE state IN (1, 3) AND NOT able),
			count(*) FILTER (WHERE state = 2 AND NOT able), count(*) FILTER (WHERE state = 4), min(enqueued) FILTER (WHERE able)
		FROM (SELECT state, enqueued, state = 0 OR state IN (1, 2) AND place <= ?1 OR state = 2 AND place > ?2 AS able FROM queue_jobs)`,
		milli(now), milli(now.Add(queue.MaxLease))).Scan(&c.Ready, &c.Waiting, &c.Running, &c.Dead, &oldest)
	if err != nil {
		return queue.Stats{}, s.failed(err)
	}
	c.Oldest = fromMilli(oldest.Int64)
	return c, nil
}
