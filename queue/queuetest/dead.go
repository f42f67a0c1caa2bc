package queuetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
)

// buried puts n jobs into the dead letters, one after the other, and gives their
// ids.
func buried(t testing.TB, q queue.Queue, n int, change func(*queue.Job)) []string {
	t.Helper()
	ids := []string{}
	stop := run(t, q, only(func(context.Context, queue.Delivery) error { return queue.Bury(errBoom) }), oneWorker)
	for i := range n {
		j := job(fmt.Sprint(i))
		change(&j)
		ids = append(ids, enqueue(t, q, j)[0].ID)
		awaitDead(t, q, i+1)
	}
	stop()
	return ids
}

func asItIs(*queue.Job) {}

func ids(list []queue.Dead) []string {
	out := []string{}
	for _, l := range list {
		out = append(out, l.ID)
	}
	return out
}

func paging(t testing.TB, s Subject) {
	want := buried(t, s.Queue, 5, asItIs)
	d := letters(t, s.Queue)
	page := func(after string, n int) []string {
		list, err := d.Dead(t.Context(), after, n)
		if err != nil {
			t.Fatal(err)
		}
		return ids(list)
	}
	if got := page("", 10); !slices.Equal(got, want) {
		t.Errorf("oldest first is %v, not %v", want, got)
	}
	var got []string
	for after := ""; ; {
		p := page(after, 2)
		if got = append(got, p...); len(p) < 2 {
			break
		}
		after = p[1]
	}
	if !slices.Equal(got, want) {
		t.Errorf("in pages of two they are %v, at once %v", got, want)
	}
	if got := page(want[4], 10); len(got) != 0 {
		t.Errorf("behind the last one are %v", got)
	}
}

