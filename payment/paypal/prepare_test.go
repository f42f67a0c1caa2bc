package paypal_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	simulator "github.com/smilefactory/integrations/internal/sim/paypal"
	"github.com/smilefactory/integrations/payment"
)

func TestPrepareCreatesAnOrderThatTheCustomerIsToApprove(t *testing.T) {
	b := open(t)
	a := b.attempt(func(a *payment.Attempt) { a.Payee = "THERMERCHANT2" })
	p, err := b.Prepare(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Prepared, p.State)
	assert.Equal(t, a.Reference(), p.Reference)
	assert.Equal(t, usd(1999), p.Amount)
	assert.False(t, p.Live)
	require.NotNil(t, p.Action)
	assert.True(t, strings.HasPrefix(p.Action.RedirectURL, b.host.URL+"/checkoutnow?token="+p.ID), p.Action.RedirectURL)
	assert.WithinDuration(t, b.clock.Now().Add(3*time.Hour), p.Action.Expires, time.Minute)
	assert.Zero(t, b.charges(a))

	calls := b.sim.Calls(on(createPath))
	require.Len(t, calls, 1)
	assert.Equal(t, a.Key("prepare"), calls[0].Header.Get("PayPal-Request-Id"))
	assert.JSONEq(t, `{"intent":"CAPTURE",
		"purchase_units":[{"amount":{"currency_code":"USD","value":"19.99"},"payee":{"merchant_id":"THERMERCHANT2"},
			"description":"Planted description","custom_id":"order-1.2@tenant-1:user-42","invoice_id":"order-1@tenant-1"}],
		"payment_source":{"paypal":{"experience_context":{"return_url":"https://shop.example.com/paid?token=planted-return",
			"cancel_url":"https://shop.example.com/cart","user_action":"PAY_NOW","shipping_preference":"NO_SHIPPING"}}}}`, string(calls[0].Body))
}

func TestWhatAnOrderAsksForIsInTheRequest(t *testing.T) {
	b := open(t)
	b.Shipping = true
	b.prepared(hold, func(a *payment.Attempt) {
		a.Tenant, a.Order.User, a.Order.CancelURL, a.Order.Description, a.Order.Save = "", "", "", "", payment.OffSession
		a.Order.Amount = payment.Money{Minor: 5}
	})
	assert.JSONEq(t, `{"intent":"AUTHORIZE",
		"purchase_units":[{"amount":{"currency_code":"USD","value":"0.05"},"custom_id":"order-1.2","invoice_id":"order-1"}],
		"payment_source":{"paypal":{"attributes":{"vault":{"store_in_vault":"ON_SUCCESS","usage_type":"MERCHANT"}},
			"experience_context":{"return_url":"https://shop.example.com/paid?token=planted-return",
			"cancel_url":"https://shop.example.com/paid?token=planted-return","user_action":"PAY_NOW","shipping_preference":"GET_FROM_FILE"}}}}`,
		bodies(b, on(createPath)))
}

// PayPal charges a vault id that comes with the creation of an order in one step.
func TestASavedMethodIsNeverSentBeforeTheCommit(t *testing.T) {
	for _, kind := range []string{"paypal", "card", "venmo"} {
		for _, change := range []func(*payment.Attempt){hold, merchantDoes, func(*payment.Attempt) {}} {
			b := open(t)
			a := b.attempt(b.saved(kind, simulator.Outcome{}), change)
			p, err := b.Prepare(t.Context(), a)
			require.NoError(t, err)
			assert.Equal(t, payment.Prepared, p.State)
			assert.Nil(t, p.Action, "nobody has to approve")
			assert.NotContains(t, bodies(b, on(createPath)), "vault_id")
			assert.NotContains(t, bodies(b, on(createPath)), "payment_source")
			assert.Zero(t, b.charges(a))
			assert.Equal(t, simulator.Balance{}, b.balance(a))
		}
	}
}

func TestTheSameAttemptPreparedTwiceIsOneOrder(t *testing.T) {
	b := open(t)
	first, err := b.Prepare(t.Context(), b.attempt())
	require.NoError(t, err)
	again, err := b.Prepare(t.Context(), b.attempt())
	require.NoError(t, err)
	assert.Equal(t, first.ID, again.ID)

	a := b.attempt()
	a.PaymentID = first.ID
	known, err := b.Prepare(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, first.ID, known.ID)
	assert.Len(t, b.sim.Calls(on(createPath)), 2, "one whose id is known is looked up")

	other, err := b.Prepare(t.Context(), b.attempt(func(a *payment.Attempt) { a.Number = 3 }))
	require.NoError(t, err)
	assert.NotEqual(t, first.ID, other.ID)
}

