package paymenttest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/smilefactory/integrations/payment"
)

func keepsApart(t *journalTest) {
	keys := []payment.Key{
		{Tenant: "", Order: "a"},
		{Tenant: "a", Order: "a"},
		{Tenant: "a", Order: "b"},
		{Tenant: "b", Order: "a"},
		{Tenant: "A", Order: "a"},
		{Tenant: "a", Order: "A"},
		{Tenant: "a", Order: "a_"},
		{Tenant: "a", Order: "aa"},
		{Tenant: "aa", Order: "a"},
		{Tenant: "a_a", Order: "a"},
		{Tenant: "a", Order: "a-a"},
	}
	for i, k := range keys {
		t.missing("before it was begun", k)
		e := t.update(k, func(e *payment.Entry) { e.Rounds = i + 1; e.Due = suiteTime.Add(time.Duration(i) * time.Second) })
		if e.Version != 1 {
			t.Errorf("the entry of %v begins with version %d", k, e.Version)
		}
	}
	for i, k := range keys {
		t.is("among others", t.entry(k), &payment.Entry{Key: k, Version: 1, Rounds: i + 1, Due: suiteTime.Add(time.Duration(i) * time.Second)})
	}
	t.lists("all of them", suiteTime.Add(time.Hour), len(keys), keys...)
}

func missesNothing(t *journalTest) {
	for range 2 {
		t.missing("of an empty journal", key("order-1"))
		t.finds("in an empty journal", payment.ProviderID{Provider: "bank", ID: "p"}, payment.Key{})
		t.finds("in an empty journal", payment.ProviderID{}, payment.Key{})
		t.lists("of an empty journal", suiteTime, 10)
	}
	t.update(key("order-1"), func(e *payment.Entry) { e.Created = suiteTime })
	t.missing("beside another", key("order-2"))
	t.finds("of an entry without", payment.ProviderID{}, payment.Key{})
}

func findsIDs(t *journalTest) {
	k, other := key("order-1"), key("order-2")
	full := t.update(k, func(e *payment.Entry) { *e = *fullEntry(t.TB, k) })
	t.update(other, func(e *payment.Entry) {
		e.Attempts = []payment.AttemptRecord{{Number: 1, Provider: "elsewhere", PaymentID: full.Attempts[0].PaymentID}}
	})
	ids := full.IDs()
	if want := 3*len(full.Attempts) + len(full.Refunds); len(ids) != want {
		t.Fatalf("the suite's entry has %d ids, want %d", len(ids), want)
	}
	for _, id := range ids {
		t.finds("of that entry", id, k)
		t.finds("at another provider", payment.ProviderID{Provider: "eu/" + id.Provider, ID: id.ID}, payment.Key{})
		t.finds("in another form", payment.ProviderID{Provider: id.Provider, ID: id.ID + "_"}, payment.Key{})
	}
	t.finds("of the other entry", payment.ProviderID{Provider: "elsewhere", ID: full.Attempts[0].PaymentID}, other)
}

func findsLater(t *journalTest) {
	k := key("order-1")
	at := func(id string) payment.ProviderID { return payment.ProviderID{Provider: "bank", ID: id} }
	steps := []struct {
		id  string
		add func(e *payment.Entry)
	}{
		{"pay_1", func(e *payment.Entry) {
			e.Attempts = []payment.AttemptRecord{{Number: 1, Provider: "bank", PaymentID: "pay_1"}}
		}},
		{"auth_1", func(e *payment.Entry) { e.Attempts[0].AuthorizationID = "auth_1" }},
		{"charge_1", func(e *payment.Entry) { e.Attempts[0].ChargeID = "charge_1" }},
		{"refund_1", func(e *payment.Entry) {
			e.Refunds = []payment.RefundRecord{{Refund: payment.Refund{ID: "r", ProviderID: "refund_1"}, Attempt: 1}}
		}},
		{"pay_2", func(e *payment.Entry) {
			e.Attempts = append(e.Attempts, payment.AttemptRecord{Number: 2, Provider: "bank", PaymentID: "pay_2"})
		}},
	}
	no := errors.New("no")
	for i, s := range steps {
		_, err := t.Update(t.Context(), k, func(_ context.Context, e *payment.Entry) error { s.add(e); return no })
		if !errors.Is(err, no) {
			t.Errorf("update: %v", err)
		}
		t.finds("after its change failed", at(s.id), payment.Key{})
		t.update(k, s.add)
		for _, done := range steps[:i+1] {
			t.finds("after a change", at(done.id), k)
		}
	}
}

func listsDue(t *journalTest) {
	order := []int{3, 0, 4, 1, 2}
	want := make([]payment.Key, len(order))
	for _, i := range order {
		want[i] = key(fmt.Sprint("order-", (i*7)%5)) // not in the order of their names
		t.update(want[i], func(e *payment.Entry) { e.Due = suiteTime.Add(time.Duration(i) * time.Millisecond) })
	}
	late := suiteTime.Add(time.Hour)
	for n := range len(want) + 1 {
		t.lists(fmt.Sprint("at most ", n), late, n, want[:n]...)
	}
	t.lists("at most 100", late, 100, want...)
	t.lists("until the third", suiteTime.Add(2*time.Millisecond), 100, want[:3]...)
}

func listsInTime(t *journalTest) {
	due := key("due")
	t.update(due, func(e *payment.Entry) { e.Due = suiteTime })
	t.update(key("never"), func(e *payment.Entry) { e.Created, e.Updated = suiteTime, suiteTime })
	t.lists("a millisecond before", suiteTime.Add(-time.Millisecond), 10)
	t.lists("at its time", suiteTime, 10, due)
	for _, zone := range zones {
		t.lists("a millisecond before, in another zone", suiteTime.Add(-time.Millisecond).In(zone), 10)
		t.lists("at its time, in another zone", suiteTime.In(zone), 10, due)
	}
	t.lists("a thousand years later", suiteTime.AddDate(1000, 0, 0), 10, due)
	t.lists("at no time", time.Time{}, 10)
	t.update(due, func(e *payment.Entry) { e.Due = suiteTime.Add(400 * time.Microsecond) })
	t.lists("a part of a millisecond before", suiteTime, 10)
}

func listsAnew(t *journalTest) {
	k, later := key("order-1"), suiteTime.Add(time.Minute)
	t.update(k, func(e *payment.Entry) { e.Due = suiteTime })
	t.update(k, func(e *payment.Entry) { e.Due = later })
	t.lists("at the earlier time", suiteTime, 10)
	t.lists("at the later time", later, 10, k)
	t.update(k, func(e *payment.Entry) { e.Due = time.Time{} })
	t.lists("when it is at its end", later.Add(time.Hour), 10)
	t.update(k, func(e *payment.Entry) { e.Due = suiteTime })
	t.lists("when it is due again", suiteTime, 10, k)
}
