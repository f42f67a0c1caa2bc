package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/smilefactory/integrations/fault"
)

// busyTimeout is how long SQLite waits for another process's lock, in milliseconds.
const busyTimeout = 5000

// Open opens a database by its URL, and sees whether it answers:
//
//	sqlite:/var/lib/app/app.db            a file, made where it isn't there
//	postgres://app@db.internal:5432/app   anything that pgx takes
//
// A file is opened for several processes, and so that what was committed
// survives a power failure (WAL, synchronous=FULL). The program must import the
// driver. The caller closes the pool.
func Open(ctx context.Context, databaseURL string) (*sql.DB, error) {
	driver, source, err := parse(databaseURL)
	if err != nil {
		return nil, fault.New(fault.Invalid, err)
	}
	pool, err := sql.Open(driver, source)
	if err != nil {
		return nil, fault.New(fault.Invalid, fmt.Errorf("sqldb: %w", err))
	}
	if err := repeat(ctx, patience, func(patient context.Context) error { return failure(ctx, pool.PingContext(patient), connecting) }); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return pool, nil
}

// parse finds driver and data source.
func parse(databaseURL string) (driver, source string, err error) {
	switch scheme, rest, _ := strings.Cut(databaseURL, ":"); {
	case scheme == "sqlite" && rest != "":
		driver, source = "sqlite", sqliteSource(rest)
	case scheme == "postgres", scheme == "postgresql":
		driver, source = "pgx", databaseURL
	default: // without the URL, which may hold a password
		return "", "", errors.New("sqldb: the URL of a database begins with sqlite: and a path, or with postgres://")
	}
	if !slices.Contains(sql.Drivers(), driver) {
		return "", "", fmt.Errorf("sqldb: the program has no driver %q: import %s", driver, drivers[driver])
	}
	return driver, source, nil
}

var drivers = map[string]string{
	"sqlite": "modernc.org/sqlite",
	"pgx":    "github.com/jackc/pgx/v5/stdlib",
}

// sqliteSource is a URI as SQLite reads it (sqlite.org/uri.html), with the
// parameters of modernc.org/sqlite.
func sqliteSource(path string) string {
	u := url.URL{Scheme: "file", OmitHost: true, Path: path}
	return u.String() + fmt.Sprintf("?_pragma=busy_timeout(%d)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)", busyTimeout)
}
