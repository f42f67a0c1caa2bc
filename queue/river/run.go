package river

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	riverqueue "github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
)

// Run works until ctx ends, see [queue.Queue]. It starts a River client of its own.
// Where River can't be reached it goes on trying, and reports that.
func (q *Queue) Run(ctx context.Context, handlers map[string]queue.Handler, options ...queue.RunOption) error {
	o, err := queue.NewRunOptions(options...)
	if err != nil {
		return err
	}
	if len(handlers) == 0 {
		return errors.New("queue/river: Run needs a handler")
	}
	jobs := newHandover(q.store)
	engine, err := queue.NewEngine(jobs, q.options...)
	if err != nil {
		return err
	}
	if _, err := q.working(o, handlers, jobs); err != nil {
		return fault.New(fault.Invalid, fmt.Errorf("queue/river: %w", err))
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		defer jobs.close()
		for ctx.Err() == nil {
			q.serve(ctx, o, handlers, jobs)
		}
	}()
	err = engine.Run(ctx, jobs.limited(handlers), options...)
	<-stopped
	return err
}

// serve runs one client of River's until ctx ends, or until it couldn't be started
// and the next may be tried. River stops when all that it has claimed is settled
// and written.
func (q *Queue) serve(ctx context.Context, o queue.RunOptions, handlers map[string]queue.Handler, jobs *handover) {
	client, err := q.working(o, handlers, jobs)
	if err == nil {
		err = client.Start(ctx)
	}
	if err != nil {
		if ctx.Err() == nil {
			o.Observe(queue.Event{Type: queue.StoreFailed, Err: err, Wait: o.Poll})
			pause(ctx, o.Poll)
		}
		return
	}
	for pause(ctx, time.Minute); ctx.Err() == nil; pause(ctx, time.Minute) {
		if err := q.tend(ctx); err != nil && ctx.Err() == nil {
			o.Observe(queue.Event{Type: queue.StoreFailed, Err: err, Wait: time.Minute})
		}
	}
	jobs.close()
	<-client.Stopped()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// tend does what is left to do beside River.
func (q *Queue) tend(ctx context.Context) error {
	err := q.store.sweep(ctx, time.Now())
	led, asked := q.store.led(ctx)
	if asked == nil && !led {
		asked = errNoLeader
	}
	return errors.Join(err, asked)
}

var errNoLeader = errors.New("queue/river: no client leads this River: delayed jobs, waits of more than 5 seconds and jobs whose worker died stay where they are")

// cooldown is River's least time between two claims: its own default of 100 ms
// bounds what few workers can do.
const cooldown = 10 * time.Millisecond

// longestPoll is what River needs, since waits below its scheduler's pace end by
// no notification.
const longestPoll = time.Second

// working makes a client that works.
func (q *Queue) working(o queue.RunOptions, handlers map[string]queue.Handler, jobs *handover) (*riverqueue.Client[pgx.Tx], error) {
	cfg := &riverqueue.Config{
		LeaderElectionDisabled: true, CancelledJobRetentionPeriod: -1, DiscardedJobRetentionPeriod: -1,
		RescueStuckJobsAfter: 2 * o.Lease, ID: "integrations-" + rand.Text(), Logger: slog.New(&reporter{observe: o.Observe}),
	}
	q.change(cfg)
	if cfg.Workers == nil {
		cfg.Workers = riverqueue.NewWorkers()
	}
	for kind := range handlers {
		if err := (&queue.Job{Kind: kind}).Validate(); err != nil {
			return nil, err
		}
		if err := add(cfg.Workers, kind, &worker{jobs: jobs, complete: q.store.complete}); err != nil {
			return nil, err
		}
	}
	cfg.Schema, cfg.FetchOnlyKnownKinds, cfg.JobTimeout = q.store.schema, true, o.Lease
	cfg.SoftStopTimeout = math.MaxInt64 // the Engine's drain ends handlers; without it River would at once
	cfg.Queues = map[string]riverqueue.QueueConfig{q.store.queue: {MaxWorkers: o.Workers}}
	cfg.FetchPollInterval = max(min(o.Poll, longestPoll), riverqueue.FetchPollIntervalMin)
	cfg.FetchCooldown = min(cooldown, cfg.FetchPollInterval)
	return riverqueue.NewClient(riverpgxv5.New(q.store.pool), cfg)
}

// inserting makes a client that inserts alone, with what concerns that. It notifies
// at every insert: River leaves out those within a cooldown.
func (q *Queue) inserting() (*riverqueue.Client[pgx.Tx], error) {
	theirs := &riverqueue.Config{Logger: slog.New(slog.DiscardHandler)}
	q.change(theirs)
	return riverqueue.NewClient(riverpgxv5.New(q.store.pool), &riverqueue.Config{
		AdvisoryLockPrefix: theirs.AdvisoryLockPrefix, Hooks: theirs.Hooks, Middleware: theirs.Middleware, Plugins: theirs.Plugins, Logger: theirs.Logger,
		Schema: q.store.schema, FetchCooldown: riverqueue.FetchCooldownMin,
	})
}

// reporter reports what River logs as an error: it has no other way to say that it
// can't reach the database.
type reporter struct {
	observe func(queue.Event)
}

func (*reporter) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

func (r *reporter) Handle(_ context.Context, record slog.Record) error {
	said := "queue/river: " + record.Message
	record.Attrs(func(a slog.Attr) bool {
		if a.Key == "err" || a.Key == "error" {
			said += ": " + a.Value.String()
		}
		return true
	})
	r.observe(queue.Event{Type: queue.StoreFailed, Err: errors.New(said)})
	return nil
}

func (r *reporter) WithAttrs([]slog.Attr) slog.Handler { return r }
func (r *reporter) WithGroup(string) slog.Handler      { return r }
