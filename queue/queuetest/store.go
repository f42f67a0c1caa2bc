package queuetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
)

// storeRule is one sentence of what a Store promises its Engine.
type storeRule struct {
	says  string
	check func(t testing.TB, s queue.Store)
}

var storeRules = []storeRule{
	{"a record comes back whole", wholeRecord},
	{"insertion is all or none", insertAllOrNone},
	{"a dedupe key is known until its time, for its kind, whatever became of the job", storeDedupe},
	{"the lowest rank is claimed first, and the first of equals", claimsByRank},
	{"no more jobs than asked for are claimed, and none of another kind", claimsWhatWasAsked},
	{"a leased job is nobody else's until the lease ends; then its attempt is the next", leases},
	{"a lease longer than any is one that has ended", longLease},
	{"a job without a delay is due at any time", dueAtAnyTime},
	{"a clock that goes back an hour loses nothing, and all comes within the hour", clockGoesBack},
	{"only the head of a key can be claimed", headsOnly},
	{"a settlement ends the lease as it says", settles},
	{"a new job of an old id has tokens of its own", newTokens},
	{"who settles with another token has lost, whatever others of the batch do", lostLeases},
	{"an extended lease lasts as long", extends},
	{"an expired head can be claimed whatever it waits for", expiredHead},
	{"a job without attempts left can be claimed", noAttemptLeft},
	{"due is when the next job of these kinds can be claimed", dueTime},
	{"each state is counted", counts},
	{"a dead letter is kept as it was", keptDead},
	{"dead letters come oldest first, in pages; behind one that is gone they begin anew", listing},
	{"a revived job is new, behind its key, and no old token settles it", revives},
	{"reviving is all or none", revivesAllOrNone},
	{"a job that doesn't run is cancelled, and nothing of it is left", storeCancels},
	{"a cancelled head releases the next of its key, and nobody else", storeCancelsHead},
	{"many who claim at once never get the same job", claimsAtOnce},
	{"a call whose context has ended does nothing", endedCalls},
	{"a payload that was changed, exchanged or of an unknown version is a dead letter and kept", tampered},
	{"a worker whose lease can't be extended ends its handler when it is over", deafStore},
	{"what is stored doesn't show a sealed payload", sealedAtRest},
}

// RunStore checks the finer rules that a [queue.Store] keeps for its Engine, with
// a Store of its own for each. Most need no waiting, since a Store is told what
// time it is.
func RunStore(t *testing.T, open func(t *testing.T) queue.Store) {
	t.Helper()
	for _, r := range storeRules {
		t.Run(r.says, func(t *testing.T) { r.check(t, open(t)) })
	}
}

// noon is when the rules of a Store begin.
var noon = time.UnixMilli(1_800_000_000_000)

// after is so many seconds after noon.
func after(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }

// record is one of kind "a" that was enqueued at noon.
func record(id string, changes ...func(*queue.Record)) queue.Record {
	r := queue.Record{ID: id, Kind: "a", Payload: []byte("payload of " + id), Rank: noon.UnixMilli(), MaxAttempts: 3, EnqueuedAt: noon}
	for _, change := range changes {
		change(&r)
	}
	return r
}

func ofKey(key string) func(*queue.Record)       { return func(r *queue.Record) { r.Key = key } }
func ofKind(kind string) func(*queue.Record)     { return func(r *queue.Record) { r.Kind = kind } }
func ranked(rank int64) func(*queue.Record)      { return func(r *queue.Record) { r.Rank += rank } }
func notBefore(at time.Time) func(*queue.Record) { return func(r *queue.Record) { r.NotBefore = at } }
func expires(at time.Time) func(*queue.Record)   { return func(r *queue.Record) { r.Expires = at } }

func deduped(key string, hash byte, until time.Time) func(*queue.Record) {
	return func(r *queue.Record) { r.DedupeKey, r.DedupeHash, r.DedupeUntil = key, [32]byte{hash}, until }
}

func insert(t testing.TB, s queue.Store, records ...queue.Record) []queue.Enqueued {
	t.Helper()
	out, err := s.Insert(t.Context(), noon, records)
	if err != nil {
		t.Fatalf("Insert: %v", err)
	}
	return out
}

// claim leases up to 100 jobs of kind "a" for a minute.
func claim(t testing.TB, s queue.Store, now time.Time) []queue.Claimed {
	t.Helper()
	return claimN(t, s, now, 100, "a")
}

func claimN(t testing.TB, s queue.Store, now time.Time, n int, kinds ...string) []queue.Claimed {
	t.Helper()
	out, err := s.Claim(t.Context(), queue.Claim{Now: now, Until: now.Add(time.Minute), Kinds: kinds, N: n})
	if err != nil {
		t.Fatalf("Claim: %v", err)
	}
	return out
}

// one is the only job that can be claimed.
func one(t testing.TB, s queue.Store, now time.Time) queue.Claimed {
	t.Helper()
	got := claim(t, s, now)
	if len(got) != 1 {
		t.Fatalf("one job can be claimed, not %s", names(got))
	}
	return got[0]
}

