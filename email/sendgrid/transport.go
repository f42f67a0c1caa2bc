package sendgrid

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
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
	u, err := url.Parse(s.BaseURL)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("sendgrid: BaseURL is not a plain URL of scheme and host") // unquoted: it may hold a password
	case u.Scheme == "https" || u.Scheme == "http" && transport.IsLoopback(u.Hostname()):
		return strings.TrimRight(u.String(), "/"), nil
	}
	return "", errors.New("sendgrid: BaseURL must begin with https://; the key would travel in the clear")
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
