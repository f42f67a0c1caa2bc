package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/sqlite"
	"github.com/smilefactory/integrations/resilience"
)

// The worker is this program, started with these variables.
const (
	queueFile   = "QUICKSTART_QUEUE"
	sendgridURL = "QUICKSTART_SENDGRID"
	sesURL      = "QUICKSTART_SES"
)

// atOnce is how many mails a worker has in flight at most.
const atOnce = 4

// work delivers what is in the queue until ctx or in ends.
func work(ctx context.Context, in io.Reader, env func(string) string) error {
	q, err := sqlite.Open(ctx, env(queueFile))
	if err != nil {
		return err
	}
	defer q.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what was delivered is settled
	p := resilience.Default
	p.Breaker.OpenFor = time.Second / 2
	mail, err := newClient(env(sendgridURL), env(sesURL), p, email.WithQueue(q))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		stop()
	}()
	return mail.Run(ctx, queue.With(func(o *queue.RunOptions) {
		o.Workers = atOnce
		o.Lease = time.Second                              // what a dead worker had in hand waits so long
		o.Initial, o.Longest = time.Second/10, time.Second // between attempts
		o.Poll = time.Second / 10
	}))
}

// worker is such a process.
type worker struct {
	cmd *exec.Cmd
	in  io.Closer
}

func startWorker(ctx context.Context, file string, p providers) (*worker, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program) //nolint:gosec // itself
	cmd.Env = append(os.Environ(), queueFile+"="+file, sendgridURL+"="+p.sendgrid.URL, sesURL+"="+p.ses.URL)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &worker{cmd, in}, nil
}

// kill ends it at once, whatever it does: SIGKILL, TerminateProcess on Windows.
func (w *worker) kill() error {
	err := w.cmd.Process.Kill()
	_ = w.cmd.Wait() // says that it was killed
	return err
}

// end lets it finish what it has in hand.
func (w *worker) end() error {
	_ = w.in.Close()
	return w.cmd.Wait()
}
