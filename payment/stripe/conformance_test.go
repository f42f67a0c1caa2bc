package stripe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
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
					Gateway: b.Gateway, Unready: unready(b.Gateway), Good: goodCard, Poor: poorCard, Strict: payment.Method{ID: "pm_card_authenticationRequired"},
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

// unready are copies of a Gateway that fail before anything is sent.
func unready(g stripe.Gateway) map[string]payment.Gateway {
	with := func(change func(*stripe.Gateway)) payment.Gateway {
		c := g
		change(&c)
		return c
	}
	dialing := func(err error) func(*stripe.Gateway) {
		return func(g *stripe.Gateway) {
			g.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, err }}}
		}
	}
	sealed := secret.Func(func(context.Context) (secret.Value, error) { return secret.Value{}, errors.New("the vault is sealed") })
	return map[string]payment.Gateway{
		"a refused connection":    with(dialing(syscall.ECONNREFUSED)),
		"an unknown host":         with(dialing(&net.DNSError{Err: "no such host", IsNotFound: true})),
		"no key":                  with(func(g *stripe.Gateway) { g.Key = nil }),
		"a key that can't be had": with(func(g *stripe.Gateway) { g.Key = sealed }),
		"a key of two lines":      with(func(g *stripe.Gateway) { g.Key = secret.Literal(key + "\nX-Header: 1") }),
	}
}

// TestIntegrationLiveKeepsTheContract runs the suite at Stripe's test mode, and
// TestTheSuiteForStripesTestModeRuns the same at the simulator.
func TestIntegrationLiveKeepsTheContract(t *testing.T) {
	keepsTheContract(t, "https://api.stripe.com", testKey(t))
}

func TestTheSuiteForStripesTestModeRuns(t *testing.T) {
	b := open(t)
	t.Setenv("STRIPE_TEST_KEY", key)
	k := testKey(t)
	keepsTheContract(t, b.BaseURL, k)
	assert.NotEmpty(t, b.sim.Money.All())
}

// keepsTheContract knows of a payment what Stripe's API tells whoever has the key.
// No API does what the customer does at his bank's page.
func keepsTheContract(t *testing.T, base, key string) {
	t.Helper()
	paymenttest.RunGateway(t, func(t *testing.T) paymenttest.Subject {
		client := &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
		t.Cleanup(client.CloseIdleConnections)
		return paymenttest.Subject{
			Gateway: stripe.Gateway{Key: secret.Literal(key), BaseURL: base, HTTPClient: client},
			Good:    goodCard, Poor: poorCard, Strict: payment.Method{ID: "pm_card_authenticationRequired"},
			Confirm: func(t testing.TB, p *payment.Payment) {
				t.Helper()
				if p.Action.RedirectURL != "" {
					t.Skip("the action is asked for, but nobody is there who could authenticate at the bank's page")
				}
				paysInTheForm(t, client, base, key, p)
			},
			Charges: func(order string) []payment.Money { return taken(t, client, base, key, order) },
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
