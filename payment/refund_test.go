package payment_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
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

func paid(t *testing.T, s *two) *payment.Result {
	t.Helper()
	o := order("o", paymenttest.Good)
	o.Fee = payment.Fee{BasisPoints: 250}
	r, err := s.pay.Charge(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, payment.Succeeded, r.Status)
	return r
}

func TestARefundIsMadeOnceUnderItsID(t *testing.T) {
	for name, spoil := range map[string]func(b *paymenttest.Bank){
		"at once":            func(*paymenttest.Bank) {},
		"its answer is lost": func(b *paymenttest.Bank) { b.Lose(paymenttest.Refund) },
		"it is ambiguous":    func(b *paymenttest.Bank) { b.Fail(paymenttest.Refund, uncertain()) },
	} {
		t.Run(name, func(t *testing.T) {
			s := setup(t)
			r := paid(t, s)
			spoil(s.first)
			f, err := s.pay.Refund(t.Context(), "o", "r1", usd(500))
			if err != nil {
				require.ErrorIs(t, err, fault.Uncertain)
				assert.Equal(t, payment.RefundUnknown, f.State)
			}
			for range 2 {
				f, err = s.pay.Refund(t.Context(), "o", "r1", usd(500))
				require.NoError(t, err)
				assert.Equal(t, payment.RefundSucceeded, f.State)
				assert.True(t, f.Recorded)
			}
			assert.Equal(t, usd(500), s.first.Refunded(r.PaymentID))
			_, err = s.pay.Refund(t.Context(), "o", "r1", usd(600))
			require.ErrorIs(t, err, fault.Conflict)
		})
	}
}

func TestRefundsNeverExceedWhatWasTaken(t *testing.T) {
	s := setup(t)
	r := paid(t, s)
	other := s.again(t)
	var calls sync.WaitGroup
	var given atomic.Int64
	for i := range 20 {
		calls.Go(func() {
			f, err := []*payment.Client{s.pay, other}[i%2].Refund(t.Context(), "o", fmt.Sprintf("r%d", i), usd(300))
			if err != nil {
				assert.ErrorIs(t, err, fault.Conflict)
				return
			}
			given.Add(f.Amount.Minor)
		})
	}
	calls.Wait()
	assert.EqualValues(t, 1800, given.Load())
	assert.Equal(t, usd(1800), s.first.Refunded(r.PaymentID))
	f, err := s.pay.Refund(t.Context(), "o", "rest", payment.Money{})
	require.NoError(t, err)
	assert.Equal(t, usd(199), f.Amount)
	_, err = s.pay.Refund(t.Context(), "o", "more", payment.Money{})
	require.ErrorIs(t, err, fault.Conflict)
}

func TestARefundOfUnknownOutcomeKeepsItsAmountAndAFailedOneGivesItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		r := paid(t, s)
		f, err := s.pay.Refund(t.Context(), "o", "pending-1", usd(1500))
		require.NoError(t, err)
		assert.Equal(t, payment.RefundPending, f.State)
		_, err = s.pay.Refund(t.Context(), "o", "r2", usd(1000))
		require.ErrorIs(t, err, fault.Conflict)

		s.first.EndRefund(r.PaymentID, "pending-1", payment.RefundFailed)
		time.Sleep(time.Hour)
		_, err = s.pay.ReconcileOnce(t.Context())
		require.NoError(t, err)
		assert.Contains(t, s.types(), payment.RefundChanged)
		f, err = s.pay.Refund(t.Context(), "o", "r2", usd(1000))
		require.NoError(t, err)
		assert.Equal(t, payment.RefundSucceeded, f.State)
	})
}

func TestWhatARefundCannotBe(t *testing.T) {
	s := setup(t)
	_, err := s.pay.Refund(t.Context(), "o", "r1", usd(1))
	require.ErrorIs(t, err, fault.NotFound)
	paid(t, s)
	for field, call := range map[string]func() error{
		"refund_id": func() error { _, err := s.pay.Refund(t.Context(), "o", "", usd(1)); return err },
		"amount":    func() error { _, err := s.pay.Refund(t.Context(), "o", "r", usd(-1)); return err },
		"amount.currency": func() error {
			_, err := s.pay.Refund(t.Context(), "o", "r", payment.Money{Minor: 1, Currency: "EUR"})
			return err
		},
	} {
		err := call()
		require.ErrorIs(t, err, fault.Invalid)
		var wrong *payment.FieldError
		require.ErrorAs(t, err, &wrong)
		assert.Equal(t, field, wrong.Field)
	}
	s.first.Fail(paymenttest.Refund, fault.New(fault.Rejected, errors.New("no")))
	_, err = s.pay.Refund(t.Context(), "o", "r", usd(1999))
	require.ErrorIs(t, err, fault.Rejected)
	_, err = s.pay.Refund(t.Context(), "o", "r", usd(1999)) // its amount was free again
	require.NoError(t, err)
}

func TestTheFeeOfRefundsIsThatOfTheirSum(t *testing.T) {
	s := setup(t)
	r := paid(t, s)
	assert.Equal(t, usd(50), r.Fee)
	assert.Equal(t, usd(1949), r.Net)
	var back int64
	for i := range 19 {
		f, err := s.pay.Refund(t.Context(), "o", fmt.Sprint(i), usd(100))
		require.NoError(t, err)
		back += f.FeeReturned.Minor
	}
	f, err := s.pay.Refund(t.Context(), "o", "rest", usd(99))
	require.NoError(t, err)
	assert.EqualValues(t, 50, back+f.FeeReturned.Minor)
}

func TestFeesOfRandomRefundsAddUp(t *testing.T) {
	for range 20_000 {
		fee := payment.Fee{BasisPoints: rand.Int64N(10_001), Rounding: payment.Rounding(rand.N(4))}
		gross := usd(rand.Int64N(100_000))
		of, net, err := fee.Of(gross)
		require.NoError(t, err)
		require.Equal(t, gross.Minor, of.Minor+net.Minor)
		require.True(t, of.Minor >= 0 && of.Minor <= gross.Minor)
		refunded, returned := usd(0), usd(0)
		for refunded.Minor < gross.Minor {
			refunded.Minor += 1 + rand.Int64N(gross.Minor-refunded.Minor)
			back, err := fee.Returned(refunded, returned)
			require.NoError(t, err)
			returned.Minor += back.Minor
		}
		require.Equal(t, of, returned)
	}
}
