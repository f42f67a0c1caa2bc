package emailsql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailsql"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/fault"
)

// A service that is asked twice for the same order, as after a restart, sends one mail.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	var provider emailtest.Outbox // stands for a real one
	path := filepath.Join(dir, "mail.db")

	order := &email.Message{
		From:           email.Address{Address: "shop@example.com"},
		To:             []email.Address{{Address: "grace@example.org"}},
		Subject:        "Your order",
		Text:           "Thank you.",
		IdempotencyKey: "0198f3c2-7a41-7c1e-9d52-2b8e6f0c4a11",
	}
	first, err := send(path, &provider, order)
	fmt.Println(first.Status, err)
	again, err := send(path, &provider, order)
	fmt.Println(again.ID == first.ID, err, len(provider.Sent()))

	order.Text = "Thank you very much."
	_, err = send(path, &provider, order)
	fmt.Println(errors.Is(err, fault.Conflict), errors.Is(err, email.ErrKeyReused))
	// Output:
	// accepted <nil>
	// true <nil> 1
	// true true
}

// send makes everything anew, as if the service had been started again.
func send(path string, primary email.Sender, m *email.Message) (*email.Receipt, error) {
	ctx := context.Background()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	receipts, err := emailsql.Open(ctx, db)
	if err != nil {
		return nil, err
	}
	mail, err := email.New(primary, email.WithReceipts(receipts, 24*time.Hour))
	if err != nil {
		return nil, err
	}
	return mail.Send(ctx, m)
}
