package paypal

import (
	"net/http"
	"sync"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

// Config says whom the simulator knows and by which clock it lives. The zero value has [DefaultAccount] and the real
// clock.
type Config struct {
	// Accounts are the API callers; none is [DefaultAccount].
	Accounts []Account
	// Now is the clock for tokens, retention and expiry; nil is time.Now.
	Now func() time.Time
	// TokenTTL is the life of an access token; 0 is 9 hours, as PayPal's page "Authentication" shows.
	TokenTTL time.Duration
	// BaseURL begins the links in answers, without a trailing slash. Empty is the Host of each request, so that links
	// go through a proxy in front; events have that of the request before, see [Sim.SetBaseURL].
	BaseURL string
	// CertURL is the cert_url that webhooks name. Empty is the simulator's own.
	CertURL string
	// HTTPClient delivers webhooks; nil is one with a timeout of 10 seconds.
	HTTPClient *http.Client
}

// Account is a merchant with an app. Sandbox and live are two accounts with credentials of their own, which see
// nothing of each other.
type Account struct {
	ClientID, Secret string
	Live             bool
	MerchantID       string // 13 characters of 2-9, A-H, J-N, P-Z
	Email            string
	// ReuseInvoices lets an invoice id pay twice. The zero value refuses, as PayPal's account setting does by default.
	ReuseInvoices bool
	// Suspended answers 403 to all but the token call.
	Suspended bool
}

// DefaultAccount is the account of a simulator that was given none.
var DefaultAccount = Account{ClientID: "sim-client", Secret: "sim-secret", MerchantID: "MERCHANT23456", Email: "merchant@example.com"}

// Sim is PayPal's state. It is an [http.Handler], listens to nothing by itself and outlives any server that serves it.
// It's safe for concurrent use.
type Sim struct {
	// Plan says what goes wrong, request by request.
	sim.Plan
	// Charges are the captures that moved money, by custom_id, in the order in which the money moved: a pending capture
	// comes in when it completes. Two captures of one authorization are two charges.
	Charges sim.Ledger[Movement]
	// Refunds are the refunds that moved money, likewise, by the custom_id of the capture.
	Refunds sim.Ledger[Movement]

	cfg  Config
	keys signer

	mu             sync.Mutex
	base           string // of the last request, for links in events
	accounts       map[string]Account
	tokens         map[string]bearer
	records        map[string]*recorded
	busy           map[string]bool // resources on which an exclusive request is under way
	orders         map[string]*order
	authorizations map[string]*authorization
	captures       map[string]*capture
	refunds        map[string]*refund
	setups         map[string]*setupToken
	vault          map[string]*paymentToken
	invoices       map[string]string // payee and invoice id to the order that was paid with it
	refundInvoices map[string]bool
	events         []Event
	hooks          []Webhook
	nextCharges    []Outcome
	nextRefunds    []RefundOutcome
}

const defaultTokenTTL = 9 * time.Hour

// New is a PayPal where nothing has happened yet.
func New(cfg Config) *Sim {
	if len(cfg.Accounts) == 0 {
		cfg.Accounts = []Account{DefaultAccount}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.TokenTTL == 0 {
		cfg.TokenTTL = defaultTokenTTL
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = &http.Client{Timeout: deliveryTimeout}
	}
	s := &Sim{
		cfg: cfg, keys: newSigner(), base: cfg.BaseURL,
		accounts: map[string]Account{}, tokens: map[string]bearer{}, records: map[string]*recorded{}, busy: map[string]bool{},
		orders: map[string]*order{}, authorizations: map[string]*authorization{}, captures: map[string]*capture{}, refunds: map[string]*refund{},
		setups: map[string]*setupToken{}, vault: map[string]*paymentToken{}, invoices: map[string]string{}, refundInvoices: map[string]bool{},
	}
	for _, a := range cfg.Accounts {
		s.accounts[a.ClientID] = a
	}
	return s
}

// SetAccount replaces the account of the same ClientID, as a rotated secret or a suspension does. Tokens stay valid.
func (s *Sim) SetAccount(a Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[a.ClientID] = a
}

// SetBaseURL begins the links of events, and the cert_url of their signatures, as long as no request has come; only
// where [Config] has no BaseURL.
func (s *Sim) SetBaseURL(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.BaseURL == "" {
		s.base = url
	}
}

// RevokeTokens makes every access token invalid.
func (s *Sim) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// ServeHTTP is a request under the simulator's [sim.Plan].
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.Handler(s.do).ServeHTTP(w, r) }

// do plays a fault that the plan wants kept as if it weren't kept: PayPal documents that a call that failed with 5xx may
// be repeated under its id (page "Idempotency").
func (s *Sim) do(r *http.Request, body []byte, x *sim.Exchange) sim.Reply {
	e := s.begin(r, body)
	if e.refusal != nil {
		return *e.refusal
	}
	if !x.Before() {
		e.drop()
		return sim.Reply{}
	}
	own, acted, planned := x.Kept()
	if planned && !acted {
		e.drop()
		return own
	}
	reply := e.act()
	if planned {
		return own
	}
	return reply
}

func (s *Sim) now() time.Time { return s.cfg.Now() }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