func TestAKeyThatStandsForAnotherOrderIsAConflict(t *testing.T) {
	b := open(t)
	b.prepared()
	_, err := b.Prepare(t.Context(), b.attempt(costs(2000, "USD")))
	isFault(t, err, fault.Conflict, "")
}

func TestAmountsAreWrittenAsPayPalCountsThem(t *testing.T) {
	for _, c := range []struct {
		amount payment.Money
		want   string
	}{
		{payment.Money{Minor: 1, Currency: "EUR"}, "0.01"},
		{payment.Money{Minor: 100, Currency: "EUR"}, "1.00"},
		{payment.Money{Minor: 500, Currency: "JPY"}, "500"},
		{payment.Money{Minor: 50000, Currency: "HUF"}, "500"}, // of 100 fillér
		{payment.Money{Minor: 700, Currency: "TWD"}, "7"},
		{payment.Money{Minor: 99_999_999_999_999_999, Currency: "USD"}, "999999999999999.99"},
	} {
		b := open(t)
		p, err := b.Prepare(t.Context(), b.attempt(costs(c.amount.Minor, c.amount.Currency)))
		require.NoError(t, err)
		assert.Equal(t, c.amount, p.Amount)
		var sent struct {
			Units []struct{ Amount struct{ Value string } } `json:"purchase_units"`
		}
		require.NoError(t, json.Unmarshal([]byte(bodies(b, on(createPath))), &sent))
		assert.Equal(t, c.want, sent.Units[0].Amount.Value)
	}
}

func TestWhatPayPalCantTakeIsSaidWithoutIO(t *testing.T) {
	b := open(t)
	for name, c := range map[string]struct {
		change func(*payment.Attempt)
		field  string
	}{
		"a currency that PayPal doesn't take": {costs(100, "INR"), "amount.currency"},
		"three decimals":                      {costs(1000, "KWD"), "amount.currency"},
		"decimals of a currency without":      {costs(50050, "HUF"), "amount.minor"},
		"decimals of TWD":                     {costs(101, "TWD"), "amount.minor"},
		"nothing":                             {costs(0, "USD"), "amount.minor"},
		"less than nothing":                   {costs(-1, "USD"), "amount.minor"},
		"more than PayPal takes":              {costs(100_000_000_000_000_000, "USD"), "amount.minor"},
		"a merchant without a saved method":   {merchantDoes, "method"},
		"no page to come back to":             {func(a *payment.Attempt) { a.Order.ReturnURL = "" }, "return_url"},
		"a method that isn't a vault id":      {with("card:a.b"), "method.id"},
		"a method of a kind that there isn't": {with("bank:1"), "method.id"},
		"a payee that isn't a merchant's id":  {func(a *payment.Attempt) { a.Payee = "merchant@example.com" }, "payee"},
	} {
		t.Run(name, func(t *testing.T) {
			a := b.attempt(c.change)
			err := b.CanTake(a)
			isFault(t, err, fault.Unsupported, "")
			assert.Equal(t, c.field, fieldOf(t, err))
			_, err = b.Prepare(t.Context(), a)
			require.ErrorIs(t, err, fault.Unsupported)
		})
	}
	assert.Empty(t, b.sim.Calls(anything))
	require.NoError(t, b.CanTake(b.attempt()))
	require.NoError(t, b.CanTake(b.attempt(with("8kk8451t"), merchantDoes, func(a *payment.Attempt) { a.Order.ReturnURL = "" })))
	require.NoError(t, b.CanTake(b.attempt(func(a *payment.Attempt) { a.Order.Amount = payment.Money{Minor: 1} })))
}

func TestAnAttemptOfAnotherAccountIsRefusedBeforeAnyIO(t *testing.T) {
	b := open(t)
	a := b.prepared()
	before := len(b.sim.Calls(anything))
	a.Identity.Live = true
	_, err := b.Commit(t.Context(), a)
	isFault(t, err, fault.Denied, "")
	_, err = b.LookUp(t.Context(), a)
	isFault(t, err, fault.Denied, "")
	_, err = b.CaptureAttempt(t.Context(), a, usd(1))
	isFault(t, err, fault.Denied, "")
	_, err = b.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: "r", Amount: usd(1)})
	isFault(t, err, fault.Denied, "")
	a.PaymentID = ""
	_, err = b.Prepare(t.Context(), a)
	isFault(t, err, fault.Denied, "")
	assert.Len(t, b.sim.Calls(anything), before)
}

