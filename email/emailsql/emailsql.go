// Package emailsql keeps what package email must remember in SQLite or
// PostgreSQL, through database/sql.
//
//	db, err := sql.Open("sqlite", "file:mail.db?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
//	…
//	receipts, err := emailsql.Open(ctx, db)
//	…
//	mail, err := email.New(primary, email.WithReceipts(receipts, 24*time.Hour))
//
// The drivers are modernc.org/sqlite and github.com/jackc/pgx/v5/stdlib; the
// program imports the one that it uses. Rules that a caller must know:
//
//   - Any number of processes may use one database. Their clocks should agree to
//     a second or so: they say what has run out, and whose mail was abandoned.
//   - A file of SQLite is opened as above: what was noted must survive a power
//     failure. It may be the service's own database, as may PostgreSQL's. The
//     names of the tables, and of a sequence, begin with email_receipts.
//   - No address, content or idempotency key is stored in the clear. What is
//     stored of a mail is a hash of it, and its receipt, sealed (AES-256-GCM) with
//     a key derived from the idempotency key. So who reads the database can read
//     the receipts whose idempotency keys can be guessed, and no others: a random
//     key is safe, "order-4711" is not.
//   - Keys that have run out are deleted a few at a time, as new ones come.
package emailsql

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sqldb"
)

//go:embed migrations
var migrations embed.FS

// Receipts are [email.Receipts] in a database. There are none within a caller's
// transaction: a key that is forgotten when that is rolled back would let a mail
// go twice which has been sent, and others with the key would wait for it. Mail
// that belongs to a transaction goes through email.Client.SendTx, whose queue
// knows equal keys.
type Receipts struct {
	db    *sqldb.DB
	notes atomic.Uint64 // new keys of this process
}

var _ email.Receipts = (*Receipts)(nil)

// Open makes Receipts, and their table where it isn't there or is older than
// this program; several processes may do so at once. The database stays the
// caller's, who closes it.
func Open(ctx context.Context, db *sql.DB) (*Receipts, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	d, err := sqldb.New(ctx, db)
	if err != nil {
		return nil, err
	}
	if err := d.Migrate(ctx, "email_receipts", files); err != nil {
		return nil, err
	}
	return &Receipts{db: d}, nil
}

// note is what [Receipts.Begin] was asked.
type note struct {
	row               row
	hash, owner       []byte
	now, stale, until int64
}

// Begin notes a key, see [email.Receipts]. Of all who ask at once, in all
// processes, one gets it. Where the connection was lost in the commit, the row is
// looked up: the key isn't left in progress for nobody.
func (r *Receipts) Begin(ctx context.Context, key string, hash [32]byte, now, stale, until time.Time) (known email.Known, err error) {
	n := note{hash: hash[:], owner: make([]byte, 16), now: sqldb.Milli(now), stale: sqldb.Milli(stale), until: sqldb.Milli(until)}
	_, _ = rand.Read(n.owner) // which never fails
	if n.row, err = rowOf(key); err != nil {
		return email.Known{}, err
	}
	begin := func(tx sqldb.Tx) error {
		known, err = n.begin(ctx, tx, r.db.Dialect())
		return err
	}
	err = r.db.InTx(ctx, begin)
	if errors.Is(err, fault.Uncertain) {
		err = r.db.InTx(ctx, begin)
	}
	if err != nil {
		return email.Known{}, err
	}
	if !known.Known {
		r.sweep(ctx, n.now)
	}
	return known, nil
}

// nextToken is an expression for the next token. A sequence of PostgreSQL keeps
// nobody waiting; in SQLite a row is counted up, since nobody else writes meanwhile.
func nextToken(ctx context.Context, tx sqldb.Tx, d sqldb.Dialect) (string, error) {
	if d == sqldb.Postgres {
		return "nextval('email_receipts_tokens')", nil
	}
	_, err := tx.Exec(ctx, "update email_receipts_tokens set last = last + 1")
	return "(select last from email_receipts_tokens)", err
}

