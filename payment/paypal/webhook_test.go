package paypal_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/paypal"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paypal"
	"github.com/smilefactory/integrations/secret"
)

const certPath = "/v1/notifications/certs/*"

// hooked is a Gateway that reads the events of a webhook.
func hooked(t *testing.T) *bench {
	t.Helper()
	b := open(t)
	b.WebhookID = b.sim.AddWebhook(clientID, "http://127.0.0.1/hooks/paypal").ID
	return b
}

func (b *bench) event(name string) simulator.Event {
	b.t.Helper()
	for _, e := range b.sim.Events() {
		if e.Type == name {
			return e
		}
	}
	require.Fail(b.t, "no event", name)
	return simulator.Event{}
}

// signed is the header of an event that PayPal sent now.
func (b *bench) signed(body []byte) http.Header {
	return b.sim.SignAt(b.WebhookID, body, b.clock.Now(), b.host.URL+"/v1/notifications/certs/CERT-360caa42-fca2a594-1d93a270")
}

func (b *bench) read(body []byte, h http.Header) (*payment.Hint, error) {
	return b.ReadEvent(b.t.Context(), h, body)
}

func TestAnEventSaysWhatItIsAbout(t *testing.T) {
	b := hooked(t)
	a := b.approved(simulator.Outcome{})
	b.committed(a)
	r, err := b.RefundAttempt(t.Context(), refunding(a, "r-1", 500))
	require.NoError(t, err)
	held := b.held(func(a *payment.Attempt) { a.Order.ID = "order-2" })
	_, err = b.sim.SaveMethod(clientID, "customer1", "card", simulator.Outcome{})
	require.NoError(t, err)
	for name, want := range map[string]payment.Hint{
		"CHECKOUT.ORDER.APPROVED":       {Subject: payment.AboutPayment, PaymentID: a.PaymentID, Reference: a.Reference()},
		"PAYMENT.CAPTURE.COMPLETED":     {Subject: payment.AboutPayment, PaymentID: a.PaymentID, ChargeID: a.ChargeID, Reference: a.Reference()},
		"PAYMENT.CAPTURE.REFUNDED":      {Subject: payment.AboutRefund, ChargeID: a.ChargeID, RefundID: r.ProviderID, Reference: a.Reference()},
		"PAYMENT.AUTHORIZATION.CREATED": {Subject: payment.AboutPayment, PaymentID: held.PaymentID, AuthorizationID: held.AuthorizationID, Reference: held.Reference()},
		"VAULT.PAYMENT-TOKEN.CREATED":   {Subject: payment.AboutOther},
	} {
		e := b.event(name)
		got, err := b.read(e.Body, b.sim.Sign(b.WebhookID, e.Body))
		require.NoError(t, err, name)
		want.ID, want.Type = e.ID, name
		assert.WithinDuration(t, e.At, got.Created, time.Second)
		got.Created = time.Time{}
		assert.Equal(t, &want, got, name)
	}
	assert.Len(t, b.sim.Calls(got(certPath)), 1, "the certificate is fetched once")
}

func TestEventsThatTheSimulatorDoesntSend(t *testing.T) {
	b := hooked(t)
	b.MerchantID = merchant
	ours := payment.Reference{Order: "order-1", Attempt: 2}
	for body, want := range map[string]payment.Hint{
		`{"id":"WH-1","event_type":"CHECKOUT.PAYMENT-APPROVAL.REVERSED","resource":{"order_id":"5O190127TN364715T"}}`: {
			Subject: payment.AboutPayment, PaymentID: "5O190127TN364715T",
		},
		`{"id":"WH-1","event_type":"PAYMENT.CAPTURE.REVERSED","resource_type":"capture","resource":{"id":"C1","custom_id":"order-1.2","payee":{"merchant_id":"THERMERCHANT2"}}}`: {
			Subject: payment.AboutRefund, ChargeID: "C1", Reference: ours, Account: "THERMERCHANT2",
		},
		`{"id":"WH-1","event_type":"PAYMENT.REFUND.FAILED","resource":{"id":"R1","custom_id":"somebody else's","payee":{"merchant_id":"MERCHANT23456"},"links":[
			{"rel":"self","href":"https://api.paypal.com/v2/payments/refunds/R1"},{"rel":"up","href":"https://api.paypal.com/v2/payments/captures/C1"}]}}`: {
			Subject: payment.AboutRefund, RefundID: "R1", ChargeID: "C1",
		},
		`{"id":"WH-1","event_type":"CUSTOMER.DISPUTE.CREATED","resource":{"dispute_id":"PP-D-1","disputed_transactions":[{"seller_transaction_id":"C1","custom":"order-1.2"}]}}`: {
			Subject: payment.AboutDispute, ChargeID: "C1", Reference: ours,
		},
		`{"id":"WH-1","event_type":"CUSTOMER.DISPUTE.CREATED","resource":{}}`:       {Subject: payment.AboutDispute},
		`{"id":"WH-1","event_type":"BILLING.PLAN.CREATED","resource":{"id":"P-1"}}`: {Subject: payment.AboutOther},
	} {
		got, err := b.read([]byte(body), b.signed([]byte(body)))
		require.NoError(t, err, body)
		want.ID = "WH-1"
		got.Type = ""
		assert.Equal(t, &want, got, body)
	}
}

