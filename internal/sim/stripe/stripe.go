package stripe

import (
	"cmp"
	"crypto/rand"
	"maps"
	"net/http"
	"slices"
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
	locked map[string]bool
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
	s := &Sim{cfg: cfg, spaces: map[spaceKey]*space{}, locked: map[string]bool{}}
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
	s.locked[id] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.locked, id)
	}
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

func clone(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}
