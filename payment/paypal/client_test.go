package paypal_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	simulator "github.com/smilefactory/integrations/internal/sim/paypal"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/resilience"
)

// client is PayPal in a Client, by the simulator's clock.
func client(t *testing.T) (*bench, *payment.Client) {
	t.Helper()
	b := hooked(t)
	return b, b.client()
}

func (b *bench) client() *payment.Client {
	b.t.Helper()
	policy := payment.Policy
	policy.Backoff = resilience.Backoff{Initial: time.Millisecond}
	pay, err := payment.New(b.Gateway, payment.WithRules(payment.Rules{Now: b.clock.Now}), payment.WithPolicy(policy))
	require.NoError(b.t, err)
	b.t.Cleanup(func() { assert.NoError(b.t, pay.Close(context.Background())) })
	return pay
}

func theOrder(a *payment.Attempt) *payment.Order {
	o := *a.Order
	if a.Method.ID != "" {
		o.Methods = map[string]payment.Method{"paypal": a.Method}
	}
	return &o
}

func TestAClientTakesAPaymentOverTheApproval(t *testing.T) {
	b, pay := client(t)
	r, err := pay.Charge(t.Context(), theOrder(b.attempt()))
	require.NoError(t, err)
	assert.Equal(t, payment.NeedsAction, r.Status)
	require.NotNil(t, r.Action)
	_, err = b.sim.Approve(r.PaymentID, simulator.Outcome{})
	require.NoError(t, err)

	e := b.event("CHECKOUT.ORDER.APPROVED") // the webhook commits it, whether or not the customer comes back
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hooks/paypal", bytes.NewReader(e.Body))
	req.Header = b.signed(e.Body)
	mux, rec := http.NewServeMux(), httptest.NewRecorder()
	mux.Handle("POST /hooks/{provider...}", pay.Webhooks())
	mux.ServeHTTP(rec, req)
	assert.Equal(t, http.StatusOK, rec.Code, rec.Body.String())

	r, err = pay.Resume(t.Context(), "order-1")
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
	assert.Equal(t, 1, b.sim.Charges.Len())
	refund, err := pay.Refund(t.Context(), "order-1", "r-1", usd(500))
	require.NoError(t, err)
	assert.Equal(t, payment.RefundSucceeded, refund.State)
}

func TestAnAnswerThatIsLostIsLearntByTheClient(t *testing.T) {
	for name, f := range wire {
		t.Run(name, func(t *testing.T) {
			b, pay := client(t)
			f.On, f.Times = on(capturePath), 1
			b.sim.Add(f)
			r, err := pay.Charge(t.Context(), theOrder(b.attempt(b.saved("paypal", simulator.Outcome{}))))
			require.NoError(t, err)
			assert.Equal(t, payment.Succeeded, r.Status)
			assert.Equal(t, 1, b.sim.Charges.Len())
		})
	}
}

func TestADeclineLeadsToAnotherAttemptWithAnotherOrder(t *testing.T) {
	b, pay := client(t)
	r, err := pay.Charge(t.Context(), theOrder(b.attempt(b.saved("card", simulator.Outcome{Issue: "INSTRUMENT_DECLINED"}))))
	require.NoError(t, err)
	assert.Equal(t, payment.Declined, r.Status)
	assert.NotEmpty(t, r.Decline.Message)
	again, err := pay.Charge(t.Context(), theOrder(b.attempt(b.saved("card", simulator.Outcome{}))))
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, again.Status)
	assert.NotEqual(t, r.PaymentID, again.PaymentID)
	assert.Equal(t, 1, b.sim.Charges.Len())
}

func TestWhatNeedsTheCustomerIsSaidWhereHeIsntThere(t *testing.T) {
	b, pay := client(t)
	r, err := pay.Charge(t.Context(), theOrder(b.attempt(b.saved("card", simulator.Outcome{Issue: "PAYER_ACTION_REQUIRED"}), merchantDoes)))
	require.NoError(t, err)
	assert.Equal(t, payment.NeedsCustomer, r.Status)
}

func TestACustomerWhoNeverApprovedHasNotPaid(t *testing.T) {
	b := openAt(t, false, time.Now().Add(-5*time.Hour))
	pay := b.client()
	r, err := pay.Charge(t.Context(), theOrder(b.attempt()))
	require.NoError(t, err)
	assert.Equal(t, payment.NeedsAction, r.Status)
	b.clock.Advance(4 * time.Hour) // PayPal knows nothing of it any more
	r, err = pay.Resume(t.Context(), "order-1")
	require.NoError(t, err)
	assert.Equal(t, payment.Canceled, r.Status)
}

func TestWhatIsHeldIsTakenAndLetGoByTheClient(t *testing.T) {
	for name, void := range map[string]bool{"captured": false, "voided": true} {
		b, pay := client(t)
		r, err := pay.Charge(t.Context(), theOrder(b.attempt(b.saved("paypal", simulator.Outcome{}), hold)))
		require.NoError(t, err)
		assert.Equal(t, payment.Authorized, r.Status)
		want := payment.Succeeded
		if void {
			want = payment.Canceled
			r, err = pay.Void(t.Context(), "order-1")
		} else {
			r, err = pay.Capture(t.Context(), "order-1", usd(500))
		}
		require.NoError(t, err)
		assert.Equal(t, want, r.Status, name)
		assert.Zero(t, b.balance(b.attempt(func(a *payment.Attempt) { a.Tenant, a.Number = "", 1 })).OpenAuthorizations)
	}
}
