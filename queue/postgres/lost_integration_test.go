package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/servertest"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/postgres"
)

// connectBy makes a pool that goes by a line.
func connectBy(t *testing.T, l *servertest.Line) *pgxpool.Pool {
	t.Helper()
	cfg := connect(t).Config()
	cfg.ConnConfig.DialFunc = l.Dial
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// Where the connection is lost, the caller still learns what became of the jobs.
func TestIntegrationEnqueueOverALineThatBreaks(t *testing.T) {
	pool := connect(t)
	jobs := []queue.Job{{Kind: "test", Payload: []byte("cut here"), DedupeKey: "d"}, {Kind: "test", Payload: []byte("b"), Key: "k"}}
	for _, c := range []struct {
		says string
		cut  servertest.Cut
		kind fault.Kind // Unknown: no error
		jobs int        // which are there in the end
	}{
		{"before anything was done: it is done again", servertest.Cut{Text: "cut here", Before: true}, fault.Unknown, 2},
		{"before the commit: it is done again", servertest.Cut{Text: "cut here"}, fault.Unknown, 2},
		{"before the server got the commit: it is done again", servertest.Cut{Text: "commit\x00", Before: true}, fault.Unknown, 2},
		{"after the server got the commit: it was done", servertest.Cut{Text: "commit\x00"}, fault.Unknown, 2},
		{"before the commit, and nobody is there any more: nothing was done", servertest.Cut{Text: "cut here", Before: true, Down: true}, fault.Unavailable, 0},
		{"in the commit, and nobody is there any more: nobody knows", servertest.Cut{Text: "commit\x00", Down: true}, fault.Uncertain, 2},
	} {
		t.Run(c.says, func(t *testing.T) {
			var l servertest.Line
			q := open(t, connectBy(t, &l), schema(t, pool))
			_, err := q.Enqueue(t.Context(), queue.Job{Kind: "other", NotBefore: time.Now().Add(time.Hour)})
			require.NoError(t, err, "statements are prepared")
			l.Next.Store(&c.cut)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			out, err := q.Enqueue(ctx, jobs...)
			if c.kind == fault.Unknown {
				require.NoError(t, err)
				assert.Len(t, out, len(jobs))
			} else {
				require.ErrorIs(t, err, c.kind)
			}
			l.Down.Store(false)
			assert.Nil(t, l.Next.Load(), "the line was cut")
			w := watch(t, q, nil)
			eventually(t, func() bool { s := stats(t, q); return s.Ready+s.Running == 0 && s.Waiting == 1 })
			assert.Len(t, w.payloads(), c.jobs)
		})
	}
}

// A worker whose line breaks goes on, and what it had claimed comes again.
func TestIntegrationWorkersOverALineThatBreaks(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	var l servertest.Line
	at, through := open(t, pool, name), open(t, connectBy(t, &l), name)
	for _, text := range []string{"begin", "commit"} {
		for _, before := range []bool{true, false} {
			w := watch(t, through, func(o *queue.RunOptions) { o.Lease = time.Second })
			w.idle(t)
			l.Next.Store(&servertest.Cut{Text: text, Before: before})
			_, err := at.Enqueue(t.Context(), queue.Job{Kind: "test", Key: "k"}, queue.Job{Kind: "test", Key: "k"})
			require.NoError(t, err)
			empty(t, at)
			w.stop()
			assert.GreaterOrEqual(t, len(w.payloads()), 2)
		}
	}
}

func TestIntegrationNobodyIsThere(t *testing.T) {
	var l servertest.Line
	q := open(t, connectBy(t, &l), schema(t, connect(t)))
	l.Down.Store(true)
	_, err := q.Enqueue(t.Context(), queue.Job{Kind: "test"})
	require.ErrorIs(t, err, fault.Unavailable)
	_, err = q.Stats(t.Context())
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, q.Discard(t.Context(), "a"), fault.Unavailable)
	_, err = q.Cancel(t.Context(), "a")
	require.ErrorIs(t, err, fault.Unavailable)
	_, err = postgres.Open(t.Context(), connectBy(t, &l))
	require.ErrorIs(t, err, fault.Unavailable)
}
