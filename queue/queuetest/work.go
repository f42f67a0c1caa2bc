package queuetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/smilefactory/integrations/queue"
)

func drain(t testing.TB, s Subject) {
	enqueue(t, s.Queue, job("a"), job("b"), job("c"), job("d"))
	var d diary
	finish, allow := gate()
	defer allow()
	stop := run(t, s.Queue, only(d.handle(func(ctx context.Context, _ queue.Delivery) error {
		select {
		case <-finish:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})), queue.With(func(o *queue.RunOptions) { o.Workers = 2 }))
	d.await(t, 2)
	ended := make(chan struct{})
	go func() { defer close(ended); stop() }()
	select {
	case <-ended:
		t.Error("Run returned before its handlers")
	case <-time.After(200 * time.Millisecond):
	}
	allow()
	receive(t, ended, "end of Run")
	if n := len(d.all()); n != 2 {
		t.Errorf("2 handlers were running, in the end %d have run", n)
	}
	if s := stats(t, s.Queue); s.Ready != 2 || s.Running != 0 {
		t.Errorf("2 of 4 jobs were done, left is %+v", s)
	}
}

func drainEnds(t testing.TB, s Subject) {
	enqueue(t, s.Queue, job("a"))
	var d diary
	var cause error
	stop := run(t, s.Queue, only(d.handle(func(ctx context.Context, _ queue.Delivery) error {
		<-ctx.Done()
		cause = context.Cause(ctx)
		return ctx.Err()
	})), queue.With(func(o *queue.RunOptions) { o.Drain = 200 * time.Millisecond }))
	d.await(t, 1)
	start := time.Now()
	stop()
	if took := time.Since(start); took < 200*time.Millisecond {
		t.Errorf("the handler had %v to finish, not 200 ms", took)
	}
	if !errors.Is(cause, queue.ErrDrained) {
		t.Errorf("the handler's context ended with %v", cause)
	}
	run(t, s.Queue, only(d.handle(nil)))
	if got := d.await(t, 2)[1]; got.Attempt != 2 {
		t.Errorf("the next worker's attempt is %d", got.Attempt)
	}
	empty(t, s.Queue)
}

func endsAtOnce(t testing.TB, s Subject) {
	stop := run(t, s.Queue, only(func(context.Context, queue.Delivery) error { return nil }),
		queue.With(func(o *queue.RunOptions) { o.Poll, o.Drain = time.Hour, time.Hour }))
	time.Sleep(100 * time.Millisecond)
	start := time.Now()
	stop()
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("an idle Run took %v to end", took)
	}
}

