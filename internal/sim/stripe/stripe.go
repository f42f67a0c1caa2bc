package stripe

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

// Version is the API's version that is spoken, stripe-go v76's.
const Version = "2023-10-16"

// Config says whom the simulator knows.
type Config struct {
	// Keys are the secret keys that are let in: sk_test_…, sk_live_…. None lets nobody in. All are keys of Account.
	Keys []string
	// Account is the platform's id; "" is acct_platform.
	Account string
	// Connected are the ids that the header Stripe-Account may name.
	Connected []string
	// Now is the clock of created, of idempotency keys and of authorisations; nil is time.Now.
	Now func() time.Time
}

// Sim is Stripe: its state, and an http.Handler that any number of servers may serve, one after the other. It's safe for
// concurrent use.
type Sim struct {
	// Faults go wrong with the requests to come; see [sim.Plan].
	Faults sim.Plan
	// Money is what moved, oldest first, by order id (the metadata [OrderKey]).
	Money sim.Ledger[Movement]

	cfg     Config
	handler http.Handler

	mu     sync.Mutex
	spaces map[spaceKey]*space
	locked map[string]int
	hooks  hooks
}

type spaceKey struct {
	account string
	live    bool
}

// New is an empty Stripe.
func New(cfg Config) *Sim {
	cfg.Account = cmp.Or(cfg.Account, "acct_platform")
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Sim{cfg: cfg, spaces: map[spaceKey]*space{}, locked: map[string]int{}}
	s.hooks.wake = make(chan struct{}, 1)
	s.handler = s.Faults.Handler(s.serve)
	return s
}

// ServeHTTP answers Stripe's API under /v1/ and the customer's pages under /authenticate/.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Start serves the simulator on a loopback port, over HTTP/1.1 in the clear or HTTP/2 over TLS. What [Sim.Faults] stall
// is to be ended by its Close before the host's.
func (s *Sim) Start(http2 bool) *sim.Host { return sim.NewHost(s, http2) }

// Lock holds an object, so that requests for it get lock_timeout (docs.stripe.com/rate-limits) until it's unlocked.
func (s *Sim) Lock(id string) (unlock func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.locked[id]++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.locked[id]--
	})
}

// space holds the objects of one account in one mode: test and live, and accounts, see nothing of each other
// (docs.stripe.com/keys; docs.stripe.com/connect/authentication).
type space struct {
	spaceKey

	connected bool

	intents   shelf[*paymentIntent]
	charges   shelf[*charge]
	refunds   shelf[*refund]
	customers shelf[*customer]
	methods   shelf[*paymentMethod]
	setups    shelf[*setupIntent]
	balance   shelf[*balanceTransaction]
	events    shelf[*event]
	gone      map[string]*deletedCustomer
	keys      map[string]*kept
}

// shelf keeps objects in the order of their creation.
type shelf[T any] struct {
	byID map[string]T
	ids  []string
}

func (s *shelf[T]) put(id string, v T) {
	if s.byID == nil {
		s.byID = map[string]T{}
	}
	if _, known := s.byID[id]; !known {
		s.ids = append(s.ids, id)
	}
	s.byID[id] = v
}

// newest is everything, newest first, as lists are (docs.stripe.com/api/pagination).
func (s *shelf[T]) newest() []T {
	out := make([]T, 0, len(s.ids))
	for _, id := range slices.Backward(s.ids) {
		out = append(out, s.byID[id])
	}
	return out
}

func (s *Sim) space(account string, live bool) *space {
	key := spaceKey{account, live}
	if s.spaces[key] == nil {
		s.spaces[key] = &space{spaceKey: key, connected: account != s.cfg.Account, keys: map[string]*kept{}}
	}
	return s.spaces[key]
}

func newID(prefix string) string { return prefix + "_" + rand.Text()[:24] }

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
		if c.Sim.locked[id] > 0 {
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

func toTree(v any) map[string]any {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("sim/stripe: render %T: %v", v, err)) // Our own types can't fail.
	}
	var tree map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.UseNumber()
	if err := decoder.Decode(&tree); err != nil {
		panic(fmt.Sprintf("sim/stripe: read %T back: %v", v, err)) // Objects all.
	}
	return tree
}

// expandable are the properties that hold an id, or what leads to one.
var expandable = []string{
	"balance_transaction", "charge", "customer", "data", "default_payment_method", "failure_balance_transaction", "invoice_settings",
	"last_payment_error", "latest_charge", "payment_intent", "payment_method", "source",
}

