package stripe

import (
	"errors"
	"time"

	sdk "github.com/stripe/stripe-go/v76"

	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/secret"
)

// standing is how a PaymentIntent stands
// (docs.stripe.com/payments/paymentintents/lifecycle).
func standing(r request, a *payment.Attempt, pi *sdk.PaymentIntent) (*payment.Payment, error) {
	p := &payment.Payment{ID: pi.ID, Live: pi.Livemode, Reference: reference(pi.Metadata)}
	if err := amounts(p, pi); err != nil {
		return nil, unreadable(r, "the answer's currency is none of Stripe's")
	}
	switch pi.Status {
	case sdk.PaymentIntentStatusRequiresConfirmation:
		p.State = payment.Prepared
	case sdk.PaymentIntentStatusRequiresPaymentMethod:
		p.State, p.Action = payment.Actionable, action(pi.ClientSecret, "")
		if pi.LastPaymentError != nil {
			p.State, p.Action, p.Decline = payment.Refused, nil, declined(pi.LastPaymentError)
		}
	case sdk.PaymentIntentStatusRequiresAction:
		p.State, p.Action = payment.Actionable, action(pi.ClientSecret, page(pi.NextAction))
		if a.Order.Presence == payment.MerchantInitiated { // nobody is there
			p.State, p.Action, p.Decline = payment.Refused, nil, needsCustomer()
		}
	case sdk.PaymentIntentStatusProcessing:
		p.State, p.Reason = payment.Processing, string(sdk.PaymentIntentStatusProcessing)
	case sdk.PaymentIntentStatusRequiresCapture:
		p.State = payment.Held
	case sdk.PaymentIntentStatusSucceeded:
		p.State = payment.Paid
	case sdk.PaymentIntentStatusCanceled:
		p.State, p.Reason = payment.Ended, string(pi.CancellationReason)
	default:
		return nil, unreadable(r, "the PaymentIntent has a status that version %s doesn't know", sdk.APIVersion)
	}
	if p.State == payment.Held || p.State == payment.Paid {
		p.Saved = saved(a, pi)
	}
	return p, nil
}

func amounts(p *payment.Payment, pi *sdk.PaymentIntent) (err error) {
	var refunded int64
	if c := pi.LatestCharge; c != nil { // a capture of a part lets go of the rest, which is called refunded too
		p.ChargeID, refunded = c.ID, max(0, c.AmountRefunded-(c.Amount-c.AmountCaptured))
		if pi.Status == sdk.PaymentIntentStatusRequiresCapture {
			p.HeldUntil = until(c)
		} else if pi.Status != sdk.PaymentIntentStatusSucceeded {
			refunded = 0 // what a voided authorisation let go of is called so too
		}
	}
	p.Amount, err = money(pi.Amount, pi.Currency)
	p.Captured, _ = money(pi.AmountReceived, pi.Currency)
	p.Refunded, _ = money(refunded, pi.Currency)
	return err
}

// until is when a card's authorisation ends, where Stripe says it.
func until(c *sdk.Charge) time.Time {
	if d := c.PaymentMethodDetails; d != nil && d.Card != nil && d.Card.CaptureBefore != 0 {
		return time.Unix(d.Card.CaptureBefore, 0)
	}
	return time.Time{}
}

// saved is the method that was kept for the customer.
func saved(a *payment.Attempt, pi *sdk.PaymentIntent) payment.Method {
	if a.Order.Save == payment.SaveNot || pi.SetupFutureUsage == "" || pi.Customer == nil || pi.PaymentMethod == nil {
		return payment.Method{}
	}
	return payment.Method{ID: pi.PaymentMethod.ID, Customer: pi.Customer.ID}
}

func action(clientSecret, url string) *payment.NextAction {
	if url != "" {
		return &payment.NextAction{Provider: provider, RedirectURL: url}
	}
	return &payment.NextAction{Provider: provider, ClientSecret: secret.NewValue(clientSecret)}
}

// page is where the customer is to go; empty where Stripe's script does it.
func page(n *sdk.PaymentIntentNextAction) string {
	if n == nil || n.RedirectToURL == nil {
		return ""
	}
	return n.RedirectToURL.URL
}

func needsCustomer() *payment.Decline {
	return payment.NewDecline(payment.AuthenticationFault, string(sdk.DeclineCodeAuthenticationRequired))
}

// refused is the payment of a step that Stripe answered with a decline.
func refused(a *payment.Attempt, said *Error) *payment.Payment {
	if pi := said.intent(); pi != nil && pi.ID == a.PaymentID {
		if p, err := standing(read(a), a, pi); err == nil {
			p.State, p.Action, p.Decline = payment.Refused, nil, said.decline
			return p
		}
	}
	return &payment.Payment{
		ID: a.PaymentID, State: payment.Refused, Decline: said.decline, Amount: a.Order.Amount,
		Live: a.Identity.Live, Reference: a.Reference(),
	}
}

// refusedBefore is a decline before there is a PaymentIntent.
func refusedBefore(a *payment.Attempt, err error) (*payment.Payment, error) {
	if said, ok := errors.AsType[*Error](err); ok && said.decline != nil {
		return &payment.Payment{State: payment.Refused, Decline: said.decline, Live: a.Identity.Live}, nil
	}
	return nil, err
}
