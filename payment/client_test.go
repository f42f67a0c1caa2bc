package payment_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymenttest"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/secret"
)

func TestWhatNewRefuses(t *testing.T) {
	durable := payment.WithJournal(&payment.MemoryJournal{AssumeDurable: true})
	for name, row := range map[string]struct {
		primary payment.Gateway
		options []payment.Option
		says    string
	}{
		"two of one name":         {&paymenttest.Bank{}, []payment.Option{payment.WithBackup(&paymenttest.Bank{}), durable}, "bank"},
		"a lease that is short":   {&paymenttest.Bank{}, []payment.Option{payment.WithRules(payment.Rules{Lease: time.Minute})}, "Lease"},
		"a negative wait":         {&paymenttest.Bank{}, []payment.Option{payment.WithRules(payment.Rules{Join: -1})}, "Join"},
		"settings that lack":      {incomplete{&paymenttest.Bank{}}, nil, `member "bank": no key`},
		"a policy that can't be":  {&paymenttest.Bank{}, []payment.Option{payment.WithPolicy(resilience.Policy{Retries: -1})}, "policy"},
		"a name that can't be":    {payment.Named("A B", &paymenttest.Bank{}), nil, "name"},
		"a backup and no journal": {&paymenttest.Bank{}, []payment.Option{payment.WithBackup(payment.Named("b", &paymenttest.Bank{}))}, "journal"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := payment.New(row.primary, row.options...)
			require.ErrorContains(t, err, row.says)
		})
	}
}

type incomplete struct{ *paymenttest.Bank }

func (incomplete) Check() error { return errors.New("no key") }

func TestTwoAccountsOfOneProviderAreToldApartByName(t *testing.T) {
	eu, us := &paymenttest.Bank{Account: "acct_eu"}, &paymenttest.Bank{Account: "acct_us"}
	var seen []string
	pay, err := payment.New(payment.Named("eu", eu), payment.WithBackup(payment.Named("us", us)), payment.WithName("both"),
		payment.WithJournal(&payment.MemoryJournal{AssumeDurable: true}),
		payment.WithObserver(resilience.ObserverFunc(func(_ context.Context, e resilience.Event) {
			if e.Type == resilience.AttemptEnded {
				seen = append(seen, e.Op+" "+e.Provider)
			}
		})))
	require.NoError(t, err)
	assert.Equal(t, "both", pay.Name())
	require.NoError(t, pay.Control().Switch("eu", resilience.ForcedOpen))
	o := order("o", "")
	o.Methods = map[string]payment.Method{"us": {ID: paymenttest.Good}}
	r, err := pay.Charge(t.Context(), o)
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
	assert.Equal(t, "us", r.Provider)
	assert.Equal(t, []string{"payment.prepare us", "payment.commit us"}, seen)
}

func TestABackupThatCantTakeAnOrderIsLeftOutAndTheResultSaysSo(t *testing.T) {
	s := setup(t)
	s.second.Refuses = func(*payment.Attempt) error { return paymenttest.CantTake("amount.currency") }
	r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
	require.NoError(t, err)
	require.Len(t, r.Skipped, 1)
	assert.Equal(t, "second", r.Skipped[0].Provider)
	require.ErrorIs(t, r.Skipped[0].Reason, fault.Unsupported)

	s.first.Fail(paymenttest.Prepare, fault.New(fault.Unavailable, nil))
	_, err = s.pay.Charge(t.Context(), order("p", paymenttest.Good))
	require.ErrorIs(t, err, fault.Unavailable)
	assert.Zero(t, s.second.Calls(paymenttest.Prepare))

	s.first.Refuses = s.second.Refuses
	_, err = s.pay.Charge(t.Context(), order("q", paymenttest.Good))
	require.ErrorIs(t, err, fault.Unsupported)
	assert.ErrorContains(t, err, "amount.currency")
}

func TestNobodyElseIsPaidThanWhoWasNamed(t *testing.T) {
	s := setup(t)
	o := order("o", paymenttest.Good)
	o.Payees = map[string]string{"secnod": "acct_1"} // a slip of the pen
	_, err := s.pay.Charge(t.Context(), o)
	require.ErrorIs(t, err, fault.Unsupported)
	assert.ErrorContains(t, err, "payees.second")
	o.Payees = map[string]string{"second": "acct_1"}
	r, err := s.pay.Charge(t.Context(), o)
	require.NoError(t, err)
	assert.Equal(t, "second", r.Provider)
}

func TestAClosedClientBeginsNothingAndWaitsForWhatHasBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		release := s.first.Hang(paymenttest.Commit)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := s.pay.Charge(ctx, order("o", paymenttest.Good))
		require.ErrorIs(t, err, fault.Uncertain)

		soon, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		require.ErrorIs(t, s.pay.Close(soon), context.DeadlineExceeded)
		_, err = s.pay.Charge(t.Context(), order("p", paymenttest.Good))
		require.ErrorIs(t, err, fault.Unavailable)
		_, err = s.pay.ReconcileOnce(t.Context())
		require.ErrorIs(t, err, fault.Unavailable)

		release()
		require.NoError(t, s.pay.Close(t.Context()))
		e, err := s.journal.Entry(t.Context(), payment.Key{Order: "o"})
		require.NoError(t, err)
		assert.Equal(t, payment.AttemptPaid, e.Attempts[0].State)
	})
}

