// Package sqldbtest gives tests of SQL stores databases that nobody else uses.
// They are named by URL, so that a test can open one twice, and hand it to
// another process.
package sqldbtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // driver pgx
	_ "modernc.org/sqlite"             // driver sqlite

	"github.com/smilefactory/integrations/internal/servertest"
	"github.com/smilefactory/integrations/internal/sqldb"
)

// SQLite is the URL of a file that isn't there yet.
func SQLite(t testing.TB) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "test.db")
}

// Postgres is the URL of an empty schema at the server that scripts/servers
// started, which is dropped when the test has ended. Without a server the test
// is skipped.
func Postgres(t testing.TB) string {
	t.Helper()
	u, err := url.Parse(servertest.Env(t, "INTEGRATIONS_POSTGRES_URL"))
	if err != nil {
		t.Fatal(err)
	}
	schema := "test_" + strings.ToLower(rand.Text())
	pool := Open(t, u.String())
	exec(t, pool, "create schema "+schema)
	t.Cleanup(func() { exec(t, pool, "drop schema "+schema+" cascade") })
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	return u.String()
}

func exec(t testing.TB, pool *sql.DB, query string) {
	t.Helper()
	if _, err := pool.ExecContext(context.WithoutCancel(t.Context()), query); err != nil {
		t.Error(err)
	}
}

// Open opens a database until the test has ended.
func Open(t testing.TB, databaseURL string) *sql.DB {
	t.Helper()
	pool, err := sqldb.Open(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(16) // PostgreSQL has a hundred for all
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	return pool
}
