package payment_test

import (
	"context"
	"net/http"
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

// stops is a Bank whose process is stopped before it commits.
type stops struct {
	*paymenttest.Bank
	before func() error
}

func (g *stops) Commit(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	if err := g.before(); err != nil {
		return nil, err
	}
	return g.Bank.Commit(ctx, a)
}

// failing is a trouble of the nth write alone.
func failing(n int, h how) func(int) how {
	return func(i int) how {
		if i == n {
			return h
		}
		return works
	}
}

// TestWhoWasOvertakenInTheCommitNeverSaysThatNothingWasDone: A notes the commit, is stopped, is overtaken by B, who pays, and wakes up to a refused connection.
func TestWhoWasOvertakenInTheCommitNeverSaysThatNothingWasDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		wake := make(chan struct{})
		sleeper, err := payment.New(&stops{s.first, func() error {
			<-wake
			return fault.New(fault.Unavailable, nil) // the connection is refused
		}}, payment.WithBackup(s.second), payment.WithJournal(s.journal))
		require.NoError(t, err)
		type said struct {
			r   *payment.Result
			err error
		}
		done := make(chan said, 1)
		go func() {
			r, err := sleeper.Charge(context.WithoutCancel(t.Context()), order("o", paymenttest.Good))
			done <- said{r, err}
		}()
		synctest.Wait()
		s.expire(t)
		r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.NoError(t, err)
		require.Equal(t, payment.Succeeded, r.Status)
		close(wake)
		late := <-done
		assert.Len(t, s.charges("o"), 1)
		require.NoError(t, late.err)
		assert.Equal(t, payment.Succeeded, late.r.Status, "by the other process")
		require.NoError(t, sleeper.Close(t.Context()))
	})
}

// TestNothingButFinishOrChargeCommitsWhatWasStarted: Start, the customer approves, and anything but Finish comes along.
func TestNothingButFinishOrChargeCommitsWhatWasStarted(t *testing.T) {
	for name, do := range map[string]func(t *testing.T, s *two, id string){
		"Reconcile": func(t *testing.T, s *two, _ string) {
			time.Sleep(15 * time.Minute)
			_, err := s.pay.ReconcileOnce(t.Context())
			require.NoError(t, err)
		},
		"webhook": func(t *testing.T, s *two, id string) { s.hook(t, s.pay, s.first.Webhook("/", "e", id), "first") },
		"Resume":  func(t *testing.T, s *two, _ string) { _, _ = s.pay.Resume(t.Context(), "o") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := setup(t)
				s.first.Approves = true
				r, err := s.pay.Start(t.Context(), order("o", ""))
				require.NoError(t, err)
				s.first.Confirm(r.PaymentID)
				do(t, s, r.PaymentID)
				assert.Empty(t, s.charges("o"), "Finish was never called")
			})
		})
	}
}

// restore puts the journal back to what it was: a lost commit, a replica that lagged.
func (s *two) restore(t *testing.T, e *payment.Entry) {
	t.Helper()
	_, err := s.journal.Update(t.Context(), e.Key, func(_ context.Context, now *payment.Entry) error {
		v := now.Version
		*now = *e.Clone()
		now.Version = v
		now.Lease.Until = time.Time{}
		return nil
	})
	require.NoError(t, err)
}

// TestWhatIsFencedByNoteAloneIsLookedUpFirst: the journal lost "committing" and "paid"; the provider can't fence; another method.
func TestWhatIsFencedByNoteAloneIsLookedUpFirst(t *testing.T) {
	for _, what := range []string{"another method", "Reconcile", "webhook", "Resume"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := setup(t)
				s.first.NoFence = true
				_, err := s.pay.Start(t.Context(), order("o", paymenttest.Good))
				require.NoError(t, err)
				e, err := s.journal.Entry(t.Context(), payment.Key{Order: "o"})
				require.NoError(t, err)
				r, err := s.pay.Finish(t.Context(), "o")
				require.NoError(t, err)
				require.Equal(t, payment.Succeeded, r.Status)
				s.restore(t, e)
				switch what {
				case "Reconcile":
					time.Sleep(25 * time.Hour)
					_, err := s.pay.ReconcileOnce(t.Context())
					require.NoError(t, err)
				case "webhook":
					assert.Equal(t, http.StatusOK, s.hook(t, s.pay, s.first.Webhook("/", "e", r.PaymentID), "first"))
				case "Resume":
					r, err := s.pay.Resume(t.Context(), "o")
					require.NoError(t, err)
					assert.Equal(t, payment.Succeeded, r.Status)
				}
				got, err := s.pay.Recorded(t.Context(), "o")
				require.NoError(t, err)
				if what == "webhook" || what == "Reconcile" {
					assert.Equal(t, payment.Succeeded, got.Status)
				}
				_, err = s.pay.Charge(t.Context(), order("o", "other"))
				require.NoError(t, err)
				assert.Len(t, s.charges("o"), 1)
			})
		})
	}
}

