package emailsql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailsql"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/internal/sqldb"
	"github.com/smilefactory/integrations/internal/sqldbtest"
)

// TestMain is another process's too: one that dies while it sends.
func TestMain(m *testing.M) {
	if databaseURL := os.Getenv("EMAILSQL_DIES"); databaseURL != "" {
		fmt.Fprintln(os.Stderr, dies(context.Background(), databaseURL, os.Getenv("EMAILSQL_ONCE") != ""))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// reaper takes a mail and kills its process.
type reaper struct{}

func (reaper) Name() string { return "reaper" }

func (reaper) Send(context.Context, *email.Message) (*email.Receipt, error) {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // it is on its way
}

func dies(ctx context.Context, databaseURL string, once bool) error {
	pool, err := sqldb.Open(ctx, databaseURL)
	if err != nil {
		return err
	}
	receipts, err := emailsql.Open(ctx, pool)
	if err != nil {
		return err
	}
	c, err := email.New(reaper{}, email.WithReceipts(receipts, 0))
	if err != nil {
		return err
	}
	m := order()
	m.AtMostOnce = once
	_, err = c.Send(ctx, m)
	return errors.Join(errors.New("it lives on"), err)
}

// killed lets a process die between Begin and End.
func killed(t *testing.T, databaseURL string, once bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "EMAILSQL_DIES="+databaseURL)
	if once {
		cmd.Env = append(cmd.Env, "EMAILSQL_ONCE=1")
	}
	said, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), "%s", said)
}

func order() *email.Message {
	return &email.Message{
		From:           email.Address{Address: "shop@example.com"},
		To:             []email.Address{{Address: "grace@example.org"}},
		Subject:        "Order 4711",
		Text:           "Thank you.",
		IdempotencyKey: "order-4711",
	}
}

// open opens the receipts of a database.
func open(t testing.TB, databaseURL string) (*emailsql.Receipts, *sql.DB) {
	t.Helper()
	pool := sqldbtest.Open(t, databaseURL)
	r, err := emailsql.Open(t.Context(), pool)
	require.NoError(t, err)
	return r, pool
}

// minutesLater is the same as waiting until nobody hears any more of what is in progress.
func minutesLater(t *testing.T, pool *sql.DB) {
	t.Helper()
	_, err := pool.ExecContext(t.Context(), "update email_receipts set began = 0 where receipt is null")
	require.NoError(t, err)
}

// rule is a test of what is so in both dialects, with the URL of an empty database.
type rule struct {
	name string
	test func(t *testing.T, databaseURL string)
}

func TestSQLite(t *testing.T) { keeps(t, sqldbtest.SQLite) }

func TestIntegrationPostgres(t *testing.T) { keeps(t, sqldbtest.Postgres) }

func keeps(t *testing.T, database func(testing.TB) string) {
	emailtest.RunReceipts(t, func(t *testing.T) email.Receipts {
		r, _ := open(t, database(t))
		return r
	})
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) { r.test(t, database(t)) })
	}
}
