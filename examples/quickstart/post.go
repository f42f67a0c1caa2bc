package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/sqlite"
	"github.com/smilefactory/integrations/resilience"
)

// post is a service that sends mail, its queue, and the providers. Another
// process works on the queue, and may be killed.
type post struct {
	providers
	out    io.Writer
	folder string
	queue  *sqlite.Queue
	client *email.Client
	worker *worker // nil where none runs
	ids    []string
}

// newPost makes one whose Client is bound to its queue by that option.
func newPost(ctx context.Context, out io.Writer, p resilience.Policy, with func(queue.Queue) email.Option) (_ *post, err error) {
	s := &post{out: out, providers: newProviders()}
	defer func() {
		if err != nil {
			s.close(ctx)
		}
	}()
	if s.folder, err = os.MkdirTemp("", "quickstart-"); err != nil {
		return nil, err
	}
	if s.queue, err = sqlite.Open(ctx, s.file()); err != nil {
		return nil, err
	}
	s.client, err = newClient(s.sendgrid.URL, s.ses.URL, p, with(s.queue))
	return s, err
}

func (s *post) file() string { return filepath.Join(s.folder, "mail.db") }

func (s *post) close(ctx context.Context) {
	if s.worker != nil {
		_ = s.worker.kill()
	}
	if s.queue != nil {
		_ = s.queue.Close(context.WithoutCancel(ctx))
	}
	_ = os.RemoveAll(s.folder)
	s.providers.close()
}

func (s *post) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(s.out, "  "+format+"\n", args...)
}

// send sends n mails, each of which must be queued, and returns the last receipt.
func (s *post) send(ctx context.Context, n int, once bool) (*email.Receipt, error) {
	var last *email.Receipt
	for range n {
		m := message("shop@example.com", "ada@example.org", len(s.ids)+1)
		m.AtMostOnce = once
		r, err := s.client.Send(ctx, m)
		if err != nil {
			return nil, err
		}
		if r.Status != email.StatusQueued {
			return nil, fmt.Errorf("a mail is %s, and should be queued", r.Status)
		}
		s.ids = append(s.ids, r.ID)
		last = r
	}
	return last, nil
}

// start starts a worker.
func (s *post) start(ctx context.Context) (err error) {
	s.worker, err = startWorker(ctx, s.file(), s.providers)
	return err
}

func (s *post) pid() int { return s.worker.cmd.Process.Pid }

// kill kills the worker, and says how many mails it had in flight.
func (s *post) kill(ctx context.Context) error {
	if err := s.worker.kill(); err != nil {
		return err
	}
	dead := s.worker.cmd.ProcessState
	s.worker = nil
	stats, err := s.queue.Stats(ctx)
	if err != nil {
		return err
	}
	s.printf("worker %d is killed (%s), with %d mails in flight", dead.Pid(), dead, stats.Running)
	return nil
}

// deliver lets the providers work again, starts another worker, lets it finish,
// and asks what became of the mails.
func (s *post) deliver(ctx context.Context) (outcome, error) {
	s.sendgrid.Heal()
	s.ses.Heal()
	if err := s.start(ctx); err != nil {
		return outcome{}, err
	}
	s.printf("the providers work again, and worker %d delivers", s.pid())
	if err := until(ctx, "the queue to be empty", func() bool { return s.left(ctx) == 0 }); err != nil {
		return outcome{}, err
	}
	err := s.worker.end()
	s.worker = nil
	if err != nil {
		return outcome{}, err
	}
	return s.outcome(ctx)
}

// left is how many mails are neither delivered nor dead letters.
func (s *post) left(ctx context.Context) int {
	stats, err := s.queue.Stats(ctx)
	if err != nil {
		return -1
	}
	return stats.Ready + stats.Waiting + stats.Running
}

// outcome is what became of the mails, by the providers' ledgers and the queue's
// dead letters.
type outcome struct {
	delivered, lost, twice []string // IDs
	dead                   []queue.Dead
}

func (s *post) outcome(ctx context.Context) (outcome, error) {
	dead, err := s.queue.Dead(ctx, "", len(s.ids))
	o := outcome{dead: dead}
	for _, id := range s.ids {
		n := s.taken(id)
		switch {
		case n > 0:
			o.delivered = append(o.delivered, id)
		case !slices.ContainsFunc(dead, func(d queue.Dead) bool { return d.ID == id }):
			o.lost = append(o.lost, id)
		}
		if n > 1 {
			o.twice = append(o.twice, id)
		}
	}
	return o, err
}

// until waits for something that should be so within 20 seconds.
func until(ctx context.Context, what string, so func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("it takes too long for "+what))
	defer cancel()
	for !so() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}
