// Command quickstart shows on three occasions that no mail is lost: SendGrid
// fails in every way it can, with SES behind it; both are down, and the process
// that works on the queue is killed; it is killed while it delivers.
//
//	go run ./examples/quickstart
//
// Both providers are simulators on loopback ports; the adapters and the queue are
// the real ones. It sends one real mail instead through SendGrid, through an SMTP
// server, or through the one with the other as its backup:
//
//	SENDGRID_API_KEY=… go run ./examples/quickstart -sendgrid-key-from-env -from you@example.com -to you@example.org
//	SMTP_PASSWORD=… go run ./examples/quickstart -smtp mail.example.com:587 -smtp-user you -from … -to …
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, os.Args[1:], os.Getenv)
	stop()
	var wrong usageError
	switch {
	case err == nil:
	case errors.As(err, &wrong):
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string, env func(string) string) error {
	if env(queueFile) != "" {
		return work(ctx, os.Stdin, env)
	}
	o, err := parse(args, env)
	switch {
	case errors.Is(err, errHelp):
		usage(out)
		return nil
	case err != nil:
		return err
	case o.real():
		return sendReal(ctx, out, o)
	}
	return show(ctx, out, pace())
}
