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

func TestWhatTheCustomerApprovedIsCaptured(t *testing.T) {
	b := open(t)
	a := b.approved(simulator.Outcome{})
	p := b.committed(a)
	assert.Equal(t, payment.Paid, p.State)
	assert.Equal(t, []payment.Money{usd(1999), usd(1999), usd(0)}, []payment.Money{p.Amount, p.Captured, p.Refunded})
	assert.Equal(t, b.sim.Charges.All()[0].ID, p.ChargeID)
	assert.Equal(t, a.PaymentID, p.ID)
	assert.Equal(t, a.Reference(), p.Reference)
	assert.Equal(t, a.Key("commit"), b.sim.Charges.All()[0].RequestID)
	assert.JSONEq(t, `{}`, bodies(b, on(capturePath)))

	looked, err := b.LookUp(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, p, looked)
}

func TestTheSameAttemptCommittedTwiceIsChargedOnce(t *testing.T) {
	for name, between := range map[string]func(*bench){
		"at once":                           func(*bench) {},
		"when PayPal has forgotten the key": func(b *bench) { b.clock.Advance(7 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			a := b.approved(simulator.Outcome{})
			first := b.committed(a)
			between(b)
			b.sim.RevokeTokens()
			assert.Equal(t, first, b.committed(a))
			assert.Equal(t, 1, b.charges(a))
		})
	}
}

func TestASavedMethodTravelsWithTheCommit(t *testing.T) {
	const pages = `"experience_context":{"return_url":"https://shop.example.com/paid?token=planted-return","cancel_url":"https://shop.example.com/cart"}`
	for name, c := range map[string]struct {
		kind   string
		change func(*payment.Attempt)
		want   string // after the vault id
	}{
		"a wallet, the customer present":      {"paypal", func(*payment.Attempt) {}, `"experience_context":{"return_url":"https://shop.example.com/paid?token=planted-return","cancel_url":"https://shop.example.com/cart"}`},
		"a wallet, initiated by the merchant": {"paypal", merchantDoes, ``},
		"a card, the customer present":        {"card", func(*payment.Attempt) {}, pages + `,"stored_credential":{"payment_initiator":"CUSTOMER","payment_type":"ONE_TIME","usage":"SUBSEQUENT"}`},
		"a card, initiated by the merchant":   {"card", merchantDoes, `"stored_credential":{"payment_initiator":"MERCHANT","payment_type":"UNSCHEDULED","usage":"SUBSEQUENT"}`},
		"Venmo":                               {"venmo", func(*payment.Attempt) {}, ``},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			a := b.prepared(b.saved(c.kind, simulator.Outcome{}), c.change)
			p := b.committed(a)
			assert.Equal(t, payment.Paid, p.State)
			assert.Equal(t, 1, b.charges(a))
			id := a.Method.ID
			if c.kind != "paypal" {
				id = id[len(c.kind)+1:]
			}
			rest := c.want
			if rest != "" {
				rest = "," + rest
			}
			assert.JSONEq(t, `{"payment_source":{"`+c.kind+`":{"vault_id":"`+id+`"`+rest+`}}}`, bodies(b, on(capturePath)))
		})
	}
}

// PayPal calls the order COMPLETED in each of these.
func TestACompletedOrderIsPaidOnlyIfItsCaptureIs(t *testing.T) {
	for name, c := range map[string]struct {
		outcome simulator.Outcome
		state   payment.State
		reason  string
		decline payment.DeclineReason
		code    string
	}{
		"completed":                       {simulator.Outcome{}, payment.Paid, "", "", ""},
		"pending a review":                {simulator.Outcome{Status: "PENDING"}, payment.Processing, "PENDING_REVIEW", "", ""},
		"an eCheck":                       {simulator.Outcome{Status: "PENDING", Reason: "ECHECK"}, payment.Processing, "ECHECK", "", ""},
		"declined":                        {simulator.Outcome{Status: "DECLINED"}, payment.Refused, "", payment.Generic, "DECLINED"},
		"declined for insufficient funds": {simulator.Outcome{Status: "DECLINED", Code: "5120"}, payment.Refused, "", payment.InsufficientFunds, "5120"},
		"declined for suspected fraud":    {simulator.Outcome{Status: "DECLINED", Code: "9500"}, payment.Refused, "", payment.FraudSuspected, "9500"},
		"an expired card":                 {simulator.Outcome{Status: "DECLINED", Code: "5400"}, payment.Refused, "", payment.ExpiredMethod, "5400"},
		"failed":                          {simulator.Outcome{Status: "FAILED"}, payment.Refused, "", payment.Generic, "FAILED"},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			a := b.approved(c.outcome)
			p := b.committed(a)
			looked, err := b.LookUp(t.Context(), a)
			require.NoError(t, err)
			assert.Equal(t, p, looked, "a look-up says the same")
			assert.Equal(t, []any{c.state, c.reason}, []any{p.State, p.Reason})
			if c.state != payment.Refused {
				assert.Nil(t, p.Decline)
				return
			}
			assert.Equal(t, payment.NewDecline(c.decline, c.code), p.Decline)
			assert.Zero(t, b.charges(a))
			assert.Zero(t, p.Captured.Minor)
		})
	}
}

