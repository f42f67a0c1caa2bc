package paypal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	simulator "github.com/smilefactory/integrations/internal/sim/paypal"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymenttest"
	"github.com/smilefactory/integrations/payment/paypal"
	"github.com/smilefactory/integrations/secret"
)

func TestTheContractIsKept(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			paymenttest.RunGateway(t, func(t *testing.T) paymenttest.Subject {
				b := openOver(t, http2)
				method := func(outcome simulator.Outcome) payment.Method {
					id, err := b.sim.SaveMethod(clientID, "customer1", "paypal", outcome)
					require.NoError(t, err)
					return payment.Method{ID: id}
				}
				return paymenttest.Subject{
					Gateway: b.Gateway, Unready: unready(b.host.URL),
					Good: method(simulator.Outcome{}), Strict: method(simulator.Outcome{Issue: "PAYER_ACTION_REQUIRED"}),
					Poor: method(simulator.Outcome{Status: "DECLINED", Code: "5120"}),
					Confirm: func(t testing.TB, p *payment.Payment) {
						t.Helper()
						_, err := b.sim.Approve(p.ID, simulator.Outcome{})
						require.NoError(t, err)
					},
					Charges: func(order string) []payment.Money {
						var out []payment.Money
						for _, c := range b.sim.Charges.All() {
							if strings.HasPrefix(c.CustomID, order+".") {
								out = append(out, payment.Money{Minor: c.Minor, Currency: payment.Currency(c.Currency)})
							}
						}
						return out
					},
				}
			})
		})
	}
}

// unready are Gateways that fail before anything is sent.
func unready(base string) map[string]payment.Gateway {
	with := func(pass secret.Source, err error) payment.Gateway {
		return &paypal.Gateway{
			ClientID: clientID, Secret: pass, Sandbox: true, BaseURL: base,
			HTTPClient: &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, err }}},
		}
	}
	sealed := secret.Func(func(context.Context) (secret.Value, error) { return secret.Value{}, errors.New("the vault is sealed") })
	return map[string]payment.Gateway{
		"a refused connection":       with(secret.Literal(password), syscall.ECONNREFUSED),
		"an unknown host":            with(secret.Literal(password), &net.DNSError{Err: "no such host", IsNotFound: true}),
		"no secret":                  with(nil, syscall.ECONNREFUSED),
		"a secret that can't be had": with(sealed, syscall.ECONNREFUSED),
		"a secret of two lines":      with(secret.Literal(password+"\nX-Header: 1"), syscall.ECONNREFUSED),
	}
}

// TestSandboxKeepsTheContract runs the suite at PayPal's sandbox, and
// TestTheSuiteForPayPalsSandboxRuns the same at the simulator.
func TestSandboxKeepsTheContract(t *testing.T) {
	keepsTheContract(t, "https://api-m.sandbox.paypal.com")
}

func TestTheSuiteForPayPalsSandboxRuns(t *testing.T) {
	b := open(t)
	id, err := b.sim.SaveMethod(clientID, "customer1", "paypal", simulator.Outcome{})
	require.NoError(t, err)
	poor, err := b.sim.SaveMethod(clientID, "customer1", "card", simulator.Outcome{Status: "DECLINED", Code: "5120"})
	require.NoError(t, err)
	t.Setenv("PAYPAL_CLIENT_ID", clientID)
	t.Setenv("PAYPAL_SECRET", password)
	t.Setenv("PAYPAL_METHOD", id)
	t.Setenv("PAYPAL_METHOD_POOR", "card:"+poor)
	keepsTheContract(t, b.host.URL)
	assert.NotZero(t, b.sim.Charges.Len())
}

