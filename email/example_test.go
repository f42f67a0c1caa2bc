package email_test

import (
	"context"
	"fmt"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/fault"
	simulator "github.com/smilefactory/integrations/internal/sim/sendgrid"
	"github.com/smilefactory/integrations/secret"
)

// The primary has used up its quota, so the backup takes the mail.
func ExampleClient_Send() {
	primary, backup := &emailtest.Outbox{}, &named{Outbox: &emailtest.Outbox{}}
	primary.FailAlways(fault.New(fault.Exhausted, nil))
	mail, err := email.New(primary, email.WithBackup(backup))
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := mail.Send(context.Background(), &email.Message{
		From:    email.Address{Name: "Ada", Address: "ada@example.com"},
		To:      []email.Address{{Address: "grace@example.org"}},
		Subject: "Hello",
		Text:    "How are you?",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(receipt.Provider, receipt.Attempts, receipt.Status)
	// Output: backup 2 accepted
}

// Two accounts of one provider: the second takes over where the first is refused.
func ExampleNamed() {
	sg := simulator.New(simulator.Config{Key: "SG.us"}) // stands for SendGrid: drop it, BaseURL and HTTPClient
	defer sg.Close()

	account := func(key string) sendgrid.Sender {
		return sendgrid.Sender{Key: secret.Literal(key), BaseURL: sg.URL, HTTPClient: sg.Client()}
	}
	mail, err := email.New(email.Named("sendgrid-eu", account("SG.revoked")),
		email.WithBackup(email.Named("sendgrid-us", account("SG.us"))))
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := mail.Send(context.Background(), &email.Message{
		From:    email.Address{Name: "Ada", Address: "ada@example.com"},
		To:      []email.Address{{Address: "grace@example.org"}},
		Subject: "Hello",
		Text:    "How are you?",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(receipt.Provider, receipt.Attempts)
	// Output: sendgrid-us 2
}

// What is wrong with a message is said before anything is sent.
func ExampleMessage_Validate() {
	err := (&email.Message{From: email.Address{Address: "ada@example.com"}, Subject: "Hello", Text: "Hi"}).Validate()
	fmt.Println(err)
	// Output: invalid: email: to: at least one recipient is required in to, cc or bcc
}
