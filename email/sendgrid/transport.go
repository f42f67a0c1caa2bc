package sendgrid

import (
	"fmt"
	"net/http"
	"time"

	"github.com/smilefactory/integrations/email/internal/transport"
)

const (
	maxAnswer = 1 << 20     // bytes of an answer's body that are read; SendGrid's have a few hundred
	maxWait   = time.Minute // of a client that has no timeout of its own
)

// base is the checked BaseURL without a slash at its end.
func (s Sender) base() (string, error) {
	if s.BaseURL == "" {
		return defaultBaseURL, nil
	}
	base, err := transport.BaseURL(s.BaseURL)
	if err != nil {
		return "", fmt.Errorf("sendgrid: %w", err)
	}
	return base, nil
}

// client is the caller's with the bounds that rest.Client lacks. A redirected
// POST would repeat the mail, or leak the key to another host.
func (s Sender) client() *http.Client {
	var c http.Client
	if s.HTTPClient != nil {
		c = *s.HTTPClient
	}
	if c.Timeout == 0 {
		c.Timeout = maxWait
	}
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	c.Transport = bounded{c.Transport}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// bounded ends the bodies of answers at maxAnswer.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	transport.Limit(resp, maxAnswer)
	return resp, nil
}
