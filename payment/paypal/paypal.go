// Package paypal takes payments through PayPal's REST API: Orders v2, Payments v2,
// Payment Method Tokens v3 and Webhooks v1.
//
//	pay, err := payment.New(stripe.Gateway{Key: key},
//		payment.WithBackup(&paypal.Gateway{ClientID: id, Secret: secret.Env("PAYPAL_SECRET")}),
//		payment.WithJournal(journal))
//
// What of PayPal's behaviour shows through:
//
//   - Without a Method the customer must approve at PayPal: Prepare answers with a
//     redirect, and the money is taken by Commit after that. PayPal gives 3 hours
//     to send the customer, and 3 more to approve and capture.
//   - With a Method, which is a vault id, nobody has to approve. It is never sent
//     when the order is created, since PayPal would charge it at once, but with the
//     capture. The id of a wallet is written as it is, that of a card as
//     "card:8kk8451t", of Venmo as "venmo:8kk8451t": PayPal wants to be told which
//     it is. The [payment.Wallet] methods give and take ids of this form.
//   - An order that PayPal calls COMPLETED isn't paid: its captures are read. One
//     that is pending (an eCheck, a review) is Processing for up to days.
//   - A decline ends the attempt. PayPal would let the customer choose another way
//     to pay for the same order; here he does so with a new attempt and a new order.
//     Where PayPal wants the customer to act (PAYER_ACTION_REQUIRED), the payment is
//     Prepared with an action, and is to be committed again after it. One that the
//     merchant initiated is Refused for payment.AuthenticationFault instead.
//   - An order can't be canceled at PayPal, so Fence is fault.Unsupported, unless
//     the order is over already. A held payment is let go with VoidAttempt.
//   - An authorization holds for 29 days, of which PayPal honours 3 for sure.
//   - A request id is kept for 6 hours by Orders, for 45 days by Payments and for 3
//     hours by the vault. What began before that is not sent again: it is looked up,
//     and where that doesn't settle it the answer is fault.Uncertain. Refunds are
//     sent once the look-up found none.
//   - The invoice id of a payment is the order's id (and the tenant), so that PayPal
//     itself refuses a second payment of one order where the account has "block
//     accidental payments" on, as accounts have at first: fault.Conflict. An order's
//     id should therefore be unique over all that the account is used for, and an
//     order whose hold was voided may need a new one.
//   - PayPal can't search for a payment by our ids: without a PaymentID, LookUp is
//     fault.Unsupported, and Prepare is to be repeated, which is safe.
//   - HUF, JPY and TWD have no decimals, and an amount that has some is refused.
//   - There is no usual method of a customer: SetDefault is fault.Unsupported.
//   - Webhooks are retried for 3 days, so that an event may be old when it is good.
package paypal

import (
	"errors"
	"net/http"
	"regexp"

	"github.com/smilefactory/integrations/internal/transport"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/secret"
)

const (
	provider = "paypal"
	live     = "https://api-m.paypal.com" // "servers" of the specifications, as the next
	sandbox  = "https://api-m.sandbox.paypal.com"
)

// Gateway is PayPal as a payment.Gateway. It keeps the access token, so it is used
// by pointer and not copied. It is safe for concurrent use.
type Gateway struct {
	// ClientID and Secret are those of the REST app. The secret is asked for anew
	// whenever an access token is fetched, so that it can rotate. Required.
	ClientID string
	Secret   secret.Source
	// Sandbox is PayPal's test environment, which has credentials of its own.
	Sandbox bool
	// MerchantID is the account that the app belongs to, 13 characters. Where it is
	// given it is the Identity, so that another app of the same account has the same,
	// and a webhook about another account says so.
	MerchantID string
	// WebhookID is that of the webhook whose events are read; PayPal signs with it.
	WebhookID string
	// VerifyAtPayPal asks PayPal about each event's signature. The zero value checks
	// it here, with PayPal's certificate, which is fetched once a day.
	VerifyAtPayPal bool
	// Shipping lets the customer choose an address at PayPal, which some of PayPal's
	// protection of sellers asks for. The zero value keeps addresses out of it.
	Shipping bool
	// BaseURL is where the API is; empty is PayPal's own for live or sandbox. Plain
	// http is refused for anything but a loopback host.
	BaseURL string
	// HTTPClient brings transport and timeout; nil means http.DefaultTransport.
	// A timeout of zero means one minute. Redirects are never followed.
	HTTPClient *http.Client

	token tokens
	certs certificates
}

var (
	_ payment.Gateway    = (*Gateway)(nil)
	_ payment.Identifier = (*Gateway)(nil)
	_ payment.Capturer   = (*Gateway)(nil)
	_ payment.Refunder   = (*Gateway)(nil)
	_ payment.Wallet     = (*Gateway)(nil)
	_ payment.Hook       = (*Gateway)(nil)
)

// Name is "paypal".
func (g *Gateway) Name() string { return provider }

// Identity is the merchant where it is known, else the app.
func (g *Gateway) Identity() payment.Identity {
	account := g.MerchantID
	if account == "" {
		account = g.ClientID
	}
	return payment.Identity{Account: account, Live: !g.Sandbox}
}

var (
	// account is account_id of the Orders v2 specification.
	account = regexp.MustCompile(`^[2-9A-HJ-NP-Z]{13}$`)
	// app is what a ClientID looks like; the specifications don't say.
	app = regexp.MustCompile(`^[A-Za-z0-9_-]{1,200}$`)
	// webhook is webhook_id of the Webhooks v1 specification.
	webhook = regexp.MustCompile(`^[A-Za-z0-9]{1,50}$`)
)

// Check reports what is missing or wrong in the settings, without any I/O.
func (g *Gateway) Check() error {
	switch {
	case g.ClientID == "":
		return errors.New("paypal: ClientID is required")
	case !app.MatchString(g.ClientID):
		return errors.New("paypal: ClientID must be at most 200 of [A-Za-z0-9_-]")
	case g.Secret == nil:
		return errors.New("paypal: Secret is required")
	case g.MerchantID != "" && !account.MatchString(g.MerchantID):
		return errors.New("paypal: MerchantID must be the 13 characters of a merchant's account id")
	case g.WebhookID != "" && !webhook.MatchString(g.WebhookID):
		return errors.New("paypal: WebhookID must be at most 50 of [A-Za-z0-9]")
	}
	_, err := g.base()
	return err
}

// base is the checked BaseURL without a slash at its end.
func (g *Gateway) base() (string, error) {
	if g.Sandbox {
		return transport.Base(provider, g.BaseURL, sandbox)
	}
	return transport.Base(provider, g.BaseURL, live)
}
