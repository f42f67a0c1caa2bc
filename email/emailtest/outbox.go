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
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/fault"
)

// Outbox is a Sender that keeps its mails. The zero value is ready; it is safe
// for concurrent use.
type Outbox struct {
	mu       sync.Mutex
	sent     []*email.Message
	scripted []step
	always   error
	delay    time.Duration
}

// step is what becomes of one mail.
type step struct {
	err   error
	taken bool // though the caller is told otherwise
}

// Name is "outbox".
func (*Outbox) Name() string { return "outbox" }

// Send checks the mail as a provider would, and keeps a copy. Where the context
// ends during a Delay the mail isn't kept, and the error is of kind
// fault.Uncertain, since a sender can't know that.
func (o *Outbox) Send(ctx context.Context, m *email.Message) (*email.Receipt, error) {
	m, err := m.Ready()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fault.New(fault.Unavailable, err)
	}
	step := o.next()
	if err := o.wait(ctx); err != nil {
		return nil, err
	}
	if step.err == nil || step.taken {
		o.keep(clone(m))
	}
	if step.err != nil {
		return nil, step.err
	}
	return email.NewReceipt(m, o.Name(), rand.Text()), nil
}

func (o *Outbox) next() step {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.scripted) == 0 {
		return step{err: o.always}
	}
	next := o.scripted[0]
	o.scripted = o.scripted[1:]
	return next
}

func (o *Outbox) wait(ctx context.Context) error {
	o.mu.Lock()
	delay := o.delay
	o.mu.Unlock()
	if delay <= 0 {
		return nil
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fault.New(fault.Uncertain, ctx.Err())
	}
}

func (o *Outbox) keep(m *email.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = append(o.sent, m)
}

func clone(m *email.Message) *email.Message {
	c := *m
	c.To, c.Cc, c.Bcc, c.ReplyTo = slices.Clone(m.To), slices.Clone(m.Cc), slices.Clone(m.Bcc), slices.Clone(m.ReplyTo)
	c.Tags, c.Headers, c.Metadata = slices.Clone(m.Tags), maps.Clone(m.Headers), maps.Clone(m.Metadata)
	c.Attachments = slices.Clone(m.Attachments)
	for i := range c.Attachments {
		c.Attachments[i].Data, c.Attachments[i].Open = slices.Clone(c.Attachments[i].Data), nil
	}
	return &c
}

// Fail scripts the coming mails: one error each, nil for a success. A mail with
// an error isn't kept.
func (o *Outbox) Fail(errs ...error) { o.script(errs, false) }

// FailAfter is Fail for mails that are kept all the same, as those of a provider
// whose answer was lost. A truthful error then is of kind fault.Uncertain.
func (o *Outbox) FailAfter(errs ...error) { o.script(errs, true) }

func (o *Outbox) script(errs []error, taken bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, err := range errs {
		o.scripted = append(o.scripted, step{err, taken})
	}
}

// FailAlways makes every mail fail for which nothing is scripted; nil ends it.
func (o *Outbox) FailAlways(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.always = err
}

// Delay makes every mail take so long from now on; zero ends it. A delay longer
// than the test is a provider that hangs.
func (o *Outbox) Delay(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.delay = d
}

// Heal drops what is scripted, the standing failure and the delay.
func (o *Outbox) Heal() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.scripted, o.always, o.delay = nil, nil, 0
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
