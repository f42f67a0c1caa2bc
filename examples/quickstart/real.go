package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/email/smtp"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/secret"
)

// sendReal sends one mail through what was asked for: the second is the backup
// of the first.
func sendReal(ctx context.Context, out io.Writer, o options) error {
	m := message(o.from, o.to, 1)
	if err := m.Validate(); err != nil {
		return usageError{err}
	}
	var senders []email.Sender
	if o.sendgrid {
		senders = append(senders, sendgrid.Sender{Key: secret.Env("SENDGRID_API_KEY"), BaseURL: o.sendgrids})
	}
	if o.smtp != "" {
		server, err := o.server()
		if err != nil {
			return usageError{err}
		}
		defer func() { _ = server.Close() }()
		senders = append(senders, server)
	}
	var backups []email.Option
	for _, s := range senders[1:] {
		backups = append(backups, email.WithBackup(s))
	}
	mail, err := email.New(senders[0], backups...)
	if err != nil {
		return err
	}
	receipt, err := mail.Send(ctx, m)
	if errors.Is(err, fault.Uncertain) {
		return fmt.Errorf("it isn't known whether the mail was taken: %w", err)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s took the mail as %s, attempts: %d\n", receipt.Provider, receipt.ProviderID, receipt.Attempts)
	return err
}

func (o options) server() (*smtp.Sender, error) {
	cfg := smtp.Config{Addr: o.smtp, TLS: modes[o.smtpTLS]}
	if o.smtpUser != "" {
		cfg.Username, cfg.Password = o.smtpUser, secret.Env("SMTP_PASSWORD")
	}
	return smtp.New(cfg)
}

func message(from, to string, n int) *email.Message {
	return &email.Message{
		From: email.Address{Name: "Shop", Address: from}, To: []email.Address{{Address: to}},
		Subject: fmt.Sprintf("Order %d", n), Text: "Thank you for your order.", HTML: "<p>Thank you for your order.</p>",
	}
}
