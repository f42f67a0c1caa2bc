package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smilefactory/integrations/queue"
)

// Claim leases jobs, see [queue.Store]. Where jobs have arrived with a key, they
// are sorted in before.
func (s *store) Claim(ctx context.Context, c queue.Claim) ([]queue.Claimed, error) {
	out, arrived, err := s.claim(ctx, c, false)
	if err != nil || len(arrived) == 0 || len(out) > 0 {
		return out, err
	}
	if err := s.sortIn(ctx, arrived); err != nil {
		return nil, err
	}
	out, _, err = s.claim(ctx, c, true)
	return out, err
}

// claim also answers keys of which jobs have arrived, and claims nothing then
// unless it is anyway.
func (s *store) claim(ctx context.Context, c queue.Claim, anyway bool) (out []queue.Claimed, arrived []string, err error) {
	now := c.Now.UnixMilli()
	err = s.transact(ctx, func(b *pgx.Batch) {
		b.Queue(s.sql.due, c.Kinds, now)
		b.Queue(s.sql.ended, c.Kinds, now, now+queue.MaxLease.Milliseconds())
		b.Queue(s.sql.claim, c.Kinds, c.N, c.Until.UnixMilli(), anyway).Query(func(rows pgx.Rows) (err error) {
			out, err = pgx.CollectRows(rows, scanClaimed)
			return err
		})
		s.queueArrived(b, &arrived)
		s.queueSweep(b, now)
	})
	if err != nil {
		return nil, nil, err
	}
	return out, arrived, nil
}

// queueSweep forgets dedupe keys whose time is over, once a minute, and as long
// as there are many.
func (s *store) queueSweep(b *pgx.Batch, now int64) {
	const minute, many = 60_000, 1000 // milliseconds, rows
	at := s.sweep.Load()
	if now < at && at-now <= minute || !s.sweep.CompareAndSwap(at, now+minute) {
		return
	}
	q := b.Queue(s.sql.sweep, now)
	q.Fn = func(br pgx.BatchResults) error {
		tag, err := br.Exec()
		if tag.RowsAffected() == many {
			s.sweep.Store(now)
		}
		return err
	}
}

// queueArrived asks for keys of which jobs have arrived.
func (s *store) queueArrived(b *pgx.Batch, keys *[]string) {
	b.Queue(s.sql.arrived).Query(func(rows pgx.Rows) (err error) {
		*keys, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
}

// sortIn makes new jobs of these keys heads, or puts them behind those. A delayed
// head becomes ready with the claim that finds it due.
func (s *store) sortIn(ctx context.Context, keys []string) error {
	return s.transact(ctx, func(b *pgx.Batch) {
		b.Queue(s.sql.lockKeys, keys, s.seed)
		b.Queue(s.sql.sort, keys)
	})
}

// Due is when the next job can be claimed, see [queue.Store]. It sorts in what
// has arrived with a key; where that is very much, it answers a time long ago.
func (s *store) Due(ctx context.Context, kinds []string) (time.Time, error) {
	const rounds = 10
	for range rounds {
		var at *int64
		var arrived []string
		err := s.transact(ctx, func(b *pgx.Batch) {
			b.Queue(s.sql.next, kinds).QueryRow(func(row pgx.Row) error { return row.Scan(&at) })
			s.queueArrived(b, &arrived)
		})
		if err != nil || len(arrived) == 0 {
			return fromMilli(at), err
		}
		if err := s.sortIn(ctx, arrived); err != nil {
			return time.Time{}, err
		}
	}
	return time.UnixMilli(0), nil
}

func scanClaimed(row pgx.CollectableRow) (c queue.Claimed, err error) {
	err = scan(row, &c)
	return c, err
}

// scan reads columns, and what follows them.
func scan(row pgx.CollectableRow, c *queue.Claimed, more ...any) error {
	var notBefore, expires *int64
	var enqueued int64
	err := row.Scan(append([]any{
		&c.ID, &c.Kind, &c.Key, &c.Payload, &c.Rank, &notBefore, &expires, &c.MaxAttempts, &enqueued, &c.DedupeKey, &c.Attempt, &c.Token, &c.LastError,
	}, more...)...)
	c.NotBefore, c.Expires, c.EnqueuedAt = fromMilli(notBefore), fromMilli(expires), time.UnixMilli(enqueued)
	return err
}