func TestAPendingCaptureEndsByLookUp(t *testing.T) {
	for status, want := range map[string]payment.State{"COMPLETED": payment.Paid, "DECLINED": payment.Refused, "FAILED": payment.Refused} {
		b := open(t)
		a := b.approved(simulator.Outcome{Status: "PENDING", Reason: "ECHECK"})
		b.committed(a)
		require.NoError(t, b.sim.SettleCapture(a.ChargeID, status))
		p, err := b.LookUp(t.Context(), a)
		require.NoError(t, err)
		assert.Equal(t, want, p.State)
	}
}

func TestADeclineIsAResult(t *testing.T) {
	for issue, reason := range map[string]payment.DeclineReason{
		"INSTRUMENT_DECLINED":                  payment.Generic,
		"TRANSACTION_REFUSED":                  payment.Generic,
		"REDIRECT_PAYER_FOR_ALTERNATE_FUNDING": payment.Generic,
		"PAYEE_BLOCKED_TRANSACTION":            payment.FraudSuspected,
		"REFERENCED_CARD_EXPIRED":              payment.ExpiredMethod,
		"PAYER_ACCOUNT_RESTRICTED":             payment.MethodInvalid,
		"PAYER_CANNOT_PAY":                     payment.MethodUnsupported,
		"TRANSACTION_LIMIT_EXCEEDED":           payment.LimitExceeded,
	} {
		t.Run(issue, func(t *testing.T) {
			b := open(t)
			for _, a := range []*payment.Attempt{
				b.approved(simulator.Outcome{Issue: issue}),
				b.prepared(b.saved("card", simulator.Outcome{Issue: issue}), func(a *payment.Attempt) { a.Number = 3 }),
				b.prepared(b.saved("paypal", simulator.Outcome{Issue: issue}), merchantDoes, hold, func(a *payment.Attempt) { a.Number = 4 }),
			} {
				p := b.committed(a)
				assert.Equal(t, payment.Refused, p.State)
				assert.Equal(t, payment.NewDecline(reason, issue), p.Decline)
				assert.Nil(t, p.Action)
				assert.Equal(t, a.Reference(), p.Reference)
				assert.Equal(t, p, b.committed(a), "PayPal repeats it under the key")
				assert.Zero(t, b.charges(a))
			}
			next := b.prepared(b.saved("card", simulator.Outcome{}), func(a *payment.Attempt) { a.Number = 5 })
			assert.Equal(t, payment.Paid, b.committed(next).State, "another attempt isn't told the former's decline")
		})
	}
}

func TestASavedMethodThatIsGoneIsADecline(t *testing.T) {
	b := open(t)
	p := b.committed(b.prepared(with("8kk8451t"), merchantDoes))
	assert.Equal(t, payment.NewDecline(payment.MethodInvalid, "TOKEN_ID_NOT_FOUND"), p.Decline)
}

func TestAMethodOfAnotherKindIsInvalid(t *testing.T) {
	b := open(t)
	a := b.prepared(b.saved("card", simulator.Outcome{}), func(a *payment.Attempt) { a.Method.ID = a.Method.ID[len("card:"):] })
	_, err := b.Commit(t.Context(), a)
	isFault(t, err, fault.Invalid, "MISMATCHED_VAULT_ID_TO_PAYMENT_SOURCE")
}

func TestWhatIsNotApprovedIsToBeApproved(t *testing.T) {
	b := open(t)
	for _, a := range []*payment.Attempt{b.prepared(), b.prepared(hold, func(a *payment.Attempt) { a.Order.ID = "order-2" })} {
		p := b.committed(a)
		assert.Equal(t, payment.Prepared, p.State)
		require.NotNil(t, p.Action)
		assert.NotEmpty(t, p.Action.RedirectURL)
		assert.Zero(t, b.charges(a))
		_, err := b.sim.Approve(a.PaymentID, simulator.Outcome{})
		require.NoError(t, err)
		assert.NotEqual(t, payment.Prepared, b.committed(a).State, "and is then committed with the same attempt")
	}
}

