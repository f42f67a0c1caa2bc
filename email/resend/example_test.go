package resend_test

import (
	"context"
	"fmt"
	"net/http"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/resend"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/resend"
	"github.com/smilefactory/integrations/secret"
)

func ExampleSender() {
	rs := simulator.New(simulator.Config{Key: "re_test"}) // stands for Resend: drop it and BaseURL
	defer rs.Close()

	mail := resend.Sender{Key: secret.Literal("re_test"), BaseURL: rs.URL, HTTPClient: rs.Client()}
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

// A password reset that must not arrive twice, and needn't be lost either: Resend
// takes it, and its answer is lost. The Client asks again, under the same key.
func ExampleSender_atMostOnce() {
	rs := simulator.New(simulator.Config{Key: "re_test"})
	defer rs.Close()
	rs.Next(sim.Step{Reset: sim.AfterActing})

	var backup emailtest.Outbox
	mail, err := email.New(
		resend.Sender{Key: secret.Literal("re_test"), BaseURL: rs.URL, HTTPClient: &http.Client{Transport: rs.Client().Transport}},
		email.WithBackup(&backup),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := mail.Send(context.Background(), &email.Message{
		AtMostOnce: true,
		From:       email.Address{Name: "Ada", Address: "ada@example.com"},
		To:         []email.Address{{Address: "grace@example.org"}},
		Subject:    "Your new password",
		Text:       "https://example.com/reset",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(receipt.Provider, receipt.Attempts, "attempts")
	fmt.Println(rs.Mails.Len(), "mail at Resend,", len(backup.Sent()), "at the backup")
	// Output:
	// resend 2 attempts
	// 1 mail at Resend, 0 at the backup
}
