package payment_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymenttest"
)

// uncertain is what a provider answers that has perhaps acted.
func uncertain() error {
	return &fault.Error{Kind: fault.Uncertain, Deduped: true, Err: errors.New("status 500")}
}

// TestACommitWhoseEndNobodyKnowsIsNeverPaidElsewhere: the primary can't be asked
// and can't be fenced.
func TestACommitWhoseEndNobodyKnowsIsNeverPaidElsewhere(t *testing.T) {
	for _, acted := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := setup(t)
			if acted {
				s.first.Lose(paymenttest.Commit)
			} else {
				s.first.Fail(paymenttest.Commit, uncertain())
			}
			s.first.Fail(paymenttest.LookUp, uncertain())
			r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
			require.ErrorIs(t, err, fault.Uncertain)
			assert.Equal(t, payment.Unknown, r.Status)
			assert.Zero(t, s.second.Calls(paymenttest.Prepare))

			r, err = s.pay.Charge(t.Context(), order("o", paymenttest.Good)) // it goes on
			require.NoError(t, err)
			assert.Equal(t, payment.Succeeded, r.Status)
			assert.Len(t, s.first.Charges("o"), 1)
			assert.Empty(t, s.second.Charges("o"))
		})
	}
}

func TestWhatIsUnknownSettlesByItself(t *testing.T) {
	for name, row := range map[string]struct {
		acted   bool
		noFence bool
		after   time.Duration
		want    payment.Status
	}{
		"it was paid":                                    {true, false, 30 * time.Second, payment.Succeeded},
		"it was not, and is committed again":             {false, false, 30 * time.Second, payment.Succeeded},
		"it was not, and is fenced since nobody waits":   {false, false, 30 * time.Hour, payment.Canceled},
		"it was not, and can't be fenced":                {false, true, 30 * time.Hour, payment.Succeeded},
		"it was paid, and is only asked for a day later": {true, true, 30 * time.Hour, payment.Succeeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := setup(t)
				s.first.NoFence = row.noFence
				if row.acted {
					s.first.Lose(paymenttest.Commit)
				} else {
					s.first.Fail(paymenttest.Commit, uncertain())
				}
				s.first.Fail(paymenttest.LookUp, uncertain())
				_, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
				require.ErrorIs(t, err, fault.Uncertain)
				time.Sleep(row.after)
				n, err := s.pay.ReconcileOnce(t.Context())
				require.NoError(t, err)
				assert.Equal(t, 1, n)
				r, err := s.pay.Resume(t.Context(), "o")
				require.NoError(t, err)
				assert.Equal(t, row.want, r.Status)
				assert.Equal(t, row.want == payment.Succeeded, len(s.charges("o")) == 1)
				n, err = s.pay.ReconcileOnce(t.Context())
				require.NoError(t, err)
				assert.Zero(t, n, "it is at its end")
			})
		})
	}
}

func TestWhatStaysUnknownIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		s.first.Lose(paymenttest.Commit)
		for range 40 {
			s.first.Fail(paymenttest.LookUp, uncertain())
		}
		_, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.ErrorIs(t, err, fault.Uncertain)
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		require.NoError(t, s.pay.Reconcile(ctx, time.Minute))
		looks := s.first.Calls(paymenttest.LookUp)
		assert.Greater(t, looks, 20)
		assert.Less(t, looks, 40, "ever more seldom")
		assert.Contains(t, s.types(), payment.Unsettled)
		assert.NotContains(t, s.types(), payment.OrderChanged)
	})
}

// TestAProcessThatWakesUpCannotCommitWhatWasFenced: it slept before the commit,
// another one took the order over and another provider was paid.
func TestAProcessThatWakesUpCannotCommitWhatWasFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		release := s.first.Hang(paymenttest.Prepare)
		p := payment.Policy
		p.Timeout = 30 * time.Second
		sleeper, err := payment.New(s.first, payment.WithPolicy(p), payment.WithJournal(s.journal))
		require.NoError(t, err)
		done := make(chan *payment.Result, 1)
		go func() {
			r, err := sleeper.Charge(t.Context(), order("o", paymenttest.Good))
			assert.NoError(t, err)
			done <- r
		}()
		synctest.Wait()
		time.Sleep(25 * time.Second) // less than a prepare may take, and then its lease is taken over
		s.expire(t)
		s.first.Fail(paymenttest.Prepare, fault.New(fault.Unavailable, nil))
		r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.NoError(t, err)
		assert.Equal(t, "second", r.Provider)
		release()
		assert.Equal(t, "second", (<-done).Provider, "it is told what the other one did")
		assert.Empty(t, s.first.Charges("o"))
		assert.Len(t, s.charges("o"), 1)
		require.NoError(t, sleeper.Close(t.Context()))
	})
}

