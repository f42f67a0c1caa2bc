package stripe_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/stripe"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/secret"
)

func TestPrepareMovesNothingAndTellsStripeWhatItIs(t *testing.T) {
	b := open(t)
	a := b.attempt("pm_card_visa")
	p, err := b.Prepare(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, &payment.Payment{
		ID: p.ID, State: payment.Prepared, Amount: payment.Money{Minor: 1999, Currency: "USD"},
		Captured: payment.Money{Currency: "USD"}, Refunded: payment.Money{Currency: "USD"}, Reference: a.Reference(),
	}, p)
	assert.Empty(t, b.sim.Charges("order-1"))

	sent, header := b.form(t, createPath)
	assert.Equal(t, url.Values{
		"amount": {"1999"}, "currency": {"usd"}, "payment_method": {"pm_card_visa"}, "description": {"Planted description"},
		"automatic_payment_methods[enabled]": {"true"}, "expand[0]": {"latest_charge"},
		"metadata[order_id]": {"order-1"}, "metadata[user_id]": {"user-42"}, "metadata[tenant]": {"tenant-1"}, "metadata[attempt]": {"2"},
	}, sent)
	assert.Equal(t, a.Key("prepare"), header.Get("Idempotency-Key"))
	assert.Equal(t, "2023-10-16", header.Get("Stripe-Version"))
	assert.Empty(t, header.Get("X-Stripe-Client-Telemetry"))
	assert.NotContains(t, header.Get("X-Stripe-Client-User-Agent"), "uname")
}

func TestWhatAnOrderAsksForReachesStripe(t *testing.T) {
	b := open(t)
	mine := b.wallet(t, "pm_card_visa")
	for name, c := range map[string]struct {
		change  func(*payment.Attempt)
		created url.Values
		absent  string
	}{
		"a hold":                 {hold, url.Values{"capture_method": {"manual"}}, "setup_future_usage"},
		"no way back":            {noReturn, url.Values{"automatic_payment_methods[allow_redirects]": {"never"}}, "capture_method"},
		"saved on session":       {func(a *payment.Attempt) { a.Order.Save = payment.OnSession }, url.Values{"setup_future_usage": {"on_session"}, "customer": {mine.Customer}}, ""},
		"saved off session":      {func(a *payment.Attempt) { a.Order.Save = payment.OffSession }, url.Values{"setup_future_usage": {"off_session"}}, ""},
		"a zero-decimal sum":     {func(a *payment.Attempt) { a.Order.Amount = payment.Money{Minor: 500, Currency: "JPY"} }, url.Values{"amount": {"500"}, "currency": {"jpy"}}, ""},
		"krónur in hundredth":    {func(a *payment.Attempt) { a.Order.Amount = payment.Money{Minor: 500, Currency: "ISK"} }, url.Values{"amount": {"50000"}}, ""},
		"shillings in hundredth": {func(a *payment.Attempt) { a.Order.Amount = payment.Money{Minor: 5000, Currency: "UGX"} }, url.Values{"amount": {"500000"}}, ""},
		"three decimals":         {func(a *payment.Attempt) { a.Order.Amount = payment.Money{Minor: 5120, Currency: "KWD"} }, url.Values{"amount": {"5120"}}, ""},
		"ariary, two of ISO":     {func(a *payment.Attempt) { a.Order.Amount = payment.Money{Minor: 500000, Currency: "MGA"} }, url.Values{"amount": {"5000"}}, ""},
		"a card of before":       {func(a *payment.Attempt) { a.Order.Description = "" }, nil, "description"},
	} {
		t.Run(name, func(t *testing.T) {
			a := b.attempt("", saved(mine), c.change)
			a.Order.ID = "order-" + strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), ",", "")
			a.Order.ID = strings.ReplaceAll(a.Order.ID, "ó", "o")
			p, err := b.Prepare(t.Context(), a)
			require.NoError(t, err)
			assert.Equal(t, a.Order.Amount, p.Amount, "the way back is exact")
			sent, _ := b.form(t, createPath)
			for name, want := range c.created {
				assert.Equal(t, want, sent[name], name)
			}
			assert.NotContains(t, sent, c.absent)
		})
	}
}

