package sqldb_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/internal/sqldb"
	"github.com/smilefactory/integrations/internal/sqldbtest"
)

// TestMain is another process's too: one that only migrates.
func TestMain(m *testing.M) {
	if databaseURL := os.Getenv("SQLDB_MIGRATE"); databaseURL != "" {
		if err := migrateOnly(context.Background(), databaseURL); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func migrateOnly(ctx context.Context, databaseURL string) error {
	pool, err := sqldb.Open(ctx, databaseURL)
	if err != nil {
		return err
	}
	db, err := sqldb.New(ctx, pool)
	if err != nil {
		return err
	}
	return db.Migrate(ctx, "accounts", accounts)
}

// another starts this program as a process that migrates.
func another(t *testing.T, databaseURL string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "SQLDB_MIGRATE="+databaseURL)
	cmd.Stderr = &strings.Builder{}
	require.NoError(t, cmd.Start())
	return cmd
}

// The same SQL in both dialects, which here is possible.
const (
	first = `-- +goose Up
create table account (id text primary key, cents bigint not null check (cents >= 0));
create table runs (n bigint not null);
insert into runs values (1);
`
	second = `-- +goose Up
insert into runs values (2);
insert into account values ('ada', 100);
insert into account values ('grace', 100);
`
)

var accounts = files("00001_account.sql", first, "00002_ada.sql", second)

// files are migrations by name and content.
func files(of ...string) fstest.MapFS {
	out := fstest.MapFS{}
	for i := 0; i < len(of); i += 2 {
		for _, d := range []sqldb.Dialect{sqldb.SQLite, sqldb.Postgres} {
			out[string(d)+"/"+of[i]] = &fstest.MapFile{Data: []byte(of[i+1])}
		}
	}
	return out
}

// rule is a test of what is so in both dialects, with the URL of an empty database.
type rule struct {
	name string
	test func(t *testing.T, databaseURL string)
}

var rules = [][]rule{migrateRules, txRules, faultRules}

func TestSQLite(t *testing.T) { keeps(t, sqldbtest.SQLite) }

func TestIntegrationPostgres(t *testing.T) { keeps(t, sqldbtest.Postgres) }

func keeps(t *testing.T, database func(testing.TB) string) {
	for _, some := range rules {
		for _, r := range some {
			t.Run(r.name, func(t *testing.T) { r.test(t, database(t)) })
		}
	}
}

// open opens a database, whose tables aren't there yet.
func open(t *testing.T, databaseURL string) (*sqldb.DB, *sql.DB) {
	t.Helper()
	pool := sqldbtest.Open(t, databaseURL)
	db, err := sqldb.New(t.Context(), pool)
	require.NoError(t, err)
	return db, pool
}

// bank is a database with the accounts.
func bank(t *testing.T, databaseURL string) (*sqldb.DB, *sql.DB) {
	t.Helper()
	db, pool := open(t, databaseURL)
	require.NoError(t, db.Migrate(t.Context(), "accounts", accounts))
	return db, pool
}

func cents(t *testing.T, pool *sql.DB, id string) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRowContext(t.Context(), "select cents from account where id = $1", id).Scan(&n))
	return n
}
