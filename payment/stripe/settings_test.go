package stripe_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/stripe"
	"github.com/smilefactory/integrations/secret"
)

func TestSettingsAreCheckedWithoutIO(t *testing.T) {
	good := stripe.Gateway{Key: secret.Literal(key)}
	require.NoError(t, good.Check())
	for problem, change := range map[string]func(*stripe.Gateway){
		"stripe: Key is required":                      func(g *stripe.Gateway) { g.Key = nil },
		"stripe: Account isn't the id of an account":   func(g *stripe.Gateway) { g.Account = "1234" },
		"stripe: Webhook holds a secret that is nil":   func(g *stripe.Gateway) { g.Webhook = []secret.Source{nil} },
		"stripe: BaseURL must begin with https://":     func(g *stripe.Gateway) { g.BaseURL = "http://api.stripe.com" },
		"stripe: BaseURL is not a plain URL of scheme": func(g *stripe.Gateway) { g.BaseURL = "https://u:p@api.stripe.com" },
	} {
		g := good
		change(&g)
		require.ErrorContains(t, g.Check(), problem)
		a := &payment.Attempt{Order: &payment.Order{ID: "order-1", Amount: payment.Money{Minor: 1999, Currency: "USD"}}, Identity: g.Identity()}
		_, err := g.Prepare(t.Context(), a)
		require.ErrorIs(t, err, fault.Denied)
		assert.ErrorContains(t, err, problem)
	}
}

func TestTheIdentityIsLiveUnlessTheKeySaysTest(t *testing.T) {
	vault := secret.Func(func(context.Context) (secret.Value, error) { return secret.Value{}, errors.New("vault is sealed") })
	for name, c := range map[string]struct {
		key  secret.Source
		live bool
	}{
		"a test key":                  {secret.Literal("sk_test_1"), false},
		"a restricted test key":       {secret.Literal("rk_test_1"), false},
		"a live key":                  {secret.Literal("sk_live_1"), true},
		"a restricted live key":       {secret.Literal("rk_live_1"), true},
		"a key of another form":       {secret.Literal("sk_1"), true},
		"a key that can't be read":    {vault, true},
		"no key":                      {nil, true},
		"a test key's name elsewhere": {secret.Literal("sk_live_sk_test_1"), true},
	} {
		g := stripe.Gateway{Key: c.key, Account: "acct_1"}
		assert.Equal(t, payment.Identity{Account: "acct_1", Live: c.live}, g.Identity(), name)
	}
}

func TestAKeyThatIsNoneIsRefusedBeforeIO(t *testing.T) {
	b := open(t)
	a := b.attempt("pm_card_visa")
	for name, k := range map[string]secret.Source{
		"publishable": secret.Literal("pk_test_planted5ecret"),
		"two lines":   secret.Literal("sk_test_planted5ecret\nX-Injected: 1"),
		"unreadable":  secret.Func(func(context.Context) (secret.Value, error) { return secret.Value{}, errors.New("vault is sealed") }),
	} {
		b.Key = k
		_, err := b.Prepare(t.Context(), a)
		require.ErrorIs(t, err, fault.Denied, name)
		assert.NotContains(t, err.Error(), "planted")
	}
	assert.Empty(t, b.sim.Faults.Calls(sim.Match{}))
}

func TestAKeyRotatesBetweenRequests(t *testing.T) {
	b := open(t)
	current := "sk_test_old"
	b.Key = secret.Func(func(context.Context) (secret.Value, error) { return secret.NewValue(current), nil })
	_, err := b.Prepare(t.Context(), b.attempt("pm_card_visa"))
	require.ErrorIs(t, err, fault.Denied)
	current = key
	_, err = b.Prepare(t.Context(), b.attempt("pm_card_visa"))
	require.NoError(t, err)
}

func TestADeadContextSendsNothing(t *testing.T) {
	b := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Prepare(ctx, b.attempt("pm_card_visa"))
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, b.sim.Faults.Calls(sim.Match{}))
}

func TestTheCallersHTTPClientStaysAsItIs(t *testing.T) {
	b := open(t)
	own := b.HTTPClient
	before := *own
	b.committed(t, "pm_card_visa")
	assert.Equal(t, before.Timeout, own.Timeout)
	assert.Same(t, before.Transport.(*http.Transport), own.Transport.(*http.Transport))
	assert.Nil(t, own.CheckRedirect)
}

