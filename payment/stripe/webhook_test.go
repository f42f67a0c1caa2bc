package stripe_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	simulator "github.com/smilefactory/integrations/internal/sim/stripe"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/stripe"
	"github.com/smilefactory/integrations/secret"
)

const whsec = "whsec_planted5ecret"

const plain = `{"id":"evt_1","object":"event","type":"payment_intent.succeeded","created":1700000000,"livemode":true,"account":"acct_1","api_version":"2024-06-20",
	"data":{"object":{"id":"pi_1","object":"payment_intent","metadata":{"order_id":"order-1","attempt":"2","tenant":"tenant-1","user_id":"user-42"}}}}`

func signed(header string) http.Header { return http.Header{"Stripe-Signature": {header}} }

func TestASignatureIsVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		sign := func(secret string, away time.Duration) string {
			return simulator.Signature([]byte(plain), secret, now.Add(away))
		}
		good := sign(whsec, 0)
		_, mark, _ := strings.Cut(good, ",v1=")
		old := "whsec_old"
		sealed := secret.Func(func(context.Context) (secret.Value, error) { return secret.Value{}, errors.New("vault is sealed") })
		empty := secret.Func(func(context.Context) (secret.Value, error) { return secret.Value{}, nil })
		one := []secret.Source{secret.Literal(whsec)}
		for name, c := range map[string]struct {
			header  string
			body    string
			secrets []secret.Source
			want    error
		}{
			"as Stripe signs":                    {good, plain, one, nil},
			"with a scheme of tests beside it":   {good + ",v0=00", plain, one, nil},
			"with another signature before it":   {strings.Replace(good, ",v1=", ",v1="+strings.Repeat("00", 32)+",v1=", 1), plain, one, nil},
			"with blanks":                        {strings.Replace(good, ",", ", ", 1), plain, one, nil},
			"five minutes old":                   {sign(whsec, -300*time.Second), plain, one, nil},
			"five minutes ahead":                 {sign(whsec, 300*time.Second), plain, one, nil},
			"older":                              {sign(whsec, -301*time.Second), plain, one, fault.Denied},
			"further ahead":                      {sign(whsec, 301*time.Second), plain, one, fault.Denied},
			"a day ahead":                        {sign(whsec, 24*time.Hour), plain, one, fault.Denied},
			"by another secret":                  {sign("whsec_other", 0), plain, one, fault.Denied},
			"by an empty secret":                 {sign("", 0), plain, one, fault.Denied},
			"by an empty secret that is ours":    {sign("", 0), plain, []secret.Source{empty}, fault.Denied},
			"by an empty literal that is ours":   {sign("", 0), plain, []secret.Source{secret.Literal("")}, fault.Denied},
			"where there is no secret":           {sign("", 0), plain, nil, fault.Denied},
			"while secrets are rolled, by new":   {good, plain, []secret.Source{secret.Literal(old), secret.Literal(whsec)}, nil},
			"while secrets are rolled, by old":   {sign(old, 0), plain, []secret.Source{secret.Literal(whsec), secret.Literal(old)}, nil},
			"beside a secret that can't be read": {good, plain, []secret.Source{sealed, secret.Literal(whsec)}, nil},
			"by a secret that can't be read":     {good, plain, []secret.Source{sealed}, fault.Denied},
			"of another body":                    {good, strings.Replace(plain, "pi_1", "pi_2", 1), one, fault.Denied},
			"of another time":                    {strings.Replace(good, "t=", "t=1", 1), plain, one, fault.Denied},
			"half of it":                         {good[:len(good)-2], plain, one, fault.Denied},
			"none":                               {"", plain, one, fault.Denied},
			"no time":                            {"v1=" + mark, plain, one, fault.Denied},
			"two times":                          {fmt.Sprintf("t=%d,", now.Unix()) + good, plain, one, fault.Denied},
			"a time that is none":                {"t=now,v1=" + mark, plain, one, fault.Denied},
			"the scheme of tests alone":          {strings.Replace(good, "v1=", "v0=", 1), plain, one, fault.Denied},
			"not in hexadecimal":                 {"t=1,v1=zz", plain, one, fault.Denied},
			"a body that is no JSON":             {simulator.Signature([]byte("planted"), whsec, now), "planted", one, fault.Invalid},
			"a body that is no event":            {simulator.Signature([]byte(`{"id":"pi_1","object":"payment_intent"}`), whsec, now), `{"id":"pi_1","object":"payment_intent"}`, one, fault.Invalid},
		} {
			g := stripe.Gateway{Webhook: c.secrets}
			hint, err := g.ReadEvent(t.Context(), signed(c.header), []byte(c.body))
			if c.want == nil {
				require.NoError(t, err, name)
				assert.Equal(t, "evt_1", hint.ID, name)
				continue
			}
			require.ErrorIs(t, err, c.want, name)
			assert.Nil(t, hint, name)
			assert.NotContains(t, err.Error(), "planted", name)
		}
	})
}

