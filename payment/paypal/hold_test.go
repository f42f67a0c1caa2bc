package paypal_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/paypal"
	"github.com/smilefactory/integrations/payment"
)

// held is an attempt whose money is held.
func (b *bench) held(change ...func(*payment.Attempt)) *payment.Attempt {
	b.t.Helper()
	a := b.approved(simulator.Outcome{}, append(change, hold)...)
	p := b.committed(a)
	require.Equal(b.t, payment.Held, p.State)
	return a
}

func TestAHeldPaymentSaysUntilWhen(t *testing.T) {
	b := open(t)
	a := b.approved(simulator.Outcome{}, hold)
	p := b.committed(a)
	assert.Equal(t, payment.Held, p.State)
	assert.NotEmpty(t, p.AuthorizationID)
	assert.Empty(t, p.ChargeID)
	assert.WithinDuration(t, b.clock.Now().Add(29*24*time.Hour), p.HeldUntil, time.Minute)
	assert.Equal(t, usd(0), p.Captured)
	assert.Equal(t, p, b.committed(a), "the same twice")
	assert.Equal(t, 1, b.balance(a).OpenAuthorizations)
}

func TestAuthorizationsThatArePendingOrDenied(t *testing.T) {
	for status, want := range map[string]payment.State{"PENDING": payment.Processing, "DECLINED": payment.Refused} {
		b := open(t)
		a := b.approved(simulator.Outcome{Status: status}, hold)
		p := b.committed(a)
		assert.Equal(t, want, p.State)
		assert.Equal(t, want == payment.Refused, p.Decline != nil)
		if status == "PENDING" {
			require.NoError(t, b.sim.SettleAuthorization(p.AuthorizationID, "CREATED"))
			p, err := b.LookUp(t.Context(), a)
			require.NoError(t, err)
			assert.Equal(t, payment.Held, p.State)
		}
	}
}

func TestWhatIsHeldIsTakenInPartOrInWhole(t *testing.T) {
	for _, minor := range []int64{1999, 500} {
		for _, known := range []bool{true, false} {
			b := open(t)
			a := b.held()
			if !known {
				a.AuthorizationID = ""
			}
			p, err := b.CaptureAttempt(t.Context(), a, usd(minor))
			require.NoError(t, err)
			assert.Equal(t, []any{payment.Paid, usd(1999), usd(minor)}, []any{p.State, p.Amount, p.Captured})
			assert.NotEmpty(t, p.AuthorizationID)
			again, err := b.CaptureAttempt(t.Context(), a, usd(minor))
			require.NoError(t, err)
			assert.Equal(t, p, again)
			assert.Equal(t, 1, b.charges(a))
			assert.Zero(t, b.balance(a).OpenAuthorizations, "the rest is let go")
			looked, err := b.LookUp(t.Context(), a)
			require.NoError(t, err)
			assert.Equal(t, []any{payment.Paid, p.ChargeID, usd(minor)}, []any{looked.State, looked.ChargeID, looked.Captured})
			assert.Contains(t, bodies(b, on(takePath)), `"final_capture":true`)
			assert.Equal(t, a.CaptureKey(), b.sim.Calls(on(takePath))[0].Header.Get("PayPal-Request-Id"))
		}
	}
}

func TestACaptureOfWhatIsHeldMayBePending(t *testing.T) {
	b := open(t)
	a := b.held()
	b.sim.NextCharge(simulator.Outcome{Status: "PENDING", Reason: "ECHECK"})
	p, err := b.CaptureAttempt(t.Context(), a, usd(1999))
	require.NoError(t, err)
	assert.Equal(t, []any{payment.Processing, "ECHECK"}, []any{p.State, p.Reason})
	looked, err := b.LookUp(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Processing, looked.State)
}

func TestACaptureThatIsRefusedLeavesTheHold(t *testing.T) {
	for name, outcome := range map[string]simulator.Outcome{
		"TRANSACTION_REFUSED": {Issue: "TRANSACTION_REFUSED"}, "5120": {Status: "DECLINED", Code: "5120"},
	} {
		b := open(t)
		a := b.held()
		b.sim.NextCharge(outcome)
		_, err := b.CaptureAttempt(t.Context(), a, usd(1999))
		f := isFault(t, err, fault.Rejected, name)
		assert.False(t, f.Deduped)
		p, err := b.LookUp(t.Context(), a)
		require.NoError(t, err)
		assert.Equal(t, payment.Held, p.State)
		assert.Nil(t, p.Decline)
	}
}

