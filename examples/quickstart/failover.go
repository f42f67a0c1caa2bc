package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/resilience"
)

// act is a part of the show: what SendGrid does, to how many mails.
type act struct {
	title string
	step  sim.Step
	fails bool
	mails int
	once  bool // mails that must go at most once
}

var acts = []act{
	{title: "SendGrid works", mails: 2},
	{title: "SendGrid answers 500", step: sim.Step{Status: 500}, fails: true, mails: 4},
	{title: "SendGrid works again", mails: 2},
	{title: "SendGrid drops connections", step: sim.Step{Reset: sim.BeforeActing}, fails: true, mails: 4},
	{title: "SendGrid works again", mails: 2},
	{title: "SendGrid hangs", step: sim.Step{Hang: sim.BeforeActing}, fails: true, mails: 7},
	{title: "SendGrid works again", mails: 2},
	{title: "SendGrid takes a mail and its answer is lost; it must not go twice", step: sim.Step{Reset: sim.AfterActing}, fails: true, mails: 1, once: true},
}

const marks = `
  ✓ taken   ✗ failed   – not asked, its breaker is open
`

const closing = `
What you saw:
  - A provider that fails is asked again, then the backup takes over. Who calls
    Send sees a receipt, not the trouble.
  - Five failures in a row open the breaker: SendGrid is left alone, and mails
    go to SES at once, without waiting for a timeout.
  - The breaker probes with one mail, and closes when SendGrid takes it.
  - A mail that must not go twice stays where it may have gone, and the error
    says that it may have gone.
  - What the receipts and errors tell is what was on the wire.
`

// stage is the Client with both providers, and what happened so far.
type stage struct {
	providers
	out             io.Writer
	client          *email.Client
	trail           trail
	ids             []string
	unknown, counts int // mails whose end nobody knows; attempts that were reported
}

// failover is the first part: one provider fails, the other takes over.
func failover(ctx context.Context, out io.Writer, p resilience.Policy) error {
	s := &stage{out: out, providers: newProviders()}
	defer s.close()
	var err error
	s.client, err = newClient(s.sendgrid.URL, s.ses.URL, p, email.WithObserver(&s.trail))
	if err != nil {
		return err
	}
	s.printf(marks)
	for _, a := range acts {
		if err := s.play(ctx, a); err != nil {
			return err
		}
	}
	return s.tally()
}

// printf ignores what the terminal says: a show without spectators goes on.
func (s *stage) printf(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format, args...) }

func (s *stage) play(ctx context.Context, a act) error {
	s.printf("\n%s\n", a.title)
	s.sendgrid.Heal()
	if a.fails {
		s.sendgrid.Always(a.step)
	}
	for !a.fails && s.client.Inspect()[0].State == resilience.Open {
		select { // until the breaker probes
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	for range a.mails {
		if err := s.send(ctx, a.once); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) send(ctx context.Context, once bool) error {
	m := message("shop@example.com", "ada@example.org", len(s.ids)+1).WithID()
	m.AtMostOnce = once
	s.ids = append(s.ids, m.ID)
	start := time.Now()
	receipt, err := s.client.Send(ctx, m)
	took := time.Since(start)
	var attempts int
	var remark string
	switch f, _ := fault.As(err); {
	case err == nil:
		attempts = receipt.Attempts
	case once && errors.Is(err, fault.Uncertain):
		attempts, remark = f.Attempts, "  may have gone"
		s.unknown++
	default:
		return err
	}
	s.counts += attempts
	s.printf("  mail %2d  %-28s %s %6s%s\n", len(s.ids), s.trail.mails(), plural(attempts, "attempt"), round(took), remark)
	s.printf("%s", s.trail.changes())
	return nil
}

func round(d time.Duration) string {
	if d < time.Millisecond {
		return "<1ms"
	}
	return d.Round(time.Millisecond).String()
}

func plural(n int, word string) string {
	if n == 1 {
		return fmt.Sprintf("%2d %-8s", n, word)
	}
	return fmt.Sprintf("%2d %-8s", n, word+"s")
}

// trail observes one mail: who was asked and what the breaker did.
type trail struct {
	asked  []string // by provider, with its marks
	who    string
	change strings.Builder
}

// Observe notes a step. The show sends one mail at a time.
func (t *trail) Observe(_ context.Context, e resilience.Event) {
	switch e.Type { //nolint:exhaustive // the others are no steps of a mail
	case resilience.AttemptEnded:
		if e.Err == nil {
			t.mark(e.Provider, "✓")
		} else {
			t.mark(e.Provider, "✗")
		}
	case resilience.Refused:
		t.mark(e.Provider, "–")
	case resilience.StateChanged:
		fmt.Fprintf(&t.change, "           breaker of %s: %s → %s\n", e.Provider, e.From, e.To)
	}
}

func (t *trail) mark(provider, sign string) {
	if provider != t.who {
		t.who = provider
		t.asked = append(t.asked, provider+" ")
	}
	t.asked[len(t.asked)-1] += sign
}

// mails is the trail of the mail that has ended, such as "sendgrid ✗✗✗  ses ✓".
func (t *trail) mails() string {
	defer func() { t.asked, t.who = nil, "" }()
	return strings.Join(t.asked, "  ")
}

func (t *trail) changes() string {
	defer t.change.Reset()
	return t.change.String()
}

// tally compares what was sent and reported with what the providers counted.
func (s *stage) tally() error {
	lost, twice := 0, 0
	for _, id := range s.ids {
		switch n := s.taken(id); {
		case n == 0:
			lost++
		case n > 1:
			twice++
		}
	}
	requests, taken := s.requests(), s.sendgrid.Mails.Len()+s.ses.Mails.Len()
	s.printf("\n              requests   mails taken\n")
	s.printf("  SendGrid    %8d   %11d\n", s.sendgrid.Requests(), s.sendgrid.Mails.Len())
	s.printf("  SES         %8d   %11d\n", s.ses.Requests(), s.ses.Mails.Len())
	s.printf("  together    %8d   %11d\n", requests, taken)
	s.printf("  reported    %8d   %11d   and %d not known\n", s.counts, len(s.ids)-s.unknown, s.unknown)
	s.printf(closing)
	s.printf("\n%d sent = %d delivered, %d lost, %d twice\n", len(s.ids), taken, lost, twice)
	switch {
	case lost+twice > 0:
		return errors.New("a mail was lost or delivered twice")
	case requests != s.counts:
		return fmt.Errorf("%d attempts were reported, and %d were made", s.counts, requests)
	}
	return nil
}
