package river_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
)

func TestIntegrationEnqueueWithinATransaction(t *testing.T) {
	pool := connect(t)
	for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable} {
		begin := func(t *testing.T) pgx.Tx {
			tx, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
			require.NoError(t, err)
			return tx
		}
		t.Run(string(level)+": a rollback enqueues nothing", func(t *testing.T) {
			q := open(t, pool, schema(t, pool))
			tx := begin(t)
			_, err := q.Tx(tx).Enqueue(t.Context(), queue.Job{Kind: "test", DedupeKey: "rolled back"}, queue.Job{Kind: "test"})
			require.NoError(t, err)
			require.NoError(t, tx.Rollback(t.Context()))
			assert.Equal(t, queue.Stats{}, stats(t, q))
			assert.False(t, enqueue(t, q, queue.Job{Kind: "test", DedupeKey: "rolled back"})[0].Duplicate, "the dedupe key was rolled back, too")
		})
		t.Run(string(level)+": a commit enqueues, and wakes", func(t *testing.T) {
			q := open(t, pool, schema(t, pool))
			r := watch(t, q, nil, nil)
			tx := begin(t)
			job := queue.Job{Kind: "test", Payload: []byte("a"), DedupeKey: "once"}
			out, err := q.Tx(tx).Enqueue(t.Context(), job, queue.Job{Kind: "test", Payload: []byte("b")}, job)
			require.NoError(t, err)
			assert.True(t, out[2].Duplicate && out[2].ID == out[0].ID, "the third is the first again: %+v", out)
			r.idle(t)
			assert.Empty(t, r.payloads(), "nothing runs before the commit")
			require.NoError(t, tx.Commit(t.Context()))
			assert.ElementsMatch(t, []string{"a", "b"}, r.await(t, 2))
		})
		t.Run(string(level)+": a refusal leaves the transaction as it was", func(t *testing.T) {
			q := open(t, pool, schema(t, pool))
			later := time.Now().Add(time.Hour)
			known := queue.Job{ID: "known", Kind: "test", NotBefore: later}
			deduped := queue.Job{Kind: "test", DedupeKey: "d", Payload: []byte("a"), NotBefore: later}
			enqueue(t, q, known, deduped)
			deduped.Payload = []byte("b")
			tx := begin(t)
			_, err := tx.Exec(t.Context(), "create temporary table mine (v int) on commit drop")
			require.NoError(t, err)
			for wrong, kind := range map[*queue.Job]fault.Kind{
				&known: fault.Conflict, &deduped: fault.Conflict, {Kind: "WRONG"}: fault.Invalid, {Kind: "test", Key: "k"}: fault.Unsupported,
			} {
				_, err := q.Tx(tx).Enqueue(t.Context(), queue.Job{Kind: "test", ID: "not-stored"}, *wrong)
				require.ErrorIs(t, err, kind)
			}
			_, err = tx.Exec(t.Context(), "insert into mine values (1)")
			require.NoError(t, err, "it can be gone on with")
			require.NoError(t, tx.Commit(t.Context()))
			gone, err := q.Cancel(t.Context(), "not-stored", known.ID)
			require.NoError(t, err)
			assert.Equal(t, []bool{false, true}, gone)
		})
	}
}

func TestIntegrationEnqueueWithinALostTransactionSaysThatNothingWasDone(t *testing.T) {
	pool := connect(t)
	q := open(t, pool, schema(t, pool))
	conn, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
	require.NoError(t, err)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "select pg_terminate_backend($1)", conn.PgConn().PID())
	require.NoError(t, err)
	_, err = q.Tx(tx).Enqueue(t.Context(), queue.Job{Kind: "test"})
	require.ErrorIs(t, err, fault.Unavailable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = q.Tx(tx).Enqueue(ctx, queue.Job{Kind: "test"})
	require.True(t, errors.Is(err, fault.Canceled) || errors.Is(err, fault.Unavailable), "%v", err)
	assert.Equal(t, queue.Stats{}, stats(t, q))
}