// expire ends the lease on the order "o", as time would.
func (s *two) expire(t *testing.T) {
	t.Helper()
	_, err := s.journal.Update(t.Context(), payment.Key{Order: "o"}, func(_ context.Context, e *payment.Entry) error {
		e.Lease.Until = time.Time{}
		return nil
	})
	require.NoError(t, err)
}

func TestASecondChargeOfAnOrderIsToldAndGivenBack(t *testing.T) {
	for _, keep := range []bool{false, true} {
		s := setup(t, payment.WithRules(payment.Rules{KeepDuplicates: keep}))
		s.first.Lose(paymenttest.Prepare) // an intent of which nobody knows the id
		r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.NoError(t, err)
		require.Equal(t, "second", r.Provider)
		// Somebody pays it all the same, which only a person at the provider can.
		_, err = s.first.Commit(t.Context(), &payment.Attempt{Order: order("o", paymenttest.Good), Number: 1, Provider: "first", PaymentID: "first_pay_1"})
		require.NoError(t, err)
		require.Len(t, s.charges("o"), 2)

		res := s.hook(t, s.pay, s.first.Webhook("/hooks/first", "evt_1", "first_pay_1"), "first")
		assert.Equal(t, 200, res)
		assert.Contains(t, s.types(), payment.DuplicateCharge)
		back := usd(1999)
		if keep {
			back = usd(0)
		}
		assert.Equal(t, back, s.first.Refunded("first_pay_1"))
		assert.Equal(t, usd(0), s.second.Refunded("second_pay_1"))
		r, err = s.pay.Resume(t.Context(), "o")
		require.NoError(t, err)
		assert.Equal(t, "second", r.Provider, "the first that was paid stands")
	}
}

func TestAPaymentThatIsNotTheOneAskedForIsNoSuccess(t *testing.T) {
	s := setup(t)
	bad := changed{s.first}
	pay, err := payment.New(bad, payment.WithJournal(s.journal), payment.WithHandler(s.handle))
	require.NoError(t, err)
	r, err := pay.Charge(t.Context(), order("o", paymenttest.Good))
	require.Error(t, err)
	assert.True(t, r == nil || r.Status != payment.Succeeded)
	assert.Contains(t, s.types(), payment.Mismatch)
}

// changed answers with another amount.
type changed struct{ *paymenttest.Bank }

func (c changed) Prepare(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	p, err := c.Bank.Prepare(ctx, a)
	if err == nil {
		p.Amount.Minor++
	}
	return p, err
}

func TestHoldsAreCapturedAndVoided(t *testing.T) {
	hold := func(id string) *payment.Order {
		o := order(id, paymenttest.Good)
		o.Hold = true
		return o
	}
	for name, row := range map[string]struct {
		lose bool
		do   func(ctx context.Context, pay *payment.Client) (*payment.Result, error)
		want payment.Status
		got  payment.Money
	}{
		"all": {false, func(ctx context.Context, p *payment.Client) (*payment.Result, error) {
			return p.Capture(ctx, "o", payment.Money{})
		}, payment.Succeeded, usd(1999)},
		"some": {false, func(ctx context.Context, p *payment.Client) (*payment.Result, error) {
			return p.Capture(ctx, "o", usd(500))
		}, payment.Succeeded, usd(500)},
		"void": {false, func(ctx context.Context, p *payment.Client) (*payment.Result, error) { return p.Void(ctx, "o") }, payment.Canceled, usd(0)},
		"some, answer is lost": {true, func(ctx context.Context, p *payment.Client) (*payment.Result, error) {
			return p.Capture(ctx, "o", usd(500))
		}, payment.Succeeded, usd(500)},
		"void, answer is lost": {true, func(ctx context.Context, p *payment.Client) (*payment.Result, error) { return p.Void(ctx, "o") }, payment.Canceled, usd(0)},
	} {
		t.Run(name, func(t *testing.T) {
			s := setup(t)
			r, err := s.pay.Charge(t.Context(), hold("o"))
			require.NoError(t, err)
			assert.Equal(t, payment.Authorized, r.Status)
			assert.False(t, r.HeldUntil.IsZero())
			assert.Empty(t, s.charges("o"))
			if row.lose {
				s.first.Lose(paymenttest.Capture)
				s.first.Lose(paymenttest.Void)
			}
			for range 2 { // twice is once
				r, err = row.do(t.Context(), s.pay)
				require.NoError(t, err)
				assert.Equal(t, row.want, r.Status)
				assert.Equal(t, row.got, r.Captured)
			}
			assert.LessOrEqual(t, len(s.charges("o")), 1)
		})
	}
	t.Run("what can't be", func(t *testing.T) {
		s := setup(t)
		_, err := s.pay.Charge(t.Context(), hold("o"))
		require.NoError(t, err)
		_, err = s.pay.Capture(t.Context(), "o", usd(2000))
		require.ErrorIs(t, err, fault.Invalid)
		_, err = s.pay.Capture(t.Context(), "o", usd(500))
		require.NoError(t, err)
		_, err = s.pay.Capture(t.Context(), "o", usd(600))
		require.ErrorIs(t, err, fault.Conflict)
		_, err = s.pay.Void(t.Context(), "o")
		require.ErrorIs(t, err, fault.Conflict)
		_, err = s.pay.Capture(t.Context(), "p", usd(1))
		require.ErrorIs(t, err, fault.NotFound)
	})
}

func TestAHoldThatEndsSoonIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		o := order("o", paymenttest.Good)
		o.Hold = true
		r, err := s.pay.Charge(t.Context(), o)
		require.NoError(t, err)
		ctx, cancel := context.WithDeadline(t.Context(), r.HeldUntil)
		defer cancel()
		require.NoError(t, s.pay.Reconcile(ctx, time.Minute))
		assert.Contains(t, s.types(), payment.HoldEnding)
		assert.NotContains(t, s.types(), payment.Unsettled)
	})
}

func TestTheTwoStepsOfACharge(t *testing.T) {
	s := setup(t)
	r, err := s.pay.Start(t.Context(), order("o", paymenttest.Good))
	require.NoError(t, err)
	assert.Equal(t, payment.Ready, r.Status)
	assert.Empty(t, s.charges("o"))
	for range 2 {
		r, err = s.pay.Finish(t.Context(), "o")
		require.NoError(t, err)
		assert.Equal(t, payment.Succeeded, r.Status)
	}
	assert.Len(t, s.charges("o"), 1)
	_, err = s.pay.Finish(t.Context(), "p")
	require.ErrorIs(t, err, fault.NotFound)
}

func TestAnActionThatNobodyTakesExpires(t *testing.T) {
	for _, approves := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := setup(t)
			s.first.Approves, s.first.NoFence = approves, approves
			r, err := s.pay.Charge(t.Context(), order("o", ""))
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 25*time.Hour)
			defer cancel()
			require.NoError(t, s.pay.Reconcile(ctx, time.Minute))
			s.first.Confirm(r.PaymentID) // too late
			r, err = s.pay.Resume(t.Context(), "o")
			require.NoError(t, err)
			assert.Equal(t, payment.Canceled, r.Status)
			assert.Empty(t, s.charges("o"))
		})
	}
}

func TestWhatTheCustomerApprovedIsCommittedWhenTheProviderIsBack(t *testing.T) {
	s := setup(t)
	s.first.Approves = true
	r, err := s.pay.Charge(t.Context(), order("o", ""))
	require.NoError(t, err)
	s.first.Confirm(r.PaymentID)
	s.first.Fail(paymenttest.Commit, fault.New(fault.Unavailable, nil))
	r, err = s.pay.Resume(t.Context(), "o")
	require.ErrorIs(t, err, fault.Unavailable)
	assert.Equal(t, payment.NeedsAction, r.Status)
	r, err = s.pay.Resume(t.Context(), "o")
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
	assert.Len(t, s.charges("o"), 1)
}

func TestStartMovesNothingThoughTheCustomerHasApproved(t *testing.T) {
	s := setup(t)
	s.first.Approves = true
	r, err := s.pay.Start(t.Context(), order("o", ""))
	require.NoError(t, err)
	s.first.Confirm(r.PaymentID)
	r, err = s.pay.Start(t.Context(), order("o", ""))
	require.NoError(t, err)
	assert.Equal(t, payment.Ready, r.Status)
	assert.Empty(t, s.charges("o"))
	r, err = s.pay.Finish(t.Context(), "o")
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
}

