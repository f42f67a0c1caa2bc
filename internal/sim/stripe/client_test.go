package stripe_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	stripego "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"

	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/internal/sim/stripe"
)

// sdk is stripe-go's client for the simulator, without retries of its own.
func (b *bench) sdk(apiKey string) *client.API {
	backend := stripego.GetBackendWithConfig(stripego.APIBackend, &stripego.BackendConfig{
		URL: new(b.host.URL), HTTPClient: b.host.Client(), MaxNetworkRetries: stripego.Int64(0),
		EnableTelemetry: new(false), LeveledLogger: &stripego.LeveledLogger{Level: stripego.LevelNull},
	})
	return client.New(apiKey, &stripego.Backends{API: backend, Connect: backend, Uploads: backend})
}

func TestStripeGoPaysAndRefunds(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		b := openHTTP(t, http2)
		api := b.sdk(testKey)
		create := &stripego.PaymentIntentParams{
			Amount: stripego.Int64(1000), Currency: new("usd"), Metadata: map[string]string{"order_id": "o1"},
			AutomaticPaymentMethods: &stripego.PaymentIntentAutomaticPaymentMethodsParams{Enabled: new(true), AllowRedirects: new("never")},
			CaptureMethod:           new("manual"),
		}
		create.SetIdempotencyKey("create")
		pi, err := api.PaymentIntents.New(create)
		require.NoError(t, err)
		assert.Equal(t, stripego.PaymentIntentStatusRequiresPaymentMethod, pi.Status)

		confirm := &stripego.PaymentIntentConfirmParams{PaymentMethod: new("pm_card_visa")}
		confirm.AddExpand("latest_charge")
		pi, err = api.PaymentIntents.Confirm(pi.ID, confirm)
		require.NoError(t, err)
		assert.Equal(t, stripego.PaymentIntentStatusRequiresCapture, pi.Status)
		assert.Equal(t, start.AddDate(0, 0, 7).Unix(), pi.LatestCharge.PaymentMethodDetails.Card.CaptureBefore)

		pi, err = api.PaymentIntents.Capture(pi.ID, &stripego.PaymentIntentCaptureParams{AmountToCapture: stripego.Int64(900)})
		require.NoError(t, err)
		assert.Equal(t, int64(900), pi.AmountReceived)

		re, err := api.Refunds.New(&stripego.RefundParams{PaymentIntent: &pi.ID, Amount: stripego.Int64(400)})
		require.NoError(t, err)
		assert.Equal(t, stripego.RefundStatusSucceeded, re.Status)
		assert.Equal(t, map[string]int64{"usd": 500}, b.Balance("o1"))

		list := api.PaymentIntents.List(&stripego.PaymentIntentListParams{CreatedRange: &stripego.RangeQueryParams{GreaterThanOrEqual: start.Unix()}})
		require.True(t, list.Next())
		assert.Equal(t, pi.ID, list.PaymentIntent().ID)
		assert.False(t, list.Next())
		require.NoError(t, list.Err())
	}
}

func TestStripeGoReadsTheErrors(t *testing.T) {
	b := open(t)
	api := b.sdk(testKey)
	declined := &stripego.PaymentIntentParams{
		Amount: stripego.Int64(1000), Currency: new("usd"), Confirm: new(true), PaymentMethodTypes: []*string{new("card")},
		PaymentMethod: new("pm_card_chargeDeclinedInsufficientFunds"),
	}
	_, err := api.PaymentIntents.New(declined)
	var e *stripego.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, []any{402, stripego.ErrorTypeCard, stripego.ErrorCodeCardDeclined, stripego.DeclineCodeInsufficientFunds}, []any{e.HTTPStatusCode, e.Type, e.Code, e.DeclineCode})
	assert.NotEmpty(t, e.RequestID)
	assert.Equal(t, stripego.PaymentIntentStatusRequiresPaymentMethod, e.PaymentIntent.Status)
	assert.NotEmpty(t, e.ChargeID)

	_, err = b.sdk("sk_test_wrong").PaymentIntents.Get("pi_1", nil)
	require.ErrorAs(t, err, &e)
	assert.Equal(t, 401, e.HTTPStatusCode)
	_, err = api.PaymentIntents.Cancel("pi_none", nil)
	require.ErrorAs(t, err, &e)
	assert.Equal(t, []any{404, stripego.ErrorCodeResourceMissing}, []any{e.HTTPStatusCode, e.Code})

	b.Faults.Add(sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: stripe.ServerError(500, ""), Kept: true, Times: 1})
	params := &stripego.CustomerParams{Email: new("a@example.com")}
	params.SetIdempotencyKey("k")
	for range 2 {
		_, err = api.Customers.New(params)
		require.ErrorAs(t, err, &e)
		assert.Equal(t, []any{500, stripego.ErrorTypeAPI}, []any{e.HTTPStatusCode, e.Type})
	}
	b.Faults.Add(sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: stripe.BadGateway(), Times: 1})
	_, err = api.Accounts.Get()
	require.Error(t, err)
	assert.NotErrorAs(t, err, &e, "a page isn't Stripe's error")
}