func names(claimed []queue.Claimed) string {
	out := make([]string, len(claimed))
	for i, c := range claimed {
		out[i] = c.ID
	}
	return strings.Join(out, " ")
}

func settle(t testing.TB, s queue.Store, now time.Time, all ...queue.Settlement) []bool {
	t.Helper()
	lost, err := s.Settle(t.Context(), now, all)
	if err != nil || len(lost) != len(all) {
		t.Fatalf("Settle: %v, %v", lost, err)
	}
	return lost
}

// ends is what a holder says of its job.
func ends(c queue.Claimed, o queue.Outcome, at time.Time, reason string) queue.Settlement {
	return queue.Settlement{ID: c.ID, Token: c.Token, Outcome: o, At: at, Reason: reason}
}

func count(t testing.TB, s queue.Store, now time.Time) queue.Stats {
	t.Helper()
	got, err := s.Count(t.Context(), now)
	if err != nil {
		t.Fatalf("Count: %v", err)
	}
	return got
}

func graveyard(t testing.TB, s queue.Store) queue.Graveyard {
	t.Helper()
	g, ok := s.(queue.Graveyard)
	if !ok {
		t.Fatal("the Store has no Graveyard")
	}
	return g
}

func list(t testing.TB, s queue.Store, behind string, n int) []queue.Buried {
	t.Helper()
	out, err := graveyard(t, s).List(t.Context(), behind, n)
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	return out
}

// same compares what a database keeps of two records.
func same(t testing.TB, want, got queue.Record) {
	t.Helper()
	if got.ID != want.ID || got.Kind != want.Kind || got.Key != want.Key || string(got.Payload) != string(want.Payload) || got.Rank != want.Rank ||
		got.MaxAttempts != want.MaxAttempts || got.DedupeKey != want.DedupeKey ||
		!got.NotBefore.Equal(milli(want.NotBefore)) || !got.Expires.Equal(milli(want.Expires)) || !got.EnqueuedAt.Equal(milli(want.EnqueuedAt)) {
		t.Errorf("stored was %+v, it comes back as %+v", want, got)
	}
}

func wholeRecord(t testing.TB, s queue.Store) {
	whole := record("whole", ofKey("kéy"), notBefore(after(-10).Add(123*time.Microsecond)), expires(after(100)), deduped("dédupe", 1, after(60)), ranked(-5))
	whole.Payload = []byte("\x00\xff'\"%")
	bare := record("bare")
	bare.Payload = nil
	if got := insert(t, s, whole, bare); got[0].ID != "whole" || got[1].ID != "bare" || got[0].Duplicate || got[1].Duplicate {
		t.Errorf("the outcomes are %+v", got)
	}
	got := claim(t, s, noon)
	if len(got) != 2 {
		t.Fatalf("claimed are %s", names(got))
	}
	for i, want := range []queue.Record{whole, bare} {
		same(t, want, got[i].Record)
		if got[i].Attempt != 1 || got[i].LastError != "" {
			t.Errorf("attempt %d, last error %q", got[i].Attempt, got[i].LastError)
		}
	}
}

