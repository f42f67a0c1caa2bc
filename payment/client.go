package payment

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// Policy is what protects the calls of a Client that was given no other: ten
// seconds for an attempt to prepare or to look up, sixty for one that moves money.
// What a second attempt repeats carries the key of the first.
var Policy = func() resilience.Policy {
	p := resilience.Default
	p.Timeout, p.Total = 10*time.Second, 3*time.Minute
	p.Backoff.Initial = 200 * time.Millisecond
	p.Breaker.Window = 2 * commitTimeout // so that hanging commits add up
	return p
}()

// commitTimeout is that of an attempt which moves money: Stripe's own client
// waits 80 seconds, and a confirmation that is cut off is one that isn't known.
const commitTimeout = 60 * time.Second

// The operations. Those that move money are Once: they are repeated only where
// the provider knows the repetition by its key.
var (
	opPrepare  = resilience.Op{Name: "payment.prepare", Class: classCommit}
	opCommit   = resilience.Op{Name: "payment.commit", Class: classCommit}
	opLookUp   = resilience.Op{Name: "payment.lookup", Class: classRead, Safety: fault.Read}
	opFence    = resilience.Op{Name: "payment.fence", Class: classSettle, Timeout: 10 * time.Second}
	opCapture  = resilience.Op{Name: "payment.capture", Class: classSettle}
	opVoid     = resilience.Op{Name: "payment.void", Class: classSettle}
	opRefund   = resilience.Op{Name: "payment.refund", Class: classSettle}
	opWallet   = resilience.Op{Name: "payment.wallet", Class: classSettle}
	opSaved    = resilience.Op{Name: "payment.wallet", Class: classRead, Safety: fault.Read}
	opRefunded = resilience.Op{Name: "payment.refund.lookup", Class: classRead, Safety: fault.Read}
)

// The classes of operations, each with a breaker of its own at a provider: where
// commits fail, look-ups go on telling what became of them.
const (
	classCommit = "commit"
	classSettle = "settle"
	classRead   = "read"
)

