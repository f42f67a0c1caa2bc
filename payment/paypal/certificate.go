package paypal

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
)

const (
	// certsPath is where PayPal's certificates are, in its samples of cert_url.
	certsPath = "/v1/notifications/certs/"
	maxCerts  = 16      // kept; PayPal uses one or two at a time
	maxCert   = 1 << 16 // bytes
	certKeep  = 24 * time.Hour
)

// certificates keeps PayPal's public keys by their URL, and fetches one at a time.
// The zero value has none.
type certificates struct {
	mu   sync.Mutex
	keys map[string]certificate
	turn chan struct{} // full while one is fetched
}

type certificate struct {
	key   *rsa.PublicKey
	until time.Time
}

// key is the public key at a URL that PayPal's webhooks may name.
func (c *certificates) key(ctx context.Context, g *Gateway, certURL string) (*rsa.PublicKey, error) {
	if err := g.allowed(certURL); err != nil {
		return nil, err
	}
	key, turn := c.kept(certURL)
	if key != nil {
		return key, nil
	}
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return nil, fault.New(fault.Unavailable, fmt.Errorf("paypal: wait for a certificate: %w", ctx.Err()))
	}
	if key, _ := c.kept(certURL); key != nil { // fetched meanwhile
		return key, nil
	}
	got, err := g.certificate(ctx, certURL)
	if err != nil {
		return nil, err
	}
	c.keep(certURL, got)
	return got.key, nil
}

func (c *certificates) kept(certURL string) (*rsa.PublicKey, chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turn == nil {
		c.turn, c.keys = make(chan struct{}, 1), map[string]certificate{}
	}
	if k, ok := c.keys[certURL]; ok && time.Now().Before(k.until) {
		return k.key, c.turn
	}
	return nil, c.turn
}

func (c *certificates) keep(certURL string, got certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.keys) >= maxCerts {
		clear(c.keys)
	}
	c.keys[certURL] = got
}

// allowed: anybody can send a cert_url, so it must be PayPal's, of the same
// environment, and among its certificates. Where BaseURL is on the loopback, that
// host is PayPal too.
func (g *Gateway) allowed(certURL string) error {
	u, err := url.Parse(certURL)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return denied("its certificate isn't at PayPal")
	}
	base, _ := g.base()
	own, err := url.Parse(base)
	local := err == nil && transport.IsLoopback(own.Hostname()) && u.Host == own.Host && u.Scheme == own.Scheme
	host := strings.ToLower(u.Host)
	paypal := u.Scheme == "https" && strings.HasSuffix(host, ".paypal.com") && strings.HasSuffix(host, ".sandbox.paypal.com") == g.Sandbox
	if !local && !paypal || !ids.MatchString(strings.TrimPrefix(u.EscapedPath(), certsPath)) {
		return denied("its certificate isn't at PayPal")
	}
	return nil
}

// certificate fetches one, without a token.
func (g *Gateway) certificate(ctx context.Context, certURL string) (certificate, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, certURL, nil)
	if err != nil {
		return certificate{}, denied("its certificate isn't at PayPal")
	}
	resp, err := transport.Client(g.HTTPClient).Do(req)
	if err != nil {
		return certificate{}, fault.New(fault.Unavailable, fmt.Errorf("paypal: fetch certificate: %w", transport.WithoutURL(err)))
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxCert))
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return certificate{}, denied("its certificate doesn't exist")
	case resp.StatusCode != http.StatusOK || err != nil:
		return certificate{}, fault.New(fault.Unavailable, &Error{Op: "fetch certificate", Status: resp.StatusCode})
	}
	return parse(data, time.Now())
}

// parse takes the first certificate, which is PayPal's; the chain behind it isn't
// needed, since the connection that it came by is PayPal's.
func parse(data []byte, now time.Time) (certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return certificate{}, denied("its certificate isn't PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return certificate{}, denied("its certificate can't be read")
	}
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok || now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return certificate{}, denied("its certificate isn't valid now, or not of RSA")
	}
	until := now.Add(certKeep)
	if cert.NotAfter.Before(until) {
		until = cert.NotAfter
	}
	return certificate{key, until}, nil
}