func TestACaptureOfMoreThanIsHeldIsRefused(t *testing.T) {
	b := open(t)
	_, err := b.CaptureAttempt(t.Context(), b.held(), usd(1999+7501))
	isFault(t, err, fault.Conflict, "MAX_CAPTURE_AMOUNT_EXCEEDED")
	_, err = b.CaptureAttempt(t.Context(), b.attempt(), payment.Money{Minor: 1, Currency: "KWD"})
	isFault(t, err, fault.Unsupported, "")
}

func TestWhatIsHeldIsLetGoOnce(t *testing.T) {
	b := open(t)
	a := b.held()
	for range 2 {
		p, err := b.VoidAttempt(t.Context(), a)
		require.NoError(t, err)
		assert.Equal(t, []any{payment.Ended, "VOIDED", usd(0)}, []any{p.State, p.Reason, p.Captured})
	}
	assert.Zero(t, b.balance(a).OpenAuthorizations)
	p, err := b.LookUp(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, []any{payment.Ended, "VOIDED"}, []any{p.State, p.Reason})
	assert.Empty(t, b.sim.Calls(on(voidPath))[0].Header.Get("PayPal-Request-Id"), "PayPal keeps none")

	p, err = b.CaptureAttempt(t.Context(), a, usd(1999))
	require.NoError(t, err)
	assert.Equal(t, payment.Ended, p.State, "too late to capture")
}

func TestWhatWasTakenCantBeLetGo(t *testing.T) {
	b := open(t)
	a := b.held()
	_, err := b.CaptureAttempt(t.Context(), a, usd(500))
	require.NoError(t, err)
	p, err := b.VoidAttempt(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, []any{payment.Paid, usd(500)}, []any{p.State, p.Captured}, "the truth")
	b.clock.Advance(50 * 24 * time.Hour) // PayPal has forgotten the key
	p, err = b.CaptureAttempt(t.Context(), a, usd(500))
	require.NoError(t, err)
	assert.Equal(t, []any{payment.Paid, usd(500)}, []any{p.State, p.Captured})
	assert.Equal(t, 1, b.charges(a))
}

func TestAHoldRunsOut(t *testing.T) {
	b := open(t)
	a := b.held()
	b.clock.Advance(30 * 24 * time.Hour)
	p, err := b.CaptureAttempt(t.Context(), a, usd(1999))
	require.NoError(t, err)
	assert.Equal(t, payment.Ended, p.State)
	assert.Zero(t, b.charges(a))
}

func TestAnOldHoldIsNotCapturedAgain(t *testing.T) {
	b := open(t)
	a := b.held()
	a.Began = time.Now().Add(-46 * 24 * time.Hour)
	p, err := b.CaptureAttempt(t.Context(), a, usd(1999))
	require.NoError(t, err)
	assert.Equal(t, payment.Held, p.State, "it is looked up")
	assert.Empty(t, b.sim.Calls(on(takePath)))
}

func TestWhatWasNeverHeldIsAConflict(t *testing.T) {
	b := open(t)
	a := b.approved(simulator.Outcome{})
	b.committed(a)
	_, err := b.VoidAttempt(t.Context(), a)
	isFault(t, err, fault.Conflict, "")
	_, err = b.CaptureAttempt(t.Context(), a, usd(1))
	isFault(t, err, fault.Conflict, "")
}

func TestAHoldThatIsSaidToBeOverAndCantBeLookedUpIsUncertain(t *testing.T) {
	b := open(t)
	a := b.held()
	_, err := b.VoidAttempt(t.Context(), a)
	require.NoError(t, err)
	b.sim.Add(sim.Fault{On: got(orderPath), At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.Error(http.StatusForbidden, "")})
	_, err = b.VoidAttempt(t.Context(), a)
	isFault(t, err, fault.Uncertain, "PREVIOUSLY_VOIDED")
}

func TestALostAnswerToACaptureOrAVoidIsLearntByRepetition(t *testing.T) {
	b := open(t)
	a := b.held()
	b.sim.Add(sim.Fault{On: on(takePath), At: sim.AfterActing, Do: sim.Reset, Nth: 1}, sim.Fault{On: on(voidPath), At: sim.AfterActing, Do: sim.Reset, Nth: 1})
	_, err := b.CaptureAttempt(t.Context(), a, usd(1999))
	assert.True(t, isFault(t, err, fault.Uncertain, "").Deduped)
	p, err := b.CaptureAttempt(t.Context(), a, usd(1999))
	require.NoError(t, err)
	assert.Equal(t, payment.Paid, p.State)
	assert.Equal(t, 1, b.charges(a))

	a = b.held(func(a *payment.Attempt) { a.Order.ID = "order-2" })
	_, err = b.VoidAttempt(t.Context(), a)
	assert.False(t, isFault(t, err, fault.Uncertain, "").Deduped, "no key travels with it")
	p, err = b.VoidAttempt(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Ended, p.State)
}
