package paymenttest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

func startsFromZero(t *journalTest) {
	k := key("order-1")
	var got *payment.Entry
	e := t.update(k, func(e *payment.Entry) { got = e.Clone(); e.Created = suiteTime })
	t.is("a new one", got, &payment.Entry{Key: k})
	want := &payment.Entry{Key: k, Version: 1, Created: suiteTime}
	t.is("what Update answers", e, want)
	t.is("what is there", t.entry(k), want)
}

func raisesVersion(t *journalTest) {
	k := key("order-1")
	for version := int64(1); version <= 3; version++ {
		if e := t.update(k, func(*payment.Entry) {}); e.Version != version {
			t.Errorf("Update answers version %d, want %d", e.Version, version)
		}
		if e := t.entry(k); e.Version != version {
			t.Errorf("the entry has version %d, want %d", e.Version, version)
		}
	}
}

func keepsKey(t *journalTest) {
	k, other := key("order-1"), key("order-2")
	for version := int64(1); version <= 2; version++ {
		want := &payment.Entry{Key: k, Version: version, Due: suiteTime}
		t.is("what Update answers", t.update(k, func(e *payment.Entry) { e.Key, e.Due = other, suiteTime }), want)
		t.is("what is there", t.entry(k), want)
		t.missing("of the other key", other)
		t.lists("of both keys", suiteTime, 10, k)
	}
}

func goesOn(t *journalTest) {
	k := key("order-1")
	stored := t.update(k, func(e *payment.Entry) { *e = *fullEntry(t.TB, k) })
	var got *payment.Entry
	t.update(k, func(e *payment.Entry) {
		got = e.Clone()
		e.Attempts, e.Refunds, e.Order.Methods, e.Events = nil, nil, nil, e.Events[:min(1, len(e.Events))]
	})
	t.is("the second change", got, stored)
	last := t.entry(k)
	if len(last.Attempts)+len(last.Refunds)+len(last.Order.Methods) > 0 || len(last.Events) != 1 {
		t.Errorf("what a change took away is there still: %v", last)
	}
}

// spoil is what a change does that must not last.
func spoil(e *payment.Entry) {
	e.Order.Amount.Minor = 666
	e.Due = suiteTime
	e.Attempts = append(e.Attempts, payment.AttemptRecord{Number: len(e.Attempts) + 1, Provider: "spoilt", PaymentID: "p"})
}

// unspoilt fails where some of what spoil did is there.
func (t *journalTest) unspoilt(when string, k payment.Key, was *payment.Entry) {
	t.Helper()
	if was == nil {
		t.missing(when, k)
	} else {
		t.is(when, t.entry(k), was)
	}
	t.finds(when, payment.ProviderID{Provider: "spoilt", ID: "p"}, payment.Key{})
	t.lists(when, suiteTime, 10)
}

func refuses(t *journalTest) {
	was := t.update(key("known"), func(e *payment.Entry) { e.Created = suiteTime })
	for _, own := range []error{
		errors.New("no"), fault.New(fault.Conflict, errors.New("no")), fault.New(fault.Unavailable, nil), fault.New(fault.Uncertain, nil),
		fault.New(fault.Canceled, context.Canceled),
	} {
		for k, was := range map[payment.Key]*payment.Entry{key("known"): was, key("new"): nil} {
			e, err := t.Update(t.Context(), k, func(_ context.Context, e *payment.Entry) error {
				spoil(e)
				return own
			})
			if err != own || e != nil { //nolint:errorlint // it is to be that one, and not wrapped
				t.Errorf("Update answers %v, and the error %v, want %v", e, err, own)
			}
			t.unspoilt("after an error", k, was)
		}
	}
}

func survives(t *journalTest) {
	was := t.update(key("known"), func(e *payment.Entry) { e.Created = suiteTime })
	for name, end := range map[string]func(){"a panic": func() { panic("no") }, "the end of a goroutine": runtime.Goexit} {
		for k, was := range map[payment.Key]*payment.Entry{key("known"): was, key("new"): nil} {
			t.soon(name, func() {
				defer func() {
					if p := recover(); p != nil && p != "no" {
						t.Errorf("the panic is %v", p)
					}
				}()
				_, err := t.Update(t.Context(), k, func(_ context.Context, e *payment.Entry) error {
					spoil(e)
					end()
					return nil
				})
				t.Errorf("after %s Update answers, with the error %v", name, err)
			})
			t.soon("reading after "+name, func() { t.unspoilt("after "+name, k, was) })
			t.soon("a change after "+name, func() { t.update(key("other"), func(*payment.Entry) {}) })
		}
	}
}

// atOnce runs do so often at the same time.
func atOnce(n int, do func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	all.Wait()
}

func insertsOnce(t *journalTest) {
	const n = 20
	k := key("order-1")
	seen := make([][]string, n)
	atOnce(n, func(i int) {
		_, err := t.Update(t.Context(), k, func(_ context.Context, e *payment.Entry) error {
			seen[i] = slices.Clone(e.Events)
			if int64(len(e.Events)) != e.Version {
				t.Errorf("version %d has seen %d changes", e.Version, len(e.Events))
			}
			e.Events = append(e.Events, fmt.Sprint(i))
			return nil
		})
		if err != nil {
			t.Errorf("update: %v", err)
		}
	})
	last := t.entry(k)
	if last.Version != n || len(last.Events) != n {
		t.Errorf("after %d changes the version is %d, and it has %d of them", n, last.Version, len(last.Events))
	}
	for at, event := range last.Events {
		var i int
		if _, err := fmt.Sscan(event, &i); err != nil || !slices.Equal(seen[i], last.Events[:at]) {
			t.Errorf("change %d, which is number %d, has seen %v", i, at, seen[i])
		}
	}
}

func losesNone(t *journalTest) {
	const callers, each = 20, 50
	k := key("order-1")
	var mu sync.Mutex
	tokens := map[int64]bool{}
	atOnce(callers, func(int) {
		for range each {
			e, err := t.Update(t.Context(), k, func(_ context.Context, e *payment.Entry) error {
				e.Lease.Token++
				return nil
			})
			if err != nil {
				t.Errorf("update: %v", err)
				return
			}
			mu.Lock()
			if tokens[e.Lease.Token] {
				t.Errorf("two callers got the token %d", e.Lease.Token)
			}
			tokens[e.Lease.Token] = true
			mu.Unlock()
		}
	})
	if e := t.entry(k); e.Lease.Token != callers*each || e.Version != callers*each {
		t.Errorf("after %d changes the token is %d, and the version %d", callers*each, e.Lease.Token, e.Version)
	}
}
