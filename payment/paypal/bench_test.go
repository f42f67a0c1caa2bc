package paypal_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/paypal"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paypal"
	"github.com/smilefactory/integrations/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	clientID    = "sim-client"
	password    = "planted-client-secret"
	merchant    = "MERCHANT23456"
	returnURL   = "https://shop.example.com/paid?token=planted-return"
	description = "Planted description"
)

// bench is a Gateway in front of a simulator. Every request is checked against the
// descriptions of PayPal's API.
type bench struct {
	*paypal.Gateway

	t     *testing.T
	sim   *simulator.Sim
	host  *sim.Host
	clock *sim.Clock
}

func open(t *testing.T) *bench {
	t.Helper()
	return openOver(t, false)
}

func openOver(t *testing.T, http2 bool) *bench {
	t.Helper()
	return openAt(t, http2, time.Now())
}

func openAt(t *testing.T, http2 bool, start time.Time) *bench {
	t.Helper()
	b := &bench{t: t, clock: sim.NewClock(start)}
	b.sim = simulator.New(simulator.Config{Now: b.clock.Now, Accounts: []simulator.Account{
		{ClientID: clientID, Secret: password, MerchantID: merchant, Email: "merchant@example.com"},
	}})
	b.host = sim.NewHost(b.sim, http2)
	t.Cleanup(b.host.Close)
	t.Cleanup(b.sim.Close)
	b.Gateway = &paypal.Gateway{
		ClientID: clientID, Secret: secret.Literal(password), Sandbox: true, BaseURL: b.host.URL,
		HTTPClient: &http.Client{Transport: described{t, b.host.Client().Transport}},
	}
	return b
}

// attempt is one of 19.99 USD that the customer is to approve.
func (b *bench) attempt(change ...func(*payment.Attempt)) *payment.Attempt {
	a := &payment.Attempt{
		Tenant: "tenant-1", Number: 2, Identity: b.Identity(), Provider: "paypal", Began: time.Now(),
		Order: &payment.Order{
			ID: "order-1", User: "user-42", Amount: payment.Money{Minor: 1999, Currency: payment.USD},
			ReturnURL: returnURL, CancelURL: "https://shop.example.com/cart", Description: description,
		},
	}
	for _, c := range change {
		c(a)
	}
	return a
}

func hold(a *payment.Attempt)         { a.Order.Hold = true }
func merchantDoes(a *payment.Attempt) { a.Order.Presence = payment.MerchantInitiated }
func tomorrow(a *payment.Attempt)     { a.Began = time.Now().Add(-24 * time.Hour) }

func with(method string) func(*payment.Attempt) {
	return func(a *payment.Attempt) { a.Method.ID = method }
}

func costs(minor int64, c payment.Currency) func(*payment.Attempt) {
	return func(a *payment.Attempt) { a.Order.Amount = payment.Money{Minor: minor, Currency: c} }
}

// saved is a method in the vault, of which charging ends as told.
func (b *bench) saved(kind string, outcome simulator.Outcome) func(*payment.Attempt) {
	b.t.Helper()
	id, err := b.sim.SaveMethod(clientID, "customer1", kind, outcome)
	require.NoError(b.t, err)
	if kind != "paypal" {
		id = kind + ":" + id
	}
	return with(id)
}

// prepared is the attempt after Prepare.
func (b *bench) prepared(change ...func(*payment.Attempt)) *payment.Attempt {
	b.t.Helper()
	a := b.attempt(change...)
	p, err := b.Prepare(b.t.Context(), a)
	require.NoError(b.t, err)
	a.PaymentID = p.ID
	return a
}

// approved is the attempt after the customer agreed, with what ends as told.
func (b *bench) approved(outcome simulator.Outcome, change ...func(*payment.Attempt)) *payment.Attempt {
	b.t.Helper()
	a := b.prepared(change...)
	_, err := b.sim.Approve(a.PaymentID, outcome)
	require.NoError(b.t, err)
	return a
}

// committed is the attempt after Commit, and how it stands.
func (b *bench) committed(a *payment.Attempt) *payment.Payment {
	b.t.Helper()
	p, err := b.Commit(b.t.Context(), a)
	require.NoError(b.t, err)
	a.ChargeID, a.AuthorizationID = p.ChargeID, p.AuthorizationID
	return p
}

// charges are how often money moved for the order.
func (b *bench) charges(a *payment.Attempt) int { return b.sim.Charges.Count(a.Reference().String()) }

func (b *bench) balance(a *payment.Attempt) simulator.Balance {
	return b.sim.Balance(a.Reference().String())["USD"]
}

func usd(minor int64) payment.Money { return payment.Money{Minor: minor, Currency: payment.USD} }

const (
	createPath    = "/v2/checkout/orders"
	orderPath     = "/v2/checkout/orders/*"
	capturePath   = "/v2/checkout/orders/*/capture"
	authorizePath = "/v2/checkout/orders/*/authorize"
	takePath      = "/v2/payments/authorizations/*/capture"
	voidPath      = "/v2/payments/authorizations/*/void"
	refundPath    = "/v2/payments/captures/*/refund"
	tokenPath     = "/v1/oauth2/token"
)

func on(path string) sim.Match { return sim.Match{Method: http.MethodPost, Path: path} }

var anything sim.Match

func got(path string) sim.Match { return sim.Match{Method: http.MethodGet, Path: path} }

// answers makes PayPal answer the next such request with a step's reply, and act or not.
func answers(m sim.Match, reply sim.Reply) sim.Fault {
	return sim.Fault{On: m, At: sim.BeforeActing, Do: sim.Answer, Reply: reply, Times: 1}
}

// planted must be in no error.
var planted = []string{
	password, "planted", "Planted", "A21AA", "buyer@example.com", "John", "Doe", "merchant@example.com", "Bearer", "Basic",
}

// isFault checks an error's kind and PayPal's code, and that it tells nothing that it
// must not.
func isFault(t *testing.T, err error, kind fault.Kind, code string) *fault.Error {
	t.Helper()
	require.Error(t, err)
	f, ok := fault.As(err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, kind, f.Kind, "%v", err)
	assert.Equal(t, code, f.Code, "%v", err)
	for _, p := range planted {
		assert.NotContains(t, err.Error(), p)
	}
	return f
}

func fieldOf(t *testing.T, err error) string {
	t.Helper()
	var field *payment.FieldError
	require.ErrorAs(t, err, &field)
	return field.Field
}

func bodies(b *bench, m sim.Match) string {
	var all strings.Builder
	for _, c := range b.sim.Calls(m) {
		all.Write(c.Body)
	}
	return all.String()
}
