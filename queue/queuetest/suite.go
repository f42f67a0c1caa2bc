package queuetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smilefactory/integrations/queue"
)

// Subject is a Queue under test, empty and of its own.
type Subject struct {
	Queue queue.Queue
	// Keyed is another Queue of the same jobs that seals what it enqueues.
	Keyed func(queue.Keys) queue.Queue
	// Lacks lists what the Queue can't do, each with a reason in its own document.
	Lacks []Feature
}

// Feature is what a Queue may lack. The rules that need it are skipped.
type Feature string

// The features that not every queue has.
const (
	Order    Feature = "order"     // jobs of one key run one after the other
	Aging    Feature = "aging"     // a job that waits grows in priority
	Priority Feature = "priority"  // from -10 to 10
	Leases   Feature = "leases"    // of a second
	WakeUp   Feature = "waking up" // without a poll
	Expiry   Feature = "expiry"    // an expired head dies before its next attempt is due
	OwnIDs   Feature = "own ids"   // Job.ID
	Sealing  Feature = "sealing"   // of payloads
	Cancel   Feature = "cancelling"
)

// Of makes a Subject of a Store.
func Of(t *testing.T, store queue.Store) Subject {
	t.Helper()
	engine := func(options ...queue.Option) queue.Queue {
		q, err := queue.NewEngine(store, options...)
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	return Subject{Queue: engine(), Keyed: func(k queue.Keys) queue.Queue { return engine(queue.WithKeys(k)) }}
}

// rule is one sentence of the contract.
type rule struct {
	says  string
	check func(t testing.TB, s Subject)
	needs []Feature
}

// Run checks that a Queue keeps the contract of package queue. Each rule is a
// subtest with a Subject of its own, which open makes and t cleans up. The rules
// that load the machine come first, then all others at once: they wait for
// leases of a second.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	for _, r := range slices.Concat(heavy, rules) {
		t.Run(r.says, func(t *testing.T) {
			s := open(t)
			r.skip(t, s)
			if !slices.ContainsFunc(heavy, func(h rule) bool { return h.says == r.says }) {
				t.Parallel()
			}
			r.check(t, s)
		})
	}
}

// RunInBubble is Run for a Queue that does no I/O: each rule has a bubble of
// testing/synctest, so it takes no time.
func RunInBubble(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	for _, r := range slices.Concat(heavy, rules, slow) {
		t.Run(r.says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t)
				r.skip(t, s)
				r.check(t, s)
			})
		})
	}
}

func (r rule) skip(t testing.TB, s Subject) {
	for _, f := range r.needs {
		if slices.Contains(s.Lacks, f) {
			t.Skip("this queue lacks: " + string(f))
		}
	}
}

// patience bounds every wait for what must come.
const patience = 20 * time.Second

// shortLease is the shortest lease that there is.
const shortLease = time.Second

// run works on a queue until stop is called, or the test ends. What comes is
// polled for quickly.
func run(t testing.TB, q queue.Queue, handlers map[string]queue.Handler, options ...queue.RunOption) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	options = append([]queue.RunOption{queue.With(func(o *queue.RunOptions) {
		o.Poll, o.Initial, o.Longest = 20*time.Millisecond, 10*time.Millisecond, 20*time.Millisecond
	})}, options...)
	go func() { done <- q.Run(ctx, handlers, options...) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run ended with %v", err)
			}
		case <-time.After(patience):
			t.Errorf("Run has not returned %v after its context ended", patience)
		}
	})
	t.Cleanup(stop)
	return stop
}

// only is the handlers of a test with one kind.
func only(h queue.Handler) map[string]queue.Handler { return map[string]queue.Handler{"test": h} }

// job is one of that kind.
func job(payload string) queue.Job { return queue.Job{Kind: "test", Payload: []byte(payload)} }

func enqueue(t testing.TB, q queue.Queue, jobs ...queue.Job) []queue.Enqueued {
	t.Helper()
	out, err := q.Enqueue(t.Context(), jobs...)
	if err != nil {
		t.Fatalf("Enqueue: %v", err)
	}
	if len(out) != len(jobs) {
		t.Fatalf("Enqueue of %d jobs has %d outcomes", len(jobs), len(out))
	}
	return out
}

// diary is a handler that notes what it is given.
type diary struct {
	mu      sync.Mutex
	entries []entry
}

type entry struct {
	queue.Delivery
	at time.Time
}

func (d *diary) note(v queue.Delivery) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, entry{v, time.Now()})
}

// handle notes a delivery and does what then says; nil: it is done.
func (d *diary) handle(then func(context.Context, queue.Delivery) error) queue.Handler {
	return func(ctx context.Context, v queue.Delivery) error {
		d.note(v)
		if then == nil {
			return nil
		}
		return then(ctx, v)
	}
}

func (d *diary) all() []entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.entries)
}

func (d *diary) payloads() []string {
	out := []string{}
	for _, e := range d.all() {
		out = append(out, string(e.Payload))
	}
	return out
}

// await waits until n deliveries are noted, and gives them.
func (d *diary) await(t testing.TB, n int) []entry {
	t.Helper()
	eventually(t, fmt.Sprintf("%d deliveries", n), func() bool { return len(d.all()) >= n })
	return d.all()
}

// gate holds handlers up until it is opened, which may be done again and is
// deferred, so that a rule that fails leaves nobody behind.
func gate() (closed <-chan struct{}, open func()) {
	c := make(chan struct{})
	return c, sync.OnceFunc(func() { close(c) })
}

// receive waits for what a handler or key says.
func receive[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("there is no %s within %v", what, patience)
		panic("unreachable")
	}
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("there are not %s within %v", what, patience)
		}
	}
}

func stats(t testing.TB, q queue.Queue) queue.Stats {
	t.Helper()
	s, err := q.Stats(t.Context())
	if err != nil {
		t.Fatalf("Stats: %v", err)
	}
	return s
}

// empty waits until nothing but dead letters is left.
func empty(t testing.TB, q queue.Queue) {
	t.Helper()
	eventually(t, "no more jobs", func() bool {
		s := stats(t, q)
		return s.Ready+s.Waiting+s.Running == 0
	})
}

// letters is what a queue has of dead ones.
func letters(t testing.TB, q queue.Queue) queue.DeadLetters {
	t.Helper()
	d, ok := q.(queue.DeadLetters)
	if !ok {
		t.Fatal("the queue has no DeadLetters")
	}
	return d
}

func dead(t testing.TB, q queue.Queue) []queue.Dead {
	t.Helper()
	list, err := letters(t, q).Dead(t.Context(), "", 1000)
	if err != nil {
		t.Fatalf("Dead: %v", err)
	}
	return list
}

// awaitDead waits for n dead letters.
func awaitDead(t testing.TB, q queue.Queue, n int) []queue.Dead {
	t.Helper()
	eventually(t, fmt.Sprintf("%d dead letters", n), func() bool { return len(dead(t, q)) >= n })
	return dead(t, q)
}
