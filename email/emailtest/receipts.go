package emailtest

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smilefactory/integrations/email"
)

// storeRule is one sentence of the contract of email.Receipts. Its check gets a
// store of its own.
type storeRule struct {
	says  string
	check func(t testing.TB, s notebook)
}

var storeRules = []storeRule{
	{"a key is new once, and then known with the hash of its mail", knownOnce},
	{"an equal key of another mail is known by the first mail's hash", firstHashStays},
	{"a receipt is kept whole", receiptIsKept},
	{"a receipt is each caller's own", receiptIsOwn},
	{"a key that was dropped is new", dropped},
	{"a key is new again once its time is over", runsOut},
	{"a mail that has been on its way for too long is taken over once, by an equal one", takenOver},
	{"a mail whose receipt is there is not taken over", settledStays},
	{"whoever gets a key gets a token, higher than all before", tokensRise},
	{"who has lost a key can't drop it, nor one that has ended", dropsOnlyItsOwn},
	{"the first receipt stays, also one that comes late", firstReceiptStays},
	{"a receipt that comes late is kept though the key was dropped by who took it over", lateAfterDrop},
	{"a receipt is not kept for what the key stands for by now", notForAnother},
	{"a mail that may have gone is unsettled until a receipt comes", unsettled},
	{"keys don't get into each other's way", keysApart},
	{"what ends a key that isn't there changes nothing", unknownKey},
	{"of many who ask at once one finds a new key", oneOfMany},
}

// RunReceipts checks that a store keeps the contract of email.Receipts. Each rule is
// a subtest; open makes an empty store for it, and cleans up with t.
func RunReceipts(t *testing.T, open func(t *testing.T) email.Receipts) {
	t.Helper()
	for _, r := range storeRules {
		t.Run(r.says, func(t *testing.T) { r.check(t, notebook{open(t)}) })
	}
}

// notebook is a store that is asked as a Client asks it.
type notebook struct{ email.Receipts }

// The times are those of whole seconds, which every store can keep.
var (
	began     = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	abandoned = 5 * time.Minute
	kept      = 24 * time.Hour
)

var oneHash, otherHash = [32]byte{1, 2, 3}, [32]byte{0: 9, 31: 9}

func key(n int) string { return fmt.Sprintf("%064x", n) } // as long as a Client's

func (s notebook) begin(t testing.TB, key string, hash [32]byte, now time.Time) email.Known {
	t.Helper()
	known, err := s.Begin(t.Context(), key, hash, now, now.Add(-abandoned), now.Add(kept))
	if err != nil {
		t.Fatal(err)
	}
	return known
}

// is fails unless the store knows that much, and gives the key to whom it should.
func is(t testing.TB, when string, got, want email.Known) {
	t.Helper()
	if holds := !want.Known || want.Abandoned; holds != (got.Token > 0) {
		t.Errorf("%s: the token is %d", when, got.Token)
	}
	got.Token = 0
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: want %+v, got %+v", when, want, got)
	}
}