func TestCommitMovesTheMoneyOnce(t *testing.T) {
	b := open(t)
	a := b.prepared(t, "pm_card_visa")
	for range 3 {
		p, err := b.Commit(t.Context(), a)
		require.NoError(t, err)
		assert.Equal(t, payment.Paid, p.State)
		assert.Equal(t, a.Order.Amount, p.Captured)
		assert.NotEmpty(t, p.ChargeID)
	}
	charges := b.sim.Charges("order-1")
	require.Len(t, charges, 1)
	assert.Equal(t, a.Key("commit"), charges[0].Key)
	assert.EqualValues(t, 1999, charges[0].Amount)
	sent, _ := b.form(t, "/v1/payment_intents/"+a.PaymentID+"/confirm")
	assert.Equal(t, url.Values{"return_url": {returnURL}, "expand[0]": {"latest_charge"}}, sent)
	assert.Equal(t, 2, b.sim.Replayed(a.Key("commit")))
}

func TestAConnectedAccountIsChargedWhereAccountNamesIt(t *testing.T) {
	b := open(t)
	b.Account = "acct_connected"
	assert.Equal(t, payment.Identity{Account: "acct_connected"}, b.Identity())
	a, p := b.committed(t, "pm_card_visa")
	assert.Equal(t, payment.Paid, p.State)
	assert.Equal(t, "acct_connected", b.sim.Charges("order-1")[0].Account)
	a.PaymentID = ""
	p, err := b.LookUp(t.Context(), a)
	require.NoError(t, err, "lists are of that account too")
	assert.Equal(t, payment.Paid, p.State)
}

func TestStates(t *testing.T) {
	type b2 = *bench
	for name, c := range map[string]struct {
		method string
		change []func(*payment.Attempt)
		after  func(*testing.T, b2, *payment.Attempt)
		want   payment.State
	}{
		"no method: the form asks the customer":      {"", nil, nil, payment.Actionable},
		"a method":                                   {"pm_card_visa", nil, nil, payment.Prepared},
		"confirmed":                                  {"pm_card_visa", nil, commit, payment.Paid},
		"confirmed, to be captured":                  {"pm_card_visa", []func(*payment.Attempt){hold}, commit, payment.Held},
		"the bank asks the customer":                 {"pm_card_authenticationRequired", nil, commit, payment.Actionable},
		"the customer did so":                        {"pm_card_authenticationRequired", nil, authenticated(true), payment.Paid},
		"the customer failed":                        {"pm_card_authenticationRequired", nil, authenticated(false), payment.Refused},
		"a bank debit takes days":                    {"pm_usBankAccount_success", nil, commit, payment.Processing},
		"a bank debit came":                          {"pm_usBankAccount_success", nil, settled(true), payment.Paid},
		"a bank debit failed":                        {"pm_usBankAccount_success", nil, settled(false), payment.Refused},
		"declined":                                   {"pm_card_visa_chargeDeclined", nil, commit, payment.Refused},
		"canceled":                                   {"pm_card_visa", nil, fenced, payment.Ended},
		"canceled while the customer is asked":       {"pm_card_authenticationRequired", nil, func(t *testing.T, b b2, a *payment.Attempt) { commit(t, b, a); fenced(t, b, a) }, payment.Ended},
		"canceled after a decline":                   {"pm_card_visa_chargeDeclined", nil, func(t *testing.T, b b2, a *payment.Attempt) { commit(t, b, a); fenced(t, b, a) }, payment.Ended},
		"voided":                                     {"pm_card_visa", []func(*payment.Attempt){hold}, voided, payment.Ended},
		"captured":                                   {"pm_card_visa", []func(*payment.Attempt){hold}, captured(1999), payment.Paid},
		"captured in part":                           {"pm_card_visa", []func(*payment.Attempt){hold}, captured(500), payment.Paid},
		"an authorisation that ran out of its week":  {"pm_card_visa", []func(*payment.Attempt){hold}, forgotten, payment.Ended},
		"a card that is refused only when it's held": {"pm_card_visa_chargeDeclinedInsufficientFunds", []func(*payment.Attempt){hold}, commit, payment.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			a := b.prepared(t, c.method, c.change...)
			if c.after != nil {
				c.after(t, b, a)
			}
			p, err := b.LookUp(t.Context(), a)
			require.NoError(t, err)
			assert.Equal(t, c.want, p.State)
			assert.Equal(t, a.PaymentID, p.ID)
			assert.Equal(t, a.Reference(), p.Reference)
			assert.Equal(t, p.State == payment.Refused, p.Decline != nil, "a decline says why")
			assert.Equal(t, p.State == payment.Actionable, p.Action != nil, "an action says what")
			assert.False(t, p.Live)
		})
	}
}

