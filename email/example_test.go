package email_test

import (
	"context"
	"fmt"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/fault"
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

// What is wrong with a message is said before anything is sent.
func ExampleMessage_Validate() {
	err := (&email.Message{From: email.Address{Address: "ada@example.com"}, Subject: "Hello", Text: "Hi"}).Validate()
	fmt.Println(err)
	// Output: invalid: email: to: at least one recipient is required in to, cc or bcc
}
