// Package paymentsql keeps the journal of package payment in SQLite or
// PostgreSQL, through database/sql.
//
//	db, err := sql.Open("sqlite", "file:shop.db?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
//	…
//	journal, err := paymentsql.Open(ctx, db)
//	…
//	pay, err := payment.New(primary, payment.WithBackup(backup), payment.WithJournal(journal))
//
// The drivers are modernc.org/sqlite and github.com/jackc/pgx/v5/stdlib; the
// program imports the one that it uses. Rules that a caller must know:
//
//   - Any number of processes may use one database. Their clocks should agree to
//     a second or so: they say who has lost an order to another.
//   - A file of SQLite is opened as above: what was noted must survive a power
//     failure. PostgreSQL's synchronous_commit must not be off. Either may be the
//     service's own database; the names of the tables begin with payment_journal.
//   - A [payment.Handler] may write in the journal's own transaction, see [Tx].
//   - Nothing is deleted, see below.
//
// # What is stored
//
// Of an order: what package payment was given and got as answers, which are ids,
// amounts, states, times, addresses of pages to return to, the description, and
// codes and texts of declines. No card's number, since nothing has a place for
// one, and no client secret of a [payment.NextAction]. Who has the table
// payment_journal can't pay with it.
//
// payment_journal has a row for each tenant and order. The column entry is all of
// it as JSON, whose form is that of [payment.Entry]; fields are added to it and
// never renamed. The other columns repeat what reports ask for:
//
//	tenant, order_id    the key
//	version             how often the row was written
//	state               of the newest attempt, see payment.AttemptState; empty before the first
//	provider            of that attempt, a path ("eu/stripe") where Clients are nested
//	payment_id          of that attempt, the provider's
//	amount, currency    what was asked for, in minor units
//	due                 when the order is looked after next, 0 where it is at its end
//	created, updated
//
// Times are milliseconds since 1970. payment_journal_ids has a row for each id of
// a provider's (payment, charge, authorisation, refund), with the order's key. So
// a report of a day is
//
//	select provider, currency, count(*), sum(amount) from payment_journal
//	where state = 'paid' and created >= ? and created < ? group by provider, currency
//
// # When something breaks
//
//	the database is down             fault.Unavailable: nothing was stored
//	others are in the way            the transaction is repeated for five seconds, its change too; then Unavailable
//	the caller gives up              fault.Unavailable, at once
//	the connection is lost           repeated likewise
//	  in the commit                  fault.Uncertain: the Client looks whether it was stored
//	a process sleeps in a change     others of that order are Unavailable after five seconds; PostgreSQL's
//	                                 idle_in_transaction_session_timeout, 30 s say, ends it
//	the process dies                 nothing of the transaction is stored; its lease on the order runs out
//	an older program is running      it reads what a newer one wrote, and changes nothing in which it doesn't know a field: Unavailable
//
// # How long
//
// Orders stay for ever, since a webhook about a refund or a dispute may come a
// year and a half later, and since an order that is forgotten can be charged
// again. A service that must delete them moves rows whose due is 0 and whose
// updated is old enough, with those of payment_journal_ids, in one transaction:
// somewhere it can look an order's id up before it calls Charge.
package paymentsql

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sqldb"
	"github.com/smilefactory/integrations/payment"
)

//go:embed migrations
var migrations embed.FS

// Journal is a [payment.Journal] in a database.
type Journal struct{ db *sqldb.DB }

var _ payment.Journal = (*Journal)(nil)

// Open makes a Journal, and its tables where they aren't there or are older than
// this program; several processes may do so at once. The database stays the
// caller's, who closes it.
func Open(ctx context.Context, db *sql.DB) (*Journal, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	d, err := sqldb.New(ctx, db)
	if err != nil {
		return nil, err
	}
	if d.Dialect() == sqldb.Postgres {
		if err := checkCommit(ctx, db); err != nil {
			return nil, err
		}
	}
	if err := d.Migrate(ctx, "payment_journal", files); err != nil {
		return nil, err
	}
	return &Journal{d}, nil
}

