package ses_test

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/ses"
	simulator "github.com/smilefactory/integrations/internal/sim/ses"
)

func ExampleNew() {
	server := simulator.New(simulator.Config{AccessKeyID: "AKEXAMPLE"}) // stands for SES: drop it and WithBaseURL
	defer server.Close()

	mail := ses.New(aws.Config{ // or what config.LoadDefaultConfig found
		Region:      "eu-west-1",
		Credentials: credentials.NewStaticCredentialsProvider("AKEXAMPLE", "secret", ""),
	}, ses.WithBaseURL(server.URL))
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
