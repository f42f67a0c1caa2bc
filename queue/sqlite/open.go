package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/smilefactory/integrations/fault"
)

// Sizes of the write-ahead log. When it has 32 MB, one of the commits copies it
// into the file, and takes some 30 ms longer; with 16 MB it would be two, and with
// 4 KB payloads more than one caller of a hundred would wait. Where a burst made it
// longer than 64 MB it is cut down.
const (
	checkpointPages = 8000
	maxLog          = 64 << 20
)

// dsn names a file, and the settings of each connection to it.
func dsn(path string, patience time.Duration) (string, error) {
	if path == "" || strings.HasPrefix(path, ":memory:") || strings.HasPrefix(path, "file:") {
		return "", fault.New(fault.Invalid, errors.New("sqlite: the path of a file is required"))
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fault.New(fault.Invalid, err)
	}
	settings := url.Values{"_txlock": {"immediate"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", patience.Milliseconds()),
		"synchronous(FULL)", "foreign_keys(ON)", "temp_store(MEMORY)",
		fmt.Sprintf("wal_autocheckpoint(%d)", checkpointPages), fmt.Sprintf("journal_size_limit(%d)", maxLog),
		"cache_size(-8000)", // KB
	}}
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: settings.Encode(), OmitHost: true}).String(), nil
}

func openStore(ctx context.Context, path string, patience time.Duration) (*store, error) {
	name, err := dsn(path, patience)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, fault.New(fault.Invalid, err)
	}
	s := &store{db: db, path: path}
	if s.id, err = prepareFile(ctx, db, patience); err == nil {
		err = s.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(kind(path, err), db.Close())
	}
	return s, nil
}

// prepareFile switches the file to a write-ahead log, which persists, and brings
// its tables up to date. It gives the queue's identity.
func prepareFile(ctx context.Context, db *sql.DB, patience time.Duration) (id string, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with it
	var mode string
	// The switch needs the file alone, and SQLite doesn't wait for that.
	err = untilUnlocked(ctx, patience, func() error {
		return conn.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
	})
	if err != nil {
		return "", err
	}
	if mode != "wal" {
		return "", fmt.Errorf("sqlite: the file can't have a write-ahead log, its journal is of the mode %s", mode)
	}
	return migrate(ctx, conn)
}

func untilUnlocked(ctx context.Context, patience time.Duration, do func() error) error {
	for end := time.Now().Add(patience); ; {
		err := do()
		if code(err) != sqlite3.SQLITE_BUSY || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A change is another file; what was released is never edited.
//
//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the tables up to date, in one transaction that other processes
// wait for.
func migrate(ctx context.Context, conn *sql.Conn) (id string, err error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return "", err
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to do
	_, err = tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS queue_schema (version INTEGER NOT NULL, id TEXT NOT NULL)`)
	if err != nil {
		return "", err
	}
	var version int
	err = tx.QueryRowContext(ctx, `SELECT version, id FROM queue_schema`).Scan(&version, &id)
	if errors.Is(err, sql.ErrNoRows) {
		err = tx.QueryRowContext(ctx, `INSERT INTO queue_schema VALUES (0, hex(randomblob(16))) RETURNING version, id`).Scan(&version, &id)
	}
	if err != nil {
		return "", err
	}
	if version > len(files) {
		return "", fault.New(fault.Unsupported, fmt.Errorf("sqlite: the queue's tables have version %d, this program knows %d", version, len(files)))
	}
	for n := version + 1; n <= len(files); n++ {
		if err := step(ctx, tx, n); err != nil {
			return "", fmt.Errorf("migration %d: %w", n, err)
		}
	}
	return id, tx.Commit()
}

func step(ctx context.Context, tx *sql.Tx, n int) error {
	statements, err := migrations.ReadFile(fmt.Sprintf("migrations/%d.sql", n))
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, string(statements)); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE queue_schema SET version = ?`, n)
	return err
}

// code is SQLite's primary result code of an error, 0 where it is of another kind.
func code(err error) int {
	if e, ok := errors.AsType[*driver.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

// meanings are in words what SQLite says in its own.
var meanings = map[int]string{
	sqlite3.SQLITE_BUSY: "another connection has locked it: ",
	sqlite3.SQLITE_FULL: "there is no room for it: ",
}

// kind makes an error of SQLite a fault that names the file. Whatever fails is
// rolled back, so nothing was done.
func kind(path string, err error) error {
	if _, ours := fault.As(err); ours || err == nil {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fault.New(fault.Canceled, err)
	}
	of := fault.Unavailable
	if code(err) == sqlite3.SQLITE_NOTADB {
		of = fault.Invalid
	}
	return fault.New(of, fmt.Errorf("queue/sqlite: %s: %s%w", path, meanings[code(err)], err))
}