// checkCommit refuses a PostgreSQL that would lose what was committed.
func checkCommit(ctx context.Context, db *sql.DB) error {
	var is string
	if err := db.QueryRowContext(ctx, "show synchronous_commit").Scan(&is); err != nil {
		return fault.New(fault.Unavailable, err)
	}
	if is == "off" {
		return fault.New(fault.Invalid, errors.New("paymentsql: synchronous_commit is off: what is noted before money moves must survive a crash"))
	}
	return nil
}

// Durable is true.
func (j *Journal) Durable() bool { return true }

type txKey struct{}

// Tx is the transaction of the Update whose context that is, for statements of a
// [payment.Handler]: what they do is there exactly if the entry is.
//
// The handler returns the errors of its statements, so that nothing is stored. It
// neither commits nor rolls back. It may be called again, where others were in
// the way or the connection was lost, after what it did before was undone: what it
// does beside the transaction happens twice. And where the answer to the commit was
// lost the Client looks whether it was done, and doesn't call it again if it was.
// In SQLite nobody else writes to the file meanwhile, so it must be quick.
func Tx(ctx context.Context) (*sql.Tx, bool) {
	tx, ok := ctx.Value(txKey{}).(*sql.Tx)
	return tx, ok
}

// refusal is an error of a change, whatever it wraps.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// Update changes an entry in one transaction, see [payment.Journal]. Its row is
// locked, in SQLite the file. change runs again where the transaction had to be
// repeated, which is tried for five seconds. Where the connection is lost in the
// commit, the error is of kind fault.Uncertain.
func (j *Journal) Update(ctx context.Context, k payment.Key, change func(context.Context, *payment.Entry) error) (*payment.Entry, error) {
	var e *payment.Entry
	err := j.db.InTx(ctx, func(tx sqldb.Tx) error {
		var err error
		if e, err = lock(ctx, tx, k); err != nil {
			return err
		}
		version, ids := e.Version, e.IDs()
		if err := change(context.WithValue(ctx, txKey{}, tx.SQL()), e); err != nil {
			return refusal{err}
		}
		e.Key, e.Version = k, version+1
		return write(ctx, tx, e, ids)
	})
	if err != nil {
		return nil, unstored(err)
	}
	return e, nil
}

// lock reads an entry that nobody else may change meanwhile. One that isn't there
// gets a row, which goes again unless it is written.
func lock(ctx context.Context, tx sqldb.Tx, k payment.Key) (*payment.Entry, error) {
	query := "select entry from payment_journal where tenant = ? and order_id = ?" + tx.ForUpdate()
	var data []byte
	err := tx.QueryRow(ctx, []any{&data}, query, k.Tenant, k.Order)
	if errors.Is(err, sql.ErrNoRows) {
		var n int64
		n, err = tx.Exec(ctx, "insert into payment_journal (tenant, order_id, version) values (?, ?, 0) on conflict do nothing", k.Tenant, k.Order)
		if n == 0 && err == nil { // another was first, and has ended
			err = tx.QueryRow(ctx, []any{&data}, query, k.Tenant, k.Order)
		}
	}
	if err != nil {
		return nil, err
	}
	return decode(k, data, true)
}

var errNewer = errors.New("paymentsql: a newer program wrote this order, which this one would spoil")

// decode reads an entry. What is to be written again must be known whole: a field
// that a newer program added would be lost.
func decode(k payment.Key, data []byte, whole bool) (*payment.Entry, error) {
	e := &payment.Entry{}
	if len(data) > 0 {
		d := json.NewDecoder(bytes.NewReader(data))
		if whole {
			d.DisallowUnknownFields()
		}
		err := d.Decode(e)
		switch {
		case err != nil && whole && json.Unmarshal(data, &payment.Entry{}) == nil:
			return nil, errNewer
		case err != nil:
			return nil, fmt.Errorf("paymentsql: the entry of order %s can't be read: %w", k.Order, err)
		}
	}
	e.Key = k
	return e, nil
}

