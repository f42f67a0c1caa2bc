package queuetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
)

// nothingIn checks that a refused Enqueue left nothing.
func nothingIn(t testing.TB, q queue.Queue) {
	t.Helper()
	if s := stats(t, q); s != (queue.Stats{}) {
		t.Errorf("something was stored: %+v", s)
	}
}

func wholeJob(t testing.TB, s Subject) {
	want := queue.Job{
		Kind: "test", Payload: []byte("päy\x00load"), Key: "kéy", DedupeKey: "once", Priority: 3, MaxAttempts: 7,
		Expires: time.Now().Add(time.Hour).Truncate(time.Millisecond),
	}
	start := time.Now().Truncate(time.Millisecond)
	want.ID = enqueue(t, s.Queue, want)[0].ID
	end := time.Now()
	var d diary
	run(t, s.Queue, only(d.handle(nil)))
	got := d.await(t, 1)[0]
	if got.ID != want.ID || got.Kind != want.Kind || string(got.Payload) != string(want.Payload) || got.Key != want.Key ||
		got.DedupeKey != want.DedupeKey || got.Priority != want.Priority || got.MaxAttempts != want.MaxAttempts || !got.Expires.Equal(want.Expires) {
		t.Errorf("enqueued %+v, delivered %+v", want, got.Job)
	}
	if got.Attempt != 1 || got.LastError != "" {
		t.Errorf("the first attempt is %d, and the last error %q", got.Attempt, got.LastError)
	}
	if got.EnqueuedAt.Before(start) || got.EnqueuedAt.After(end) {
		t.Errorf("enqueued at %v, delivered as enqueued at %v", start, got.EnqueuedAt)
	}
	empty(t, s.Queue)
}

func defaults(t testing.TB, s Subject) {
	id := enqueue(t, s.Queue, queue.Job{Kind: "test"})[0].ID
	var d diary
	run(t, s.Queue, only(d.handle(nil)))
	got := d.await(t, 1)[0]
	if id == "" || got.ID != id {
		t.Errorf("Enqueue answered the id %q, delivered is %q", id, got.ID)
	}
	if len(got.Payload) != 0 || got.MaxAttempts != queue.DefaultMaxAttempts || got.Priority != 0 || !got.NotBefore.IsZero() || !got.Expires.IsZero() {
		t.Errorf("a job of no more than a kind is delivered as %+v", got.Job)
	}
}

func allOrNone(t testing.TB, s Subject) {
	if out, err := s.Queue.Enqueue(t.Context()); err != nil || len(out) != 0 {
		t.Errorf("no jobs: %v, %v", out, err)
	}
	if _, err := s.Queue.Enqueue(t.Context(), job("a"), queue.Job{Kind: "WRONG"}, job("b")); !errors.Is(err, fault.Invalid) {
		t.Errorf("one of three is wrong: %v", err)
	}
	nothingIn(t, s.Queue)
	a, b := job("a"), job("b")
	a.DedupeKey, b.DedupeKey = "same", "same"
	if _, err := s.Queue.Enqueue(t.Context(), job("c"), a, b); !errors.Is(err, fault.Conflict) {
		t.Errorf("one of three is in conflict with another: %v", err)
	}
	nothingIn(t, s.Queue)
	out := enqueue(t, s.Queue, a, job("x"), a)
	if !out[2].Duplicate || out[2].ID != out[0].ID || out[0].Duplicate || out[1].Duplicate || out[1].ID == out[0].ID {
		t.Errorf("the third is a duplicate of the first: %+v", out)
	}
	if s := stats(t, s.Queue); s.Ready != 2 {
		t.Errorf("two jobs were enqueued: %+v", s)
	}
}

// wrongJobs are jobs by the field that is wrong.
var wrongJobs = map[string][]queue.Job{
	"id":           {{Kind: "test", ID: "a b"}, {Kind: "test", ID: "é"}, {Kind: "test", ID: strings.Repeat("a", 65)}},
	"kind":         {{}, {Kind: "Test"}, {Kind: "a b"}, {Kind: strings.Repeat("a", 65)}},
	"payload":      {{Kind: "test", Payload: make([]byte, queue.MaxPayload+1)}},
	"key":          {{Kind: "test", Key: strings.Repeat("k", 256)}, {Kind: "test", Key: "a\x00"}},
	"dedupe_key":   {{Kind: "test", DedupeKey: strings.Repeat("k", 256)}, {Kind: "test", DedupeKey: "a\x00"}},
	"dedupe_for":   {{Kind: "test", DedupeFor: -1}},
	"priority":     {{Kind: "test", Priority: 11}, {Kind: "test", Priority: -11}},
	"max_attempts": {{Kind: "test", MaxAttempts: -1}, {Kind: "test", MaxAttempts: 1001}},
}

