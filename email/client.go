package email

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/resilience"
)

// The operation has one name, so that Clients nest, and two safeties.
var (
	opSend     = resilience.Op{Name: "email.send", Safety: fault.AtLeastOnce}
	opSendOnce = resilience.Op{Name: "email.send", Safety: fault.Once}
)

// Client is a Sender made of Senders: a primary and its backups. It is safe for
// concurrent use and owns no goroutine but while it Runs.
type Client struct {
	senders    *resilience.Group[Sender]
	name       string
	queue      queue.Queue
	queueFirst bool
	kind       string       // of its jobs in the queue
	workers    atomic.Int64 // Runs that go on
	receipts   Receipts
	keep       time.Duration
	hold       time.Duration
}

type settings struct {
	policy    resilience.Policy
	name      string
	members   []resilience.Member[Sender]
	observers []resilience.Observer
	own       []func([]resilience.Member[Sender]) error // policies

	queue      queue.Queue
	queueFirst bool
	receipts   Receipts
	keep       time.Duration
	hold       time.Duration
}

// Option composes a Client.
type Option func(*settings)

// WithBackup adds a Sender that is asked when those before it can't deliver.
func WithBackup(s Sender) Option {
	return func(c *settings) { c.members = append(c.members, member(s)) }
}

// WithPolicy replaces [resilience.Default], or where members are named that of these alone.
func WithPolicy(p resilience.Policy, members ...string) Option {
	return func(c *settings) {
		if len(members) == 0 {
			c.policy = p
			return
		}
		c.own = append(c.own, func(all []resilience.Member[Sender]) error { return resilience.PolicyFor(all, p, members...) })
	}
}

// WithObserver adds an observer of every step of every call.
func WithObserver(o resilience.Observer) Option {
	return func(c *settings) { c.observers = append(c.observers, o) }
}

// WithName names the Client, which matters where it is a member of another.
// The default is "email".
func WithName(name string) Option { return func(c *settings) { c.name = name } }

// New makes a Client. Every Sender has a name, unique within the Client: that of
// its method Name() string, or one given with [Named]. One with a method
// Check() error is asked whether its settings are complete.
func New(primary Sender, options ...Option) (*Client, error) {
	c := settings{policy: resilience.Default, name: defaultName, members: []resilience.Member[Sender]{member(primary)}}
	for _, o := range options {
		o(&c)
	}
	for _, m := range c.members {
		if s, ok := m.Provider.(interface{ Check() error }); ok {
			if err := s.Check(); err != nil {
				return nil, memberError(m.Name, err)
			}
		}
	}
	if c.hold > 0 && c.queue == nil {
		return nil, errHoldsNowhere
	}
	for _, set := range c.own {
		if err := set(c.members); err != nil {
			return nil, err
		}
	}
	group, err := resilience.New(c.policy, c.members, c.observers...)
	if err != nil {
		return nil, err
	}
	client := &Client{senders: group, name: c.name, queue: c.queue, queueFirst: c.queueFirst, kind: opSend.Name, receipts: c.receipts, keep: c.keep, hold: c.hold}
	if c.name != defaultName { // two Clients may share a queue
		client.kind += "." + c.name
	}
	if err := (&queue.Job{Kind: client.kind}).Validate(); err != nil {
		return nil, fmt.Errorf("email: the name %q: %w", c.name, err)
	}
	return client, nil
}

const defaultName = "email"

// memberError says which of two accounts is incomplete.
func memberError(name string, err error) error {
	if name == "" {
		return err
	}
	return fmt.Errorf("email: member %q: %w", name, err)
}

// Send hands the mail to the first provider that takes it. It checks the
// message first; see [Message.AtMostOnce] for the ambiguous case. With a queue,
// what nobody takes now is made durable and delivered later: see [WithQueue].
func (c *Client) Send(ctx context.Context, m *Message) (*Receipt, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	m = m.WithID()
	if c.receipts != nil && m.IdempotencyKey != "" && !c.senders.Nested(ctx) {
		return c.keyed(ctx, m, c.deliver)
	}
	return c.deliver(ctx, m)
}

// deliver sends now, or leaves it to the queue.
func (c *Client) deliver(ctx context.Context, m *Message) (*Receipt, error) {
	if c.queueFirst && !c.senders.Nested(ctx) {
		return c.enqueueAt(ctx, c.queue, m, time.Time{})
	}
	r, err := c.send(ctx, m)
	if err != nil {
		return c.lastResort(ctx, m, err)
	}
	return r, nil
}

// send is a call of the providers.
func (c *Client) send(ctx context.Context, m *Message) (*Receipt, error) {
	return resilience.Call(ctx, c.senders, c.op(m), sendUnexpired, m)
}

// op: a mail that is held while it is ambiguous isn't repeated at once either.
func (c *Client) op(m *Message) resilience.Op {
	if m.AtMostOnce || c.hold > 0 {
		return opSendOnce
	}
	return opSend
}

// sendUnexpired keeps a retry or a backup from delivering what is stale by then.
func sendUnexpired(s Sender, ctx context.Context, m *Message) (*Receipt, error) { //nolint:revive // the shape of a method expression
	if m.Expired(time.Now()) {
		return nil, fault.New(fault.Rejected, ErrExpired)
	}
	return s.Send(ctx, m)
}

// Name is the Client's own.
func (c *Client) Name() string { return c.name }

// Inspect shows every provider as it stands now.
func (c *Client) Inspect() []resilience.Status { return c.senders.Inspect() }

// Control shows and changes the state of the Client's providers at run time.
func (c *Client) Control() *resilience.Control { return c.senders.Control }