func commit(t *testing.T, b *bench, a *payment.Attempt) {
	t.Helper()
	_, err := b.Commit(t.Context(), a)
	require.NoError(t, err)
}

func authenticated(completes bool) func(*testing.T, *bench, *payment.Attempt) {
	return func(t *testing.T, b *bench, a *payment.Attempt) {
		t.Helper()
		commit(t, b, a)
		require.NoError(t, b.sim.Authenticate(a.PaymentID, completes))
	}
}

func settled(succeeds bool) func(*testing.T, *bench, *payment.Attempt) {
	return func(t *testing.T, b *bench, a *payment.Attempt) {
		t.Helper()
		commit(t, b, a)
		require.NoError(t, b.sim.Settle(a.PaymentID, succeeds))
	}
}

func fenced(t *testing.T, b *bench, a *payment.Attempt) {
	t.Helper()
	p, err := b.Fence(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Ended, p.State)
	assert.Equal(t, "abandoned", p.Reason)
}

func voided(t *testing.T, b *bench, a *payment.Attempt) {
	t.Helper()
	commit(t, b, a)
	p, err := b.VoidAttempt(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Ended, p.State)
	assert.Zero(t, p.Captured.Minor)
	assert.Zero(t, p.Refunded.Minor, "nothing was taken, so nothing was given back")
	assert.Empty(t, b.sim.Charges("order-1"))
}

func captured(minor int64) func(*testing.T, *bench, *payment.Attempt) {
	return func(t *testing.T, b *bench, a *payment.Attempt) {
		t.Helper()
		commit(t, b, a)
		take := payment.Money{Minor: minor, Currency: "USD"}
		for range 2 {
			p, err := b.CaptureAttempt(t.Context(), a, take)
			require.NoError(t, err)
			assert.Equal(t, payment.Paid, p.State)
			assert.Equal(t, take, p.Captured)
			assert.Equal(t, a.Order.Amount, p.Amount)
		}
		charges := b.sim.Charges("order-1")
		require.Len(t, charges, 1)
		assert.Equal(t, minor, charges[0].Amount)
		assert.Equal(t, a.CaptureKey(), charges[0].Key)
	}
}

func forgotten(t *testing.T, b *bench, a *payment.Attempt) {
	t.Helper()
	p, err := b.Commit(t.Context(), a)
	require.NoError(t, err)
	assert.WithinDuration(t, b.clock.Now().Add(7*24*time.Hour), p.HeldUntil, time.Minute)
	b.clock.Advance(8 * 24 * time.Hour)
}

func TestTheCustomersActionIsAPageOrASecret(t *testing.T) {
	b := open(t)
	p, err := b.Prepare(t.Context(), b.attempt(""))
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(p.Action.ClientSecret.Reveal(), p.ID+"_secret_"))
	assert.Empty(t, p.Action.RedirectURL)
	assert.Equal(t, "stripe", p.Action.Provider)

	_, p = b.committed(t, "pm_card_authenticationRequired", func(a *payment.Attempt) { a.Order.ID = "order-2" })
	assert.True(t, strings.HasPrefix(p.Action.RedirectURL, b.BaseURL))
	assert.True(t, p.Action.ClientSecret.IsZero())

	_, p = b.committed(t, "pm_card_authenticationRequired", noReturn, func(a *payment.Attempt) { a.Order.ID = "order-3" })
	assert.Empty(t, p.Action.RedirectURL, "there is no way back, so Stripe's script asks on the page")
	assert.False(t, p.Action.ClientSecret.IsZero())
}