func wrongRun(t testing.TB, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Queue.Run(ctx, nil); err == nil {
		t.Error("without handlers there is nothing to run")
	}
	h := only(func(context.Context, queue.Delivery) error { return nil })
	for name, change := range map[string]func(*queue.RunOptions){
		"no workers": func(o *queue.RunOptions) { o.Workers = 0 },
		"no wait":    func(o *queue.RunOptions) { o.Initial = 0 },
		"no poll":    func(o *queue.RunOptions) { o.Poll = 0 },
	} {
		if err := s.Queue.Run(ctx, h, change); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if err := s.Queue.Run(ctx, h); err != nil {
		t.Errorf("in a context that has ended Run returns %v", err)
	}
}

func wakeUp(t testing.TB, s Subject) {
	var d diary
	run(t, s.Queue, only(d.handle(nil)), queue.With(func(o *queue.RunOptions) { o.Poll = time.Hour }))
	time.Sleep(200 * time.Millisecond) // it is idle by now
	for i := range 5 {
		enqueue(t, s.Queue, keyed("a", fmt.Sprint(i)))
		d.await(t, i+1)
	}
	later := job("later")
	later.NotBefore = time.Now().Add(200 * time.Millisecond)
	enqueue(t, s.Queue, later)
	d.await(t, 6)
}

func statsCount(t testing.TB, s Subject) {
	start := time.Now().Truncate(time.Millisecond)
	nothingIn(t, s.Queue)
	buried(t, s.Queue, 1, asItIs)
	delayed := job("delayed")
	delayed.NotBefore = time.Now().Add(time.Hour)
	enqueue(t, s.Queue, job("runs"))
	var d diary
	hold, release := gate()
	defer release()
	stop := run(t, s.Queue, only(d.handle(func(context.Context, queue.Delivery) error { <-hold; return nil })), oneWorker)
	d.await(t, 1)
	if got := stats(t, s.Queue); !got.Oldest.IsZero() {
		t.Errorf("nothing is ready, and the oldest is of %v", got.Oldest)
	}
	enqueue(t, s.Queue, delayed, job("ready"), keyed("a", "ready too"))
	got := stats(t, s.Queue)
	if got.Oldest.Before(start) || got.Oldest.After(time.Now()) {
		t.Errorf("the oldest was enqueued at %v", got.Oldest)
	}
	got.Oldest = time.Time{}
	if want := (queue.Stats{Ready: 2, Waiting: 1, Running: 1, Dead: 1}); got != want {
		t.Errorf("counted are %+v, there are %+v", got, want)
	}
	release()
	stop()
}

func statsBehindAHead(t testing.TB, s Subject) {
	enqueue(t, s.Queue, keyed("a", "head"), keyed("a", "behind"))
	got := stats(t, s.Queue)
	if got.Ready != 1 || got.Waiting != 1 {
		t.Errorf("one is ready and one waits behind it: %+v", got)
	}
}

// load enqueues from 16 goroutines what 4 workers run meanwhile.
func load(t testing.TB, s Subject) {
	const enqueuers, each, workers = 16, 500, 4
	var mu sync.Mutex
	runs := map[string]int{}
	h := only(func(_ context.Context, v queue.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		runs[string(v.Payload)]++
		return nil
	})
	for range workers {
		run(t, s.Queue, h)
	}
	var all sync.WaitGroup
	for e := range enqueuers {
		all.Go(func() {
			for n := 0; n < each; {
				var jobs []queue.Job
				for range 1 + (n+e)%7 { // alone and in company
					if n < each {
						jobs = append(jobs, job(fmt.Sprintf("%d/%d", e, n)))
						n++
					}
				}
				if _, err := s.Queue.Enqueue(t.Context(), jobs...); err != nil {
					t.Errorf("Enqueue: %v", err)
				}
			}
		})
	}
	all.Wait()
	for done := 0; done < enqueuers*each; { // however slow the machine, it goes on
		before := done
		eventually(t, "more done", func() bool {
			mu.Lock()
			defer mu.Unlock()
			done = len(runs)
			return done > before || done == enqueuers*each
		})
	}
	empty(t, s.Queue)
	mu.Lock()
	defer mu.Unlock()
	for payload, n := range runs {
		if n != 1 {
			t.Errorf("%s ran %d times", payload, n)
		}
	}
}

// heavy rules load the machine, so that nothing else that counts time may run
// beside them.
var heavy = []rule{
	{says: "of jobs that many enqueue and many run none is lost and none runs twice", check: load},
}

// slow rules wait for minutes.
var slow = []rule{
	{says: "a minute of waiting is worth a step of priority", check: aging, needs: []Feature{Priority, Aging}},
}

var rules = slices.Concat([]rule{
	{says: "a job arrives as it was enqueued", check: wholeJob},
	{says: "a job of no more than a kind arrives with the defaults", check: defaults},
	{says: "enqueueing is all or none", check: allOrNone},
	{says: "a wrong job is refused, its field is named, and nothing is stored", check: validation},
	{says: "an id is unique", check: uniqueIDs, needs: []Feature{OwnIDs}},
	{says: "a dedupe key with the same payload is a duplicate, also when the first is done", check: dedupe},
	{says: "a dedupe key with another payload is a conflict", check: dedupeConflict},
	{says: "a dedupe key counts within its kind", check: dedupeKind},
	{says: "a dedupe key is forgotten after its time", check: dedupeEnds},
	{says: "a delayed job doesn't come early", check: delay},
	{says: "a context that has ended enqueues nothing", check: givenUp},
	{says: "an expired job never runs and is a dead letter", check: expiry},
	{says: "a job that expires while it waits for its next attempt dies then", check: expiryWhileRetrying, needs: []Feature{Expiry}},
	{says: "a failed attempt is repeated after waits that grow", check: retries},
	{says: "a handler can say how long to wait", check: retryAfter},
	{says: "a handler can make its error final", check: bury},
	{says: "after the last attempt a job is a dead letter that says why", check: maxAttempts},
	{says: "a panic and a Goexit are errors of the job", check: panics},
	{says: "a job of a kind without a handler is left alone", check: otherKinds},
	{says: "when a worker dies its job runs again, and the attempt is counted", check: deadWorker, needs: []Feature{Leases}},
	{says: "a job that kills its workers is a dead letter in the end", check: killer, needs: []Feature{Leases}},
	{says: "who has lost the lease settles nothing", check: oldHolder, needs: []Feature{Leases}},
	{says: "a job may take longer than its lease", check: heartbeat, needs: []Feature{Leases}},
	{says: "jobs of one key run one after the other, in their order", check: keyOrder, needs: []Feature{Order}},
	{says: "a head that fails blocks its key and nobody else", check: failingHead, needs: []Feature{Order}},
	{says: "a delayed head isn't overtaken in its key", check: delayedHead, needs: []Feature{Order}},
	{says: "the highest priority comes first", check: priority, needs: []Feature{Priority}},
	{says: "without priorities and keys the first comes first", check: inTheirOrder},
	{says: "there is no priority within a key", check: noPriorityInAKey, needs: []Feature{Order}},
	{says: "dead letters are listed oldest first, in pages", check: paging},
	{says: "a replayed job is as new", check: replay},
	{says: "replaying what isn't dead is not found, and replays nothing", check: replayUnknown},
	{says: "a discarded dead letter is gone", check: discard},
	{says: "a job that doesn't run can be cancelled, a dead letter too", check: cancelJobs, needs: []Feature{Cancel}},
	{says: "a cancelled head releases the next of its key", check: cancelHead, needs: []Feature{Cancel, Order}},
	{says: "payloads are sealed and opened, and plain ones stay readable", check: sealed, needs: []Feature{Sealing}},
	{says: "after a change of keys the old one still opens", check: rotation, needs: []Feature{Sealing}},
	{says: "a job without its key is a dead letter until the key is back", check: unknownKey, needs: []Feature{Sealing}},
	{says: "while the keys can't be had nothing dies", check: keysDown, needs: []Feature{Sealing}},
	{says: "a worker that ends lets its handlers finish and starts none", check: drain},
	{says: "a handler that is too long for the drain is told so, and its job comes again", check: drainEnds},
	{says: "a worker that is idle ends at once", check: endsAtOnce},
	{says: "wrong options are refused", check: wrongRun},
	{says: "a job wakes a worker that doesn't poll", check: wakeUp, needs: []Feature{WakeUp}},
	{says: "stats count what is ready, waiting, running and dead", check: statsCount},
	{says: "stats count what is behind a head as waiting", check: statsBehindAHead, needs: []Feature{Order}},
}, goneHeads)

var goneHeads = []rule{
	{
		says: "a head that is buried releases the next of its key", needs: []Feature{Order},
		check: goneHead(func(queue.Delivery) error { return queue.Bury(errBoom) }, asItIs),
	},
	{
		says: "a head without attempts left releases the next of its key", needs: []Feature{Order},
		check: goneHead(func(queue.Delivery) error { return errBoom }, func(j *queue.Job) { j.MaxAttempts = 2 }),
	},
	{
		says: "a head that expires releases the next of its key", needs: []Feature{Order, Expiry},
		check: goneHead(func(queue.Delivery) error { return queue.RetryAfter(errBoom, time.Hour) },
			func(j *queue.Job) { j.Expires = time.Now().Add(300 * time.Millisecond) }),
	},
}
