package river

import (
	"context"
	"embed"
	"errors"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// What was released is never edited: a change is another file.
//
//go:embed migrations/*.sql
var migrations embed.FS

// versions is the table that says which migrations there were. It lies beside
// River's, so it has a name of its own.
const versions = "integrations_river_migrations"

// migrate brings our table up to date. Where it is, nothing is written and no right
// to do so is needed; where others do the same, they go one by one.
func (s *store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	// What waits for the lock asks once a second, for a minute.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return err
	}
	db := stdlib.OpenDB(*s.pool.Config().ConnConfig, s.connecting()...)
	defer db.Close() //nolint:errcheck // nothing is lost with it
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(versions), goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	sources := p.ListSources()
	have, err := s.version(ctx)
	if err != nil || have >= sources[len(sources)-1].Version {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// connecting makes connections as the pool does, for files that name no schema.
func (s *store) connecting() []stdlib.OptionOpenDB {
	options := []stdlib.OptionOpenDB{stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "set search_path to "+pgx.Identifier{s.schema}.Sanitize())
		return err
	})}
	if before := s.pool.Config().BeforeConnect; before != nil {
		options = append(options, stdlib.OptionBeforeConnect(before))
	}
	return options
}

// version is that of the newest migration that the database has, 0 where there is none.
func (s *store) version(ctx context.Context) (v int64, err error) {
	err = s.pool.QueryRow(ctx, s.sql("select coalesce(max(version_id), 0) from {schema}."+versions+" where is_applied")).Scan(&v)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == undefinedTable {
		return 0, nil
	}
	return v, err
}
