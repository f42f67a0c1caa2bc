package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/queuetest"
)

// until works on a queue until n attempts have ended.
func until(ctx context.Context, q queue.Queue, n int, handlers map[string]queue.Handler) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := q.Run(ctx, handlers, queue.With(func(o *queue.RunOptions) {
		o.Workers, o.Initial = 1, time.Millisecond
		o.Observe = func(queue.Event) {
			if n--; n == 0 {
				cancel()
			}
		}
	}))
	if err != nil {
		fmt.Println(err)
	}
}

func Example() {
	ctx := context.Background()
	q := queuetest.New() // in production: sqlite.Open(ctx, "mail.db")
	_, err := q.Enqueue(ctx, queue.Job{Kind: "email.send", Payload: []byte("hello"), Key: "ada@example.com"})
	if err != nil {
		fmt.Println(err)
		return
	}
	until(ctx, q, 2, map[string]queue.Handler{
		"email.send": func(_ context.Context, d queue.Delivery) error {
			fmt.Printf("attempt %d: %s\n", d.Attempt, d.Payload)
			if d.Attempt == 1 {
				return errors.New("the provider is down")
			}
			return nil
		},
	})
	// Output:
	// attempt 1: hello
	// attempt 2: hello
}

// What can't be done is kept with the reason, and can be replayed when the cause
// is gone.
func ExampleEngine_Replay() {
	ctx := context.Background()
	q := queuetest.New()
	_, err := q.Enqueue(ctx, queue.Job{ID: "invoice-7", Kind: "invoice", Payload: []byte("7")})
	if err != nil {
		fmt.Println(err)
		return
	}
	until(ctx, q, 1, map[string]queue.Handler{"invoice": func(context.Context, queue.Delivery) error {
		return queue.Bury(errors.New("the customer has no address"))
	}})
	dead, err := q.Dead(ctx, "", 10)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, d := range dead {
		fmt.Println(d.ID, d.Reason)
	}
	if err := q.Replay(ctx, "invoice-7"); err != nil {
		fmt.Println(err)
		return
	}
	until(ctx, q, 1, map[string]queue.Handler{"invoice": func(_ context.Context, d queue.Delivery) error {
		fmt.Println("attempt", d.Attempt)
		return nil
	}})
	// Output:
	// invoice-7 buried: the customer has no address
	// attempt 1
}

// The same key and payload enqueue nothing new.
func ExampleJob_dedupe() {
	ctx := context.Background()
	q := queuetest.New()
	for range 2 {
		out, err := q.Enqueue(ctx, queue.Job{Kind: "charge", Payload: []byte("order 7"), DedupeKey: "order-7"})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(out[0].Duplicate)
	}
	// Output:
	// false
	// true
}

// What becomes of the jobs is logged: a retry at info, a dead letter as an error.
func ExampleLog() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	q := queuetest.New()
	_, err := q.Enqueue(ctx, queue.Job{ID: "invoice-7", Kind: "invoice", Payload: []byte("7")})
	if err != nil {
		fmt.Println(err)
		return
	}
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: steady}))
	err = q.Run(ctx, map[string]queue.Handler{"invoice": func(_ context.Context, d queue.Delivery) error {
		if d.Attempt == 1 {
			return queue.RetryAfter(errors.New("the printer is off"), time.Millisecond)
		}
		stop()
		return queue.Bury(errors.New("the customer has no address"))
	}}, queue.With(func(o *queue.RunOptions) { o.Observe = queue.Log(logger) }))
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// level=INFO msg="queue: retried" kind=invoice id=invoice-7 attempt=1 err="the printer is off"
	// level=ERROR msg="queue: died" kind=invoice id=invoice-7 attempt=2 err="the customer has no address"
}

// steady leaves out what differs each time.
func steady(_ []string, a slog.Attr) slog.Attr {
	switch a.Key {
	case slog.TimeKey, "duration", "next":
		return slog.Attr{}
	}
	return a
}