func TestAMerchantInitiatedPaymentThatNeedsTheCustomerIsADeclineOfThatName(t *testing.T) {
	b := open(t)
	mine := b.wallet(t, "pm_card_visa")
	a, p := b.committed(t, "", saved(mine), merchant)
	assert.Equal(t, payment.Paid, p.State)
	sent, _ := b.form(t, "/v1/payment_intents/"+a.PaymentID+"/confirm")
	assert.Equal(t, "true", sent.Get("off_session"))

	mine = b.wallet(t, "pm_card_authenticationRequired")
	a, p = b.committed(t, "", saved(mine), merchant, func(a *payment.Attempt) { a.Order.ID = "order-2" })
	assert.Equal(t, payment.Refused, p.State)
	assert.Equal(t, payment.AuthenticationFault, p.Decline.Reason)
	assert.Equal(t, "authentication_required", p.Decline.Code)
	again, err := b.LookUp(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, p.Decline, again.Decline)
	assert.Empty(t, b.sim.Charges("order-2"))
}

func TestAMerchantInitiatedPaymentIsRefusedWhereItWaitsForTheCustomer(t *testing.T) {
	b := open(t)
	a, p := b.committed(t, "pm_card_authenticationRequired")
	require.Equal(t, payment.Actionable, p.State)
	merchant(a)
	p, err := b.LookUp(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Refused, p.State)
	assert.Equal(t, "authentication_required", p.Decline.Code)
	assert.Nil(t, p.Action)
}

func TestASavedMethodComesBackWithThePayment(t *testing.T) {
	b := open(t)
	mine := b.wallet(t, "pm_card_visa")
	_, p := b.committed(t, "pm_card_mastercard", of(mine.Customer), func(a *payment.Attempt) { a.Order.Save = payment.OffSession })
	assert.Equal(t, mine.Customer, p.Saved.Customer)
	assert.NotEqual(t, mine.ID, p.Saved.ID)
	_, p = b.committed(t, "", saved(p.Saved), merchant, func(a *payment.Attempt) { a.Order.ID = "order-2" })
	assert.Equal(t, payment.Paid, p.State)
	assert.Zero(t, p.Saved, "nothing was asked to be saved")
}

func TestATokenBecomesAMethodFirst(t *testing.T) {
	b := open(t)
	a, p := b.committed(t, "tok_visa")
	assert.Equal(t, payment.Paid, p.State)
	sent, header := b.form(t, "/v1/payment_methods")
	assert.Equal(t, url.Values{"type": {"card"}, "card[token]": {"tok_visa"}}, sent)
	assert.Equal(t, a.Key("method"), header.Get("Idempotency-Key"))
}

func TestAMethodThatIsUsedUpIsADecline(t *testing.T) {
	b := open(t)
	pm, err := b.sim.NewPaymentMethod("", false, "pm_card_visa")
	require.NoError(t, err)
	b.committed(t, pm)
	p, err := b.Prepare(t.Context(), b.attempt(pm, func(a *payment.Attempt) { a.Order.ID = "order-2" }))
	require.NoError(t, err)
	assert.Equal(t, payment.Refused, p.State)
	assert.Equal(t, payment.MethodInvalid, p.Decline.Reason)

	p, err = b.Prepare(t.Context(), b.attempt("pm_gone", func(a *payment.Attempt) { a.Order.ID = "order-3" }))
	require.NoError(t, err)
	assert.Equal(t, payment.MethodInvalid, p.Decline.Reason)

	p, err = b.Prepare(t.Context(), b.attempt("", saved(payment.Method{ID: "pm_card_visa", Customer: "cus_gone"}), func(a *payment.Attempt) { a.Order.ID = "order-4" }))
	require.ErrorIs(t, err, fault.Invalid, "a customer that isn't there is a mistake of ours")
	assert.Nil(t, p)
}