// TestVoidOfWhatTheCustomerHasJustPaidIsAConflict: the customer confirms just before Void.
func TestVoidOfWhatTheCustomerHasJustPaidIsAConflict(t *testing.T) {
	s := setup(t)
	r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Strict))
	require.NoError(t, err)
	s.first.Confirm(r.PaymentID)
	_, err = s.pay.Void(t.Context(), "o")
	require.ErrorIs(t, err, fault.Conflict)
}

// TestTheDuplicateIsWhatCameLaterWhateverTheClocksSay: the process that learns of a duplicate has a clock that is behind.
func TestTheDuplicateIsWhatCameLaterWhateverTheClocksSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		behind := s.again(t, payment.WithRules(payment.Rules{Now: func() time.Time { return time.Now().Add(-time.Minute) }}))
		s.first.Lose(paymenttest.Prepare)
		r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.NoError(t, err)
		require.Equal(t, "second", r.Provider)
		_, err = s.first.Commit(t.Context(), &payment.Attempt{Order: order("o", paymenttest.Good), Number: 1, Provider: "first", PaymentID: "first_pay_1"})
		require.NoError(t, err)
		time.Sleep(time.Second)
		assert.Equal(t, 200, s.hook(t, behind, s.first.Webhook("/", "e", "first_pay_1"), "first"))
		assert.Contains(t, s.types(), payment.DuplicateCharge)
		assert.Equal(t, usd(1999), s.first.Refunded("first_pay_1"))
		assert.Equal(t, usd(0), s.second.Refunded("second_pay_1"), "that one was delivered")
	})
}

// TestWhatFailedForSureIsNotChargedLater: what was answered with a definite failure is never charged by Reconcile.
func TestWhatFailedForSureIsNotChargedLater(t *testing.T) {
	for name, fails := range map[string]func(s *two, n int) how{
		"the note of the commit is there, and can't be read": func(_ *two, n int) how { return failing(4, hidden)(n) },
		"the commit was not sent, and that can't be noted": func(s *two, n int) how {
			if n == 4 {
				s.first.Fail(paymenttest.Commit, fault.New(fault.Unavailable, nil))
			}
			return failing(5, down)(n)
		},
		"the commit was not sent, and whether that is noted isn't known": func(s *two, n int) how {
			if n == 4 {
				s.first.Fail(paymenttest.Commit, fault.New(fault.Unavailable, nil))
			}
			if n == 5 {
				return gone
			}
			return works
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := setup(t)
				j := &trouble{MemoryJournal: s.journal}
				j.fails = func(n int) how { return fails(s, n) }
				pay := s.again(t, payment.WithJournal(j))
				o := order("o", paymenttest.Good)
				o.Providers = []string{"first"}
				_, err := pay.Charge(t.Context(), o)
				require.Error(t, err)
				said := err
				for range 3 {
					time.Sleep(10 * time.Minute)
					_, err = pay.ReconcileOnce(t.Context())
					require.NoError(t, err)
				}
				if n := len(s.charges("o")); n > 0 {
					assert.ErrorIs(t, said, fault.Uncertain, "it was charged %d times after that", n)
				}
			})
		})
	}
}

// TestWhatWasNotCapturedForSureIsNotCapturedLater: the same of a capture.
func TestWhatWasNotCapturedForSureIsNotCapturedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		o := order("o", paymenttest.Good)
		o.Hold = true
		_, err := s.pay.Charge(t.Context(), o)
		require.NoError(t, err)
		j := &trouble{MemoryJournal: s.journal, fails: failing(2, hidden)}
		pay := s.again(t, payment.WithJournal(j))
		_, err = pay.Capture(t.Context(), "o", payment.Money{})
		said := err
		for range 3 {
			time.Sleep(10 * time.Minute)
			_, err = pay.ReconcileOnce(t.Context())
			require.NoError(t, err)
		}
		if n := len(s.charges("o")); n > 0 {
			assert.ErrorIs(t, said, fault.Uncertain, "it was captured after that")
		}
	})
}

