package stripe_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/payment"
)

// The cards are those of docs.stripe.com/testing.
func TestADeclineIsAResultInNormalWords(t *testing.T) {
	for card, want := range map[string]struct {
		reason    payment.DeclineReason
		code      string
		retryable bool
	}{
		"pm_card_visa_chargeDeclined":                      {payment.Generic, "generic_decline", false},
		"pm_card_visa_chargeDeclinedInsufficientFunds":     {payment.InsufficientFunds, "insufficient_funds", true},
		"pm_card_visa_chargeDeclinedLostCard":              {payment.LostOrStolen, "lost_card", false},
		"pm_card_visa_chargeDeclinedStolenCard":            {payment.LostOrStolen, "stolen_card", false},
		"pm_card_visa_chargeDeclinedVelocityLimitExceeded": {payment.LimitExceeded, "card_velocity_exceeded", false},
		"pm_card_chargeDeclinedExpiredCard":                {payment.ExpiredMethod, "expired_card", false},
		"pm_card_chargeDeclinedIncorrectCvc":               {payment.IncorrectCVC, "incorrect_cvc", false},
		"pm_card_chargeDeclinedProcessingError":            {payment.ProcessingFault, "processing_error", true},
		"pm_card_chargeDeclinedFraudulent":                 {payment.FraudSuspected, "fraudulent", false},
		"pm_card_radarBlock":                               {payment.FraudSuspected, "fraudulent", false},
	} {
		t.Run(card, func(t *testing.T) {
			b := open(t)
			a, p := b.committed(t, card)
			assert.Equal(t, payment.Refused, p.State)
			assert.Equal(t, payment.NewDecline(want.reason, want.code), p.Decline)
			assert.Equal(t, want.retryable, p.Decline.Retryable)
			assert.Equal(t, a.PaymentID, p.ID)
			assert.Equal(t, a.Reference(), p.Reference)
			again, err := b.LookUp(t.Context(), a)
			require.NoError(t, err)
			assert.Equal(t, p.Decline, again.Decline, "the look-up says the same")
			repeated, err := b.Commit(t.Context(), a)
			require.NoError(t, err)
			assert.Equal(t, p.Decline, repeated.Decline, "and so does the repetition")
			assert.Empty(t, b.sim.Charges("order-1"))
		})
	}
}

func TestAFailureOfTheCustomersActionIsADecline(t *testing.T) {
	b := open(t)
	a := b.prepared(t, "pm_card_authenticationRequired")
	authenticated(false)(t, b, a)
	p, err := b.LookUp(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.NewDecline(payment.AuthenticationFault, "payment_intent_authentication_failure"), p.Decline)

	a = b.prepared(t, "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds", func(a *payment.Attempt) { a.Order.ID = "order-2" })
	authenticated(true)(t, b, a)
	p, err = b.LookUp(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.InsufficientFunds, p.Decline.Reason)
}

func TestAnotherAttemptAfterADeclineIsAnotherPayment(t *testing.T) {
	b := open(t)
	first, p := b.committed(t, "pm_card_visa_chargeDeclined")
	require.Equal(t, payment.Refused, p.State)
	second, p := b.committed(t, "pm_card_visa", func(a *payment.Attempt) { a.Number = 3 })
	assert.Equal(t, payment.Paid, p.State)
	assert.NotEqual(t, first.PaymentID, second.PaymentID)
	assert.Len(t, b.sim.Charges("order-1"), 1)
}
