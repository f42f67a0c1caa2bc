package paymenttest

import (
	"context"
	"slices"
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
	{"an entry keeps its key, whatever a change makes of it", keepsKey},
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
