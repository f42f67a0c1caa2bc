// Command quickstart sends mails through SendGrid with SES behind it while
// SendGrid fails in every way it can, and shows that none is lost.
//
//	go run ./examples/quickstart
//
// Both providers are simulators on loopback ports; the adapters are the real
// ones. With -sendgrid-key-from-env it sends one real mail instead.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/email/ses"
	"github.com/smilefactory/integrations/internal/sim"
	sendgridsim "github.com/smilefactory/integrations/internal/sim/sendgrid"
	sessim "github.com/smilefactory/integrations/internal/sim/ses"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/secret"
)

func main() {
	realKey := flag.Bool("sendgrid-key-from-env", false, "send one real mail with the key in SENDGRID_API_KEY")
	from := flag.String("from", "", "sender of the real mail")
	to := flag.String("to", "", "recipient of the real mail")
	flag.Parse()
	ctx := context.Background()
	var err error
	if *realKey {
		err = sendReal(ctx, os.Stdout, *from, *to)
	} else {
		err = show(ctx, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func sendReal(ctx context.Context, out io.Writer, from, to string) error {
	mail, err := email.New(sendgrid.Sender{Key: secret.Env("SENDGRID_API_KEY")})
	if err != nil {
		return err
	}
	receipt, err := mail.Send(ctx, message(from, to, 1))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s took the mail as %s\n", receipt.Provider, receipt.ProviderID)
	return err
}

// act is a part of the show: what the primary does, to how many mails.
type act struct {
	title string
	step  *sim.Step // nil: it works
	mails int
}

var acts = []act{
	{"SendGrid works", nil, 2},
	{"SendGrid answers 500", &sim.Step{Status: 500}, 3},
	{"SendGrid recovers", nil, 2},
	{"SendGrid drops connections", &sim.Step{Reset: sim.BeforeActing}, 3},
	{"SendGrid recovers", nil, 2},
	{"SendGrid hangs", &sim.Step{Hang: sim.BeforeActing}, 7},
	{"SendGrid recovers", nil, 2},
}

// The policy is resilience.Default with shorter times, so that the show is short.
func policy() resilience.Policy {
	p := resilience.Default
	p.Timeout = 300 * time.Millisecond
	p.Breaker.OpenFor = time.Second
	return p
}

func show(ctx context.Context, out io.Writer) error {
	primary, backup := sendgridsim.New(sendgridsim.Config{Key: "SG.demo"}), sessim.New(sessim.Config{AccessKeyID: "AKDEMO"})
	defer primary.Close()
	defer backup.Close()
	client, err := email.New(
		sendgrid.Sender{Key: secret.Literal("SG.demo"), BaseURL: primary.URL, HTTPClient: primary.Client()},
		email.WithBackup(ses.New(aws.Config{
			Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("AKDEMO", "demo", ""), HTTPClient: backup.Client(),
		}, ses.WithBaseURL(backup.URL))),
		email.WithPolicy(policy()),
		email.WithObserver(resilience.ObserverFunc(func(_ context.Context, e resilience.Event) {
			if e.Type == resilience.StateChanged {
				fmt.Fprintf(out, "      breaker of %s: %s → %s\n", e.Provider, e.From, e.To)
			}
		})),
	)
	if err != nil {
		return err
	}
	var ids []string
	for _, a := range acts {
		fmt.Fprintln(out, a.title)
		primary.Heal()
		if a.step != nil {
			primary.Always(*a.step)
		}
		for a.step == nil && client.Inspect()[0].State == resilience.Open {
			time.Sleep(20 * time.Millisecond) // until the breaker probes
		}
		for range a.mails {
			if err := sendOne(ctx, out, client, &ids); err != nil {
				return err
			}
		}
	}
	return tally(out, ids, &primary.Mails, &backup.Mails)
}

func sendOne(ctx context.Context, out io.Writer, client *email.Client, ids *[]string) error {
	start := time.Now()
	receipt, err := client.Send(ctx, message("shop@example.com", "ada@example.org", len(*ids)+1))
	if err != nil {
		return err
	}
	*ids = append(*ids, receipt.ID)
	plural := "s"
	if receipt.Attempts == 1 {
		plural = ""
	}
	fmt.Fprintf(out, "  mail %2d delivered by %-8s  %d attempt%s, %v\n", len(*ids), receipt.Provider, receipt.Attempts, plural, time.Since(start).Round(time.Millisecond))
	return nil
}

// tally compares what was sent with what the providers' ledgers hold.
func tally(out io.Writer, ids []string, ledgers ...*sim.Ledger[sim.Mail]) error {
	delivered, lost, twice := 0, 0, 0
	for _, id := range ids {
		n := 0
		for _, l := range ledgers {
			n += l.Count(id)
		}
		delivered += n
		switch {
		case n == 0:
			lost++
		case n > 1:
			twice++
		}
	}
	fmt.Fprintf(out, "\n%d sent = %d delivered (SendGrid %d, SES %d), %d lost, %d twice\n",
		len(ids), delivered, ledgers[0].Len(), ledgers[1].Len(), lost, twice)
	if lost+twice > 0 {
		return errors.New("a mail was lost or delivered twice")
	}
	return nil
}

func message(from, to string, n int) *email.Message {
	return &email.Message{
		From: email.Address{Name: "Shop", Address: from}, To: []email.Address{{Address: to}},
		Subject: fmt.Sprintf("Order %d", n), Text: "Thank you for your order.", HTML: "<p>Thank you for your order.</p>",
	}
}