func insertAllOrNone(t testing.TB, s queue.Store) {
	insert(t, s, record("known", deduped("d", 1, after(60))))
	for name, batch := range map[string][]queue.Record{
		"an id that is known":       {record("x"), record("known"), record("y")},
		"an id twice":               {record("x"), record("x")},
		"another hash":              {record("x"), record("y", deduped("d", 2, after(60)))},
		"another hash in the batch": {record("x", deduped("e", 1, after(60))), record("y", deduped("e", 2, after(60)))},
	} {
		if _, err := s.Insert(t.Context(), noon, batch); !errors.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := names(claim(t, s, noon)); got != "known" {
		t.Errorf("stored are %s", got)
	}
}

func storeDedupe(t testing.TB, s queue.Store) {
	first := record("first", deduped("d", 1, after(60)))
	insert(t, s, first)
	again := func(when string, now time.Time) {
		t.Helper()
		r := first
		r.ID = "again"
		for _, r := range []queue.Record{first, r} { // its id may be the same, or not
			out, err := s.Insert(t.Context(), now, []queue.Record{r})
			if err != nil || !out[0].Duplicate || out[0].ID != "first" {
				t.Errorf("%s: %+v, %v", when, out, err)
			}
		}
	}
	again("while it waits", after(1))
	c := one(t, s, after(1))
	again("while it runs", after(2))
	settle(t, s, after(2), ends(c, queue.Done, time.Time{}, ""))
	again("when it is done", after(59.9))
	if out := insert(t, s, record("other", ofKind("b"), deduped("d", 2, after(60)))); out[0].Duplicate {
		t.Error("the same key of another kind is no duplicate")
	}
	out, err := s.Insert(t.Context(), after(60), []queue.Record{record("second", deduped("d", 3, after(120)))})
	if err != nil || out[0].Duplicate || out[0].ID != "second" {
		t.Errorf("after its time: %+v, %v", out, err)
	}
	out, err = s.Insert(t.Context(), after(61), []queue.Record{record("third", deduped("d", 3, after(121)))})
	if err != nil || !out[0].Duplicate || out[0].ID != "second" {
		t.Errorf("and the key stands for the second: %+v, %v", out, err)
	}
}

func claimsByRank(t testing.TB, s queue.Store) {
	insert(t, s, record("e", ranked(1)), record("c"), record("b", ranked(-1)), record("d"), record("a", ranked(-1e9)), record("f", ranked(1e9)))
	var got []string
	for range 3 {
		got = append(got, names(claimN(t, s, noon, 2, "a")))
	}
	if strings.Join(got, " ") != "a b c d e f" {
		t.Errorf("they are claimed in the order %v", got)
	}
}

func claimsWhatWasAsked(t testing.TB, s queue.Store) {
	insert(t, s, record("a1"), record("b1", ofKind("b")), record("c1", ofKind("c"), ranked(-1)), record("a2"))
	if got := names(claimN(t, s, noon, 1, "a", "b")); got != "a1" {
		t.Errorf("one of a and b is %s", got)
	}
	if got := names(claimN(t, s, noon, 10, "c", "a")); got != "c1 a2" {
		t.Errorf("of c and a are left %s", got)
	}
	if got := names(claimN(t, s, noon, 10, "d")); got != "" {
		t.Errorf("of an unknown kind are %s", got)
	}
	if got := names(claimN(t, s, noon, 0, "b")); got != "" {
		t.Errorf("none was asked for: %s", got)
	}
}

func leases(t testing.TB, s queue.Store) {
	insert(t, s, record("a"))
	first := one(t, s, noon)
	if got := names(claim(t, s, after(59.999))); got != "" {
		t.Errorf("within its lease %s is claimed", got)
	}
	second := one(t, s, after(60))
	if second.Attempt != 2 || second.Token <= first.Token {
		t.Errorf("first claimed with attempt %d and token %d, then with %d and %d", first.Attempt, first.Token, second.Attempt, second.Token)
	}
	if got := names(claim(t, s, after(119))); got != "" {
		t.Errorf("within its second lease %s is claimed", got)
	}
	same(t, record("a"), second.Record)
}

func longLease(t testing.TB, s queue.Store) {
	insert(t, s, record("a"))
	one(t, s, noon)
	before := noon.Add(time.Minute - queue.MaxLease)
	if got := names(claim(t, s, before)); got != "" {
		t.Errorf("a lease of MaxLease may be: %s", got)
	}
	if got := one(t, s, before.Add(-time.Millisecond)); got.Attempt != 2 {
		t.Errorf("attempt %d", got.Attempt)
	}
}

func dueAtAnyTime(t testing.TB, s queue.Store) {
	insert(t, s, record("a"), record("b", ofKey("k")), record("c", ofKey("k")))
	yesterday := noon.Add(-24 * time.Hour)
	got := claim(t, s, yesterday)
	if names(got) != "a b" {
		t.Fatalf("a day before they were enqueued %s can be claimed", names(got))
	}
	settle(t, s, yesterday, ends(got[1], queue.Done, time.Time{}, ""))
	if got := names(claim(t, s, yesterday)); got != "c" {
		t.Errorf("then %s", got)
	}
}

// clockGoesBack has two holders at the time of the jump: one lives and settles,
// the other is dead.
func clockGoesBack(t testing.TB, s queue.Store) {
	insert(t, s, record("held"), record("orphan"), record("failed"), record("waits", notBefore(after(10))), record("ready", ranked(1)))
	got := claimN(t, s, noon, 3, "a")
	settle(t, s, after(1), ends(got[2], queue.Again, after(2), "boom"))
	then := noon.Add(-time.Hour)
	back := claim(t, s, then)
	if names(back) != "held orphan ready" {
		t.Errorf("right after the jump %s can be claimed", names(back))
	}
	for at := then; !at.After(then.Add(time.Hour + time.Minute)); at = at.Add(time.Minute) {
		for _, c := range claim(t, s, at) {
			back = append(back, c)
			settle(t, s, at, ends(c, queue.Done, time.Time{}, ""))
		}
	}
	if st := count(t, s, then.Add(time.Hour+time.Minute)); st.Ready+st.Waiting+st.Running != 0 {
		t.Errorf("an hour later %+v are left", st)
	}
	for _, id := range []string{"held", "orphan", "failed", "waits", "ready"} {
		if !slices.ContainsFunc(back, func(c queue.Claimed) bool { return c.ID == id }) {
			t.Errorf("%s is lost", id)
		}
	}
}

func headsOnly(t testing.TB, s queue.Store) {
	insert(t, s, record("b1", ofKey("b"), ranked(5)), record("b2", ofKey("b"), ranked(-5)), record("c1", ofKey("c"), notBefore(after(10))), record("c2", ofKey("c")))
	insert(t, s, record("other", ofKey("d"), ofKind("b")), record("d2", ofKey("d")))
	got := claim(t, s, noon)
	if names(got) != "b1" {
		t.Fatalf("of two keys, one delayed, %s can be claimed", names(got))
	}
	if got := names(claim(t, s, after(1))); got != "" {
		t.Errorf("behind a head that runs %s can be claimed", got)
	}
	settle(t, s, after(2), ends(got[0], queue.Again, after(5), "boom"))
	if got := names(claim(t, s, after(3))); got != "" {
		t.Errorf("behind a head that waits %s can be claimed", got)
	}
	if got := names(claim(t, s, after(5))); got != "b1" {
		t.Errorf("when it is due again %s can be claimed", got)
	}
	if got := names(claim(t, s, after(65))); got != "c1 b1" && got != "b1 c1" {
		t.Errorf("with its lease over, and the delay, %s can be claimed", got)
	}
	head := claimN(t, s, noon, 1, "b")[0]
	settle(t, s, noon, ends(head, queue.Buries, time.Time{}, "no"))
	if got := names(claim(t, s, noon)); got != "d2" {
		t.Errorf("behind a head of another kind that was buried %s can be claimed", got)
	}
}

func settles(t testing.TB, s queue.Store) {
	insert(t, s, record("done"), record("again"), record("dead"), record("held"))
	got := claim(t, s, noon)
	lost := settle(t, s, after(1),
		ends(got[0], queue.Done, time.Time{}, ""), ends(got[1], queue.Again, after(5), "boom"),
		ends(got[2], queue.Buries, time.Time{}, "no more"), ends(got[3], queue.Extend, after(90), ""))
	if slices.Contains(lost, true) {
		t.Errorf("all were held: %v", lost)
	}
	if got := names(claim(t, s, after(4.999))); got != "" {
		t.Errorf("too early is claimed %s", got)
	}
	again := one(t, s, after(5))
	if again.ID != "again" || again.Attempt != 2 || again.LastError != "boom" {
		t.Errorf("again comes %+v", again)
	}
	if got := names(claim(t, s, after(89.999))); got != "again" {
		t.Errorf("with the extended lease not over, %s is claimed", got)
	}
	if got := names(claim(t, s, after(90))); got != "held" {
		t.Errorf("when it is over, %s is claimed", got)
	}
	if d := list(t, s, "", 10); len(d) != 1 || d[0].ID != "dead" || d[0].Reason != "no more" || !d[0].Died.Equal(after(1)) {
		t.Errorf("dead is %+v", d)
	}
}

func lostLeases(t testing.TB, s queue.Store) {
	insert(t, s, record("a"), record("b"), record("c"))
	old := claim(t, s, noon)
	current := claimN(t, s, after(60), 1, "a")[0]
	for _, o := range []queue.Outcome{queue.Done, queue.Again, queue.Buries, queue.Extend} {
		nobody := queue.Settlement{ID: "nobody", Token: 1, Outcome: o, At: after(61)}
		if lost := settle(t, s, after(61), ends(old[0], o, after(61), "old"), nobody); !slices.Equal(lost, []bool{true, true}) {
			t.Errorf("the outcome %d with an old token: %v", o, lost)
		}
	}
	rest := claim(t, s, after(61))
	if names(rest) != "b c" {
		t.Fatalf("left are %s", names(rest))
	}
	lost := settle(t, s, after(62), ends(rest[0], queue.Done, time.Time{}, ""), ends(old[0], queue.Done, time.Time{}, ""), ends(current, queue.Again, after(63), "boom"),
		ends(rest[0], queue.Done, time.Time{}, ""), ends(current, queue.Done, time.Time{}, ""))
	if !slices.Equal(lost, []bool{false, true, false, true, true}) {
		t.Errorf("held, old, held, settled already, settled already: %v", lost)
	}
	if got := one(t, s, after(63)); got.ID != "a" || got.Attempt != 3 {
		t.Errorf("claimed again is %+v", got)
	}
	if n := len(list(t, s, "", 10)); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// newTokens has the id of a job that is done used again, while somebody still
// works on that one.
func newTokens(t testing.TB, s queue.Store) {
	for range 3 {
		insert(t, s, record("a"))
		old := one(t, s, noon)
		current := one(t, s, after(60))
		settle(t, s, after(60), ends(current, queue.Done, time.Time{}, ""))
		insert(t, s, record("a"))
		got := one(t, s, after(60))
		if lost := settle(t, s, after(61), ends(old, queue.Done, time.Time{}, ""), ends(current, queue.Done, time.Time{}, "")); !slices.Equal(lost, []bool{true, true}) {
			t.Errorf("the new job is settled with a token of the old one: %v", lost)
		}
		settle(t, s, after(62), ends(got, queue.Done, time.Time{}, ""))
	}
}

func extends(t testing.TB, s queue.Store) {
	insert(t, s, record("a"))
	c := one(t, s, noon)
	for i := range 5 {
		now := after(float64(i * 50))
		if settle(t, s, now, ends(c, queue.Extend, now.Add(time.Minute), ""))[0] {
			t.Fatalf("extension %d: it was lost", i)
		}
		if got := names(claim(t, s, now.Add(59*time.Second))); got != "" {
			t.Fatalf("within the extended lease %s is claimed", got)
		}
	}
	if got := one(t, s, after(260)); got.Attempt != 2 {
		t.Errorf("attempt %d", got.Attempt)
	}
}

func expiredHead(t testing.TB, s queue.Store) {
	insert(t, s, record("a", ofKey("k"), expires(after(10)), notBefore(after(100))), record("b", ofKey("k"), expires(after(5))), record("c", expires(after(10)), notBefore(after(100))))
	if got := names(claim(t, s, after(9.999))); got != "" {
		t.Errorf("before they expire %s can be claimed", got)
	}
	got := claim(t, s, after(10))
	if names(got) != "a c" {
		t.Fatalf("two heads expire, and %s can be claimed", names(got))
	}
	settle(t, s, after(10), ends(got[0], queue.Buries, time.Time{}, "expired"), ends(got[1], queue.Buries, time.Time{}, "expired"))
	next := one(t, s, after(10))
	if next.ID != "b" {
		t.Errorf("the next of the key, expired while it waited, can be claimed: %s", next.ID)
	}
	settle(t, s, after(10), ends(next, queue.Buries, time.Time{}, "expired"))
	insert(t, s, record("d", ofKey("l"), expires(after(200))))
	d := one(t, s, after(20))
	settle(t, s, after(20), ends(d, queue.Again, after(1000), "boom"))
	if got := one(t, s, after(200)); got.ID != "d" || got.LastError != "boom" {
		t.Errorf("a job that expires before its next attempt: %+v", got)
	}
}

func noAttemptLeft(t testing.TB, s queue.Store) {
	insert(t, s, record("a"))
	for i := range 5 {
		if got := one(t, s, after(float64(60*i))); got.Attempt != i+1 || got.MaxAttempts != 3 {
			t.Errorf("claim %d is attempt %d of %d", i+1, got.Attempt, got.MaxAttempts)
		}
	}
}

func dueTime(t testing.TB, s queue.Store) {
	due := func(kinds ...string) time.Time {
		at, err := s.Due(t.Context(), kinds)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if at := due("a"); !at.IsZero() {
		t.Errorf("nothing is due at %v", at)
	}
	insert(t, s, record("later", notBefore(after(100))), record("soon", ofKind("b"), notBefore(after(10))), record("expires", ofKind("c"), notBefore(after(10)), expires(after(5))))
	insert(t, s, record("head", ofKind("d"), ofKey("k"), notBefore(after(50))), record("behind", ofKind("e"), ofKey("k")))
	for kinds, want := range map[string]time.Time{"a": after(100), "b": after(10), "a b": after(10), "b a d": after(10), "c": after(5), "d": after(50), "e": {}, "x": {}} {
		if at := due(strings.Fields(kinds)...); !at.Equal(want) {
			t.Errorf("of %s one is due at %v, not %v", kinds, want, at)
		}
	}
	insert(t, s, record("now"))
	if at := due("a"); at.IsZero() || at.After(noon.Add(-24*time.Hour)) {
		t.Errorf("a job without a delay is due at any time, not at %v", at)
	}
	c := one(t, s, noon)
	if at := due("a"); !at.Equal(after(60)) {
		t.Errorf("the lease ends at %v, due is %v", after(60), at)
	}
	settle(t, s, after(1), ends(c, queue.Again, after(30), "boom"))
	if at := due("a"); !at.Equal(after(30)) {
		t.Errorf("the next attempt is at %v, due is %v", after(30), at)
	}
}

func counts(t testing.TB, s queue.Store) {
	if got := count(t, s, noon); got != (queue.Stats{}) {
		t.Errorf("nothing is counted as %+v", got)
	}
	older := record("older", func(r *queue.Record) { r.EnqueuedAt = after(-100); r.Kind = "b" })
	insert(t, s, record("dead"), record("running"), record("lapsed"))
	c := claim(t, s, noon)
	settle(t, s, noon, ends(c[0], queue.Buries, time.Time{}, "no"), ends(c[1], queue.Extend, after(120), ""))
	insert(t, s, older, record("ready"), record("delayed", notBefore(after(100))), record("head", ofKey("k")), record("behind", ofKey("k")))
	check := func(now time.Time, want queue.Stats) {
		t.Helper()
		got := count(t, s, now)
		if !got.Oldest.Equal(want.Oldest) {
			t.Errorf("the oldest ready one is of %v, not %v", want.Oldest, got.Oldest)
		}
		if got.Oldest, want.Oldest = noon, noon; got != want {
			t.Errorf("at %v are %+v, counted %+v", now, want, got)
		}
	}
	check(after(1), queue.Stats{Ready: 3, Waiting: 2, Running: 2, Dead: 1, Oldest: after(-100)})
	check(after(60), queue.Stats{Ready: 4, Waiting: 2, Running: 1, Dead: 1, Oldest: after(-100)})
	check(after(120), queue.Stats{Ready: 6, Waiting: 1, Running: 0, Dead: 1, Oldest: after(-100)})
}

func keptDead(t testing.TB, s queue.Store) {
	r := record("a", ofKey("k"), expires(after(100)), notBefore(after(-1)), deduped("d", 1, after(60)), ranked(-7))
	insert(t, s, r)
	c := one(t, s, noon)
	settle(t, s, after(1), ends(c, queue.Again, after(1), "boom"))
	c = one(t, s, after(1))
	settle(t, s, after(2), ends(c, queue.Buries, time.Time{}, "buried: why"))
	got := list(t, s, "", 10)
	if len(got) != 1 {
		t.Fatalf("there are %d dead letters", len(got))
	}
	same(t, r, got[0].Record)
	if got[0].Reason != "buried: why" || !got[0].Died.Equal(after(2)) || got[0].Attempt != 2 || got[0].LastError != "boom" {
		t.Errorf("kept is %+v", got[0])
	}
}

// bury inserts records and makes each of them a dead letter, a second apart.
func buryAll(t testing.TB, s queue.Store, records ...queue.Record) {
	t.Helper()
	for i, r := range records {
		insert(t, s, r)
		for _, c := range claim(t, s, noon) {
			settle(t, s, after(float64(i)), ends(c, queue.Buries, time.Time{}, "no"))
		}
	}
}

func listed(all []queue.Buried) string {
	out := make([]string, len(all))
	for i, b := range all {
		out[i] = b.ID
	}
	return strings.Join(out, " ")
}

func listing(t testing.TB, s queue.Store) {
	buryAll(t, s, record("c"), record("a"), record("d"), record("b"))
	for _, page := range []struct {
		after string
		n     int
		want  string
	}{{"", 10, "c a d b"}, {"", 2, "c a"}, {"a", 2, "d b"}, {"a", 1, "d"}, {"b", 5, ""}, {"gone", 2, "c a"}, {"", 0, ""}} {
		if got := listed(list(t, s, page.after, page.n)); got != page.want {
			t.Errorf("%d behind %q are %q, not %q", page.n, page.after, page.want, got)
		}
	}
	if err := graveyard(t, s).Erase(t.Context(), []string{"a", "nobody"}); err != nil {
		t.Fatal(err)
	}
	if got := listed(list(t, s, "a", 10)); got != "c d b" {
		t.Errorf("with one erased they are %s", got)
	}
	c := record("a")
	if insert(t, s, c); names(claim(t, s, noon)) != "a" {
		t.Error("an id that was erased is free again")
	}
}

func revives(t testing.TB, s queue.Store) {
	r := record("a", ofKey("k"), expires(after(5)), notBefore(after(-1)), ranked(-4*60_000))
	insert(t, s, r)
	old := one(t, s, noon)
	settle(t, s, after(1), ends(old, queue.Again, after(1), "boom"))
	old = one(t, s, after(1))
	settle(t, s, after(2), ends(old, queue.Buries, time.Time{}, "no"))
	insert(t, s, record("b", ofKey("k")))
	if ok, err := graveyard(t, s).Revive(t.Context(), after(600), []string{"a"}); !ok || err != nil {
		t.Fatalf("Revive: %v, %v", ok, err)
	}
	b := one(t, s, after(600))
	if b.ID != "b" {
		t.Fatalf("the revived one goes behind its key, and %s is claimed", b.ID)
	}
	settle(t, s, after(600), ends(b, queue.Done, time.Time{}, ""))
	got := one(t, s, after(601))
	r.NotBefore, r.Expires, r.EnqueuedAt, r.Rank = time.Time{}, time.Time{}, after(600), after(600).UnixMilli()-4*60_000
	same(t, r, got.Record)
	if got.Attempt != 1 || got.LastError != "" || got.Token <= old.Token {
		t.Errorf("it is as new: attempt %d, last error %q; its token was %d and is %d", got.Attempt, got.LastError, old.Token, got.Token)
	}
	if !settle(t, s, after(602), ends(old, queue.Done, time.Time{}, ""))[0] {
		t.Error("a token from before it died settles it")
	}
}

func revivesAllOrNone(t testing.TB, s queue.Store) {
	buryAll(t, s, record("a"), record("b"))
	insert(t, s, record("alive"))
	for _, wrong := range []string{"nobody", "alive"} {
		if ok, err := graveyard(t, s).Revive(t.Context(), noon, []string{"a", wrong, "b"}); ok || err != nil {
			t.Errorf("with %s among them: %v, %v", wrong, ok, err)
		}
	}
	if got := listed(list(t, s, "", 10)); got != "a b" {
		t.Errorf("dead are %s", got)
	}
	if ok, err := graveyard(t, s).Revive(t.Context(), noon, []string{"b", "a", "b"}); !ok || err != nil {
		t.Errorf("one named twice: %v, %v", ok, err)
	}
	if got := names(claim(t, s, noon)); !strings.Contains(got, "b a") {
		t.Errorf("revived in the order in which they were named: %s", got)
	}
}

// cancelling is the Store's Canceler; a Store may do without, see [queue.Engine.Cancel].
func cancelling(t testing.TB, s queue.Store) func(now time.Time, ids ...string) []bool {
	t.Helper()
	c, ok := s.(queue.Canceler)
	if !ok {
		t.Skip("the Store is no Canceler")
	}
	return func(now time.Time, ids ...string) []bool {
		t.Helper()
		done, err := c.Cancel(t.Context(), now, ids)
		if err != nil || len(done) != len(ids) {
			t.Fatalf("Cancel: %v, %v", done, err)
		}
		return done
	}
}

func storeCancels(t testing.TB, s queue.Store) {
	cancel := cancelling(t, s)
	buryAll(t, s, record("dead"), record("dead2"))
	insert(t, s, record("runs"))
	held := one(t, s, noon)
	insert(t, s, record("failed"))
	failed := one(t, s, noon)
	settle(t, s, noon, ends(failed, queue.Again, after(50), "boom"))
	insert(t, s, record("waits", notBefore(after(50)), deduped("d", 1, after(60))), record("ready"), record("left"))
	got := cancel(after(1), "dead", "runs", "waits", "nobody", "ready", "failed", "ready")
	if want := []bool{true, false, true, false, true, true, false}; !slices.Equal(got, want) {
		t.Errorf("a dead letter, one that runs, one that waits, an unknown one, one that is ready, one that failed and one that is gone: %v, not %v", got, want)
	}
	if st := count(t, s, after(1)); st.Ready != 1 || st.Running != 1 || st.Waiting != 0 || st.Dead != 1 {
		t.Errorf("one is ready, one runs and one is dead: %+v", st)
	}
	if settle(t, s, after(2), ends(held, queue.Done, time.Time{}, ""))[0] {
		t.Error("the one that runs is lost to its worker")
	}
	if !settle(t, s, after(2), ends(failed, queue.Done, time.Time{}, ""))[0] {
		t.Error("a cancelled job is settled")
	}
	if got := names(claim(t, s, after(55))); got != "left" {
		t.Errorf("what can be claimed is %s", got)
	}
	if got := listed(list(t, s, "", 10)); got != "dead2" {
		t.Errorf("dead are %s", got)
	}
	// Its id is free again; its dedupe key is remembered, as that of any job which is gone.
	if out := insert(t, s, record("ready")); out[0].Duplicate {
		t.Errorf("a new job of an old id: %+v", out)
	}
	out, err := s.Insert(t.Context(), after(59), []queue.Record{record("again", deduped("d", 1, after(99)))})
	if err != nil || !out[0].Duplicate || out[0].ID != "waits" {
		t.Errorf("its dedupe key: %+v, %v", out, err)
	}
	if got := cancel(after(60)); len(got) != 0 {
		t.Errorf("nothing was asked for: %v", got)
	}
}

func storeCancelsHead(t testing.TB, s queue.Store) {
	cancel := cancelling(t, s)
	insert(t, s, record("k1", ofKey("k"), notBefore(after(50))), record("k2", ofKey("k")), record("k3", ofKey("k")))
	insert(t, s, record("l1", ofKey("l")), record("l2", ofKey("l")), record("l3", ofKey("l")))
	if got := names(claim(t, s, noon)); got != "l1" {
		t.Fatalf("claimed is %s", got)
	}
	if got := cancel(noon, "k2", "l2"); !slices.Equal(got, []bool{true, true}) {
		t.Errorf("two that wait behind a head: %v", got)
	}
	if got := names(claim(t, s, after(1))); got != "" {
		t.Errorf("with the heads still there %s can be claimed", got)
	}
	if got := cancel(after(2), "k1", "l1"); !slices.Equal(got, []bool{true, false}) {
		t.Errorf("a head that waits and one that runs: %v", got)
	}
	if got := names(claim(t, s, after(2))); got != "k3" {
		t.Errorf("behind a cancelled head %s can be claimed", got)
	}
}

func claimsAtOnce(t testing.TB, s queue.Store) {
	const jobs, claimers = 200, 8
	var records []queue.Record
	for i := range jobs {
		key := ""
		if i%2 == 0 {
			key = fmt.Sprint(i % 10)
		}
		records = append(records, record(fmt.Sprint(i), ofKey(key)))
	}
	insert(t, s, records...)
	var mu sync.Mutex
	seen := map[string]int{}
	var all sync.WaitGroup
	for range claimers {
		all.Go(func() {
			for idle := 0; idle < 3; idle++ {
				got, err := s.Claim(t.Context(), queue.Claim{Now: noon, Until: after(60), Kinds: []string{"a"}, N: 5})
				if err != nil {
					t.Errorf("Claim: %v", err)
					return
				}
				var done []queue.Settlement
				mu.Lock()
				for _, c := range got {
					seen[c.ID]++
					done = append(done, ends(c, queue.Done, time.Time{}, ""))
				}
				mu.Unlock()
				if len(got) == 0 {
					continue
				}
				idle = 0
				if lost, err := s.Settle(t.Context(), noon, done); err != nil || slices.Contains(lost, true) {
					t.Errorf("Settle: %v, %v", lost, err)
				}
			}
		})
	}
	all.Wait()
	for _, c := range claim(t, s, noon) { // what a head hid from the last claimers
		seen[c.ID]++
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was claimed %d times", id, n)
		}
	}
}

func endedCalls(t testing.TB, s queue.Store) {
	insert(t, s, record("a"), record("b"))
	held := claimN(t, s, noon, 1, "a")[0]
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	calls := map[string]func() error{
		"Insert": func() error { _, err := s.Insert(ctx, noon, []queue.Record{record("c")}); return err },
		"Claim": func() error {
			_, err := s.Claim(ctx, queue.Claim{Now: noon, Until: after(60), Kinds: []string{"a"}, N: 5})
			return err
		},
		"Settle": func() error {
			_, err := s.Settle(ctx, noon, []queue.Settlement{ends(held, queue.Done, time.Time{}, "")})
			return err
		},
	}
	for name, call := range calls {
		if call() == nil {
			t.Errorf("%s succeeds", name)
		}
	}
	if settle(t, s, noon, ends(held, queue.Done, time.Time{}, ""))[0] {
		t.Error("Settle has settled")
	}
	if got := names(claim(t, s, noon)); got != "b" {
		t.Errorf("one job was left: %s", got)
	}
}

// engine is an Engine over a Store.
func engine(t testing.TB, s queue.Store, options ...queue.Option) *queue.Engine {
	t.Helper()
	q, err := queue.NewEngine(s, options...)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func tampered(t testing.TB, s queue.Store) {
	q := engine(t, s, queue.WithKeys(ring("k1")))
	now := time.Now()
	jobs := map[string]queue.Job{}
	for _, name := range []string{"changed", "cut", "exchanged", "version", "length", "empty", "fine"} {
		jobs[name] = queue.Job{ID: name, Kind: "test", Payload: []byte(name)}
	}
	var records []queue.Record
	for name, j := range jobs {
		r, err := q.Records(t.Context(), now, j)
		if err != nil {
			t.Fatal(err)
		}
		p := r[0].Payload
		switch name {
		case "changed":
			p[len(p)-1] ^= 1
		case "cut":
			p = p[:6]
		case "version":
			p[0] = 99
		case "length":
			p[1] = 254
		case "empty":
			p = nil
		case "exchanged":
			other, _ := q.Records(t.Context(), now, jobs["fine"])
			p = other[0].Payload
		}
		r[0].Payload = p
		records = append(records, r[0])
	}
	if _, err := s.Insert(t.Context(), now, records); err != nil {
		t.Fatal(err)
	}
	var d diary
	stop := run(t, q, only(d.handle(nil)))
	awaitDead(t, q, len(jobs)-1)
	empty(t, q)
	stop()
	if got := d.payloads(); !slices.Equal(got, []string{"fine"}) {
		t.Errorf("the handler was given %q", got)
	}
	for _, b := range list(t, s, "", 100) {
		i := slices.IndexFunc(records, func(r queue.Record) bool { return r.ID == b.ID })
		if !strings.HasPrefix(b.Reason, queue.ReasonUnreadable) || string(b.Payload) != string(records[i].Payload) {
			t.Errorf("of %s the reason is %q, and %d of %d bytes are kept", b.ID, b.Reason, len(b.Payload), len(records[i].Payload))
		}
	}
}

// deaf is a Store that loses every sign of life.
type deaf struct{ queue.Store }

func (d deaf) Settle(ctx context.Context, now time.Time, all []queue.Settlement) ([]bool, error) {
	if len(all) > 0 && all[0].Outcome == queue.Extend {
		return nil, fault.New(fault.Unavailable, errBoom)
	}
	return d.Store.Settle(ctx, now, all)
}

func deafStore(t testing.TB, s queue.Store) {
	q := engine(t, deaf{s})
	enqueue(t, q, job("a"))
	cause := make(chan error, 1)
	var mu sync.Mutex
	said := map[queue.EventType]int{}
	run(t, q, only(func(ctx context.Context, v queue.Delivery) error {
		if v.Attempt > 1 {
			return nil
		}
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return nil
	}), queue.With(func(o *queue.RunOptions) {
		o.Lease = shortLease
		o.Observe = func(e queue.Event) { mu.Lock(); said[e.Type]++; mu.Unlock() }
	}))
	if err := receive(t, cause, "end of the handler's context"); !errors.Is(err, queue.ErrLeaseLost) {
		t.Errorf("the handler's context ended with %v", err)
	}
	empty(t, q)
	mu.Lock()
	defer mu.Unlock()
	if said[queue.StoreFailed] == 0 {
		t.Errorf("the observer was told %v", said)
	}
}

func sealedAtRest(t testing.TB, s queue.Store) {
	q := engine(t, s, queue.WithKeys(ring("k1")))
	secret := strings.Repeat("token-123 ", 3)
	enqueue(t, q, job(secret), job(secret))
	now := time.Now()
	got, err := s.Claim(t.Context(), queue.Claim{Now: now, Until: now.Add(time.Minute), Kinds: []string{"test"}, N: 2})
	if err != nil || len(got) != 2 {
		t.Fatalf("Claim: %s, %v", names(got), err)
	}
	for _, c := range got {
		if strings.Contains(string(c.Payload), "token") {
			t.Errorf("stored is %q", c.Payload)
		}
	}
	if string(got[0].Payload) == string(got[1].Payload) {
		t.Error("equal payloads are stored alike")
	}
}
