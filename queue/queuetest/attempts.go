package queuetest

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/smilefactory/integrations/queue"
)

var errBoom = errors.New("boom")

func expiry(t testing.TB, s Subject) {
	past, soon := job("past"), job("soon")
	past.Expires = time.Now().Add(-time.Second)
	soon.Expires, soon.NotBefore = time.Now().Add(100*time.Millisecond), time.Now().Add(200*time.Millisecond)
	enqueue(t, s.Queue, past, soon)
	var d diary
	run(t, s.Queue, only(d.handle(nil)))
	for _, l := range awaitDead(t, s.Queue, 2) {
		if !strings.HasPrefix(l.Reason, queue.ReasonExpired) || l.Died.IsZero() || len(l.Payload) == 0 {
			t.Errorf("the dead letter says %q, died %v, payload %q", l.Reason, l.Died, l.Payload)
		}
	}
	if got := d.payloads(); len(got) != 0 {
		t.Errorf("expired jobs ran: %v", got)
	}
}

func expiryWhileRetrying(t testing.TB, s Subject) {
	j := job("a")
	j.Expires = time.Now().Add(300 * time.Millisecond)
	enqueue(t, s.Queue, j)
	var d diary
	start := time.Now()
	run(t, s.Queue, only(d.handle(func(context.Context, queue.Delivery) error { return queue.RetryAfter(errBoom, time.Hour) })))
	l := awaitDead(t, s.Queue, 1)[0]
	if !strings.HasPrefix(l.Reason, queue.ReasonExpired) || !strings.Contains(l.Reason, "boom") {
		t.Errorf("the reason %q doesn't say that it expired, and what the attempt answered", l.Reason)
	}
	if took := time.Since(start); len(d.all()) != 1 || took > 10*time.Second {
		t.Errorf("%d attempts, dead after %v", len(d.all()), took)
	}
}

func retries(t testing.TB, s Subject) {
	enqueue(t, s.Queue, job("a"))
	var d diary
	run(t, s.Queue, only(d.handle(func(_ context.Context, v queue.Delivery) error {
		if v.Attempt < 5 {
			return errBoom
		}
		return nil
	})), queue.With(func(o *queue.RunOptions) { o.Initial, o.Longest = 40*time.Millisecond, time.Hour }))
	got := d.await(t, 5)
	empty(t, s.Queue)
	for i, e := range got {
		if e.Attempt != i+1 || e.ID != got[0].ID || !e.EnqueuedAt.Equal(got[0].EnqueuedAt) || string(e.Payload) != "a" {
			t.Errorf("attempt %d is delivered as %+v", i+1, e.Delivery)
		}
		if i == 0 {
			continue
		}
		if e.LastError != "boom" {
			t.Errorf("attempt %d says that the last one answered %q", e.Attempt, e.LastError)
		}
		if wait, least := e.at.Sub(got[i-1].at), 20*time.Millisecond<<(i-1)-time.Millisecond; wait < least {
			t.Errorf("attempt %d came after %v, at least %v are due", e.Attempt, wait, least)
		}
	}
}

func retryAfter(t testing.TB, s Subject) {
	enqueue(t, s.Queue, job("a"))
	var d diary
	run(t, s.Queue, only(d.handle(func(_ context.Context, v queue.Delivery) error {
		switch v.Attempt {
		case 1:
			return queue.RetryAfter(errBoom, 300*time.Millisecond)
		case 2:
			return queue.RetryAfter(errBoom, 0)
		}
		return nil
	})), queue.With(func(o *queue.RunOptions) { o.Initial, o.Longest = time.Hour, time.Hour }))
	got := d.await(t, 3)
	if wait := got[1].at.Sub(got[0].at); wait < 299*time.Millisecond {
		t.Errorf("300 ms were asked for, the next attempt came after %v", wait)
	}
	empty(t, s.Queue)
}

func bury(t testing.TB, s Subject) {
	enqueue(t, s.Queue, job("a"))
	var d diary
	run(t, s.Queue, only(d.handle(func(context.Context, queue.Delivery) error { return queue.Bury(errBoom) })))
	l := awaitDead(t, s.Queue, 1)[0]
	if !strings.HasPrefix(l.Reason, queue.ReasonBuried) || !strings.Contains(l.Reason, "boom") || string(l.Payload) != "a" || l.Attempt != 1 {
		t.Errorf("the dead letter is %+v", l)
	}
	empty(t, s.Queue)
	if len(d.all()) != 1 {
		t.Errorf("it ran %d times", len(d.all()))
	}
}

func maxAttempts(t testing.TB, s Subject) {
	j := job("a")
	j.MaxAttempts = 3
	enqueue(t, s.Queue, j)
	var d diary
	run(t, s.Queue, only(d.handle(func(context.Context, queue.Delivery) error { return errBoom })))
	l := awaitDead(t, s.Queue, 1)[0]
	if !strings.HasPrefix(l.Reason, queue.ReasonAttempts) || !strings.Contains(l.Reason, "boom") || l.Attempt != 3 {
		t.Errorf("attempt %d, and the reason %q", l.Attempt, l.Reason)
	}
	if len(d.all()) != 3 {
		t.Errorf("it ran %d times", len(d.all()))
	}
}

