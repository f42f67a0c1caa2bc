package sendgrid_test

import (
	"context"
	"fmt"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/sendgrid"
	simulator "github.com/smilefactory/integrations/internal/sim/sendgrid"
	"github.com/smilefactory/integrations/secret"
)

func ExampleSender() {
	sg := simulator.New(simulator.Config{Key: "SG.test"}) // stands for SendGrid: drop it and BaseURL
	defer sg.Close()

	mail := sendgrid.Sender{Key: secret.Literal("SG.test"), BaseURL: sg.URL, HTTPClient: sg.Client()}
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
