package paymentsql_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver

	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymentsql"
	"github.com/smilefactory/integrations/payment/paymenttest"
)

// A service that is asked twice for the same order, as after a restart, takes
// the money once.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	var provider paymenttest.Bank // stands for a real one
	for range 2 {
		if err := charge(filepath.Join(dir, "shop.db"), &provider, nil); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(len(provider.Charges("order-4711")), "charge")
	// Output:
	// succeeded 19.99 USD
	// succeeded 19.99 USD
	// 1 charge
}

// What is to be done for an order that is paid is noted in the service's own
// table, in the transaction that notes the payment: exactly once.
func ExampleTx() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	handler := func(ctx context.Context, e payment.Event) error {
		if e.Type != payment.OrderChanged || e.Result.Status != payment.Succeeded {
			return nil
		}
		tx, ok := paymentsql.Tx(ctx)
		if !ok {
			return fmt.Errorf("order %s: no transaction", e.Order)
		}
		_, err := tx.ExecContext(ctx, "insert into delivery (order_id) values ($1)", e.Order)
		return err
	}
	var provider paymenttest.Bank
	for range 2 {
		if err := charge(filepath.Join(dir, "shop.db"), &provider, handler); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// succeeded 19.99 USD, 1 delivery
	// succeeded 19.99 USD, 1 delivery
}

// charge makes everything anew, as if the service had been started again.
func charge(path string, provider payment.Gateway, handler payment.Handler) error {
	ctx := context.Background()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "create table if not exists delivery (order_id text primary key)"); err != nil {
		return err
	}
	journal, err := paymentsql.Open(ctx, db)
	if err != nil {
		return err
	}
	pay, err := payment.New(provider, payment.WithJournal(journal), payment.WithHandler(handler))
	if err != nil {
		return err
	}
	result, err := pay.Charge(ctx, &payment.Order{
		ID: "order-4711", Amount: payment.Money{Minor: 1999, Currency: "USD"}, Methods: map[string]payment.Method{"bank": {ID: "pm_1"}},
	})
	if err != nil {
		return err
	}
	fmt.Print(result.Status, " ", result.Captured)
	if handler != nil {
		var n int
		if err := db.QueryRowContext(ctx, "select count(*) from delivery").Scan(&n); err != nil {
			return err
		}
		fmt.Print(", ", n, " delivery")
	}
	fmt.Println()
	return pay.Close(ctx)
}