func TestAForgedEventIsDenied(t *testing.T) {
	for _, atPayPal := range []bool{false, true} {
		b := hooked(t)
		b.VerifyAtPayPal = atPayPal
		b.prepared()
		b.approved(simulator.Outcome{})
		e := b.event("CHECKOUT.ORDER.APPROVED")
		good := b.sim.Sign(b.WebhookID, e.Body)
		_, err := b.read(e.Body, good)
		require.NoError(t, err)
		certURL := good.Get("Paypal-Cert-Url")
		now := b.clock.Now()
		set := func(name, value string) http.Header {
			h := good.Clone()
			h.Set(name, value)
			return h
		}
		for name, c := range map[string]struct {
			header http.Header
			body   []byte
		}{
			"another body":               {good, append([]byte("{ "), e.Body[1:]...)},
			"another webhook's":          {b.sim.Sign("1JE4291016473214C", e.Body), e.Body},
			"no header at all":           {http.Header{}, e.Body},
			"no signature":               {set("Paypal-Transmission-Sig", ""), e.Body},
			"a signature that isn't one": {set("Paypal-Transmission-Sig", "%%%"), e.Body},
			"an empty signature":         {set("Paypal-Transmission-Sig", "AAAA"), e.Body},
			"another transmission":       {set("Paypal-Transmission-Id", "x"), e.Body},
			"no transmission":            {set("Paypal-Transmission-Id", ""), e.Body},
			"another algorithm":          {set("Paypal-Auth-Algo", "SHA1withRSA"), e.Body},
			"another time":               {set("Paypal-Transmission-Time", now.Add(-time.Hour).UTC().Format(time.RFC3339)), e.Body},
			"no time":                    {set("Paypal-Transmission-Time", "yesterday"), e.Body},
			"the future":                 {b.sim.SignAt(b.WebhookID, e.Body, now.Add(6*time.Minute), certURL), e.Body},
			"a day ahead":                {b.sim.SignAt(b.WebhookID, e.Body, now.Add(24*time.Hour), certURL), e.Body},
			"too old":                    {b.sim.SignAt(b.WebhookID, e.Body, now.Add(-97*time.Hour), certURL), e.Body},
		} {
			_, err := b.read(c.body, c.header)
			assert.ErrorIs(t, err, fault.Denied, "%s: %v", name, err)
		}
	}
}

// PayPal tries for 3 days, and doesn't say that the time of the transmission is new.
func TestAnEventOfThreeDaysAgoIsGood(t *testing.T) {
	b := hooked(t)
	b.approved(simulator.Outcome{})
	e := b.event("CHECKOUT.ORDER.APPROVED")
	for _, ago := range []time.Duration{0, 73 * time.Hour, -4 * time.Minute} {
		h := b.sim.SignAt(b.WebhookID, e.Body, b.clock.Now().Add(-ago), b.host.URL+"/v1/notifications/certs/CERT-1")
		_, err := b.read(e.Body, h)
		require.NoError(t, err)
	}
}

