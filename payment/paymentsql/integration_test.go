package paymentsql_test

import (
	"context"
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/servertest"
	"github.com/smilefactory/integrations/internal/sqldbtest"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymentsql"
	"github.com/smilefactory/integrations/payment/paymenttest"
)

// openBy opens a journal whose connections go by a line.
func openBy(t *testing.T, l *servertest.Line, databaseURL string) *paymentsql.Journal {
	t.Helper()
	cfg, err := pgx.ParseConfig(databaseURL)
	require.NoError(t, err)
	cfg.DialFunc = l.Dial
	pool := stdlib.OpenDB(*cfg)
	pool.SetMaxOpenConns(4)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	j, err := paymentsql.Open(t.Context(), pool)
	require.NoError(t, err)
	return j
}

func TestIntegrationPostgresOverALineThatBreaks(t *testing.T) {
	for _, c := range []struct {
		says   string
		cut    servertest.Cut
		kind   fault.Kind // Unknown: no error
		stored bool
		runs   int // of the change
	}{
		{"before the row was locked: it is done again", servertest.Cut{Text: "for update", Before: true}, fault.Unknown, true, 1},
		{"after the row was locked: it is done again", servertest.Cut{Text: "for update"}, fault.Unknown, true, 1},
		{"in the write: it is done again, with the change", servertest.Cut{Text: "update payment_journal"}, fault.Unknown, true, 2},
		{"in the write, and nobody is there any more: nothing was stored", servertest.Cut{Text: "update payment_journal", Down: true}, fault.Unavailable, false, 1},
		{"before the server got the commit: nobody knows", servertest.Cut{Text: "commit\x00", Before: true}, fault.Uncertain, false, 1},
		{"after the server did the commit: nobody knows", servertest.Cut{Text: "commit\x00"}, fault.Uncertain, true, 1},
		{"after the commit, and nobody is there any more: nobody knows", servertest.Cut{Text: "commit\x00", Down: true}, fault.Uncertain, true, 1},
	} {
		t.Run(c.says, func(t *testing.T) {
			databaseURL := sqldbtest.Postgres(t)
			_, pool := open(t, databaseURL)
			var l servertest.Line
			j := openBy(t, &l, databaseURL)
			k := payment.Key{Tenant: "shop", Order: "order-1"}
			l.Next.Store(&c.cut)
			runs := 0
			e, err := j.Update(t.Context(), k, func(ctx context.Context, e *payment.Entry) error {
				runs++
				assert.Equal(t, &payment.Entry{Key: k}, e, "as if it ran for the first time")
				e.Attempts = []payment.AttemptRecord{{Number: 1, Provider: "bank", PaymentID: "pay_1"}}
				return deliver(ctx, k.Order, "once")
			})
			if c.kind == fault.Unknown {
				require.NoError(t, err)
				assert.EqualValues(t, 1, e.Version)
			} else {
				assert.ErrorIs(t, err, c.kind)
				assert.Nil(t, e)
			}
			assert.Nil(t, l.Next.Load(), "the line was cut")
			assert.Equal(t, c.runs, runs)
			want := map[bool]int{true: 1}[c.stored]
			for _, table := range []string{"payment_journal", "payment_journal_ids", "delivery"} {
				assert.Equal(t, want, count(t, pool, "select count(*) from "+table), table)
			}
			l.Down.Store(false)
			e, err = j.Update(t.Context(), k, func(context.Context, *payment.Entry) error { return nil })
			require.NoError(t, err, "it is there again")
			assert.EqualValues(t, want+1, e.Version)
		})
	}
}

// TestIntegrationPostgresADatabaseThatIsDown: before it goes and after it came
// back nothing is wrong.
func TestIntegrationPostgresADatabaseThatIsDown(t *testing.T) {
	databaseURL := sqldbtest.Postgres(t)
	open(t, databaseURL)
	var l servertest.Line
	j := openBy(t, &l, databaseURL)
	var bank paymenttest.Bank
	pay := client(t, j, &bank)
	_, err := pay.Charge(t.Context(), order("order-1"))
	require.NoError(t, err)
	l.Down.Store(true)
	isDown(t, j)
	_, err = pay.Charge(t.Context(), order("order-2"))
	assert.ErrorIs(t, err, fault.Unavailable)
	assert.Empty(t, bank.Charges("order-2"), "nothing was sent")
	l.Down.Store(false)
	_, err = pay.Charge(t.Context(), order("order-2"))
	require.NoError(t, err)
	assert.Len(t, bank.Charges("order-2"), 1)
}

