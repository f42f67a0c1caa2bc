package paypal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
	"github.com/smilefactory/integrations/secret"
)

const (
	tokenPath = "/v1/oauth2/token" //nolint:gosec // a path
	// early is how long before its end a token is no longer used.
	early = time.Minute
)

// tokens keeps the access token and fetches one at a time. The zero value has none.
type tokens struct {
	mu      sync.Mutex
	value   secret.Value // so that a Gateway that is printed doesn't show it
	expires time.Time
	fetch   *fetch // under way; nil: none
}

// fetch is one call for a token that others wait for.
type fetch struct {
	done  chan struct{} // closed when value and err are set
	value secret.Value
	err   error
	gone  bool // its caller gave up, which says nothing to the others
}

// get is the kept token or a new one; fresh says which.
func (t *tokens) get(ctx context.Context, load func(context.Context) (*oauth2.Token, error)) (token string, fresh bool, err error) {
	for {
		t.mu.Lock()
		if !t.value.IsZero() && time.Now().Before(t.expires) {
			defer t.mu.Unlock()
			return t.value.Reveal(), false, nil
		}
		f := t.fetch
		if f == nil {
			f = &fetch{done: make(chan struct{})}
			t.fetch = f
			t.mu.Unlock()
			t.run(ctx, f, load)
			return f.value.Reveal(), true, f.err
		}
		t.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return "", false, fault.New(fault.Unavailable, fmt.Errorf("paypal: wait for an access token: %w", ctx.Err()))
		}
		if !f.gone {
			return f.value.Reveal(), true, f.err
		}
	}
}

func (t *tokens) run(ctx context.Context, f *fetch, load func(context.Context) (*oauth2.Token, error)) {
	defer close(f.done)
	f.gone = true // also where load panics
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.fetch = nil
	}()
	token, err := load(ctx)
	f.err, f.gone = err, err != nil && ctx.Err() != nil
	if err != nil {
		return
	}
	f.value = secret.NewValue(token.AccessToken)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.value, t.expires = f.value, token.Expiry.Add(-early)
}

// drop forgets a token that PayPal refused, unless there is another one by now.
func (t *tokens) drop(refused string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.value.Reveal() == refused {
		t.value = secret.Value{}
	}
}

// login asks PayPal for a token. Nothing of a payment is sent by it: whatever
// breaks on the way is fault.Unavailable.
func (g *Gateway) login(ctx context.Context, base string) (*oauth2.Token, error) {
	key, err := transport.Key(ctx, "paypal: Secret", g.Secret)
	if err != nil {
		return nil, err
	}
	config := clientcredentials.Config{
		ClientID: g.ClientID, ClientSecret: key, TokenURL: base + tokenPath, AuthStyle: oauth2.AuthStyleInHeader,
	}
	token, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, transport.Client(g.HTTPClient)))
	if err != nil {
		return nil, loginFault(err)
	}
	if token.Expiry.IsZero() { // not kept: it would never be renewed
		token.Expiry = time.Now()
	}
	return token, nil
}

// loginFault reads the status and the code alone: the body may quote the request.
// 401 is invalid_client (RFC 6749, 5.2), 400 another of its errors, which it names;
// without a name it is of something before PayPal.
func loginFault(err error) error {
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok || refused.Response == nil {
		if _, sent := errors.AsType[*url.Error](err); !sent && !errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the answer can't be read") // whose error may quote it
		}
		return fault.New(fault.Unavailable, fmt.Errorf("paypal: access token: %w", transport.WithoutURL(err)))
	}
	cause := &Error{Status: refused.Response.StatusCode, Name: name(refused.ErrorCode), Op: "access token"}
	f := fault.New(fault.Unavailable, cause)
	switch s := cause.Status; {
	case s == http.StatusTooManyRequests:
		f.Kind, f.RetryAfter = fault.RateLimited, fault.RetryAfter(refused.Response.Header, time.Now())
	case s == http.StatusUnauthorized || s == http.StatusForbidden || s >= 400 && s < 500 && cause.Name != "":
		f.Kind = fault.Denied
	}
	f.Code, f.RequestID = cause.code(), debugID(refused.Response.Header)
	return f
}
