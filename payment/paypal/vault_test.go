package paypal_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/paypal"
	"github.com/smilefactory/integrations/payment"
)

const (
	setupPath  = "/v3/vault/setup-tokens"
	vaultPath  = "/v3/vault/payment-tokens"
	methodPath = "/v3/vault/payment-tokens/*"
)

func setup(change ...func(*payment.Setup)) *payment.Setup {
	s := &payment.Setup{ID: "setup-1", User: "user-42", OffSession: true, ReturnURL: returnURL, Key: "setup-key"}
	for _, c := range change {
		c(s)
	}
	return s
}

func TestAWalletIsSavedOnceTheCustomerAgreed(t *testing.T) {
	b := open(t)
	r, err := b.SetupPaymentMethod(t.Context(), setup())
	require.NoError(t, err)
	require.NotNil(t, r.Action)
	assert.Contains(t, r.Action.RedirectURL, r.ID)
	assert.Nil(t, r.Method)
	assert.NotEmpty(t, r.Customer)
	again, err := b.SetupPaymentMethod(t.Context(), setup())
	require.NoError(t, err)
	assert.Equal(t, r, again, "the same twice is one")

	_, err = b.Attach(t.Context(), r.Customer, r.ID)
	isFault(t, err, fault.Conflict, "PAYER_ACTION_REQUIRED")
	_, err = b.sim.Approve(r.ID, simulator.Outcome{})
	require.NoError(t, err)
	m, err := b.Attach(t.Context(), r.Customer, r.ID)
	require.NoError(t, err)
	assert.Equal(t, &payment.SavedMethod{Method: payment.Method{ID: m.ID, Customer: r.Customer}, Type: "paypal", Reusable: true}, m)
	twice, err := b.Attach(t.Context(), r.Customer, r.ID)
	require.NoError(t, err)
	assert.Equal(t, m, twice)

	assert.Equal(t, payment.Paid, b.committed(b.prepared(with(m.ID), merchantDoes)).State, "and pays")
	assert.JSONEq(t, `{"payment_source":{"paypal":{"usage_type":"MERCHANT","experience_context":{"shipping_preference":"NO_SHIPPING",
		"return_url":"https://shop.example.com/paid?token=planted-return","cancel_url":"https://shop.example.com/paid?token=planted-return"}}}}`,
		string(b.sim.Calls(on(setupPath))[0].Body))
	assert.Equal(t, "setup-key", b.sim.Calls(on(setupPath))[0].Header.Get("PayPal-Request-Id"))
}

func TestASetupWithATokenSavesItsMethod(t *testing.T) {
	b := open(t)
	r, err := b.SetupPaymentMethod(t.Context(), setup(func(s *payment.Setup) { s.Customer = "customer1" }))
	require.NoError(t, err)
	assert.Equal(t, "customer1", r.Customer)
	_, err = b.sim.Approve(r.ID, simulator.Outcome{})
	require.NoError(t, err)
	done, err := b.SetupPaymentMethod(t.Context(), setup(func(s *payment.Setup) { s.Customer, s.Method, s.Key = "customer1", r.ID, "k2" }))
	require.NoError(t, err)
	require.NotNil(t, done.Method)
	assert.Equal(t, "customer1", done.Customer)
	declined, err := b.SetupPaymentMethod(t.Context(), setup(func(s *payment.Setup) { s.Customer, s.Method, s.Key = "customer1", r.ID, "k3" }))
	require.NoError(t, err)
	require.NotNil(t, declined.Decline, "the token is used up")
	assert.Equal(t, payment.MethodInvalid, declined.Decline.Reason)
}

func TestAnotherCustomersTokenIsAConflict(t *testing.T) {
	b := open(t)
	r, err := b.SetupPaymentMethod(t.Context(), setup(func(s *payment.Setup) { s.Customer = "customer1" }))
	require.NoError(t, err)
	_, err = b.sim.Approve(r.ID, simulator.Outcome{})
	require.NoError(t, err)
	_, err = b.Attach(t.Context(), "customer2", r.ID)
	isFault(t, err, fault.Conflict, "")
	assert.Equal(t, "customer", fieldOf(t, err))
}

