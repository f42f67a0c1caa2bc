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

// is fails unless the store knows that much.
func is(t testing.TB, when string, got, want email.Known) {
	t.Helper()
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
	s.begin(t, key(1), oneHash, began)
	is(t, "another mail", s.begin(t, key(1), otherHash, began), email.Known{Known: true, Hash: oneHash})
	is(t, "the first again", s.begin(t, key(1), oneHash, began), email.Known{Known: true, Hash: oneHash})
	done(t, s.End(t.Context(), key(1), fullReceipt(1)))
	is(t, "another mail, when the first was sent", s.begin(t, key(1), otherHash, began), email.Known{Known: true, Hash: oneHash, Receipt: fullReceipt(1)})
}

func receiptIsKept(t testing.TB, s notebook) {
	for n, r := range []*email.Receipt{fullReceipt(1), {ID: "mail-2", Provider: "queue", Status: email.StatusQueued}, {}} {
		s.begin(t, key(n), oneHash, began)
		done(t, s.End(t.Context(), key(n), r))
		is(t, "the receipt", s.begin(t, key(n), oneHash, began.Add(time.Hour)), email.Known{Known: true, Hash: oneHash, Receipt: r})
	}
}

func receiptIsOwn(t testing.TB, s notebook) {
	s.begin(t, key(1), oneHash, began)
	given := fullReceipt(1)
	done(t, s.End(t.Context(), key(1), given))
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
	s.begin(t, key(1), oneHash, began)
	done(t, s.Drop(t.Context(), key(1)))
	is(t, "another mail", s.begin(t, key(1), otherHash, began), email.Known{})
	is(t, "and again", s.begin(t, key(1), otherHash, began), email.Known{Known: true, Hash: otherHash})
}

func runsOut(t testing.TB, s notebook) {
	for n, ends := range []bool{true, false} {
		s.begin(t, key(n), oneHash, began)
		want := email.Known{Known: true, Hash: oneHash}
		if ends {
			done(t, s.End(t.Context(), key(n), fullReceipt(1)))
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
	late := began.Add(abandoned + time.Second)
	is(t, "just in time", s.begin(t, key(1), oneHash, began.Add(abandoned)), inProgress)
	is(t, "another mail, too late", s.begin(t, key(1), otherHash, late), inProgress)
	is(t, "too late", s.begin(t, key(1), oneHash, late), taken)
	is(t, "a second one", s.begin(t, key(1), oneHash, late), inProgress)
	is(t, "when that one is too late", s.begin(t, key(1), oneHash, late.Add(abandoned+time.Second)), taken)
	done(t, s.End(t.Context(), key(1), fullReceipt(1)))
	is(t, "when it has ended", s.begin(t, key(1), oneHash, late.Add(time.Hour)), email.Known{Known: true, Hash: oneHash, Receipt: fullReceipt(1)})
	is(t, "its time counts from the first", s.begin(t, key(1), oneHash, began.Add(kept)), email.Known{})
}

func settledStays(t testing.TB, s notebook) {
	s.begin(t, key(1), oneHash, began)
	done(t, s.End(t.Context(), key(1), fullReceipt(1)))
	is(t, "hours later", s.begin(t, key(1), oneHash, began.Add(20*time.Hour)), email.Known{Known: true, Hash: oneHash, Receipt: fullReceipt(1)})
}

func keysApart(t testing.TB, s notebook) {
	const n = 20
	for i := range n {
		is(t, "at first", s.begin(t, key(i), [32]byte{byte(i)}, began), email.Known{})
	}
	done(t, s.End(t.Context(), key(3), fullReceipt(3)))
	done(t, s.Drop(t.Context(), key(4)))
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
	done(t, s.End(t.Context(), key(1), fullReceipt(1)))
	is(t, "after its end", s.begin(t, key(1), oneHash, began), email.Known{})
	done(t, s.Drop(t.Context(), key(2)))
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
