package payment_test

import (
	"context"
	"errors"
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

// refusal is what a provider answers that has provably done nothing.
func refusal() error { return fault.New(fault.Unavailable, errors.New("connection refused")) }

// unknown charges an order of which nobody learns how it ended; nothing was done.
func unknown(t *testing.T, s *two) {
	t.Helper()
	s.first.Fail(paymenttest.Commit, uncertain())
	s.first.Fail(paymenttest.LookUp, uncertain())
	r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
	require.ErrorIs(t, err, fault.Uncertain)
	require.Equal(t, payment.Unknown, r.Status)
}

func TestVoidNeverPays(t *testing.T) {
	t.Run("what isn't known is fenced", func(t *testing.T) {
		s := setup(t)
		unknown(t, s)
		r, err := s.pay.Void(t.Context(), "o")
		require.NoError(t, err)
		assert.Equal(t, payment.Canceled, r.Status)
		assert.Empty(t, s.charges("o"))
	})
	t.Run("or stays unknown where the provider can't", func(t *testing.T) {
		s := setup(t)
		s.first.NoFence = true
		unknown(t, s)
		r, err := s.pay.Void(t.Context(), "o")
		require.ErrorIs(t, err, fault.Uncertain)
		assert.Equal(t, payment.Unknown, r.Status)
		assert.Empty(t, s.charges("o"))
	})
	t.Run("what the customer has approved is let go", func(t *testing.T) {
		s := setup(t)
		s.first.Approves, s.first.NoFence = true, true
		r, err := s.pay.Charge(t.Context(), order("o", ""))
		require.NoError(t, err)
		s.first.Confirm(r.PaymentID)
		r, err = s.pay.Void(t.Context(), "o")
		require.NoError(t, err)
		assert.Equal(t, payment.Canceled, r.Status)
		_, err = s.pay.Resume(t.Context(), "o")
		require.NoError(t, err)
		assert.Empty(t, s.charges("o"))
	})
	t.Run("nor does the customer, in a form that is still open", func(t *testing.T) {
		s := setup(t)
		r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Strict))
		require.NoError(t, err)
		s.first.GiveUp(r.PaymentID)
		_, err = s.pay.Resume(t.Context(), "o")
		require.NoError(t, err)
		_, err = s.pay.Void(t.Context(), "o")
		require.NoError(t, err)
		s.first.Confirm(r.PaymentID)
		assert.Empty(t, s.charges("o"))
	})
	t.Run("nor a second tab, unless it asks for another try", func(t *testing.T) {
		s := setup(t)
		s.first.Fail(paymenttest.Prepare, fault.New(fault.Invalid, errors.New("400")))
		_, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.ErrorIs(t, err, fault.Invalid)
		_, err = s.pay.Void(t.Context(), "o")
		require.NoError(t, err)
		for _, method := range []string{paymenttest.Good, paymenttest.Slow} {
			r, err := s.pay.Charge(t.Context(), order("o", method))
			require.NoError(t, err)
			assert.Equal(t, payment.Canceled, r.Status)
		}
		o := order("o", paymenttest.Good)
		o.Try = 1
		r, err := s.pay.Charge(t.Context(), o)
		require.NoError(t, err)
		assert.Equal(t, payment.Succeeded, r.Status)
	})
}

func TestAnotherCardDoesNotCommitTheFormerAttempt(t *testing.T) {
	s := setup(t)
	unknown(t, s)
	o := order("o", paymenttest.Slow)
	r, err := s.pay.Charge(t.Context(), o)
	require.NoError(t, err)
	assert.Equal(t, payment.Pending, r.Status)
	assert.Empty(t, s.charges("o"))
}

func TestAFormThatIsLeftOpenAfterADeclineExpiresToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Strict))
		require.NoError(t, err)
		s.first.GiveUp(r.PaymentID)
		_, err = s.pay.Resume(t.Context(), "o")
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 26*time.Hour)
		defer cancel()
		require.NoError(t, s.pay.Reconcile(ctx, time.Minute))
		s.first.Confirm(r.PaymentID)
		assert.Empty(t, s.charges("o"))
		r, err = s.pay.Recorded(t.Context(), "o")
		require.NoError(t, err)
		assert.Equal(t, payment.Declined, r.Status)
	})
}

