package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/sqlite"
)

// folder is where an example keeps its file.
func folder() (path string, remove func()) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }
}

// until works on a queue until n attempts have ended.
func until(ctx context.Context, n int, q queue.Queue, h queue.Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return q.Run(ctx, map[string]queue.Handler{"invoice": h}, queue.With(func(o *queue.RunOptions) {
		o.Workers, o.Initial = 1, time.Millisecond
		o.Observe = func(queue.Event) {
			if n--; n == 0 {
				cancel()
			}
		}
	}))
}

// A service that enqueues, and works until it is told to stop.
func ExampleOpen() {
	dir, remove := folder()
	defer remove()
	ctx, stop := context.WithCancel(context.Background()) // in a service: signal.NotifyContext
	defer stop()

	q, err := sqlite.Open(ctx, filepath.Join(dir, "queue.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer q.Close(context.WithoutCancel(ctx))
	out, err := q.Enqueue(ctx, queue.Job{ID: "welcome-7", Kind: "email.send", Payload: []byte("hello"), Key: "customer-7"})
	if err != nil {
		fmt.Println(err) // nothing was stored
		return
	}
	fmt.Println(out[0].ID)
	err = q.Run(ctx, map[string]queue.Handler{
		"email.send": func(_ context.Context, d queue.Delivery) error {
			fmt.Printf("attempt %d of %s: %s\n", d.Attempt, d.ID, d.Payload)
			stop()
			return nil
		},
	})
	fmt.Println(err)
	// Output:
	// welcome-7
	// attempt 1 of welcome-7: hello
	// <nil>
}

// What can't be done is looked at, done again when the cause is gone, or forgotten.
func ExampleQueue_deadLetters() {
	dir, remove := folder()
	defer remove()
	ctx := context.Background()
	q, err := sqlite.Open(ctx, filepath.Join(dir, "queue.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer q.Close(ctx)
	_, err = q.Enqueue(ctx, queue.Job{ID: "invoice-7", Kind: "invoice"}, queue.Job{ID: "invoice-8", Kind: "invoice"}, queue.Job{ID: "invoice-9", Kind: "invoice"})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = until(ctx, 2, q, func(context.Context, queue.Delivery) error {
		return queue.Bury(errors.New("the customer has no address"))
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	for after := ""; ; {
		page, err := q.Dead(ctx, after, 100)
		if err != nil || len(page) == 0 {
			break
		}
		for _, d := range page {
			fmt.Println(d.ID, d.Kind, d.Attempt, d.Reason)
			after = d.ID
		}
	}
	if err := q.Replay(ctx, "invoice-7"); err != nil {
		fmt.Println(err)
	}
	if err := q.Discard(ctx, "invoice-8"); err != nil {
		fmt.Println(err)
	}
	gone, err := q.Cancel(ctx, "invoice-9", "unknown")
	fmt.Println(gone, err)

	err = until(ctx, 1, q, func(_ context.Context, d queue.Delivery) error {
		fmt.Println(d.ID, "attempt", d.Attempt)
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// invoice-7 invoice 1 buried: the customer has no address
	// invoice-8 invoice 1 buried: the customer has no address
	// [true false] <nil>
	// invoice-7 attempt 1
}

// A key is replaced while jobs wait that the old one sealed.
func ExampleOpen_keys() {
	dir, remove := folder()
	defer remove()
	ctx := context.Background()
	vault := map[string][]byte{"2025": make([]byte, 32), "2026": []byte("0123456789abcdef0123456789abcdef")} // stands for a real one

	keys := queue.Keys{Current: "2025", Key: func(_ context.Context, id string) ([]byte, error) {
		if key, ok := vault[id]; ok {
			return key, nil
		}
		return nil, errors.New("no such key") // one that can't be had now: fault.Unavailable
	}}
	for _, keys.Current = range []string{"2025", "2026"} {
		q, err := sqlite.Open(ctx, filepath.Join(dir, "queue.db"), queue.WithKeys(keys))
		if err != nil {
			fmt.Println(err)
			return
		}
		if _, err := q.Enqueue(ctx, queue.Job{Kind: "invoice", Payload: []byte("sealed in " + keys.Current)}); err != nil {
			fmt.Println(err)
		}
		if keys.Current == "2026" {
			err = until(ctx, 2, q, func(_ context.Context, d queue.Delivery) error {
				fmt.Printf("%s\n", d.Payload)
				return nil
			})
		}
		if err = errors.Join(err, q.Close(ctx)); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// sealed in 2025
	// sealed in 2026
}

// A job that runs if its caller's transaction commits, and only then.
func ExampleQueue_Tx() {
	dir, remove := folder()
	defer remove()
	ctx := context.Background()
	path := filepath.Join(dir, "shop.db")
	q, err := sqlite.Open(ctx, path)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer q.Close(ctx)
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=synchronous(FULL)")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()

	for _, commits := range []bool{false, true} {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		_, err = q.Tx(tx).Enqueue(ctx, queue.Job{Kind: "invoice", Payload: []byte("order 7")})
		if err == nil && commits { // beside what else the order needs
			err = tx.Commit()
		} else {
			err = errors.Join(err, tx.Rollback())
		}
		if err != nil {
			fmt.Println(err)
		}
		stats, err := q.Stats(ctx)
		fmt.Println(stats.Ready, err)
	}
	// Output:
	// 0 <nil>
	// 1 <nil>
}

// What a service watches: how much waits, since when, and what could not be done.
func ExampleQueue_stats() {
	dir, remove := folder()
	defer remove()
	ctx := context.Background()
	q, err := sqlite.Open(ctx, filepath.Join(dir, "queue.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer q.Close(ctx)
	_, err = q.Enqueue(ctx,
		queue.Job{Kind: "invoice"},
		queue.Job{Kind: "invoice", NotBefore: time.Now().Add(time.Hour)},
		queue.Job{Kind: "invoice", Key: "customer-7"},
		queue.Job{Kind: "invoice", Key: "customer-7"})
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := q.Stats(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	late := !s.Oldest.IsZero() && time.Since(s.Oldest) > 5*time.Minute
	fmt.Println(s.Ready, s.Waiting, s.Running, s.Dead, late)

	_, err = q.Enqueue(ctx, queue.Job{Kind: "Invoice"})
	wrong, ok := errors.AsType[*queue.FieldError](err)
	fmt.Println(errors.Is(err, fault.Invalid), ok && wrong.Field == "kind")
	// Output:
	// 2 2 0 0 false
	// true true
}
