package queuetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smilefactory/integrations/queue"
)

func keyed(key, payload string) queue.Job {
	return queue.Job{Kind: "test", Key: key, Payload: []byte(payload)}
}

func oneWorker(o *queue.RunOptions) { o.Workers = 1 }

// keyOrder has a fifth of the attempts fail, and sees each key's jobs done in
// their order, never two at once.
func keyOrder(t testing.TB, s Subject) {
	const keys, each = 5, 12
	for n := range each {
		for k := range keys {
			enqueue(t, s.Queue, keyed(fmt.Sprint("key", k), fmt.Sprint(n)))
		}
	}
	var mu sync.Mutex
	busy, done := map[string]bool{}, map[string][]string{}
	h := func(_ context.Context, v queue.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		if busy[v.Key] {
			t.Errorf("two jobs of %s run at once", v.Key)
		}
		busy[v.Key] = true
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
		busy[v.Key] = false
		if v.ID[len(v.ID)-1]%5 == 0 && v.Attempt == 1 {
			return errBoom
		}
		done[v.Key] = append(done[v.Key], string(v.Payload))
		return nil
	}
	run(t, s.Queue, only(h))
	run(t, s.Queue, only(h))
	empty(t, s.Queue)
	mu.Lock()
	defer mu.Unlock()
	if len(done) != keys {
		t.Errorf("jobs of %d keys were done, there are %d", len(done), keys)
	}
	for key, got := range done {
		for i, payload := range got {
			if payload != fmt.Sprint(i) {
				t.Fatalf("the jobs of %s were done in the order %v", key, got)
			}
		}
		if len(got) != each {
			t.Errorf("%d of %d jobs of %s were done", len(got), each, key)
		}
	}
}

func failingHead(t testing.TB, s Subject) {
	enqueue(t, s.Queue, keyed("a", "a1"), keyed("a", "a2"), keyed("b", "b1"), keyed("", "free"))
	var d diary
	run(t, s.Queue, only(d.handle(func(_ context.Context, v queue.Delivery) error {
		if string(v.Payload) == "a1" {
			return queue.RetryAfter(errBoom, time.Hour)
		}
		return nil
	})))
	d.await(t, 3)
	time.Sleep(100 * time.Millisecond)
	if got := d.payloads(); len(got) != 3 || slices.Contains(got, "a2") {
		t.Errorf("behind a head that waits, %v ran", got)
	}
	if s := stats(t, s.Queue); s.Waiting != 2 {
		t.Errorf("the head and the one behind it wait: %+v", s)
	}
}

func delayedHead(t testing.TB, s Subject) {
	head := keyed("a", "a1")
	head.NotBefore = time.Now().Add(300 * time.Millisecond)
	enqueue(t, s.Queue, head, keyed("a", "a2"))
	var d diary
	run(t, s.Queue, only(d.handle(nil)))
	d.await(t, 2)
	if got := d.payloads(); got[0] != "a1" {
		t.Errorf("a delayed head was overtaken: %v", got)
	}
}

// goneHead has a rule for each way in which a head dies.
func goneHead(h func(v queue.Delivery) error, change func(*queue.Job)) func(testing.TB, Subject) {
	return func(t testing.TB, s Subject) {
		head := keyed("a", "head")
		change(&head)
		enqueue(t, s.Queue, head, keyed("a", "next"), keyed("a", "last"))
		var d diary
		run(t, s.Queue, only(d.handle(func(_ context.Context, v queue.Delivery) error {
			if string(v.Payload) == "head" {
				return h(v)
			}
			return nil
		})))
		empty(t, s.Queue)
		got := slices.DeleteFunc(d.payloads(), func(p string) bool { return p == "head" })
		if strings.Join(got, " ") != "next last" {
			t.Errorf("behind the dead head ran %v", got)
		}
		if n := len(dead(t, s.Queue)); n != 1 {
			t.Errorf("there are %d dead letters", n)
		}
	}
}

func priority(t testing.TB, s Subject) {
	for _, p := range []int{0, -10, 10, 3, -2} {
		j := keyed(fmt.Sprint("key", p), fmt.Sprint(p))
		j.Priority = p
		enqueue(t, s.Queue, j)
	}
	var d diary
	run(t, s.Queue, only(d.handle(nil)), oneWorker)
	d.await(t, 5)
	if got := strings.Join(d.payloads(), " "); got != "10 3 0 -2 -10" {
		t.Errorf("the highest priority comes first, not %s", got)
	}
}

func inTheirOrder(t testing.TB, s Subject) {
	var want []string
	for i := range 30 {
		enqueue(t, s.Queue, job(fmt.Sprint(i)))
		want = append(want, fmt.Sprint(i))
	}
	var d diary
	run(t, s.Queue, only(d.handle(nil)), oneWorker)
	d.await(t, len(want))
	if got := d.payloads(); !slices.Equal(got, want) {
		t.Errorf("one worker took them in the order %v", got)
	}
}

func noPriorityInAKey(t testing.TB, s Subject) {
	low, high := keyed("a", "first"), keyed("a", "second")
	low.Priority, high.Priority = -10, 10
	enqueue(t, s.Queue, low, high)
	var d diary
	run(t, s.Queue, only(d.handle(nil)))
	d.await(t, 2)
	if got := strings.Join(d.payloads(), " "); got != "first second" {
		t.Errorf("in one key ran %s", got)
	}
}

// aging takes minutes, so it is checked where time is made.
func aging(t testing.TB, s Subject) {
	old := job("waits long")
	old.Priority = -2
	enqueue(t, s.Queue, old)
	time.Sleep(2*time.Minute + time.Second)
	enqueue(t, s.Queue, job("came later"))
	important := job("came later, important")
	important.Priority = 1
	enqueue(t, s.Queue, important)
	var d diary
	run(t, s.Queue, only(d.handle(nil)), oneWorker)
	d.await(t, 3)
	if got := strings.Join(d.payloads(), "; "); got != "came later, important; waits long; came later" {
		t.Errorf("a step of priority is worth a minute: %s", got)
	}
}
