package stripe_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/stripe"
	"github.com/smilefactory/integrations/payment"
)

func usd(minor int64) payment.Money { return payment.Money{Minor: minor, Currency: "USD"} }

func TestARefundGivesBackOnce(t *testing.T) {
	b := open(t)
	a, _ := b.committed(t, "pm_card_visa")
	r := &payment.Refunding{Attempt: a, ID: "refund-1", Amount: usd(500)}
	var id string
	for range 3 {
		got, err := b.RefundAttempt(t.Context(), r)
		require.NoError(t, err)
		assert.Equal(t, &payment.Refund{ID: "refund-1", ProviderID: got.ProviderID, State: payment.RefundSucceeded, Amount: usd(500)}, got)
		assert.True(t, id == "" || id == got.ProviderID)
		id = got.ProviderID
	}
	sent, header := b.form(t, refundPath)
	assert.Equal(t, url.Values{
		"payment_intent": {a.PaymentID}, "amount": {"500"}, "metadata[refund_id]": {"refund-1"},
		"metadata[order_id]": {"order-1"}, "metadata[user_id]": {"user-42"}, "metadata[tenant]": {"tenant-1"}, "metadata[attempt]": {"2"},
	}, sent)
	assert.Equal(t, r.Key(), header.Get("Idempotency-Key"))

	rest, err := b.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: "refund-2", Amount: usd(1499), Whole: true})
	require.NoError(t, err)
	assert.Equal(t, payment.RefundSucceeded, rest.State)
	assert.Len(t, b.sim.Refunds("order-1"), 2)
	p, err := b.LookUp(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Paid, p.State)
	assert.Equal(t, usd(1999), p.Refunded)
	assert.Equal(t, usd(1999), p.Captured)

	_, err = b.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: "refund-3", Amount: usd(1)})
	require.ErrorIs(t, err, fault.Conflict, "all of it was given back")
	assert.Len(t, b.sim.Refunds("order-1"), 2)
}

func TestMoreThanWasTakenIsNotGivenBack(t *testing.T) {
	b := open(t)
	a, _ := b.committed(t, "pm_card_visa", hold)
	_, err := b.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: "refund-1", Amount: usd(500)})
	require.Error(t, err, "nothing was taken yet")
	assert.False(t, fault.MayHaveActed(err))
	_, err = b.CaptureAttempt(t.Context(), a, usd(500))
	require.NoError(t, err)
	_, err = b.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: "refund-2", Amount: usd(501)})
	require.ErrorIs(t, err, fault.Invalid)
	got, err := b.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: "refund-3", Amount: usd(500)})
	require.NoError(t, err)
	assert.Equal(t, payment.RefundSucceeded, got.State)
	assert.Len(t, b.sim.Refunds("order-1"), 1)
}

func TestARefundThatEndsLaterIsLookedUp(t *testing.T) {
	for name, c := range map[string]struct {
		card     string
		first    payment.RefundState
		succeeds bool
		want     payment.RefundState
		reason   string
	}{
		"pending, then done":       {"pm_card_pendingRefund", payment.RefundPending, true, payment.RefundSucceeded, ""},
		"pending, then failed":     {"pm_card_pendingRefund", payment.RefundPending, false, payment.RefundFailed, "expired_or_canceled_card"},
		"done, and failed at last": {"pm_card_refundFail", payment.RefundSucceeded, false, payment.RefundFailed, "expired_or_canceled_card"},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			a, _ := b.committed(t, c.card)
			r := &payment.Refunding{Attempt: a, ID: "refund-1", Amount: usd(1999)}
			got, err := b.RefundAttempt(t.Context(), r)
			require.NoError(t, err)
			assert.Equal(t, c.first, got.State)
			require.NoError(t, b.sim.SettleRefund(got.ProviderID, c.succeeds, "expired_or_canceled_card"))
			want := &payment.Refund{ID: "refund-1", ProviderID: got.ProviderID, State: c.want, Amount: usd(1999), Reason: c.reason}
			byList, err := b.LookUpRefund(t.Context(), r)
			require.NoError(t, err)
			assert.Equal(t, want, byList)
			repeated, err := b.RefundAttempt(t.Context(), r)
			require.NoError(t, err)
			assert.Equal(t, want, repeated, "the repetition tells how it stands by now")
			r.ProviderID = got.ProviderID
			byID, err := b.LookUpRefund(t.Context(), r)
			require.NoError(t, err)
			assert.Equal(t, want, byID)
		})
	}
}

