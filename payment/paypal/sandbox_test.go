package paypal_test

import (
	"crypto/rand"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paypal"
	"github.com/smilefactory/integrations/secret"
)

// What needs nobody to approve, at PayPal's own sandbox. With PAYPAL_METHOD, a vault
// id of the account, it also charges, holds, voids and refunds.
func TestSandbox(t *testing.T) {
	id := os.Getenv("PAYPAL_CLIENT_ID")
	if id == "" || os.Getenv("PAYPAL_SECRET") == "" {
		t.Skip("PAYPAL_CLIENT_ID and PAYPAL_SECRET aren't set: nothing is tried at PayPal's sandbox")
	}
	g := &paypal.Gateway{ClientID: id, Secret: secret.Env("PAYPAL_SECRET"), Sandbox: true}
	order := func() *payment.Attempt {
		return &payment.Attempt{
			Number: 1, Identity: g.Identity(), Provider: "paypal", Began: time.Now(),
			Order: &payment.Order{ID: "test-" + rand.Text(), User: "user-42", Amount: usd(199), ReturnURL: "https://example.com/paid"},
		}
	}
	t.Run("an order that isn't approved", func(t *testing.T) {
		a := order()
		p, err := g.Prepare(t.Context(), a)
		require.NoError(t, err)
		require.NotNil(t, p.Action)
		again, err := g.Prepare(t.Context(), a)
		require.NoError(t, err)
		assert.Equal(t, p.ID, again.ID)
		a.PaymentID = p.ID
		p, err = g.LookUp(t.Context(), a)
		require.NoError(t, err)
		assert.Equal(t, []any{payment.Prepared, a.Reference()}, []any{p.State, p.Reference})
		p, err = g.Commit(t.Context(), a)
		require.NoError(t, err)
		assert.Equal(t, payment.Prepared, p.State)
		assert.NotNil(t, p.Action)
		_, err = g.Fence(t.Context(), a)
		require.ErrorIs(t, err, fault.Unsupported)
	})
	t.Run("an order that there isn't", func(t *testing.T) {
		a := order()
		a.PaymentID = "5O190127TN364715T"
		_, err := g.LookUp(t.Context(), a)
		require.ErrorIs(t, err, fault.NotFound)
	})
	t.Run("a saved method", func(t *testing.T) { sandboxCharges(t, g, order) })
}

func sandboxCharges(t *testing.T, g *paypal.Gateway, order func() *payment.Attempt) {
	t.Helper()
	method := os.Getenv("PAYPAL_METHOD")
	if method == "" {
		t.Skip("PAYPAL_METHOD isn't set to a vault id: nothing is charged at PayPal's sandbox")
	}
	commit := func(hold bool) *payment.Attempt {
		a := order()
		a.Method.ID, a.Order.Presence, a.Order.Hold = method, payment.MerchantInitiated, hold
		p, err := g.Prepare(t.Context(), a)
		require.NoError(t, err)
		a.PaymentID = p.ID
		first, err := g.Commit(t.Context(), a)
		require.NoError(t, err)
		again, err := g.Commit(t.Context(), a)
		require.NoError(t, err)
		assert.Equal(t, first.ChargeID, again.ChargeID)
		a.ChargeID, a.AuthorizationID = first.ChargeID, first.AuthorizationID
		return a
	}
	a := commit(false)
	r, err := g.RefundAttempt(t.Context(), refunding(a, "r-1", 100))
	require.NoError(t, err)
	found, err := g.LookUpRefund(t.Context(), refunding(a, "r-1", 100))
	require.NoError(t, err)
	assert.Equal(t, r.ProviderID, found.ProviderID)
	held := commit(true)
	for range 2 {
		p, err := g.VoidAttempt(t.Context(), held)
		require.NoError(t, err)
		assert.Equal(t, payment.Ended, p.State)
	}
	p, err := g.CaptureAttempt(t.Context(), commit(true), usd(100))
	require.NoError(t, err)
	assert.Equal(t, payment.Paid, p.State)
}
