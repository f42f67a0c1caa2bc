package stripe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	sdk "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/customer"
	"github.com/stripe/stripe-go/v76/paymentintent"
	"github.com/stripe/stripe-go/v76/paymentmethod"
	"github.com/stripe/stripe-go/v76/refund"
	"github.com/stripe/stripe-go/v76/setupintent"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
	"github.com/smilefactory/integrations/payment"
)

// request is one request, but for what it asks for.
type request struct {
	// write: it changes something, so a failure may hide that it did.
	write bool
	// key is the idempotency key of a write. A write without one may be repeated
	// without harm, as cancelling may: a key would only keep its failures.
	key string
	// of is the account that the attempt was begun at; nil where there is none.
	of *payment.Identity
	// private is what the error must not show.
	private []string
}

// read is a request that changes nothing.
func read(a *payment.Attempt) request {
	return request{of: &a.Identity, private: []string{a.Order.ReturnURL, a.Order.CancelURL, a.Order.Description}}
}

// write is one that changes something; see request.key.
func write(a *payment.Attempt, key string) request {
	r := read(a)
	r.write, r.key = true, key
	return r
}

// step is a write that carries the attempt's key of that name.
func step(a *payment.Attempt, name string) request { return write(a, a.Key(name)) }

// api is Stripe's API under one key.
type api struct {
	backend sdk.Backend
	key     string
	params  sdk.Params
}

func (c api) intents() paymentintent.Client { return paymentintent.Client{B: c.backend, Key: c.key} }

func (c api) methods() paymentmethod.Client { return paymentmethod.Client{B: c.backend, Key: c.key} }
func (c api) setups() setupintent.Client    { return setupintent.Client{B: c.backend, Key: c.key} }
func (c api) customers() customer.Client    { return customer.Client{B: c.backend, Key: c.key} }
func (c api) refunds() refund.Client        { return refund.Client{B: c.backend, Key: c.key} }

// pages are the parameters of a list.
func (c api) pages() sdk.ListParams {
	return sdk.ListParams{Context: c.params.Context, StripeAccount: c.params.StripeAccount, Limit: new(int64(pageSize))}
}

// answer is what came back at the HTTP level, zero where nothing did.
type answer struct {
	status int
	header http.Header
}

// replayed reports whether it is the one that Stripe kept under the key
// (docs.stripe.com/error-low-level).
func (a answer) replayed() bool { return a.header.Get("Idempotent-Replayed") == "true" }

// recorder remembers the last answer: stripe-go hides the status of one that it
// can't read.
type recorder struct {
	http.RoundTripper

	last answer
}

// agent replaces what stripe-go tells of this machine, its host name included.
const agent = `{"bindings_version":"` + sdk.ClientVersion + `","lang":"go","publisher":"stripe"}`

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("X-Stripe-Client-User-Agent", agent)
	r.last = answer{}
	resp, err := r.RoundTripper.RoundTrip(req)
	if err == nil {
		r.last = answer{resp.StatusCode, resp.Header}
	}
	return resp, err
}

// do makes a request: ask puts c.params into the parameters and calls Stripe. The
// error is a *fault.Error.
func (g Gateway) do(ctx context.Context, r request, ask func(c api) error) (answer, error) {
	if err := ctx.Err(); err != nil {
		return answer{}, fault.New(fault.Unavailable, err)
	}
	key, base, err := g.credentials(ctx, r)
	if err != nil {
		return answer{}, err
	}
	ctx, latch := fault.Trace(ctx)
	httpClient := transport.Client(g.HTTPClient)
	seen := &recorder{RoundTripper: httpClient.Transport}
	httpClient.Transport = seen
	c := api{key: key, params: g.params(ctx, r)}
	c.backend = sdk.GetBackendWithConfig(sdk.APIBackend, &sdk.BackendConfig{
		URL: &base, HTTPClient: httpClient, LeveledLogger: &sdk.LeveledLogger{Level: sdk.LevelNull},
		MaxNetworkRetries: new(int64), EnableTelemetry: new(bool),
	})
	err = ask(c)
	if err == nil && seen.last.status > 299 {
		err = errUnreadable // a redirect, which stripe-go takes for a success
	}
	if err != nil {
		return seen.last, failure(err, seen.last, latch, r, key)
	}
	return seen.last, nil
}

// credentials are the key and the API's address.
func (g Gateway) credentials(ctx context.Context, r request) (key, base string, err error) {
	if err := g.Check(); err != nil {
		return "", "", fault.New(fault.Denied, err)
	}
	key, err = transport.Key(ctx, "stripe: Key", g.Key)
	if err != nil {
		return "", "", err
	}
	if strings.HasPrefix(key, "pk_") {
		return "", "", fault.New(fault.Denied, errors.New("stripe: Key is a publishable key: the secret one is needed"))
	}
	if r.of != nil && *r.of != g.identity(key) {
		return "", "", fault.New(fault.Denied, errors.New("stripe: the attempt was begun with another account or mode than those of Key and Account"))
	}
	base, _ = g.base()
	return key, base, nil
}

func (g Gateway) params(ctx context.Context, r request) sdk.Params {
	p := sdk.Params{Context: ctx}
	if r.key != "" {
		p.IdempotencyKey = &r.key
	}
	if g.Account != "" {
		p.StripeAccount = &g.Account
	}
	return p
}

// errUnreadable is an answer of success that isn't what was asked for.
var errUnreadable = errors.New("the answer broke off or can't be read")

// wanted is errUnreadable where an answer has no id, or the id of something else.
func wanted(object, kind, id, want string) error {
	if object != kind || id == "" || want != "" && id != want {
		return errUnreadable
	}
	return nil
}

// doubtful is the fault of a look-up on which it hung how a step had ended.
func doubtful(err error) error {
	f := &fault.Error{Err: err}
	if known, ok := fault.As(err); ok {
		c := *known
		f = &c
	}
	f.Kind, f.Deduped = fault.Uncertain, true
	return f
}

// unreadable is the fault of an answer of success whose contents make no sense.
func unreadable(r request, format string, args ...any) error {
	f := fault.New(fault.Uncertain, fmt.Errorf("stripe: "+format, args...))
	f.Deduped = r.write
	if !r.write {
		f.Kind = fault.Unavailable
	}
	return f
}
