package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/email/ses"
	sendgridsim "github.com/smilefactory/integrations/internal/sim/sendgrid"
	sessim "github.com/smilefactory/integrations/internal/sim/ses"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/secret"
)

const opening = `Mails through SendGrid, with Amazon SES behind it. Both are simulators on
loopback ports; adapters, retries, breaker, failover and queue are the real
ones.
`

// parts of the show. One that sees what it didn't expect is an error.
var parts = []struct {
	title string
	play  func(context.Context, io.Writer, resilience.Policy) error
}{
	{"One provider fails, the other takes over", failover},
	{"Both are down, mails wait in a file, and who delivers them is killed", outage},
	{"Who delivers them is killed in the middle of it", death},
}

func show(ctx context.Context, out io.Writer, p resilience.Policy) error {
	fmt.Fprint(out, opening)
	for i, part := range parts {
		fmt.Fprintf(out, "\n%d. %s\n", i+1, part.title)
		if err := part.play(ctx, out, p); err != nil {
			return fmt.Errorf("part %d: %w", i+1, err)
		}
	}
	fmt.Fprint(out, "\nNo mail was lost: each has arrived, or is listed with its reason.\n")
	return nil
}

// pace is resilience.Default with shorter times, so that the show is short.
func pace() resilience.Policy {
	p := resilience.Default
	p.Timeout = 300 * time.Millisecond
	p.Breaker.OpenFor = time.Second / 2
	return p
}

// newClient is what a service would have, but for the addresses.
func newClient(sendgridURL, sesURL string, p resilience.Policy, options ...email.Option) (*email.Client, error) {
	primary := sendgrid.Sender{Key: secret.Literal("SG.demo"), BaseURL: sendgridURL}
	backup := ses.New(aws.Config{
		Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("AKDEMO", "demo", ""),
	}, ses.WithBaseURL(sesURL))
	return email.New(primary, append(options, email.WithBackup(backup), email.WithPolicy(p))...)
}

// providers are the simulators, whose ledgers know what was taken.
type providers struct {
	sendgrid *sendgridsim.Sim
	ses      *sessim.Sim
}

func newProviders() providers {
	return providers{sendgridsim.New(sendgridsim.Config{Key: "SG.demo"}), sessim.New(sessim.Config{AccessKeyID: "AKDEMO"})}
}

func (p providers) close() {
	p.sendgrid.Close()
	p.ses.Close()
}

func (p providers) requests() int { return p.sendgrid.Requests() + p.ses.Requests() }

// taken is how often the mail of that ID was taken.
func (p providers) taken(id string) int { return p.sendgrid.Mails.Count(id) + p.ses.Mails.Count(id) }
