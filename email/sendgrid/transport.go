package sendgrid

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
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
	case u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()):
		return strings.TrimRight(u.String(), "/"), nil
	}
	return "", errors.New("sendgrid: BaseURL must begin with https://; the key would travel in the clear")
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
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
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

// withoutURL drops the URL that net/http puts before its errors.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
