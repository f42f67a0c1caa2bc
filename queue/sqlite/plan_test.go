package sqlite

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smilefactory/integrations/queue"
)

// spy keeps the statements that go through a session.
type spy struct {
	session
	mu   sync.Mutex
	seen map[string]int // with the number of arguments
}

func (s *spy) see(query string, args []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[query] = len(args)
}

func (s *spy) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s.see(query, args)
	return s.session.ExecContext(ctx, query, args...)
}

func (s *spy) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s.see(query, args)
	return s.session.QueryContext(ctx, query, args...)
}

func (s *spy) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	s.see(query, args)
	return s.session.QueryRowContext(ctx, query, args...)
}

// The plan of every statement that writers run is asked for, so that no job is
// looked for among all.
func TestNoWriteLooksAtEveryJob(t *testing.T) {
	q := file(t)
	p := &spy{session: q.store.writer.session, seen: map[string]int{}}
	ctx, now := t.Context(), time.Now()
	records := func(ids ...string) (out []queue.Record) {
		for _, id := range ids {
			out = append(out, queue.Record{ID: id, Kind: "a", Key: "k", Rank: 1, MaxAttempts: 1, EnqueuedAt: now, DedupeKey: id, DedupeUntil: now})
		}
		return out
	}
	if _, err := insertAll(ctx, p, milli(now), records("a", "b", "c")); err != nil {
		t.Fatal(err)
	}
	for _, outcome := range []queue.Outcome{queue.Extend, queue.Again, queue.Buries, queue.Done} {
		able, err := candidates(ctx, p, queue.Claim{Now: now, Kinds: []string{"a"}, N: 10})
		if err != nil || len(able) != 1 {
			t.Fatalf("candidates: %v, %v", able, err)
		}
		c, err := lease(ctx, p, able[0].seq, 0)
		if err != nil {
			t.Fatal(err)
		}
		if held, _, err := settle(ctx, p, milli(now), &queue.Settlement{ID: c.ID, Token: c.Token, Outcome: outcome}); err != nil || !held {
			t.Fatalf("settle: %v, %v", held, err)
		}
	}
	if err := revive(ctx, p, milli(now), "a"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := forget(ctx, p, milli(now), "state <> 2", "c"); err != nil {
		t.Fatal(err)
	}
	if len(p.seen) < 15 {
		t.Errorf("only %d statements were seen", len(p.seen))
	}
	for statement, n := range p.seen {
		for _, step := range plan(t, q.store.db, statement, n) {
			if strings.HasPrefix(step, "SCAN") && !strings.HasPrefix(step, "SCAN 2 CONSTANT") || strings.Contains(step, "TEMP B-TREE") {
				t.Errorf("%s\n%s", step, statement)
			}
		}
	}
}

// plan is what "EXPLAIN QUERY PLAN" says of a statement.
func plan(t *testing.T, db *sql.DB, statement string, args int) []string {
	t.Helper()
	if strings.HasPrefix(statement, "SAVEPOINT") || strings.HasPrefix(statement, "RELEASE") {
		return nil
	}
	steps, err := all(t.Context(), db, func(r *sql.Rows, step *string) error {
		var id, parent, unused int
		return r.Scan(&id, &parent, &unused, step)
	}, "EXPLAIN QUERY PLAN "+statement, make([]any, args)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, statement)
	}
	return steps
}
