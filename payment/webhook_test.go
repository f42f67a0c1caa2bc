package payment_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymenttest"
)

// hook serves a webhook and answers its status.
func (s *two) hook(t *testing.T, pay *payment.Client, r *http.Request, provider string) int {
	t.Helper()
	w := httptest.NewRecorder()
	r.SetPathValue("provider", provider)
	pay.Webhooks().ServeHTTP(w, r)
	assert.Empty(t, w.Body.String())
	return w.Code
}

func TestAWebhookIsAHintThatIsLookedUp(t *testing.T) {
	s := setup(t)
	r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Slow))
	require.NoError(t, err)
	assert.Equal(t, payment.Pending, r.Status)
	assert.Equal(t, 200, s.hook(t, s.pay, s.first.Webhook("/", "evt_1", r.PaymentID), "first"))
	assert.Equal(t, []payment.EventType{payment.OrderChanged}, s.types(), "pending, as before")

	s.first.Clear(r.PaymentID, true)
	for range 3 { // the provider sends twice
		assert.Equal(t, 200, s.hook(t, s.pay, s.first.Webhook("/", "evt_2", r.PaymentID), "first"))
	}
	assert.Equal(t, []payment.EventType{payment.OrderChanged, payment.OrderChanged}, s.types())
	assert.Equal(t, payment.Succeeded, s.events[1].Result.Status)
	assert.Equal(t, "evt_2", s.events[1].Hint.ID)
	looks := s.first.Calls(paymenttest.LookUp)
	assert.Equal(t, 2, looks, "what was seen isn't looked up")
}

func TestWebhooksInAnyOrderEndInWhatTheProviderShows(t *testing.T) {
	for range 50 {
		s := setup(t)
		r, err := s.pay.Charge(t.Context(), order("o", ""))
		require.NoError(t, err)
		events := []string{"a", "b", "c", "a", "b", "c"}
		rand.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		confirm := rand.N(len(events))
		var calls sync.WaitGroup
		for i, id := range events {
			if i == confirm {
				s.first.Confirm(r.PaymentID)
			}
			calls.Go(func() {
				assert.Contains(t, []int{200, 503}, s.hook(t, s.pay, s.first.Webhook("/", id, r.PaymentID), "first"))
			})
		}
		calls.Wait()
		assert.Equal(t, 200, s.hook(t, s.pay, s.first.Webhook("/", "last", r.PaymentID), "first"))
		e, err := s.journal.Entry(t.Context(), payment.Key{Order: "o"})
		require.NoError(t, err)
		assert.Equal(t, payment.AttemptPaid, e.Attempts[0].State)
		n := 0
		for _, e := range s.events {
			if e.Result.Status == payment.Succeeded {
				n++
			}
		}
		assert.Equal(t, 1, n)
	}
}

func TestAWebhookBeforeItsOrderComesAgainAndIsAnOrphanAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		h := payment.Hint{ID: "evt", Created: time.Now(), PaymentID: "x", Subject: payment.AboutPayment, Reference: payment.Reference{Order: "o", Attempt: 1}}
		assert.Equal(t, 503, s.hook(t, s.pay, paymenttest.SignedWebhook("/", h), "first"))
		time.Sleep(61 * time.Minute)
		assert.Equal(t, 200, s.hook(t, s.pay, paymenttest.SignedWebhook("/", h), "first"))
		assert.Equal(t, []payment.EventType{payment.Orphan}, s.types())
		h.ID, h.Reference = "evt2", payment.Reference{}
		assert.Equal(t, 200, s.hook(t, s.pay, paymenttest.SignedWebhook("/", h), "first"))
		assert.Equal(t, []payment.EventType{payment.Orphan, payment.Foreign}, s.types())
	})
}

func TestWhatIsNoWebhookIsRefused(t *testing.T) {
	s := setup(t)
	r, err := s.pay.Charge(t.Context(), order("o", paymenttest.Good))
	require.NoError(t, err)
	event := func() *http.Request { return s.first.Webhook("/", "evt", r.PaymentID) }
	forged := event()
	forged.Header.Set("Bank-Signature", "00")
	live := paymenttest.SignedWebhook("/", payment.Hint{ID: "evt", Live: true, PaymentID: r.PaymentID})
	long := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", 1<<20+1)))
	for name, row := range map[string]struct {
		request  *http.Request
		provider string
		want     int
	}{
		"forged":            {forged, "first", 401},
		"of the other mode": {live, "first", 401},
		"unknown provider":  {event(), "third", 404},
		"too long":          {long, "first", 413},
		"not a POST":        {httptest.NewRequest(http.MethodGet, "/", nil), "first", 405},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, row.want, s.hook(t, s.pay, row.request, row.provider))
		})
	}
	for range 20 { // forged ones don't open the breaker
		f := event()
		f.Header.Set("Bank-Signature", "00")
		s.hook(t, s.pay, f, "first")
	}
	assert.Zero(t, s.pay.Inspect()[0].Failures)
}

func TestAnEventWhoseEffectFailedComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := setup(t)
		j := &trouble{MemoryJournal: s.journal}
		pay := s.again(t, payment.WithJournal(j))
		r, err := pay.Charge(t.Context(), order("o", paymenttest.Slow))
		require.NoError(t, err)
		s.first.Clear(r.PaymentID, true)
		for _, h := range []how{down, lost, gone, hidden} {
			for n := 1; n <= 3; n++ {
				j.mu.Lock()
				j.n, j.fails = 0, func(i int) how {
					if i == n {
						return h
					}
					return works
				}
				j.mu.Unlock()
				s.hook(t, pay, s.first.Webhook("/", "evt_1", r.PaymentID), "first")
				time.Sleep(10 * time.Minute)
			}
		}
		j.mu.Lock()
		j.fails = nil
		j.mu.Unlock()
		time.Sleep(time.Hour)
		assert.Equal(t, 200, s.hook(t, pay, s.first.Webhook("/", "evt_1", r.PaymentID), "first"))
		e, err := s.journal.Entry(t.Context(), payment.Key{Order: "o"})
		require.NoError(t, err)
		assert.Equal(t, payment.AttemptPaid, e.Attempts[0].State)
		assert.Equal(t, []string{"first:evt_1"}, e.Events)
	})
}

func TestARefundsEventThatCouldNotBeRecordedComesAgain(t *testing.T) {
	s := setup(t)
	refuse := false
	pay := s.again(t, payment.WithHandler(func(ctx context.Context, e payment.Event) error {
		if refuse {
			return errors.New("the service's table is locked")
		}
		return s.handle(ctx, e)
	}))
	r := paid(t, s)
	f, err := pay.Refund(t.Context(), "o", "r1", usd(500))
	require.NoError(t, err)
	s.first.EndRefund(r.PaymentID, "r1", payment.RefundFailed)
	hint := payment.Hint{ID: "evt", Created: time.Now(), PaymentID: r.PaymentID, RefundID: f.ProviderID, Subject: payment.AboutRefund}
	refuse = true
	assert.Equal(t, 503, s.hook(t, pay, paymenttest.SignedWebhook("/", hint), "first"))
	refuse = false
	assert.Equal(t, 200, s.hook(t, pay, paymenttest.SignedWebhook("/", hint), "first"))
	recorded, err := pay.Recorded(t.Context(), "o")
	require.NoError(t, err)
	assert.Equal(t, payment.RefundFailed, recorded.Refunds[0].State)
}
