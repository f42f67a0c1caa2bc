package paymenttest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

// RunJournal checks that a Journal keeps the contract of package payment. Each
// rule is a subtest with an empty journal of its own, which open makes and t
// cleans up. Whether what is durable outlives a process is for the journal's own
// tests to show.
func RunJournal(t *testing.T, open func(t *testing.T) payment.Journal) {
	t.Helper()
	for _, r := range journalRules {
		t.Run(r.says, func(t *testing.T) { r.check(&journalTest{TB: t, Journal: open(t), patience: 30 * time.Second}) })
	}
}

type journalRule struct {
	says  string
	check func(t *journalTest)
}

var journalRules = []journalRule{
	{"a key that is new comes with a zero entry, and is there then", startsFromZero},
	{"every write raises the version by one, also one that changes nothing", raisesVersion},
	{"a change gets what the one before it stored", goesOn},
	{"an error of a change comes back unchanged, and leaves everything as it was", refuses},
	{"a change that panics, or ends its goroutine, leaves everything as it was, and nobody waits for it", survives},
	{"of 20 who begin an entry at once one finds it new, and each sees those before it", insertsOnce},
	{"of 1,000 changes at once none is lost", losesNone},
	{"tenants and orders are apart", keepsApart},
	{"what isn't there is NotFound, and reading makes nothing", missesNothing},
	{"an entry is found by every id of its attempts and refunds, at that provider", findsIDs},
	{"an id that is added later is found too, unless its change failed", findsLater},
	{"what is due is listed soonest first, and no more than was asked for", listsDue},
	{"an entry is due from its time on, not before, and never without one", listsInTime},
	{"an entry is due when the last change said, and not when an earlier one did", listsAnew},
	{"every field comes back as it was, times to the millisecond", keepsFields},
	{"an entry of 200 attempts and refunds comes back, and is found by each of their ids", keepsMany},
	{"an entry is each caller's own", sharesNothing},
	{"a context that has ended is Unavailable, and nothing is stored", endedContext},
	{"where a context ends meanwhile, what is said is true", endingContext},
	{"a change has the values of its caller's context", passesContext},
	{"whether it is durable doesn't change", staysDurable},
}

// journalTest is a rule at work.
type journalTest struct {
	testing.TB
	payment.Journal

	patience time.Duration // for what may never end
}

// The time of the suite, in whole milliseconds, which every journal can keep.
var suiteTime = time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)

func key(order string) payment.Key { return payment.Key{Tenant: "shop", Order: order} }

// update makes a change that must succeed.
func (t *journalTest) update(k payment.Key, change func(e *payment.Entry)) *payment.Entry {
	t.Helper()
	e, err := t.Update(t.Context(), k, func(_ context.Context, e *payment.Entry) error {
		change(e)
		return nil
	})
	if err != nil || e == nil {
		t.Fatalf("update: %v, %v", e, err)
	}
	return e
}

// entry reads an entry that must be there.
func (t *journalTest) entry(k payment.Key) *payment.Entry {
	t.Helper()
	e, err := t.Entry(t.Context(), k)
	if err != nil || e == nil {
		t.Fatalf("entry of %v: %v, %v", k, e, err)
	}
	return e
}

// is fails where two entries differ.
func (t *journalTest) is(when string, got, want *payment.Entry) {
	t.Helper()
	if d := differ(got, want); d != "" {
		t.Errorf("%s: %s", when, d)
	}
}

// missing fails where there is an entry of that key.
func (t *journalTest) missing(when string, k payment.Key) {
	t.Helper()
	if e, err := t.Entry(t.Context(), k); fault.KindOf(err) != fault.NotFound || e != nil {
		t.Errorf("%s: the entry of %v is %v, with the error %v, want fault.NotFound", when, k, e, err)
	}
}

// finds fails unless the id leads to the key, or nowhere where want is zero.
func (t *journalTest) finds(when string, id payment.ProviderID, want payment.Key) {
	t.Helper()
	k, err := t.Find(t.Context(), id)
	switch {
	case want == payment.Key{} && fault.KindOf(err) != fault.NotFound:
		t.Errorf("%s: %v is found as %v, with the error %v, want fault.NotFound", when, id, k, err)
	case want != payment.Key{} && (err != nil || k != want):
		t.Errorf("%s: %v is found as %v, with the error %v, want %v", when, id, k, err, want)
	}
}

// lists fails unless those and no others are due.
func (t *journalTest) lists(when string, until time.Time, n int, want ...payment.Key) {
	t.Helper()
	got, err := t.Due(t.Context(), until, n)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s: %v are due, with the error %v, want %v", when, got, err, want)
	}
}

// soon fails where something doesn't end.
func (t *journalTest) soon(what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(t.patience):
		t.Fatalf("%s: it didn't end in %v", what, t.patience)
	}
}

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

