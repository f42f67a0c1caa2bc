package emailtest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/smilefactory/integrations/fault"
)

const (
	// promptly is how soon after a cancellation Send must be back. A machine can
	// be busy for longer than that, so that it is the median of several.
	promptly = 50 * time.Millisecond
	times    = 10
	// settled is the time in which a Sender should have come to its wait.
	settled = 20 * time.Millisecond
	// stuck is when a Sender that doesn't come back at all is given up.
	stuck = 5 * time.Second
)

const hang = "the answer"

// waits are all places of a Subject, the trouble Hang included.
func (s Subject) waits() map[string]Wait {
	all := map[string]Wait{}
	maps.Copy(all, s.Waits)
	all[hang] = Wait{Begin: func() { s.Break(Hang) }, Sent: true}
	return all
}

// places lists the names of a Subject's waits.
func places(t testing.TB, open func() Subject) []string {
	t.Helper()
	s := open()
	if !s.Break(Hang) {
		t.Skip("this provider can't hang")
	}
	s.Heal()
	return slices.Sorted(maps.Keys(s.waits()))
}

func leaving(t testing.TB, open func() Subject) {
	for _, place := range places(t, open) {
		s := open()
		var took []time.Duration
		for range times {
			d, err := cancelled(t, s, place)
			took = append(took, d)
			if err == nil && s.count(s.sample(quoted).ID) == 0 {
				t.Errorf("%s: a wait that was cancelled was taken for a success", place)
			}
		}
		slices.Sort(took)
		if median := took[len(took)/2]; median > promptly {
			t.Errorf("%s: it took %v to leave (the median of %d), want %v at most; the slowest %v", place, median, times, promptly, took[len(took)-1])
		}
	}
}

// cancelled sends one mail, cancels it while it waits, and says how long it took
// from there.
func cancelled(t testing.TB, s Subject, place string) (time.Duration, error) {
	t.Helper()
	s.waits()[place].Begin()
	defer s.Heal()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	back := make(chan error, 1)
	go func() {
		_, err := s.Sender.Send(ctx, s.sample(quoted))
		back <- err
	}()
	select {
	case err := <-back:
		if err == nil && s.count(s.sample(quoted).ID) == 0 {
			t.Errorf("%s: a provider that never answers was taken for a success", place)
		}
		return 0, err
	case <-time.After(settled):
	}
	start := time.Now()
	cancel()
	select {
	case err := <-back:
		return time.Since(start), err
	case <-time.After(stuck):
		t.Fatalf("%s: the Sender ignores its context", place)
		return 0, nil
	}
}

func deadlines(t testing.TB, open func() Subject) {
	for _, place := range places(t, open) {
		s := open()
		wait := s.waits()[place]
		wait.Begin()
		ctx, cancel := context.WithTimeout(t.Context(), 4*settled)
		_, err := s.Sender.Send(ctx, s.sample(quoted))
		cancel()
		s.Heal()
		switch kind := fault.KindOf(err); {
		case err == nil && s.count(s.sample(quoted).ID) > 0: // the answer had come so far
		case err == nil:
			t.Errorf("%s: a provider that never answers was taken for a success", place)
		case wait.Sent && !fault.MayHaveActed(err):
			t.Errorf("%s: the mail may have gone, and the error says that nothing was done: %v", place, err)
		case !s.Retries && wait.Sent && kind != fault.Uncertain:
			t.Errorf("%s: want kind uncertain, got %v", place, err)
		case !s.Retries && !wait.Sent && kind != fault.Unavailable:
			t.Errorf("%s: nothing was sent yet: want kind unavailable, got %v", place, err)
		case !s.Retries && (place == hang || !wait.Sent) && !errors.Is(err, context.DeadlineExceeded):
			t.Errorf("%s: want an error that is the deadline's too, got %v", place, err)
		}
	}
}

func ended(t testing.TB, open func() Subject) {
	for name, end := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"cancelled": context.WithCancel,
		"too late": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithDeadline(ctx, time.Now().Add(-time.Second))
		},
	} {
		s := open()
		ctx, cancel := end(t.Context())
		cancel()
		_, err := s.Sender.Send(ctx, s.sample(1))
		if err == nil {
			t.Errorf("%s: a context that has ended was taken for a success", name)
		}
		if n := len(s.Sent()); n != 0 {
			t.Errorf("%s: %d mails were sent", name, n)
		}
		if !s.Retries && fault.MayHaveActed(err) || fault.KindOf(err) == fault.Unknown {
			t.Errorf("%s: nothing was sent, and the error says that it may have been: %v", name, err)
		}
	}
}
