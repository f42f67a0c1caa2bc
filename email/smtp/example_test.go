package smtp_test

import (
	"context"
	"crypto/tls"
	"fmt"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/smtp"
	simulator "github.com/smilefactory/integrations/internal/sim/smtp"
	"github.com/smilefactory/integrations/secret"
)

func ExampleNew() {
	server := simulator.New(simulator.Config{Username: "ada", Password: "secret"}) // stands for a real one: drop it and TLSConfig
	defer server.Close()

	mail, err := smtp.New(smtp.Config{
		Addr: server.Addr, Username: "ada", Password: secret.Literal("secret"),
		TLSConfig: &tls.Config{RootCAs: server.Pool, MinVersion: tls.VersionTLS12},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = mail.Close() }()
	receipt, err := mail.Send(context.Background(), &email.Message{
		ID:      "welcome-7",
		From:    email.Address{Name: "Ada", Address: "ada@example.com"},
		To:      []email.Address{{Address: "grace@example.org"}},
		Subject: "Hello",
		Text:    "How are you?",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(receipt.ID, receipt.Status)
	// Output: welcome-7 accepted
}
