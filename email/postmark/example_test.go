package postmark_test

import (
	"context"
	"fmt"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/postmark"
	simulator "github.com/smilefactory/integrations/internal/sim/postmark"
	"github.com/smilefactory/integrations/secret"
)

func ExampleSender() {
	pm := simulator.New(simulator.Config{Token: "pm-test"}) // stands for Postmark: drop it and BaseURL
	defer pm.Close()
	pm.Suppress("gone@example.org") // as a hard bounce would

	mail := postmark.Sender{Token: secret.Literal("pm-test"), BaseURL: pm.URL, HTTPClient: pm.Client()}
	receipt, err := mail.Send(context.Background(), &email.Message{
		ID:      "welcome-7",
		From:    email.Address{Name: "Ada", Address: "ada@example.com"},
		To:      []email.Address{{Address: "grace@example.org"}, {Address: "gone@example.org"}},
		Subject: "Hello",
		Text:    "How are you?",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(receipt.ID, receipt.Status, receipt.MessageID)
	for _, to := range receipt.Recipients {
		fmt.Println(to.Address, to.Status)
	}
	// Output:
	// welcome-7 accepted welcome-7@example.com
	// grace@example.org accepted
	// gone@example.org refused
}
