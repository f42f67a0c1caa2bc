package payment_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymenttest"
	"github.com/smilefactory/integrations/resilience"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func usd(minor int64) payment.Money { return payment.Money{Minor: minor, Currency: "USD"} }

// two are a primary and a backup.
type two struct {
	first, second *paymenttest.Bank
	journal       *payment.MemoryJournal
	pay           *payment.Client
	mu            sync.Mutex
	events        []payment.Event
}

// setup makes a Client of two Banks; a second one of the same journal comes with
// again.
func setup(t *testing.T, options ...payment.Option) *two {
	t.Helper()
	s := &two{
		first: &paymenttest.Bank{Called: "first"}, second: &paymenttest.Bank{Called: "second"},
		journal: &payment.MemoryJournal{AssumeDurable: true},
	}
	s.pay = s.again(t, options...)
	return s
}

func (s *two) again(t *testing.T, options ...payment.Option) *payment.Client {
	t.Helper()
	p := payment.Policy
	p.Retries = 0 // the policy's own repetitions have tests of their own
	all := append([]payment.Option{payment.WithPolicy(p), payment.WithBackup(s.second), payment.WithJournal(s.journal), payment.WithHandler(s.handle)}, options...)
	pay, err := payment.New(s.first, all...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pay.Close(context.WithoutCancel(t.Context()))) })
	return pay
}

func (s *two) handle(_ context.Context, e payment.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
	return nil
}

func (s *two) types() []payment.EventType {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []payment.EventType
	for _, e := range s.events {
		out = append(out, e.Type)
	}
	return out
}

// charges are those of the order over both Banks.
func (s *two) charges(order string) []paymenttest.Charge {
	return append(s.first.Charges(order), s.second.Charges(order)...)
}

// order is paid with that method at both.
func order(id, method string) *payment.Order {
	o := &payment.Order{ID: id, Amount: usd(1999), User: "user-1", ReturnURL: "https://shop.example.com/paid"}
	if method != "" {
		o.Methods = map[string]payment.Method{"first": {ID: method}, "second": {ID: method}}
	}
	return o
}

func TestAChargeIsMadeOnceAndEveryCallHasItsResult(t *testing.T) {
	s := setup(t)
	for range 3 {
		r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.NoError(t, err)
		assert.Equal(t, payment.Succeeded, r.Status)
		assert.Equal(t, "first", r.Provider)
		assert.Equal(t, usd(1999), r.Captured)
		assert.True(t, r.Recorded)
	}
	r, err := s.pay.Resume(t.Context(), "o")
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
	assert.Len(t, s.charges("o"), 1)
	assert.Equal(t, []payment.EventType{payment.OrderChanged}, s.types())
}

func TestCallersAtOnceGetOneCharge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		other := s.again(t)
		release := s.first.Hang(paymenttest.Commit)
		time.AfterFunc(20*time.Second, release)
		var calls sync.WaitGroup
		for i := range 20 {
			calls.Go(func() {
				r, err := []*payment.Client{s.pay, other}[i%2].Charge(t.Context(), order("o", paymenttest.Good))
				assert.NoError(t, err)
				assert.Equal(t, payment.Succeeded, r.Status)
			})
		}
		calls.Wait()
		assert.Len(t, s.charges("o"), 1)
	})
}

func TestACallerWhoCannotWaitIsToldThatAnotherCallWorksOnTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		release := s.first.Hang(paymenttest.Commit)
		time.AfterFunc(30*time.Second, release)
		go s.pay.Charge(t.Context(), order("o", paymenttest.Good))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		r, err := s.pay.Resume(ctx, "o")
		require.ErrorIs(t, err, payment.ErrInProgress)
		require.ErrorIs(t, err, fault.Conflict)
		assert.Equal(t, payment.Unknown, r.Status)
	})
}

