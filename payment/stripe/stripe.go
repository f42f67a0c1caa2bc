// Package stripe takes payments through Stripe's PaymentIntents.
//
//	pay, err := payment.New(stripe.Gateway{Key: secret.Env("STRIPE_KEY")})
//
// A payment is a PaymentIntent, which is created unconfirmed and then confirmed.
// Each request is made once: stripe-go's own retries and its telemetry are off,
// and its global key and logger are not used. The API's version is that of
// stripe-go v76, 2023-10-16. What a user must know of Stripe:
//
//   - Without a [payment.Method] the payment is Actionable at once, and its client
//     secret lets the customer pay with Stripe's form, without a Commit.
//   - A declined PaymentIntent isn't dead: whoever has its client secret may try
//     another card. Fence it before the order is tried elsewhere.
//   - An idempotency key keeps its first answer for 24 hours or more, declines and
//     500s included. An answer that Stripe replays is old, so this package looks up
//     how the payment stands by now. A kept 500 stays: look up.
//   - To save a method Stripe needs a customer of its own: SetupPaymentMethod makes one.
//   - Webhooks may come late, twice and in any order; their signature is checked
//     and what they are about is read, nothing else.
//   - Amounts: Stripe takes MGA without decimals, ISK and UGX in hundredths of
//     which it takes whole ones only, and thousandths that end in 0.
//   - Ids that travel as metadata are seen by all who may read the Stripe account:
//     no personal data.
package stripe

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/smilefactory/integrations/internal/transport"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/secret"
)

const (
	provider       = "stripe"
	defaultBaseURL = "https://api.stripe.com"
)

// Gateway is Stripe as a payment.Gateway, payment.Capturer, payment.Refunder,
// payment.Wallet and payment.Hook. It is safe for concurrent use.
type Gateway struct {
	// Key is the secret key, or a restricted one that may write PaymentIntents,
	// Refunds, and for the Wallet SetupIntents, PaymentMethods and Customers. It is
	// asked for anew at every request, so that it can rotate. Required.
	Key secret.Source
	// Account is a connected account for which Key acts (the header Stripe-Account);
	// empty is Key's own.
	Account string
	// Webhook are the signing secrets of the endpoint, "whsec_…": more than one while
	// they are rolled. ReadEvent needs one.
	Webhook []secret.Source
	// BaseURL is where the API is; empty means https://api.stripe.com. Plain http is
	// refused for anything but a loopback host.
	BaseURL string
	// HTTPClient brings transport and timeout; nil means http.DefaultTransport. A
	// timeout of zero means one minute. Redirects are never followed.
	HTTPClient *http.Client
}

var (
	_ payment.Gateway    = Gateway{}
	_ payment.Identifier = Gateway{}
	_ payment.Capturer   = Gateway{}
	_ payment.Refunder   = Gateway{}
	_ payment.Wallet     = Gateway{}
	_ payment.Hook       = Gateway{}
)

// Name is "stripe".
func (g Gateway) Name() string { return provider }

// Check reports what is missing or wrong in the settings, without any I/O.
func (g Gateway) Check() error {
	switch {
	case g.Key == nil:
		return errors.New("stripe: Key is required")
	case g.Account != "" && !strings.HasPrefix(g.Account, "acct_"):
		return errors.New("stripe: Account isn't the id of an account, acct_…")
	}
	for _, s := range g.Webhook {
		if s == nil {
			return errors.New("stripe: Webhook holds a secret that is nil")
		}
	}
	_, err := g.base()
	return err
}

// base is the checked BaseURL without a slash at its end.
func (g Gateway) base() (string, error) { return transport.Base(provider, g.BaseURL, defaultBaseURL) }

// maxIdentify is how long Identity waits for the key.
const maxIdentify = 5 * time.Second

// Identity is the Account, and Live unless Key is one of test mode: a key that
// can't be read counts as one for real money. An attempt of another identity is
// refused before anything is sent, so a wrong answer here charges nobody.
func (g Gateway) Identity() payment.Identity {
	if g.Key == nil {
		return payment.Identity{Account: g.Account, Live: true}
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxIdentify)
	defer cancel()
	v, _ := g.Key.Secret(ctx)
	return g.identity(v.Reveal())
}

func (g Gateway) identity(key string) payment.Identity {
	test := strings.HasPrefix(key, "sk_test_") || strings.HasPrefix(key, "rk_test_") // docs.stripe.com/keys
	return payment.Identity{Account: g.Account, Live: !test}
}
