package postgres_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/internal/servertest"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/postgres"
	"github.com/smilefactory/integrations/queue/queuetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect makes a pool at the server that scripts/servers started.
func connect(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return connectTo(t, servertest.Env(t, "INTEGRATIONS_POSTGRES_URL"))
}

func connectTo(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	cfg.MaxConns = 16
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

var schemas atomic.Int64

// schema names one that nobody else uses, and drops it in the end.
func schema(t testing.TB, pool *pgxpool.Pool) string {
	t.Helper()
	name := fmt.Sprintf("queue_%d_%d", time.Now().UnixMilli(), schemas.Add(1))
	t.Cleanup(func() {
		_, err := pool.Exec(context.WithoutCancel(t.Context()), "drop schema if exists "+name+" cascade")
		require.NoError(t, err)
	})
	return name
}

// open makes an empty queue.
func open(t testing.TB, pool *pgxpool.Pool, name string, options ...postgres.Option) *postgres.Queue {
	t.Helper()
	q, err := postgres.Open(t.Context(), pool, append([]postgres.Option{postgres.WithSchema(name)}, options...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, q.Close(context.WithoutCancel(t.Context()))) })
	return q
}

func TestIntegrationPostgresKeepsEveryRule(t *testing.T) {
	queuetest.Run(t, func(t *testing.T) queuetest.Subject {
		pool := connect(t)
		name := schema(t, pool)
		return queuetest.Subject{
			Queue: open(t, pool, name),
			Keyed: func(k queue.Keys) queue.Queue { return open(t, pool, name, postgres.WithKeys(k)) },
		}
	})
}

func TestIntegrationPostgresIsAStore(t *testing.T) {
	pool := connect(t)
	queuetest.RunStore(t, func(t *testing.T) queue.Store { return postgres.StoreOf(open(t, pool, schema(t, pool))) })
}