// PayPal keeps the answer that the customer must act under the key of the commit.
func TestAfterTheCustomerActedTheSameAttemptIsCommitted(t *testing.T) {
	for name, change := range map[string]func(*payment.Attempt){"captured": func(*payment.Attempt) {}, "held": hold} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			a := b.prepared(b.saved("card", simulator.Outcome{Issue: "PAYER_ACTION_REQUIRED"}), change)
			for range 2 {
				p := b.committed(a)
				assert.Equal(t, payment.Prepared, p.State)
				require.NotNil(t, p.Action)
				assert.NotEmpty(t, p.Action.RedirectURL)
			}
			p, err := b.LookUp(t.Context(), a)
			require.NoError(t, err)
			require.NotNil(t, p.Action)
			b.clock.Advance(time.Minute)
			_, err = b.sim.Approve(a.PaymentID, simulator.Outcome{})
			require.NoError(t, err)
			done := b.committed(a)
			assert.Contains(t, []payment.State{payment.Paid, payment.Held}, done.State)
			assert.Equal(t, done, b.committed(a))
			balance := b.balance(a)
			assert.Equal(t, 1, balance.Charges+balance.OpenAuthorizations)
		})
	}
}

func TestAnAnswerThatIsLostAfterTheCustomerActedIsLearntByTheSameCommit(t *testing.T) {
	b := open(t)
	a := b.prepared(b.saved("card", simulator.Outcome{Issue: "PAYER_ACTION_REQUIRED"}))
	b.committed(a)
	b.clock.Advance(time.Minute)
	_, err := b.sim.Approve(a.PaymentID, simulator.Outcome{})
	require.NoError(t, err)
	b.sim.Add(sim.Fault{On: on(capturePath), At: sim.AfterActing, Do: sim.Reset, Nth: 2})
	_, err = b.Commit(t.Context(), a)
	assert.True(t, isFault(t, err, fault.Uncertain, "").Deduped)
	assert.Equal(t, payment.Paid, b.committed(a).State)
	assert.Equal(t, 1, b.charges(a))
}

func TestADeclineAfterTheCustomerActedIsAResult(t *testing.T) {
	b := open(t)
	a := b.prepared(b.saved("card", simulator.Outcome{Issue: "PAYER_ACTION_REQUIRED"}))
	b.committed(a)
	b.clock.Advance(time.Minute)
	_, err := b.sim.Approve(a.PaymentID, simulator.Outcome{Issue: "INSTRUMENT_DECLINED"})
	require.NoError(t, err)
	assert.Equal(t, payment.Refused, b.committed(a).State)
}

// The invoice id is the order's, so that no second attempt is paid for it.
func TestASecondPaymentOfAnOrderIsRefusedByPayPal(t *testing.T) {
	b := open(t)
	first := b.approved(simulator.Outcome{})
	second := b.approved(simulator.Outcome{}, func(a *payment.Attempt) { a.Number = 3 })
	b.committed(first)
	_, err := b.Commit(t.Context(), second)
	isFault(t, err, fault.Conflict, "DUPLICATE_INVOICE_ID")
	assert.Equal(t, 1, b.charges(first))
	assert.Zero(t, b.charges(second))
}

func TestAnInvoiceThatWasPaidByTheAttemptItselfIsThePayment(t *testing.T) {
	b := open(t)
	a := b.approved(simulator.Outcome{})
	b.committed(a)
	b.sim.Add(answers(on(capturePath), simulator.Error(http.StatusUnprocessableEntity, "DUPLICATE_INVOICE_ID")))
	assert.Equal(t, payment.Paid, b.committed(a).State)
}

func TestAnotherTenantsOrderOfTheSameNameIsAnother(t *testing.T) {
	b := open(t)
	b.committed(b.approved(simulator.Outcome{}))
	a := b.approved(simulator.Outcome{}, func(a *payment.Attempt) { a.Tenant = "tenant-2" })
	assert.Equal(t, payment.Paid, b.committed(a).State)
}

func TestWhatPayPalSaysIsOverIsLookedUp(t *testing.T) {
	for issue, want := range map[string]payment.State{
		"ORDER_ALREADY_CAPTURED": payment.Paid, "ORDER_ALREADY_AUTHORIZED": payment.Paid, "MAX_AUTHORIZATION_COUNT_EXCEEDED": payment.Paid,
	} {
		b := open(t)
		a := b.approved(simulator.Outcome{})
		b.committed(a)
		b.sim.Add(answers(on(capturePath), simulator.Error(http.StatusUnprocessableEntity, issue)))
		assert.Equal(t, want, b.committed(a).State, issue)
	}
	b := open(t)
	a := b.approved(simulator.Outcome{}, hold)
	b.clock.Advance(4 * time.Hour)
	assert.Equal(t, payment.Ended, b.committed(a).State, "ORDER_COMPLETED_OR_VOIDED")
	a = b.prepared(hold, func(a *payment.Attempt) { a.Number = 3 })
	b.clock.Advance(4 * time.Hour)
	p := b.committed(a)
	assert.Equal(t, []any{payment.Ended, "EXPIRED"}, []any{p.State, p.Reason})
}