// keepsTheContract needs nobody who approves at PayPal: no API does that for him.
// PAYPAL_METHOD is a vault id of the account that pays, PAYPAL_METHOD_POOR one that
// is declined for want of funds; without them their rules are skipped.
func keepsTheContract(t *testing.T, base string) {
	t.Helper()
	id, pass := os.Getenv("PAYPAL_CLIENT_ID"), os.Getenv("PAYPAL_SECRET")
	if id == "" || pass == "" {
		t.Skip("PAYPAL_CLIENT_ID and PAYPAL_SECRET aren't set: nothing is tried at PayPal's sandbox")
	}
	paymenttest.RunGateway(t, func(t *testing.T) paymenttest.Subject {
		books := &books{RoundTripper: &http.Transport{}, base: base, orders: map[string][]string{}}
		client := &http.Client{Transport: books, Timeout: time.Minute}
		t.Cleanup(client.CloseIdleConnections)
		return paymenttest.Subject{
			Gateway: &paypal.Gateway{ClientID: id, Secret: secret.Literal(pass), Sandbox: true, BaseURL: base, HTTPClient: client},
			Good:    payment.Method{ID: os.Getenv("PAYPAL_METHOD")}, Poor: payment.Method{ID: os.Getenv("PAYPAL_METHOD_POOR")},
			Charges: func(order string) []payment.Money { return books.taken(t, id, pass, order) },
		}
	})
}

// books are what PayPal's API tells whoever has the credentials. It can't search for
// orders, so their ids are read off the wire.
type books struct {
	http.RoundTripper

	base string

	mu     sync.Mutex
	orders map[string][]string // PayPal's ids by ours
}

func (b *books) CloseIdleConnections() { b.RoundTripper.(*http.Transport).CloseIdleConnections() }

func (b *books) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPost || r.URL.Path != createPath {
		return b.RoundTripper.RoundTrip(r)
	}
	var asked struct {
		Units []struct {
			CustomID string `json:"custom_id"`
		} `json:"purchase_units"`
	}
	sent, err := r.GetBody()
	if err == nil {
		err = json.NewDecoder(sent).Decode(&asked)
	}
	if err != nil {
		return nil, err
	}
	res, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	said, err := io.ReadAll(res.Body)
	res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(said))
	var made struct{ ID string }
	if json.Unmarshal(said, &made) == nil && made.ID != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		order := payment.ParseReference(asked.Units[0].CustomID).Order
		if !slices.Contains(b.orders[order], made.ID) { // a repetition answers with the same
			b.orders[order] = append(b.orders[order], made.ID)
		}
	}
	return res, err
}

// taken are the captures of an order that moved money.
func (b *books) taken(t *testing.T, id, pass, order string) []payment.Money {
	t.Helper()
	var token struct {
		Access string `json:"access_token"`
	}
	b.ask(t, http.MethodPost, tokenPath, func(r *http.Request) { r.SetBasicAuth(id, pass) }, &token)
	b.mu.Lock()
	orders := b.orders[order]
	b.mu.Unlock()
	require.NotEmpty(t, orders, "no order was made at PayPal")
	var out []payment.Money
	for _, o := range orders {
		var is struct {
			Units []struct {
				Payments struct {
					Captures []struct {
						Status string
						Amount struct {
							Value    string
							Currency string `json:"currency_code"`
						}
					}
				}
			} `json:"purchase_units"`
		}
		b.ask(t, http.MethodGet, createPath+"/"+o, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token.Access) }, &is)
		for _, c := range is.Units[0].Payments.Captures {
			if c.Status != "DECLINED" && c.Status != "FAILED" {
				m, err := payment.ParseMoney(c.Amount.Value, payment.Currency(c.Amount.Currency))
				require.NoError(t, err)
				out = append(out, m)
			}
		}
	}
	return out
}

func (b *books) ask(t *testing.T, method, path string, signed func(*http.Request), out any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, b.base+path, strings.NewReader("grant_type=client_credentials"))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if method == http.MethodGet {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	signed(r)
	res, err := b.RoundTripper.RoundTrip(r)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode, path)
	require.NoError(t, json.NewDecoder(res.Body).Decode(out))
}
