package river_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	riverqueue "github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/servertest"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/river"
)

// A test with these variables is a process that works until it is killed.
const (
	victimURL    = "RIVER_TEST_VICTIM_URL"
	victimSchema = "RIVER_TEST_VICTIM_SCHEMA"
)

// beTheVictim notes what it begins and what it ends. Of some jobs it makes no end.
func beTheVictim(url string) {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, url)
	var q *river.Queue
	if err == nil {
		q, err = river.Open(ctx, pool, river.WithSchema(os.Getenv(victimSchema)))
	}
	if err == nil {
		err = q.Run(ctx, map[string]queue.Handler{"test": noting(pool, os.Getenv(victimSchema), true)}, hasty)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func hasty(o *queue.RunOptions) { o.Workers, o.Lease, o.Poll = 5, time.Second, 20*time.Millisecond }

func noting(pool *pgxpool.Pool, schema string, hangs bool) queue.Handler {
	return func(ctx context.Context, d queue.Delivery) error {
		note := "insert into " + schema + ".noted values ($1, $2, $3)"
		if _, err := pool.Exec(ctx, note, d.ID, d.Attempt, "begun"); err != nil {
			return err
		}
		if hangs && strings.HasPrefix(d.ID, "hang") {
			select {}
		}
		_, err := pool.Exec(context.WithoutCancel(ctx), note, d.ID, d.Attempt, "done")
		return err
	}
}

// leader is a client of the team's own, as the package's text asks for it.
func leader(t *testing.T, pool *pgxpool.Pool, name string, kinds ...string) {
	t.Helper()
	workers := riverqueue.NewWorkers()
	riverqueue.AddWorker(workers, riverqueue.WorkFunc(func(context.Context, *riverqueue.Job[teamsArgs]) error { return nil }))
	require.NoError(t, river.Register(workers, kinds...))
	c, err := riverqueue.NewClient(riverpgxv5.New(pool), &riverqueue.Config{
		Schema: name, Workers: workers, Queues: map[string]riverqueue.QueueConfig{riverqueue.QueueDefault: {MaxWorkers: 1}},
		JobTimeout: -1, RescueStuckJobsAfter: 2 * time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	require.NoError(t, c.Start(context.WithoutCancel(t.Context())))
	t.Cleanup(func() { require.NoError(t, c.Stop(context.WithoutCancel(t.Context()))) })
}

type teamsArgs struct{}

func (teamsArgs) Kind() string { return "team" }

// killed enqueues jobs, and kills the process that works on them while some run.
func killed(t *testing.T, pool *pgxpool.Pool, name string, q *river.Queue) {
	t.Helper()
	_, err := pool.Exec(t.Context(), "create table "+name+".noted (id text, attempt int, what text)")
	require.NoError(t, err)
	var jobs []queue.Job
	for i := range 60 {
		jobs = append(jobs, queue.Job{Kind: "test", ID: fmt.Sprint("quick-", i)})
		if i%20 == 5 {
			jobs = append(jobs, queue.Job{Kind: "test", ID: fmt.Sprint("hang-", i)})
		}
	}
	enqueue(t, q, jobs...)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimURL+"="+servertest.Env(t, "INTEGRATIONS_POSTGRES_URL"), victimSchema+"="+name)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	eventually(t, func() bool {
		return noted(t, pool, name, "id like 'hang%'") == 3 && noted(t, pool, name, "what = 'done'") > 10
	})
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
}

func noted(t *testing.T, pool *pgxpool.Pool, name, where string) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from "+name+".noted where "+where).Scan(&n))
	return n
}

// River looks for dead workers every 30 seconds.
func TestIntegrationAWorkerIsKilledAndItsJobsAreDone(t *testing.T) {
	t.Parallel()
	pool := connect(t)
	name := schema(t, pool)
	q, err := river.Open(t.Context(), pool, river.WithSchema(name))
	require.NoError(t, err)
	leader(t, pool, name, "test")
	killed(t, pool, name, q)
	start := time.Now()
	left := stats(t, q)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx, map[string]queue.Handler{"test": noting(pool, name, false)}, hasty) }()
	empty(t, q)
	stop()
	require.NoError(t, <-done)
	var ids, again int
	require.NoError(t, pool.QueryRow(t.Context(), "select count(distinct id), count(*) - count(distinct id) from "+name+".noted where what = 'done'").Scan(&ids, &again))
	assert.Equal(t, 63, ids, "every job is done")
	assert.Zero(t, noted(t, pool, name, "what = 'done' and id like 'hang%' and attempt <> 2"), "and the attempt at which the worker died is counted")
	assert.Zero(t, left.Dead+stats(t, q).Dead)
	assert.LessOrEqual(t, again, 2, "none is done twice but those in flight at the kill: of 5 workers, 3 hang")
	t.Logf("after the kill %+v were left, all done %v later; lost 0, %d done twice", left, time.Since(start).Round(100*time.Millisecond), again)
}

// That is what the package's text warns of.
func TestIntegrationALeaderThatDoesNotKnowTheKindMakesDeadLetters(t *testing.T) {
	t.Parallel()
	pool := connect(t)
	name := schema(t, pool)
	q, err := river.Open(t.Context(), pool, river.WithSchema(name))
	require.NoError(t, err)
	leader(t, pool, name)
	killed(t, pool, name, q)
	dead := awaitDead(t, q, 3)
	var ids []string
	for _, d := range dead {
		assert.Equal(t, queue.ReasonWorkerDied, d.Reason)
		ids = append(ids, d.ID)
	}
	require.NoError(t, q.Replay(t.Context(), ids...), "none is lost")
	w := watch(t, q, nil, nil)
	empty(t, q)
	w.stop()
	for _, d := range w.deliveries() {
		assert.Equal(t, 1, d.Attempt)
	}
}
