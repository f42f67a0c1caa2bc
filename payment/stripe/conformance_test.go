package stripe_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymenttest"
	"github.com/smilefactory/integrations/payment/stripe"
	"github.com/smilefactory/integrations/secret"
)

var (
	goodCard = payment.Method{ID: "pm_card_visa"}
	poorCard = payment.Method{ID: "pm_card_visa_chargeDeclinedInsufficientFunds"}
)

func TestTheContractIsKept(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			paymenttest.RunGateway(t, func(t *testing.T) paymenttest.Subject {
				b := openOver(t, http2)
				return paymenttest.Subject{
					Gateway: b.Gateway, Good: goodCard, Poor: poorCard, Strict: payment.Method{ID: "pm_card_authenticationRequired"},
					Confirm: func(t testing.TB, p *payment.Payment) {
						t.Helper()
						if p.Action.RedirectURL != "" {
							require.NoError(t, b.sim.Authenticate(p.ID, true))
							return
						}
						paysInTheForm(t, b.HTTPClient, b.BaseURL, key, p)
					},
					Charges: func(order string) []payment.Money {
						var out []payment.Money
						for _, m := range b.sim.Charges(order) {
							out = append(out, payment.Money{Minor: m.Amount, Currency: payment.Currency(strings.ToUpper(m.Currency))})
						}
						return out
					},
				}
			})
		})
	}
}

// Nobody is there who could authenticate a payment in Stripe's test mode, so no
// card asks for it here.
func TestIntegrationLiveKeepsTheContract(t *testing.T) {
	k := testKey(t)
	paymenttest.RunGateway(t, func(t *testing.T) paymenttest.Subject {
		client := &http.Client{Transport: &http.Transport{}}
		t.Cleanup(client.CloseIdleConnections)
		const live = "https://api.stripe.com"
		return paymenttest.Subject{
			Gateway: stripe.Gateway{Key: secret.Literal(k), HTTPClient: client}, Good: goodCard, Poor: poorCard,
			Confirm: func(t testing.TB, p *payment.Payment) { paysInTheForm(t, client, live, k, p) },
			Charges: func(order string) []payment.Money { return taken(t, client, live, k, order) },
		}
	})
}

func testKey(t *testing.T) string {
	t.Helper()
	k := os.Getenv("STRIPE_TEST_KEY")
	if k == "" {
		t.Skip("STRIPE_TEST_KEY isn't set: it is a secret key of Stripe's test mode, sk_test_…")
	}
	require.False(t, stripe.Gateway{Key: secret.Literal(k)}.Identity().Live, "STRIPE_TEST_KEY must be one of test mode")
	return k
}

// paysInTheForm does what Stripe's script does in the browser.
func paysInTheForm(t testing.TB, c *http.Client, base, key string, p *payment.Payment) {
	t.Helper()
	call(t, c, http.MethodPost, base+"/v1/payment_intents/"+p.ID+"/confirm", key, url.Values{
		"payment_method": {"pm_card_visa"}, "return_url": {"https://shop.example.com/paid"},
	}, new(any))
}

// taken is what the account's own books say of an order.
func taken(t testing.TB, c *http.Client, base, key, order string) []payment.Money {
	t.Helper()
	var list struct {
		Data []struct {
			AmountReceived int64             `json:"amount_received"`
			Currency       string            `json:"currency"`
			Metadata       map[string]string `json:"metadata"`
		} `json:"data"`
	}
	call(t, c, http.MethodGet, base+"/v1/payment_intents?limit=100", key, nil, &list)
	var out []payment.Money
	for _, pi := range list.Data {
		if pi.Metadata["order_id"] == order && pi.AmountReceived > 0 {
			out = append(out, payment.Money{Minor: pi.AmountReceived, Currency: payment.Currency(strings.ToUpper(pi.Currency))})
		}
	}
	return out
}

func call(t testing.TB, c *http.Client, method, url, key string, form url.Values, out any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.SetBasicAuth(key, "")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Stripe-Version", "2023-10-16")
	res, err := c.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode, fmt.Sprint(method, " ", req.URL.Path))
	require.NoError(t, json.NewDecoder(res.Body).Decode(out))
}