func TestSavedMethodsAreListedOverAllPages(t *testing.T) {
	b := open(t)
	want := map[string]string{}
	for i := range 12 {
		kind := []string{"paypal", "card", "venmo"}[i%3]
		id, err := b.sim.SaveMethod(clientID, "customer1", kind, simulator.Outcome{})
		require.NoError(t, err)
		if kind != "paypal" {
			id = kind + ":" + id
		}
		want[id] = kind
	}
	_, err := b.sim.SaveMethod(clientID, "customer2", "card", simulator.Outcome{})
	require.NoError(t, err)
	list, err := b.SavedMethods(t.Context(), "customer1")
	require.NoError(t, err)
	found := map[string]string{}
	for _, m := range list {
		found[m.ID] = m.Type
		assert.Equal(t, "customer1", m.Customer)
		assert.True(t, m.Reusable)
		if m.Type == "card" {
			assert.Equal(t, "VISA 1111 2/2035", fmt.Sprintf("%s %s %d/%d", m.Brand, m.Last4, m.ExpMonth, m.ExpYear))
		}
	}
	assert.Equal(t, want, found)
	none, err := b.SavedMethods(t.Context(), "customer3")
	require.NoError(t, err)
	assert.Empty(t, none)
}

func TestAMethodIsForgottenByItsCustomerAlone(t *testing.T) {
	b := open(t)
	for _, kind := range []string{"paypal", "card"} {
		id := b.attempt(b.saved(kind, simulator.Outcome{})).Method.ID
		err := b.Detach(t.Context(), "customer2", id)
		isFault(t, err, fault.NotFound, "")
		require.NoError(t, b.Detach(t.Context(), "customer1", id))
		err = b.Detach(t.Context(), "customer1", id)
		isFault(t, err, fault.NotFound, "INVALID_RESOURCE_ID")
	}
	assert.Len(t, b.sim.Calls(sim.Match{Method: http.MethodDelete, Path: methodPath}), 2)
}

func TestWhatTheWalletNeedsIsSaidBeforeAnyIO(t *testing.T) {
	b := open(t)
	for name, c := range map[string]struct {
		do    func() error
		kind  fault.Kind
		field string
	}{
		"a page to come back to": {func() error {
			_, err := b.SetupPaymentMethod(t.Context(), setup(func(s *payment.Setup) { s.ReturnURL = "" }))
			return err
		}, fault.Unsupported, "return_url"},
		"a key": {func() error {
			_, err := b.SetupPaymentMethod(t.Context(), setup(func(s *payment.Setup) { s.Key = "" }))
			return err
		}, fault.Invalid, "key"},
		"a key for a token": {func() error {
			_, err := b.SetupPaymentMethod(t.Context(), setup(func(s *payment.Setup) { s.Key, s.Method = "", "T1" }))
			return err
		}, fault.Invalid, "key"},
		"a customer's id": {func() error {
			_, err := b.SetupPaymentMethod(t.Context(), setup(func(s *payment.Setup) { s.Customer = "a/b" }))
			return err
		}, fault.Invalid, "customer"},
		"a customer's id to attach": {func() error { _, err := b.Attach(t.Context(), "a b", "T1"); return err }, fault.Invalid, "customer"},
		"a token's id":              {func() error { _, err := b.Attach(t.Context(), "", "a/b"); return err }, fault.Invalid, "method"},
		"a customer to list":        {func() error { _, err := b.SavedMethods(t.Context(), "a&page=2"); return err }, fault.Invalid, "customer"},
		"a method to forget":        {func() error { return b.Detach(t.Context(), "customer1", "../x") }, fault.Invalid, "method"},
		"a customer to forget of":   {func() error { return b.Detach(t.Context(), "", "T1") }, fault.Invalid, "customer"},
		"a usual method":            {func() error { return b.SetDefault(t.Context(), "customer1", "T1") }, fault.Unsupported, "method"},
	} {
		err := c.do()
		isFault(t, err, c.kind, "")
		assert.Equal(t, c.field, fieldOf(t, err), name)
	}
	assert.Empty(t, b.sim.Calls(anything))
}

func TestALostAnswerOfTheVaultIsLearntByRepetition(t *testing.T) {
	b := open(t)
	b.sim.Add(sim.Fault{On: on(setupPath), At: sim.AfterActing, Do: sim.Close, Nth: 1}, sim.Fault{On: on(vaultPath), At: sim.AfterActing, Do: sim.Close, Nth: 1})
	_, err := b.SetupPaymentMethod(t.Context(), setup())
	assert.True(t, isFault(t, err, fault.Uncertain, "").Deduped)
	r, err := b.SetupPaymentMethod(t.Context(), setup())
	require.NoError(t, err)
	_, err = b.sim.Approve(r.ID, simulator.Outcome{})
	require.NoError(t, err)
	_, err = b.Attach(t.Context(), r.Customer, r.ID)
	isFault(t, err, fault.Uncertain, "")
	_, err = b.Attach(t.Context(), r.Customer, r.ID)
	require.NoError(t, err)
	list, err := b.SavedMethods(t.Context(), r.Customer)
	require.NoError(t, err)
	assert.Len(t, list, 1)
}
