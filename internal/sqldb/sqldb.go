// Package sqldb is what the SQL stores of the domains share over database/sql:
// which dialect a database speaks, transactions that are repeated where that is
// safe, migrations, and what a driver's error means.
//
//	db, err := sqldb.New(ctx, pool)
//	…
//	err = db.Migrate(ctx, "payments", files)
//	…
//	err = db.InTx(ctx, func(tx sqldb.Tx) error {
//		n, err := tx.Exec(ctx, "update charges set state = ? where id = ? and state = ?", next, id, was)
//		…
//	})
//
// Queries are written once, with ? for each argument. Rules for a store:
//
//   - Times are columns of type bigint: milliseconds since 1970, see [Milli].
//   - A function given to [DB.InTx] may run more than once: nothing of it may
//     last but what it does through its [Tx].
//   - Errors are faults. Unavailable: nothing was done. Uncertain: the connection
//     was lost in the commit. What the function itself says comes back unchanged.
//
// The drivers are modernc.org/sqlite and github.com/jackc/pgx/v5/stdlib. Neither
// is compiled by this package: who opens the database imports the driver, so
// that a service compiles the one that it uses.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// Dialect is the language of a database.
type Dialect string

// The dialects. A store's migrations are in folders of these names.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// DB is a database whose dialect is known. It is safe for concurrent use, in any
// number of processes.
type DB struct {
	pool    *sql.DB
	dialect Dialect
	// writer is the right to write, of which SQLite has one in the whole file: its
	// goroutines line up here instead of polling for it. Nil elsewhere.
	writer chan struct{}
}

// New asks a database what it is. The pool stays the caller's. A file of SQLite
// must have been opened so that what was committed lasts, as [Open] does it; the
// error, of kind fault.Invalid, says what is wrong.
func New(ctx context.Context, pool *sql.DB) (*DB, error) {
	var version string
	err := pool.QueryRowContext(ctx, "select version()").Scan(&version)
	d := &DB{pool: pool}
	switch code, _, _ := answerOf(err); {
	case err == nil && strings.HasPrefix(version, "PostgreSQL"):
		d.dialect = Postgres
	case code == "1": // SQLite has no such function; and this driver's errors have codes
		d.dialect = SQLite
		d.writer = make(chan struct{}, 1)
		err = d.checkSettings(ctx)
	case err == nil:
		return nil, fault.New(fault.Invalid, errors.New("sqldb: the database is neither SQLite nor PostgreSQL"))
	}
	if err != nil {
		return nil, failure(ctx, err, connecting)
	}
	return d, nil
}

// Dialect is the language of the database.
func (d *DB) Dialect() Dialect { return d.dialect }

// checkSettings refuses what would lose transactions that were committed.
func (d *DB) checkSettings(ctx context.Context) error {
	for _, s := range []struct{ pragma, wants, values string }{
		{"journal_mode", "WAL", "wal"},
		{"synchronous", "FULL", "2 3"}, // 3 is EXTRA
	} {
		var is string
		if err := d.pool.QueryRowContext(ctx, "pragma "+s.pragma).Scan(&is); err != nil {
			return err
		}
		if !strings.Contains(s.values, is) {
			return fault.New(fault.Invalid, fmt.Errorf("sqldb: %s is %s: open the file with _pragma=%s(%s)", s.pragma, is, s.pragma, s.wants))
		}
	}
	return nil
}

// Milli is a time as it is stored: milliseconds since 1970, 0 where it is zero.
func Milli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Time is what [Milli] stored.
func Time(milli int64) time.Time {
	if milli == 0 {
		return time.Time{}
	}
	return time.UnixMilli(milli)
}