func validation(t testing.TB, s Subject) {
	for field, jobs := range wrongJobs {
		for _, j := range jobs {
			_, err := s.Queue.Enqueue(t.Context(), j)
			wrong, ok := errors.AsType[*queue.FieldError](err)
			if !errors.Is(err, fault.Invalid) || !ok || wrong.Field != field {
				t.Errorf("a wrong %s is answered with %v", field, err)
			}
		}
	}
	nothingIn(t, s.Queue)
}

func uniqueIDs(t testing.TB, s Subject) {
	j := job("a")
	j.ID = "mine-1"
	if out := enqueue(t, s.Queue, j); out[0].ID != "mine-1" {
		t.Errorf("the id mine-1 became %q", out[0].ID)
	}
	for name, jobs := range map[string][]queue.Job{"again": {j}, "beside another": {job("b"), j}} {
		if _, err := s.Queue.Enqueue(t.Context(), jobs...); !errors.Is(err, fault.Conflict) {
			t.Errorf("a known id %s: %v", name, err)
		}
	}
	twice := job("c")
	twice.ID = "mine-2"
	if _, err := s.Queue.Enqueue(t.Context(), twice, twice); !errors.Is(err, fault.Conflict) {
		t.Errorf("two jobs of one id: %v", err)
	}
	if s := stats(t, s.Queue); s.Ready != 1 {
		t.Errorf("one job was enqueued: %+v", s)
	}
	run(t, s.Queue, only(func(context.Context, queue.Delivery) error { return queue.Bury(errors.New("no")) }))
	awaitDead(t, s.Queue, 1)
	if _, err := s.Queue.Enqueue(t.Context(), j); !errors.Is(err, fault.Conflict) {
		t.Errorf("the id of a dead letter: %v", err)
	}
}

func dedupe(t testing.TB, s Subject) {
	j := job("a")
	j.DedupeKey = "order-1"
	first := enqueue(t, s.Queue, j)[0]
	again := func(when string) {
		if got := enqueue(t, s.Queue, j)[0]; !got.Duplicate || got.ID != first.ID {
			t.Errorf("the same %s: %+v, the first was %+v", when, got, first)
		}
	}
	again("while it waits")
	var d diary
	run(t, s.Queue, only(d.handle(func(context.Context, queue.Delivery) error { again("while it runs"); return nil })))
	empty(t, s.Queue)
	again("when it is done")
	if n := len(d.all()); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

func dedupeConflict(t testing.TB, s Subject) {
	j := job("a")
	j.DedupeKey = "order-1"
	enqueue(t, s.Queue, j)
	j.Payload = []byte("b")
	_, err := s.Queue.Enqueue(t.Context(), job("c"), j)
	if wrong, ok := errors.AsType[*queue.FieldError](err); !errors.Is(err, fault.Conflict) || !ok || wrong.Field != "dedupe_key" {
		t.Errorf("another payload: %v", err)
	}
	if s := stats(t, s.Queue); s.Ready != 1 {
		t.Errorf("one job was enqueued: %+v", s)
	}
}

func dedupeKind(t testing.TB, s Subject) {
	j := job("a")
	j.DedupeKey = "order-1"
	other := j
	other.Kind, other.Payload = "other", []byte("b")
	if out := enqueue(t, s.Queue, j, other); out[1].Duplicate || out[0].ID == out[1].ID {
		t.Errorf("the same key of another kind: %+v", out)
	}
}

func dedupeEnds(t testing.TB, s Subject) {
	j := job("a")
	j.DedupeKey, j.DedupeFor = "order-1", 300*time.Millisecond
	first := enqueue(t, s.Queue, j)[0]
	time.Sleep(400 * time.Millisecond)
	j.Payload = []byte("b")
	second := enqueue(t, s.Queue, j)[0]
	if second.Duplicate || second.ID == first.ID {
		t.Errorf("after DedupeFor: %+v", second)
	}
	if third := enqueue(t, s.Queue, j)[0]; !third.Duplicate || third.ID != second.ID {
		t.Errorf("the key now stands for %+v, and a third is answered with %+v", second, third)
	}
}

func delay(t testing.TB, s Subject) {
	j, wait := job("later"), 400*time.Millisecond
	j.NotBefore = time.Now().Add(wait)
	enqueue(t, s.Queue, j, job("now"))
	if s := stats(t, s.Queue); s.Ready != 1 || s.Waiting != 1 {
		t.Errorf("one is ready and one waits: %+v", s)
	}
	var d diary
	run(t, s.Queue, only(d.handle(nil)))
	got := d.await(t, 2)
	if string(got[0].Payload) != "now" {
		t.Error("the delayed job came first")
	}
	if early := j.NotBefore.Sub(got[1].at); early > time.Millisecond {
		t.Errorf("it came %v too early", early)
	}
	if !got[1].NotBefore.Equal(j.NotBefore.Truncate(time.Millisecond)) {
		t.Errorf("NotBefore was %v, delivered is %v", j.NotBefore, got[1].NotBefore)
	}
}

func givenUp(t testing.TB, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Queue.Enqueue(ctx, job("a")); err == nil {
		t.Error("an ended context enqueues")
	}
	nothingIn(t, s.Queue)
}
