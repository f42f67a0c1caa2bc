package paymenttest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymenttest"
)

func subject(bank *paymenttest.Bank, gateway payment.Gateway) paymenttest.Subject {
	return paymenttest.Subject{
		Gateway: gateway, Good: payment.Method{ID: paymenttest.Good}, Poor: payment.Method{ID: paymenttest.Poor}, Strict: payment.Method{ID: paymenttest.Strict},
		Confirm: func(_ testing.TB, p *payment.Payment) { bank.Confirm(p.ID) },
		Charges: func(order string) []payment.Money {
			var out []payment.Money
			for _, c := range bank.Charges(order) {
				out = append(out, c.Amount)
			}
			return out
		},
	}
}

func TestABankKeepsEveryRule(t *testing.T) {
	for name, bank := range map[string]*paymenttest.Bank{
		"that pages":       {Refuses: picky},
		"that approves":    {Refuses: picky, Approves: true},
		"that can't fence": {Refuses: picky, NoFence: true},
		"that is live":     {Refuses: picky, Account: "acct_1", Live: true},
	} {
		t.Run(name, func(t *testing.T) {
			paymenttest.RunGateway(t, func(*testing.T) paymenttest.Subject { return subject(bank, bank) })
		})
	}
}

// TestAClientKeepsEveryRule: it stands where its Gateway does.
func TestAClientKeepsEveryRule(t *testing.T) {
	paymenttest.RunGateway(t, func(t *testing.T) paymenttest.Subject {
		bank := &paymenttest.Bank{Refuses: picky}
		pay, err := payment.New(bank)
		require.NoError(t, err)
		return subject(bank, pay)
	})
}

// picky is a Bank that can't take some orders.
func picky(a *payment.Attempt) error {
	switch {
	case a.Order.Presence == payment.MerchantInitiated && a.Method.ID == "":
		return paymenttest.CantTake("method")
	case a.Order.Amount.Currency != "USD":
		return paymenttest.CantTake("amount.currency")
	}
	return nil
}
