package emailtest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/fault"
)

// Shop is a service that sends mail: it asks for no more than an email.Sender.
type Shop struct{ Mail email.Sender }

// Order thanks the customer. An order stands though its mail can't be sent.
func (s Shop) Order(ctx context.Context, customer string) (thanked bool, err error) {
	_, err = s.Mail.Send(ctx, &email.Message{
		From:    email.Address{Name: "Shop", Address: "shop@example.com"},
		To:      []email.Address{{Address: customer}},
		Subject: "Your order",
		Text:    "Thank you for your order.",
	})
	if errors.Is(err, fault.Invalid) {
		return false, err
	}
	return err == nil, nil
}

// An Outbox stands where the Client does in production.
func ExampleOutbox() {
	t := new(testing.T) // that of your test
	var outbox emailtest.Outbox
	shop := Shop{Mail: &outbox}

	fmt.Println(shop.Order(context.Background(), "grace@example.org"))
	mail := outbox.RequireSent(t, "grace@example.org", 1)[0]
	fmt.Println(mail.Subject)

	outbox.Fail(fault.New(fault.Unavailable, nil)) // the next mail alone
	fmt.Println(shop.Order(context.Background(), "grace@example.org"))
	// Output:
	// true <nil>
	// Your order
	// false <nil>
}

// What the caller does while the provider hangs.
func ExampleOutbox_Delay() {
	var outbox emailtest.Outbox
	outbox.Delay(time.Hour)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()

	fmt.Println(Shop{Mail: &outbox}.Order(ctx, "grace@example.org"))
	// Output: false <nil>
}
