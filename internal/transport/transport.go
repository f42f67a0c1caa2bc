// Package transport holds what adapters share about connections.
package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/smilefactory/integrations/fault"
)

// IsLoopback reports whether a host, without a port, is this machine: the only
// one that may be spoken to in the clear.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// BaseURL checks the address of an API and takes the slash off its end. It must be
// https, but for the loopback. The error doesn't quote it: it may hold a password.
func BaseURL(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("BaseURL is not a plain URL of scheme and host")
	case u.Scheme == "https" || u.Scheme == "http" && IsLoopback(u.Hostname()):
		return strings.TrimRight(u.String(), "/"), nil
	}
	return "", errors.New("BaseURL must begin with https://; what is sent would travel in the clear")
}

// Base is the checked BaseURL of a provider, or its own where that is empty. The
// error begins with the provider's name.
func Base(provider, baseURL, own string) (string, error) {
	if baseURL == "" {
		return own, nil
	}
	base, err := BaseURL(baseURL)
	if err != nil {
		return "", fmt.Errorf("%s: %w", provider, err)
	}
	return base, nil
}

// Limit ends the body of an answer after limit bytes: a provider can't fill our
// memory. What the answer is goes into the attempt's fault.Exchange.
func Limit(resp *http.Response, limit int64) {
	b := &body{Reader: io.LimitReader(resp.Body, limit), Closer: resp.Body}
	resp.Body = b
	if resp.Request == nil { // of a fake
		return
	}
	b.ctx = resp.Request.Context()
	fault.Note(b.ctx, func(e *fault.Exchange) {
		e.Target, e.Status, e.Sent = resp.Request.URL.Host, resp.StatusCode, max(resp.Request.ContentLength, 0)
		for _, h := range requestIDs {
			e.RequestID = cmp.Or(e.RequestID, resp.Header.Get(h))
		}
	})
}

// requestIDs are the header fields in which providers give a request an id.
var requestIDs = []string{"Request-Id", "X-Request-Id", "X-Message-Id", "X-Amzn-Requestid", "Paypal-Debug-Id"}

// body counts what is read of an answer, and notes it once.
type body struct {
	io.Reader
	io.Closer
	ctx  context.Context //nolint:containedctx // of the request that it answers
	read atomic.Int64
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.read.Add(int64(n))
	return n, err
}

func (b *body) Close() error {
	if b.ctx != nil {
		fault.Note(b.ctx, func(e *fault.Exchange) { e.Received = b.read.Load() })
	}
	return b.Closer.Close()
}

// WithoutURL drops what net/http puts before its errors: a URL may hold a
// password.
func WithoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
