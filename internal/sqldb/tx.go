package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strconv"
	"strings"
)

// Tx runs statements in a transaction. The first one that fails ends it: those
// behind it answer the same error, and nothing is committed. It is for one
// goroutine, until the function that got it returns.
type Tx struct{ *session }

type session struct {
	on      statements
	dialect Dialect
	failed  error
}

// statements is a *sql.Tx, or a *sql.Conn for what only reads.
type statements interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// InTx runs a function in a transaction of its own, which is committed where it
// returns nil, and else leaves nothing behind. It runs the function again, for
// at most five seconds, where others were in the way (a lock of SQLite, a
// deadlock, a serialization failure) or the connection was lost before the
// commit. In SQLite nobody else writes meanwhile; in PostgreSQL the level is READ
// COMMITTED, and rows that are read to be written are read with [Tx.ForUpdate].
func (d *DB) InTx(ctx context.Context, do func(Tx) error) error {
	return repeat(ctx, patience, func(patient context.Context) error { return d.once(ctx, patient, do) })
}

// Within runs a function as a part of somebody else's transaction, in a
// savepoint: where it fails, the transaction is as it was before, as long as the
// connection lasts. Nothing is repeated, since only the owner can repeat the whole.
func (d *DB) Within(ctx context.Context, tx *sql.Tx, do func(Tx) error) error {
	exec := func(query string) error {
		_, err := tx.ExecContext(context.WithoutCancel(ctx), query)
		return failure(ctx, err, open)
	}
	if err := exec("savepoint sqldb"); err != nil {
		return err
	}
	err := d.run(tx, do)
	if err != nil {
		_ = exec("rollback to savepoint sqldb") // which the loss of the connection did, too
	}
	return errors.Join(err, exec("release savepoint sqldb"))
}

// Read runs a function whose statements only read. They are no transaction: each
// sees what is committed by then, and none waits for who writes. It is repeated
// as [DB.InTx] is.
func (d *DB) Read(ctx context.Context, do func(Tx) error) error {
	return repeat(ctx, patience, func(patient context.Context) error {
		conn, err := d.pool.Conn(patient)
		if err != nil {
			return impatient(ctx, patient, err, connecting)
		}
		defer conn.Close() //nolint:errcheck // it goes back to the pool
		return d.run(conn, do)
	})
}

// run tells of a failed statement also where do doesn't.
func (d *DB) run(on statements, do func(Tx) error) error {
	s := &session{on: on, dialect: d.dialect}
	if err := do(Tx{s}); err != nil {
		return err
	}
	return s.failed
}

// once makes one attempt. It waits for others as long as patient lasts.
func (d *DB) once(ctx, patient context.Context, do func(Tx) error) error {
	if d.writer != nil {
		select {
		case d.writer <- struct{}{}:
			defer func() { <-d.writer }()
		case <-patient.Done():
			return busy(ctx)
		}
	}
	conn, err := d.pool.Conn(patient)
	if err != nil {
		return impatient(ctx, patient, err, connecting)
	}
	defer conn.Close() //nolint:errcheck // it goes back to the pool
	tx, err := d.begin(ctx, patient, conn)
	if err != nil {
		return impatient(ctx, patient, err, open)
	}
	defer tx.rollback() // where do fails or panics
	if err := d.run(tx, do); err != nil {
		return err
	}
	if ctx.Err() != nil { // while there is no doubt yet
		return failure(ctx, ctx.Err(), open)
	}
	return failure(ctx, tx.commit(), committing)
}

// impatient is a failure, or that it took too long.
func impatient(ctx, patient context.Context, err error, at phase) error {
	if _, _, answered := answerOf(err); !answered && patient.Err() != nil {
		return busy(ctx)
	}
	return failure(ctx, err, at)
}

// transaction is one that goes on. Where commit succeeded rollback does nothing.
type transaction struct {
	*sql.Tx
	commit   func() error
	rollback func()
}

func (d *DB) begin(ctx, patient context.Context, conn *sql.Conn) (transaction, error) {
	if d.dialect == SQLite {
		return beginImmediate(ctx, patient, conn)
	}
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return transaction{}, err
	}
	return transaction{tx, tx.Commit, func() { _ = tx.Rollback() }}, nil
}