func done(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fullReceipt(n int) *email.Receipt {
	return &email.Receipt{
		ID: fmt.Sprint("mail-", n), Provider: "eu/ses", ProviderID: "0100-é", MessageID: "mail@example.com", Status: email.StatusAccepted, Attempts: 3,
		Recipients: []email.Recipient{
			{Address: "ada@example.com", Status: email.StatusAccepted}, {Address: "grace@bücher.example", Status: email.StatusRefused, Code: "550 5.1.1"},
		},
	}
}

func knownOnce(t testing.TB, s notebook) {
	is(t, "at first", s.begin(t, key(1), oneHash, began), email.Known{})
	for range 3 {
		is(t, "again", s.begin(t, key(1), oneHash, began.Add(time.Second)), email.Known{Known: true, Hash: oneHash})
	}
}

func firstHashStays(t testing.TB, s notebook) {
	first := s.begin(t, key(1), oneHash, began)
	is(t, "another mail", s.begin(t, key(1), otherHash, began), email.Known{Known: true, Hash: oneHash})
	is(t, "the first again", s.begin(t, key(1), oneHash, began), email.Known{Known: true, Hash: oneHash})
	done(t, s.End(t.Context(), key(1), first.Token, fullReceipt(1)))
	is(t, "another mail, when the first was sent", s.begin(t, key(1), otherHash, began), email.Known{Known: true, Hash: oneHash, Receipt: fullReceipt(1)})
}

func receiptIsKept(t testing.TB, s notebook) {
	for n, r := range []*email.Receipt{fullReceipt(1), {ID: "mail-2", Provider: "queue", Status: email.StatusQueued}, {}} {
		holder := s.begin(t, key(n), oneHash, began)
		done(t, s.End(t.Context(), key(n), holder.Token, r))
		is(t, "the receipt", s.begin(t, key(n), oneHash, began.Add(time.Hour)), email.Known{Known: true, Hash: oneHash, Receipt: r})
	}
}

func receiptIsOwn(t testing.TB, s notebook) {
	holder := s.begin(t, key(1), oneHash, began)
	given := fullReceipt(1)
	done(t, s.End(t.Context(), key(1), holder.Token, given))
	given.Provider, given.Recipients[0].Address = "changed", "changed"
	for range 2 {
		known := s.begin(t, key(1), oneHash, began)
		is(t, "after a caller has changed his", known, email.Known{Known: true, Hash: oneHash, Receipt: fullReceipt(1)})
		if known.Receipt != nil {
			known.Receipt.Answered("changed", 9)
			known.Receipt.Recipients = append(known.Receipt.Recipients[:1], email.Recipient{Address: "changed"})
		}
	}
}

func dropped(t testing.TB, s notebook) {
	holder := s.begin(t, key(1), oneHash, began)
	done(t, s.Drop(t.Context(), key(1), holder.Token))
	is(t, "another mail", s.begin(t, key(1), otherHash, began), email.Known{})
	is(t, "and again", s.begin(t, key(1), otherHash, began), email.Known{Known: true, Hash: otherHash})
}

func runsOut(t testing.TB, s notebook) {
	for n, ends := range []bool{true, false} {
		holder := s.begin(t, key(n), oneHash, began)
		want := email.Known{Known: true, Hash: oneHash}
		if ends {
			done(t, s.End(t.Context(), key(n), holder.Token, fullReceipt(1)))
			want.Receipt = fullReceipt(1)
		}
		is(t, "just before", s.begin(t, key(n), otherHash, began.Add(kept-time.Second)), want)
		is(t, "at that time", s.begin(t, key(n), otherHash, began.Add(kept)), email.Known{})
		is(t, "then", s.begin(t, key(n), otherHash, began.Add(kept)), email.Known{Known: true, Hash: otherHash})
	}
}

func takenOver(t testing.TB, s notebook) {
	s.begin(t, key(1), oneHash, began)
	inProgress, taken := email.Known{Known: true, Hash: oneHash}, email.Known{Known: true, Hash: oneHash, Abandoned: true}
	is(t, "just in time", s.begin(t, key(1), oneHash, began.Add(abandoned)), inProgress)
	is(t, "another mail, too late", s.begin(t, key(1), otherHash, late), inProgress)
	is(t, "too late", s.begin(t, key(1), oneHash, late), taken)
	is(t, "a second one", s.begin(t, key(1), oneHash, late), inProgress)
	last := s.begin(t, key(1), oneHash, late.Add(abandoned+time.Second))
	is(t, "when that one is too late", last, taken)
	done(t, s.End(t.Context(), key(1), last.Token, fullReceipt(1)))
	is(t, "when it has ended", s.begin(t, key(1), oneHash, late.Add(time.Hour)), email.Known{Known: true, Hash: oneHash, Receipt: fullReceipt(1)})
	is(t, "its time counts from the first", s.begin(t, key(1), oneHash, began.Add(kept)), email.Known{})
}

func settledStays(t testing.TB, s notebook) {
	holder := s.begin(t, key(1), oneHash, began)
	done(t, s.End(t.Context(), key(1), holder.Token, fullReceipt(1)))
	is(t, "hours later", s.begin(t, key(1), oneHash, began.Add(20*time.Hour)), settledBy(1))
}

// settledBy is what is known of a key of one mail that has that receipt.
func settledBy(n int) email.Known {
	return email.Known{Known: true, Hash: oneHash, Receipt: fullReceipt(n)}
}

// late is when a mail that began at the beginning is taken over.
var late = began.Add(abandoned + time.Second)

// takeOver gives the tokens of one who was too slow, and of one who has the key now.
func (s notebook) takeOver(t testing.TB, key string) (slow, holder int64) {
	t.Helper()
	slow = s.begin(t, key, oneHash, began).Token
	now := s.begin(t, key, oneHash, late)
	is(t, "one who takes it over", now, email.Known{Known: true, Hash: oneHash, Abandoned: true})
	return slow, now.Token
}

func tokensRise(t testing.TB, s notebook) {
	var last int64
	higher := func(when string, k email.Known) {
		t.Helper()
		if k.Token <= last {
			t.Errorf("%s: the token is %d, and %d was there before", when, k.Token, last)
		}
		last = k.Token
	}
	for n := range 3 {
		higher("a new key", s.begin(t, key(n), oneHash, began))
	}
	higher("a key that was abandoned", s.begin(t, key(2), oneHash, late))
	done(t, s.Drop(t.Context(), key(2), last))
	higher("a key that was dropped by who took it over", s.begin(t, key(2), oneHash, late))
	higher("a key that has run out", s.begin(t, key(1), otherHash, began.Add(kept)))
	done(t, s.Drop(t.Context(), key(1), last))
	higher("a key that was dropped", s.begin(t, key(1), otherHash, began.Add(kept)))
}

func dropsOnlyItsOwn(t testing.TB, s notebook) {
	slow, holder := s.takeOver(t, key(1))
	done(t, s.Drop(t.Context(), key(1), slow))
	is(t, "when the slow one has failed", s.begin(t, key(1), oneHash, late), email.Known{Known: true, Hash: oneHash})
	done(t, s.End(t.Context(), key(1), holder, fullReceipt(1)))
	for name, token := range map[string]int64{"the slow one": slow, "its holder": holder, "a stranger": holder + 1000} {
		done(t, s.Drop(t.Context(), key(1), token))
		is(t, "a key that has ended, dropped by "+name, s.begin(t, key(1), oneHash, late), settledBy(1))
	}
}

func firstReceiptStays(t testing.TB, s notebook) {
	slow, holder := s.takeOver(t, key(1))
	done(t, s.End(t.Context(), key(1), slow, fullReceipt(1)))
	is(t, "when the slow one has sent it", s.begin(t, key(1), oneHash, late), settledBy(1))
	done(t, s.End(t.Context(), key(1), holder, fullReceipt(2)))
	is(t, "when both have sent it", s.begin(t, key(1), oneHash, late), settledBy(1))
	done(t, s.Drop(t.Context(), key(1), holder))
	is(t, "hours later", s.begin(t, key(1), oneHash, late.Add(time.Hour)), settledBy(1))

	slow, holder = s.takeOver(t, key(2))
	done(t, s.End(t.Context(), key(2), holder, fullReceipt(2)))
	done(t, s.End(t.Context(), key(2), slow, fullReceipt(1)))
	is(t, "when the slow one has sent it last", s.begin(t, key(2), oneHash, late), settledBy(2))
}

// lateAfterDrop: one takes the key over and fails, so that it is new to the next
// one; what the slow one says then is true all the same.
func lateAfterDrop(t testing.TB, s notebook) {
	slow, holder := s.takeOver(t, key(1))
	done(t, s.Drop(t.Context(), key(1), holder))
	done(t, s.End(t.Context(), key(1), slow, fullReceipt(1)))
	is(t, "when the slow one has sent it", s.begin(t, key(1), oneHash, late), settledBy(1))

	slow, holder = s.takeOver(t, key(2))
	done(t, s.Drop(t.Context(), key(2), holder))
	next := s.begin(t, key(2), oneHash, late)
	is(t, "the next one", next, email.Known{})
	done(t, s.End(t.Context(), key(2), slow, fullReceipt(2)))
	is(t, "when the slow one has sent it, and the next one is about to", s.begin(t, key(2), oneHash, late), settledBy(2))
	done(t, s.Drop(t.Context(), key(2), next.Token))
	is(t, "and the next one has failed", s.begin(t, key(2), oneHash, late), settledBy(2))
}

func notForAnother(t testing.TB, s notebook) {
	slow, holder := s.takeOver(t, key(1))
	done(t, s.Drop(t.Context(), key(1), holder))
	is(t, "another mail", s.begin(t, key(1), otherHash, late), email.Known{})
	old := s.begin(t, key(2), oneHash, began)
	is(t, "when it has run out", s.begin(t, key(2), oneHash, began.Add(kept)), email.Known{})
	for n, of := range []struct {
		token int64
		now   time.Time
		want  email.Known
	}{{slow, late, email.Known{Known: true, Hash: otherHash}}, {old.Token, began.Add(kept), email.Known{Known: true, Hash: oneHash}}} {
		done(t, s.End(t.Context(), key(n+1), of.token, fullReceipt(1)))
		is(t, "after the end of an earlier mail", s.begin(t, key(n+1), of.want.Hash, of.now), of.want)
		done(t, s.Drop(t.Context(), key(n+1), of.token))
		is(t, "after an earlier mail was dropped", s.begin(t, key(n+1), of.want.Hash, of.now), of.want)
	}
}

func unsettled(t testing.TB, s notebook) {
	inDoubt := email.Known{Known: true, Hash: oneHash, Unsettled: true}
	slow, holder := s.takeOver(t, key(1))
	done(t, s.End(t.Context(), key(1), holder, nil))
	is(t, "when nobody knows", s.begin(t, key(1), oneHash, late), inDoubt)
	is(t, "another mail", s.begin(t, key(1), otherHash, late), inDoubt)
	is(t, "hours later", s.begin(t, key(1), oneHash, late.Add(time.Hour)), inDoubt)
	for _, token := range []int64{slow, holder} {
		done(t, s.Drop(t.Context(), key(1), token))
		is(t, "when it was dropped", s.begin(t, key(1), oneHash, late), inDoubt)
	}
	done(t, s.End(t.Context(), key(1), slow, fullReceipt(1)))
	is(t, "when one says that it went", s.begin(t, key(1), oneHash, late), settledBy(1))
	done(t, s.End(t.Context(), key(1), holder, nil))
	is(t, "and another still doesn't know", s.begin(t, key(1), oneHash, late), settledBy(1))
}

func keysApart(t testing.TB, s notebook) {
	const n = 20
	var tokens [n]int64
	for i := range n {
		known := s.begin(t, key(i), [32]byte{byte(i)}, began)
		is(t, "at first", known, email.Known{})
		tokens[i] = known.Token
	}
	done(t, s.End(t.Context(), key(3), tokens[3], fullReceipt(3)))
	done(t, s.Drop(t.Context(), key(4), tokens[4]))
	for i := range n {
		want := email.Known{Known: true, Hash: [32]byte{byte(i)}}
		switch i {
		case 3:
			want.Receipt = fullReceipt(3)
		case 4:
			want = email.Known{}
		}
		is(t, key(i), s.begin(t, key(i), [32]byte{byte(i)}, began), want)
	}
	is(t, "a key in capitals", s.begin(t, strings.ToUpper(key(10)), oneHash, began), email.Known{})
}

// unknownKey: the key may have run out meanwhile, or been dropped by another.
func unknownKey(t testing.TB, s notebook) {
	done(t, s.End(t.Context(), key(1), 1, fullReceipt(1)))
	is(t, "after its end", s.begin(t, key(1), oneHash, began), email.Known{})
	done(t, s.Drop(t.Context(), key(2), 1))
	is(t, "after it was dropped", s.begin(t, key(2), oneHash, began), email.Known{})
}

func oneOfMany(t testing.TB, s notebook) {
	const callers, keys = 16, 20
	var mu sync.Mutex
	fresh := map[string]int{}
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range keys {
				known, err := s.Begin(context.WithoutCancel(t.Context()), key(i), oneHash, began, began.Add(-abandoned), began.Add(kept))
				mu.Lock()
				switch {
				case err != nil:
					t.Error(err)
				case !known.Known:
					fresh[key(i)]++
				case known.Hash != oneHash || known.Receipt != nil || known.Abandoned:
					t.Errorf("a key in use was answered with %+v", known)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for i := range keys {
		if n := fresh[key(i)]; n != 1 {
			t.Errorf("%d callers found one key new, want 1", n)
		}
	}
}
