package payment_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymenttest"
)

// trouble is a Journal whose Updates fail from the nth on.
type trouble struct {
	*payment.MemoryJournal
	mu    sync.Mutex
	n     int // Updates so far
	fails func(n int) how
}

type how uint8

const (
	works  how = iota
	down       // nothing is stored, and it says so
	lost       // it is stored, and the answer lost
	gone       // it isn't stored, and the answer lost
	hidden     // as lost, and nothing can be read either
)

func (j *trouble) next() how {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.n++
	if j.fails == nil {
		return works
	}
	return j.fails(j.n)
}

func (j *trouble) Update(ctx context.Context, k payment.Key, change func(context.Context, *payment.Entry) error) (*payment.Entry, error) {
	h := j.next()
	switch h {
	case down:
		return nil, fault.New(fault.Unavailable, errors.New("the journal is down"))
	case gone:
		return nil, fault.New(fault.Uncertain, errors.New("the connection was lost"))
	default:
	}
	e, err := j.MemoryJournal.Update(ctx, k, change)
	if err == nil && h != works {
		return nil, fault.New(fault.Uncertain, errors.New("the connection was lost"))
	}
	return e, err
}

func (j *trouble) Entry(ctx context.Context, k payment.Key) (*payment.Entry, error) {
	j.mu.Lock()
	h := works
	if j.fails != nil {
		h = j.fails(j.n)
	}
	j.mu.Unlock()
	if h == down || h == hidden {
		return nil, fault.New(fault.Unavailable, errors.New("the journal is down"))
	}
	return j.MemoryJournal.Entry(ctx, k)
}

// TestTheJournalFailsAtEveryWrite lets every write of a charge fail in every way,
// once or from then on: there never are two charges, a success was paid, what
// failed was not, and what isn't known settles when the journal is back.
func TestTheJournalFailsAtEveryWrite(t *testing.T) {
	for n := 1; n <= 6; n++ {
		for _, h := range []how{down, lost, gone, hidden} {
			for _, forEver := range []bool{false, true} {
				for _, method := range []string{paymenttest.Good, paymenttest.Poor, paymenttest.Slow, ""} {
					t.Run(fmt.Sprintf("write %d/%d/%v/%s", n, h, forEver, method), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { failsAt(t, n, h, forEver, method) })
					})
				}
			}
		}
	}
}

func failsAt(t *testing.T, n int, h how, forEver bool, method string) {
	s := setup(t)
	j := &trouble{MemoryJournal: s.journal, fails: func(i int) how {
		if i == n || forEver && i > n {
			return h
		}
		return works
	}}
	pay := s.again(t, payment.WithJournal(j))
	r, err := pay.Charge(t.Context(), order("o", method))
	charged := len(s.charges("o"))
	switch {
	case err != nil && !errors.Is(err, fault.Uncertain):
		assert.Zero(t, charged, "it was said that nothing was done: %v", err)
	case err == nil && r.Status == payment.Succeeded:
		assert.Equal(t, 1, charged)
	case err == nil && r.Status == payment.Declined:
		assert.Zero(t, charged)
	}
	j.mu.Lock()
	j.fails = nil
	j.mu.Unlock()
	for range 3 {
		time.Sleep(time.Hour)
		_, err := pay.ReconcileOnce(t.Context())
		require.NoError(t, err)
	}
	if err != nil && !errors.Is(err, fault.Uncertain) {
		assert.Empty(t, s.charges("o"), "it was said that nothing was done, and nothing is done later: %v", err)
	}
	after, err := pay.Resume(t.Context(), "o")
	if errors.Is(err, fault.NotFound) {
		assert.Empty(t, s.charges("o"))
		return
	}
	require.NoError(t, err)
	assert.NotEqual(t, payment.Unknown, after.Status)
	assert.LessOrEqual(t, len(s.charges("o")), 1)
	assert.Equal(t, after.Status == payment.Succeeded, len(s.charges("o")) == 1)

	again, err := pay.Charge(t.Context(), order("o", method))
	require.NoError(t, err)
	assert.LessOrEqual(t, len(s.charges("o")), 1)
	assert.Equal(t, again.Status == payment.Succeeded, len(s.charges("o")) == 1)
}

func TestASuccessThatCannotBeRecordedIsASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		j := &trouble{MemoryJournal: s.journal, fails: func(n int) how {
			if n >= 5 { // claim, note, prepared, committing
				return down
			}
			return works
		}}
		pay := s.again(t, payment.WithJournal(j))
		r, err := pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.NoError(t, err)
		assert.Equal(t, payment.Succeeded, r.Status)
		assert.False(t, r.Recorded)
		j.mu.Lock()
		j.fails = nil
		j.mu.Unlock()
		time.Sleep(time.Hour)
		n, err := pay.ReconcileOnce(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		r, err = pay.Resume(t.Context(), "o")
		require.NoError(t, err)
		assert.Equal(t, payment.Succeeded, r.Status)
		assert.True(t, r.Recorded)
		assert.Len(t, s.charges("o"), 1)
		assert.Equal(t, []payment.EventType{payment.OrderChanged}, s.types())
	})
}

func TestTheHandlersFailureLeavesItsEventForLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		fail := true
		pay := s.again(t, payment.WithHandler(func(ctx context.Context, e payment.Event) error {
			if fail {
				return errors.New("the service's table is locked")
			}
			return s.handle(ctx, e)
		}))
		r, err := pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.NoError(t, err)
		assert.Equal(t, payment.Succeeded, r.Status)
		assert.False(t, r.Recorded)
		fail = false
		time.Sleep(time.Hour)
		_, err = pay.ReconcileOnce(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []payment.EventType{payment.OrderChanged}, s.types())
		assert.Len(t, s.charges("o"), 1)
	})
}

// TestTheJournalFailsAtEveryWriteOfWhatFollows is the same for captures, voids and
// refunds.
func TestTheJournalFailsAtEveryWriteOfWhatFollows(t *testing.T) {
	for what, do := range map[string]func(ctx context.Context, pay *payment.Client) (any, error){
		"capture": func(ctx context.Context, pay *payment.Client) (any, error) { return pay.Capture(ctx, "held", usd(500)) },
		"void":    func(ctx context.Context, pay *payment.Client) (any, error) { return pay.Void(ctx, "held") },
		"refund": func(ctx context.Context, pay *payment.Client) (any, error) {
			return pay.Refund(ctx, "paid", "r1", usd(500))
		},
	} {
		for n := 1; n <= 4; n++ {
			for _, h := range []how{down, lost, gone, hidden} {
				for _, forEver := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/write %d/%d/%v", what, n, h, forEver), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							s := setup(t)
							o := order("held", paymenttest.Good)
							o.Hold = true
							_, err := s.pay.Charge(t.Context(), o)
							require.NoError(t, err)
							paid, err := s.pay.Charge(t.Context(), order("paid", paymenttest.Good))
							require.NoError(t, err)
							j := &trouble{MemoryJournal: s.journal, fails: func(i int) how {
								if i == n || forEver && i > n {
									return h
								}
								return works
							}}
							pay := s.again(t, payment.WithJournal(j))
							_, err = do(t.Context(), pay)
							moved := len(s.charges("held")) + s.first.Calls(paymenttest.Void)
							if what == "refund" {
								moved = int(s.first.Refunded(paid.PaymentID).Minor)
							}
							if err != nil && !errors.Is(err, fault.Uncertain) {
								assert.Zero(t, moved, "it was said that nothing was done: %v", err)
							}
							if err == nil {
								assert.NotZero(t, moved)
							}
							j.mu.Lock()
							j.fails = nil
							j.mu.Unlock()
							for range 3 {
								time.Sleep(time.Hour)
								_, err := pay.ReconcileOnce(t.Context())
								require.NoError(t, err)
							}
							if err != nil && !errors.Is(err, fault.Uncertain) {
								assert.Empty(t, s.charges("held"))
								assert.Equal(t, usd(0), s.first.Refunded(paid.PaymentID))
							}
							_, err = do(t.Context(), pay)
							require.NoError(t, err)
							assert.LessOrEqual(t, len(s.charges("held")), 1)
							if what == "refund" {
								assert.Equal(t, usd(500), s.first.Refunded(paid.PaymentID))
							}
						})
					})
				}
			}
		}
	}
}