func replay(t testing.TB, s Subject) {
	id := buried(t, s.Queue, 1, func(j *queue.Job) {
		j.Priority, j.MaxAttempts, j.Key, j.Expires = 4, 3, "a", time.Now().Add(time.Hour)
	})[0]
	enqueue(t, s.Queue, keyed("a", "meanwhile"))
	before := time.Now().Truncate(time.Millisecond)
	if err := letters(t, s.Queue).Replay(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if list := dead(t, s.Queue); len(list) != 0 {
		t.Errorf("what is replayed is dead no more: %v", ids(list))
	}
	var d diary
	run(t, s.Queue, only(d.handle(nil)))
	got := d.await(t, 2)
	if string(got[0].Payload) != "meanwhile" && !slices.Contains(s.Lacks, Order) {
		t.Error("a replayed job goes behind those of its key")
	}
	i := slices.IndexFunc(got, func(e entry) bool { return e.ID == id })
	if i < 0 {
		t.Fatalf("it has another id now: %v", got)
	}
	r := got[i]
	if r.Attempt != 1 || !r.Expires.IsZero() || r.LastError != "" || r.Priority != 4 || r.MaxAttempts != 3 || string(r.Payload) != "0" || r.EnqueuedAt.Before(before) {
		t.Errorf("a replayed job is as new, and doesn't expire: %+v", r.Delivery)
	}
	empty(t, s.Queue)
}

func replayUnknown(t testing.TB, s Subject) {
	known := buried(t, s.Queue, 1, asItIs)
	alive := enqueue(t, s.Queue, job("alive"))[0].ID
	for _, other := range []string{"nobody", alive} {
		if err := letters(t, s.Queue).Replay(t.Context(), known[0], other); !errors.Is(err, fault.NotFound) {
			t.Errorf("an id that isn't dead is answered with %v", err)
		}
	}
	if got := ids(dead(t, s.Queue)); !slices.Equal(got, known) {
		t.Errorf("one wrong id and none is replayed, but dead are %v", got)
	}
	if s := stats(t, s.Queue); s.Ready != 1 || s.Dead != 1 {
		t.Errorf("one lives and one is dead: %+v", s)
	}
}

func discard(t testing.TB, s Subject) {
	all := buried(t, s.Queue, 3, asItIs)
	alive := enqueue(t, s.Queue, job("alive"))[0].ID
	if err := letters(t, s.Queue).Discard(t.Context(), all[0], all[2], alive, "nobody"); err != nil {
		t.Fatal(err)
	}
	if got := ids(dead(t, s.Queue)); !slices.Equal(got, all[1:2]) {
		t.Errorf("left is %v, not %v", got, all[1:2])
	}
	if s := stats(t, s.Queue); s.Ready != 1 || s.Dead != 1 {
		t.Errorf("a job that lives can't be discarded: %+v", s)
	}
}

// ring is keys by their id.
func ring(current string, known ...string) queue.Keys {
	return queue.Keys{Current: current, Key: func(_ context.Context, id string) ([]byte, error) {
		if !slices.Contains(append(known, current), id) {
			return nil, errors.New("no such key")
		}
		return []byte(strings.Repeat(id, 32)[:32]), nil
	}}
}

func sealing(t testing.TB, s Subject) queue.Queue {
	if s.Keyed == nil {
		t.Skip("this queue seals nothing")
	}
	return s.Keyed(ring("k1"))
}

func sealed(t testing.TB, s Subject) {
	q := sealing(t, s)
	enqueue(t, s.Queue, job("from before there were keys"))
	enqueue(t, q, job("sealed"), queue.Job{Kind: "test"})
	var d diary
	run(t, q, only(d.handle(nil)), oneWorker)
	d.await(t, 3)
	if got := d.payloads(); !slices.Equal(got, []string{"from before there were keys", "sealed", ""}) {
		t.Errorf("opened are %q", got)
	}
	empty(t, s.Queue)
}

func rotation(t testing.TB, s Subject) {
	enqueue(t, sealing(t, s), job("old key"))
	q := s.Keyed(ring("k2", "k1"))
	enqueue(t, q, job("new key"))
	var d diary
	run(t, q, only(d.handle(nil)), oneWorker)
	d.await(t, 2)
	if got := d.payloads(); !slices.Equal(got, []string{"old key", "new key"}) {
		t.Errorf("opened are %q", got)
	}
}

func unknownKey(t testing.TB, s Subject) {
	id := enqueue(t, sealing(t, s), job("old key"))[0].ID
	var d diary
	for _, q := range []queue.Queue{s.Keyed(ring("k2")), s.Queue} {
		stop := run(t, q, only(d.handle(nil)))
		l := awaitDead(t, q, 1)[0]
		stop()
		if l.ID != id || !strings.HasPrefix(l.Reason, queue.ReasonUnreadable) || len(l.Payload) != 0 {
			t.Errorf("the dead letter says %q and has the payload %q", l.Reason, l.Payload)
		}
		if n := len(d.all()); n != 0 {
			t.Errorf("it ran %d times", n)
		}
		if err := letters(t, q).Replay(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	run(t, s.Keyed(ring("k2", "k1")), only(d.handle(nil)))
	if got := d.await(t, 1)[0]; string(got.Payload) != "old key" || got.Attempt != 1 {
		t.Errorf("when the key is back it is delivered as %+v", got.Delivery)
	}
}

func keysDown(t testing.TB, s Subject) {
	enqueue(t, sealing(t, s), job("a"))
	down := ring("k1")
	asked := make(chan struct{}, 100)
	down.Key = func(context.Context, string) ([]byte, error) {
		select {
		case asked <- struct{}{}:
		default:
		}
		return nil, fault.New(fault.Unavailable, nil)
	}
	var d diary
	stop := run(t, s.Keyed(down), only(d.handle(nil)))
	receive(t, asked, "question for the key")
	receive(t, asked, "second question for the key")
	stop()
	if st := stats(t, s.Queue); st.Dead != 0 || len(d.all()) != 0 {
		t.Errorf("while the keys can't be had it waits: %+v, ran %d times", st, len(d.all()))
	}
	run(t, s.Keyed(ring("k1")), only(d.handle(nil)))
	if got := d.await(t, 1)[0]; string(got.Payload) != "a" {
		t.Errorf("delivered is %q", got.Payload)
	}
	_, err := s.Keyed(down).Enqueue(t.Context(), job("b"))
	if !errors.Is(err, fault.Unavailable) {
		t.Errorf("without a key Enqueue answers %v", err)
	}
}

// canceler is what a Queue offers for jobs that are no longer wanted.
type canceler interface {
	Cancel(ctx context.Context, ids ...string) ([]bool, error)
}

func cancelJobs(t testing.TB, s Subject) {
	c, ok := s.Queue.(canceler)
	if !ok {
		t.Fatal("the queue has no Cancel")
	}
	gone := buried(t, s.Queue, 1, asItIs)[0]
	runs := enqueue(t, s.Queue, job("runs"))[0].ID
	var d diary
	hold, release := gate()
	defer release()
	stop := run(t, s.Queue, only(d.handle(func(context.Context, queue.Delivery) error { <-hold; return nil })), oneWorker)
	d.await(t, 1)
	waiting := job("waits")
	waiting.NotBefore = time.Now().Add(time.Hour)
	waits := enqueue(t, s.Queue, waiting, job("left"))[0].ID
	got, err := c.Cancel(t.Context(), gone, runs, waits, "nobody", waits)
	if want := []bool{true, false, true, false, false}; err != nil || !slices.Equal(got, want) {
		t.Errorf("a dead letter, one that runs, one that waits, an unknown one and one that is gone: %v, %v", got, err)
	}
	release()
	empty(t, s.Queue)
	stop()
	if got := d.payloads(); !slices.Equal(got, []string{"runs", "left"}) || len(dead(t, s.Queue)) != 0 {
		t.Errorf("%v ran, and there are %d dead letters", got, len(dead(t, s.Queue)))
	}
}

func cancelHead(t testing.TB, s Subject) {
	c, ok := s.Queue.(canceler)
	if !ok {
		t.Fatal("the queue has no Cancel")
	}
	head := keyed("a", "head")
	head.NotBefore = time.Now().Add(time.Hour)
	out := enqueue(t, s.Queue, head, keyed("a", "behind"), keyed("a", "last"))
	if got, err := c.Cancel(t.Context(), out[1].ID, out[0].ID); err != nil || !slices.Equal(got, []bool{true, true}) {
		t.Errorf("Cancel: %v, %v", got, err)
	}
	var d diary
	run(t, s.Queue, only(d.handle(nil)))
	d.await(t, 1)
	empty(t, s.Queue)
	if got := d.payloads(); !slices.Equal(got, []string{"last"}) {
		t.Errorf("behind a cancelled head ran %v", got)
	}
}
