package payment_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymenttest"
)

// unreachable is what an attempt fails with that sent nothing.
func unreachable() error { return fault.New(fault.Unavailable, nil) }

func TestAKeyStaysAndEverythingButTheMethodMakesAnother(t *testing.T) {
	attempt := func() *payment.Attempt {
		o := order("order-1", paymenttest.Good)
		return &payment.Attempt{Tenant: "tenant", Order: o, Number: 1, Provider: "first", Identity: payment.Identity{Account: "acct"}, PaymentID: "pay_1"}
	}
	key := attempt().Key("commit")
	assert.Len(t, key, 64)
	assert.Equal(t, key, attempt().Key("commit"))
	for name, change := range map[string]func(a *payment.Attempt){
		"tenant":                        func(a *payment.Attempt) { a.Tenant = "other" },
		"provider":                      func(a *payment.Attempt) { a.Provider = "second" },
		"account":                       func(a *payment.Attempt) { a.Identity.Account = "other" },
		"mode":                          func(a *payment.Attempt) { a.Identity.Live = true },
		"order":                         func(a *payment.Attempt) { a.Order.ID = "order-2" },
		"attempt":                       func(a *payment.Attempt) { a.Number = 2 },
		"what one part gives the other": func(a *payment.Attempt) { a.Tenant, a.Provider = "tenantf", "irst" },
	} {
		a := attempt()
		change(a)
		assert.NotEqual(t, key, a.Key("commit"), name)
	}
	assert.NotEqual(t, key, attempt().Key("prepare"), "step")
	a := attempt()
	a.Method, a.PaymentID, a.Began = payment.Method{ID: "pm_2"}, "", time.Now()
	assert.Equal(t, key, a.Key("commit"), "the same attempt")
}

func TestAWriteWhoseAnswerWasLostIsFoundAgain(t *testing.T) {
	for n := 1; n <= 5; n++ { // claim, note, prepared, committing, paid
		s := setup(t)
		j := &trouble{MemoryJournal: s.journal, fails: func(i int) how {
			if i == n {
				return lost
			}
			return works
		}}
		r, err := s.again(t, payment.WithJournal(j)).Charge(t.Context(), order("o", paymenttest.Good))
		require.NoError(t, err, n)
		assert.Equal(t, payment.Succeeded, r.Status)
		assert.True(t, r.Recorded)
		assert.Equal(t, "first", r.Provider)
		assert.Len(t, s.charges("o"), 1)
	}
}

func TestACommitThatCantBeNotedIsNotSent(t *testing.T) {
	for _, h := range []how{down, gone, hidden} {
		s := setup(t)
		j := &trouble{MemoryJournal: s.journal, fails: failing(4, h)} // claim, note, prepared, committing
		_, err := s.again(t, payment.WithJournal(j)).Charge(t.Context(), order("o", paymenttest.Good))
		require.Error(t, err)
		assert.Zero(t, s.first.Calls(paymenttest.Commit))
		assert.Empty(t, s.charges("o"))
	}
}

// TestAChangeOfTheJournalInMemoryKeepsOthersOut: the journal's suite counts what
// gets lost, which on one processor may be nothing.
func TestAChangeOfTheJournalInMemoryKeepsOthersOut(t *testing.T) {
	var j payment.MemoryJournal
	var inside, met atomic.Int64
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			_, err := j.Update(t.Context(), payment.Key{Order: "o"}, func(_ context.Context, e *payment.Entry) error {
				met.Add(inside.Add(1) - 1)
				for range 100 {
					runtime.Gosched()
				}
				inside.Add(-1)
				e.Rounds++
				return nil
			})
			assert.NoError(t, err)
		})
	}
	calls.Wait()
	assert.Zero(t, met.Load())
	e, err := j.Entry(t.Context(), payment.Key{Order: "o"})
	require.NoError(t, err)
	assert.Equal(t, 20, e.Rounds)
}

// late lands the commit that was on its way to the first Bank all the time.
func (s *two) late(t *testing.T) {
	t.Helper()
	_, err := s.first.Commit(t.Context(), &payment.Attempt{Order: order("o", paymenttest.Good), Number: 1, Provider: "first", PaymentID: "first_pay_1"})
	require.NoError(t, err)
}

