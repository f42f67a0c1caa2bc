package stripe_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/internal/sim/stripe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testKey = "sk_test_1234567890abcdef"
	liveKey = "sk_live_1234567890abcdef"
	member  = "acct_member"
)

// start is a fixed instant, so that what a clock decides is exact.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// bench is a simulator and a plain HTTP client for it.
type bench struct {
	*stripe.Sim
	t     *testing.T
	host  *sim.Host
	clock *sim.Clock
}

func open(t *testing.T) *bench { return openHTTP(t, false) }

func openHTTP(t *testing.T, http2 bool) *bench {
	t.Helper()
	clock := sim.NewClock(start)
	s := stripe.New(stripe.Config{Keys: []string{testKey, liveKey}, Connected: []string{member}, Now: clock.Now})
	b := &bench{Sim: s, t: t, host: s.Start(http2), clock: clock}
	t.Cleanup(func() {
		s.Faults.Close()
		b.host.Close()
	})
	return b
}

// reply is an answer whose JSON is read by dotted paths.
type reply struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
}

func (r reply) at(path string) any {
	var v any = r.body
	for name := range strings.SplitSeq(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[name]
		case []any:
			i := int(name[0] - '0')
			if i >= len(at) {
				return nil
			}
			v = at[i]
		default:
			return nil
		}
	}
	if n, ok := v.(json.Number); ok {
		i, _ := n.Int64()
		return int(i)
	}
	return v
}

func (r reply) text(path string) string {
	s, _ := r.at(path).(string)
	return s
}

// option changes a request before it's sent.
type option func(*http.Request)

func key(k string) option { return header("Idempotency-Key", k) }

func header(name, value string) option { return func(r *http.Request) { r.Header.Set(name, value) } }

func (b *bench) send(ctx context.Context, method, path, form string, options ...option) (reply, error) {
	var body io.Reader
	if method == http.MethodPost {
		// A body that net/http can't rewind, and so doesn't send again by itself for the sake of the idempotency key.
		body = io.MultiReader(strings.NewReader(form))
	} else if form != "" {
		path += "?" + form
	}
	req, err := http.NewRequestWithContext(ctx, method, b.host.URL+path, body)
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, o := range options {
		o(req)
	}
	resp, err := b.host.Client().Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	r := reply{status: resp.StatusCode, header: resp.Header, raw: string(raw)}
	if strings.HasPrefix(r.raw, "{") {
		d := json.NewDecoder(strings.NewReader(r.raw))
		d.UseNumber()
		_ = d.Decode(&r.body)
	}
	return r, err
}

func (b *bench) post(path, form string, options ...option) reply {
	b.t.Helper()
	r, err := b.send(b.t.Context(), http.MethodPost, path, form, options...)
	require.NoError(b.t, err)
	return r
}

func (b *bench) get(path, form string, options ...option) reply {
	b.t.Helper()
	r, err := b.send(b.t.Context(), http.MethodGet, path, form, options...)
	require.NoError(b.t, err)
	return r
}

// must is post where 200 is expected.
func (b *bench) must(path, form string, options ...option) reply {
	b.t.Helper()
	r := b.post(path, form, options...)
	require.Equal(b.t, http.StatusOK, r.status, r.raw)
	return r
}

// order is a form that pays 10 dollars for order o1.
const order = "amount=1000&currency=usd&metadata[order_id]=o1&automatic_payment_methods[enabled]=true&automatic_payment_methods[allow_redirects]=never"

func (b *bench) intent(extra string) string {
	b.t.Helper()
	return b.must("/v1/payment_intents", order+extra).text("id")
}

func (b *bench) paid(extra string) string {
	b.t.Helper()
	r := b.must("/v1/payment_intents", order+"&confirm=true&payment_method=pm_card_visa"+extra)
	return r.text("id")
}

func (b *bench) types() []string {
	var out []string
	for _, e := range b.Pending() {
		out = append(out, e.Type)
	}
	return out
}

func TestAPaymentInTwoSteps(t *testing.T) {
	b := open(t)
	r := b.must("/v1/payment_intents", order+"&payment_method=pm_card_visa")
	assert.Equal(t, "requires_confirmation", r.text("status"))
	assert.Equal(t, start.Unix(), int64(r.at("created").(int)))
	assert.Zero(t, b.Money.Len(), "nothing moved yet")
	id := r.text("id")
	r = b.must("/v1/payment_intents/"+id+"/confirm", "expand[]=latest_charge&expand[]=payment_method", key("k"))
	assert.Equal(t, []any{"succeeded", 1000, true, 1000, "visa"}, []any{
		r.text("status"), r.at("amount_received"), r.at("latest_charge.captured"), r.at("latest_charge.amount_captured"), r.at("payment_method.card.brand"),
	})
	charges := b.Charges("o1")
	require.Len(t, charges, 1)
	assert.Equal(t, stripe.Movement{
		Kind: stripe.Charged, ID: r.text("latest_charge.id"), Charge: r.text("latest_charge.id"), PaymentIntent: id, Account: "acct_platform",
		Amount: 1000, Currency: "usd", OrderID: "o1", Metadata: map[string]string{"order_id": "o1"}, Key: "k", At: start,
	}, charges[0])
	assert.Equal(t, []string{"payment_intent.created", "charge.succeeded", "payment_intent.succeeded"}, b.types())
	assert.Equal(t, r.text("id"), b.get("/v1/payment_intents/"+id, "").text("id"))
}