func TestACertificateThatIsntPayPalsIsNeverFetched(t *testing.T) {
	b := hooked(t)
	body := []byte(`{"id":"WH-1","event_type":"X"}`)
	own := strings.TrimPrefix(b.host.URL, "http://")
	for _, certURL := range []string{
		"", "x", "https://evil.example.com/v1/notifications/certs/CERT-1", "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1",
		"https://evilpaypal.com/v1/notifications/certs/CERT-1", "http://api.sandbox.paypal.com/v1/notifications/certs/CERT-1",
		"https://user@api.sandbox.paypal.com/v1/notifications/certs/CERT-1", "https://api.sandbox.paypal.com:444/v1/notifications/certs/CERT-1",
		"https://api.sandbox.paypal.com/v1/notifications/certs/../../x", "https://api.sandbox.paypal.com/v1/notifications/certs/%2e%2e",
		"https://api.sandbox.paypal.com/elsewhere", "https://api.sandbox.paypal.com/v1/notifications/certs/C?x=1", "https://api.sandbox.paypal.com/v1/notifications/certs/C#x",
		"https://api.paypal.com/v1/notifications/certs/CERT-1", // the live one
		"https://" + own + "/v1/notifications/certs/CERT-1", "http://127.0.0.1:1/v1/notifications/certs/CERT-1", "file:///v1/notifications/certs/CERT-1",
		b.host.URL + "/v1/oauth2/token",
	} {
		for _, b.VerifyAtPayPal = range []bool{false, true} {
			_, err := b.read(body, b.sim.SignAt(b.WebhookID, body, b.clock.Now(), certURL))
			assert.ErrorIs(t, err, fault.Denied, certURL)
			assert.ErrorContains(t, err, "isn't at PayPal", certURL)
		}
	}
	assert.Empty(t, b.sim.Calls(anything))
}

func TestCertificatesOfTheEnvironmentAlone(t *testing.T) {
	for _, c := range []struct {
		sandbox bool
		host    string
		fetched bool
	}{
		{false, "api.paypal.com", true},
		{false, "api-m.paypal.com", true},
		{false, "api.sandbox.paypal.com", false},
		{true, "api.sandbox.paypal.com", true},
		{true, "api-m.sandbox.paypal.com", true},
		{true, "api.paypal.com", false},
	} {
		fetched := ""
		g := &paypal.Gateway{ClientID: "c", Secret: secret.Literal("s"), Sandbox: c.sandbox, WebhookID: "W1", HTTPClient: &http.Client{
			Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				fetched = r.URL.String()
				return nil, http.ErrServerClosed
			}),
		}}
		s := simulator.New(simulator.Config{})
		url := "https://" + c.host + "/v1/notifications/certs/CERT-1"
		_, err := g.ReadEvent(t.Context(), s.SignAt("W1", nil, time.Now(), url), nil)
		if c.fetched {
			require.ErrorIs(t, err, fault.Unavailable)
			assert.Equal(t, url, fetched)
			continue
		}
		require.ErrorIs(t, err, fault.Denied)
		assert.Empty(t, fetched)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestACertificateThatCantBeHadIsToBeAskedForAgain(t *testing.T) {
	body := []byte(`{"id":"WH-1","event_type":"X"}`)
	for name, c := range map[string]struct {
		fault sim.Fault
		kind  fault.Kind
	}{
		"reset":                     {sim.Fault{Do: sim.Reset}, fault.Unavailable},
		"503":                       {sim.Fault{Do: sim.Answer, Reply: simulator.Error(503, "")}, fault.Unavailable},
		"not found":                 {sim.Fault{Do: sim.Answer, Reply: simulator.Error(404, "")}, fault.Denied},
		"a page":                    {sim.Fault{Do: sim.Answer, Reply: sim.Reply{Status: 200, Body: "<html>"}}, fault.Denied},
		"PEM of something else":     {sim.Fault{Do: sim.Answer, Reply: sim.Reply{Status: 200, Body: pemOf("CERTIFICATE", []byte("x"))}}, fault.Denied},
		"one that ran out":          {sim.Fault{Do: sim.Answer, Reply: sim.Reply{Status: 200, Body: selfSigned(t, time.Now().Add(-time.Hour), true)}}, fault.Denied},
		"one of an elliptic curve":  {sim.Fault{Do: sim.Answer, Reply: sim.Reply{Status: 200, Body: selfSigned(t, time.Now().Add(time.Hour), false)}}, fault.Denied},
		"one with which it doesn't": {sim.Fault{Do: sim.Answer, Reply: sim.Reply{Status: 200, Body: selfSigned(t, time.Now().Add(time.Hour), true)}}, fault.Denied},
	} {
		t.Run(name, func(t *testing.T) {
			b := hooked(t)
			c.fault.On, c.fault.At = got(certPath), sim.BeforeActing
			b.sim.Add(c.fault)
			h := b.signed(body)
			_, err := b.read(body, h)
			require.ErrorIs(t, err, c.kind)
			if c.kind == fault.Unavailable {
				b.sim.Heal()
				_, err = b.read(body, h)
				require.NoError(t, err)
			}
		})
	}
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func selfSigned(t *testing.T, until time.Time, isRSA bool) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until}
	if isRSA {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(t, err)
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		require.NoError(t, err)
		return pemOf("CERTIFICATE", der)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return pemOf("CERTIFICATE", der)
}

