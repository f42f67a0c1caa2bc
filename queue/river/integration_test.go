package river_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	riverqueue "github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/internal/servertest"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/queuetest"
	"github.com/smilefactory/integrations/queue/river"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(victimURL); url != "" {
		beTheVictim(url)
		return
	}
	goleak.VerifyTestMain(m)
}

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

// schema makes one that nobody else uses, with River's tables, and drops it in
// the end.
func schema(t testing.TB, pool *pgxpool.Pool) string {
	t.Helper()
	name := fmt.Sprintf("river_%d_%d", time.Now().UnixMilli(), schemas.Add(1))
	_, err := pool.Exec(t.Context(), "create schema "+name)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := pool.Exec(context.WithoutCancel(t.Context()), "drop schema "+name+" cascade")
		require.NoError(t, err)
	})
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: name})
	require.NoError(t, err)
	_, err = m.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	require.NoError(t, err)
	return name
}

// leads lets a Run lead, where the test has no other client.
func leads(c *riverqueue.Config) { c.LeaderElectionDisabled = false }

// open makes an empty queue, whose Runs lead.
func open(t testing.TB, pool *pgxpool.Pool, name string, options ...river.Option) *river.Queue {
	t.Helper()
	q, err := river.Open(t.Context(), pool, append([]river.Option{river.WithSchema(name), river.WithConfig(leads)}, options...)...)
	require.NoError(t, err)
	return q
}

func TestIntegrationRiverKeepsTheRulesThatItCan(t *testing.T) {
	queuetest.Run(t, func(t *testing.T) queuetest.Subject {
		pool := connect(t)
		name := schema(t, pool)
		return queuetest.Subject{
			Queue: &keyless{Queue: open(t, pool, name)},
			Keyed: func(k queue.Keys) queue.Queue { return open(t, pool, name, river.WithKeys(k)) },
			Lacks: []queuetest.Feature{queuetest.Order, queuetest.Aging, queuetest.Priority, queuetest.Leases},
		}
	})
}

// keyless remembers the keys of jobs that River refuses. Rules that are about
// something else give their jobs one as well; that a key is refused is tested
// without it.
type keyless struct {
	*river.Queue

	keys sync.Map // by ID
}

func (k *keyless) Enqueue(ctx context.Context, jobs ...queue.Job) ([]queue.Enqueued, error) {
	without := make([]queue.Job, len(jobs))
	for i, j := range jobs {
		if err := j.Validate(); err != nil {
			return nil, err
		}
		without[i] = j
		without[i].Key = ""
	}
	out, err := k.Queue.Enqueue(ctx, without...)
	for i := range out {
		k.keys.Store(out[i].ID, jobs[i].Key)
	}
	return out, err
}

func (k *keyless) Run(ctx context.Context, handlers map[string]queue.Handler, options ...queue.RunOption) error {
	with := maps.Clone(handlers)
	for kind, next := range handlers {
		with[kind] = func(ctx context.Context, d queue.Delivery) error {
			if key, ok := k.keys.Load(d.ID); ok {
				d.Key = key.(string)
			}
			return next(ctx, d)
		}
	}
	return k.Queue.Run(ctx, with, options...)
}
