package stripe_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/servertest"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/stripe"
	"github.com/smilefactory/integrations/secret"
)

// stripeMock checks every request against Stripe's own OpenAPI description. As a
// transport it can spoil requests, and notes what was answered.
type stripeMock struct {
	*http.Transport

	spoil    string // is added to a form
	replayed bool   // answers say that they are replayed ones

	mu       sync.Mutex
	answered map[string][]int // by method and path, without ids
}

func newStripeMock(t *testing.T) (*stripeMock, stripe.Gateway) {
	t.Helper()
	url := servertest.Env(t, "INTEGRATIONS_STRIPE_MOCK")
	m := &stripeMock{Transport: &http.Transport{}, answered: map[string][]int{}}
	t.Cleanup(m.CloseIdleConnections)
	return m, stripe.Gateway{Key: secret.Literal("sk_test_123"), BaseURL: url, HTTPClient: &http.Client{Transport: m}}
}

func (m *stripeMock) RoundTrip(r *http.Request) (*http.Response, error) {
	if m.spoil != "" && r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = append(body, m.spoil...)
		r = r.Clone(r.Context())
		r.Body, r.ContentLength, r.GetBody = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	}
	resp, err := m.Transport.RoundTrip(r)
	if err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.replayed {
			resp.Header.Set("Idempotent-Replayed", "true")
		}
		segments := strings.Split(r.URL.Path, "/")
		for i, s := range segments {
			if strings.HasPrefix(s, "pi_") || strings.HasPrefix(s, "pm_") || strings.HasPrefix(s, "cus_") || strings.HasPrefix(s, "re_") || strings.HasPrefix(s, "seti_") {
				segments[i] = "*"
			}
		}
		name := r.Method + " " + strings.Join(segments, "/")
		m.answered[name] = append(m.answered[name], resp.StatusCode)
	}
	return resp, err
}

// everyOrder has an order for every parameter that can be sent.
func everyOrder(g stripe.Gateway) map[string]*payment.Attempt {
	out := map[string]*payment.Attempt{}
	add := func(name string, method payment.Method, o payment.Order) {
		o.ID, o.Amount = "order-1", payment.Money{Minor: 1999, Currency: payment.USD}
		out[name] = &payment.Attempt{Order: &o, Number: 1, Identity: g.Identity(), Provider: "stripe", Method: method, PaymentID: "pi_123", Began: time.Now()}
	}
	mine := payment.Method{ID: "pm_123", Customer: "cus_123"}
	add("nothing but the amount", payment.Method{}, payment.Order{})
	add("a method", payment.Method{ID: "pm_123"}, payment.Order{User: "user-42", Description: "Two books", ReturnURL: "https://shop.example.com/paid"})
	add("a token", payment.Method{ID: "tok_visa"}, payment.Order{})
	add("a hold", mine, payment.Order{Hold: true})
	add("saved on session", mine, payment.Order{Save: payment.OnSession})
	add("saved off session", mine, payment.Order{Save: payment.OffSession})
	add("merchant initiated", mine, payment.Order{Presence: payment.MerchantInitiated})
	return out
}

// everyRequest makes every request that a Gateway can make. What a fixture says to
// it counts for nothing.
func everyRequest(ctx context.Context, g stripe.Gateway, a *payment.Attempt) {
	_, _ = g.Prepare(ctx, a)
	_, _ = g.Commit(ctx, a)
	_, _ = g.LookUp(ctx, a)
	_, _ = g.Fence(ctx, a)
	_, _ = g.CaptureAttempt(ctx, a, a.Order.Amount)
	_, _ = g.VoidAttempt(ctx, a)
	unknown := *a
	unknown.PaymentID = ""
	_, _ = g.LookUp(ctx, &unknown)
	r := &payment.Refunding{Attempt: a, ID: "refund-1", Amount: a.Order.Amount}
	_, _ = g.RefundAttempt(ctx, r)
	_, _ = g.LookUpRefund(ctx, r)
	r.ProviderID = "re_123"
	_, _ = g.LookUpRefund(ctx, r)
	for _, s := range []*payment.Setup{
		{ID: "setup-1", User: "user-42", Key: "k-1"},
		{ID: "setup-2", Customer: "cus_123", Method: "pm_123", OffSession: true, ReturnURL: "https://shop.example.com/saved", Key: "k-2"},
		{ID: "setup-3", Method: "tok_visa", Key: "k-3"},
	} {
		_, _ = g.SetupPaymentMethod(ctx, s)
	}
	_, _ = g.Attach(ctx, "cus_123", "pm_123")
	_, _ = g.SavedMethods(ctx, "cus_123")
	fixture := "cus_123" // whose the fixture is, isn't said
	_ = g.SetDefault(ctx, fixture, "pm_123")
	_ = g.Detach(ctx, fixture, "pm_123")
}

