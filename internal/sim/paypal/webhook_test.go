package paypal_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sim/paypal"
)

func (r *rig) eventTypes() []string {
	var out []string
	for _, e := range r.Events() {
		out = append(out, e.Type)
	}
	return out
}

func TestEventsTellWhatHappened(t *testing.T) {
	settle := func(r *rig, status string) {
		r.NextCharge(paypal.Outcome{Status: "PENDING"})
		require.NoError(r.t, r.SettleCapture(r.captured(unit), status))
	}
	refund := func(r *rig, status string) {
		r.NextRefund(paypal.RefundOutcome{Status: "PENDING"})
		got := r.post("/v2/payments/captures/"+r.captured(unit)+"/refund", "")
		require.NoError(r.t, r.SettleRefund(got.text("id"), status))
	}
	paid := []string{"CHECKOUT.ORDER.APPROVED", "PAYMENT.CAPTURE.COMPLETED", "CHECKOUT.ORDER.COMPLETED"}
	pending := []string{"CHECKOUT.ORDER.APPROVED", "PAYMENT.CAPTURE.PENDING", "CHECKOUT.ORDER.COMPLETED"}
	for name, c := range map[string]struct {
		do   func(*rig)
		want []string
	}{
		"a capture":                     {func(r *rig) { r.captured(unit) }, paid},
		"a capture that was pending":    {func(r *rig) { settle(r, "COMPLETED") }, append(pending, "PAYMENT.CAPTURE.COMPLETED")},
		"one that ended badly":          {func(r *rig) { settle(r, "DECLINED") }, append(pending, "PAYMENT.CAPTURE.DENIED")},
		"one that was declined":         {func(r *rig) { r.NextCharge(paypal.Outcome{Status: "DECLINED"}); r.captured(unit) }, []string{"CHECKOUT.ORDER.APPROVED", "PAYMENT.CAPTURE.DECLINED", "CHECKOUT.ORDER.COMPLETED"}},
		"a refund":                      {func(r *rig) { r.post("/v2/payments/captures/"+r.captured(unit)+"/refund", "") }, append(paid, "PAYMENT.CAPTURE.REFUNDED")},
		"a refund that was pending":     {func(r *rig) { refund(r, "COMPLETED") }, append(paid, "PAYMENT.REFUND.PENDING", "PAYMENT.CAPTURE.REFUNDED")},
		"a refund that failed":          {func(r *rig) { refund(r, "FAILED") }, append(paid, "PAYMENT.REFUND.PENDING", "PAYMENT.REFUND.FAILED")},
		"an authorization that ran out": {func(r *rig) { r.held(unit); r.clock.Advance(29 * day) }, []string{"CHECKOUT.ORDER.APPROVED", "PAYMENT.AUTHORIZATION.CREATED", "CHECKOUT.ORDER.COMPLETED", "PAYMENT.AUTHORIZATION.VOIDED"}},
		"an authorization that is void": {func(r *rig) { r.post(r.held(unit)+"/void", "") }, []string{"CHECKOUT.ORDER.APPROVED", "PAYMENT.AUTHORIZATION.CREATED", "CHECKOUT.ORDER.COMPLETED", "PAYMENT.AUTHORIZATION.VOIDED"}},
		"an approval that nobody used":  {func(r *rig) { r.approve(r.created(order(unit)), paypal.Outcome{}); r.clock.Advance(3 * time.Hour) }, []string{"CHECKOUT.ORDER.APPROVED", "CHECKOUT.PAYMENT-APPROVAL.REVERSED"}},
		"an order that nobody approved": {func(r *rig) { r.created(order(unit)); r.clock.Advance(3 * time.Hour) }, nil},
		"a decline moves nothing": {func(r *rig) {
			r.NextCharge(paypal.Outcome{Issue: "TRANSACTION_REFUSED"})
			id := r.created(order(unit))
			r.approve(id, paypal.Outcome{})
			r.post(orders+"/"+id+"/capture", "")
		}, []string{"CHECKOUT.ORDER.APPROVED"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, false)
			c.do(r)
			assert.Equal(t, c.want, r.eventTypes())
			assert.Equal(t, c.want, r.eventTypes(), "looking changes nothing")
		})
	}
}