func TestWhatCantBeTakenNamesTheFieldBeforeIO(t *testing.T) {
	amount := func(minor int64, c payment.Currency) func(*payment.Attempt) {
		return func(a *payment.Attempt) { a.Order.Amount = payment.Money{Minor: minor, Currency: c} }
	}
	method := func(id, customer string) func(*payment.Attempt) {
		return func(a *payment.Attempt) { a.Method = payment.Method{ID: id, Customer: customer} }
	}
	for name, c := range map[string]struct {
		change func(*payment.Attempt)
		field  string // empty where it can be taken
	}{
		"an ordinary order":                 {func(*payment.Attempt) {}, ""},
		"no method: the form asks":          {method("", ""), ""},
		"no method, but a customer":         {method("", "cus_1"), ""},
		"a legacy card":                     {method("card_1", "cus_1"), ""},
		"a token":                           {method("tok_visa", ""), ""},
		"a currency Stripe doesn't have":    {amount(1999, "GHS"), "amount.currency"},
		"a currency nobody has":             {amount(1999, "XXX"), "amount.currency"},
		"below the least":                   {amount(49, "USD"), "amount.minor"},
		"the least":                         {amount(50, "USD"), ""},
		"the least of yen":                  {amount(50, "JPY"), ""},
		"below the least of koruny":         {amount(1499, "CZK"), "amount.minor"},
		"one minor unit where none is told": {amount(1, "KES"), ""},
		"the most":                          {amount(99_999_999, "USD"), ""},
		"above the most":                    {amount(100_000_000, "USD"), "amount.minor"},
		"the most of rupiah":                {amount(999_999_999_999, "IDR"), ""},
		"above the most of rupiah":          {amount(1_000_000_000_000, "IDR"), "amount.minor"},
		"the most of krónur":                {amount(999_999, "ISK"), ""},
		"above the most of krónur":          {amount(1_000_000, "ISK"), "amount.minor"},
		"shillings in hundredths":           {amount(5, "UGX"), ""},
		"a fraction of an ariary":           {amount(500_050, "MGA"), "amount.minor"},
		"fils that end in 0":                {amount(5120, "KWD"), ""},
		"fils that don't":                   {amount(5124, "KWD"), "amount.minor"},
		"a payee":                           {func(a *payment.Attempt) { a.Payee = "acct_2" }, "payees.stripe"},
		"a vault id of PayPal's":            {method("8kk845", ""), "methods.stripe.id"},
		"a bank token":                      {method("btok_1", ""), "methods.stripe.id"},
		"another's customer":                {method("pm_1", "4711"), "methods.stripe.customer"},
		"merchant initiated, no method":     {func(a *payment.Attempt) { merchant(a); method("", "cus_1")(a) }, "methods.stripe.id"},
		"merchant initiated, a token":       {func(a *payment.Attempt) { merchant(a); method("tok_1", "cus_1")(a) }, "methods.stripe.id"},
		"merchant initiated, no customer":   {func(a *payment.Attempt) { merchant(a); method("pm_1", "")(a) }, "methods.stripe.customer"},
		"merchant initiated":                {func(a *payment.Attempt) { merchant(a); method("pm_1", "cus_1")(a) }, ""},
		"saved for nobody":                  {func(a *payment.Attempt) { a.Order.Save = payment.OnSession }, "methods.stripe.customer"},
		"under another name":                {func(a *payment.Attempt) { a.Provider = "eu/cards"; method("8kk845", "")(a) }, "methods.eu/cards.id"},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			a := b.attempt("pm_card_visa", c.change)
			err := b.CanTake(a)
			if c.field == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, fault.Unsupported)
			field, ok := errors.AsType[*payment.FieldError](err)
			require.True(t, ok)
			assert.Equal(t, c.field, field.Field)
			_, again := b.Prepare(t.Context(), a)
			assert.Equal(t, err, again)
			assert.Empty(t, b.sim.Faults.Calls(sim.Match{}), "nothing was sent")
		})
	}
}