func TestACommitThatIsStillOnItsWayIsFencedBeforeTheBackupIsAsked(t *testing.T) {
	s := setup(t)
	s.first.Fail(paymenttest.Commit, uncertain())
	r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
	require.NoError(t, err)
	assert.Equal(t, "second", r.Provider)
	s.late(t)
	assert.Len(t, s.charges("o"), 1)
}

func TestACommitThatIsStillOnItsWayKeepsTheBackupOutWhereItCantBeFenced(t *testing.T) {
	s := setup(t)
	s.first.NoFence = true
	s.first.Fail(paymenttest.Commit, uncertain())
	s.first.Fail(paymenttest.Commit, uncertain())
	r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
	require.ErrorIs(t, err, fault.Uncertain)
	assert.Equal(t, payment.Unknown, r.Status)
	assert.Zero(t, s.second.Calls(paymenttest.Prepare))
	s.late(t)
	r, err = s.pay.Resume(t.Context(), "o")
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
	assert.Len(t, s.charges("o"), 1)
}

// slowBank is one whose commit lands between the look-up and the fence.
type slowBank struct{ *paymenttest.Bank }

func (b slowBank) Commit(context.Context, *payment.Attempt) (*payment.Payment, error) {
	return nil, uncertain()
}

func (b slowBank) Fence(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	if _, err := b.Bank.Commit(ctx, a); err != nil {
		return nil, err
	}
	return b.Bank.Fence(ctx, a)
}

func TestAFenceThatComesTooLateTellsThatItWasPaid(t *testing.T) {
	s := setup(t)
	pay, err := payment.New(slowBank{s.first}, payment.WithBackup(s.second), payment.WithJournal(s.journal))
	require.NoError(t, err)
	r, err := pay.Charge(t.Context(), order("o", paymenttest.Good))
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
	assert.Equal(t, "first", r.Provider)
	assert.Len(t, s.charges("o"), 1)
}

// TestWhatFollowsAChargeGoesToTheProviderThatMadeIt: the primary is well again,
// and is asked nothing, even where the owner fails.
func TestWhatFollowsAChargeGoesToTheProviderThatMadeIt(t *testing.T) {
	s := setup(t)
	for _, id := range []string{"paid", "captured", "voided"} {
		s.first.Fail(paymenttest.Prepare, unreachable())
		o := order(id, paymenttest.Good)
		o.Hold = id != "paid"
		r, err := s.pay.Charge(t.Context(), o)
		require.NoError(t, err)
		require.Equal(t, "second", r.Provider)
	}
	for step, do := range map[paymenttest.Step]func() error{
		paymenttest.Refund:  func() error { _, err := s.pay.Refund(t.Context(), "paid", "r1", usd(500)); return err },
		paymenttest.Capture: func() error { _, err := s.pay.Capture(t.Context(), "captured", usd(500)); return err },
		paymenttest.Void:    func() error { _, err := s.pay.Void(t.Context(), "voided"); return err },
	} {
		s.second.Fail(step, unreachable())
		require.ErrorIs(t, do(), fault.Unavailable, step)
		require.NoError(t, do(), step)
	}
	s.first.Fail(paymenttest.Prepare, unreachable())
	_, err := s.pay.Charge(t.Context(), order("slow", paymenttest.Slow))
	require.NoError(t, err)
	_, err = s.pay.Resume(t.Context(), "slow")
	require.NoError(t, err)
	assert.NotZero(t, s.second.Calls(paymenttest.LookUp))
	for _, step := range []paymenttest.Step{paymenttest.Refund, paymenttest.Capture, paymenttest.Void, paymenttest.LookUp, paymenttest.Commit} {
		assert.Zero(t, s.first.Calls(step), step)
	}
}

