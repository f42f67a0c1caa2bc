package email

import (
	"cmp"
	"context"
	"fmt"
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
	return from{Sender: s, address: a}
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

// Unwrap shows the Sender, which may be a Client.
func (f from) Unwrap() Sender { return f.Sender }
