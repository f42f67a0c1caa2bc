package river

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	riverqueue "github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/smilefactory/integrations/queue"
)

// handover is the Store of one Run: it hands an Engine the jobs that River has
// claimed, and River what the Engine makes of them. So keys, expiry, waits,
// panics and the drain are the Engine's, as in every other Queue.
type handover struct {
	*store

	mu      sync.Mutex
	offered []*held
	taken   map[int64]*held // by token
	tokens  int64
	woken   chan struct{}
	closed  bool
}

// held is a job whose River worker waits for what becomes of it.
type held struct {
	queue.Claimed
	ctx     context.Context //nolint:containedctx // River's, of this attempt: it ends with the time limit, or a cancellation
	done    func()          // writes that it is done
	settled chan queue.Settlement
}

func newHandover(s *store) *handover {
	return &handover{store: s, taken: map[int64]*held{}, woken: make(chan struct{})}
}

// offer gives a job to the Engine and waits for what becomes of it. It is false
// where the Engine takes no more.
func (h *handover) offer(ctx context.Context, c queue.Claimed, done func()) (queue.Settlement, bool) {
	j := &held{Claimed: c, ctx: ctx, done: done, settled: make(chan queue.Settlement, 1)}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return queue.Settlement{}, false
	}
	h.tokens++
	j.Token = h.tokens
	h.offered = append(h.offered, j)
	close(h.woken)
	h.woken = make(chan struct{})
	h.mu.Unlock()
	s, ok := <-j.settled
	return s, ok
}

// close gives back to River what the Engine hasn't taken, and what comes later.
func (h *handover) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, j := range h.offered {
		close(j.settled)
	}
	h.offered = nil
}

// Claim takes what River has offered. River offers no more than it has workers, as
// many as the Engine.
func (h *handover) Claim(_ context.Context, c queue.Claim) ([]queue.Claimed, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := min(c.N, len(h.offered))
	out := make([]queue.Claimed, n)
	for i, j := range h.offered[:n] {
		h.taken[j.Token] = j
		out[i] = j.Claimed
	}
	h.offered = slices.Delete(h.offered, 0, n)
	return out, nil
}

// Settle tells River's workers. A lease is never lost here, and never ends:
// handlers are told by [handover.limited].
func (h *handover) Settle(_ context.Context, _ time.Time, all []queue.Settlement) ([]bool, error) {
	for _, s := range all {
		if s.Outcome == queue.Extend {
			continue
		}
		j := h.release(s.Token)
		if j == nil {
			continue
		}
		if s.Outcome == queue.Done {
			j.done()
		}
		j.settled <- s
	}
	return make([]bool, len(all)), nil
}

func (h *handover) release(token int64) *held {
	h.mu.Lock()
	defer h.mu.Unlock()
	j := h.taken[token]
	delete(h.taken, token)
	return j
}

// Due says that there is something, or nothing that is known of.
func (h *handover) Due(context.Context, []string) (time.Time, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.offered) > 0 {
		return time.UnixMilli(0), nil
	}
	return time.Time{}, nil
}

// Woken is closed at the next offer, see [queue.Waker].
func (h *handover) Woken() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.woken
}

// limited ends handlers' contexts when River ends the attempt's.
func (h *handover) limited(handlers map[string]queue.Handler) map[string]queue.Handler {
	out := maps.Clone(handlers)
	for kind, next := range handlers {
		out[kind] = func(ctx context.Context, d queue.Delivery) error {
			ctx, cancel := context.WithCancelCause(ctx)
			defer cancel(nil)
			stop := context.AfterFunc(h.riversContext(d.ID), func() { cancel(queue.ErrLeaseLost) }) //nolint:contextcheck // the attempt's as River sees it
			defer stop()
			return next(ctx, d)
		}
	}
	return out
}

// riversContext is that of the newest attempt at a job.
func (h *handover) riversContext(id string) context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	newest := &held{ctx: context.Background()}
	for _, j := range h.taken {
		if j.ID == id && j.Token > newest.Token {
			newest = j
		}
	}
	return newest.ctx
}

