package stripe_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76/webhook"

	"github.com/smilefactory/integrations/internal/sim/stripe"
)

const secret = "whsec_test"

// shop takes webhooks, and refuses the first few.
type shop struct {
	*httptest.Server

	mu     sync.Mutex
	refuse int
	got    []string // ids in the order in which they came
}

func openShop(t *testing.T, b *bench) *shop {
	t.Helper()
	s := &shop{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		var e struct{ ID string }
		_ = json.Unmarshal(raw, &e)
		_, err := webhook.ConstructEventWithOptions(raw, r.Header.Get("Stripe-Signature"), secret,
			webhook.ConstructEventOptions{Tolerance: 200 * 365 * 24 * time.Hour, IgnoreAPIVersionMismatch: true})
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case err != nil:
			w.WriteHeader(http.StatusBadRequest)
		case s.refuse > 0:
			s.refuse--
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			s.got = append(s.got, e.ID)
		}
	}))
	t.Cleanup(s.Close)
	b.Register(s.URL, secret)
	return s
}

func (s *shop) received() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

func TestAnEventSaysWhatHappened(t *testing.T) {
	b := open(t)
	r := b.must("/v1/payment_intents", order, key("k"))
	var e reply
	require.NoError(t, json.Unmarshal(b.Pending()[0].Payload, &e.body))
	assert.Equal(t, []any{"event", "2023-10-16", "payment_intent.created", false, nil, r.text("id"), "payment_intent", "o1", r.header.Get("Request-Id"), "k"}, []any{
		e.text("object"), e.text("api_version"), e.text("type"), e.at("livemode"), e.at("account"), e.text("data.object.id"), e.text("data.object.object"),
		e.text("data.object.metadata.order_id"), e.text("request.id"), e.text("request.idempotency_key"),
	})
	b.must("/v1/payment_intents/"+r.text("id")+"/cancel", "")
	read := b.get("/v1/events/"+b.Pending()[0].ID, "")
	assert.Equal(t, "requires_payment_method", read.text("data.object.status"), "an event is a snapshot")
	assert.Equal(t, 404, b.get("/v1/events/evt_none", "").status)
	assert.Len(t, b.get("/v1/events", "").at("data"), 2)
	assert.Equal(t, "payment_intent.canceled", b.get("/v1/events", "type=payment_intent.canceled").text("data.0.type"))
	assert.Len(t, b.get("/v1/events", "types[]=payment_intent.canceled&types[]=payment_intent.succeeded").at("data"), 1)
}

func TestEventsKnowTheirModeAccountAndVersion(t *testing.T) {
	b := open(t)
	b.must("/v1/customers", "", header("Authorization", "Bearer "+liveKey))
	b.must("/v1/customers", "", header("Stripe-Account", member))
	b.SetEventVersion("2025-01-27.acacia")
	b.must("/v1/customers", "")
	var got []any
	for _, p := range b.Pending() {
		var e reply
		require.NoError(t, json.Unmarshal(p.Payload, &e.body))
		assert.Equal(t, []any{p.ID, p.Type, p.Live}, []any{e.text("id"), e.text("type"), e.at("livemode")})
		got = append(got, e.at("livemode"), e.text("account"), e.text("api_version"))
	}
	assert.Equal(t, []any{true, "", "2023-10-16", false, member, "2023-10-16", false, "", "2025-01-27.acacia"}, got)
	assert.Len(t, b.get("/v1/events", "", header("Stripe-Account", member)).at("data"), 1)
}

func TestEventsAreDeliveredAsATestSays(t *testing.T) {
	b := open(t)
	s := openShop(t, b)
	b.paid("")
	events := b.Pending()
	require.Len(t, events, 3)
	require.NoError(t, b.Deliver(t.Context(), s.Client(), events[2], events[0], events[2]), "out of order, and one twice")
	assert.Equal(t, []string{events[2].ID, events[0].ID, events[2].ID}, s.received())
	assert.Equal(t, events[1:2], b.Pending())
	b.Drop(events[1])
	assert.Empty(t, b.Pending())
	assert.Equal(t, 200, b.get("/v1/events/"+events[1].ID, "").status, "what was dropped is still there to read")
}

func TestARefusedEventStaysPending(t *testing.T) {
	b := open(t)
	s := openShop(t, b)
	s.refuse = 1
	b.intent("")
	require.ErrorContains(t, b.Deliver(t.Context(), s.Client(), b.Pending()...), "503")
	assert.Len(t, b.Pending(), 1)
	b.Register(s.URL, "whsec_other")
	require.ErrorContains(t, b.Deliver(t.Context(), s.Client(), b.Pending()...), "400", "another secret signs otherwise")
	b.Register("http://127.0.0.1:1", secret)
	require.Error(t, b.Deliver(t.Context(), s.Client(), b.Pending()...))
	b.Register("::", secret)
	require.Error(t, b.Deliver(t.Context(), s.Client(), b.Pending()...))
}

func TestDeliverAllKeepsDelivering(t *testing.T) {
	b := open(t)
	s := openShop(t, b)
	s.refuse = 2
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { b.DeliverAll(ctx, s.Client(), time.Millisecond) })
	b.paid("")
	b.paid("")
	require.Eventually(t, func() bool { return len(b.Pending()) == 0 }, 5*time.Second, time.Millisecond)
	cancel()
	wg.Wait()
	assert.Len(t, s.received(), 6)
}

func TestTheSignatureIsStripes(t *testing.T) {
	at := time.Now()
	payload := []byte(`{"object":"event","api_version":"2023-10-16"}`)
	_, err := webhook.ConstructEvent(payload, stripe.Signature(payload, secret, at), secret)
	require.NoError(t, err)
	_, err = webhook.ConstructEvent(payload, stripe.Signature(payload, "other", at), secret)
	require.ErrorIs(t, err, webhook.ErrNoValidSignature)
	_, err = webhook.ConstructEvent(payload, stripe.Signature(payload, secret, at.Add(-6*time.Minute)), secret)
	require.ErrorIs(t, err, webhook.ErrTooOld)
}