func TestARepetitionTellsHowItStandsByNow(t *testing.T) {
	b := open(t)
	a := b.prepared(t, "pm_card_authenticationRequired")
	commit(t, b, a)
	require.NoError(t, b.sim.Authenticate(a.PaymentID, true))
	for name, again := range map[string]step{"prepare": b.Prepare, "commit": b.Commit} {
		p, err := again(t.Context(), a)
		require.NoError(t, err)
		assert.Equal(t, payment.Paid, p.State, "%s is replayed by Stripe as it was", name)
	}
	declined, _ := b.committed(t, "pm_card_visa_chargeDeclined", func(a *payment.Attempt) { a.Order.ID = "order-2" })
	fenced(t, b, declined)
	p, err := b.Commit(t.Context(), declined)
	require.NoError(t, err)
	assert.Equal(t, payment.Ended, p.State)
}

func TestAnOldAnswerWhoseStateCantBeLookedUpIsUncertain(t *testing.T) {
	b := open(t)
	a, _ := b.committed(t, "pm_card_visa_chargeDeclined")
	b.sim.Faults.Add(sim.Fault{On: sim.Match{Method: http.MethodGet}, At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.BadGateway()})
	_, err := b.Commit(t.Context(), a)
	require.ErrorIs(t, err, fault.Uncertain)
	_, err = b.Prepare(t.Context(), a)
	require.ErrorIs(t, err, fault.Uncertain)

	paid, _ := b.committed(t, "pm_card_visa", func(a *payment.Attempt) { a.Order.ID = "order-2" })
	p, err := b.Commit(t.Context(), paid)
	require.NoError(t, err, "what was paid stays so")
	assert.Equal(t, payment.Paid, p.State)
}

func TestAPaymentWhoseIDWasNeverLearntIsFoundByItsMetadata(t *testing.T) {
	for name, customer := range map[string]bool{"without a customer": false, "with one": true} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			a := b.attempt("pm_card_visa")
			if customer {
				a.Method = b.wallet(t, "pm_card_visa")
			}
			_, err := b.LookUp(t.Context(), a)
			require.ErrorIs(t, err, fault.NotFound)
			b.sim.Faults.Add(sim.Fault{On: on(createPath), At: sim.AfterActing, Do: sim.Reset})
			_, err = b.Prepare(t.Context(), a)
			require.ErrorIs(t, err, fault.Uncertain)
			b.sim.Faults.Heal()
			for n := range 150 { // more than a page of others, after it
				other := b.attempt("", func(a *payment.Attempt) { a.Number = 100 + n })
				other.Method.Customer = a.Method.Customer
				_, err := b.Prepare(t.Context(), other)
				require.NoError(t, err)
			}
			p, err := b.LookUp(t.Context(), a)
			require.NoError(t, err)
			assert.Equal(t, payment.Prepared, p.State)
			again, err := b.Prepare(t.Context(), a)
			require.NoError(t, err)
			assert.Equal(t, p.ID, again.ID, "the same key tells the same id")

			fencedAt, err := b.Fence(t.Context(), a)
			require.NoError(t, err)
			assert.Equal(t, payment.Ended, fencedAt.State)
			assert.Equal(t, p.ID, fencedAt.ID)
			a.Number = 3
			_, err = b.LookUp(t.Context(), a)
			require.ErrorIs(t, err, fault.NotFound, "another attempt's isn't it")
			_, err = b.Fence(t.Context(), a)
			require.ErrorIs(t, err, fault.NotFound)
		})
	}
}

func TestStripesSearchIsNeverUsed(t *testing.T) {
	b := open(t)
	a := b.attempt("pm_card_visa")
	_, err := b.LookUp(t.Context(), a)
	require.ErrorIs(t, err, fault.NotFound)
	for _, c := range b.sim.Faults.Calls(sim.Match{}) {
		assert.NotContains(t, c.Path, "search")
	}
}

func TestTheFenceAndTheCommitNeverBothWin(t *testing.T) {
	for range 20 {
		b := open(t)
		a := b.prepared(t, "pm_card_visa")
		type result struct {
			*payment.Payment
			err error
		}
		results := make(chan result, 2)
		for _, do := range []step{b.Commit, b.Fence} {
			go func() {
				p, err := do(context.WithoutCancel(t.Context()), a)
				results <- result{p, err}
			}()
		}
		one, two := <-results, <-results
		require.NoError(t, one.err)
		require.NoError(t, two.err)
		assert.Equal(t, one.State, two.State, "whoever was late tells what has become of it")
		moved := len(b.sim.Charges("order-1"))
		assert.Equal(t, map[payment.State]int{payment.Paid: 1, payment.Ended: 0}[one.State], moved)
	}
}