// begin takes the row where there is none, where it has run out, where nobody has
// it any more, or where an equal mail was abandoned; in any case it keeps others
// from writing to it. Whether the key is new, takes says: it is 0.
func (n *note) begin(ctx context.Context, tx sqldb.Tx, d sqldb.Dialect) (email.Known, error) {
	next, err := nextToken(ctx, tx, d)
	if err != nil {
		return email.Known{}, err
	}
	_, err = tx.Exec(ctx, `
		insert into email_receipts as r (id, hash, owner, takes, began, until, token, since)
		select ?, ?, ?, 0, ?, ?, t.next, t.next from (select `+next+` as next) as t where true
		on conflict (id) do update set
			hash = excluded.hash, owner = excluded.owner, receipt = null, began = excluded.began, token = excluded.token,
			takes = case when r.until <= ? or r.token = 0 then 0 else r.takes + 1 end,
			until = case when r.until <= ? or r.token = 0 then excluded.until else r.until end,
			since = case when r.until <= ? or r.hash <> excluded.hash then excluded.since else r.since end
		where r.until <= ? or r.token = 0 or r.receipt is null and r.hash = excluded.hash and r.began < ?`,
		n.row.id, n.hash, n.owner, n.now, n.until, n.now, n.now, n.now, n.now, n.stale)
	if err != nil {
		return email.Known{}, err
	}
	var hash, owner, sealed []byte
	var takes, token, size int64
	err = tx.QueryRow(ctx, []any{&hash, &owner, &takes, &token, &sealed, &size},
		"select hash, owner, takes, token, receipt, coalesce(length(receipt), -1) from email_receipts where id = ?", n.row.id)
	if err != nil {
		return email.Known{}, err
	}
	ours := bytes.Equal(owner, n.owner)
	if !ours {
		token = 0
	}
	if ours && takes == 0 {
		return email.Known{Token: token}, nil
	}
	known := email.Known{Known: true, Token: token, Abandoned: ours, Unsettled: size == 0}
	copy(known.Hash[:], hash)
	if size > 0 {
		known.Receipt, err = n.row.unseal(sealed)
	}
	return known, err
}

// End keeps the receipt, see [email.Receipts].
func (r *Receipts) End(ctx context.Context, key string, token int64, receipt *email.Receipt) error {
	row, err := rowOf(key)
	if err != nil {
		return err
	}
	sealed := []byte{}
	if receipt != nil {
		sealed = row.seal(receipt)
	}
	return r.exec(ctx, `
		update email_receipts set receipt = ?, token = case when token = 0 then ? else token end
		where id = ? and since <= ? and (receipt is null or length(receipt) = 0)`, sealed, token, row.id, token)
}

// Drop forgets the key, see [email.Receipts].
func (r *Receipts) Drop(ctx context.Context, key string, token int64) error {
	row, err := rowOf(key)
	if err != nil {
		return err
	}
	return r.db.InTx(ctx, func(tx sqldb.Tx) error {
		n, err := tx.Exec(ctx, "delete from email_receipts where id = ? and token = ? and since = token and receipt is null", row.id, token)
		if err != nil || n > 0 {
			return err
		}
		_, err = tx.Exec(ctx, "update email_receipts set token = 0 where id = ? and token = ? and receipt is null", row.id, token)
		return err
	})
}

// exec runs one statement, which may be repeated.
func (r *Receipts) exec(ctx context.Context, query string, args ...any) error {
	return r.db.InTx(ctx, func(tx sqldb.Tx) error {
		_, err := tx.Exec(ctx, query, args...)
		return err
	})
}

// A process sweeps at its first new key, and at every sixteenth from there on.
const (
	sweepEvery = 16
	sweepMost  = 64 // rows, more than have come meanwhile
)

// sweep deletes some of what has run out. Where it fails the next one does it.
func (r *Receipts) sweep(ctx context.Context, now int64) {
	if (r.notes.Add(1)-1)%sweepEvery != 0 {
		return
	}
	_ = r.db.InTx(ctx, func(tx sqldb.Tx) error {
		_, err := tx.Exec(ctx, "delete from email_receipts where id in (select id from email_receipts where until <= ? order by until limit ?"+tx.ForUpdate()+")", now, sweepMost)
		return err
	})
}
