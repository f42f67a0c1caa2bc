package paymentsql_test

import (
	"database/sql"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/internal/sqldbtest"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymentsql"
	"github.com/smilefactory/integrations/payment/paymenttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens the journal of a database.
func open(t testing.TB, databaseURL string) (*paymentsql.Journal, *sql.DB) {
	t.Helper()
	pool := sqldbtest.Open(t, databaseURL)
	j, err := paymentsql.Open(t.Context(), pool)
	require.NoError(t, err)
	return j, pool
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
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) { r.test(t, database(t)) })
	}
}