func TestAFenceThatIsTooLateTellsWhatHappened(t *testing.T) {
	b := open(t)
	a, _ := b.committed(t, "pm_card_visa")
	p, err := b.Fence(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Paid, p.State)

	slow := b.prepared(t, "pm_card_visa", func(a *payment.Attempt) { a.Order.ID = "order-2" })
	b.sim.Faults.Add(sim.Fault{On: on(cancelPath), At: sim.BeforeActing, Do: sim.Answer, Kept: true, Times: 1, Reply: simulator.ServerError(500, "")})
	_, err = b.Fence(t.Context(), slow)
	require.ErrorIs(t, err, fault.Uncertain)
	for range 2 {
		p, err = b.Fence(t.Context(), slow)
		require.NoError(t, err, "a failure before isn't kept under a key")
		assert.Equal(t, payment.Ended, p.State, "twice is once")
	}
}

func TestAStepThatDoesNotFitTheStateTellsTheState(t *testing.T) {
	b := open(t)
	canceled := b.prepared(t, "pm_card_visa")
	fenced(t, b, canceled)
	p, err := b.Commit(t.Context(), canceled)
	require.NoError(t, err)
	assert.Equal(t, payment.Ended, p.State)

	form := b.prepared(t, "", func(a *payment.Attempt) { a.Order.ID = "order-2" })
	p, err = b.Commit(t.Context(), form)
	require.NoError(t, err)
	assert.Equal(t, payment.Actionable, p.State, "the customer has not said yet what to pay with")

	paid, _ := b.committed(t, "pm_card_visa", func(a *payment.Attempt) { a.Order.ID = "order-3" })
	p, err = b.CaptureAttempt(t.Context(), paid, paid.Order.Amount)
	require.NoError(t, err)
	assert.Equal(t, payment.Paid, p.State)
	p, err = b.VoidAttempt(t.Context(), paid)
	require.NoError(t, err)
	assert.Equal(t, payment.Paid, p.State)

	held, _ := b.committed(t, "pm_card_visa", hold, func(a *payment.Attempt) { a.Order.ID = "order-4" })
	_, err = b.CaptureAttempt(t.Context(), held, payment.Money{Minor: 2000, Currency: "USD"})
	require.ErrorIs(t, err, fault.Invalid, "more than is held")
	_, err = b.CaptureAttempt(t.Context(), held, payment.Money{Minor: 2000, Currency: "XXX"})
	require.ErrorIs(t, err, fault.Unsupported)
}

func TestAStepWithoutAPaymentIsRefusedBeforeIO(t *testing.T) {
	b := open(t)
	a := b.attempt("pm_card_visa")
	for _, do := range []step{b.Commit, b.VoidAttempt, func(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
		return b.CaptureAttempt(ctx, a, a.Order.Amount)
	}} {
		_, err := do(t.Context(), a)
		require.ErrorIs(t, err, fault.Invalid)
		assert.ErrorContains(t, err, "payment_id")
	}
	assert.Empty(t, b.sim.Faults.Calls(sim.Match{}))
}

func TestAnAttemptOfAnotherAccountOrModeIsRefusedBeforeIO(t *testing.T) {
	b := open(t)
	a := b.prepared(t, "pm_card_visa")
	before := len(b.sim.Faults.Calls(sim.Match{}))
	live, connected := b.Gateway, b.Gateway
	live.Key = secret.Literal("sk_live_planted5ecret")
	connected.Account = "acct_connected"
	assert.True(t, live.Identity().Live)
	for _, g := range []interface {
		payment.Gateway
		payment.Refunder
	}{live, connected} {
		for _, do := range []step{g.Prepare, g.Commit, g.LookUp, g.Fence} {
			_, err := do(t.Context(), a)
			require.ErrorIs(t, err, fault.Denied)
		}
		_, err := g.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: "r", Amount: a.Order.Amount})
		require.ErrorIs(t, err, fault.Denied)
	}
	assert.Len(t, b.sim.Faults.Calls(sim.Match{}), before)
}
