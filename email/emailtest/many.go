package emailtest

import (
	"sync"
	"testing"

	"github.com/smilefactory/integrations/email"
)

const (
	senders = 16
	each    = 500
)

func manyAtOnce(t testing.TB, open func() Subject) {
	s := open()
	n := each
	if testing.Short() {
		n = 20
	}
	var wg sync.WaitGroup
	receipts := make([]*email.Receipt, senders*n)
	for g := range senders {
		wg.Go(func() {
			for i := range n {
				r, err := s.Sender.Send(t.Context(), s.sample(g*n+i))
				if err != nil {
					t.Error(err)
					return
				}
				receipts[g*n+i] = r
			}
		})
	}
	wg.Wait()
	own(t, s, receipts)
	seen := make(map[string]*email.Message, senders*n)
	for _, m := range s.Sent() {
		if seen[m.ID] != nil {
			t.Errorf("%s arrived twice", m.ID)
		}
		seen[m.ID] = m
	}
	for i := range senders * n {
		want := s.sample(i)
		got := seen[want.ID]
		if got == nil {
			t.Errorf("%s was lost", want.ID)
			return
		}
		if !same(t, want, got) {
			return // one is enough to read
		}
	}
}

// own: each call has a receipt of its own, which is that of its mail. They are
// looked at when all are there, since a shared one is right for a moment.
func own(t testing.TB, s Subject, receipts []*email.Receipt) {
	t.Helper()
	seen := make(map[*email.Receipt]bool, len(receipts))
	for i, r := range receipts {
		if r == nil {
			continue // its error was reported
		}
		if want := s.sample(i).ID; r.ID != want {
			t.Errorf("the receipt of %s is for %s", want, r.ID)
			return
		}
		if seen[r] {
			t.Errorf("the receipt of %s is another's too", r.ID)
			return
		}
		seen[r] = true
	}
}