// TestTwentyProcessesWhoseClocksDifferChargeOnce: of 20 processes whose clocks differ by a minute one charges, and all say so.
func TestTwentyProcessesWhoseClocksDifferChargeOnce(t *testing.T) {
	for _, method := range []string{paymenttest.Good, paymenttest.Slow, paymenttest.Poor, ""} {
		synctest.Test(t, func(t *testing.T) {
			s := setup(t)
			release := s.first.Hang(paymenttest.Commit)
			time.AfterFunc(50*time.Second, release)
			var all sync.WaitGroup
			for i := range 20 {
				skew := time.Duration(i-10) * 3 * time.Second
				pay := s.again(t, payment.WithRules(payment.Rules{
					CommitWithin: 60 * time.Second, Lease: 70 * time.Second,
					Now: func() time.Time { return time.Now().Add(skew) },
				}))
				all.Go(func() {
					r, err := pay.Charge(t.Context(), order("o", method))
					if err != nil {
						assert.True(t, method == paymenttest.Good || r != nil)
						return
					}
					switch method {
					case paymenttest.Good:
						assert.Equal(t, payment.Succeeded, r.Status)
					case paymenttest.Poor:
						assert.Equal(t, payment.Declined, r.Status)
					}
				})
			}
			all.Wait()
			time.Sleep(10 * time.Minute)
			_, err := s.pay.ReconcileOnce(t.Context())
			require.NoError(t, err)
			assert.LessOrEqual(t, len(s.charges("o")), 1)
			if method == paymenttest.Good {
				assert.Len(t, s.charges("o"), 1)
			}
		})
	}
}

// TestWhatWasVoidedIsNotChargedByReconcile: the commit's end isn't known, Void can't fence it, and says so; then Reconcile comes.
func TestWhatWasVoidedIsNotChargedByReconcile(t *testing.T) {
	for _, noFence := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := setup(t)
			s.first.NoFence = noFence
			s.first.Fail(paymenttest.Commit, uncertain())
			s.first.Fail(paymenttest.LookUp, uncertain())
			_, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
			require.ErrorIs(t, err, fault.Uncertain)
			s.first.Fail(paymenttest.Fence, uncertain())
			_, err = s.pay.Void(t.Context(), "o")
			require.ErrorIs(t, err, fault.Uncertain)
			require.Empty(t, s.charges("o"))
			for range 3 {
				time.Sleep(10 * time.Minute)
				_, err = s.pay.ReconcileOnce(t.Context())
				require.NoError(t, err)
			}
			assert.Empty(t, s.charges("o"), "Void was called, and nothing had been taken")
		})
	}
}

// TestWhatWasVoidedIsNotChargedByARepetition: Void of a prepared payment couldn't fence it; the queue repeats Charge.
func TestWhatWasVoidedIsNotChargedByARepetition(t *testing.T) {
	s := setup(t)
	_, err := s.pay.Start(t.Context(), order("o", paymenttest.Good))
	require.NoError(t, err)
	s.first.Fail(paymenttest.Fence, uncertain())
	_, err = s.pay.Void(t.Context(), "o")
	require.Error(t, err)
	r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
	require.NoError(t, err)
	assert.Equal(t, payment.Canceled, r.Status)
	assert.Empty(t, s.charges("o"))
}

// TestALostClaimIsUnavailable: the claim of a new order is lost.
func TestALostClaimIsUnavailable(t *testing.T) {
	for _, h := range []how{gone, lost, hidden, down} {
		synctest.Test(t, func(t *testing.T) {
			s := setup(t)
			pay := s.again(t, payment.WithJournal(&trouble{MemoryJournal: s.journal, fails: failing(1, h)}))
			_, err := pay.Charge(t.Context(), order("o", paymenttest.Good))
			if err != nil {
				assert.Equal(t, fault.Unavailable, fault.KindOf(err), "%d: %v", h, err)
			}
		})
	}
}

// blind can't look refunds up.
type blind struct {
	*paymenttest.Bank
	blind bool
}

func (b *blind) LookUpRefund(ctx context.Context, r *payment.Refunding) (*payment.Refund, error) {
	if b.blind {
		return nil, fault.New(fault.Unavailable, nil)
	}
	return b.Bank.LookUpRefund(ctx, r)
}