func TestPayPalItselfCanBeAsked(t *testing.T) {
	b := hooked(t)
	b.VerifyAtPayPal = true
	body := []byte("{ \"id\":\"WH-1\",\n  \"event_type\":\"X\", \"resource\":{\"a\":\"<&>\"} }") // byte for byte
	h := b.signed(body)
	hint, err := b.read(body, h)
	require.NoError(t, err)
	assert.Equal(t, "WH-1", hint.ID)
	assert.Empty(t, b.sim.Calls(got(certPath)))
	_, err = b.read([]byte("{"), h)
	isFault(t, err, fault.Invalid, "")

	verify := on("/v1/notifications/verify-webhook-signature")
	for _, f := range []sim.Fault{
		{On: verify, At: sim.BeforeActing, Do: sim.Reset},
		{On: verify, At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.Error(500, "")},
		{On: verify, At: sim.MidAnswer, Do: sim.Close},
		{On: verify, At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.Error(400, "INVALID_PARAMETER_SYNTAX")},
	} {
		b.sim.Add(f)
		_, err = b.read(body, h)
		require.ErrorIs(t, err, fault.Unavailable)
		b.sim.Heal()
	}
	b.sim.Add(sim.Fault{On: verify, At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.RateLimited(time.Minute)})
	_, err = b.read(body, h)
	assert.Equal(t, time.Minute, isFault(t, err, fault.RateLimited, "RATE_LIMIT_REACHED").RetryAfter)
}

func TestABodyThatIsNoEventIsInvalid(t *testing.T) {
	b := hooked(t)
	for _, body := range []string{"", "{", "[]", `{"id":"WH-1"}`, `{"event_type":"X"}`} {
		_, err := b.read([]byte(body), b.signed([]byte(body)))
		isFault(t, err, fault.Invalid, "")
	}
}

func TestEventsNeedTheWebhooksID(t *testing.T) {
	b := open(t)
	_, err := b.read([]byte("{}"), b.sim.Sign("W1", []byte("{}")))
	isFault(t, err, fault.Denied, "")
	b.ClientID = ""
	_, err = b.read([]byte("{}"), b.sim.Sign("W1", []byte("{}")))
	isFault(t, err, fault.Denied, "")
}

func TestACertificateIsFetchedAnewEachDay(t *testing.T) {
	s := simulator.New(simulator.Config{})
	served := httptest.NewRecorder()
	s.ServeHTTP(served, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/notifications/certs/CERT-1", nil))
	chain := served.Body.String()
	synctest.Test(t, func(t *testing.T) {
		fetched := 0
		g := &paypal.Gateway{ClientID: "c", Secret: secret.Literal("s"), WebhookID: "W1", HTTPClient: &http.Client{
			Transport: roundTrip(func(*http.Request) (*http.Response, error) {
				fetched++
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(chain)), Header: http.Header{}}, nil
			}),
		}}
		event := []byte(`{"id":"WH-1","event_type":"X"}`)
		for _, after := range []time.Duration{0, 23 * time.Hour, 2 * time.Hour} {
			time.Sleep(after)
			_, err := g.ReadEvent(t.Context(), s.SignAt("W1", event, time.Now(), "https://api.paypal.com/v1/notifications/certs/CERT-1"), event)
			require.NoError(t, err)
		}
		assert.Equal(t, 2, fetched)
		for i := range 40 { // what is kept is bounded, whoever sends them
			_, err := g.ReadEvent(t.Context(), s.SignAt("W1", event, time.Now(), "https://api.paypal.com/v1/notifications/certs/C"+strings.Repeat("x", i)), event)
			require.NoError(t, err)
		}
		assert.Equal(t, 42, fetched)
	})
}