func TestACustomerWhoPaysAfterADeclineIsSeenWithoutAWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Strict))
		require.NoError(t, err)
		s.first.GiveUp(r.PaymentID)
		_, err = s.pay.Resume(t.Context(), "o")
		require.NoError(t, err)
		s.first.Confirm(r.PaymentID)
		time.Sleep(time.Hour)
		_, err = s.pay.ReconcileOnce(t.Context())
		require.NoError(t, err)
		r, err = s.pay.Recorded(t.Context(), "o")
		require.NoError(t, err)
		assert.Equal(t, payment.Succeeded, r.Status)
	})
}

func TestARefundInDoubtKeepsItsAmountWhateverIsRefusedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		paid(t, s)
		s.first.Fail(paymenttest.Refund, uncertain())
		s.first.Fail(paymenttest.LookUp, uncertain())
		_, err := s.pay.Refund(t.Context(), "o", "r1", usd(1999))
		require.ErrorIs(t, err, fault.Uncertain)
		s.first.Fail(paymenttest.Refund, refusal())
		f, err := s.pay.Refund(t.Context(), "o", "r1", usd(1999))
		require.ErrorIs(t, err, fault.Uncertain)
		assert.Equal(t, payment.RefundUnknown, f.State)
		_, err = s.pay.Refund(t.Context(), "o", "r2", usd(1999))
		require.ErrorIs(t, err, fault.Conflict)

		s.first.Fail(paymenttest.Refund, fault.New(fault.Rejected, errors.New("no")))
		time.Sleep(2 * time.Hour) // and then nothing is on its way any more
		_, err = s.pay.ReconcileOnce(t.Context())
		require.NoError(t, err)
		f, err = s.pay.Refund(t.Context(), "o", "r1", usd(1999))
		require.NoError(t, err)
		assert.Equal(t, payment.RefundFailed, f.State)
		assert.Contains(t, s.types(), payment.RefundChanged)
		_, err = s.pay.Refund(t.Context(), "o", "r2", usd(1999))
		require.NoError(t, err)
	})
}

func TestARefundThatIsMadeIsRecordedThoughAnotherCallForItIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		r := paid(t, s)
		release := s.first.Hang(paymenttest.Refund)
		done := make(chan *payment.Refund, 1)
		go func() {
			f, err := s.pay.Refund(t.Context(), "o", "r1", usd(1999))
			assert.NoError(t, err)
			done <- f
		}()
		synctest.Wait()
		s.first.Fail(paymenttest.Refund, fault.New(fault.RateLimited, errors.New("slow down")))
		_, err := s.pay.Refund(t.Context(), "o", "r1", usd(1999))
		require.ErrorIs(t, err, fault.Uncertain)
		release()
		assert.Equal(t, payment.RefundSucceeded, (<-done).State)
		assert.Equal(t, usd(1999), s.first.Refunded(r.PaymentID))
	})
}

func TestACallerWhoLeavesARefundIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		r := paid(t, s)
		release := s.first.Hang(paymenttest.Refund)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		f, err := s.pay.Refund(ctx, "o", "r1", usd(500))
		require.ErrorIs(t, err, fault.Uncertain)
		assert.Equal(t, payment.RefundUnknown, f.State)
		release()
		require.NoError(t, s.pay.Close(t.Context()))
		assert.Equal(t, usd(500), s.first.Refunded(r.PaymentID))
	})
}

func TestARefundThatFailsAfterItSucceededGivesItsAmountBack(t *testing.T) {
	for _, id := range []string{"r1", "pending-1"} {
		s := setup(t)
		r := paid(t, s)
		f, err := s.pay.Refund(t.Context(), "o", id, usd(1999))
		require.NoError(t, err)
		_, err = s.pay.Resume(t.Context(), "o") // which sees it in the provider's sum
		require.NoError(t, err)
		s.first.EndRefund(r.PaymentID, id, payment.RefundFailed)
		hint := payment.Hint{ID: "evt", Created: time.Now(), PaymentID: r.PaymentID, RefundID: f.ProviderID, Subject: payment.AboutRefund}
		require.Equal(t, 200, s.hook(t, s.pay, paymenttest.SignedWebhook("/", hint), "first"))
		recorded, err := s.pay.Recorded(t.Context(), "o")
		require.NoError(t, err)
		assert.Equal(t, payment.RefundFailed, recorded.Refunds[0].State)
		assert.Equal(t, usd(0), recorded.Refunded)
		_, err = s.pay.Refund(t.Context(), "o", "r2", usd(1999))
		require.NoError(t, err)
	}
}