func keepsApart(t *journalTest) {
	keys := []payment.Key{
		{Tenant: "", Order: "a"}, {Tenant: "a", Order: "a"}, {Tenant: "a", Order: "b"}, {Tenant: "b", Order: "a"}, {Tenant: "A", Order: "a"},
		{Tenant: "a", Order: "A"}, {Tenant: "a", Order: "a_"}, {Tenant: "a", Order: "aa"}, {Tenant: "aa", Order: "a"}, {Tenant: "a_a", Order: "a"}, {Tenant: "a", Order: "a-a"},
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

func keepsFields(t *journalTest) {
	k := key("order-1")
	want := fullEntry(t.TB, k)
	got := t.update(k, func(e *payment.Entry) { *e = *fullEntry(t.TB, k) })
	want.Version = 1
	t.is("what Update answers", got, want)
	t.is("what is there", t.entry(k), want)

	k = key("order-2") // with nothing but what has no zero value
	bare := func(e *payment.Entry) {
		e.Attempts = []payment.AttemptRecord{{Number: 1}, {Number: 2, Decline: &payment.Decline{}}}
		e.Refunds = []payment.RefundRecord{{Attempt: 1}}
	}
	want = &payment.Entry{Key: k, Version: 1}
	bare(want)
	t.update(k, bare)
	t.is("of an entry without anything", t.entry(k), want)
}

func keepsMany(t *journalTest) {
	const n = 200
	k := key("order-1")
	one := fullEntry(t.TB, k)
	many := func(e *payment.Entry) {
		*e = *one.Clone()
		e.Attempts, e.Refunds = nil, nil
		for i := range n {
			a, r := one.Attempts[0], one.Refunds[0]
			a.Number, a.PaymentID, a.ChargeID, a.AuthorizationID = i+1, fmt.Sprint("pay_", i), fmt.Sprint("charge_", i), fmt.Sprint("auth_", i)
			r.ID, r.ProviderID, r.Attempt = fmt.Sprint("r-", i), fmt.Sprint("refund_", i), i+1
			e.Attempts, e.Refunds = append(e.Attempts, a), append(e.Refunds, r)
		}
	}
	var want payment.Entry
	many(&want)
	want.Version = 1
	t.update(k, many)
	t.is("what is there", t.entry(k), &want)
	for _, id := range want.IDs() {
		t.finds("of many", id, k)
	}
}

// scribble writes over all that two copies might share.
func scribble(e *payment.Entry) {
	for name := range e.Order.Methods {
		e.Order.Methods[name] = payment.Method{ID: "scribble"}
	}
	for name := range e.Order.Payees {
		e.Order.Payees[name] = "scribble"
	}
	for i := range e.Attempts {
		a := &e.Attempts[i]
		for name := range a.Methods {
			a.Methods[name] = payment.Method{ID: "scribble"}
		}
		if a.Decline != nil {
			a.Decline.Message = "scribble"
		}
		a.State = "scribble"
	}
	for i := range e.Refunds {
		e.Refunds[i].State = "scribble"
	}
	for i := range e.Events {
		e.Events[i] = "scribble"
	}
	e.Rounds = -1
}

func sharesNothing(t *journalTest) {
	k := key("order-1")
	want := fullEntry(t.TB, k)
	want.Version = 1
	given := fullEntry(t.TB, k)
	var kept *payment.Entry
	answered := t.update(k, func(e *payment.Entry) { *e = *given; kept = e })
	for name, e := range map[string]*payment.Entry{
		"what a change was given": kept, "what a change put in": given, "what Update answered": answered, "what Entry answered": t.entry(k),
	} {
		scribble(e)
		t.is("after writing over "+name, t.entry(k), want)
	}
	no := errors.New("no")
	_, err := t.Update(t.Context(), k, func(_ context.Context, e *payment.Entry) error {
		scribble(e)
		return no
	})
	if !errors.Is(err, no) {
		t.Errorf("update: %v", err)
	}
	t.is("after a change that failed", t.entry(k), want)
}

func endedContext(t *journalTest) {
	was := t.update(key("known"), func(e *payment.Entry) { e.Created = suiteTime })
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	for name, ctx := range map[string]context.Context{"canceled": canceled, "too late": late} {
		for k, was := range map[payment.Key]*payment.Entry{key("known"): was, key("new"): nil} {
			e, err := t.Update(ctx, k, func(_ context.Context, e *payment.Entry) error {
				spoil(e)
				return nil
			})
			if fault.KindOf(err) != fault.Unavailable || e != nil {
				t.Errorf("%s: Update answers %v, and the error %v, want fault.Unavailable", name, e, err)
			}
			t.unspoilt(name, k, was)
		}
	}
}

func endingContext(t *journalTest) {
	k := key("order-1")
	was := t.update(k, func(e *payment.Entry) { e.Created = suiteTime })
	ctx, cancel := context.WithCancel(t.Context())
	e, err := t.Update(ctx, k, func(_ context.Context, e *payment.Entry) error {
		e.Rounds = 7
		cancel()
		return nil
	})
	switch is := t.entry(k); {
	case err == nil:
		t.is("what was stored", is, e)
		if e.Rounds != 7 {
			t.Errorf("Update answers that it was stored, and the entry is %v", e)
		}
	case fault.KindOf(err) == fault.Unavailable:
		t.is("what was not stored", is, was)
	case fault.KindOf(err) != fault.Uncertain:
		t.Errorf("update: the error is %v, want fault.Unavailable or fault.Uncertain", err)
	}
	t.update(k, func(e *payment.Entry) { e.Lease.Token = math.MaxInt64 })
}

type contextKey struct{}

func passesContext(t *journalTest) {
	ctx := context.WithValue(t.Context(), contextKey{}, "value")
	_, err := t.Update(ctx, key("order-1"), func(ctx context.Context, _ *payment.Entry) error {
		if ctx.Value(contextKey{}) != "value" || ctx.Err() != nil {
			t.Errorf("a change's context has the value %v, and the error %v", ctx.Value(contextKey{}), ctx.Err())
		}
		return nil
	})
	if err != nil {
		t.Errorf("update: %v", err)
	}
}

func staysDurable(t *journalTest) {
	durable := t.Durable()
	t.update(key("order-1"), func(*payment.Entry) {})
	if t.Durable() != durable {
		t.Errorf("Durable was %v, and is %v", durable, !durable)
	}
}