func TestIntegrationStripesDescriptionAllowsEveryRequest(t *testing.T) {
	m, g := newStripeMock(t)
	for name, a := range everyOrder(g) {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, g.CanTake(a))
			everyRequest(t.Context(), g, a)
		})
	}
	m.replayed = true
	everyRequest(t.Context(), g, everyOrder(g)["a method"])
	requests := 0
	for name, statuses := range m.answered {
		for _, status := range statuses {
			assert.Equal(t, http.StatusOK, status, name)
			requests++
		}
	}
	t.Logf("%d requests to %d endpoints were allowed", requests, len(m.answered))
	for _, name := range []string{
		"POST /v1/payment_intents", "POST /v1/payment_intents/*/confirm", "POST /v1/payment_intents/*/cancel", "POST /v1/payment_intents/*/capture",
		"GET /v1/payment_intents/*", "GET /v1/payment_intents", "POST /v1/refunds", "GET /v1/refunds", "GET /v1/refunds/*",
		"POST /v1/customers", "GET /v1/customers/*", "GET /v1/customers/*/payment_methods", "POST /v1/setup_intents", "GET /v1/setup_intents/*",
		"POST /v1/payment_methods", "GET /v1/payment_methods/*", "POST /v1/payment_methods/*/attach",
	} {
		assert.NotEmpty(t, m.answered[name], name)
	}
}

// The methods of a customer are asked for first, and the fixture's is nobody's: the
// two requests that follow are made on their own.
func TestIntegrationStripesDescriptionAllowsDetachAndDefault(t *testing.T) {
	m, g := newStripeMock(t)
	owner := roundTrip(func(r *http.Request) (*http.Response, error) {
		resp, err := m.RoundTrip(r)
		if err != nil || r.Method != http.MethodGet || !strings.HasPrefix(r.URL.Path, "/v1/payment_methods/") {
			return resp, err
		}
		resp.Body.Close()
		resp.Body = io.NopCloser(strings.NewReader(`{"object":"payment_method","id":"pm_123","customer":"cus_123"}`))
		return resp, nil
	})
	g.HTTPClient = &http.Client{Transport: owner}
	require.NoError(t, g.SetDefault(t.Context(), "cus_123", "pm_123"))
	require.NoError(t, g.Detach(t.Context(), "cus_123", "pm_123"))
	assert.Equal(t, []int{200}, m.answered["POST /v1/customers/*"])
	assert.Equal(t, []int{200}, m.answered["POST /v1/payment_methods/*/detach"])
}

// Proves that the tests above can fail: stripe-mock looks at what it is sent.
func TestIntegrationWhatTheDescriptionDoesNotAllowIsRefused(t *testing.T) {
	m, g := newStripeMock(t)
	a := everyOrder(g)["a method"]
	for name, spoil := range map[string]string{"an unknown parameter": "&amont=1", "a parameter's type": "&metadata=no", "a word there isn't": "&capture_method=perhaps"} {
		m.spoil = spoil
		_, err := g.Prepare(t.Context(), a)
		require.ErrorIs(t, err, fault.Invalid, name)
	}
}

// TestTheWholeFlow runs against the simulator, and TestIntegrationLive against
// Stripe's test mode: the same rules hold at both.
func TestTheWholeFlow(t *testing.T) {
	b := open(t)
	flow(t, b.Gateway, "order")
}