func TestStripeGoSavesCards(t *testing.T) {
	b := open(t)
	api := b.sdk(testKey)
	cu, err := api.Customers.New(&stripego.CustomerParams{Email: new("a@example.com")})
	require.NoError(t, err)
	si, err := api.SetupIntents.New(&stripego.SetupIntentParams{
		Customer: &cu.ID, PaymentMethod: new("pm_card_authenticationRequiredOnSetup"), Confirm: new(true), ReturnURL: new("https://example.com"),
	})
	require.NoError(t, err)
	assert.Equal(t, stripego.SetupIntentNextActionTypeRedirectToURL, si.NextAction.Type)
	require.NoError(t, b.Authenticate(si.ID, true))
	list := api.PaymentMethods.List(&stripego.PaymentMethodListParams{Customer: &cu.ID, Type: new("card")})
	require.True(t, list.Next())
	pm := list.PaymentMethod()
	assert.Equal(t, stripego.PaymentMethodCardBrandVisa, pm.Card.Brand)
	cu, err = api.Customers.Update(cu.ID, &stripego.CustomerParams{InvoiceSettings: &stripego.CustomerInvoiceSettingsParams{DefaultPaymentMethod: &pm.ID}})
	require.NoError(t, err)
	assert.Equal(t, pm.ID, cu.InvoiceSettings.DefaultPaymentMethod.ID)
	pm, err = api.PaymentMethods.Detach(pm.ID, nil)
	require.NoError(t, err)
	assert.Nil(t, pm.Customer)
	acct, err := api.Accounts.Get()
	require.NoError(t, err)
	assert.True(t, acct.ChargesEnabled)
}

// The answer is lost after the money moved; the same key tells what happened.
func Example() {
	s := stripe.New(stripe.Config{Keys: []string{"sk_test_1"}})
	defer s.Faults.Close()
	host := s.Start(true)
	defer host.Close()
	s.Faults.Add(sim.Fault{On: sim.Match{Path: "/v1/payment_intents"}, At: sim.AfterActing, Do: sim.Reset, Times: 1})

	backend := stripego.GetBackendWithConfig(stripego.APIBackend, &stripego.BackendConfig{
		URL: new(host.URL), HTTPClient: host.Client(), MaxNetworkRetries: stripego.Int64(0), LeveledLogger: &stripego.LeveledLogger{},
	})
	api := client.New("sk_test_1", &stripego.Backends{API: backend})
	pay := func() (*stripego.PaymentIntent, error) {
		params := &stripego.PaymentIntentParams{
			Amount: stripego.Int64(1000), Currency: new("usd"), Metadata: map[string]string{stripe.OrderKey: "order-1"},
			PaymentMethod: new("pm_card_visa"), Confirm: new(true), PaymentMethodTypes: []*string{new("card")},
		}
		params.SetIdempotencyKey("order-1/attempt-1")
		return api.PaymentIntents.New(params)
	}
	_, err := pay()
	fmt.Println("known:", err == nil, "charges:", len(s.Charges("order-1")))
	pi, err := pay()
	fmt.Println(pi.Status, err, "charges:", len(s.Charges("order-1")))
	// Output:
	// known: false charges: 1
	// succeeded <nil> charges: 1
}

func TestACallerWhoStopsWaitingLeavesTheKeyFree(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		b := openHTTP(t, http2)
		b.Faults.Add(sim.Fault{At: sim.BeforeActing, Do: sim.Stall, Times: 1})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := b.send(ctx, http.MethodPost, "/v1/payment_intents", pay+"pm_card_visa", key("k"))
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Eventually(t, func() bool {
			return b.post("/v1/payment_intents", pay+"pm_card_visa", key("k")).status == 200
		}, 5*time.Second, time.Millisecond)
		assert.Len(t, b.Charges("o1"), 1)
	}
}