// expansions is a list of dotted paths (docs.stripe.com/api/expanding_objects).
func expansions(at string, value any) *problem {
	if wrong := list(at, value); wrong != nil {
		return wrong
	}
	for _, path := range (params{at: value}).list(at) {
		for name := range strings.SplitSeq(path, ".") {
			if !slices.Contains(expandable, name) {
				return malformed("This property cannot be expanded ("+path+").", at)
			}
		}
	}
	return nil
}

// expand replaces the id at a dotted path by its object, where there is one.
func (c *call) expand(tree map[string]any, path string) {
	name, rest, deeper := strings.Cut(path, ".")
	switch value := tree[name].(type) {
	case string:
		if found := c.object(value); found != nil {
			tree[name] = toTree(found)
		}
	case []any:
		for _, item := range value {
			if child, ok := item.(map[string]any); ok && deeper {
				c.expand(child, rest)
			}
		}
	}
	if child, ok := tree[name].(map[string]any); ok && deeper {
		c.expand(child, rest)
	}
}

// object is nil where there is none.
func (c *call) object(id string) any {
	prefix, _, _ := strings.Cut(id, "_")
	find := map[string]func() (any, bool){
		"pi":   func() (any, bool) { return found(&c.intents, id) },
		"ch":   func() (any, bool) { return found(&c.charges, id) },
		"py":   func() (any, bool) { return found(&c.charges, id) },
		"re":   func() (any, bool) { return found(&c.refunds, id) },
		"cus":  func() (any, bool) { return found(&c.customers, id) },
		"pm":   func() (any, bool) { return found(&c.methods, id) },
		"seti": func() (any, bool) { return found(&c.setups, id) },
		"txn":  func() (any, bool) { return found(&c.balance, id) },
	}[prefix]
	if find == nil {
		return nil
	}
	if v, ok := find(); ok {
		return v
	}
	return nil
}

func found[T any](s *shelf[T], id string) (any, bool) {
	v, ok := s.byID[id]
	return v, ok
}

// page of a list (docs.stripe.com/api/pagination).
type page[T any] struct {
	Object  string `json:"object"`
	URL     string `json:"url"`
	HasMore bool   `json:"has_more"`
	Data    []T    `json:"data"`
}

// paging are the parameters of every list.
var paging = spec{"limit": integer, "starting_after": id, "ending_before": unsimulated}

const (
	defaultLimit = 10  // docs.stripe.com/api/pagination
	maxLimit     = 100 // docs.stripe.com/api/pagination
)

// listed is the page of those that keep wants, newest first.
func listed[T any](c *call, url string, s *shelf[T], idOf func(T) string, keep func(T) bool) (any, *problem) {
	limit := int64(defaultLimit)
	if c.p.has("limit") {
		if limit = c.p.number("limit"); limit < 1 || limit > maxLimit {
			return nil, invalid("parameter_invalid_integer", "limit", "This value must be between 1 and 100.")
		}
	}
	all := slices.DeleteFunc(s.newest(), func(v T) bool { return !keep(v) })
	if after := c.p.text("starting_after"); after != "" {
		if _, ok := s.byID[after]; !ok {
			return nil, noSuch("object", after, "starting_after")
		}
		at := slices.IndexFunc(all, func(v T) bool { return idOf(v) == after })
		all = all[at+1:]
	}
	more := int64(len(all)) > limit
	return page[T]{Object: "list", URL: url, HasMore: more, Data: all[:min(int64(len(all)), limit)]}, nil
}

// created is the filter of that name: a time, or gt, gte, lt, lte.
func created(at string, value any) *problem {
	if _, ok := value.(string); ok {
		return integer(at, value)
	}
	return object(spec{"gt": integer, "gte": integer, "lt": integer, "lte": integer})(at, value)
}

func (c *call) within(t int64) bool {
	if exact := c.p.text("created"); exact != "" {
		return c.p.number("created") == t
	}
	bounds := c.p.object("created")
	return (!bounds.has("gt") || t > bounds.number("gt")) && (!bounds.has("gte") || t >= bounds.number("gte")) &&
		(!bounds.has("lt") || t < bounds.number("lt")) && (!bounds.has("lte") || t <= bounds.number("lte"))
}

// endpoints are in an order in which the fixed paths come before those with an id.
func endpoints() []endpoint {
	return slices.Concat(intentEndpoints, chargeEndpoints, refundEndpoints, customerEndpoints, methodEndpoints, setupEndpoints, otherEndpoints)
}

func clone(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}