func TestFinishSaysThatNothingWasDoneAndIsDoneAgain(t *testing.T) {
	s := setup(t)
	_, err := s.pay.Start(t.Context(), order("o", paymenttest.Good))
	require.NoError(t, err)
	s.first.Fail(paymenttest.Commit, fault.New(fault.Unavailable, nil))
	_, err = s.pay.Finish(t.Context(), "o")
	require.ErrorIs(t, err, fault.Unavailable)
	r, err := s.pay.Finish(t.Context(), "o")
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
	assert.Equal(t, 1, r.Attempt)
	assert.Len(t, s.charges("o"), 1)
}

func TestWhenNobodyCanChargeTheErrorNamesAllAndTheNextCallGoesOn(t *testing.T) {
	s := setup(t)
	s.first.Fail(paymenttest.Prepare, fault.New(fault.Unavailable, nil))
	s.second.Fail(paymenttest.Commit, fault.New(fault.Unavailable, nil))
	r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
	assert.Nil(t, r)
	require.ErrorIs(t, err, fault.Unavailable)
	assert.ErrorContains(t, err, "first")
	assert.ErrorContains(t, err, "second")
	r, err = s.pay.Charge(t.Context(), order("o", paymenttest.Good))
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
	assert.Len(t, s.charges("o"), 1)
}

func TestWhatWasStartedWaitsForFinishUntilItExpires(t *testing.T) {
	for _, approves := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := setup(t)
			s.first.Approves = approves
			method := paymenttest.Good
			if approves {
				method = ""
			}
			r, err := s.pay.Start(t.Context(), order("o", method))
			require.NoError(t, err)
			s.first.Confirm(r.PaymentID)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Hour)
			defer cancel()
			require.NoError(t, s.pay.Reconcile(ctx, time.Minute))
			assert.Empty(t, s.charges("o"))
			r, err = s.pay.Finish(t.Context(), "o")
			require.NoError(t, err)
			assert.Equal(t, payment.Succeeded, r.Status)

			_, err = s.pay.Start(t.Context(), order("p", method))
			require.NoError(t, err)
			ctx, cancel = context.WithTimeout(t.Context(), 26*time.Hour)
			defer cancel()
			require.NoError(t, s.pay.Reconcile(ctx, time.Minute))
			r, err = s.pay.Finish(t.Context(), "p")
			require.NoError(t, err)
			assert.Equal(t, payment.Canceled, r.Status)
		})
	}
}

func TestCommitsThatHangOpenTheBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t, payment.WithRules(payment.Rules{CommitWithin: 2 * time.Second}))
		for i := range 10 {
			release := s.first.Hang(paymenttest.Commit)
			s.first.Fail(paymenttest.LookUp, uncertain())
			r, err := s.pay.Charge(t.Context(), order(string(rune('a'+i)), paymenttest.Good))
			release()
			if err == nil {
				assert.Equal(t, "second", r.Provider)
				return
			}
			require.ErrorIs(t, err, fault.Uncertain)
		}
		t.Error("the breaker never opened")
	})
}

func TestAnInvoiceThatWasPaidByAnEarlierAttemptIsThatAttempts(t *testing.T) {
	s := setup(t)
	s.first.NoFence = true
	one, err := s.pay.Start(t.Context(), order("o", paymenttest.Good))
	require.NoError(t, err)
	two, err := s.pay.Start(t.Context(), order("o", paymenttest.Slow)) // another card: the former is fenced by note
	require.NoError(t, err)
	require.Equal(t, 2, two.Attempt)
	_, err = s.first.Commit(t.Context(), &payment.Attempt{Order: order("o", paymenttest.Good), Number: 1, Provider: "first", PaymentID: one.PaymentID})
	require.NoError(t, err)
	s.first.Fail(paymenttest.Commit, fault.New(fault.Conflict, errors.New("DUPLICATE_INVOICE_ID")))
	r, err := s.pay.Finish(t.Context(), "o")
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
	assert.Equal(t, 1, r.Attempt)
	assert.Len(t, s.charges("o"), 1)
}

// TestWhoDiesInAFenceLeavesTheOrderToBePaid: the fence was made, and nobody noted
// it.
func TestWhoDiesInAFenceLeavesTheOrderToBePaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		s.first.Fail(paymenttest.Commit, uncertain())
		s.first.Lose(paymenttest.Fence)
		r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.ErrorIs(t, err, fault.Uncertain)
		require.Equal(t, payment.Unknown, r.Status)
		s.first.Fail(paymenttest.Prepare, refusal())
		r, err = s.pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.NoError(t, err)
		assert.Equal(t, payment.Succeeded, r.Status)
		assert.Len(t, s.charges("o"), 1)
	})
}
