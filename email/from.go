package email

import (
	"cmp"
	"context"
	"fmt"

	"github.com/smilefactory/integrations/resilience"
)

// From makes a Sender write from another address, for a backup whose account has
// not verified the primary's domain.
//
//	email.WithBackup(email.From(email.Address{Name: "Shop", Address: "shop@backup.example"}, ses.New(cfg)))
//
// Answers still go where they would have: Reply-To stays, and is the message's
// own From where it had none.
func From(a Address, s Sender) Sender {
	if s == nil {
		return nil // which New refuses
	}
	if n, ok := s.(named); ok {
		return named{From(a, n.sender), n.name}
	}
	f := from{Sender: s, address: a}
	if _, ok := s.(nestable); ok {
		return fromNested{f}
	}
	return f
}

type from struct {
	Sender
	address Address
}

// Send sends a copy of the message.
func (f from) Send(ctx context.Context, m *Message) (*Receipt, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	c := *m
	if len(m.ReplyTo) == 0 {
		c.ReplyTo = []Address{m.From}
	}
	c.From, c.root = f.address, cmp.Or(m.root, domain(m.From)) // one root over all providers
	return f.Sender.Send(ctx, &c)
}

// Name is the Sender's own.
func (f from) Name() string {
	if n, ok := f.Sender.(interface{ Name() string }); ok {
		return n.Name()
	}
	return ""
}

// Check also looks at the address, which is the caller's setting: a mail isn't
// wrong because of it.
func (f from) Check() error {
	if p := textProblem(f.address.Name, maxName); p != "" {
		return fmt.Errorf("email: From: the name %s", p)
	}
	if p := addressProblem(f.address.Address); p != "" {
		return fmt.Errorf("email: From: the address %s", p)
	}
	if s, ok := f.Sender.(interface{ Check() error }); ok {
		return s.Check()
	}
	return nil
}

// nestable is a Client, whose providers stay in sight.
type nestable interface {
	resilience.Inspector
	Control() *resilience.Control
}

type fromNested struct{ from }

// Inspect shows the Client's providers.
func (f fromNested) Inspect() []resilience.Status { return f.Sender.(nestable).Inspect() } //nolint:forcetypeassert // see From

// Control is the Client's.
func (f fromNested) Control() *resilience.Control { return f.Sender.(nestable).Control() } //nolint:forcetypeassert // see From