// TestWhoLostTheLeaseWritesNothing: it slept while it prepared, and wakes up while
// another prepares anew.
func TestWhoLostTheLeaseWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		wake, goOn := s.first.Hang(paymenttest.Prepare), s.first.Hang(paymenttest.Prepare)
		p := payment.Policy
		p.Timeout = 30 * time.Second
		sleeper, err := payment.New(s.first, payment.WithPolicy(p), payment.WithJournal(s.journal))
		require.NoError(t, err)
		slept, paid := make(chan error, 1), make(chan error, 1)
		charge := func(pay *payment.Client, done chan<- error) {
			_, err := pay.Charge(t.Context(), order("o", paymenttest.Good))
			done <- err
		}
		go charge(sleeper, slept)
		synctest.Wait()
		s.expire(t)
		go charge(s.pay, paid)
		synctest.Wait()
		wake()
		require.ErrorIs(t, <-slept, fault.Conflict)
		e, err := s.journal.Entry(t.Context(), payment.Key{Order: "o"})
		require.NoError(t, err)
		assert.Empty(t, e.Attempts[len(e.Attempts)-1].PaymentID)
		assert.Zero(t, s.first.Calls(paymenttest.Commit))
		goOn()
		require.NoError(t, <-paid)
		assert.Len(t, s.charges("o"), 1)
		require.NoError(t, sleeper.Close(t.Context()))
	})
}

// asleep is a Journal whose fourth Update, the note of a commit, waits.
type asleep struct {
	*payment.MemoryJournal
	n    atomic.Int64
	wake chan struct{}
}

func (j *asleep) Update(ctx context.Context, k payment.Key, change func(context.Context, *payment.Entry) error) (*payment.Entry, error) {
	if j.n.Add(1) == 4 {
		<-j.wake
		ctx = context.WithoutCancel(ctx) // it doesn't know how long it slept
	}
	return j.MemoryJournal.Update(ctx, k, change)
}

func TestWhoSleptBeforeTheCommitDoesNotCommitWhatIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		s.first.NoFence = true
		j := &asleep{MemoryJournal: s.journal, wake: make(chan struct{})}
		sleeper := s.again(t, payment.WithJournal(j))
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = sleeper.Charge(t.Context(), order("o", paymenttest.Good))
		}()
		synctest.Wait()
		s.expire(t)
		o := order("o", paymenttest.Good)
		o.Try = 1 // another attempt: the former is fenced, by note alone
		r, err := s.pay.Charge(t.Context(), o)
		require.NoError(t, err)
		require.Equal(t, payment.Succeeded, r.Status)
		require.Equal(t, 2, r.Attempt)
		close(j.wake)
		<-done
		assert.Len(t, s.charges("o"), 1)
		assert.Equal(t, 1, s.first.Calls(paymenttest.Commit))
		e, err := s.journal.Entry(t.Context(), payment.Key{Order: "o"})
		require.NoError(t, err)
		assert.Equal(t, payment.AttemptFenced, e.Attempts[0].State)
		assert.Equal(t, payment.AttemptPaid, e.Attempts[1].State)
	})
}

// swapped answers a look-up and a commit with something else.
type swapped struct {
	*paymenttest.Bank
	change func(p *payment.Payment)
}

func (s swapped) Commit(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	p, err := s.Bank.Commit(ctx, a)
	if err == nil {
		s.change(p)
	}
	return p, err
}

func TestAPaymentOfAnotherOrderOrModeIsNoSuccess(t *testing.T) {
	for name, change := range map[string]func(p *payment.Payment){
		"another order":   func(p *payment.Payment) { p.Reference.Order = "p" },
		"another attempt": func(p *payment.Payment) { p.Reference.Attempt = 2 },
		"another tenant":  func(p *payment.Payment) { p.Reference.Tenant = "other" },
		"another mode":    func(p *payment.Payment) { p.Live = true },
		"another amount":  func(p *payment.Payment) { p.Amount.Minor++ },
	} {
		t.Run(name, func(t *testing.T) {
			s := setup(t)
			pay, err := payment.New(swapped{s.first, change}, payment.WithJournal(s.journal), payment.WithHandler(s.handle))
			require.NoError(t, err)
			r, err := pay.Charge(t.Context(), order("o", paymenttest.Good))
			require.ErrorIs(t, err, fault.Uncertain)
			assert.True(t, r == nil || r.Status == payment.Unknown)
			assert.Contains(t, s.types(), payment.Mismatch)
			assert.NotContains(t, s.types(), payment.OrderChanged)
		})
	}
}

// forgetful is a Bank that can't say what became of refunds.
type forgetful struct{ *paymenttest.Bank }

func (forgetful) LookUpRefund(context.Context, *payment.Refunding) (*payment.Refund, error) {
	return nil, unreachable()
}