func TestACaptureInDoubtIsNotTakenForHeldAgain(t *testing.T) {
	s := setup(t)
	o := order("o", paymenttest.Good)
	o.Hold = true
	_, err := s.pay.Charge(t.Context(), o)
	require.NoError(t, err)
	s.first.Fail(paymenttest.Capture, uncertain())
	r, err := s.pay.Capture(t.Context(), "o", payment.Money{})
	require.ErrorIs(t, err, fault.Uncertain)
	assert.Equal(t, payment.Unknown, r.Status)
	s.first.Fail(paymenttest.Capture, refusal())
	r, err = s.pay.Resume(t.Context(), "o")
	require.ErrorIs(t, err, fault.Uncertain)
	assert.Equal(t, payment.Unknown, r.Status)
	r, err = s.pay.Resume(t.Context(), "o")
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
}

func TestACommitInDoubtIsUnknownThoughTheJournalIsDownForTheNextNote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		s.first.NoFence = true
		s.first.Fail(paymenttest.Commit, uncertain())
		j := &trouble{MemoryJournal: s.journal, fails: func(n int) how {
			if n >= 5 {
				return down
			}
			return works
		}}
		pay := s.again(t, payment.WithJournal(j))
		r, err := pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.ErrorIs(t, err, fault.Uncertain)
		assert.Equal(t, payment.Unknown, r.Status)
	})
}

// slow is a Journal in which a write takes a second, and the caller goes
// meanwhile.
type slow struct {
	*payment.MemoryJournal
	gone func()
}

func (j slow) Update(ctx context.Context, k payment.Key, change func(context.Context, *payment.Entry) error) (*payment.Entry, error) {
	return j.MemoryJournal.Update(ctx, k, func(ctx context.Context, e *payment.Entry) error {
		err := change(ctx, e)
		if n := len(e.Attempts); n > 0 && e.Attempts[n-1].State == payment.AttemptCommitting {
			j.gone()
			time.Sleep(time.Second)
		}
		return err
	})
}

func TestACallerWhoGoesWhileTheCommitIsNotedIsToldThatMoneyMayMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		ctx, cancel := context.WithCancel(t.Context())
		pay := s.again(t, payment.WithJournal(slow{s.journal, cancel}))
		r, err := pay.Charge(ctx, order("o", paymenttest.Good))
		require.ErrorIs(t, err, fault.Uncertain)
		assert.Equal(t, payment.Unknown, r.Status)
		require.NoError(t, pay.Close(t.Context()))
		assert.Len(t, s.charges("o"), 1)
	})
}

func TestADeclineBeforeThereIsAPaymentIsADeclineInLiveModeToo(t *testing.T) {
	pay, err := payment.New(tokenless{&paymenttest.Bank{Live: true}})
	require.NoError(t, err)
	o := order("o", "")
	o.Methods = map[string]payment.Method{"bank": {ID: "tok_used"}}
	r, err := pay.Charge(t.Context(), o)
	require.NoError(t, err)
	assert.Equal(t, payment.Declined, r.Status)
}

// tokenless refuses a one-time token that is used up.
type tokenless struct{ *paymenttest.Bank }

func (b tokenless) Prepare(context.Context, *payment.Attempt) (*payment.Payment, error) {
	return &payment.Payment{State: payment.Refused, Decline: payment.NewDecline(payment.MethodInvalid, "token_already_used"), Live: true}, nil
}

func TestAnActionThatCannotBeLookedUpIsAnErrorWithTheResult(t *testing.T) {
	s := setup(t)
	_, err := s.pay.Charge(t.Context(), order("o", paymenttest.Strict))
	require.NoError(t, err)
	s.first.Fail(paymenttest.LookUp, refusal())
	r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Strict))
	require.ErrorIs(t, err, fault.Unavailable)
	assert.Equal(t, payment.NeedsAction, r.Status)
}

func TestAFailoverIsNoCanceledOrder(t *testing.T) {
	s := setup(t)
	s.first.Fail(paymenttest.Prepare, refusal())
	_, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
	require.NoError(t, err)
	require.Len(t, s.events, 1)
	assert.Equal(t, payment.Succeeded, s.events[0].Result.Status)

	_, err = s.pay.Charge(t.Context(), order("p", paymenttest.Strict))
	require.NoError(t, err)
	_, err = s.pay.Charge(t.Context(), order("p", paymenttest.Good))
	require.NoError(t, err)
	for _, e := range s.events {
		assert.NotEqual(t, payment.Canceled, e.Result.Status)
	}
}