func TestWhenTheBackupTakesTheCharge(t *testing.T) {
	deduped := func(k fault.Kind) error { return &fault.Error{Kind: k, Deduped: true, Err: errors.New("x")} }
	for name, row := range map[string]struct {
		step  paymenttest.Step
		err   error
		lose  bool
		taken bool // by the backup
		want  payment.Status
	}{
		"no connection to prepare":            {paymenttest.Prepare, deduped(fault.Unavailable), false, true, payment.Succeeded},
		"an ambiguous prepare":                {paymenttest.Prepare, nil, true, true, payment.Succeeded},
		"too many requests":                   {paymenttest.Prepare, deduped(fault.RateLimited), false, true, payment.Succeeded},
		"credentials refused":                 {paymenttest.Prepare, deduped(fault.Denied), false, false, ""},
		"a wrong request":                     {paymenttest.Prepare, deduped(fault.Invalid), false, false, ""},
		"the key was used for something else": {paymenttest.Prepare, deduped(fault.Conflict), false, false, ""},
		"no connection to commit":             {paymenttest.Commit, deduped(fault.Unavailable), false, true, payment.Succeeded},
		"a commit that failed ambiguously":    {paymenttest.Commit, deduped(fault.Uncertain), false, true, payment.Succeeded}, // looked up, fenced
		"a commit whose answer was lost":      {paymenttest.Commit, nil, true, false, payment.Succeeded},
	} {
		t.Run(name, func(t *testing.T) {
			s := setup(t)
			if row.lose {
				s.first.Lose(row.step)
			} else {
				s.first.Fail(row.step, row.err)
			}
			r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
			charges := s.charges("o")
			if row.want == "" {
				require.Error(t, err)
				assert.Empty(t, charges)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, row.want, r.Status)
			require.Len(t, charges, 1)
			assert.Equal(t, row.taken, len(s.second.Charges("o")) == 1)
			if row.taken {
				assert.Equal(t, 2, r.Attempt)
			}
		})
	}
}

func TestADeclineIsAResultAndNoBackupIsAsked(t *testing.T) {
	s := setup(t)
	r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Poor))
	require.NoError(t, err)
	assert.Equal(t, payment.Declined, r.Status)
	assert.Equal(t, payment.InsufficientFunds, r.Decline.Reason)
	assert.NotEmpty(t, r.Decline.Message)
	assert.Zero(t, s.second.Calls(paymenttest.Prepare))

	r, err = s.pay.Charge(t.Context(), order("o", paymenttest.Poor)) // the repetition of a call
	require.NoError(t, err)
	assert.Equal(t, payment.Declined, r.Status)
	assert.Equal(t, 1, s.first.Calls(paymenttest.Commit))

	r, err = s.pay.Charge(t.Context(), order("o", paymenttest.Good)) // another card
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
	assert.Equal(t, 2, r.Attempt)
}

func TestAWantedSecondTryWithTheSameCard(t *testing.T) {
	s := setup(t)
	for try := range 3 {
		o := order("o", paymenttest.Poor)
		o.Try = try
		r, err := s.pay.Charge(t.Context(), o)
		require.NoError(t, err)
		assert.Equal(t, try+1, r.Attempt)
	}
	assert.Equal(t, 3, s.first.Calls(paymenttest.Commit))
}

func TestAnotherTermForTheSameOrderIsAConflictThatNamesIt(t *testing.T) {
	for field, change := range map[string]func(o *payment.Order){
		"amount.minor":    func(o *payment.Order) { o.Amount.Minor = 2000 },
		"amount.currency": func(o *payment.Order) { o.Amount.Currency = "EUR" },
		"payees":          func(o *payment.Order) { o.Payees = map[string]string{"first": "acct_1", "second": "acct_2"} },
		"fee":             func(o *payment.Order) { o.Fee.BasisPoints = 100 },
		"hold":            func(o *payment.Order) { o.Hold = true },
		"user":            func(o *payment.Order) { o.User = "user-2" },
	} {
		t.Run(field, func(t *testing.T) {
			s := setup(t)
			_, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
			require.NoError(t, err)
			o := order("o", paymenttest.Good)
			change(o)
			_, err = s.pay.Charge(t.Context(), o)
			require.ErrorIs(t, err, fault.Conflict)
			var wrong *payment.FieldError
			require.ErrorAs(t, err, &wrong)
			assert.Equal(t, field, wrong.Field)
			assert.Equal(t, 1, s.first.Calls(paymenttest.Prepare))
		})
	}
}

