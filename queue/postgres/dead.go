package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/smilefactory/integrations/queue"
)

// Count counts jobs, see [queue.Store]. It reads the indexes of all that lives.
func (s *store) Count(ctx context.Context, now time.Time) (c queue.Stats, err error) {
	var oldest *int64
	var alive int
	err = s.transact(ctx, func(b *pgx.Batch) {
		b.Queue(s.sql.count, now.UnixMilli(), now.Add(queue.MaxLease).UnixMilli()).QueryRow(func(row pgx.Row) error {
			return row.Scan(&c.Ready, &oldest, &c.Running, &alive, &c.Dead)
		})
	})
	c.Waiting, c.Oldest = alive-c.Ready-c.Running, fromMilli(oldest)
	return c, err
}

// List lists dead letters, see [queue.Graveyard].
func (s *store) List(ctx context.Context, after string, n int) (out []queue.Buried, err error) {
	err = s.transact(ctx, func(b *pgx.Batch) {
		b.Queue(s.sql.list, after, max(n, 0)).Query(func(rows pgx.Rows) (err error) {
			out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (b queue.Buried, err error) {
				var died int64
				err = scan(row, &b.Claimed, &b.Reason, &died)
				b.Died = time.UnixMilli(died)
				return b, err
			})
			return err
		})
	})
	return out, err
}

// Revive makes dead letters new jobs, see [queue.Graveyard].
func (s *store) Revive(ctx context.Context, now time.Time, ids []string) (bool, error) {
	var each []string
	for _, id := range ids {
		if !slices.Contains(each, id) {
			each = append(each, id)
		}
	}
	n, err := s.affected(ctx, s.sql.revive, each, now.UnixMilli(), len(each))
	if err == nil && n > 0 {
		s.announce()
	}
	return n == len(each), err
}

// Erase forgets dead letters, see [queue.Graveyard].
func (s *store) Erase(ctx context.Context, ids []string) error {
	_, err := s.affected(ctx, s.sql.erase, ids)
	return err
}

func (s *store) affected(ctx context.Context, query string, args ...any) (n int, err error) {
	err = s.transact(ctx, func(b *pgx.Batch) {
		b.Queue(query, args...).Exec(func(tag pgconn.CommandTag) error {
			n = int(tag.RowsAffected())
			return nil
		})
	})
	return n, err
}
