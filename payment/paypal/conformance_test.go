package paypal_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	simulator "github.com/smilefactory/integrations/internal/sim/paypal"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymenttest"
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
					Gateway: b.Gateway,
					Good:    method(simulator.Outcome{}), Strict: method(simulator.Outcome{Issue: "PAYER_ACTION_REQUIRED"}),
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
