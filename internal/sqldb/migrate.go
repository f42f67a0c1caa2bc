package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// migrationPatience is how long one process waits for the migration of another.
const migrationPatience = time.Minute

// Migrate brings a store's tables up to date. The files are migrations as goose
// reads them, in a folder for each dialect: sqlite/00001_receipts.sql. What was
// released is never edited: a change is another file. The table STORE_migrations
// notes which ones the database has had.
//
// Each file is one transaction. Processes that start at once go one by one; what
// a newer program has migrated is left alone. Where nothing is to be done, no
// right to write is needed.
func (d *DB) Migrate(ctx context.Context, store string, files fs.FS) error {
	err := d.migrate(ctx, store, files)
	if err != nil {
		err = fmt.Errorf("sqldb: bring the tables of %s up to date: %w", store, err)
	}
	return failure(ctx, err, connecting)
}

func (d *DB) migrate(ctx context.Context, store string, files fs.FS) error {
	files, err := fs.Sub(files, string(d.dialect))
	if err != nil {
		return err
	}
	m, err := newMigration(d.dialect, store)
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectCustom, d.pool, files,
		goose.WithStore(m), goose.WithSessionLocker(m), goose.WithIsolateDDL(true), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	have, err := m.version(ctx, d.pool)
	if err != nil {
		return err
	}
	for _, s := range p.ListSources() {
		if s.Version <= have {
			continue
		}
		err := repeat(ctx, migrationPatience, func(context.Context) error {
			_, err := p.ApplyVersion(ctx, s.Version, true)
			if errors.Is(err, goose.ErrAlreadyApplied) { // by another process
				return nil
			}
			return failure(ctx, err, open)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// migration lets goose do all that belongs to one file in one transaction, which
// begins with a lock: goose by itself has none for SQLite. It stands where goose
// asks for a lock of its connection, and for the table of what was done.
type migration struct {
	database.Store
	dialect Dialect
	lock    int64
	applied bool
}

func newMigration(dialect Dialect, store string) (*migration, error) {
	name := map[Dialect]database.Dialect{SQLite: database.DialectSQLite3, Postgres: database.DialectPostgres}[dialect]
	table, err := database.NewStore(name, store+"_migrations")
	if err != nil {
		return nil, err
	}
	h := fnv.New64a()
	h.Write([]byte("sqldb\x00" + store))
	return &migration{Store: table, dialect: dialect, lock: int64(h.Sum64())}, nil //nolint:gosec // any 64 bits do
}

// SessionLock begins the transaction, and makes goose's table where there is none.
func (m *migration) SessionLock(ctx context.Context, conn *sql.Conn) error {
	m.applied = false
	err := m.begin(ctx, conn)
	if err != nil {
		return err
	}
	exists, err := m.TableExists(ctx, conn)
	if err == nil && !exists {
		if err = m.CreateVersionTable(ctx, conn); err == nil {
			err = m.Store.Insert(ctx, conn, database.InsertRequest{Version: 0})
		}
	}
	if err != nil {
		return errors.Join(err, m.SessionUnlock(context.WithoutCancel(ctx), conn))
	}
	return nil
}

func (m *migration) begin(ctx context.Context, conn *sql.Conn) error {
	if m.dialect == SQLite {
		_, err := conn.ExecContext(ctx, "begin immediate")
		return err
	}
	if _, err := conn.ExecContext(ctx, "begin isolation level read committed"); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "select pg_advisory_xact_lock($1)", m.lock); err != nil {
		return errors.Join(err, m.SessionUnlock(context.WithoutCancel(ctx), conn))
	}
	return nil
}

// Insert notes that the migration has been done.
func (m *migration) Insert(ctx context.Context, db database.DBTxConn, req database.InsertRequest) error {
	err := m.Store.Insert(ctx, db, req)
	m.applied = err == nil
	return err
}

// SessionUnlock ends the transaction.
func (m *migration) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	end := "rollback"
	if m.applied {
		end = "commit"
	}
	_, err := conn.ExecContext(ctx, end)
	if err == nil {
		return nil
	}
	_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // it isn't known in which state it is
	if !m.applied {
		return nil // something failed before, which is told
	}
	return err
}

// TableExists tells whether goose's table is there. In PostgreSQL to_regclass
// might answer from what the connection knew before it had the lock.
func (m *migration) TableExists(ctx context.Context, db database.DBTxConn) (exists bool, err error) {
	query := "select exists (select from pg_class where relname = $1 and pg_table_is_visible(oid))"
	if m.dialect == SQLite {
		query = "select exists (select 1 from sqlite_schema where type = 'table' and name = $1)"
	}
	err = db.QueryRowContext(ctx, query, m.Tablename()).Scan(&exists)
	return exists, err
}

// version is that of the newest migration that the database has had, or 0.
func (m *migration) version(ctx context.Context, pool *sql.DB) (int64, error) {
	exists, err := m.TableExists(ctx, pool)
	if err != nil || !exists {
		return 0, err
	}
	return m.GetLatestVersion(ctx, pool)
}
