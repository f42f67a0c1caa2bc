package email

import (
	"context"

	"github.com/smilefactory/integrations/resilience"
)

// Named gives a Sender another name, for a Client in which two would have the
// same: two accounts of one provider, or two Clients.
//
//	mail, err := email.New(email.Named("eu", sendgrid.Sender{Key: eu}),
//		email.WithBackup(email.Named("us", sendgrid.Sender{Key: us})))
//
// New takes the name and the Sender apart again, so that no other method of it
// is hidden. By itself the result is a Sender whose receipts have that name. A
// name is 1 to 64 of [a-z0-9._-]; an empty one keeps the Sender's own.
func Named(name string, s Sender) Sender {
	s = unnamed(s)
	if name == "" {
		return s
	}
	return named{s, name}
}

type named struct {
	sender Sender
	name   string
}

func unnamed(s Sender) Sender {
	if n, ok := s.(named); ok {
		return n.sender
	}
	return s
}

// Name is the given one.
func (n named) Name() string { return n.name }

// Send sends with the Sender; the receipt is its own to change.
func (n named) Send(ctx context.Context, m *Message) (*Receipt, error) {
	r, err := n.sender.Send(ctx, m)
	if err != nil {
		return nil, err
	}
	path := n.name
	if isClient(n.sender) { // it says which of its own
		path += "/" + r.Provider
	}
	r.Provider = path
	return r, nil
}

// Unwrap shows the Sender.
func (n named) Unwrap() Sender { return n.sender }

func isClient(s Sender) bool {
	for {
		if _, ok := s.(resilience.Inspector); ok {
			return true
		}
		d, ok := s.(interface{ Unwrap() Sender })
		if !ok {
			return false
		}
		s = d.Unwrap()
	}
}

// member is a Sender under its name, as a Group wants it.
func member(s Sender) resilience.Member[Sender] {
	m := resilience.Member[Sender]{Provider: s}
	if n, ok := s.(named); ok {
		m.Name, m.Provider = n.name, n.sender
	}
	return m
}