// beginImmediate takes SQLite's lock for writing at once. A transaction that
// began by reading, as those of database/sql do by default, can't always get it
// later (SQLITE_BUSY_SNAPSHOT).
func beginImmediate(ctx, patient context.Context, conn *sql.Conn) (transaction, error) {
	tx, end, err := beginAnyhow(ctx, patient, conn)
	if err != nil {
		return transaction{}, err
	}
	rollback := func() {
		// After some errors SQLite has rolled back by itself; a connection of which
		// that isn't known is closed.
		if tx.Rollback() != nil {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		}
		end()
	}
	for _, statement := range []string{"rollback", "begin immediate"} { // nothing was read yet
		if _, err := tx.ExecContext(patient, statement); err != nil {
			if _, _, answered := answerOf(err); answered { // there is nothing to roll back
				_ = tx.Rollback()
				end()
			} else {
				rollback()
			}
			return transaction{}, err
		}
	}
	committed := false
	commit := func() error {
		err := tx.Commit()
		committed = err == nil
		return err
	}
	return transaction{tx, commit, func() {
		if committed {
			end()
		} else {
			rollback()
		}
	}}, nil
}

// beginAnyhow begins one of database/sql's, which lasts until its end is called:
// in WAL neither commit nor rollback waits for anybody. A pool may be set to begin
// with the lock (_txlock), for which it waits as long as patient lasts.
func beginAnyhow(ctx, patient context.Context, conn *sql.Conn) (*sql.Tx, context.CancelFunc, error) {
	lasting, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(patient, end)
	tx, err := conn.BeginTx(lasting, nil)
	if !stop() {
		if err == nil {
			_ = tx.Rollback()
		}
		err = patient.Err()
	}
	if err != nil {
		end()
	}
	return tx, end, err
}

// SQL is the transaction itself, for statements that aren't the store's; it is
// nil in what only reads. What fails in it is for its caller to return: the store
// doesn't hear of it. It may neither be committed nor rolled back.
func (t Tx) SQL() *sql.Tx {
	switch on := t.on.(type) {
	case *sql.Tx:
		return on
	case transaction:
		return on.Tx
	}
	return nil
}

// Exec runs a statement and answers how many rows it changed. Each ? stands for
// an argument.
func (t Tx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	if t.failed != nil {
		return 0, t.failed
	}
	res, err := t.on.ExecContext(ctx, t.dialect.placeholders(query), args...)
	if err != nil {
		return 0, t.fail(ctx, err)
	}
	n, err := res.RowsAffected()
	return n, t.fail(ctx, err)
}

// QueryRow reads one row into dest. Where there is none the error is sql.ErrNoRows.
func (t Tx) QueryRow(ctx context.Context, dest []any, query string, args ...any) error {
	if t.failed != nil {
		return t.failed
	}
	err := t.on.QueryRowContext(ctx, t.dialect.placeholders(query), args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return t.fail(ctx, err)
}

// Query calls each with every row, until that returns an error, which is
// returned. Statements of the same Tx have to wait until Query has returned.
func (t Tx) Query(ctx context.Context, each func(scan func(dest ...any) error) error, query string, args ...any) error {
	if t.failed != nil {
		return t.failed
	}
	rows, err := t.on.QueryContext(ctx, t.dialect.placeholders(query), args...)
	if err != nil {
		return t.fail(ctx, err)
	}
	defer rows.Close() //nolint:errcheck // rows.Err has said it
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return t.fail(ctx, rows.Err())
}

func (t Tx) fail(ctx context.Context, err error) error {
	t.failed = failure(ctx, err, open)
	return t.failed
}

// ForUpdate is the end of a select whose rows nobody else may write until the
// transaction ends. In SQLite nobody can.
func (t Tx) ForUpdate() string {
	if t.dialect == SQLite {
		return ""
	}
	return " for update"
}

// placeholders turns ? into what the dialect has. One within quotes stays.
func (d Dialect) placeholders(query string) string {
	if d == SQLite {
		return query
	}
	var out strings.Builder
	n, quote := 0, rune(0)
	for _, c := range query {
		switch {
		case c == '?' && quote == 0:
			n++
			out.WriteString("$" + strconv.Itoa(n))
			continue
		case c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		}
		out.WriteRune(c)
	}
	return out.String()
}
