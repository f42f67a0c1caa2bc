package stripe_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/stripe"
	"github.com/smilefactory/integrations/payment"
)

const setupsPath = "/v1/setup_intents"

func TestAMethodIsSavedForANewCustomer(t *testing.T) {
	b := open(t)
	s := &payment.Setup{ID: "setup-1", User: "user-42", Method: "pm_card_visa", OffSession: true, ReturnURL: returnURL, Key: "k-1"}
	first, err := b.SetupPaymentMethod(t.Context(), s)
	require.NoError(t, err)
	require.NotNil(t, first.Method)
	assert.Equal(t, payment.SavedMethod{
		Method: payment.Method{ID: first.Method.ID, Customer: first.Customer}, Type: "card", Brand: "visa", Last4: "4242", ExpMonth: 12, ExpYear: 2034, Reusable: true,
	}, *first.Method)
	sent, header := b.form(t, setupsPath)
	assert.Equal(t, url.Values{
		"customer": {first.Customer}, "payment_method": {"pm_card_visa"}, "usage": {"off_session"}, "confirm": {"true"}, "return_url": {returnURL},
		"automatic_payment_methods[enabled]": {"true"}, "metadata[setup_id]": {"setup-1"}, "metadata[user_id]": {"user-42"}, "expand[0]": {"payment_method"},
	}, sent)
	assert.Equal(t, "k-1", header.Get("Idempotency-Key"))
	sent, header = b.form(t, "/v1/customers")
	assert.Equal(t, url.Values{"metadata[user_id]": {"user-42"}}, sent)
	assert.Equal(t, "k-1:customer", header.Get("Idempotency-Key"))

	again, err := b.SetupPaymentMethod(t.Context(), s)
	require.NoError(t, err)
	assert.Equal(t, first, again, "twice is once")

	s = &payment.Setup{ID: "setup-2", Customer: first.Customer, Method: "tok_mastercard", Key: "k-2"}
	second, err := b.SetupPaymentMethod(t.Context(), s)
	require.NoError(t, err)
	assert.Equal(t, "mastercard", second.Method.Brand)
	all, err := b.SavedMethods(t.Context(), first.Customer)
	require.NoError(t, err)
	assert.Len(t, all, 2)
}

func TestTheFormAsksForTheMethodWhereThereIsNone(t *testing.T) {
	b := open(t)
	r, err := b.SetupPaymentMethod(t.Context(), &payment.Setup{ID: "setup-1", Key: "k-1"})
	require.NoError(t, err)
	assert.Nil(t, r.Method)
	assert.True(t, strings.HasPrefix(r.Action.ClientSecret.Reveal(), r.ID+"_secret_"))
	sent, _ := b.form(t, setupsPath)
	assert.Equal(t, "never", sent.Get("automatic_payment_methods[allow_redirects]"))
	assert.Equal(t, "on_session", sent.Get("usage"))
	assert.NotContains(t, sent, "confirm")
}

func TestASetupThatAsksTheCustomerEndsAsHeDecides(t *testing.T) {
	for completes, name := range map[bool]string{true: "he completes it", false: "he fails"} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			s := &payment.Setup{ID: "setup-1", Method: "pm_card_authenticationRequired", OffSession: true, ReturnURL: returnURL, Key: "k-1"}
			r, err := b.SetupPaymentMethod(t.Context(), s)
			require.NoError(t, err)
			assert.NotEmpty(t, r.Action.RedirectURL)
			require.NoError(t, b.sim.Authenticate(r.ID, completes))
			again, err := b.SetupPaymentMethod(t.Context(), s)
			require.NoError(t, err, "Stripe replays the first answer, so how it stands is looked up")
			assert.Equal(t, r.ID, again.ID)
			assert.Nil(t, again.Action)
			assert.Equal(t, completes, again.Method != nil)
			if !completes {
				assert.Equal(t, payment.AuthenticationFault, again.Decline.Reason)
			}
		})
	}
}

func TestASetupThatIsDeclinedIsAResult(t *testing.T) {
	b := open(t)
	r, err := b.SetupPaymentMethod(t.Context(), &payment.Setup{ID: "setup-1", Method: "pm_card_visa_chargeDeclinedInsufficientFunds", Key: "k-1"})
	require.NoError(t, err)
	assert.Equal(t, payment.InsufficientFunds, r.Decline.Reason)
	assert.NotEmpty(t, r.Customer)
	assert.NotEmpty(t, r.ID)
	r, err = b.SetupPaymentMethod(t.Context(), &payment.Setup{ID: "setup-2", Method: "tok_gone", Customer: r.Customer, Key: "k-2"})
	require.ErrorIs(t, err, fault.Invalid)
	assert.Nil(t, r)
}

