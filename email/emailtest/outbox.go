// Package emailtest has a fake email.Sender for the tests of services, and the
// conformance suite that every Sender passes.
//
//	var outbox emailtest.Outbox
//	signup := NewSignup(&outbox)
//	…
//	outbox.Fail(fault.New(fault.Unavailable, nil)) // the next mail
package emailtest

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/fault"
)

// Outbox is a Sender that keeps its mails. The zero value is ready; it is safe
// for concurrent use.
type Outbox struct {
	mu       sync.Mutex
	sent     []*email.Message
	scripted []error
	always   error
}

// Name is "outbox".
func (*Outbox) Name() string { return "outbox" }

// Send checks the mail as a provider would, and keeps a copy.
func (o *Outbox) Send(ctx context.Context, m *email.Message) (*email.Receipt, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.New(fault.Unavailable, err)
	}
	m = m.WithID()
	o.mu.Lock()
	defer o.mu.Unlock()
	err := o.always
	if len(o.scripted) > 0 {
		err, o.scripted = o.scripted[0], o.scripted[1:]
	}
	if err != nil {
		return nil, err
	}
	o.sent = append(o.sent, clone(m))
	return email.NewReceipt(m, o.Name(), rand.Text()), nil
}

func clone(m *email.Message) *email.Message {
	c := *m
	c.To, c.Cc, c.Bcc, c.ReplyTo = slices.Clone(m.To), slices.Clone(m.Cc), slices.Clone(m.Bcc), slices.Clone(m.ReplyTo)
	c.Tags, c.Headers, c.Metadata = slices.Clone(m.Tags), maps.Clone(m.Headers), maps.Clone(m.Metadata)
	c.Attachments = slices.Clone(m.Attachments)
	for i := range c.Attachments {
		c.Attachments[i].Data = slices.Clone(c.Attachments[i].Data)
	}
	return &c
}

// Fail scripts the coming mails: one error each, nil for a success.
func (o *Outbox) Fail(errs ...error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.scripted = append(o.scripted, errs...)
}

// FailAlways makes every mail fail for which nothing is scripted; nil ends it.
func (o *Outbox) FailAlways(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.always = err
}

// Sent lists the mails that were taken, oldest first. They are the Outbox's
// own copies.
func (o *Outbox) Sent() []*email.Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.sent)
}

// RequireSent fails the test unless exactly n mails went to that address, and
// returns them.
func (o *Outbox) RequireSent(t testing.TB, to string, n int) []*email.Message {
	t.Helper()
	var found []*email.Message
	for _, m := range o.Sent() {
		if slices.ContainsFunc(slices.Concat(m.To, m.Cc, m.Bcc), func(a email.Address) bool { return a.Address == to }) {
			found = append(found, m)
		}
	}
	if len(found) != n {
		t.Fatalf("emailtest: %d mails went to %s, want %d", len(found), to, n)
	}
	return found
}
