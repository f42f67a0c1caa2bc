package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/resilience"
)

const question = `
  Has a mail gone that was in flight? The provider may have taken it, and the
  answer died with the worker. So each mail says what is worse: to arrive
  twice, or perhaps not at all.
`

// death is the third part: the worker is killed when the provider has taken
// mails, and before the queue knows it.
func death(ctx context.Context, out io.Writer, p resilience.Policy) error {
	fmt.Fprint(out, question)
	for _, once := range []bool{false, true} {
		if err := killed(ctx, out, p, once); err != nil {
			return err
		}
	}
	return nil
}

func killed(ctx context.Context, out io.Writer, p resilience.Policy, once bool) error {
	s, err := newPost(ctx, out, p, email.WithQueueFirst)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	fmt.Fprintln(out)
	if _, err := s.send(ctx, 20, once); err != nil {
		return err
	}
	s.printf("20 mails are queued, to go %s", map[bool]string{false: "at least once, the default:", true: "at most once (AtMostOnce):"}[once])
	unheard, err := s.interrupt(ctx)
	if err != nil {
		return err
	}
	o, err := s.deliver(ctx)
	if err != nil {
		return err
	}
	s.tell(o, unheard)
	return o.check(once, unheard)
}

// interrupt kills a worker when SendGrid has taken eight mails, three more
// whose answers never come, and has yet to take another. It returns the IDs of
// the three.
func (s *post) interrupt(ctx context.Context) (unheard []string, err error) {
	s.sendgrid.Next(make([]sim.Step, 8)...)
	s.sendgrid.Next(slices.Repeat([]sim.Step{{Hang: sim.AfterActing}}, 3)...)
	s.sendgrid.Always(sim.Step{Hang: sim.BeforeActing})
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	err = until(ctx, "the worker's mails", func() bool { return s.sendgrid.Requests() >= 12 && s.sendgrid.Mails.Len() >= 11 })
	if err != nil {
		return nil, err
	}
	s.printf("SendGrid takes 8 from worker %d, and 3 more, of which it doesn't tell it", s.pid())
	for _, m := range s.sendgrid.Mails.All()[8:] {
		unheard = append(unheard, m.ID)
	}
	return unheard, s.kill(ctx)
}

func (s *post) tell(o outcome, unheard []string) {
	s.printf("of 20 mails %d are lost, %d arrived twice, %d are dead letters", len(o.lost), len(o.twice), len(o.dead))
	if len(o.dead) > 0 {
		s.printf("    %s", o.dead[0].Reason)
		s.printf("    SendGrid's ledger: %d of them had gone, %d had not", len(unheard), len(o.dead)-len(unheard))
	}
}

// check holds what became of the mails against what was promised.
func (o outcome) check(once bool, unheard []string) error {
	listed := func(id string) bool {
		return slices.ContainsFunc(o.dead, func(d queue.Dead) bool { return d.ID == id })
	}
	inFlight := func(id string) bool { return slices.Contains(unheard, id) }
	switch {
	case len(o.lost) > 0:
		return fmt.Errorf("%d mails are lost", len(o.lost))
	case once && len(o.twice) > 0:
		return fmt.Errorf("%d mails arrived twice that must not", len(o.twice))
	case once && !all(unheard, listed):
		return errors.New("a mail that may have gone isn't listed")
	case !once && len(o.dead) > 0:
		return fmt.Errorf("%d mails were given up", len(o.dead))
	case !all(o.twice, inFlight):
		return errors.New("a mail arrived twice that wasn't in flight")
	}
	return nil
}

func all(ids []string, so func(id string) bool) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { return !so(id) })
}
