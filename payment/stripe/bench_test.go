package stripe_test

import (
	"context"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/stripe"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/stripe"
	"github.com/smilefactory/integrations/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	key       = "sk_test_planted5ecret"
	returnURL = "https://shop.example.com/paid?token=planted-return"
)

// bench is a Gateway in front of a simulator.
type bench struct {
	stripe.Gateway

	sim   *simulator.Sim
	clock *sim.Clock
}

func open(t *testing.T) *bench {
	t.Helper()
	return openOver(t, false)
}

func openOver(t *testing.T, http2 bool) *bench {
	t.Helper()
	b := &bench{clock: sim.NewClock(time.Now())}
	b.sim = simulator.New(simulator.Config{
		Keys: []string{key, "sk_live_planted5ecret"}, Connected: []string{"acct_connected"}, Now: b.clock.Now,
	})
	host := b.sim.Start(http2)
	t.Cleanup(host.Close)
	t.Cleanup(b.sim.Faults.Close)
	b.Gateway = stripe.Gateway{Key: secret.Literal(key), BaseURL: host.URL, HTTPClient: host.Client()}
	return b
}

// attempt is one of 19.99 USD with that method.
func (b *bench) attempt(method string, change ...func(*payment.Attempt)) *payment.Attempt {
	a := &payment.Attempt{
		Tenant: "tenant-1", Number: 2, Identity: b.Identity(), Provider: "stripe", Method: payment.Method{ID: method}, Began: b.clock.Now(),
		Order: &payment.Order{
			ID: "order-1", User: "user-42", Amount: payment.Money{Minor: 1999, Currency: payment.USD},
			ReturnURL: returnURL, Description: "Planted description",
		},
	}
	for _, c := range change {
		c(a)
	}
	return a
}

func hold(a *payment.Attempt)     { a.Order.Hold = true }
func merchant(a *payment.Attempt) { a.Order.Presence = payment.MerchantInitiated }
func noReturn(a *payment.Attempt) { a.Order.ReturnURL = "" }

func of(customer string) func(*payment.Attempt) {
	return func(a *payment.Attempt) { a.Method.Customer = customer }
}

// prepared is the attempt after Prepare.
func (b *bench) prepared(t *testing.T, method string, change ...func(*payment.Attempt)) *payment.Attempt {
	t.Helper()
	a := b.attempt(method, change...)
	p, err := b.Prepare(t.Context(), a)
	require.NoError(t, err)
	a.PaymentID = p.ID
	return a
}

// committed is the attempt after Commit, and how it stands.
func (b *bench) committed(t *testing.T, method string, change ...func(*payment.Attempt)) (*payment.Attempt, *payment.Payment) {
	t.Helper()
	a := b.prepared(t, method, change...)
	p, err := b.Commit(t.Context(), a)
	require.NoError(t, err)
	return a, p
}

// wallet is a customer with a saved card, which was set up off session.
func (b *bench) wallet(t *testing.T, method string) payment.Method {
	t.Helper()
	r, err := b.SetupPaymentMethod(t.Context(), &payment.Setup{ID: "setup-1", Method: method, OffSession: true, Key: "setup-" + method})
	require.NoError(t, err)
	if r.Action != nil {
		require.NoError(t, b.sim.Authenticate(r.ID, true))
		r, err = b.SetupPaymentMethod(t.Context(), &payment.Setup{ID: "setup-1", Method: method, OffSession: true, Key: "setup-" + method})
		require.NoError(t, err)
	}
	require.NotNil(t, r.Method)
	return r.Method.Method
}

func saved(m payment.Method) func(*payment.Attempt) {
	return func(a *payment.Attempt) { a.Method = m }
}

// form is the last request at a path, and its header.
func (b *bench) form(t *testing.T, path string) (url.Values, http.Header) {
	t.Helper()
	calls := b.sim.Faults.Calls(on(path))
	require.NotEmpty(t, calls, path)
	last := calls[len(calls)-1]
	values, err := url.ParseQuery(string(last.Body))
	require.NoError(t, err)
	return values, last.Header
}

// on is the match of a POST.
func on(path string) sim.Match { return sim.Match{Method: http.MethodPost, Path: path} }

const (
	createPath  = "/v1/payment_intents"
	confirmPath = "/v1/payment_intents/*/confirm"
	capturePath = "/v1/payment_intents/*/capture"
	cancelPath  = "/v1/payment_intents/*/cancel"
	refundPath  = "/v1/refunds"
)

type step = func(context.Context, *payment.Attempt) (*payment.Payment, error)