func TestASetupWhoseStateCantBeLookedUpIsUncertain(t *testing.T) {
	b := open(t)
	s := &payment.Setup{ID: "setup-1", Method: "pm_card_visa", Key: "k-1"}
	_, err := b.SetupPaymentMethod(t.Context(), s)
	require.NoError(t, err)
	b.sim.Faults.Add(sim.Fault{On: sim.Match{Method: "GET"}, At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.BadGateway()})
	_, err = b.SetupPaymentMethod(t.Context(), s)
	require.ErrorIs(t, err, fault.Uncertain)
}

func TestASetupIsCheckedBeforeIO(t *testing.T) {
	b := open(t)
	for field, s := range map[string]*payment.Setup{
		"key":      {ID: "s", Method: "pm_1"},
		"method":   {ID: "s", Method: "4242", Key: "k"},
		"customer": {ID: "s", Customer: "4711", Key: "k"},
	} {
		_, err := b.SetupPaymentMethod(t.Context(), s)
		require.ErrorIs(t, err, fault.Invalid)
		assert.ErrorContains(t, err, "payment: "+field+": ")
	}
	_, err := b.Attach(t.Context(), "cus_1", "4242")
	require.ErrorIs(t, err, fault.Invalid)
	assert.ErrorContains(t, err, "Send what Stripe's form in the browser made")
	assert.NotContains(t, err.Error(), "4242")
	assert.Empty(t, b.sim.Faults.Calls(sim.Match{}))
}

func TestAMethodIsAttachedListedMadeDefaultAndDetached(t *testing.T) {
	b := open(t)
	mine := b.wallet(t, "pm_card_visa")
	other := b.wallet(t, "pm_card_amex")
	pm, err := b.sim.NewPaymentMethod("", false, "pm_card_mastercard")
	require.NoError(t, err)
	for range 2 {
		kept, err := b.Attach(t.Context(), mine.Customer, pm)
		require.NoError(t, err, "twice is once")
		assert.Equal(t, payment.Method{ID: pm, Customer: mine.Customer}, kept.Method)
		assert.Equal(t, "mastercard", kept.Brand)
	}
	_, err = b.Attach(t.Context(), other.Customer, pm)
	require.ErrorIs(t, err, fault.Conflict)

	require.NoError(t, b.SetDefault(t.Context(), mine.Customer, pm))
	all, err := b.SavedMethods(t.Context(), mine.Customer)
	require.NoError(t, err)
	require.Len(t, all, 2)
	for _, m := range all {
		assert.Equal(t, m.ID == pm, m.Default)
		assert.True(t, m.Reusable)
	}

	for _, wrong := range []payment.Method{{ID: pm, Customer: other.Customer}, {ID: "pm_gone", Customer: mine.Customer}} {
		require.ErrorIs(t, b.Detach(t.Context(), wrong.Customer, wrong.ID), fault.NotFound)
		require.ErrorIs(t, b.SetDefault(t.Context(), wrong.Customer, wrong.ID), fault.NotFound)
	}
	require.NoError(t, b.Detach(t.Context(), mine.Customer, pm))
	require.ErrorIs(t, b.Detach(t.Context(), mine.Customer, pm), fault.NotFound, "it isn't kept any more")
	all, err = b.SavedMethods(t.Context(), mine.Customer)
	require.NoError(t, err)
	assert.Len(t, all, 1)
	_, err = b.Attach(t.Context(), mine.Customer, pm)
	require.ErrorIs(t, err, fault.Invalid, "Stripe never attaches what was detached")
}

func TestAnAttachmentThatTheBankDeclinesIsRejected(t *testing.T) {
	b := open(t)
	mine := b.wallet(t, "pm_card_visa")
	_, err := b.Attach(t.Context(), mine.Customer, "pm_card_visa_chargeDeclined")
	require.ErrorIs(t, err, fault.Rejected)
	_, err = b.Attach(t.Context(), "cus_gone", "pm_card_visa")
	require.ErrorIs(t, err, fault.Invalid)
	kept, err := b.Attach(t.Context(), mine.Customer, "tok_visa")
	require.NoError(t, err)
	assert.Equal(t, "4242", kept.Last4)
}

func TestACustomerWhoIsNotThereHasNoMethods(t *testing.T) {
	b := open(t)
	_, err := b.SavedMethods(t.Context(), "cus_gone")
	require.ErrorIs(t, err, fault.NotFound)
	b.sim.Faults.Add(sim.Fault{On: sim.Match{Path: "/v1/customers/cus_gone"}, At: sim.BeforeActing, Do: sim.Answer, Reply: sim.Reply{
		Status: 200, Body: `{"object":"customer","id":"cus_gone","deleted":true}`,
	}})
	_, err = b.SavedMethods(t.Context(), "cus_gone")
	require.ErrorIs(t, err, fault.NotFound)
}

func TestManyMethodsAreListedOverPages(t *testing.T) {
	b := open(t)
	mine := b.wallet(t, "pm_card_visa")
	for range 120 {
		_, err := b.Attach(t.Context(), mine.Customer, "pm_card_visa")
		require.NoError(t, err)
	}
	all, err := b.SavedMethods(t.Context(), mine.Customer)
	require.NoError(t, err)
	assert.Len(t, all, 121)
}
