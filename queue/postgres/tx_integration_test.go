package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/postgres"
)

// outer is a transaction of somebody's.
type outer struct {
	queue            postgres.Tx
	exec             func(query string, args ...any) error
	commit, rollback func() error
}

// transactions are the ways to begin one.
func transactions(t *testing.T, pool *pgxpool.Pool) map[string]func(t *testing.T, q *postgres.Queue) outer {
	db := stdlib.OpenDBFromPool(pool)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	viaPgx := func(level pgx.TxIsoLevel) func(t *testing.T, q *postgres.Queue) outer {
		return func(t *testing.T, q *postgres.Queue) outer {
			ctx := t.Context()
			tx, err := pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: level})
			require.NoError(t, err)
			exec := func(query string, args ...any) error { _, err := tx.Exec(ctx, query, args...); return err }
			return outer{q.Tx(tx), exec, func() error { return tx.Commit(ctx) }, func() error { return tx.Rollback(ctx) }}
		}
	}
	return map[string]func(t *testing.T, q *postgres.Queue) outer{
		"pgx":                 viaPgx(pgx.ReadCommitted),
		"pgx repeatable read": viaPgx(pgx.RepeatableRead),
		"pgx serializable":    viaPgx(pgx.Serializable),
		"database/sql": func(t *testing.T, q *postgres.Queue) outer {
			ctx := t.Context()
			tx, err := db.BeginTx(ctx, &sql.TxOptions{})
			require.NoError(t, err)
			exec := func(query string, args ...any) error { _, err := tx.ExecContext(ctx, query, args...); return err }
			return outer{q.SQLTx(tx), exec, tx.Commit, tx.Rollback}
		},
	}
}

func TestIntegrationEnqueueWithinATransaction(t *testing.T) {
	pool := connect(t)
	for name, begin := range transactions(t, pool) {
		t.Run(name+": a rollback enqueues nothing", func(t *testing.T) {
			q := open(t, pool, schema(t, pool))
			tx := begin(t, q)
			_, err := tx.queue.Enqueue(t.Context(), queue.Job{Kind: "test", DedupeKey: "rolled back"}, queue.Job{Kind: "test", Key: "k"})
			require.NoError(t, err)
			require.NoError(t, tx.rollback())
			assert.Equal(t, queue.Stats{}, stats(t, q))
			out, err := q.Enqueue(t.Context(), queue.Job{Kind: "test", DedupeKey: "rolled back", DedupeFor: time.Millisecond})
			require.NoError(t, err)
			assert.False(t, out[0].Duplicate, "the dedupe key was rolled back, too")
			runAll(t, q)
		})
		t.Run(name+": a commit enqueues, and wakes", func(t *testing.T) {
			q := open(t, pool, schema(t, pool))
			r := watch(t, q, func(o *queue.RunOptions) { o.Poll = time.Hour })
			r.idle(t)
			tx := begin(t, q)
			sealed := queue.Job{Kind: "test", Payload: []byte("a"), DedupeKey: name}
			out, err := tx.queue.Enqueue(t.Context(), sealed, queue.Job{Kind: "test", Payload: []byte("b"), Key: "k"}, sealed)
			require.NoError(t, err)
			assert.True(t, out[2].Duplicate && out[2].ID == out[0].ID, "the third is the first again: %+v", out)
			r.idle(t)
			assert.Empty(t, r.payloads(), "nothing runs before the commit")
			require.NoError(t, tx.commit())
			assert.ElementsMatch(t, []string{"a", "b"}, r.await(t, 2))
		})
		t.Run(name+": a refusal leaves the transaction as it was", func(t *testing.T) {
			q := open(t, pool, schema(t, pool))
			known := queue.Job{ID: "known", Kind: "test", NotBefore: time.Now().Add(time.Hour)}
			deduped := queue.Job{Kind: "test", DedupeKey: "d", Payload: []byte("a"), NotBefore: time.Now().Add(time.Hour)}
			_, err := q.Enqueue(t.Context(), known, deduped)
			require.NoError(t, err)
			deduped.Payload = []byte("b")
			tx := begin(t, q)
			require.NoError(t, tx.exec("create temporary table mine (v int) on commit drop"))
			for _, wrong := range []queue.Job{known, deduped} {
				_, err = tx.queue.Enqueue(t.Context(), queue.Job{Kind: "test", ID: "not-stored"}, wrong)
				require.ErrorIs(t, err, fault.Conflict)
			}
			_, err = tx.queue.Enqueue(t.Context(), queue.Job{Kind: "WRONG"})
			require.ErrorIs(t, err, fault.Invalid)
			require.NoError(t, tx.exec("insert into mine values (1)"), "it can be gone on with")
			require.NoError(t, tx.commit())
			gone, err := q.Cancel(t.Context(), "not-stored", known.ID)
			require.NoError(t, err)
			assert.Equal(t, []bool{false, true}, gone)
		})
	}
}

// A caller's transaction may be open for long. It keeps nobody from working on
// the keys that it enqueues into.
func TestIntegrationAnOpenTransactionBlocksNoKey(t *testing.T) {
	pool := connect(t)
	q := open(t, pool, schema(t, pool))
	ctx := t.Context()
	_, err := q.Enqueue(ctx, queue.Job{Kind: "test", Key: "k", Payload: []byte("1")})
	require.NoError(t, err)
	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	_, err = q.Tx(tx).Enqueue(ctx, queue.Job{Kind: "test", Key: "k", Payload: []byte("late")}, queue.Job{Kind: "test", Key: "l", Payload: []byte("late")})
	require.NoError(t, err)
	_, err = q.Enqueue(ctx, queue.Job{Kind: "test", Key: "k", Payload: []byte("2")}, queue.Job{Kind: "test", Key: "l", Payload: []byte("3")})
	require.NoError(t, err)
	r := watch(t, q, nil)
	assert.ElementsMatch(t, []string{"1", "2", "3"}, r.await(t, 3))
	require.NoError(t, tx.Commit(ctx))
	assert.Len(t, r.await(t, 5), 5)
}

func TestIntegrationEnqueueWithinALostTransactionSaysThatNothingWasDone(t *testing.T) {
	pool := connect(t)
	q := open(t, pool, schema(t, pool))
	conn, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
	require.NoError(t, err)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	terminate(t, pool, "pid = $1", conn.PgConn().PID())
	_, err = q.Tx(tx).Enqueue(t.Context(), queue.Job{Kind: "test"})
	require.ErrorIs(t, err, fault.Unavailable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = q.Tx(tx).Enqueue(ctx, queue.Job{Kind: "test"})
	require.True(t, errors.Is(err, fault.Canceled) || errors.Is(err, fault.Unavailable), "%v", err)
}