func TestIntegrationLive(t *testing.T) {
	g := stripe.Gateway{Key: secret.Literal(testKey(t)), HTTPClient: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(g.HTTPClient.CloseIdleConnections)
	flow(t, g, fmt.Sprintf("it-%d", time.Now().UnixNano()))
}

func flow(t *testing.T, g stripe.Gateway, prefix string) {
	t.Helper()
	n := 0
	begin := func(method payment.Method, o payment.Order) *payment.Attempt {
		n++
		o.ID, o.User = fmt.Sprintf("%s-%d", prefix, n), "user-42"
		o.Amount, o.ReturnURL = payment.Money{Minor: 1999, Currency: payment.USD}, "https://shop.example.com/paid"
		a := &payment.Attempt{Order: &o, Number: 1, Identity: g.Identity(), Provider: "stripe", Method: method, Began: time.Now()}
		p, err := g.Prepare(t.Context(), a)
		require.NoError(t, err)
		a.PaymentID = p.ID
		return a
	}
	is := func(want payment.State) func(*payment.Payment, error) *payment.Payment {
		return func(p *payment.Payment, err error) *payment.Payment {
			t.Helper()
			require.NoError(t, err)
			require.Equal(t, want, p.State)
			return p
		}
	}
	visa := payment.Method{ID: "pm_card_visa"}

	paid := begin(visa, payment.Order{})
	is(payment.Prepared)(g.LookUp(t.Context(), paid))
	is(payment.Paid)(g.Commit(t.Context(), paid))
	is(payment.Paid)(g.Commit(t.Context(), paid))
	is(payment.Paid)(g.Fence(t.Context(), paid))
	found := *paid
	found.PaymentID = ""
	assert.Equal(t, paid.PaymentID, is(payment.Paid)(g.LookUp(t.Context(), &found)).ID)

	part := &payment.Refunding{Attempt: paid, ID: "refund-1", Amount: usd(500)}
	first, err := g.RefundAttempt(t.Context(), part)
	require.NoError(t, err)
	again, err := g.RefundAttempt(t.Context(), part)
	require.NoError(t, err)
	assert.Equal(t, first.ProviderID, again.ProviderID)
	listed, err := g.LookUpRefund(t.Context(), part)
	require.NoError(t, err)
	assert.Equal(t, first.ProviderID, listed.ProviderID)
	_, err = g.RefundAttempt(t.Context(), &payment.Refunding{Attempt: paid, ID: "refund-2", Amount: usd(1500)})
	require.Error(t, err, "more than is left")
	assert.Equal(t, usd(500), is(payment.Paid)(g.LookUp(t.Context(), paid)).Refunded)

	declined := begin(payment.Method{ID: "pm_card_visa_chargeDeclinedInsufficientFunds"}, payment.Order{})
	assert.Equal(t, payment.InsufficientFunds, is(payment.Refused)(g.Commit(t.Context(), declined)).Decline.Reason)
	is(payment.Refused)(g.LookUp(t.Context(), declined))
	is(payment.Ended)(g.Fence(t.Context(), declined))

	held := begin(visa, payment.Order{Hold: true})
	is(payment.Held)(g.Commit(t.Context(), held))
	assert.Equal(t, usd(1000), is(payment.Paid)(g.CaptureAttempt(t.Context(), held, usd(1000))).Captured)
	void := begin(visa, payment.Order{Hold: true})
	is(payment.Held)(g.Commit(t.Context(), void))
	is(payment.Ended)(g.VoidAttempt(t.Context(), void))

	asked := begin(payment.Method{ID: "pm_card_authenticationRequired"}, payment.Order{})
	assert.NotEmpty(t, is(payment.Actionable)(g.Commit(t.Context(), asked)).Action.RedirectURL)
	is(payment.Ended)(g.Fence(t.Context(), asked))
	is(payment.Ended)(g.Commit(t.Context(), asked))
	form := begin(payment.Method{}, payment.Order{})
	assert.False(t, is(payment.Actionable)(g.LookUp(t.Context(), form)).Action.ClientSecret.IsZero())

	setup, err := g.SetupPaymentMethod(t.Context(), &payment.Setup{ID: prefix, User: "user-42", Method: "pm_card_visa", OffSession: true, Key: prefix + "-setup"})
	require.NoError(t, err)
	require.NotNil(t, setup.Method)
	require.NoError(t, g.SetDefault(t.Context(), setup.Customer, setup.Method.ID))
	all, err := g.SavedMethods(t.Context(), setup.Customer)
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.True(t, all[0].Default)
	later := begin(setup.Method.Method, payment.Order{Presence: payment.MerchantInitiated})
	is(payment.Paid)(g.Commit(t.Context(), later))
	require.NoError(t, g.Detach(t.Context(), setup.Customer, setup.Method.ID))
	require.ErrorIs(t, g.Detach(t.Context(), setup.Customer, setup.Method.ID), fault.NotFound)
}
