package river_test

import (
	"context"
	"log"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	riverqueue "github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/river"
)

// A service that runs River keeps its own client, which leads. Ours works beside
// it.
func Example() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://localhost/shop")
	if err != nil {
		log.Fatal(err)
	}

	// The team's client must know our kinds, and keep what couldn't be done.
	workers := riverqueue.NewWorkers() // with the team's own
	if err := river.Register(workers, "email.send"); err != nil {
		log.Fatal(err)
	}
	team, err := riverqueue.NewClient(riverpgxv5.New(pool), &riverqueue.Config{
		Queues:                      map[string]riverqueue.QueueConfig{riverqueue.QueueDefault: {MaxWorkers: 100}},
		Workers:                     workers,
		CancelledJobRetentionPeriod: -1,
		DiscardedJobRetentionPeriod: -1,
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := team.Start(ctx); err != nil {
		log.Fatal(err)
	}

	q, err := river.Open(ctx, pool)
	if err != nil {
		log.Fatal(err)
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "insert into orders default values"); err != nil {
			return err
		}
		_, err := q.Tx(tx).Enqueue(ctx, queue.Job{Kind: "email.send", Payload: []byte("thank you")})
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	send := func(context.Context, queue.Delivery) error { return nil }
	if err := q.Run(ctx, map[string]queue.Handler{"email.send": send}); err != nil {
		log.Fatal(err)
	}
}

// Where River works for nobody else, Run leads it.
func ExampleWithConfig() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://localhost/shop")
	if err != nil {
		log.Fatal(err)
	}
	q, err := river.Open(ctx, pool, river.WithSchema("mail_river"), river.WithConfig(func(c *riverqueue.Config) {
		c.LeaderElectionDisabled = false
	}))
	if err != nil {
		log.Fatal(err)
	}
	_ = q
}
