package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/secret"
)

const (
	maxAnswer = 1 << 20     // bytes of an answer's body that are read; those of providers have a few hundred
	maxWait   = time.Minute // of a client that has no timeout of its own
)

// Client is the caller's with bounds: a timeout, answers of at most a megabyte,
// and no redirects, which would repeat the mail, or leak the key to another host.
// nil stands for a copy of http.DefaultTransport that asks a silent HTTP/2
// connection whether it still lives: else every request that follows one that
// hangs would hang on the same connection.
func Client(c *http.Client) *http.Client {
	var out http.Client
	if c != nil {
		out = *c
	}
	if out.Timeout == 0 {
		out.Timeout = maxWait
	}
	if out.Transport == nil {
		out.Transport = patient()
	}
	out.Transport = bounded{out.Transport}
	out.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &out
}

// patient is one for all adapters, so that they share its connections.
var patient = sync.OnceValue(func() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok { // the program's own
		return http.DefaultTransport
	}
	t = t.Clone()
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingWithin}
	return t
})

const (
	pingAfter  = 10 * time.Second // of silence while a request waits
	pingWithin = 5 * time.Second
)

type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	Limit(resp, maxAnswer)
	return resp, nil
}

// Key asks for a key that travels in a header. field is its name in an error, such
// as "acme: Key". The error is of kind fault.Denied, or Unavailable where the
// context ended.
func Key(ctx context.Context, field string, source secret.Source) (string, error) {
	v, err := source.Secret(ctx)
	provider, name, _ := strings.Cut(field, ": ")
	switch {
	case err != nil && ctx.Err() != nil:
		return "", fault.New(fault.Unavailable, fmt.Errorf("%s: read %s: %w", provider, name, err))
	case err != nil:
		return "", fault.New(fault.Denied, fmt.Errorf("%s: read %s: %w", provider, name, err))
	}
	key := v.Reveal()
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fault.New(fault.Denied, fmt.Errorf("%s is empty or holds characters that no key has", field))
	}
	return key, nil
}

// JSON is v without the escapes that json.Marshal makes for browsers: HTML would
// grow by them, and a mail has a limit.
func JSON(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// Answer is what came back. Once a status has arrived it is the answer: a body
// that breaks off is as long as it came.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// OK reports whether the status is one of success.
func (a *Answer) OK() bool { return a.Status >= 200 && a.Status <= 299 }

// Post makes one request with a body of JSON. The error is a fault of the latch's
// kind that begins with the provider's name.
func Post(ctx context.Context, c *http.Client, provider, url string, header http.Header, body []byte) (*Answer, error) {
	ctx, latch := fault.Trace(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, fault.New(fault.Denied, errors.New(provider+": BaseURL is not a URL"))
	}
	req.Header = header
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	resp, err := Client(c).Do(req)
	if err != nil {
		return nil, fault.New(latch.Kind(), fmt.Errorf("%s: %w", provider, WithoutURL(err)))
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	data, _ := io.ReadAll(resp.Body)
	return &Answer{resp.StatusCode, resp.Header, data}, nil
}