// worker is River's, of one kind.
type worker struct {
	riverqueue.WorkerDefaults[args]

	jobs     *handover
	complete func(context.Context, *riverqueue.Job[args]) error
}

// Work makes one attempt. River counts every answer as one but a snooze.
func (w *worker) Work(ctx context.Context, job *riverqueue.Job[args]) error {
	c := claimed(job.JobRow, &job.Args)
	s, ok := w.jobs.offer(ctx, c, func() {
		_ = w.complete(ctx, job) // else River writes it by itself, and says where it can't
	})
	if !ok {
		return riverqueue.JobSnooze(0) // the drain has begun, so this is no attempt
	}
	return answer(job, c.Expires, s)
}

// completeWithin bounds how long a worker waits until it is written that its job is
// done.
const completeWithin = 5 * time.Second

// complete writes that a job is done, before anybody is told. River by itself
// writes that in batches, a quarter of a second apart: what was done in the last
// one would be done again after a crash.
func (s *store) complete(ctx context.Context, job *riverqueue.Job[args]) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), completeWithin)
	defer cancel()
	return pgx.BeginTxFunc(ctx, s.pool, readCommitted, func(tx pgx.Tx) error {
		_, err := riverqueue.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
		return err
	})
}

// answer is what River is told. An error of a job without attempts left discards
// it, which is what has run out of them; what dies sooner is cancelled.
func answer(job *riverqueue.Job[args], expires time.Time, s queue.Settlement) error {
	err := errors.New(text(s.Reason))
	last := job.Attempt >= job.MaxAttempts
	switch {
	case s.Outcome == queue.Done:
		return nil
	case s.Outcome == queue.Buries && last:
		return err
	case s.Outcome == queue.Buries:
		return riverqueue.JobCancel(err)
	case last: // the Engine repeats it nevertheless: its keys can't be had
		return riverqueue.JobSnooze(max(time.Until(s.At), 0))
	}
	job.Args.again = sooner(s.At, expires).UnixNano()
	return err
}

// NextRetry is when the Engine said, or at once for one whose worker died. River
// takes no time that has passed.
func (w *worker) NextRetry(job *riverqueue.Job[args]) time.Time {
	now := time.Now()
	if again := time.Unix(0, job.Args.again); again.After(now) {
		return again
	}
	return now
}

// Register gives the kinds of a Queue's jobs to the workers of one of the team's
// own River clients. Each client that may lead needs that, or it discards those
// of them whose worker died; see the package's text. It doesn't make the client
// work on them.
func Register(workers *riverqueue.Workers, kinds ...string) error {
	for _, kind := range kinds {
		if err := (&queue.Job{Kind: kind}).Validate(); err != nil {
			return err
		}
		if err := add(workers, kind, &keeper{}); err != nil {
			return err
		}
	}
	return nil
}

// keeper stands in a client that leads, for its rescuer. Should that client work
// on our queue as well, the job waits for one that has its handler.
type keeper struct {
	riverqueue.WorkerDefaults[args]
}

func (*keeper) Work(context.Context, *riverqueue.Job[args]) error {
	return riverqueue.JobSnooze(time.Minute)
}

// Timeout is one that there is: for a leader without JobTimeout, River would
// rescue nothing. RescueStuckJobsAfter is what counts.
func (*keeper) Timeout(*riverqueue.Job[args]) time.Duration { return time.Second }

// NextRetry lets a rescued job run at once.
func (*keeper) NextRetry(*riverqueue.Job[args]) time.Time { return time.Now() }

// add registers a worker. River's function for kinds that are known only at run
// time panics where one is taken.
func add(workers *riverqueue.Workers, kind string, w riverqueue.Worker[args]) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = invalid("kind", "is registered with these River workers already")
		}
	}()
	riverqueue.AddWorkerArgs(workers, args{kind: kind}, w)
	return nil
}

var (
	_ riverqueue.Worker[args] = (*worker)(nil)
	_ rivertype.JobArgs       = args{}
)
