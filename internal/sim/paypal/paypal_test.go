package paypal_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/internal/sim/paypal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	other = paypal.Account{ClientID: "other", Secret: "s2", MerchantID: "THERMERCHANT2", Email: "other@example.com"}
	live  = paypal.Account{ClientID: "live", Secret: "s3", Live: true, MerchantID: "LVEMERCHANT22", Email: "live@example.com"}
)

// rig is a simulator behind a server, and a caller with the default account's token.
type rig struct {
	*paypal.Sim
	t     *testing.T
	host  *sim.Host
	clock *sim.Clock
	token string
}

func open(t *testing.T, http2 bool) *rig {
	t.Helper()
	clock := sim.NewClock(start)
	s := paypal.New(paypal.Config{Now: clock.Now, Accounts: []paypal.Account{paypal.DefaultAccount, other, live}})
	r := &rig{Sim: s, t: t, host: sim.NewHost(s, http2), clock: clock}
	t.Cleanup(func() {
		s.Close()
		r.host.Close()
	})
	r.token = r.tokenOf(paypal.DefaultAccount)
	return r
}

func (r *rig) tokenOf(a paypal.Account) string {
	r.t.Helper()
	got := r.send("POST", "/v1/oauth2/token", "grant_type=client_credentials", func(req *http.Request) {
		req.SetBasicAuth(a.ClientID, a.Secret)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	})
	require.Equal(r.t, 200, got.status, got.raw)
	return got.text("access_token")
}

// as is the same simulator, called with another account.
func (r *rig) as(a paypal.Account) *rig {
	r.t.Helper()
	out := *r
	out.token = r.tokenOf(a)
	return &out
}

// reply is an answer that was read.
type reply struct {
	status int
	header http.Header
	raw    string
	body   any
}

// at follows names and indices, as in "purchase_units.0.amount.value".
func (r reply) at(path string) any {
	v := r.body
	for name := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			i := int(name[0] - '0')
			if i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

func (r reply) text(path string) string {
	s, _ := r.at(path).(string)
	return s
}

// issue is the first detail's, with its field where it has one.
func (r reply) issue() string {
	return strings.TrimSpace(r.text("details.0.issue") + " " + r.text("details.0.field"))
}

// link is the target of a link by its relation.
func (r reply) link(rel string) string {
	links, _ := r.at("links").([]any)
	for _, l := range links {
		if m := l.(map[string]any); m["rel"] == rel {
			return m["href"].(string)
		}
	}
	return ""
}

type change = func(*http.Request)

func requestID(id string) change {
	return func(r *http.Request) { r.Header.Set("PayPal-Request-Id", id) }
}

func whole(r *http.Request) { r.Header.Set("Prefer", "return=representation") }

// send makes a request and reads the answer; one whose connection broke has status 0.
func (r *rig) send(method, path, body string, changes ...change) reply {
	r.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = r.host.URL + path
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, path, strings.NewReader(body))
	require.NoError(r.t, err)
	req.GetBody = nil // net/http must not repeat by itself
	req.Header.Set("Authorization", "Bearer "+r.token)
	req.Header.Set("Content-Type", "application/json")
	for _, c := range changes {
		c(req)
	}
	client := *r.host.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(req)
	if err != nil {
		return reply{}
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return reply{}
	}
	out := reply{status: res.StatusCode, header: res.Header, raw: string(raw)}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		require.NoError(r.t, json.Unmarshal(raw, &out.body), "%s", raw)
	}
	return out
}

func (r *rig) post(path, body string, changes ...change) reply {
	r.t.Helper()
	return r.send("POST", path, body, changes...)
}

func (r *rig) get(path string) reply {
	r.t.Helper()
	return r.send("GET", path, "")
}

const (
	orders = "/v2/checkout/orders"
	urls   = `"application_context":{"return_url":"https://shop.example/back?o=1","cancel_url":"https://shop.example/cancel"}`
	unit   = `{"amount":{"currency_code":"USD","value":"10.00"},"custom_id":"order-1"}`
)

func order(units string, more ...string) string {
	return `{"intent":"CAPTURE","purchase_units":[` + units + `]` + strings.Join(append([]string{""}, more...), ",") + `}`
}

func authorized(body string) string { return strings.Replace(body, "CAPTURE", "AUTHORIZE", 1) }

// created is the id of a new order.
func (r *rig) created(body string) string {
	r.t.Helper()
	got := r.post(orders, body, requestID("create-"+unique()))
	require.Equal(r.t, 201, got.status, got.raw)
	return got.text("id")
}

var count int

func unique() string {
	count++
	return start.Add(time.Duration(count)).Format("150405.000000000")
}

// captured is the id of the capture of a new order that the buyer approved.
func (r *rig) captured(units string) string {
	r.t.Helper()
	id := r.created(order(units, urls))
	_, err := r.Approve(id, paypal.Outcome{})
	require.NoError(r.t, err)
	got := r.post(orders+"/"+id+"/capture", "", whole, requestID("capture-"+id))
	require.Equal(r.t, 201, got.status, got.raw)
	return got.text("purchase_units.0.payments.captures.0.id")
}

func TestAnOrderIsCreatedApprovedAndCaptured(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			r := open(t, http2)
			got := r.post(orders, order(unit, urls), requestID("k1"))
			require.Equal(t, 201, got.status, got.raw)
			assert.Equal(t, "CREATED", got.text("status"))
			assert.NotEmpty(t, got.header.Get("Paypal-Debug-Id"))
			assert.Nil(t, got.at("purchase_units"), "minimal by default")
			id := got.text("id")
			assert.Equal(t, r.host.URL+"/checkoutnow?token="+id, got.link("approve"))

			page := r.get(got.link("approve"))
			assert.Contains(t, page.raw, "Pay 10.00 USD to MERCHANT23456.")
			back := r.post(got.link("approve"), "choice=pay")
			assert.Equal(t, 303, back.status)
			to, err := url.Parse(back.header.Get("Location"))
			require.NoError(t, err)
			assert.Equal(t, "shop.example", to.Host)
			assert.Equal(t, url.Values{"o": {"1"}, "token": {id}, "PayerID": {"BUYER23456789"}}, to.Query())
			assert.Equal(t, "APPROVED", r.get(orders+"/"+id).text("status"))
			assert.Zero(t, r.Charges.Len())

			got = r.post(orders+"/"+id+"/capture", "", requestID("k2"))
			require.Equal(t, 201, got.status, got.raw)
			assert.Equal(t, "COMPLETED", got.text("status"))
			assert.Nil(t, got.at("purchase_units"))
			got = r.get(orders + "/" + id)
			assert.Equal(t, "COMPLETED", got.text("purchase_units.0.payments.captures.0.status"))
			assert.Equal(t, "order-1", got.text("purchase_units.0.custom_id"))
			capture := r.get("/v2/payments/captures/" + got.text("purchase_units.0.payments.captures.0.id"))
			assert.Equal(t, id, capture.text("supplementary_data.related_ids.order_id"))

			assert.Equal(t, []paypal.Movement{{
				ID: capture.text("id"), OrderID: id, CustomID: "order-1", Payee: "MERCHANT23456", ClientID: "sim-client",
				Currency: "USD", Minor: 1000, RequestID: "k2", At: start,
			}}, r.Charges.All())
			assert.Equal(t, paypal.Balance{Charges: 1, Charged: 1000}, r.Balance("order-1")["USD"])
		})
	}
}

// cut splits "GET /path".
func cut(s string) (method, path string, ok bool) { return strings.Cut(s, " ") }
