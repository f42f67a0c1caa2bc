package paymentsql_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/internal/sqldbtest"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymentsql"
	"github.com/smilefactory/integrations/payment/paymenttest"
)

// TestMain is another process's too: one that dies while it writes.
func TestMain(m *testing.M) {
	if databaseURL := os.Getenv("PAYMENTSQL_DIES"); databaseURL != "" {
		fmt.Fprintln(os.Stderr, dies(context.Background(), databaseURL, os.Getenv("PAYMENTSQL_WHERE")))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// open opens the journal of a database, in which a service has a table of its own.
func open(t testing.TB, databaseURL string) (*paymentsql.Journal, *sql.DB) {
	t.Helper()
	pool := sqldbtest.Open(t, databaseURL)
	j, err := paymentsql.Open(t.Context(), pool)
	require.NoError(t, err)
	_, err = pool.ExecContext(t.Context(), "create table if not exists delivery (order_id text not null, note text not null)")
	require.NoError(t, err)
	return j, pool
}

// deliver is what a handler does in the journal's transaction.
func deliver(ctx context.Context, orderID, note string) error {
	tx, ok := paymentsql.Tx(ctx)
	if !ok {
		return fmt.Errorf("the context of order %s has no transaction", orderID)
	}
	_, err := tx.ExecContext(ctx, "insert into delivery values ($1, $2)", orderID, note)
	return err
}

// count is the answer to a query of one number.
func count(t testing.TB, pool *sql.DB, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRowContext(t.Context(), query, args...).Scan(&n))
	return n
}

func client(t *testing.T, j payment.Journal, g payment.Gateway, options ...payment.Option) *payment.Client {
	t.Helper()
	pay, err := payment.New(g, append([]payment.Option{payment.WithJournal(j)}, options...)...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pay.Close(context.WithoutCancel(t.Context()))) })
	return pay
}

func usd(minor int64) payment.Money { return payment.Money{Minor: minor, Currency: "USD"} }

func order(id string) *payment.Order {
	return &payment.Order{
		ID: id, Amount: usd(1999), User: "user-42", Methods: map[string]payment.Method{"bank": {ID: paymenttest.Good}},
		ReturnURL: "https://shop.example.com/paid",
	}
}

// rule is a test of what is so in both dialects, with the URL of an empty database.
type rule struct {
	name string
	test func(t *testing.T, databaseURL string)
}

func TestSQLite(t *testing.T) { keeps(t, sqldbtest.SQLite) }

func TestIntegrationPostgres(t *testing.T) { keeps(t, sqldbtest.Postgres) }

func keeps(t *testing.T, database func(testing.TB) string) {
	paymenttest.RunJournal(t, func(t *testing.T) payment.Journal {
		j, _ := open(t, database(t))
		return j
	})
	for _, r := range append(rules, crashRules...) {
		t.Run(r.name, func(t *testing.T) { r.test(t, database(t)) })
	}
}
