package matrix_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"path"
	"sync"
	"time"
)

// markHeader tells the proxy and the simulators what is to become of a request.
const markHeader = "Matrix-Mark"

// The marks.
const (
	hit     = "hit"      // the cell's flaw
	down    = "down"     // the provider's name isn't found
	busy    = "429"      // refused, once more please
	unwell  = "503"      // nothing was done, and nobody can know
	cutDone = "cut-done" // done, and the connection is reset
	cutIdle = "cut-idle" // not done, and the connection is reset
)

// rule says what becomes of the n-th request of its kind to a provider.
type rule func(provider string, kind request, n int) string

// link is the client's side of the wire to one provider: it numbers requests,
// marks them by the rule, and breaks what is before the wire.
type link struct {
	c        cell
	provider string
	site     endpoint
	pull     func()        // what happens where the flaw is of the process or the caller
	returned chan<- string // the marks of requests that were answered; nil: none wants them

	next http.RoundTripper
	mu   sync.Mutex
	rule rule
	seen map[request]int
}

// endpoint is where a provider is, for a client of any process.
type endpoint struct {
	URL   string
	Spoil string // the address of a listener that breaks handshakes
	Root  []byte // of the certificate, where the URL is https
}

func newLink(c cell, provider string, at endpoint, pull func()) *link {
	l := &link{c: c, provider: provider, site: at, pull: pull, seen: map[request]int{}}
	protocols := new(http.Protocols)
	switch {
	case c.HTTP2 && at.Root != nil:
		protocols.SetHTTP2(true)
	case c.HTTP2:
		protocols.SetUnencryptedHTTP2(true)
	default:
		protocols.SetHTTP1(true)
	}
	t := &http.Transport{DialContext: l.dial, Protocols: protocols, MaxIdleConnsPerHost: 4}
	t.DisableKeepAlives = c.Step == inDNS || c.Step == inDial || c.Step == inTLS
	if c.Flaw == stalls { // else HTTP/2 goes on with a connection that doesn't answer
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: c.pace().patience / 4, PingTimeout: c.pace().patience / 4}
	}
	if at.Root != nil {
		t.TLSClientConfig = trusting(at.Root)
	}
	l.next = t
	return l
}

func (l *link) close() { l.next.(*http.Transport).CloseIdleConnections() }

// set begins another rule; nil is none.
func (l *link) set(r rule) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rule, l.seen = r, map[request]int{}
}

func (l *link) mark(kind request) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rule == nil {
		return ""
	}
	l.seen[kind]++
	return l.rule(l.provider, kind, l.seen[kind])
}

type markKey struct{}

func (l *link) RoundTrip(r *http.Request) (*http.Response, error) {
	m := l.mark(kindOf(l.c.Op, r.Method, r.URL.Path))
	if m == "" {
		return l.next.RoundTrip(r)
	}
	r = r.Clone(context.WithValue(r.Context(), markKey{}, m))
	r.Header.Set(markHeader, m)
	if m == hit && l.c.Step == inSend && !l.c.Flaw.ofWire() {
		l.pull()
	}
	resp, err := l.next.RoundTrip(r)
	if m == hit && err == nil && l.returned != nil {
		select {
		case l.returned <- m:
		default:
		}
	}
	return resp, err
}

// dial makes the connection that a request wants, or the trouble that it is to
// have.
func (l *link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	m, _ := ctx.Value(markKey{}).(string)
	d := net.Dialer{}
	switch {
	case m == down, m == hit && l.c.Step == inDNS && l.c.Flaw == closes:
		return unresolved(ctx, network)
	case m != hit:
	case (l.c.Step == inDNS || l.c.Step == inDial) && l.c.Flaw == stalls:
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
	case (l.c.Step == inDNS || l.c.Step == inDial) && !l.c.Flaw.ofWire():
		l.pull()
	case l.c.Step == inDial:
		address = "127.0.0.1:1" // where nobody listens
	case l.c.Step == inTLS:
		address = l.site.Spoil
	}
	return d.DialContext(ctx, network, address)
}

// unresolved asks a resolver that answers nobody for a name that isn't there.
func unresolved(ctx context.Context, network string) (net.Conn, error) {
	d := net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no name server")
	}}}
	return d.DialContext(ctx, network, "api.payments.invalid:443")
}

func trusting(root []byte) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	return &tls.Config{RootCAs: pool}
}

// paths are what the adapters ask for.
var paths = []struct {
	method, pattern string
	kind            request
}{
	{"POST", "/v1/oauth2/token", toLogin},
	{"POST", "/v1/payment_intents", toPrepare},
	{"POST", "/v1/payment_intents/*/confirm", toCommit},
	{"POST", "/v1/payment_intents/*/cancel", toFence},
	{"POST", "/v1/payment_intents/*/capture", toCapture},
	{"GET", "/v1/payment_intents", toLookUp},
	{"GET", "/v1/payment_intents/*", toLookUp},
	{"POST", "/v1/refunds", toRefund},
	{"GET", "/v1/refunds", toLookUpRefund},
	{"GET", "/v1/refunds/*", toLookUpRefund},
	{"POST", "/v2/checkout/orders", toPrepare},
	{"POST", "/v2/checkout/orders/*/capture", toCommit},
	{"POST", "/v2/checkout/orders/*/authorize", toCommit},
	{"GET", "/v2/checkout/orders/*", toLookUp},
	{"POST", "/v2/payments/authorizations/*/capture", toCapture},
	{"POST", "/v2/payments/authorizations/*/void", toVoid},
	{"POST", "/v2/payments/captures/*/refund", toRefund},
	{"GET", "/v2/payments/refunds/*", toLookUpRefund},
}

// kindOf is the kind of a request. Two paths have two meanings.
func kindOf(op operation, method, p string) request {
	for _, row := range paths {
		ok, _ := path.Match(row.pattern, p)
		if !ok || row.method != method {
			continue
		}
		switch {
		case op == void && row.kind == toFence:
			return toVoid
		case op == refund && row.kind == toLookUp:
			return toLookUpRefund
		}
		return row.kind
	}
	return request(method + " " + p)
}

// marking is the rule of a cell, while its operation runs.
func (c cell) marking() rule {
	var mu sync.Mutex
	from, armed := 1, false
	if c.Phase == retried || c.Phase == doubted {
		from = 2
	}
	return func(provider_ string, kind request, n int) string {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case provider_ != c.target() && c.Phase == failover:
			return down
		case provider_ != c.target():
			return ""
		case armed && c.Extent == provider:
			return hit
		case kind == c.moves() && c.follows():
			return map[bool]string{true: cutDone, false: cutIdle}[c.Done]
		case kind != c.Hit, n > from && c.Extent == once:
			return ""
		case n >= from:
			armed = true
			return hit
		case c.Phase == doubted:
			return unwell
		}
		return busy
	}
}

// waits reports whether time limits are what ends this cell's exchanges.
func (c cell) waits() bool { return c.Flaw == stalls || c.Flaw == late }

// pace is how long an exchange may take, and what is waited before it is
// repeated.
type pace struct{ patience, backoff time.Duration }

// unhurried is so long that a busy machine makes no difference.
func unhurried() pace { return pace{20 * time.Second, time.Millisecond} }

func (c cell) pace() pace {
	if c.waits() { // the provider must notice that the caller has gone
		return pace{time.Second, 50 * time.Millisecond}
	}
	return unhurried()
}