func TestWhatWasNotDoneIsOfOneKind(t *testing.T) {
	s := setup(t)
	s.first.Fail(paymenttest.Prepare, uncertain())
	s.second.Fail(paymenttest.Prepare, uncertain())
	_, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
	require.ErrorIs(t, err, fault.Unavailable)
	assert.NotErrorIs(t, err, fault.Uncertain)
	assert.False(t, fault.MayHaveActed(err))
	assert.ErrorContains(t, err, "first")
	assert.ErrorContains(t, err, "second")
}

func TestWhatCannotBeDoneIsNotTriedInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		_, err := s.pay.Charge(t.Context(), order("o", paymenttest.Strict))
		require.NoError(t, err)
		time.Sleep(25 * time.Hour)
		looks := s.first.Calls(paymenttest.LookUp)
		for range 100 {
			s.first.Fail(paymenttest.LookUp, refusal())
		}
		_, err = s.pay.ReconcileOnce(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, s.first.Calls(paymenttest.LookUp)-looks)
	})
}

func TestAHandlerThatFailsForEverIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var unsettled atomic.Int64
		bank := &paymenttest.Bank{}
		pay, err := payment.New(bank, payment.WithHandler(func(_ context.Context, e payment.Event) error {
			if e.Type == payment.Unsettled {
				unsettled.Add(1)
			}
			return errors.New("no")
		}))
		require.NoError(t, err)
		o := order("o", "")
		o.Methods = map[string]payment.Method{"bank": {ID: paymenttest.Good}}
		r, err := pay.Charge(t.Context(), o)
		require.NoError(t, err)
		assert.Equal(t, payment.Succeeded, r.Status)
		for range 5 {
			time.Sleep(time.Hour)
			_, err = pay.ReconcileOnce(t.Context())
			require.NoError(t, err)
		}
		assert.NotZero(t, unsettled.Load())
		assert.Len(t, bank.Charges("o"), 1)
	})
}

func TestAJournalThatIsDownIsToldByReconcile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		pay := s.again(t, payment.WithJournal(deaf{s.journal}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, pay.Reconcile(ctx, 10*time.Second))
		require.NotEmpty(t, s.events)
		assert.Equal(t, payment.JournalDown, s.events[0].Type)
		assert.Error(t, s.events[0].Err)
	})
}

type deaf struct{ *payment.MemoryJournal }

func (deaf) Due(context.Context, time.Time, int) ([]payment.Key, error) { return nil, refusal() }

func TestAnEventOfAnotherAccountIsForeign(t *testing.T) {
	s := setup(t)
	r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
	require.NoError(t, err)
	h := payment.Hint{ID: "evt", Created: time.Now(), PaymentID: r.PaymentID, Account: "acct_other", Subject: payment.AboutPayment}
	assert.Equal(t, 200, s.hook(t, s.pay, paymenttest.SignedWebhook("/", h), "first"))
	assert.Equal(t, payment.Foreign, s.events[len(s.events)-1].Type)
}

func TestAnOrderThatHasExpiredIsNotBegun(t *testing.T) {
	s := setup(t)
	o := order("o", paymenttest.Good)
	o.Expires = time.Now().Add(-time.Second)
	_, err := s.pay.Charge(t.Context(), o)
	require.ErrorIs(t, err, fault.Invalid)
	assert.ErrorContains(t, err, "payment: expires: ")
	assert.Zero(t, s.first.Calls(paymenttest.Prepare))
}

// TestMoneyThatAFencedAttemptHoldsIsLetGo: somebody at the provider confirmed it.
func TestMoneyThatAFencedAttemptHoldsIsLetGo(t *testing.T) {
	s := setup(t)
	o := order("o", paymenttest.Good)
	o.Hold = true
	s.first.Lose(paymenttest.Prepare)
	_, err := s.pay.Charge(t.Context(), o)
	require.NoError(t, err)
	_, err = s.first.Commit(t.Context(), &payment.Attempt{Order: o, Number: 1, Provider: "first", PaymentID: "first_pay_1"})
	require.NoError(t, err)
	require.Equal(t, 200, s.hook(t, s.pay, s.first.Webhook("/", "evt", "first_pay_1"), "first"))
	assert.Equal(t, 1, s.first.Calls(paymenttest.Void))
	assert.Zero(t, s.second.Calls(paymenttest.Void))
	r, err := s.pay.Resume(t.Context(), "o")
	require.NoError(t, err)
	assert.Equal(t, payment.Authorized, r.Status)
}