func TestASecretThatCantBeReadInTimeIsUnavailable(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := stripe.Gateway{Webhook: []secret.Source{secret.Func(func(ctx context.Context) (secret.Value, error) { return secret.Value{}, ctx.Err() })}}
	_, err := g.ReadEvent(ctx, signed(simulator.Signature([]byte(plain), whsec, time.Now())), []byte(plain))
	require.ErrorIs(t, err, fault.Unavailable)
}

func TestAnEventTellsWhatItIsAbout(t *testing.T) {
	ours := `"metadata":{"order_id":"order-1","attempt":"2","tenant":"tenant-1","user_id":"user-42"}`
	reference := payment.Reference{Tenant: "tenant-1", Order: "order-1", User: "user-42", Attempt: 2}
	for name, c := range map[string]struct {
		object string
		want   payment.Hint
	}{
		"a payment": {`"id":"pi_1","object":"payment_intent",` + ours, payment.Hint{Subject: payment.AboutPayment, PaymentID: "pi_1", Reference: reference}},
		"a charge":  {`"id":"ch_1","object":"charge","payment_intent":"pi_1",` + ours, payment.Hint{Subject: payment.AboutPayment, PaymentID: "pi_1", ChargeID: "ch_1", Reference: reference}},
		"a refund": {`"id":"re_1","object":"refund","payment_intent":"pi_1","charge":"ch_1",` + ours, payment.Hint{
			Subject: payment.AboutRefund, PaymentID: "pi_1", ChargeID: "ch_1", RefundID: "re_1", Reference: reference,
		}},
		"a dispute":                    {`"id":"dp_1","object":"dispute","payment_intent":"pi_1","charge":{"id":"ch_1"}`, payment.Hint{Subject: payment.AboutDispute, PaymentID: "pi_1", ChargeID: "ch_1"}},
		"something else":               {`"id":"seti_1","object":"setup_intent"`, payment.Hint{Subject: payment.AboutOther}},
		"a charge without an intent":   {`"id":"ch_1","object":"charge","payment_intent":null`, payment.Hint{Subject: payment.AboutPayment, ChargeID: "ch_1"}},
		"a payment that isn't ours":    {`"id":"pi_1","object":"payment_intent","metadata":{"order_id":"their order"}`, payment.Hint{Subject: payment.AboutPayment, PaymentID: "pi_1"}},
		"a payment without an attempt": {`"id":"pi_1","object":"payment_intent","metadata":{"order_id":"order-1"}`, payment.Hint{Subject: payment.AboutPayment, PaymentID: "pi_1"}},
	} {
		t.Run(name, func(t *testing.T) {
			body := []byte(`{"id":"evt_1","object":"event","type":"some.event","created":1700000000,"livemode":true,"account":"acct_1","data":{"object":{` + c.object + `}}}`)
			g := stripe.Gateway{Webhook: []secret.Source{secret.Literal(whsec)}}
			hint, err := g.ReadEvent(t.Context(), signed(simulator.Signature(body, whsec, time.Now())), body)
			require.NoError(t, err)
			c.want.ID, c.want.Type, c.want.Account, c.want.Live, c.want.Created = "evt_1", "some.event", "acct_1", true, time.Unix(1700000000, 0)
			assert.Equal(t, &c.want, hint)
		})
	}
}

func TestEveryEventOfAPaymentLeadsToIt(t *testing.T) {
	b := open(t)
	b.sim.SetEventVersion("2026-02-25.preview")
	b.Webhook = []secret.Source{secret.Literal(whsec)}
	a, _ := b.committed(t, "pm_card_visa")
	refund, err := b.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: "refund-1", Amount: usd(100)})
	require.NoError(t, err)
	subjects := map[payment.Subject]int{}
	for _, e := range b.sim.Pending() {
		hint, err := b.ReadEvent(t.Context(), signed(simulator.Signature(e.Payload, whsec, time.Now())), e.Payload)
		require.NoError(t, err, e.Type)
		subjects[hint.Subject]++
		assert.Equal(t, e.Type, hint.Type)
		assert.False(t, hint.Live)
		if hint.Subject == payment.AboutOther {
			continue
		}
		assert.Equal(t, a.PaymentID, hint.PaymentID, e.Type)
		assert.Equal(t, a.Reference(), hint.Reference, e.Type)
		if hint.Subject == payment.AboutRefund {
			assert.Equal(t, refund.ProviderID, hint.RefundID)
		}
	}
	assert.GreaterOrEqual(t, subjects[payment.AboutPayment], 2)
	assert.Positive(t, subjects[payment.AboutRefund])
}

func FuzzNoBodyOrHeaderIsTakenUnsigned(f *testing.F) {
	f.Add("t=1700000000,v1="+strings.Repeat("00", 32), []byte(plain))
	f.Add("", []byte(`{}`))
	f.Add("t=,v1=,t=", []byte(`{"data":{"object":{"charge":{}}}}`))
	g := stripe.Gateway{Webhook: []secret.Source{secret.Literal(whsec)}}
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		if _, err := g.ReadEvent(t.Context(), signed(header), body); !errors.Is(err, fault.Denied) {
			t.Errorf("%q: %v", header, err)
		}
		if _, err := g.ReadEvent(t.Context(), signed(simulator.Signature(body, whsec, time.Now())), body); err != nil && !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", body, err)
		}
	})
}
