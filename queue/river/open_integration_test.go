package river_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/river"
)

func TestIntegrationOpenSaysWhatIsMissing(t *testing.T) {
	pool := connect(t)
	_, err := river.Open(t.Context(), pool, river.WithSchema("no_such_schema"))
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, err, "run River's own migrations")
	name := schema(t, pool)
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: name})
	require.NoError(t, err)
	_, err = m.Migrate(t.Context(), rivermigrate.DirectionDown, &rivermigrate.MigrateOpts{TargetVersion: 5})
	require.NoError(t, err)
	_, err = river.Open(t.Context(), pool, river.WithSchema(name))
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, err, "an old one")
}

func TestIntegrationTheTablesAreFoundByTheSearchPath(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	cfg := pool.Config()
	cfg.ConnConfig.RuntimeParams["search_path"] = name
	there, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(there.Close)
	q, err := river.Open(t.Context(), there)
	require.NoError(t, err)
	enqueue(t, q, queue.Job{Kind: "test", DedupeKey: "d"})
	assert.Equal(t, 1, stats(t, open(t, pool, name)).Ready)
}

func TestIntegrationManyProcessesMakeTheTableAtOnce(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			_, err := river.Open(t.Context(), pool, river.WithSchema(name))
			assert.NoError(t, err)
		})
	}
	all.Wait()
}

// A service may have no right to make tables, once they are there.
func TestIntegrationATableThatIsThereNeedsNoRightToMakeIt(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	open(t, pool, name)
	role := "user_of_" + name
	for _, sql := range []string{
		"create role " + role + " login",
		"grant usage on schema " + name + " to " + role,
		"grant select, insert, update, delete on all tables in schema " + name + " to " + role,
		"grant usage on all sequences in schema " + name + " to " + role,
	} {
		_, err := pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		_, err := pool.Exec(context.WithoutCancel(t.Context()), "drop owned by "+role+"; drop role "+role)
		require.NoError(t, err)
	})
	cfg := pool.Config()
	cfg.ConnConfig.User = role
	poor, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(poor.Close)
	q := open(t, poor, name)
	enqueue(t, q, queue.Job{Kind: "test", DedupeKey: "d"})
	watch(t, q, nil, nil).await(t, 1)
	empty(t, q)
}

func TestIntegrationOldDedupeKeysAreSweptUp(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	q := open(t, pool, name)
	var jobs []queue.Job
	for i := range 100 {
		jobs = append(jobs, queue.Job{Kind: "test", DedupeKey: fmt.Sprint(i), DedupeFor: time.Millisecond})
	}
	enqueue(t, q, append(jobs, queue.Job{Kind: "test", DedupeKey: "lives"})...)
	eventually(t, func() (all bool) {
		_ = river.Tend(t.Context(), q) // nobody leads
		require.NoError(t, pool.QueryRow(t.Context(), "select array_agg(key) = '{lives}' from "+name+".integrations_dedupe").Scan(&all))
		return all
	})
}

func TestIntegrationItIsReportedThatNobodyLeads(t *testing.T) {
	pool := connect(t)
	q := open(t, pool, schema(t, pool))
	require.ErrorContains(t, river.Tend(t.Context(), q), "no client leads")
	watch(t, q, nil, nil)
	eventually(t, func() bool { return river.Tend(t.Context(), q) == nil })
}

func TestIntegrationRunLeadsOnlyWhereItIsTold(t *testing.T) {
	pool := connect(t)
	name := schema(t, pool)
	leaders := func() (n int) {
		require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from "+name+".river_leader").Scan(&n))
		return n
	}
	quiet, err := river.Open(t.Context(), pool, river.WithSchema(name))
	require.NoError(t, err)
	enqueue(t, quiet, queue.Job{Kind: "test"})
	w := watch(t, quiet, nil, nil)
	w.await(t, 1)
	w.idle(t)
	assert.Zero(t, leaders())
	watch(t, open(t, pool, name), nil, nil)
	eventually(t, func() bool { return leaders() == 1 })
}
