package main

import (
	"context"
	"fmt"
	"io"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/resilience"
)

// outage is the second part: no provider takes mail, so that it waits in the
// queue, and who works on the queue is killed.
func outage(ctx context.Context, out io.Writer, p resilience.Policy) error {
	s, err := newPost(ctx, out, p, email.WithQueue)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	s.sendgrid.Always(sim.Step{Status: 503})
	s.ses.Always(sim.Step{Status: 503})
	receipt, err := s.send(ctx, 20, false)
	if err != nil {
		return err
	}
	s.printf("20 mails are sent. Each gets a receipt that says %q, and why:", receipt.Status)
	for _, f := range receipt.Faults {
		s.printf("    %v", f)
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	s.printf("worker %d tries to deliver them, in vain", s.pid())
	before := s.requests()
	if err := until(ctx, "the worker's first attempts", func() bool { return s.requests() >= before+atOnce }); err != nil {
		return err
	}
	if err := s.kill(ctx); err != nil {
		return err
	}
	o, err := s.deliver(ctx)
	if err != nil {
		return err
	}
	s.printf("20 queued = %d delivered, %d lost, %d twice", len(o.delivered), len(o.lost), len(o.twice))
	return o.checkOnce(20)
}

// checkOnce: nothing has gone before the providers were down, so that nothing
// can arrive twice.
func (o outcome) checkOnce(n int) error {
	if len(o.delivered) != n || len(o.twice) > 0 {
		return fmt.Errorf("of %d mails %d arrived, %d of them twice", n, len(o.delivered), len(o.twice))
	}
	return nil
}