// TestIntegrationPostgresEveryCommitOfAChargeLost: whichever answer got lost, the
// order is charged once in the end, and delivered once.
func TestIntegrationPostgresEveryCommitOfAChargeLost(t *testing.T) {
	databaseURL := sqldbtest.Postgres(t)
	_, pool := open(t, databaseURL)
	for where, before := range map[string]bool{"before": true, "after": false} {
		n := 0 // the n-th commit is the one
		for ; ; n++ {
			var later atomic.Int64 // how far the clock is put on
			now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
			bank := paymenttest.Bank{Now: now}
			var l servertest.Line
			j := &nth{Journal: openBy(t, &l, databaseURL), n: n, then: func() { l.Next.Store(&servertest.Cut{Text: "commit\x00", Before: before}) }}
			pay := client(t, j, &bank, payment.WithRules(payment.Rules{Now: now, Join: time.Second}),
				payment.WithHandler(func(ctx context.Context, e payment.Event) error {
					return deliver(ctx, e.Order, string(e.Result.Status))
				}))
			id := fmt.Sprint(where, "-", n)
			r, err := pay.Charge(t.Context(), order(id))
			if j.n >= 0 {
				break // there is no n-th
			}
			assert.Nil(t, l.Next.Load(), "the line was cut")
			for range 2 {
				if err == nil && r.Recorded {
					break
				}
				later.Add(int64(time.Hour)) // its lease has run out
				r, err = pay.Charge(t.Context(), order(id))
			}
			if assert.NoError(t, err, id) {
				assert.Equal(t, payment.Succeeded, r.Status)
				assert.True(t, r.Recorded)
			}
			assert.Len(t, bank.Charges(id), 1)
			assert.Equal(t, 1, count(t, pool, "select count(*) from delivery where order_id = $1 and note = 'succeeded'", id), "it is delivered once")
		}
		assert.GreaterOrEqual(t, n, 4, "commits of a charge")
	}
}

// nth does something before the commit of its n-th Update.
type nth struct {
	payment.Journal

	n    int
	then func()
}

func (j *nth) Update(ctx context.Context, k payment.Key, change func(context.Context, *payment.Entry) error) (*payment.Entry, error) {
	return j.Journal.Update(ctx, k, func(ctx context.Context, e *payment.Entry) error {
		err := change(ctx, e)
		if err == nil {
			if j.n == 0 {
				j.then()
			}
			j.n--
		}
		return err
	})
}

// TestIntegrationPostgresDeadlocksOfHandlersEnd: two handlers lock what is theirs
// the wrong way round; the one that the server ends runs again.
func TestIntegrationPostgresDeadlocksOfHandlersEnd(t *testing.T) {
	databaseURL := sqldbtest.Postgres(t)
	_, pool := open(t, databaseURL)
	u, err := url.Parse(databaseURL)
	require.NoError(t, err)
	q := u.Query()
	q.Set("deadlock_timeout", "20ms")
	u.RawQuery = q.Encode()
	j, _ := open(t, u.String())
	_, err = pool.ExecContext(t.Context(), "insert into delivery values ('a', '0'), ('b', '0')")
	require.NoError(t, err)
	var runs, both atomic.Int64
	meet := make(chan struct{})
	atOnce(2, func(i int) {
		ids := []string{"a", "b"}
		e, err := j.Update(t.Context(), payment.Key{Order: ids[i]}, func(ctx context.Context, e *payment.Entry) error {
			runs.Add(1)
			e.Rounds++
			tx, _ := paymentsql.Tx(ctx)
			for n := range 2 {
				if _, err := tx.ExecContext(ctx, "update delivery set note = note || 'x' where order_id = $1", ids[(i+n)%2]); err != nil {
					return err
				}
				if n == 0 && both.Add(1) == 2 {
					close(meet)
				}
				<-meet
			}
			return nil
		})
		if assert.NoError(t, err) {
			assert.EqualValues(t, 1, e.Version)
			assert.Equal(t, 1, e.Rounds)
		}
	})
	assert.GreaterOrEqual(t, runs.Load(), int64(3))
	assert.Equal(t, 2, count(t, pool, "select count(*) from delivery where note = '0xx'"))
}

// TestIntegrationPostgresOrdersDontWaitForOneAnother: only the row is locked.
func TestIntegrationPostgresOrdersDontWaitForOneAnother(t *testing.T) {
	j, _ := open(t, sqldbtest.Postgres(t))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, second := range []string{"new", "known"} {
		_, err := j.Update(ctx, payment.Key{Order: second}, func(ctx context.Context, _ *payment.Entry) error {
			_, err := j.Update(ctx, payment.Key{Order: second + "-beside"}, func(context.Context, *payment.Entry) error { return nil })
			return err
		})
		assert.NoError(t, err)
	}
}

func TestIntegrationPostgresThatMayForgetIsRefused(t *testing.T) {
	u, err := url.Parse(sqldbtest.Postgres(t))
	require.NoError(t, err)
	for setting, refused := range map[string]bool{"off": true, "local": false, "on": false} {
		q := u.Query()
		q.Set("synchronous_commit", setting)
		of := *u
		of.RawQuery = q.Encode()
		_, err = paymentsql.Open(t.Context(), sqldbtest.Open(t, of.String()))
		if refused {
			assert.ErrorIs(t, err, fault.Invalid)
			assert.ErrorContains(t, err, "synchronous_commit is off")
		} else {
			assert.NoError(t, err, setting)
		}
	}
}
