package paypal_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/paypal"
	"github.com/smilefactory/integrations/payment"
)

// paid is an attempt that was paid.
func (b *bench) paid(change ...func(*payment.Attempt)) *payment.Attempt {
	b.t.Helper()
	a := b.approved(simulator.Outcome{}, change...)
	require.Equal(b.t, payment.Paid, b.committed(a).State)
	return a
}

func refunding(a *payment.Attempt, id string, minor int64) *payment.Refunding {
	return &payment.Refunding{Attempt: a, ID: id, Amount: usd(minor)}
}

func TestRefundsWholeAndInParts(t *testing.T) {
	b := open(t)
	a := b.paid()
	for i, c := range []struct {
		id    string
		minor int64
		left  int64
	}{{"r-1", 500, 1499}, {"r-2", 1499, 0}} {
		r, err := b.RefundAttempt(t.Context(), refunding(a, c.id, c.minor))
		require.NoError(t, err)
		assert.Equal(t, []any{payment.RefundSucceeded, c.id, usd(c.minor), ""}, []any{r.State, r.ID, r.Amount, r.Reason})
		again, err := b.RefundAttempt(t.Context(), refunding(a, c.id, c.minor))
		require.NoError(t, err)
		assert.Equal(t, r, again, "the same id is one refund")
		assert.Equal(t, i+1, b.balance(a).Refunds)
		p, err := b.LookUp(t.Context(), a)
		require.NoError(t, err)
		assert.Equal(t, []any{payment.Paid, usd(1999), usd(1999 - c.left)}, []any{p.State, p.Captured, p.Refunded})
		byOurs, err := b.LookUpRefund(t.Context(), refunding(a, c.id, c.minor))
		require.NoError(t, err)
		assert.Equal(t, r, byOurs)
		known := refunding(a, c.id, c.minor)
		known.ProviderID = r.ProviderID
		byTheirs, err := b.LookUpRefund(t.Context(), known)
		require.NoError(t, err)
		assert.Equal(t, r, byTheirs)
	}
	_, err := b.RefundAttempt(t.Context(), refunding(a, "r-3", 1))
	isFault(t, err, fault.Conflict, "CAPTURE_FULLY_REFUNDED")
	_, err = b.LookUpRefund(t.Context(), refunding(a, "r-3", 1))
	isFault(t, err, fault.NotFound, "")
	assert.JSONEq(t, `{"amount":{"currency_code":"USD","value":"5.00"},"custom_id":"order-1.2@tenant-1:user-42","invoice_id":"order-1.2@tenant-1/r-1"}`,
		string(b.sim.Calls(on(refundPath))[0].Body))
	assert.Equal(t, refunding(a, "r-1", 0).Key(), b.sim.Calls(on(refundPath))[0].Header.Get("PayPal-Request-Id"))
}

func TestARefundIsFoundWithoutTheChargesID(t *testing.T) {
	b := open(t)
	a := b.paid()
	a.ChargeID = ""
	r, err := b.RefundAttempt(t.Context(), refunding(a, "r-1", 1999))
	require.NoError(t, err)
	assert.Equal(t, payment.RefundSucceeded, r.State)
	open := b.prepared(func(a *payment.Attempt) { a.Number = 3 })
	_, err = b.RefundAttempt(t.Context(), refunding(open, "r-1", 1))
	isFault(t, err, fault.Conflict, "")
}

func TestRefundsThatArePendingFailOrAreCancelled(t *testing.T) {
	for status, want := range map[string]payment.RefundState{
		"PENDING": payment.RefundPending, "FAILED": payment.RefundFailed, "CANCELLED": payment.RefundFailed,
	} {
		b := open(t)
		a := b.paid()
		b.sim.NextRefund(simulator.RefundOutcome{Status: status})
		r, err := b.RefundAttempt(t.Context(), refunding(a, "r-1", 1999))
		require.NoError(t, err)
		assert.Equal(t, want, r.State)
		assert.NotEmpty(t, r.Reason)
		p, err := b.LookUp(t.Context(), a)
		require.NoError(t, err)
		assert.Equal(t, []any{payment.Paid, usd(0)}, []any{p.State, p.Refunded}, "nothing went back")
		looked, err := b.LookUpRefund(t.Context(), refunding(a, "r-1", 1999))
		require.NoError(t, err)
		assert.Equal(t, r, looked)
	}
}

func TestAPendingRefundEndsByLookUp(t *testing.T) {
	for status, want := range map[string]payment.RefundState{"COMPLETED": payment.RefundSucceeded, "FAILED": payment.RefundFailed} {
		b := open(t)
		a := b.paid()
		b.sim.NextRefund(simulator.RefundOutcome{Status: "PENDING"})
		r, err := b.RefundAttempt(t.Context(), refunding(a, "r-1", 1999))
		require.NoError(t, err)
		require.NoError(t, b.sim.SettleRefund(r.ProviderID, status))
		known := refunding(a, "r-1", 1999)
		known.ProviderID = r.ProviderID
		r, err = b.LookUpRefund(t.Context(), known)
		require.NoError(t, err)
		assert.Equal(t, want, r.State)
	}
}