// Client takes money through its Gateways and remembers in its Journal what it
// does. It is safe for concurrent use; Close waits for what has begun.
type Client struct {
	name     string
	gateways *resilience.Group[Gateway]
	members  map[string]Gateway // by name, for what needs no I/O
	journal  Journal            // nil where it was given none
	book     Journal            // that, or one in memory
	timeout  time.Duration      // of one attempt
	rules    Rules
	handler  Handler

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

// Rules are what a Client does where users differ. The zero value of each field
// is the careful choice.
type Rules struct {
	// FailoverOnDenied lets another provider try where one refuses our credentials,
	// before anything was sent that might move money. That is a misconfiguration, and
	// by default an error.
	FailoverOnDenied bool
	// KeepDuplicates leaves a second charge of one order to whoever handles
	// [DuplicateCharge]; by default it is refunded.
	KeepDuplicates bool
	// Join is how long a call waits for another one that works on the same order, where
	// its own deadline isn't sooner; 60 seconds.
	Join time.Duration
	// Lease is how long a call may be silent before another takes the order over; three
	// minutes, and never less than ten seconds more than a commit may take.
	Lease time.Duration
	// CommitWithin is how long a step that moves money may take with its repetitions;
	// 60 seconds.
	CommitWithin time.Duration
	// Now replaces time.Now, for tests.
	Now func() time.Time
}

const (
	defaultJoin    = 60 * time.Second
	defaultLease   = 3 * time.Minute
	leaseMargin    = 10 * time.Second
	commitMargin   = time.Second
	prepareWithin  = 30 * time.Second // a prepare, look-up or fence with its repetitions
	recordWithin   = 5 * time.Second  // to note how it ended, whatever is left of the caller's time
	defaultExpires = 24 * time.Hour
)

type settings struct {
	policy    resilience.Policy
	name      string
	members   []resilience.Member[Gateway]
	observers []resilience.Observer
	own       []func([]resilience.Member[Gateway]) error // policies
	journal   Journal
	rules     Rules
	handler   Handler
}

// Option composes a Client.
type Option func(*settings)

// WithBackup adds a Gateway that is tried where those before it provably moved
// nothing. It needs a Journal that is durable.
func WithBackup(g Gateway) Option {
	return func(s *settings) { s.members = append(s.members, member(g)) }
}

// WithJournal is where the Client remembers orders. By default that is a
// [MemoryJournal], which one provider's keys make good enough to try things out.
func WithJournal(j Journal) Option { return func(s *settings) { s.journal = j } }

// WithHandler tells h what becomes of orders.
func WithHandler(h Handler) Option { return func(s *settings) { s.handler = h } }

// WithRules replaces the zero Rules.
func WithRules(r Rules) Option { return func(s *settings) { s.rules = r } }

// WithPolicy replaces [Policy], or where members are named that of these alone.
func WithPolicy(p resilience.Policy, members ...string) Option {
	return func(s *settings) {
		if len(members) == 0 {
			s.policy = p
			return
		}
		s.own = append(s.own, func(all []resilience.Member[Gateway]) error { return resilience.PolicyFor(all, p, members...) })
	}
}

// WithObserver adds an observer of every step of every call.
func WithObserver(o resilience.Observer) Option {
	return func(s *settings) { s.observers = append(s.observers, o) }
}

// WithName names the Client, which matters where it is a member of another. The
// default is "payment".
func WithName(name string) Option { return func(s *settings) { s.name = name } }

// Named gives a Gateway another name, for a Client in which two would have the
// same: two accounts of one provider. Journals remember names: they must stay.
func Named(name string, g Gateway) Gateway { return named{g, name} }

type named struct {
	Gateway
	name string
}

func (n named) Name() string { return n.name }

// Unwrap shows the Gateway.
func (n named) Unwrap() Gateway { return n.Gateway }

func member(g Gateway) resilience.Member[Gateway] {
	if n, ok := g.(named); ok {
		return resilience.Member[Gateway]{Name: n.name, Provider: n.Gateway}
	}
	return resilience.Member[Gateway]{Provider: g}
}

// New makes a Client. Every Gateway has a name, unique within the Client: that of
// its method Name() string, or one given with [Named]. One with a method
// Check() error is asked whether its settings are complete. A backup needs a
// durable journal, and a Client that has a journal of its own is no member.
func New(primary Gateway, options ...Option) (*Client, error) {
	s := settings{policy: Policy, name: "payment", members: []resilience.Member[Gateway]{member(primary)}}
	for _, o := range options {
		o(&s)
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	for _, set := range s.own {
		if err := set(s.members); err != nil {
			return nil, err
		}
	}
	group, err := resilience.New(s.policy, s.members, s.observers...)
	if err != nil {
		return nil, err
	}
	c := &Client{name: s.name, gateways: group, members: map[string]Gateway{}, journal: s.journal, book: s.journal, timeout: orElse(s.policy.Timeout, prepareWithin), rules: s.rules, handler: s.handler}
	if c.book == nil {
		c.book = &MemoryJournal{}
	}
	for _, m := range s.members {
		c.members[nameOf(m)] = m.Provider
	}
	return c, nil
}

func nameOf(m resilience.Member[Gateway]) string {
	if n, ok := m.Provider.(interface{ Name() string }); ok && m.Name == "" {
		return n.Name()
	}
	return m.Name
}

// check fills in what is left open, and refuses what can't be.
func (s *settings) check() error {
	for _, m := range s.members {
		if c, ok := m.Provider.(interface{ Check() error }); ok {
			if err := c.Check(); err != nil {
				return fmt.Errorf("payment: member %q: %w", nameOf(m), err)
			}
		}
		if c, ok := m.Provider.(*Client); ok && c.journal != nil {
			return fmt.Errorf("payment: member %q: a Client with a journal can't be a member of another", nameOf(m))
		}
	}
	if len(s.members) > 1 && (s.journal == nil || !s.journal.Durable()) {
		return errors.New("payment: a backup needs a durable journal: see WithJournal")
	}
	r := &s.rules
	r.Join, r.Lease = orElse(r.Join, defaultJoin), orElse(r.Lease, defaultLease)
	r.CommitWithin = orElse(r.CommitWithin, commitTimeout)
	if r.Now == nil {
		r.Now = time.Now
	}
	if r.Join < 0 || r.CommitWithin < 0 || r.Lease < r.CommitWithin+leaseMargin {
		return fmt.Errorf("payment: Rules: Join and CommitWithin must not be negative, and Lease at least CommitWithin and %v", leaseMargin)
	}
	return nil
}

func orElse(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// Name is the Client's own.
func (c *Client) Name() string { return c.name }

// Inspect shows every provider as it stands now.
func (c *Client) Inspect() []resilience.Status { return c.gateways.Inspect() }

// Control shows and changes the state of the Client's providers at run time.
func (c *Client) Control() *resilience.Control { return c.gateways.Control }

// errClosed is why a closed Client does nothing.
var errClosed = fault.New(fault.Unavailable, errors.New("payment: the Client was closed"))

// Close begins nothing any more, and waits until what has begun is recorded, or
// ctx ends.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	done := make(chan struct{})
	go func() {
		c.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("payment: close: %w", ctx.Err())
	}
}

// begin counts a piece of work that Close waits for.
func (c *Client) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.running.Add(1)
	return nil
}

// names are the providers' paths, in order of preference.
func (c *Client) names() []string {
	var names []string
	for _, s := range c.gateways.Inspect() {
		if s.Class == "" { // the provider's own, before those of its classes
			names = append(names, s.Name)
		}
	}
	return names
}

// gateway is the member in which a path begins.
func (c *Client) gateway(path string) (g Gateway, rest string) {
	first, rest, _ := strings.Cut(path, "/")
	return c.members[first], rest
}

// moving is an operation that moves money with this Client's time limit: that of
// one attempt, so that one which hangs counts against the provider's breaker.
func (c *Client) moving(op resilience.Op) resilience.Op {
	op.Timeout = c.rules.CommitWithin
	return op
}

// commitWithin is the time for an attempt that may take so long, with the repetitions of
// those that fail sooner.
func (c *Client) commitWithin() time.Duration { return c.rules.CommitWithin + commitMargin }

// pinned calls a method of the provider of that path and no other.
func pinned[A, R any](ctx context.Context, c *Client, path string, op resilience.Op, method func(Gateway, context.Context, A) (R, error), arg A) (R, error) {
	return resilience.Call(resilience.Pin(ctx, path), c.gateways, op, method, arg)
}

var errCant = fault.New(fault.Unsupported, errors.New("payment: this provider can't do that"))

// capture, void and the like are the methods of a Gateway's optional parts, in
// the shape of a method expression; a Gateway without the part is
// fault.Unsupported.
func void(g Gateway, ctx context.Context, a *Attempt) (*Payment, error) { //nolint:revive // the shape
	p, ok := g.(Capturer)
	if !ok {
		return nil, errCant
	}
	return p.VoidAttempt(ctx, a)
}

func capture(amount Money) func(Gateway, context.Context, *Attempt) (*Payment, error) {
	return func(g Gateway, ctx context.Context, a *Attempt) (*Payment, error) {
		p, ok := g.(Capturer)
		if !ok {
			return nil, errCant
		}
		return p.CaptureAttempt(ctx, a, amount)
	}
}

func refund(g Gateway, ctx context.Context, r *Refunding) (*Refund, error) { //nolint:revive // the shape
	p, ok := g.(Refunder)
	if !ok {
		return nil, errCant
	}
	return p.RefundAttempt(ctx, r)
}

func lookUpRefund(g Gateway, ctx context.Context, r *Refunding) (*Refund, error) { //nolint:revive // the shape
	p, ok := g.(Refunder)
	if !ok {
		return nil, errCant
	}
	return p.LookUpRefund(ctx, r)
}
