package file_test

import (
	"context"
	"fmt"
	"os"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/file"
)

func ExampleSender() {
	dir, err := os.MkdirTemp("", "mail") // or "mail": any mail client can open it
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()

	mail, err := email.New(file.Sender{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := mail.Send(context.Background(), &email.Message{
		ID:      "welcome-7",
		From:    email.Address{Name: "Ada", Address: "ada@example.com"},
		To:      []email.Address{{Address: "grace@example.org"}},
		Bcc:     []email.Address{{Address: "archive@example.com"}},
		Subject: "Hello",
		Text:    "How are you?",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	mails, err := os.ReadDir(dir + "/new")
	fmt.Println(receipt.ID, receipt.MessageID, len(mails), err)
	// Output: welcome-7 welcome-7@example.com 1 <nil>
}
