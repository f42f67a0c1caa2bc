package email_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/email/ses"
	"github.com/smilefactory/integrations/fault"
	sendgridsim "github.com/smilefactory/integrations/internal/sim/sendgrid"
	sessim "github.com/smilefactory/integrations/internal/sim/ses"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/secret"
)

// SendGrid, with Amazon SES behind it. The simulators stand for both: drop them,
// BaseURL and HTTPClient.
func ExampleNew() {
	sg, amazon := sendgridsim.New(sendgridsim.Config{Key: "SG.key"}), sessim.New(sessim.Config{AccessKeyID: "AKEXAMPLE"})
	defer sg.Close()
	defer amazon.Close()
	cfg := aws.Config{ // or what config.LoadDefaultConfig found
		Region: "eu-west-1", Credentials: credentials.NewStaticCredentialsProvider("AKEXAMPLE", "secret", ""), HTTPClient: amazon.Client(),
	}

	mail, err := email.New(
		sendgrid.Sender{Key: secret.Literal("SG.key"), BaseURL: sg.URL, HTTPClient: sg.Client()},
		email.WithBackup(ses.New(cfg, ses.WithBaseURL(amazon.URL))),
	)
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
	fmt.Println(receipt.Provider, receipt.Status)
	// Output: sendgrid accepted
}

// greeting is a mail of which the examples need no more.
func greeting() *email.Message {
	return &email.Message{
		From:    email.Address{Name: "Ada", Address: "ada@example.com"},
		To:      []email.Address{{Address: "grace@example.org"}},
		Subject: "Hello",
		Text:    "How are you?",
	}
}

// The primary has used up its quota, so the backup takes the mail.
func ExampleClient_Send() {
	var primary, backup emailtest.Outbox
	primary.FailAlways(fault.New(fault.Exhausted, nil))
	mail, err := email.New(email.Named("primary", &primary), email.WithBackup(email.Named("backup", &backup)))
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := mail.Send(context.Background(), greeting())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(receipt.Provider, receipt.Attempts, receipt.Status)
	// Output: backup 2 accepted
}

// Two accounts of one provider: the second takes over where the first is refused.
func ExampleNamed() {
	sg := sendgridsim.New(sendgridsim.Config{Key: "SG.us"}) // stands for SendGrid: drop it, BaseURL and HTTPClient
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
	receipt, err := mail.Send(context.Background(), greeting())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(receipt.Provider, receipt.Attempts)
	// Output: sendgrid-us 2
}

// A policy is copied from the default and changed. Here no provider is asked
// twice, and none may take longer than a second.
func ExampleWithPolicy() {
	var primary, backup emailtest.Outbox
	primary.FailAlways(fault.New(fault.Unavailable, nil))

	policy := resilience.Default
	policy.Retries = 0
	policy.Timeout = time.Second
	mail, err := email.New(email.Named("primary", &primary), email.WithBackup(email.Named("backup", &backup)), email.WithPolicy(policy))
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := mail.Send(context.Background(), greeting())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(receipt.Provider, receipt.Attempts)
	// Output: backup 2
}

// The provider took the mail, and its answer was lost. A mail that must not go
// twice isn't sent again, and the error says that nobody knows.
func ExampleMessage_atMostOnce() {
	var primary, backup emailtest.Outbox
	mail, err := email.New(email.Named("primary", &primary), email.WithBackup(email.Named("backup", &backup)))
	if err != nil {
		fmt.Println(err)
		return
	}

	reset := greeting()
	reset.AtMostOnce = true
	primary.FailAfter(fault.New(fault.Uncertain, errors.New("connection reset")))
	_, err = mail.Send(context.Background(), reset)
	fmt.Println(errors.Is(err, fault.Uncertain), len(primary.Sent()), len(backup.Sent()))

	primary.FailAfter(fault.New(fault.Uncertain, errors.New("connection reset")))
	receipt, err := mail.Send(context.Background(), greeting()) // by default it goes again
	fmt.Println(receipt.Status, err, len(primary.Sent()), len(backup.Sent()))
	// Output:
	// true 1 0
	// accepted <nil> 3 0
}

// What is wrong with a message is said before anything is sent.
func ExampleMessage_Validate() {
	m := greeting()
	m.To = nil
	m.Subject = "Hello\r\nBcc: everybody@example.org"
	err := m.Validate()
	fmt.Println(errors.Is(err, fault.Invalid))
	fmt.Println(err)
	// Output:
	// true
	// invalid: email: to: at least one recipient is required in to, cc or bcc
	// email: subject: must not contain CR, LF or NUL
}