func TestAPanicReachesTheCallerAndTheOrderIsSettledAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bank := &paymenttest.Bank{Called: "first"}
		g := &panicking{Bank: bank}
		pay, err := payment.New(g, payment.WithJournal(&payment.MemoryJournal{AssumeDurable: true}))
		require.NoError(t, err)
		assert.PanicsWithValue(t, "a bug", func() { _, _ = pay.Charge(t.Context(), order("o", paymenttest.Good)) })
		g.calm = true
		r, err := pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.NoError(t, err)
		assert.Equal(t, payment.Succeeded, r.Status)
		assert.Len(t, bank.Charges("o"), 1)
	})
}

// panicking panics after it has charged.
type panicking struct {
	*paymenttest.Bank
	calm bool
}

func (g *panicking) Commit(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	p, err := g.Bank.Commit(ctx, a)
	if !g.calm {
		panic("a bug")
	}
	return p, err
}

func TestAnActionWritesItself(t *testing.T) {
	w := httptest.NewRecorder()
	(&payment.NextAction{Provider: "paypal", RedirectURL: "https://www.paypal.com/checkoutnow?token=1"}).
		ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/pay", nil))
	assert.Equal(t, http.StatusSeeOther, w.Code)
	assert.Equal(t, "https://www.paypal.com/checkoutnow?token=1", w.Header().Get("Location"))

	w = httptest.NewRecorder()
	action := &payment.NextAction{Provider: "stripe", ClientSecret: secret.NewValue("pi_1_secret_2")}
	action.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/pay", nil))
	assert.Equal(t, http.StatusOK, w.Code)
	assert.JSONEq(t, `{"provider":"stripe","client_secret":"pi_1_secret_2"}`, w.Body.String())
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	assert.NotContains(t, fmt.Sprintf("%+v %#v", action, action), "pi_1_secret_2")
}

func TestAWalletBelongsToOneProvider(t *testing.T) {
	purse := &purse{Bank: &paymenttest.Bank{}}
	pay, err := payment.New(purse)
	require.NoError(t, err)
	_, err = pay.Wallet("other")
	require.ErrorIs(t, err, fault.NotFound)
	w, err := pay.Wallet("bank")
	require.NoError(t, err)
	_, err = w.SetupPaymentMethod(t.Context(), &payment.Setup{ID: "s", Method: "4242424242424242"})
	require.ErrorIs(t, err, fault.Invalid)
	assert.ErrorContains(t, err, "provider's own form")
	r, err := w.SetupPaymentMethod(t.Context(), &payment.Setup{ID: "s", Method: "tok_1"})
	require.NoError(t, err)
	assert.Len(t, purse.key, 64)
	assert.Equal(t, "tok_1", r.Method.ID)
	_, err = w.Attach(t.Context(), "cus_1", "a/b")
	require.ErrorIs(t, err, fault.Invalid)
	saved, err := w.Attach(t.Context(), "cus_1", "tok_1")
	require.NoError(t, err)
	all, err := w.SavedMethods(t.Context(), "cus_1")
	require.NoError(t, err)
	assert.Equal(t, []payment.SavedMethod{*saved}, all)
	require.NoError(t, w.SetDefault(t.Context(), "cus_1", "tok_1"))
	require.NoError(t, w.Detach(t.Context(), "cus_1", "tok_1"))

	plain, err := payment.New(&paymenttest.Bank{})
	require.NoError(t, err)
	_, err = plain.Wallet("bank")
	require.ErrorIs(t, err, fault.Unsupported)
}

// purse is a Bank with a wallet.
type purse struct {
	*paymenttest.Bank
	key string
}

func (p *purse) SetupPaymentMethod(_ context.Context, s *payment.Setup) (*payment.SetupResult, error) {
	p.key = s.Key
	return &payment.SetupResult{ID: "set_1", Method: &payment.SavedMethod{Method: payment.Method{ID: s.Method}}}, nil
}

func (p *purse) Attach(_ context.Context, customer, method string) (*payment.SavedMethod, error) {
	return &payment.SavedMethod{Method: payment.Method{ID: method, Customer: customer}}, nil
}

func (p *purse) SavedMethods(_ context.Context, customer string) ([]payment.SavedMethod, error) {
	return []payment.SavedMethod{{Method: payment.Method{ID: "tok_1", Customer: customer}}}, nil
}
func (*purse) Detach(context.Context, string, string) error     { return nil }
func (*purse) SetDefault(context.Context, string, string) error { return nil }

// bare is a Gateway of nothing but the contract.
type bare struct{ payment.Gateway }

func (bare) Name() string { return "bare" }

func TestWhatAProviderCantDoIsUnsupportedAtOnce(t *testing.T) {
	pay, err := payment.New(bare{&paymenttest.Bank{}})
	require.NoError(t, err)
	o := order("o", paymenttest.Good)
	o.Methods = map[string]payment.Method{"bare": {ID: paymenttest.Good}}
	_, err = pay.Charge(t.Context(), o)
	require.NoError(t, err)
	_, err = pay.Refund(t.Context(), "o", "r", usd(1))
	require.ErrorIs(t, err, fault.Unsupported)
	o.ID, o.Hold = "p", true
	_, err = pay.Charge(t.Context(), o)
	require.NoError(t, err)
	r, err := pay.Capture(t.Context(), "p", payment.Money{})
	require.ErrorIs(t, err, fault.Unsupported)
	assert.Equal(t, payment.Authorized, r.Status)
	_, err = pay.Void(t.Context(), "p")
	require.ErrorIs(t, err, fault.Unsupported)
	assert.Equal(t, http.StatusNotFound, (&two{}).hook(t, pay, httptest.NewRequest(http.MethodPost, "/", nil), "bare"))
}