func TestTheCustomerActsAndResumeTellsHowItEnded(t *testing.T) {
	for name, row := range map[string]struct {
		method    string
		approves  bool
		confirmed bool
		want      payment.Status
	}{
		"a page that pays":               {"", false, true, payment.Succeeded},
		"a page that he leaves":          {"", false, false, payment.Declined},
		"an approval that we commit":     {"", true, true, payment.Succeeded},
		"a card that must be confirmed":  {paymenttest.Strict, false, true, payment.Succeeded},
		"a card that was not confirmed":  {paymenttest.Strict, false, false, payment.Declined},
		"an approval that never happens": {"", true, false, payment.NeedsAction},
	} {
		t.Run(name, func(t *testing.T) {
			s := setup(t)
			s.first.Approves = row.approves
			r, err := s.pay.Charge(t.Context(), order("o", row.method))
			require.NoError(t, err)
			require.Equal(t, payment.NeedsAction, r.Status)
			require.NotEmpty(t, r.Action.RedirectURL)
			again, err := s.pay.Charge(t.Context(), order("o", row.method)) // the customer pressed twice
			require.NoError(t, err)
			assert.Equal(t, r.Action, again.Action)

			if row.confirmed {
				s.first.Confirm(r.PaymentID)
			} else {
				s.first.GiveUp(r.PaymentID)
			}
			r, err = s.pay.Resume(t.Context(), "o")
			require.NoError(t, err)
			assert.Equal(t, row.want, r.Status)
			assert.Len(t, s.charges("o"), map[bool]int{true: 1, false: 0}[row.want == payment.Succeeded])
			assert.Zero(t, s.second.Calls(paymenttest.Prepare))
		})
	}
}

func TestAMerchantInitiatedChargeThatNeedsTheCustomerSaysSo(t *testing.T) {
	s := setup(t)
	o := order("o", paymenttest.Strict)
	o.Presence = payment.MerchantInitiated
	r, err := s.pay.Charge(t.Context(), o)
	require.NoError(t, err)
	assert.Equal(t, payment.NeedsCustomer, r.Status)
	assert.Zero(t, s.second.Calls(paymenttest.Prepare))

	r, err = s.pay.Charge(t.Context(), o) // the same call again has the same answer
	require.NoError(t, err)
	assert.Equal(t, payment.NeedsCustomer, r.Status)
	o.Presence = payment.CustomerPresent
	r, err = s.pay.Charge(t.Context(), o)
	require.NoError(t, err)
	assert.Equal(t, payment.NeedsAction, r.Status)
}

func TestAnotherMethodWhileTheFormerWaitsForTheCustomer(t *testing.T) {
	s := setup(t)
	r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Strict))
	require.NoError(t, err)
	former := r.PaymentID
	r, err = s.pay.Charge(t.Context(), order("o", paymenttest.Good))
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
	s.first.Confirm(former) // too late: it was fenced
	assert.Len(t, s.charges("o"), 1)

	r, err = s.pay.Charge(t.Context(), order("p", paymenttest.Strict))
	require.NoError(t, err)
	s.first.Confirm(r.PaymentID) // in time: the other card isn't charged
	r, err = s.pay.Charge(t.Context(), order("p", paymenttest.Good))
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
	assert.Len(t, s.charges("p"), 1)
}

func TestADeclinedPaymentThatTheCustomerMayStillMakeIsFencedBeforeAnother(t *testing.T) {
	for _, late := range []bool{false, true} {
		s := setup(t)
		r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Strict))
		require.NoError(t, err)
		former := r.PaymentID
		s.first.GiveUp(former)
		r, err = s.pay.Resume(t.Context(), "o")
		require.NoError(t, err)
		require.Equal(t, payment.Declined, r.Status)
		if !late {
			s.first.Confirm(former) // with another card, in the form that is still open
		}
		r, err = s.pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.NoError(t, err)
		assert.Equal(t, payment.Succeeded, r.Status)
		s.first.Confirm(former)
		assert.Len(t, s.charges("o"), 1)
	}
}

func TestACallerWhoGoesIsToldAtOnceAndWhatHasBegunIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		release := s.first.Hang(paymenttest.Commit)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		r, err := s.pay.Charge(ctx, order("o", paymenttest.Good))
		assert.Equal(t, time.Second, time.Since(start))
		require.ErrorIs(t, err, fault.Uncertain)
		assert.Equal(t, payment.Unknown, r.Status)
		release()
		r, err = s.pay.Resume(t.Context(), "o")
		require.NoError(t, err)
		assert.Equal(t, payment.Succeeded, r.Status)
		assert.Len(t, s.charges("o"), 1)
	})
}