// received is a notification as it came in.
type received struct {
	header http.Header
	body   []byte
}

// inbox keeps what is delivered, and answers with status.
func inbox(t *testing.T, status int) (url string, got *[]received) {
	t.Helper()
	got = &[]received{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*got = append(*got, received{r.Header, body})
		w.WriteHeader(status)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, got
}

func TestWebhooksAreDeliveredOnDemand(t *testing.T) {
	r := open(t, false)
	all, got := inbox(t, 200)
	some, few := inbox(t, 503)
	r.AddWebhook("sim-client", all)
	r.AddWebhook("sim-client", some, "PAYMENT.CAPTURE.COMPLETED")
	r.AddWebhook("other", all)
	r.captured(unit)
	events := r.Events()
	require.Len(t, events, 3)
	require.NoError(t, r.Deliver(t.Context(), events[2]))
	require.ErrorContains(t, r.Deliver(t.Context(), events[1]), "status 503")
	require.NoError(t, r.Deliver(t.Context(), events[2]))
	require.Len(t, *got, 3)
	assert.Len(t, *few, 1)
	assert.Equal(t, events[2].Body, (*got)[0].body, "byte for byte")
	assert.Equal(t, (*got)[0].body, (*got)[2].body)
	assert.NotEqual(t, (*got)[0].header.Get("Paypal-Transmission-Id"), (*got)[2].header.Get("Paypal-Transmission-Id"))
	found := r.get("/v1/notifications/webhooks-events/" + events[1].ID)
	assert.Equal(t, "order-1", found.text("resource.custom_id"))
	assert.JSONEq(t, string(events[1].Body), found.raw)
	assert.Equal(t, 404, r.as(other).get("/v1/notifications/webhooks-events/"+events[1].ID).status)
}

func TestASignatureHoldsForItsWebhookAndBytes(t *testing.T) {
	r := open(t, false)
	r.captured(unit)
	hook := r.AddWebhook("sim-client", "https://shop.example/hooks")
	event := r.Events()[1]
	req, err := r.Notification(t.Context(), hook, event)
	require.NoError(t, err)
	offline(t, r, hook.ID, req.Header, event.Body)

	verify := func(r *rig, header http.Header, hookID, event string) string {
		got := r.post("/v1/notifications/verify-webhook-signature", `{"auth_algo":"`+header.Get("Paypal-Auth-Algo")+`","cert_url":"`+header.Get("Paypal-Cert-Url")+
			`","transmission_id":"`+header.Get("Paypal-Transmission-Id")+`","transmission_sig":"`+header.Get("Paypal-Transmission-Sig")+
			`","transmission_time":"`+header.Get("Paypal-Transmission-Time")+`","webhook_id":"`+hookID+`","webhook_event":`+event+`}`)
		require.Equal(t, 200, got.status, got.raw)
		return got.text("verification_status")
	}
	with := func(name, value string) http.Header {
		h := req.Header.Clone()
		h.Set(name, value)
		return h
	}
	raw := string(event.Body)
	another := r.AddWebhook("other", "https://shop.example/hooks")
	for name, got := range map[string]string{
		"another event":         verify(r, req.Header, hook.ID, strings.Replace(raw, "10.00", "99.00", 1)),
		"the same, spelt anew":  verify(r, req.Header, hook.ID, strings.Replace(raw, `":"`, `": "`, 1)),
		"another webhook":       verify(r, req.Header, another.ID, raw),
		"another time":          verify(r, with("Paypal-Transmission-Time", "2026-03-01T12:00:01Z"), hook.ID, raw),
		"another transmission":  verify(r, with("Paypal-Transmission-Id", "aaaaaaaa-d67a"), hook.ID, raw),
		"another algorithm":     verify(r, with("Paypal-Auth-Algo", "SHA1withRSA"), hook.ID, raw),
		"another certificate":   verify(r, with("Paypal-Cert-Url", "https://evil.example/cert"), hook.ID, raw),
		"what is no signature":  verify(r, with("Paypal-Transmission-Sig", "a%"), hook.ID, raw),
		"another caller's hook": verify(r.as(other), req.Header, hook.ID, raw),
	} {
		assert.Equal(t, "FAILURE", got, name)
	}
	assert.Equal(t, "SUCCESS", verify(r, req.Header, hook.ID, raw))
	assert.Equal(t, 400, r.post("/v1/notifications/verify-webhook-signature", `{}`).status)
}

// offline verifies as a receiver would who has the certificate.
func offline(t *testing.T, r *rig, hookID string, h http.Header, body []byte) {
	t.Helper()
	served := r.get(h.Get("Paypal-Cert-Url"))
	require.Equal(t, 200, served.status)
	block, rest := pem.Decode([]byte(served.raw))
	require.NotNil(t, block)
	assert.NotEmpty(t, rest)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	_, err = cert.Verify(x509.VerifyOptions{Roots: r.Roots(), DNSName: "messageverificationcerts.paypal.com", CurrentTime: start})
	require.NoError(t, err)
	sig, err := base64.StdEncoding.DecodeString(h.Get("Paypal-Transmission-Sig"))
	require.NoError(t, err)
	digest := sha256.Sum256([]byte(h.Get("Paypal-Transmission-Id") + "|" + h.Get("Paypal-Transmission-Time") + "|" + hookID + "|" +
		strconv.FormatUint(uint64(crc32.ChecksumIEEE(body)), 10)))
	require.NoError(t, rsa.VerifyPKCS1v15(cert.PublicKey.(*rsa.PublicKey), crypto.SHA256, digest[:], sig))
}

func TestWebhooksAreManaged(t *testing.T) {
	r := open(t, false)
	const path = "/v1/notifications/webhooks"
	got := r.post(path, `{"url":"https://shop.example/h","event_types":[{"name":"PAYMENT.CAPTURE.COMPLETED"}]}`)
	require.Equal(t, 201, got.status, got.raw)
	id := got.text("id")
	assert.Equal(t, id, r.get(path).text("webhooks.0.id"))
	assert.Equal(t, "PAYMENT.CAPTURE.COMPLETED", r.get(path+"/"+id).text("event_types.0.name"))
	assert.Equal(t, 404, r.as(other).get(path+"/"+id).status)
	assert.Equal(t, 404, r.as(other).send("DELETE", path+"/"+id, "").status)
	assert.Equal(t, 204, r.send("DELETE", path+"/"+id, "").status)
	assert.Equal(t, 404, r.get(path+"/"+id).status)
	assert.Equal(t, "MISSING_REQUIRED_PARAMETER /event_types", r.post(path, `{"url":"https://shop.example/h"}`).issue())
}

func TestLinksCanBeginElsewhere(t *testing.T) {
	s := paypal.New(paypal.Config{BaseURL: "https://api-m.sandbox.paypal.com", CertURL: "https://api.sandbox.paypal.com/cert"})
	h := s.Sign("hook", []byte(`{}`))
	assert.Equal(t, "https://api.sandbox.paypal.com/cert", h.Get("Paypal-Cert-Url"))
	unknown := paypal.New(paypal.Config{})
	unknown.SetBaseURL("http://127.0.0.1:1")
	assert.Contains(t, unknown.Sign("hook", []byte(`{}`)).Get("Paypal-Cert-Url"), "http://127.0.0.1:1/v1/notifications/certs/")
	s.SetBaseURL("http://127.0.0.1:1")
	w := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodPost, "/v1/oauth2/token", strings.NewReader("grant_type=client_credentials"))
	req.SetBasicAuth("sim-client", "sim-secret")
	s.ServeHTTP(w, req)
	var token struct {
		Value string `json:"access_token"`
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &token))
	w = httptest.NewRecorder()
	req = httptest.NewRequest(http.MethodPost, orders, strings.NewReader(order(unit)))
	req.Header.Set("Authorization", "Bearer "+token.Value)
	req.Header.Set("Content-Type", "application/json")
	s.ServeHTTP(w, req)
	assert.Contains(t, w.Body.String(), `"https://api-m.sandbox.paypal.com/checkoutnow?token=`)
}