// TestAWebhookOfARefundThatCannotBeLookedUpComesAgain: a refund fails after it succeeded, and just then it can't be looked up.
func TestAWebhookOfARefundThatCannotBeLookedUpComesAgain(t *testing.T) {
	s := setup(t)
	b := &blind{Bank: s.first}
	p := payment.Policy
	p.Retries = 0
	pay, err := payment.New(b, payment.WithPolicy(p), payment.WithJournal(s.journal), payment.WithHandler(s.handle))
	require.NoError(t, err)
	r, err := pay.Charge(t.Context(), order("o", paymenttest.Good))
	require.NoError(t, err)
	f, err := pay.Refund(t.Context(), "o", "r1", usd(500))
	require.NoError(t, err)
	s.first.EndRefund(r.PaymentID, "r1", payment.RefundFailed)
	hint := payment.Hint{ID: "e", PaymentID: r.PaymentID, RefundID: f.ProviderID, Subject: payment.AboutRefund}
	b.blind = true
	code := s.hook(t, pay, paymenttest.SignedWebhook("/", hint), "first")
	b.blind = false
	s.hook(t, pay, paymenttest.SignedWebhook("/", hint), "first") // the provider sends again, where it was told to
	got, err := pay.Recorded(t.Context(), "o")
	require.NoError(t, err)
	assert.Equal(t, payment.RefundFailed, got.Refunds[0].State)
	assert.Equal(t, http.StatusServiceUnavailable, code)
}

// stopped is a Journal whose process is stopped before its nth Update.
type stopped struct {
	*payment.MemoryJournal
	n, at  int
	before func()
}

func (j *stopped) Update(ctx context.Context, k payment.Key, change func(context.Context, *payment.Entry) error) (*payment.Entry, error) {
	if j.n++; j.n == j.at {
		j.before()
	}
	return j.MemoryJournal.Update(ctx, k, change)
}

// TestWhoWasOvertakenBeforeACaptureOrVoidDoesNotSayThatItIsDone: Capture (Void) has the lease, is stopped, and another call looks at the order and goes.
func TestWhoWasOvertakenBeforeACaptureOrVoidDoesNotSayThatItIsDone(t *testing.T) {
	for name, row := range map[string]struct {
		at int
		do func(ctx context.Context, p *payment.Client) (*payment.Result, error)
	}{
		"capture": {2, func(ctx context.Context, p *payment.Client) (*payment.Result, error) {
			return p.Capture(ctx, "o", payment.Money{})
		}},
		"void":                 {2, func(ctx context.Context, p *payment.Client) (*payment.Result, error) { return p.Void(ctx, "o") }},
		"void, after its mark": {3, func(ctx context.Context, p *payment.Client) (*payment.Result, error) { return p.Void(ctx, "o") }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := setup(t)
				o := order("o", paymenttest.Good)
				o.Hold = true
				_, err := s.pay.Charge(t.Context(), o)
				require.NoError(t, err)
				j := &stopped{MemoryJournal: s.journal, at: row.at, before: func() {
					s.expire(t)
					// it takes the order over, and ends
					_, err := s.journal.Update(t.Context(), payment.Key{Order: "o"}, func(_ context.Context, e *payment.Entry) error {
						e.Lease.Token++
						e.Lease.Until = time.Time{}
						return nil
					})
					require.NoError(t, err)
				}}
				r, err := row.do(t.Context(), s.again(t, payment.WithJournal(j)))
				if r.Status == payment.Authorized {
					assert.Error(t, err, "it was neither captured nor voided")
				}
			})
		})
	}
}

// TestALostNoteOfARefundIsNotTakenForTheFirst: two calls for one refund; the second one's note is lost, and it is refused.
func TestALostNoteOfARefundIsNotTakenForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.NoError(t, err)
		release := s.first.Hang(paymenttest.Refund)
		done := make(chan error, 1)
		go func() {
			_, err := s.pay.Refund(context.WithoutCancel(t.Context()), "o", "r1", usd(500))
			done <- err
		}()
		synctest.Wait()
		s.first.Fail(paymenttest.Refund, fault.New(fault.Unavailable, nil))
		pay := s.again(t, payment.WithJournal(&trouble{MemoryJournal: s.journal, fails: failing(1, gone)}))
		_, err = pay.Refund(t.Context(), "o", "r1", usd(500))
		require.ErrorIs(t, err, fault.Uncertain)
		release()
		require.NoError(t, <-done)
		assert.Equal(t, usd(500), s.first.Refunded(r.PaymentID))
		r, err = s.pay.Recorded(t.Context(), "o")
		require.NoError(t, err)
		require.Len(t, r.Refunds, 1, "it was made")
	})
}
