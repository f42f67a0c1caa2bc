package crash_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/postgres"
	"github.com/smilefactory/integrations/queue/sqlite"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/secret"
)

const (
	workers = 4 // of a child: the mails that it has in flight at once
	lease   = time.Second
)

func TestMain(m *testing.M) {
	if os.Getenv("CRASH_QUEUE") == "" {
		os.Exit(m.Run())
	}
	if err := child(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child delivers until nothing is left in the queue, or dies at the point that
// it was told, at the mail that it was told.
func child(ctx context.Context) error {
	q, err := open(ctx, os.Getenv("CRASH_QUEUE"))
	for began := time.Now(); errors.Is(err, fault.Unavailable) && time.Since(began) < 20*time.Second; {
		time.Sleep(20 * time.Millisecond) // the server recovers
		q, err = open(ctx, os.Getenv("CRASH_QUEUE"))
	}
	if err != nil {
		return err
	}
	defer q.Close(ctx)
	d := &death{point: os.Getenv("CRASH_POINT")}
	n, _ := strconv.ParseInt(os.Getenv("CRASH_AT"), 10, 64)
	d.in.Store(n)
	c, err := client(told{q, os.Getenv("CRASH_FLAW")}, os.Getenv("CRASH_URL"), d)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond)
			if s, err := q.Stats(ctx); err == nil && s.Ready+s.Waiting+s.Running == 0 {
				cancel()
			}
		}
	}()
	return c.Run(ctx, queue.With(func(o *queue.RunOptions) {
		o.Workers, o.Lease, o.Poll, o.Initial = workers, lease, 50*time.Millisecond, 50*time.Millisecond
	}))
}

// durable is what both databases offer.
type durable interface {
	queue.Queue
	queue.DeadLetters
	Close(ctx context.Context) error
}

// open opens a file, "sqlite:path", or a schema of a server, "postgres://…#schema".
func open(ctx context.Context, where string) (durable, error) {
	if path, ok := strings.CutPrefix(where, "sqlite:"); ok {
		return sqlite.Open(ctx, path)
	}
	url, schema, _ := strings.Cut(where, "#")
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return nil, err
	}
	q, err := postgres.Open(ctx, pool, postgres.WithSchema(schema))
	if err != nil {
		pool.Close()
		return nil, err
	}
	return pooled{q, pool}, nil
}

type pooled struct {
	*postgres.Queue
	pool *pgxpool.Pool
}

func (p pooled) Close(ctx context.Context) error {
	defer p.pool.Close()
	return p.Queue.Close(ctx)
}

func client(q queue.Queue, url string, d *death) (*email.Client, error) {
	p := resilience.Default
	p.Retries = 0
	return email.New(
		sendgrid.Sender{Key: secret.Literal("SG.k"), BaseURL: url, HTTPClient: &http.Client{Transport: d}},
		email.WithPolicy(p), email.WithQueueFirst(q), email.WithObserver(d),
	)
}

// death is a transport and an observer that kills its process.
type death struct {
	point string
	in    atomic.Int64 // mails until then
}

func (d *death) at(point string) {
	if d.point != point || d.in.Add(-1) != 0 {
		return
	}
	say(dies, "")
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		_ = self.Kill()
	}
	select {} // it is on its way
}

func (d *death) RoundTrip(r *http.Request) (*http.Response, error) {
	d.at(beforeSend)
	if d.point == afterWrite { // the provider may or may not come to read it
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			WroteRequest: func(httptrace.WroteRequestInfo) { d.at(afterWrite) },
		}))
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		d.at(afterTaken)
	}
	return resp, err
}

func (d *death) Observe(_ context.Context, e resilience.Event) {
	if e.Type == resilience.CallEnded && e.Err == nil {
		d.at(beforeAck)
	}
}

// What a child says, beside the queue's own events. A line is one write to a
// pipe, which survives who wrote it.
const (
	begins = "begins"
	dies   = "dies"
)

func say(what, id string) { fmt.Fprintf(os.Stdout, "%s\t%s\n", what, id) }

// The flaws that a worker can be given, to see that they are found out.
const (
	acksFirst       = "acknowledges before it sends"
	forgetsAttempts = "forgets attempts"
)

// told is a queue whose worker says what it does.
type told struct {
	queue.Queue
	flaw string
}

func (q told) Run(ctx context.Context, handlers map[string]queue.Handler, options ...queue.RunOption) error {
	var late sync.Map // by ID: what acksFirst does when it has acknowledged
	heard := map[string]queue.Handler{}
	for kind, h := range handlers {
		heard[kind] = func(ctx context.Context, d queue.Delivery) error {
			say(begins, d.ID)
			switch q.flaw {
			case acksFirst:
				late.Store(d.ID, func() { _ = h(context.WithoutCancel(ctx), d) })
				return nil
			case forgetsAttempts:
				d.Attempt = 1
			}
			return h(ctx, d)
		}
	}
	return q.Queue.Run(ctx, heard, append(options, queue.With(func(o *queue.RunOptions) {
		o.Observe = func(e queue.Event) {
			say(string(e.Type), e.ID)
			if send, ok := late.LoadAndDelete(e.ID); ok {
				send.(func())()
			}
		}
	}))...)
}
