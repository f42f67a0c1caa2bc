// Package resiliencehttp is an [http.RoundTripper] for services that have no
// adapter: retries, breakers, limits, deadlines and events of package
// resilience around any [http.Client].
//
//	t, err := resiliencehttp.New(resilience.Default)
//	…
//	client := &http.Client{Transport: t}
//
// What a user of net/http must know:
//
//   - Each host has its own state; the hosts used last are remembered.
//   - What may be repeated follows from the method, see [Safety]. A request whose
//     body can't be had again (no GetBody) is sent again only while nobody has
//     read from it.
//   - A failing status is retried where that is allowed, see [Classify]. When it is
//     not, or has not helped, the caller gets the service's last response, with
//     its body, and no error. An error means that the last attempt had no response;
//     [fault.As] gives the fault, with every attempt that was made.
//   - [resilience.Policy.Timeout] is the time to the response's header, with the
//     sending of the request's body in it. The body may take longer: Silence limits
//     each Read. The attempt ends, with its slot and its say to the breaker, when
//     the body has come to its end or is closed, so it must be closed, as ever.
//   - Give time limits by context or policy. Client.Timeout works, but hides the
//     fault behind an error of its own.
package resiliencehttp

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// Transport is an [http.RoundTripper] that protects its calls. It is safe for
// concurrent use and owns no goroutine.
type Transport struct {
	base      http.RoundTripper
	safety    func(*http.Request) fault.Safety
	classify  func(*http.Response) (fault.Kind, bool)
	observers []resilience.Observer
	hosts     *hosts
}

type settings struct {
	Transport
	backups  [][]string // each an origin and its backups
	maxHosts int
}

// Option composes a Transport.
type Option func(*settings)

// WithBase replaces the transport that sends the requests, one attempt at a
// time. A Transport of this package, or a decorator that shows one by a method
// Unwrap() http.RoundTripper, makes the attempts then, and this one only chooses
// the origin. The default is a clone of [http.DefaultTransport] that keeps more
// idle connections and checks whether silent HTTP/2 connections still live.
// Where a base doesn't report to [net/http/httptrace], no failure is proof that
// nothing was sent.
func WithBase(base http.RoundTripper) Option { return func(s *settings) { s.base = base } }

// WithSafety replaces [Safety], which f may ask itself. [ContextWithSafety]
// overrules both.
func WithSafety(f func(*http.Request) fault.Safety) Option {
	return func(s *settings) { s.safety = f }
}

// WithClassifier replaces [Classify], which f may ask itself. Where f reads of the
// response's Body, it must leave another there that gives the same.
func WithClassifier(f func(*http.Response) (kind fault.Kind, failed bool)) Option {
	return func(s *settings) { s.classify = f }
}

// WithBackup names other origins of the same service, such as
// "https://eu.example.com". They are asked in this order where requests to the
// first fail and may be repeated elsewhere. They get the request as it is, its
// credentials too, so each must be https where the first is, but on the loopback.
func WithBackup(origin string, backups ...string) Option {
	return func(s *settings) { s.backups = append(s.backups, append([]string{origin}, backups...)) }
}

// WithMaxHosts bounds the hosts whose state is remembered, 1,000 by default. The
// one that was used least recently is forgotten with its open breaker; those with
// a backup never are.
func WithMaxHosts(n int) Option { return func(s *settings) { s.maxHosts = n } }

// WithObserver adds an observer of every step of every call. The provider of an
// event is the host with its port, where that isn't the scheme's own, in small
// letters, other signs than [a-z0-9._-] replaced by "-".
func WithObserver(o resilience.Observer) Option {
	return func(s *settings) { s.observers = append(s.observers, o) }
}

// New makes a Transport whose policy holds for each host apart. A policy with a
// Hedge is refused: of two responses only one could be had whole.
func New(policy resilience.Policy, options ...Option) (*Transport, error) {
	s := settings{maxHosts: 1000, Transport: Transport{safety: Safety, classify: Classify}}
	for _, o := range options {
		o(&s)
	}
	if s.base == nil {
		s.base = defaultBase()
	}
	t := &s.Transport
	switch {
	case t.safety == nil || t.classify == nil:
		return nil, errors.New("resiliencehttp: WithSafety and WithClassifier need a function")
	case s.maxHosts < 1:
		return nil, errors.New("resiliencehttp: WithMaxHosts needs at least 1")
	case policy.Hedge != (resilience.Hedge{}):
		return nil, errors.New("resiliencehttp: policy: Hedge is not for responses with a body")
	}
	if err := policy.Validate(); err != nil {
		return nil, err
	}
	var err error
	t.hosts, err = newHosts(policy, t.observers, s.maxHosts, s.backups, below(s.base))
	return t, err
}

// below is the Transport that a base is or decorates.
func below(base http.RoundTripper) *resilience.Control {
	for base != nil {
		if t, ok := base.(*Transport); ok {
			return t.hosts.whole
		}
		d, ok := base.(interface{ Unwrap() http.RoundTripper })
		if !ok {
			break
		}
		base = d.Unwrap()
	}
	return nil
}

// defaultBase keeps more than two idle connections to a host. An HTTP/2
// connection of which the other end is gone would otherwise be used until the
// system gives it up, a quarter of an hour on Linux (golang/go#59690). How long a
// response may take is the policy's affair.
func defaultBase() http.RoundTripper {
	d, ok := http.DefaultTransport.(*http.Transport)
	if !ok { // somebody has put another there, and meant it
		return http.DefaultTransport
	}
	t := d.Clone()
	if t.MaxIdleConnsPerHost == 0 {
		t.MaxIdleConnsPerHost = 32
	}
	if t.HTTP2 == nil {
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second}
	}
	return t
}

// RoundTrip makes one call of as many attempts as it takes.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil || req.URL.Host == "" || req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return t.base.RoundTrip(req) // a scheme of its own, or it says what is wrong
	}
	e, done := newExchange(t, req), false
	defer func() {
		e.body.finish()
		if !done { // the base, an option's function or an observer panicked
			e.drop()
			closeBody(req)
		}
	}()
	resp, err := e.call()
	done = true
	return resp, err
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// CloseIdleConnections passes on to the base what [http.Client] asks for.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Inspect shows every host that is remembered as it stands now, backups too.
func (t *Transport) Inspect() []resilience.Status { return t.hosts.inspect() }

// Control shows and changes the state of an origin, such as
// "https://api.example.com", and of its backups, at run time. It lasts as long
// as the host is remembered.
func (t *Transport) Control(origin string) (*resilience.Control, error) {
	u, err := parseOrigin(origin)
	if err != nil {
		return nil, err
	}
	group, err := t.hosts.group(u)
	if err != nil {
		return nil, err
	}
	return group.Control, nil
}

// answer is the caller's context, which says who gave the response after how many
// attempts.
type answer struct {
	context.Context //nolint:containedctx // it is one

	provider string
	attempts int
}

type answerKey struct{}

func (a *answer) Value(key any) any {
	if _, ok := key.(answerKey); ok {
		return a
	}
	return a.Context.Value(key)
}

// Answered says which host gave the response, by its name in events, and after
// how many attempts. It is empty where no Transport did.
func Answered(resp *http.Response) (provider string, attempts int) {
	if resp == nil || resp.Request == nil {
		return "", 0
	}
	a, ok := resp.Request.Context().Value(answerKey{}).(*answer)
	if !ok {
		return "", 0
	}
	return a.provider, a.attempts
}