// write stores an entry, and those of its ids that are new.
func write(ctx context.Context, tx sqldb.Tx, e *payment.Entry, known []payment.ProviderID) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("paymentsql: the entry of order %s can't be written: %w", e.Key.Order, err)
	}
	var newest payment.AttemptRecord
	if n := len(e.Attempts); n > 0 {
		newest = e.Attempts[n-1]
	}
	n, err := tx.Exec(ctx, `
		update payment_journal set version = ?, state = ?, provider = ?, payment_id = ?, amount = ?, currency = ?, due = ?, created = ?, updated = ?, entry = ?
		where tenant = ? and order_id = ? and version = ?`,
		e.Version, string(newest.State), newest.Provider, newest.PaymentID, e.Order.Amount.Minor, string(e.Order.Amount.Currency),
		due(e.Due), sqldb.Milli(e.Created), sqldb.Milli(e.Updated), string(data),
		e.Key.Tenant, e.Key.Order, e.Version-1)
	if err == nil && n != 1 {
		err = errors.New("paymentsql: the row was changed under its lock")
	}
	for _, id := range e.IDs() {
		if err != nil || slices.Contains(known, id) {
			continue
		}
		_, err = tx.Exec(ctx, `
			insert into payment_journal_ids (provider, id, tenant, order_id) values (?, ?, ?, ?)
			on conflict (provider, id) do update set tenant = excluded.tenant, order_id = excluded.order_id`,
			id.Provider, id.ID, e.Key.Tenant, e.Key.Order)
	}
	return err
}

// due is a time rounded up, so that nothing is listed before it.
func due(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return sqldb.Milli(t.Add(time.Millisecond - time.Nanosecond))
}

// unstored is what an error means to who asked: nothing was stored, or nobody
// knows. What a change itself said comes back as it was.
func unstored(err error) error {
	if own, ok := errors.AsType[refusal](err); ok {
		return own.error
	}
	f, ok := fault.As(err)
	switch {
	case !ok:
		return fault.New(fault.Unavailable, err)
	case f.Kind == fault.Uncertain:
		return err
	}
	c := *f
	c.Kind = fault.Unavailable
	return &c
}

var errNoEntry = fault.New(fault.NotFound, errors.New("paymentsql: the journal has no such order"))

// read reads one row, where there is one.
func (j *Journal) read(ctx context.Context, dest []any, query string, args ...any) error {
	err := j.db.Read(ctx, func(tx sqldb.Tx) error { return tx.QueryRow(ctx, dest, query, args...) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return errNoEntry
	}
	return unstored(err)
}

// Entry is the entry as it was last committed, see [payment.Journal].
func (j *Journal) Entry(ctx context.Context, k payment.Key) (*payment.Entry, error) {
	var data []byte
	err := j.read(ctx, []any{&data}, "select entry from payment_journal where tenant = ? and order_id = ? and version > 0", k.Tenant, k.Order)
	if err != nil {
		return nil, err
	}
	e, err := decode(k, data, false)
	if err != nil {
		return nil, unstored(err)
	}
	return e, nil
}

// Find is the key of the entry with that id, see [payment.Journal].
func (j *Journal) Find(ctx context.Context, id payment.ProviderID) (k payment.Key, err error) {
	err = j.read(ctx, []any{&k.Tenant, &k.Order}, "select tenant, order_id from payment_journal_ids where provider = ? and id = ?", id.Provider, id.ID)
	return k, err
}

// Due lists what needs looking after, see [payment.Journal].
func (j *Journal) Due(ctx context.Context, until time.Time, n int) ([]payment.Key, error) {
	var keys []payment.Key
	err := j.db.Read(ctx, func(tx sqldb.Tx) error {
		keys = nil
		return tx.Query(ctx, func(scan func(...any) error) error {
			var k payment.Key
			err := scan(&k.Tenant, &k.Order)
			keys = append(keys, k)
			return err
		}, "select tenant, order_id from payment_journal where due > 0 and due <= ? order by due, tenant, order_id limit ?", sqldb.Milli(until), max(n, 0))
	})
	if err != nil {
		return nil, unstored(err)
	}
	return keys, nil
}