func TestAnOrderIsFollowedByLookUp(t *testing.T) {
	b := open(t)
	a := b.prepared()
	p, err := b.LookUp(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Prepared, p.State)
	require.NotNil(t, p.Action)

	_, err = b.sim.Approve(a.PaymentID, simulator.Outcome{})
	require.NoError(t, err)
	p, err = b.LookUp(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Prepared, p.State)
	assert.Nil(t, p.Action, "it is to be committed")

	b.clock.Advance(4 * time.Hour)
	p, err = b.LookUp(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Ended, p.State)
	assert.Equal(t, "VOIDED", p.Reason)
}

func TestAnOrderThatNobodyApprovedHasEnded(t *testing.T) {
	b := open(t)
	a := b.prepared()
	b.clock.Advance(4 * time.Hour)
	_, err := b.LookUp(t.Context(), a)
	isFault(t, err, fault.NotFound, "INVALID_RESOURCE_ID") // by our clock it is young: it may not be found yet
	_, err = b.Fence(t.Context(), a)
	isFault(t, err, fault.NotFound, "INVALID_RESOURCE_ID") // nor is it fenced

	a.Began = time.Now().Add(-4 * time.Hour)
	p, err := b.Fence(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Ended, p.State)
	p, err = b.LookUp(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Ended, p.State)
	assert.Equal(t, "EXPIRED", p.Reason)
	assert.Equal(t, a.Reference(), p.Reference)
	assert.Equal(t, usd(1999), p.Amount)

	for name, change := range map[string]func(*payment.Attempt){
		"one that is known to have been charged":                  func(a *payment.Attempt) { a.ChargeID = "3C679366HH908993F" },
		"one that was held":                                       func(a *payment.Attempt) { a.AuthorizationID = "3C679366HH908993F" },
		"one so old that PayPal may have forgotten what was paid": func(a *payment.Attempt) { a.Began = time.Now().Add(-31 * 24 * time.Hour) },
	} {
		other := *a
		change(&other)
		_, err = b.LookUp(t.Context(), &other)
		require.ErrorIs(t, err, fault.NotFound, name)
	}
}

func TestALookUpNeedsPayPalsID(t *testing.T) {
	b := open(t)
	for _, do := range []func() error{
		func() error { _, err := b.LookUp(t.Context(), b.attempt()); return err },
		func() error { _, err := b.Fence(t.Context(), b.attempt()); return err },
	} {
		err := do()
		isFault(t, err, fault.Unsupported, "")
		assert.Equal(t, "payment_id", fieldOf(t, err))
	}
	for _, id := range []string{"../orders", "a/b", "a?b", strings.Repeat("A", 65), "ä"} {
		_, err := b.LookUp(t.Context(), b.attempt(func(a *payment.Attempt) { a.PaymentID = id }))
		isFault(t, err, fault.Invalid, "")
		_, err = b.Commit(t.Context(), b.attempt(func(a *payment.Attempt) { a.PaymentID = id }))
		isFault(t, err, fault.Invalid, "")
	}
	assert.Empty(t, b.sim.Calls(anything))
	_, err := b.LookUp(t.Context(), b.attempt(func(a *payment.Attempt) { a.PaymentID = "5O190127TN364715T" }))
	isFault(t, err, fault.NotFound, "INVALID_RESOURCE_ID")
}

func TestAnOpenOrderCantBeFencedOff(t *testing.T) {
	b := open(t)
	for _, a := range []*payment.Attempt{b.prepared(), b.approved(simulator.Outcome{}, func(a *payment.Attempt) { a.Number = 3 })} {
		_, err := b.Fence(t.Context(), a)
		isFault(t, err, fault.Unsupported, "")
		require.ErrorIs(t, err, fault.Unsupported)
	}
	a := b.approved(simulator.Outcome{}, func(a *payment.Attempt) { a.Number = 4 })
	b.committed(a)
	p, err := b.Fence(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Paid, p.State, "too late")
}