// That the look-up sent nothing must not count: PayPal said that the order is paid.
func TestWhatIsOverAndCantBeLookedUpIsUncertain(t *testing.T) {
	for name, lost := range map[string]sim.Fault{
		"the look-up breaks off":   {On: got(orderPath), At: sim.BeforeActing, Do: sim.Reset},
		"the look-up is limited":   {On: got(orderPath), At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.RateLimited(time.Minute)},
		"the look-up is forbidden": {On: got(orderPath), At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.Error(403, "PERMISSION_DENIED")},
		"the order isn't found":    {On: got(orderPath), At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.Error(404, "INVALID_RESOURCE_ID")},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			a := b.approved(simulator.Outcome{})
			b.committed(a)
			b.sim.Add(answers(on(capturePath), simulator.Error(http.StatusUnprocessableEntity, "ORDER_ALREADY_CAPTURED")), lost)
			_, err := b.Commit(t.Context(), a)
			f := isFault(t, err, fault.Uncertain, "ORDER_ALREADY_CAPTURED")
			assert.True(t, f.Deduped)
			assert.True(t, fault.MayHaveActed(err))
		})
	}
}

func TestAnOrderThatIsShownAsOpenThoughItIsSaidToBeChargedIsUncertain(t *testing.T) {
	b := open(t)
	a := b.approved(simulator.Outcome{})
	b.sim.Add(answers(on(capturePath), simulator.Error(http.StatusUnprocessableEntity, "ORDER_ALREADY_CAPTURED")))
	_, err := b.Commit(t.Context(), a)
	isFault(t, err, fault.Uncertain, "ORDER_ALREADY_CAPTURED")
}

func TestAnOldAttemptIsNotSentAgain(t *testing.T) {
	b := open(t)
	_, err := b.Prepare(t.Context(), b.attempt(tomorrow))
	assert.False(t, isFault(t, err, fault.Uncertain, "").Deduped)
	assert.Empty(t, b.sim.Calls(on(createPath)))

	a := b.approved(simulator.Outcome{})
	tomorrow(a)
	_, err = b.Commit(t.Context(), a)
	assert.False(t, isFault(t, err, fault.Uncertain, "").Deduped)
	assert.Empty(t, b.sim.Calls(on(capturePath)))
	a.Began = time.Now()
	b.committed(a)
	tomorrow(a)
	assert.Equal(t, payment.Paid, b.committed(a).State, "what is settled is told")
	assert.Len(t, b.sim.Calls(on(capturePath)), 1)

	a = b.prepared(func(a *payment.Attempt) { a.Number = 3 })
	tomorrow(a)
	assert.NotNil(t, b.committed(a).Action)
	a.Began = time.Time{}
	b.committed(a)
	assert.Len(t, b.sim.Calls(on(capturePath)), 2, "one without a beginning is of now")
}

func TestTheMethodThatWasKeptIsTold(t *testing.T) {
	b := open(t)
	a := b.approved(simulator.Outcome{}, func(a *payment.Attempt) { a.Order.Save = payment.OffSession })
	p := b.committed(a)
	require.NotEmpty(t, p.Saved.ID)
	require.NotEmpty(t, p.Saved.Customer)
	again := b.prepared(with(p.Saved.ID), merchantDoes, func(a *payment.Attempt) { a.Order.ID = "order-2" })
	assert.Equal(t, payment.Paid, b.committed(again).State)
	assert.Empty(t, b.committed(b.approved(simulator.Outcome{}, func(a *payment.Attempt) { a.Order.ID = "order-3" })).Saved)
}

func TestWithoutTheCustomerWhatNeedsHimIsRefusedForIt(t *testing.T) {
	b := open(t)
	a := b.prepared(b.saved("card", simulator.Outcome{Issue: "PAYER_ACTION_REQUIRED"}), merchantDoes)
	p := b.committed(a)
	assert.Equal(t, payment.Refused, p.State)
	assert.Equal(t, payment.NewDecline(payment.AuthenticationFault, "PAYER_ACTION_REQUIRED"), p.Decline)
	looked, err := b.LookUp(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, p, looked)
}
