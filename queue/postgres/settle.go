package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/smilefactory/integrations/queue"
)

var outcomeNames = map[queue.Outcome]string{queue.Done: "done", queue.Again: "again", queue.Buries: "bury", queue.Extend: "extend"}

// Settle ends or extends leases, see [queue.Store]. A lease that has ended counts
// as long as nobody else has claimed its job.
func (s *store) Settle(ctx context.Context, now time.Time, all []queue.Settlement) ([]bool, error) {
	lost := make([]bool, len(all))
	left := make([]int, len(all))
	for i := range all {
		left[i] = i
	}
	for len(left) > 0 { // once, where no job is named twice
		var later []int
		seen := map[string]bool{}
		left = slices.DeleteFunc(left, func(i int) bool {
			again := seen[all[i].ID]
			if seen[all[i].ID] = true; again {
				later = append(later, i)
			}
			return again
		})
		if err := s.settle(ctx, now, all, left, lost); err != nil {
			return nil, err
		}
		left = later
	}
	return lost, nil
}

// settle settles some of all, no job of which is among them twice.
func (s *store) settle(ctx context.Context, now time.Time, all []queue.Settlement, some []int, lost []bool) error {
	var ids, outcomes, reasons, ending []string
	var tokens, ats []int64
	for _, i := range some {
		a := &all[i]
		ids, tokens = append(ids, a.ID), append(tokens, a.Token)
		outcomes, reasons = append(outcomes, outcomeNames[a.Outcome]), append(reasons, text(a.Reason))
		ats = append(ats, a.At.UnixMilli())
		if a.Outcome == queue.Done || a.Outcome == queue.Buries {
			ending = append(ending, a.ID)
		}
	}
	held, err := s.change(ctx, ending, s.sql.settle, now.UnixMilli(), ids, tokens, outcomes, ats, reasons)
	if err != nil {
		return err
	}
	for _, i := range some {
		lost[i] = !slices.Contains(held, all[i].ID)
	}
	return nil
}

// Cancel forgets jobs that don't run, see [queue.Canceler].
func (s *store) Cancel(ctx context.Context, now time.Time, ids []string) ([]bool, error) {
	gone, err := s.change(ctx, ids, s.sql.cancel, now.UnixMilli(), ids)
	if err != nil {
		return nil, err
	}
	out := make([]bool, len(ids))
	for i, id := range ids {
		out[i] = slices.Contains(gone, id) && !slices.Contains(ids[:i], id)
	}
	return out, nil
}

// change runs a statement that answers the ids which it changed, and whether
// workers should look again. The keys of the jobs that go with it are locked
// before.
func (s *store) change(ctx context.Context, going []string, query string, args ...any) (changed []string, err error) {
	look := false
	err = s.transact(ctx, func(b *pgx.Batch) {
		if len(going) > 0 {
			b.Queue(s.sql.lockJobs, going, s.seed)
		}
		b.Queue(query, args...).Query(func(rows pgx.Rows) (err error) {
			changed, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (id string, err error) {
				err = row.Scan(&id, &look)
				return id, err
			})
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	if look {
		s.announce()
	}
	return changed, nil
}