func TestARefundOfUnknownOutcomeIsFoundByTheCallersID(t *testing.T) {
	b := open(t)
	a, _ := b.committed(t, "pm_card_visa")
	r := &payment.Refunding{Attempt: a, ID: "refund-1", Amount: usd(100)}
	_, err := b.LookUpRefund(t.Context(), r)
	require.ErrorIs(t, err, fault.NotFound)
	b.sim.Faults.Add(sim.Fault{On: on(refundPath), At: sim.AfterActing, Do: sim.Answer, Kept: true, Times: 1, Reply: simulator.ServerError(500, "")})
	for range 2 {
		_, err = b.RefundAttempt(t.Context(), r)
		require.ErrorIs(t, err, fault.Uncertain, "the failure is kept under the key")
	}
	for _, id := range []string{"refund-2", "refund-3"} {
		_, err = b.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: id, Amount: usd(100)})
		require.NoError(t, err)
	}
	got, err := b.LookUpRefund(t.Context(), r)
	require.NoError(t, err)
	assert.Equal(t, payment.RefundSucceeded, got.State)
	assert.Equal(t, "refund-1", got.ID)
	assert.Len(t, b.sim.Refunds("order-1"), 3)
	r.ProviderID = "re_gone"
	_, err = b.LookUpRefund(t.Context(), r)
	require.ErrorIs(t, err, fault.NotFound)
}

func TestAReplayedRefundStaysKnownWhereTheLookUpFails(t *testing.T) {
	b := open(t)
	a, _ := b.committed(t, "pm_card_visa")
	r := &payment.Refunding{Attempt: a, ID: "refund-1", Amount: usd(100)}
	first, err := b.RefundAttempt(t.Context(), r)
	require.NoError(t, err)
	b.sim.Faults.Add(sim.Fault{On: sim.Match{Method: "GET"}, At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.BadGateway()})
	again, err := b.RefundAttempt(t.Context(), r)
	require.NoError(t, err)
	assert.Equal(t, first, again)
}

func TestARefundThatCantBeIsRefusedBeforeIO(t *testing.T) {
	b := open(t)
	a := b.attempt("pm_card_visa")
	_, err := b.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: "r", Amount: usd(1)})
	require.ErrorIs(t, err, fault.Invalid)
	a.PaymentID = "pi_1"
	_, err = b.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: "r", Amount: payment.Money{Minor: 5124, Currency: "KWD"}})
	require.ErrorIs(t, err, fault.Unsupported)
	assert.Empty(t, b.sim.Faults.Calls(sim.Match{}))
}

func TestRefundErrors(t *testing.T) {
	for code, want := range map[string]fault.Kind{
		"charge_already_refunded": fault.Conflict, "charge_disputed": fault.Conflict, "refund_disputed_payment": fault.Conflict,
		"charge_not_refundable": fault.Rejected, "balance_insufficient": fault.Exhausted, "": fault.Invalid,
	} {
		b := open(t)
		a, _ := b.committed(t, "pm_card_visa")
		b.sim.Faults.Add(sim.Fault{On: on(refundPath), At: sim.BeforeActing, Do: sim.Answer, Reply: saying(400, "invalid_request_error", code, "", "m")})
		_, err := b.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: "r", Amount: usd(1)})
		require.ErrorIs(t, err, want, code)
	}
	b := open(t)
	a, _ := b.committed(t, "pm_card_visa")
	b.sim.Faults.Add(sim.Fault{On: on(refundPath), At: sim.BeforeActing, Do: sim.Answer, Reply: sim.Reply{
		Status: 200, Body: `{"object":"refund","id":"re_1","status":"new","currency":"usd","amount":1}`,
	}})
	_, err := b.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: "r", Amount: usd(1)})
	require.ErrorIs(t, err, fault.Uncertain)
}
