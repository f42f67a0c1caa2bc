// Package transport holds what adapters share about connections.
package transport

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
)

// IsLoopback reports whether a host, without a port, is this machine: the only
// one that may be spoken to in the clear.
func IsLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Limit ends the body of an answer after limit bytes: a provider can't fill our
// memory.
func Limit(resp *http.Response, limit int64) {
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, limit), resp.Body}
}

// WithoutURL drops what net/http puts before its errors: a URL may hold a
// password.
func WithoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