func TestACallerWithADeadlineReachesTheBackupInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		defer s.first.Hang(paymenttest.Prepare)()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		r, err := s.pay.Charge(ctx, order("o", paymenttest.Good))
		require.NoError(t, err)
		assert.Equal(t, "second", r.Provider)
		assert.Len(t, s.charges("o"), 1)
	})
}

func TestACallerWhoGoesBeforeAnythingMovesIsNotCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		release := s.first.Hang(paymenttest.Prepare)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		r, err := s.pay.Charge(ctx, order("o", paymenttest.Good))
		assert.Nil(t, r)
		require.ErrorIs(t, err, fault.Canceled)
		release()
		synctest.Wait()
		assert.Empty(t, s.charges("o"))
		r, err = s.pay.Resume(t.Context(), "o")
		require.NoError(t, err)
		assert.Equal(t, payment.Ready, r.Status)
		time.Sleep(2 * time.Hour)
		n, err := s.pay.ReconcileOnce(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		r, err = s.pay.Resume(t.Context(), "o")
		require.NoError(t, err)
		assert.Equal(t, payment.Canceled, r.Status)
	})
}

func TestWithoutItsJournalNothingIsSent(t *testing.T) {
	s := setup(t)
	_, err := payment.New(s.first, payment.WithBackup(s.second))
	require.ErrorContains(t, err, "durable journal")
	_, err = payment.New(s.first, payment.WithBackup(s.second), payment.WithJournal(&payment.MemoryJournal{}))
	require.ErrorContains(t, err, "durable journal")
	_, err = payment.New(s.pay)
	require.ErrorContains(t, err, "can't be a member")
}

func TestNestedClientsPayLikeTheirProviders(t *testing.T) {
	inner, err := payment.New(&paymenttest.Bank{Called: "first"}, payment.WithName("eu"))
	require.NoError(t, err)
	second := &paymenttest.Bank{Called: "second"}
	pay, err := payment.New(inner, payment.WithBackup(second), payment.WithJournal(&payment.MemoryJournal{AssumeDurable: true}))
	require.NoError(t, err)
	r, err := pay.Charge(t.Context(), order("o", paymenttest.Good))
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
	assert.Equal(t, "eu/first", r.Provider)
	refund, err := pay.Refund(t.Context(), "o", "r1", usd(100))
	require.NoError(t, err)
	assert.Equal(t, payment.RefundSucceeded, refund.State)
}

func TestACustomerChoosesTheProvider(t *testing.T) {
	s := setup(t)
	o := order("o", "")
	o.Providers = []string{"second"}
	r, err := s.pay.Charge(t.Context(), o)
	require.NoError(t, err)
	assert.Equal(t, "second", r.Provider)
	assert.Equal(t, payment.NeedsAction, r.Status)
	again, err := s.pay.Charge(t.Context(), o)
	require.NoError(t, err)
	assert.Equal(t, r.PaymentID, again.PaymentID)

	o.Providers = []string{"first"} // and then another one: the former is fenced
	r, err = s.pay.Charge(t.Context(), o)
	require.NoError(t, err)
	assert.Equal(t, "first", r.Provider)
	s.second.Confirm(again.PaymentID)
	s.first.Confirm(r.PaymentID)
	assert.Len(t, s.charges("o"), 1)

	recorded, err := s.pay.Recorded(t.Context(), "o")
	require.NoError(t, err)
	assert.Equal(t, payment.NeedsAction, recorded.Status, "nobody has asked yet")
	_, err = s.pay.Recorded(t.Context(), "p")
	require.ErrorIs(t, err, fault.NotFound)

	o.Providers = []string{"third"}
	_, err = s.pay.Charge(t.Context(), o)
	require.ErrorIs(t, err, fault.Invalid)
	assert.ErrorContains(t, err, "payment: providers: ")
}

func TestTenantsHaveOrdersOfTheirOwn(t *testing.T) {
	s := setup(t)
	for _, tenant := range []string{"a", "b"} {
		r, err := s.pay.Charge(resilience.WithTenant(t.Context(), tenant), order("o", paymenttest.Good))
		require.NoError(t, err)
		assert.Equal(t, tenant, r.Tenant)
	}
	assert.Len(t, s.charges("o"), 2)
	_, err := s.pay.Resume(t.Context(), "o")
	require.ErrorIs(t, err, fault.NotFound)
	_, err = s.pay.Charge(resilience.WithTenant(t.Context(), "a b"), order("o", paymenttest.Good))
	require.ErrorIs(t, err, fault.Invalid)
}