func panics(t testing.TB, s Subject) {
	enqueue(t, s.Queue, job("panic"), job("exit"), job("fine"))
	var d diary
	run(t, s.Queue, only(d.handle(func(_ context.Context, v queue.Delivery) error {
		switch {
		case v.Attempt > 1:
		case string(v.Payload) == "panic":
			panic("s3cret")
		case string(v.Payload) == "exit":
			runtime.Goexit()
		}
		return nil
	})), queue.With(func(o *queue.RunOptions) { o.Workers = 1 }))
	for _, e := range d.await(t, 5) {
		if e.Attempt == 2 && (e.LastError == "" || strings.Contains(e.LastError, "s3cret")) {
			t.Errorf("of %s is kept %q", e.Payload, e.LastError)
		}
	}
	empty(t, s.Queue)
}

func otherKinds(t testing.TB, s Subject) {
	other := job("not mine")
	other.Kind = "other"
	enqueue(t, s.Queue, other, job("mine"))
	var d diary
	stop := run(t, s.Queue, only(d.handle(nil)))
	d.await(t, 1)
	time.Sleep(100 * time.Millisecond)
	stop()
	if got := d.payloads(); len(got) != 1 || got[0] != "mine" {
		t.Errorf("a worker with a handler for one kind got %v", got)
	}
	if s := stats(t, s.Queue); s.Ready != 1 || s.Dead != 0 {
		t.Errorf("the other job waits for its handler: %+v", s)
	}
}

// dying takes jobs and is never heard of again: its handlers ignore their
// context, and its Run is told to end at once. free lets them return.
func dying(t testing.TB, q queue.Queue, n int) (free func()) {
	t.Helper()
	var d diary
	blocked, unblock := gate()
	ctx, kill := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		h := d.handle(func(context.Context, queue.Delivery) error { <-blocked; return nil })
		_ = q.Run(ctx, only(h), queue.With(func(o *queue.RunOptions) {
			o.Lease, o.Drain, o.Workers, o.Poll = shortLease, 0, n, 20*time.Millisecond
		}))
	}()
	free = func() { kill(); unblock(); <-done }
	t.Cleanup(free)
	d.await(t, n)
	kill()
	return free
}

func deadWorker(t testing.TB, s Subject) {
	enqueue(t, s.Queue, job("a"))
	dying(t, s.Queue, 1)
	var d diary
	run(t, s.Queue, only(d.handle(nil)))
	if got := d.await(t, 1)[0]; got.Attempt != 2 || string(got.Payload) != "a" {
		t.Errorf("after its worker died it is delivered as %+v", got.Delivery)
	}
	empty(t, s.Queue)
}

func killer(t testing.TB, s Subject) {
	j := job("poison")
	j.MaxAttempts = 2
	enqueue(t, s.Queue, j, job("fine"))
	dying(t, s.Queue, 2)
	dying(t, s.Queue, 2)
	var d diary
	run(t, s.Queue, only(d.handle(nil)))
	l := awaitDead(t, s.Queue, 1)[0]
	if string(l.Payload) != "poison" || !strings.HasPrefix(l.Reason, queue.ReasonWorkerDied) {
		t.Errorf("of the job that kills its worker remains %q: %q", l.Payload, l.Reason)
	}
	empty(t, s.Queue)
	if got := d.payloads(); len(got) != 1 || got[0] != "fine" {
		t.Errorf("the third worker ran %v", got)
	}
}

func oldHolder(t testing.TB, s Subject) {
	enqueue(t, s.Queue, job("a"))
	free := dying(t, s.Queue, 1)
	var d diary
	hold, release := gate()
	defer release()
	run(t, s.Queue, only(d.handle(func(context.Context, queue.Delivery) error { <-hold; return errBoom })),
		queue.With(func(o *queue.RunOptions) { o.Initial, o.Longest = time.Hour, time.Hour }))
	d.await(t, 1)
	free() // and it says that the job is done
	release()
	eventually(t, "one that waits", func() bool { return stats(t, s.Queue).Running == 0 })
	if got := stats(t, s.Queue); got.Waiting != 1 {
		t.Errorf("the new holder's answer counts, its job waits: %+v", got)
	}
}

func heartbeat(t testing.TB, s Subject) {
	enqueue(t, s.Queue, job("long"))
	var d diary
	lease := queue.With(func(o *queue.RunOptions) { o.Lease = shortLease })
	h := only(d.handle(func(ctx context.Context, _ queue.Delivery) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * shortLease / 2):
			return nil
		}
	}))
	run(t, s.Queue, h, lease)
	run(t, s.Queue, h, lease)
	d.await(t, 1)
	empty(t, s.Queue)
	if n := len(d.all()); n != 1 {
		t.Errorf("a job longer than its lease was started %d times", n)
	}
}
