package stripe

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/smilefactory/integrations/internal/sim"
)

// call is one request that was let in.
type call struct {
	*Sim
	*space

	p         params
	path      string // the id that the path names
	requestID string
	key       string
	base      string // of the customer's pages: scheme and host of this request
	now       int64
	executed  bool // the endpoint's execution began
}

// serve is the order in which Stripe looks at a request: the key (401), the path, the idempotency key, the parameters,
// and then the endpoint (docs.stripe.com/error-low-level, docs.stripe.com/api/idempotent_requests).
func (s *Sim) serve(r *http.Request, body []byte, x *sim.Exchange) sim.Reply {
	if strings.HasPrefix(r.URL.Path, pagePath) {
		return s.page(r, body)
	}
	c := &call{Sim: s, requestID: newID("req"), base: base(r)}
	reply := c.answer(r, body, x)
	reply.Header = reply.Header.Clone() // It may be a fault's or a key's.
	if reply.Header == nil {
		reply.Header = http.Header{}
	}
	reply.Header.Del(unkeptHeader)
	reply.Header.Set("Request-Id", c.requestID) // docs.stripe.com/api/request_ids
	reply.Header.Set("Stripe-Version", Version)
	if account := r.Header.Get("Stripe-Account"); account != "" {
		reply.Header.Set("Stripe-Account", account)
	}
	return reply
}

func base(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

func (c *call) answer(r *http.Request, body []byte, x *sim.Exchange) sim.Reply {
	if p := c.admit(r); p != nil {
		return p.reply()
	}
	e, p := c.route(r)
	if p != nil {
		return p.reply()
	}
	form := string(body)
	if r.Method == http.MethodGet || r.Method == http.MethodDelete {
		form = r.URL.RawQuery
	}
	key := r.Header.Get("Idempotency-Key")
	if r.Method != http.MethodPost || key == "" {
		return c.run(e, form, x)
	}
	return c.once(key, r.Method+" "+r.URL.Path, form, func() sim.Reply { return c.run(e, form, x) })
}

// admit finds the account (docs.stripe.com/api/authentication, docs.stripe.com/connect/authentication).
func (c *call) admit(r *http.Request) *problem {
	key, _, basic := r.BasicAuth()
	if !basic {
		key = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	if !slices.Contains(c.cfg.Keys, key) || key == "" {
		return unauthorized(key)
	}
	if v := r.Header.Get("Stripe-Version"); v != "" && v != Version {
		return malformed("the simulator speaks no Stripe version but "+Version, "")
	}
	account := cmp.Or(r.Header.Get("Stripe-Account"), c.cfg.Account)
	if account != c.cfg.Account && !slices.Contains(c.cfg.Connected, account) {
		p := invalid("account_invalid", "", "The provided key does not have access to account '%s' (or that account does not exist). Application access may have been revoked.", account)
		p.status = http.StatusForbidden
		return p
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.space = c.Sim.space(account, strings.Contains(key, "_live_"))
	return nil
}

func unauthorized(key string) *problem {
	message := "Invalid API Key provided: " + strings.Repeat("*", max(len(key)-4, 0)) + key[max(len(key)-4, 0):]
	if key == "" {
		message = "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
	}
	p := malformed(message, "")
	p.status = http.StatusUnauthorized
	return p
}

// endpoint is one operation of the API.
type endpoint struct {
	method, path string   // "*" is the id
	need         []string // required parameters
	known        spec
	do           func(*call) (any, *problem)
}

func (c *call) route(r *http.Request) (endpoint, *problem) {
	segments := strings.Split(r.URL.Path, "/")
	for _, e := range endpoints() {
		if id, ok := e.matches(r.Method, segments); ok {
			c.path = id
			return e, nil
		}
	}
	p := malformed(fmt.Sprintf("Unrecognized request URL (%s: %s). Please see https://stripe.com/docs or we can help at https://support.stripe.com/.", r.Method, r.URL.Path), "")
	p.status = http.StatusNotFound
	return endpoint{}, p
}

func (e endpoint) matches(method string, segments []string) (id string, ok bool) {
	pattern := strings.Split(e.path, "/")
	if method != e.method || len(pattern) != len(segments) {
		return "", false
	}
	for i, want := range pattern {
		switch {
		case want == "*" && segments[i] != "":
			id = segments[i]
		case want != segments[i]:
			return "", false
		}
	}
	return id, true
}

// run checks the parameters and executes the endpoint, with the faults of the moment between the two.
func (c *call) run(e endpoint, form string, x *sim.Exchange) sim.Reply {
	p, wrong := decode(form)
	if wrong == nil {
		wrong = e.verify(p)
	}
	if wrong != nil {
		return wrong.kept()
	}
	if !x.Before() {
		return sim.Reply{}
	}
	c.p, c.executed = p, true
	instead, acted, failing := x.Kept()
	if failing && !acted {
		return instead
	}
	reply := c.execute(e)
	x.Acted()
	if failing {
		return instead
	}
	return reply
}

func (e endpoint) verify(p params) *problem {
	if wrong := with(e.known, spec{"expand": expansions}).verify("", p); wrong != nil {
		return wrong
	}
	for _, name := range e.need {
		if !p.has(name) {
			return missing(name)
		}
	}
	return nil
}

// kept renders the error and marks it for the idempotency layer, which drops the mark.
func (p *problem) kept() sim.Reply {
	reply := p.reply()
	if p.unkept {
		reply.Header.Set(unkeptHeader, "1")
	}
	return reply
}

func (c *call) execute(e endpoint) sim.Reply {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.cfg.Now().Unix()
	for _, id := range []string{c.path, c.p.text("payment_intent"), c.p.text("charge")} {
		if c.Sim.locked[id] {
			return locked().kept()
		}
	}
	c.expireAuthorizations()
	result, wrong := e.do(c)
	if wrong != nil {
		return wrong.kept()
	}
	return c.render(result)
}

// render is indented as Stripe's JSON is.
func (c *call) render(result any) sim.Reply {
	tree := toTree(result)
	for _, path := range c.p.list("expand") {
		c.expand(tree, path)
	}
	body, err := json.MarshalIndent(tree, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("sim/stripe: render: %v", err)) // What came from JSON can go back.
	}
	return sim.Reply{Header: http.Header{}, Body: string(body)}
}

// endpoints are in an order in which the fixed paths come before those with an id.
func endpoints() []endpoint {
	return slices.Concat(intentEndpoints, chargeEndpoints, refundEndpoints, customerEndpoints, methodEndpoints, setupEndpoints, otherEndpoints)
}
