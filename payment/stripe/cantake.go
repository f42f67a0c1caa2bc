package stripe

import (
	"cmp"
	"strings"

	"github.com/smilefactory/integrations/payment"
)

// CanTake checks currency, decimals and amount, and that a method and a customer
// are ids of Stripe's wherever they are needed.
func (g Gateway) CanTake(a *payment.Attempt) error {
	if err := canCharge(a.Order.Amount); err != nil {
		return err
	}
	of := "methods." + cmp.Or(a.Provider, provider)
	switch m := a.Method; {
	case a.Payee != "":
		return unsupported("payees."+cmp.Or(a.Provider, provider), "payments to other accounts aren't supported at Stripe yet; Gateway.Account is charged")
	case m.ID != "" && !payable(m.ID):
		return unsupported(of+".id", "%s", notPayable)
	case m.Customer != "" && !strings.HasPrefix(m.Customer, "cus_"):
		return unsupported(of+".customer", "isn't the id of a customer of Stripe's, cus_…")
	case a.Order.Presence == payment.MerchantInitiated && (m.ID == "" || isToken(m.ID)):
		return unsupported(of+".id", "a merchant initiated payment needs a saved method, pm_…")
	case a.Order.Presence == payment.MerchantInitiated && m.Customer == "":
		return unsupported(of+".customer", "a merchant initiated payment needs the customer of the saved method, cus_…")
	case a.Order.Save != payment.SaveNot && m.Customer == "":
		return unsupported(of+".customer", "Stripe saves a method for a customer of its own, cus_…: SetupPaymentMethod makes one")
	}
	return nil
}

func canCharge(m payment.Money) error {
	n, err := amount(m)
	if err != nil {
		return err
	}
	switch u := currencies[m.Currency]; {
	case n < u.lowest:
		return unsupported("amount.minor", "is below the least that Stripe charges in %s", m.Currency)
	case n > u.highest:
		return unsupported("amount.minor", "is above the most that Stripe charges in %s", m.Currency)
	}
	return nil
}

const notPayable = "isn't a payment method of Stripe's, pm_… (also card_… and src_…), nor a token of its form, tok_…. " +
	"Send what Stripe's form in the browser made, never what the customer typed"

// payable reports whether an id is one that can be paid with (API reference,
// PaymentIntent, payment_method).
func payable(id string) bool {
	return isToken(id) || strings.HasPrefix(id, "pm_") || strings.HasPrefix(id, "card_") || strings.HasPrefix(id, "src_")
}

// isToken reports whether it is a one-time token of a card, of which a payment
// method must be made first.
func isToken(id string) bool { return strings.HasPrefix(id, "tok_") }