func TestRefundsThatPayPalWontMake(t *testing.T) {
	for issue, kind := range map[string]fault.Kind{
		"REFUND_FAILED_INSUFFICIENT_FUNDS": fault.Exhausted, "REFUND_NOT_ALLOWED": fault.Rejected,
		"REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK": fault.Rejected, "TRANSACTION_DISPUTED": fault.Rejected,
		"PAYEE_ACCOUNT_RESTRICTED": fault.Denied,
	} {
		b := open(t)
		a := b.paid()
		b.sim.NextRefund(simulator.RefundOutcome{Issue: issue})
		_, err := b.RefundAttempt(t.Context(), refunding(a, "r-1", 1999))
		isFault(t, err, kind, issue)
		assert.False(t, fault.MayHaveActed(err), "its amount is free again")
		assert.Zero(t, b.balance(a).Refunds)
	}
	b := open(t)
	a := b.paid()
	_, err := b.RefundAttempt(t.Context(), refunding(a, "r-1", 2000))
	isFault(t, err, fault.Conflict, "REFUND_AMOUNT_EXCEEDED")
	_, err = b.RefundAttempt(t.Context(), refunding(a, "r-1", 0))
	isFault(t, err, fault.Unsupported, "")
	pending := b.approved(simulator.Outcome{Status: "PENDING"}, func(a *payment.Attempt) { a.Order.ID = "order-2" })
	b.committed(pending)
	_, err = b.RefundAttempt(t.Context(), refunding(pending, "r-1", 1))
	isFault(t, err, fault.Conflict, "PENDING_CAPTURE")
}

func TestALostAnswerToARefundIsLearnt(t *testing.T) {
	for name, learn := range map[string]func(*bench, *payment.Refunding) (*payment.Refund, error){
		"by repetition": func(b *bench, r *payment.Refunding) (*payment.Refund, error) {
			return b.RefundAttempt(b.t.Context(), r)
		},
		"by look-up": func(b *bench, r *payment.Refunding) (*payment.Refund, error) { return b.LookUpRefund(b.t.Context(), r) },
		"by repetition when PayPal has forgotten the key": func(b *bench, r *payment.Refunding) (*payment.Refund, error) {
			b.clock.Advance(46 * 24 * time.Hour)
			return b.RefundAttempt(b.t.Context(), r)
		},
		"by repetition of an old attempt": func(b *bench, r *payment.Refunding) (*payment.Refund, error) {
			r.Attempt.Began = time.Now().Add(-46 * 24 * time.Hour)
			b.clock.Advance(46 * 24 * time.Hour)
			return b.RefundAttempt(b.t.Context(), r)
		},
	} {
		for _, minor := range []int64{1999, 700} {
			t.Run(name, func(t *testing.T) {
				b := open(t)
				a := b.paid()
				b.sim.Add(sim.Fault{On: on(refundPath), At: sim.AfterActing, Do: sim.Close, Nth: 1})
				_, err := b.RefundAttempt(t.Context(), refunding(a, "r-1", minor))
				assert.True(t, isFault(t, err, fault.Uncertain, "").Deduped)
				r, err := learn(b, refunding(a, "r-1", minor))
				require.NoError(t, err)
				assert.Equal(t, []any{payment.RefundSucceeded, usd(minor)}, []any{r.State, r.Amount})
				assert.Equal(t, 1, b.balance(a).Refunds)
			})
		}
	}
}

func TestAnOldPaymentIsRefundedOnceNoRefundWasFound(t *testing.T) {
	b := open(t)
	a := b.paid()
	old := refunding(a, "r-1", 1999)
	old.Began = time.Now().Add(-46 * 24 * time.Hour)
	b.sim.Add(sim.Fault{On: got(orderPath), At: sim.BeforeActing, Do: sim.Reset})
	_, err := b.RefundAttempt(t.Context(), old)
	isFault(t, err, fault.Uncertain, "")
	assert.Empty(t, b.sim.Calls(on(refundPath)), "nothing is sent where that isn't known")
	b.sim.Heal()

	b.sim.Add(sim.Fault{On: on(refundPath), At: sim.AfterActing, Do: sim.Reset, Nth: 1})
	_, err = b.RefundAttempt(t.Context(), old)
	assert.False(t, isFault(t, err, fault.Uncertain, "").Deduped)
	r, err := b.RefundAttempt(t.Context(), old)
	require.NoError(t, err)
	assert.Equal(t, payment.RefundSucceeded, r.State)
	assert.Len(t, b.sim.Calls(on(refundPath)), 1)
}

// Not to find the order doesn't say that there is no refund of it.
func TestARefundOfAnOrderThatIsntFoundIsUncertain(t *testing.T) {
	b := open(t)
	a := b.paid()
	b.sim.Add(sim.Fault{On: got(orderPath), At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.Error(http.StatusNotFound, "INVALID_RESOURCE_ID")})
	_, err := b.LookUpRefund(t.Context(), refunding(a, "r-1", 1999))
	isFault(t, err, fault.Uncertain, "")
}

func TestTheLongestIDsFit(t *testing.T) {
	b := open(t)
	a := b.paid(func(a *payment.Attempt) {
		a.Tenant, a.Order.ID, a.Order.User, a.Number = strings.Repeat("t", 36), strings.Repeat("o", 44), strings.Repeat("u", 36), 999
	})
	id := strings.Repeat("r", 64)
	first, err := b.RefundAttempt(t.Context(), refunding(a, id, 500))
	require.NoError(t, err)
	_, err = b.RefundAttempt(t.Context(), refunding(a, id[1:], 500))
	require.NoError(t, err)
	r, err := b.LookUpRefund(t.Context(), refunding(a, id, 500))
	require.NoError(t, err)
	assert.Equal(t, first, r)
}
