package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"strings"

	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymentsql"
)

// book is the shop's own database: what was ordered, what was told of it, and the
// parcels to send.
type book struct{ db *sql.DB }

const tables = `
create table orders  (number integer primary key, id text unique, item text, minor integer, hold bool, said text default '');
create table told    (number integer primary key, order_id text, line text);
create table parcels (order_id text primary key)`

func openBook(ctx context.Context, db *sql.DB) (*book, error) {
	_, err := db.ExecContext(ctx, tables)
	return &book{db}, err
}

// order is what a customer wants, whether or not he has paid.
type order struct {
	ID, Item string
	Amount   payment.Money
	// Hold: the money is held now, and captured when the parcel leaves.
	Hold bool
	// Said is the shop's last answer to the customer.
	Said string
}

// add books an order. Its id is the shop's, never the customer's choice: it names
// the payment for ever.
func (b *book) add(ctx context.Context, i item, hold bool) (string, error) {
	id := "order-" + strings.ToLower(rand.Text()[:8])
	_, err := b.db.ExecContext(ctx, "insert into orders (id, item, minor, hold) values ($1, $2, $3, $4)", id, i.Name, i.Price.Minor, hold)
	return id, err
}

const columns = "select id, item, minor, hold, said from orders "

// orders are all, newest first.
func (b *book) orders(ctx context.Context) (all []order, err error) {
	rows, err := b.db.QueryContext(ctx, columns+"order by number desc")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		o, err := scan(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, rows.Err()
}

// order is one of them, sql.ErrNoRows where there is none.
func (b *book) order(ctx context.Context, id string) (order, error) {
	return scan(b.db.QueryRowContext(ctx, columns+"where id = $1", id).Scan)
}

func scan(into func(...any) error) (o order, err error) {
	o.Amount.Currency = payment.USD
	err = into(&o.ID, &o.Item, &o.Amount.Minor, &o.Hold, &o.Said)
	return o, err
}

// say notes what the customer was answered.
func (b *book) say(ctx context.Context, id, said string) error {
	_, err := b.db.ExecContext(ctx, "update orders set said = $2 where id = $1", id, said)
	return err
}

// tell is the payment.Handler: it hears of whatever becomes of an order, whether a
// call's answer, a webhook or a look-up brought it. It writes in the journal's
// transaction. So the parcel is noted exactly if the payment is, once, though the
// program may be killed at any instant.
func (b *book) tell(ctx context.Context, e payment.Event) error {
	var exec interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	} = b.db // of events that change no order, such as a stranger's webhook
	if tx, ok := paymentsql.Tx(ctx); ok {
		exec = tx
	}
	if _, err := exec.ExecContext(ctx, "insert into told (order_id, line) values ($1, $2)", e.Order, line(e)); err != nil {
		return err
	}
	if e.Type != payment.OrderChanged || e.Result.Status != payment.Succeeded {
		return nil
	}
	_, err := exec.ExecContext(ctx, "insert into parcels values ($1) on conflict do nothing", e.Order)
	return err
}

// line is an event in words.
func line(e payment.Event) string {
	what := ""
	switch {
	case e.Refund != nil:
		what = fmt.Sprintf(": %s, %s %s", e.Refund.ID, e.Refund.Amount, e.Refund.State)
	case e.Result != nil:
		what = ": " + string(e.Result.Status)
	}
	if e.Hint != nil {
		what += ", by the webhook " + e.Hint.Type
	}
	return string(e.Type) + what
}

// told is what tell was told of an order, and parcel how many it has ordered.
func (b *book) told(ctx context.Context, id string) (lines []string, parcels int, err error) {
	rows, err := b.db.QueryContext(ctx, "select line from told where order_id = $1 order by number", id)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var l string
		if err := rows.Scan(&l); err != nil {
			return nil, 0, err
		}
		lines = append(lines, l)
	}
	if err := rows.Err(); err != nil {
		return nil, 0, err
	}
	err = b.db.QueryRowContext(ctx, "select count(*) from parcels where order_id = $1", id).Scan(&parcels)
	return lines, parcels, err
}
