package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/postgres"
)

// line is the way to the server, which is cut where a test says so.
type line struct {
	// cut is what becomes of the next connection that writes text.
	cut  atomic.Pointer[cut]
	down atomic.Bool // it leads nowhere
}

type cut struct {
	text   string // of what is written
	before bool   // the server doesn't get it any more
	down   bool   // and no connection works any more
}

type wire struct {
	net.Conn
	line *line
}

var errCut = errors.New("the line was cut")

func (w *wire) Write(p []byte) (int, error) {
	if w.line.down.Load() {
		w.Conn.Close()
		return 0, errCut
	}
	c := w.line.cut.Load()
	if c == nil || !bytes.Contains(p, []byte(c.text)) || !w.line.cut.CompareAndSwap(c, nil) {
		return w.Conn.Write(p)
	}
	w.line.down.Store(c.down)
	if !c.before {
		if _, err := w.Conn.Write(p); err != nil {
			return 0, err
		}
		_, _ = w.Conn.Read(make([]byte, 1)) // it has answered: it is done
	}
	w.Conn.Close()
	return 0, errCut
}

// connectBy makes a pool that goes by a line.
func connectBy(t *testing.T, l *line) *pgxpool.Pool {
	t.Helper()
	cfg := connect(t).Config()
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if l.down.Load() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: errCut}
		}
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &wire{c, l}, err
	}
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
		cut  cut
		kind fault.Kind // Unknown: no error
		jobs int        // which are there in the end
	}{
		{"before anything was done: it is done again", cut{text: "cut here", before: true}, fault.Unknown, 2},
		{"before the commit: it is done again", cut{text: "cut here"}, fault.Unknown, 2},
		{"before the server got the commit: it is done again", cut{text: "commit\x00", before: true}, fault.Unknown, 2},
		{"after the server got the commit: it was done", cut{text: "commit\x00"}, fault.Unknown, 2},
		{"before the commit, and nobody is there any more: nothing was done", cut{text: "cut here", before: true, down: true}, fault.Unavailable, 0},
		{"in the commit, and nobody is there any more: nobody knows", cut{text: "commit\x00", down: true}, fault.Uncertain, 2},
	} {
		t.Run(c.says, func(t *testing.T) {
			var l line
			q := open(t, connectBy(t, &l), schema(t, pool))
			_, err := q.Enqueue(t.Context(), queue.Job{Kind: "other", NotBefore: time.Now().Add(time.Hour)})
			require.NoError(t, err, "statements are prepared")
			l.cut.Store(&c.cut)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			out, err := q.Enqueue(ctx, jobs...)
			if c.kind == fault.Unknown {
				require.NoError(t, err)
				assert.Len(t, out, len(jobs))
			} else {
				require.ErrorIs(t, err, c.kind)
			}
			l.down.Store(false)
			assert.Nil(t, l.cut.Load(), "the line was cut")
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
	var l line
	at, through := open(t, pool, name), open(t, connectBy(t, &l), name)
	for _, text := range []string{"begin", "commit"} {
		for _, before := range []bool{true, false} {
			w := watch(t, through, func(o *queue.RunOptions) { o.Lease = time.Second })
			w.idle(t)
			l.cut.Store(&cut{text: text, before: before})
			_, err := at.Enqueue(t.Context(), queue.Job{Kind: "test", Key: "k"}, queue.Job{Kind: "test", Key: "k"})
			require.NoError(t, err)
			empty(t, at)
			w.stop()
			assert.GreaterOrEqual(t, len(w.payloads()), 2)
		}
	}
}

func TestIntegrationNobodyIsThere(t *testing.T) {
	var l line
	q := open(t, connectBy(t, &l), schema(t, connect(t)))
	l.down.Store(true)
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
