package paypal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/oauth2"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
	"github.com/smilefactory/integrations/payment"
)

// How long a PayPal-Request-Id is kept: parameter paypal_request_id of the Orders
// v2 and Payments v2 specifications.
const (
	ordersKeep   = 6 * time.Hour
	paymentsKeep = 45 * 24 * time.Hour
)

// request is one exchange with PayPal.
type request struct {
	op           string // in words, for errors
	method, path string
	body         any    // nil: none
	key          string // the PayPal-Request-Id; empty: none
	deduped      bool   // the key is surely still kept
}

type answer struct {
	status int
	header http.Header
	body   []byte
	broken error // the body broke off
}

// kept reports whether a key that was first used at or after began is surely still
// known to PayPal. A zero began is now.
func kept(began time.Time, retention time.Duration) bool {
	return began.IsZero() || time.Since(began) < retention
}

// call makes one request and reads the answer into out. Where a kept token is
// refused, which proves that nothing was done, it is made once more with a new one.
func (g *Gateway) call(ctx context.Context, r *request, out any) error {
	if err := ctx.Err(); err != nil {
		return fault.New(fault.Unavailable, err)
	}
	if err := g.Check(); err != nil {
		return fault.New(fault.Denied, err)
	}
	base, _ := g.base()
	body, err := encode(r.body)
	if err != nil {
		return err
	}
	a, err := g.authorized(ctx, base, r, body)
	if err == nil {
		err = a.read(r.op, out)
	}
	return r.mark(err)
}

// mark says that the attempt carried a key. A refusal isn't marked: together they
// would say that it also settles what became of an earlier attempt, and PayPal
// "might fail" a second request while the first is under way (page "Idempotency").
func (r *request) mark(err error) error {
	if f, ok := fault.As(err); ok {
		f.Deduped = r.key != "" && r.deduped && f.Kind != fault.Rejected // made for this call alone
	}
	return err
}

func (g *Gateway) authorized(ctx context.Context, base string, r *request, body []byte) (*answer, error) {
	load := func(ctx context.Context) (*oauth2.Token, error) { return g.login(ctx, base) }
	for again := false; ; again = true {
		bearer, fresh, err := g.token.get(ctx, load)
		if err != nil {
			return nil, err
		}
		a, err := g.send(ctx, base, r, body, bearer)
		if err != nil || a.status != http.StatusUnauthorized {
			return a, err
		}
		g.token.drop(bearer)
		if fresh || again {
			return a, nil
		}
	}
}

// send is one exchange. The key's header is not one that net/http knows, so that a
// request is not repeated unseen when a connection breaks.
func (g *Gateway) send(ctx context.Context, base string, r *request, body []byte, bearer string) (*answer, error) {
	ctx, latch := fault.Trace(ctx)
	req, err := http.NewRequestWithContext(ctx, r.method, base+r.path, bytes.NewReader(body))
	if err != nil {
		return nil, fault.New(fault.Denied, errors.New("paypal: BaseURL is not a URL"))
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("Accept", "application/json")
	if r.method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Prefer", "return=representation")
	}
	if r.key != "" {
		req.Header.Set("PayPal-Request-Id", r.key)
	}
	resp, err := transport.Client(g.HTTPClient).Do(req)
	if err != nil {
		return nil, fault.New(latch.Kind(), fmt.Errorf("paypal: %s: %w", r.op, transport.WithoutURL(err)))
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(resp.Body)
	return &answer{resp.StatusCode, resp.Header, data, err}, nil
}

// read takes a success into out. One that can't be read says that something was
// done, and not what.
func (a *answer) read(op string, out any) error {
	if a.status < 200 || a.status > 299 {
		return refusal(op, a)
	}
	err := a.broken
	if err == nil && out != nil {
		err = json.Unmarshal(a.body, out)
	}
	if err == nil {
		return nil
	}
	if a.broken == nil {
		err = errors.New("it isn't JSON of the expected form") // whose error may quote it
	}
	return a.unclear(fmt.Errorf("paypal: %s: the answer of status %d can't be read: %w", op, a.status, err))
}

func (a *answer) unclear(cause error) error {
	f := fault.New(fault.Uncertain, cause)
	f.RequestID = debugID(a.header)
	return f
}

func encode(body any) ([]byte, error) {
	switch body := body.(type) {
	case nil:
		return nil, nil
	case verbatim:
		return body, nil
	}
	data, err := transport.JSON(body)
	if err != nil {
		return nil, fault.New(fault.Invalid, errors.New("paypal: the request can't be written as JSON"))
	}
	return data, nil
}

// segment is an id as a part of a path.
func segment(field, id string) (string, error) {
	if !ids.MatchString(id) {
		return "", fault.New(fault.Invalid, &payment.FieldError{Field: field, Problem: "isn't an id of PayPal's: 1 to 64 of [A-Za-z0-9_-]"})
	}
	return id, nil
}

// uncertain is for an answer that leaves open what happened.
func uncertain(format string, args ...any) *fault.Error {
	return fault.New(fault.Uncertain, fmt.Errorf("paypal: "+format, args...)) //nolint:err113 // the kind is the error
}
