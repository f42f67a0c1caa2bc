package postgres

import (
	"context"
	"embed"
	"errors"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// What was released is never edited: a change is another file.
//
//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date. Where it is, nothing is written and no
// right to do so is needed; where others do the same, they go one by one.
func (s *store) migrate(ctx context.Context) error {
	cfg := s.pool.Config()
	// The files name no schema.
	here := stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "set search_path to "+s.schema)
		return err
	})
	options := []stdlib.OptionOpenDB{here}
	if cfg.BeforeConnect != nil {
		options = append(options, stdlib.OptionBeforeConnect(cfg.BeforeConnect))
	}
	db := stdlib.OpenDB(*cfg.ConnConfig, options...)
	defer db.Close() //nolint:errcheck // nothing is lost with it
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithTableName("migrations"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	sources := p.ListSources()
	have, err := s.version(ctx)
	if err != nil || have >= sources[len(sources)-1].Version {
		return err
	}
	lock, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer lock.Release()
	if _, err := lock.Exec(ctx, "select pg_advisory_lock($1)", s.seed); err != nil {
		return err
	}
	defer func() {
		if _, err := lock.Exec(context.WithoutCancel(ctx), "select pg_advisory_unlock($1)", s.seed); err != nil {
			_ = lock.Conn().Close(context.WithoutCancel(ctx)) // which unlocks, too
		}
	}()
	if _, err := lock.Exec(ctx, "create schema if not exists "+s.schema); err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// version is that of the newest migration that the database has, 0 where there is none.
func (s *store) version(ctx context.Context) (v int64, err error) {
	err = s.pool.QueryRow(ctx, "select coalesce(max(version_id), 0) from "+s.schema+".migrations where is_applied").Scan(&v)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && (e.Code == undefinedTable || e.Code == undefinedSchema) {
		return 0, nil
	}
	return v, err
}
