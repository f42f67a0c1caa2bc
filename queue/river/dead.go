package river

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	riverqueue "github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/smilefactory/integrations/queue"
)

// named is the ID of a row, see nameOf. Looking for one reads the rows of our
// queue that are in the states asked for: it has no index of its own in a table
// that isn't ours.
const named = `coalesce(metadata->'integrations'->>'id', 'river-' || id)`

// States are listed, so that River's index of them serves.
const (
	isDead = `state in ('cancelled', 'discarded')`
	rests  = `state in ('available', 'cancelled', 'discarded', 'pending', 'retryable', 'scheduled')`
)

// Count counts jobs, see [queue.Store]. What is due and waits for River's scheduler
// counts as ready. It reads River's index of states and queues, and the rows that
// are ready.
func (s *store) Count(ctx context.Context, _ time.Time) (c queue.Stats, err error) {
	var oldest *time.Time
	err = s.pool.QueryRow(ctx, s.sql(`
		with ours as (
			select state, created_at, state in ('available', 'scheduled', 'retryable') and scheduled_at <= now() as ready
			from {schema}.river_job where queue = $1 and (`+rests+` or state = 'running')
		)
		select count(*) filter (where ready), count(*) filter (where state = 'running'), count(*) filter (where `+isDead+`),
			count(*) filter (where not ready and state <> 'running' and not `+isDead+`), min(created_at) filter (where ready)
		from ours`), s.queue).Scan(&c.Ready, &c.Running, &c.Dead, &c.Waiting, &oldest)
	if oldest != nil {
		c.Oldest = *oldest
	}
	return c, failure(ctx, err)
}

// letter is a dead job as River keeps it.
type letter struct {
	row  rivertype.JobRow
	args args
}

const columns = `id, kind, attempt, max_attempts, args, metadata, coalesce(to_jsonb(errors), '[]'), created_at, finalized_at, state::text`

func scan(row pgx.CollectableRow) (l letter, err error) {
	var errs []byte
	r := &l.row
	err = row.Scan(&r.ID, &r.Kind, &r.Attempt, &r.MaxAttempts, &r.EncodedArgs, &r.Metadata, &errs, &r.CreatedAt, &r.FinalizedAt, (*string)(&r.State))
	if err != nil {
		return l, err
	}
	_ = json.Unmarshal(r.EncodedArgs, &l.args) // which never fails
	return l, json.Unmarshal(errs, &r.Errors)
}

// buried is a letter as a Store gives it.
func (l *letter) buried() queue.Buried {
	b := queue.Buried{Claimed: claimed(&l.row, &l.args), Reason: string(l.row.State), Died: *l.row.FinalizedAt}
	errs := l.row.Errors
	if len(errs) == 0 {
		return b // somebody cancelled it
	}
	b.Reason = strings.TrimPrefix(errs[len(errs)-1].Error, "JobCancelError: ")
	b.LastError = answerOf(errs[:len(errs)-1], l.row.Attempt-1)
	if b.Reason == rescued {
		b.Reason = queue.ReasonWorkerDied
	}
	return b
}

// List lists dead letters, see [queue.Graveyard].
func (s *store) List(ctx context.Context, after string, n int) ([]queue.Buried, error) {
	rows, err := s.pool.Query(ctx, s.sql(`
		with behind as (
			select finalized_at, id from {schema}.river_job where queue = $1 and `+isDead+` and `+named+` = $2
		)
		select `+columns+` from {schema}.river_job
		where queue = $1 and `+isDead+` and ((finalized_at, id) > (select finalized_at, id from behind) or not exists (select from behind))
		order by river_job.finalized_at, river_job.id limit $3`), s.queue, after, max(n, 0))
	if err != nil {
		return nil, failure(ctx, err)
	}
	letters, err := pgx.CollectRows(rows, scan)
	out := make([]queue.Buried, len(letters))
	for i := range letters {
		out[i] = letters[i].buried()
	}
	return out, failure(ctx, err)
}

// Revive makes dead letters new jobs, see [queue.Graveyard]: new ones for River,
// too, since it can't take back attempts. What makes no sense is left as it is,
// and only tried again.
func (s *store) Revive(ctx context.Context, now time.Time, ids []string) (all bool, err error) {
	each := distinct(ids)
	err = retry(ctx, func() error {
		all = true
		return pgx.BeginTxFunc(ctx, s.pool, readCommitted, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, s.sql(`select `+columns+` from {schema}.river_job
				where queue = $1 and `+isDead+` and `+named+` = any($2) order by id for update`), s.queue, each)
			if err != nil {
				return err
			}
			letters, err := pgx.CollectRows(rows, scan)
			if err != nil {
				return err
			}
			if all = len(letters) == len(each); !all {
				return nil
			}
			return s.revive(ctx, tx, now, each, letters)
		})
	})
	return all && err == nil, err
}

func (s *store) revive(ctx context.Context, tx pgx.Tx, now time.Time, order []string, letters []letter) error {
	byName := map[string]*letter{}
	for i := range letters {
		b := letters[i].buried()
		byName[b.ID] = &letters[i]
	}
	var params []riverqueue.InsertManyParams
	var old []int64
	for _, id := range order {
		l := byName[id]
		if l == nil {
			return errors.New("queue/river: two rows have the id of one dead letter")
		}
		r := claimed(&l.row, &l.args).Record
		if len(r.Payload) == 0 {
			if _, err := s.client.JobRetryTx(ctx, tx, l.row.ID); err != nil {
				return err
			}
			continue
		}
		r.Rank += now.Sub(r.EnqueuedAt).Milliseconds() // as much before now as its priority says
		r.EnqueuedAt, r.NotBefore, r.Expires = now, time.Time{}, time.Time{}
		params, old = append(params, s.params(now, &r)), append(old, l.row.ID)
	}
	if _, err := tx.Exec(ctx, s.sql(`delete from {schema}.river_job where id = any($1)`), old); err != nil {
		return err
	}
	return s.insertMany(ctx, tx, params)
}

// distinct drops what is named again.
func distinct(ids []string) []string {
	var out []string
	for _, id := range ids {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// Erase forgets dead letters, see [queue.Graveyard].
func (s *store) Erase(ctx context.Context, ids []string) error {
	_, err := s.remove(ctx, isDead, ids)
	return err
}

// Cancel forgets jobs that don't run, see [queue.Canceler].
func (s *store) Cancel(ctx context.Context, _ time.Time, ids []string) ([]bool, error) {
	gone, err := s.remove(ctx, rests, ids)
	if err != nil {
		return nil, err
	}
	out := make([]bool, len(ids))
	for i, id := range ids {
		out[i] = slices.Contains(gone, id) && !slices.Contains(ids[:i], id)
	}
	return out, nil
}

func (s *store) remove(ctx context.Context, where string, ids []string) (gone []string, err error) {
	err = retry(ctx, func() error {
		rows, err := s.pool.Query(ctx, s.sql(`delete from {schema}.river_job where queue = $1 and `+where+` and `+named+` = any($2) returning `+named), s.queue, ids)
		if err != nil {
			return err
		}
		gone, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return gone, err
}
