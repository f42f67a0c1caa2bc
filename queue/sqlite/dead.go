package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/smilefactory/integrations/queue"
)

// List lists dead letters, see [queue.Graveyard].
func (s *store) List(ctx context.Context, after string, n int) ([]queue.Buried, error) {
	var died, seq int64
	err := s.db.QueryRowContext(ctx, `SELECT died, seq FROM queue_jobs WHERE id = ? AND state = 4`, after).Scan(&died, &seq)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, s.failed(err)
	}
	out, err := all(ctx, s.db, func(rows *sql.Rows, b *queue.Buried) error {
		var r row
		var died int64
		err := rows.Scan(r.fields(&r.Payload, &b.Reason, &died)...)
		b.Claimed, b.Died = r.claimed(), fromMilli(died)
		return err
	}, `SELECT `+columns+`, (SELECT data FROM queue_payloads p WHERE p.seq = j.seq), reason, died FROM queue_jobs j
		WHERE state = 4 AND (died, seq) > (?, ?) ORDER BY died, seq LIMIT ?`, died, seq, max(n, 0))
	if err != nil {
		return nil, s.failed(err)
	}
	return out, nil
}

// errNotDead undoes a transaction; Revive answers it with false.

// Revive makes dead letters new jobs, see [queue.Graveyard].
func (s *store) Revive(ctx context.Context, now time.Time, ids []string) (ok bool, err error) {
	err = s.writer.do(ctx, 0, func(ctx context.Context, on session) (bool, error) {
		ok = true
		for _, id := range ids { // before anything is written
			isDead, err := exists(ctx, on, `SELECT 1 FROM queue_jobs WHERE id = ? AND state = 4`, id)
			if ok = ok && isDead; err != nil || !ok {
				return false, err
			}
		}
		for _, id := range ids {
			if err := revive(ctx, on, milli(now), id); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	return ok && err == nil, err
}

func exists(ctx context.Context, on session, query string, args ...any) (bool, error) {
	var one int
	err := on.QueryRowContext(ctx, query, args...).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// revive gives a job a new seq, which puts it behind all others of its key.
func revive(ctx context.Context, on session, now int64, id string) error {
	var old, seq int64
	var key string
	err := on.QueryRowContext(ctx, `SELECT seq, (SELECT max(seq) FROM queue_jobs) + 1, order_key FROM queue_jobs WHERE id = ? AND state = 4`, id).Scan(&old, &seq, &key)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // named twice
	}
	if err != nil {
		return err
	}
	_, err = on.ExecContext(ctx, `UPDATE queue_jobs SET seq = ?, state = iif(order_key = '', 0, 3), place = rank + ?2 - enqueued, rank = rank + ?2 - enqueued,
		enqueued = ?2, not_before = 0, expires = 0, attempt = 0, last_error = '', reason = '', died = 0 WHERE seq = ?3`, seq, now, old)
	if err != nil {
		return err
	}
	if _, err = on.ExecContext(ctx, `UPDATE queue_payloads SET seq = ? WHERE seq = ?`, seq, old); err == nil && key != "" {
		_, err = moveUp(ctx, on, now, key)
	}
	return err
}

// Erase forgets dead letters, see [queue.Graveyard].
func (s *store) Erase(ctx context.Context, ids []string) error {
	return s.writer.do(ctx, 0, func(ctx context.Context, on session) (bool, error) {
		for _, id := range ids {
			if _, _, err := forget(ctx, on, 0, `state = 4`, id); err != nil {
				return false, err
			}
		}
		return false, nil
	})
}

// Cancel forgets jobs that don't run, see [queue.Canceler].
func (s *store) Cancel(ctx context.Context, now time.Time, ids []string) (done []bool, err error) {
	err = s.writer.do(ctx, 0, func(ctx context.Context, on session) (wakes bool, err error) {
		done = make([]bool, len(ids))
		for i, id := range ids {
			var woke bool
			if done[i], woke, err = forget(ctx, on, milli(now), `state <> 2`, id); err != nil {
				return false, err
			}
			wakes = wakes || woke
		}
		return wakes, nil
	})
	return done, err
}

func forget(ctx context.Context, on session, now int64, which, id string) (gone, wakes bool, err error) {
	return leaves(ctx, on, now, `DELETE FROM queue_jobs WHERE `+which+` AND id = ?`, id)
}