func TestARefundThatMayHaveBeenMadeKeepsItsAmount(t *testing.T) {
	for _, made := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := setup(t)
			r := paid(t, s)
			p := payment.Policy
			p.Retries = 0
			pay, err := payment.New(forgetful{s.first}, payment.WithPolicy(p), payment.WithJournal(s.journal))
			require.NoError(t, err)
			if made {
				s.first.Lose(paymenttest.Refund)
			} else {
				s.first.Fail(paymenttest.Refund, uncertain())
			}
			f, err := pay.Refund(t.Context(), "o", "r1", usd(1500))
			require.ErrorIs(t, err, fault.Uncertain)
			require.NotNil(t, f)
			assert.Equal(t, payment.RefundUnknown, f.State)
			_, err = pay.Refund(t.Context(), "o", "r2", usd(1000))
			require.ErrorIs(t, err, fault.Conflict)
			f, err = pay.Refund(t.Context(), "o", "r3", payment.Money{})
			require.NoError(t, err)
			assert.Equal(t, usd(499), f.Amount, "all that is left")

			f, err = s.pay.Refund(t.Context(), "o", "r1", usd(1500)) // it can be looked up again
			require.NoError(t, err)
			assert.Equal(t, payment.RefundSucceeded, f.State)
			assert.Equal(t, usd(1999), s.first.Refunded(r.PaymentID))
		})
	}
}

// TestARefundThatMayBeOnItsWayIsNotForgottenWhereItCantBeRepeated: only who has
// asked first knows that nothing was sent.
func TestARefundThatMayBeOnItsWayIsNotForgottenWhereItCantBeRepeated(t *testing.T) {
	s := setup(t)
	paid(t, s)
	s.first.Fail(paymenttest.Refund, uncertain())
	s.first.Fail(paymenttest.Refund, unreachable())
	_, err := s.pay.Refund(t.Context(), "o", "r1", usd(1500))
	require.ErrorIs(t, err, fault.Uncertain)
	f, err := s.pay.Refund(t.Context(), "o", "r1", usd(1500))
	require.ErrorIs(t, err, fault.Uncertain)
	assert.Equal(t, payment.RefundUnknown, f.State)
	_, err = s.pay.Refund(t.Context(), "o", "r2", usd(1500))
	require.ErrorIs(t, err, fault.Conflict)
}

func TestARefundThatWasRefusedGivesItsAmountBack(t *testing.T) {
	s := setup(t)
	paid(t, s)
	s.first.Fail(paymenttest.Refund, fault.New(fault.Rejected, nil))
	_, err := s.pay.Refund(t.Context(), "o", "r1", usd(1999))
	require.ErrorIs(t, err, fault.Rejected)
	f, err := s.pay.Refund(t.Context(), "o", "r2", usd(1999))
	require.NoError(t, err)
	assert.Equal(t, payment.RefundSucceeded, f.State)
}

// TestARefundThatIsDoneIsNotAskedForAgain: its key may be forgotten by then.
func TestARefundThatIsDoneIsNotAskedForAgain(t *testing.T) {
	s := setup(t)
	paid(t, s)
	for range 3 {
		f, err := s.pay.Refund(t.Context(), "o", "r1", usd(500))
		require.NoError(t, err)
		assert.Equal(t, payment.RefundSucceeded, f.State)
	}
	assert.Equal(t, 1, s.first.Calls(paymenttest.Refund))
}

func TestAnEventWhoseLookUpFailedIsNotSeen(t *testing.T) {
	s := setup(t)
	r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Slow))
	require.NoError(t, err)
	s.first.Clear(r.PaymentID, true)
	s.first.Fail(paymenttest.LookUp, unreachable())
	assert.Equal(t, 503, s.hook(t, s.pay, s.first.Webhook("/", "evt_1", r.PaymentID), "first"))
	e, err := s.journal.Entry(t.Context(), payment.Key{Order: "o"})
	require.NoError(t, err)
	assert.Empty(t, e.Events)
	assert.Equal(t, 200, s.hook(t, s.pay, s.first.Webhook("/", "evt_1", r.PaymentID), "first"))
	r, err = s.pay.Recorded(t.Context(), "o")
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
}
