package paymentsql_test

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sqldb"
	"github.com/smilefactory/integrations/internal/sqldbtest"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymentsql"
	"github.com/smilefactory/integrations/payment/paymenttest"
	"github.com/smilefactory/integrations/secret"
)

var rules = []rule{
	{"20 charges of one order at once, by two Clients over two pools, are one charge", chargedOnce},
	{"20 refunds at once, by two Clients over two pools, never exceed what was taken", refundsNeverExceed},
	{"20 calls of one refund at once, by two Clients over two pools, are one refund", refundedOnce},
	{"1,000 changes at once over two pools lose none", losesNone},
	{"a handler's write is there exactly if the entry is", handlerWrites},
	{"a handler that ends the transaction stores no entry by halves, and nobody is told that nothing was stored", handlerEnds},
	{"a statement that failed in a handler that returns it leaves nothing", handlerFails},
	{"a caller who gives up while others have the entry is told so at once, and nothing was stored", waitCanceled},
	{"what a newer program wrote can be read, and isn't changed", newerIsLeftAlone},
	{"what can't be read is Unavailable, and says nothing of what is in it", unreadable},
	{"the columns say the same as the entry", columnsAgree},
	{"no secret, and no card's number, is stored", storesNoSecrets},
	{"a pool that was closed is Unavailable", closedPool},
}

// two are two Clients with pools of their own, as in two processes.
func two(t *testing.T, databaseURL string, g payment.Gateway) [2]*payment.Client {
	t.Helper()
	var clients [2]*payment.Client
	for i := range clients {
		j, _ := open(t, databaseURL)
		clients[i] = client(t, j, g)
	}
	return clients
}

func atOnce(n int, do func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	all.Wait()
}

func chargedOnce(t *testing.T, databaseURL string) {
	var bank paymenttest.Bank
	pay := two(t, databaseURL, &bank)
	atOnce(20, func(i int) {
		r, err := pay[i%2].Charge(t.Context(), order("order-1"))
		if assert.NoError(t, err) {
			assert.Equal(t, payment.Succeeded, r.Status)
			assert.Equal(t, 1, r.Attempt)
			assert.True(t, r.Recorded)
		}
	})
	assert.Len(t, bank.Charges("order-1"), 1)
	assert.Equal(t, 1, bank.Calls(paymenttest.Commit))
}

func refundsNeverExceed(t *testing.T, databaseURL string) {
	var bank paymenttest.Bank
	pay := two(t, databaseURL, &bank)
	paid, err := pay[0].Charge(t.Context(), order("order-1"))
	require.NoError(t, err)
	var made, refused atomic.Int64
	atOnce(20, func(i int) { // of which six fit in
		f, err := pay[i%2].Refund(t.Context(), "order-1", fmt.Sprint("refund-", i), usd(300))
		if err != nil {
			assert.ErrorIs(t, err, fault.Conflict)
			refused.Add(1)
			return
		}
		assert.Equal(t, payment.RefundSucceeded, f.State)
		made.Add(1)
	})
	assert.EqualValues(t, 6, made.Load())
	assert.EqualValues(t, 14, refused.Load())
	assert.Equal(t, 6, bank.Calls(paymenttest.Refund), "the others were refused before they were sent")
	assert.Equal(t, usd(1800), bank.Refunded(paid.PaymentID))
	last, err := pay[1].Refund(t.Context(), "order-1", "the-rest", payment.Money{})
	require.NoError(t, err)
	assert.Equal(t, usd(199), last.Amount)
	assert.Equal(t, paid.Captured, bank.Refunded(paid.PaymentID))
}

func refundedOnce(t *testing.T, databaseURL string) {
	var bank paymenttest.Bank
	pay := two(t, databaseURL, &bank)
	paid, err := pay[0].Charge(t.Context(), order("order-1"))
	require.NoError(t, err)
	atOnce(20, func(i int) {
		f, err := pay[i%2].Refund(t.Context(), "order-1", "refund-1", usd(300))
		if assert.NoError(t, err) {
			assert.Equal(t, payment.RefundSucceeded, f.State)
		}
	})
	assert.Equal(t, usd(300), bank.Refunded(paid.PaymentID))
}

func losesNone(t *testing.T, databaseURL string) {
	one, _ := open(t, databaseURL)
	other, _ := open(t, databaseURL)
	k := payment.Key{Order: "order-1"}
	atOnce(20, func(i int) {
		for range 50 {
			_, err := []*paymentsql.Journal{one, other}[i%2].Update(t.Context(), k, func(_ context.Context, e *payment.Entry) error {
				e.Lease.Token++
				return nil
			})
			assert.NoError(t, err)
		}
	})
	e, err := one.Entry(t.Context(), k)
	require.NoError(t, err)
	assert.EqualValues(t, 1000, e.Lease.Token)
}

func handlerWrites(t *testing.T, databaseURL string) {
	j, pool := open(t, databaseURL)
	fails := true
	var bank paymenttest.Bank
	pay := client(t, j, &bank, payment.WithHandler(func(ctx context.Context, e payment.Event) error {
		if err := deliver(ctx, e.Order, string(e.Result.Status)); err != nil {
			return err
		}
		if fails {
			return errors.New("the warehouse is closed")
		}
		return nil
	}))
	r, err := pay.Charge(t.Context(), order("order-1"))
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status, "the money was taken")
	assert.False(t, r.Recorded)
	assert.Zero(t, count(t, pool, "select count(*) from delivery"), "what a handler wrote that failed is gone")
	assert.Zero(t, count(t, pool, "select count(*) from payment_journal where state = 'paid'"), "and the entry with it")

	fails = false
	for range 3 {
		r, err = pay.Resume(t.Context(), "order-1")
		require.NoError(t, err)
		assert.True(t, r.Recorded)
	}
	assert.Equal(t, 1, count(t, pool, "select count(*) from delivery where note = 'succeeded'"), "it is delivered once")
	assert.Len(t, bank.Charges("order-1"), 1)

	_, ok := paymentsql.Tx(t.Context())
	assert.False(t, ok)
}

func handlerEnds(t *testing.T, databaseURL string) {
	j, pool := open(t, databaseURL)
	for _, commits := range []bool{true, false} {
		k := payment.Key{Order: fmt.Sprint("order-", commits)}
		_, err := j.Update(t.Context(), k, func(ctx context.Context, e *payment.Entry) error {
			e.Rounds = 1
			tx, _ := paymentsql.Tx(ctx)
			if err := deliver(ctx, k.Order, "no"); err != nil || !commits {
				return errors.Join(err, tx.Rollback())
			}
			return tx.Commit()
		})
		assert.ErrorIs(t, err, fault.Uncertain)
		_, err = j.Entry(t.Context(), k)
		assert.ErrorIs(t, err, fault.NotFound)
		e, err := j.Update(t.Context(), k, func(_ context.Context, e *payment.Entry) error {
			assert.Equal(t, &payment.Entry{Key: k}, e)
			return nil
		})
		require.NoError(t, err)
		assert.EqualValues(t, 1, e.Version)
	}
	assert.Equal(t, 1, count(t, pool, "select count(*) from delivery"))
}

func handlerFails(t *testing.T, databaseURL string) {
	j, pool := open(t, databaseURL)
	k := payment.Key{Order: "order-1"}
	var own error
	runs := 0
	_, err := j.Update(t.Context(), k, func(ctx context.Context, _ *payment.Entry) error {
		runs++
		if err := deliver(ctx, k.Order, "first"); err != nil {
			return err
		}
		tx, _ := paymentsql.Tx(ctx)
		_, own = tx.ExecContext(ctx, "insert into delivery values ('order-1', null)")
		return own
	})
	require.Error(t, own)
	assert.Equal(t, own, err, "it comes back unchanged")
	assert.Equal(t, 1, runs)
	assert.Zero(t, count(t, pool, "select count(*) from delivery"))
	_, err = j.Entry(t.Context(), k)
	assert.ErrorIs(t, err, fault.NotFound)
}

func waitCanceled(t *testing.T, databaseURL string) {
	j, _ := open(t, databaseURL)
	other, _ := open(t, databaseURL)
	k := payment.Key{Order: "order-1"}
	holds, over := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		_, err := other.Update(t.Context(), k, func(context.Context, *payment.Entry) error {
			close(holds)
			<-over
			return nil
		})
		assert.NoError(t, err)
	})
	<-holds
	ctx, cancel := context.WithCancel(t.Context())
	var gone time.Time
	time.AfterFunc(50*time.Millisecond, func() { gone = time.Now(); cancel() })
	_, err := j.Update(ctx, k, func(context.Context, *payment.Entry) error {
		t.Error("it ran")
		return nil
	})
	assert.Less(t, time.Since(gone), 500*time.Millisecond, "50 ms, on a machine that has time")
	assert.ErrorIs(t, err, fault.Unavailable)
	assert.ErrorIs(t, err, context.Canceled)
	_, err = j.Entry(ctx, k)
	assert.ErrorIs(t, err, fault.Unavailable, "nor does a reader who has given up get an answer")
	_, err = j.Entry(t.Context(), k)
	assert.ErrorIs(t, err, fault.NotFound, "reading waits for nobody")
	close(over)
	all.Wait()
	e, err := j.Entry(t.Context(), k)
	require.NoError(t, err)
	assert.EqualValues(t, 1, e.Version)
}

func newerIsLeftAlone(t *testing.T, databaseURL string) {
	j, pool := open(t, databaseURL)
	k := payment.Key{Order: "order-1"}
	for _, newer := range []string{
		`{"Key":{"Tenant":"","Order":"order-1"},"Version":1,"Rounds":3,"Surcharge":{"minor":5,"currency":"USD"}}`,
		`{"Key":{"Tenant":"","Order":"order-1"},"Version":1,"Rounds":3,"Attempts":[{"Number":1,"Wallet":"apple"}]}`,
	} {
		_, err := pool.ExecContext(t.Context(), "delete from payment_journal")
		require.NoError(t, err)
		_, err = pool.ExecContext(t.Context(), "insert into payment_journal (tenant, order_id, version, entry) values ('', 'order-1', 1, $1)", newer)
		require.NoError(t, err)
		e, err := j.Entry(t.Context(), k)
		require.NoError(t, err)
		assert.Equal(t, 3, e.Rounds)
		_, err = j.Update(t.Context(), k, func(context.Context, *payment.Entry) error {
			t.Error("it ran")
			return nil
		})
		assert.ErrorIs(t, err, fault.Unavailable)
		assert.ErrorContains(t, err, "newer program")
		var is string
		require.NoError(t, pool.QueryRowContext(t.Context(), "select entry from payment_journal").Scan(&is))
		assert.Equal(t, newer, is)
	}
}

func unreadable(t *testing.T, databaseURL string) {
	j, pool := open(t, databaseURL)
	_, err := pool.ExecContext(t.Context(), `insert into payment_journal (tenant, order_id, version, entry) values ('', 'order-1', 1, '{"Rounds":"hunter2"}')`)
	require.NoError(t, err)
	_, readErr := j.Entry(t.Context(), payment.Key{Order: "order-1"})
	_, err = j.Update(t.Context(), payment.Key{Order: "order-1"}, func(context.Context, *payment.Entry) error { return nil })
	for _, err := range []error{readErr, err} {
		assert.ErrorIs(t, err, fault.Unavailable)
		assert.ErrorContains(t, err, "order-1 can't be read")
		assert.NotContains(t, err.Error(), "hunter2")
	}
}

func columnsAgree(t *testing.T, databaseURL string) {
	j, pool := open(t, databaseURL)
	var bank paymenttest.Bank
	pay := client(t, j, &bank)
	o := order("order-1")
	o.Methods["bank"] = payment.Method{ID: paymenttest.Slow}
	_, err := pay.Charge(t.Context(), o)
	require.NoError(t, err)
	e, err := j.Entry(t.Context(), payment.Key{Order: "order-1"})
	require.NoError(t, err)
	var state, provider, paymentID, currency string
	var version, amount, due, created, updated int64
	require.NoError(t, pool.QueryRowContext(t.Context(), `
		select state, provider, payment_id, currency, version, amount, due, created, updated from payment_journal where tenant = '' and order_id = 'order-1'`,
	).Scan(&state, &provider, &paymentID, &currency, &version, &amount, &due, &created, &updated))
	assert.Equal(t, "processing", state)
	assert.Equal(t, "bank", provider)
	assert.Equal(t, e.Attempts[0].PaymentID, paymentID)
	assert.Equal(t, "USD", currency)
	assert.Equal(t, e.Version, version)
	assert.EqualValues(t, 1999, amount)
	assert.InDelta(t, e.Due.UnixMilli(), due, 1)
	assert.NotZero(t, due)
	assert.Equal(t, e.Created.UnixMilli(), created)
	assert.Equal(t, e.Updated.UnixMilli(), updated)

	for _, id := range []string{"order-2", "order-3"} {
		_, err := pay.Charge(t.Context(), order(id))
		require.NoError(t, err)
	}
	assert.Equal(t, 2*1999, count(t, pool, "select sum(amount) from payment_journal where state = 'paid' and created >= $1 and created < $2 group by provider, currency",
		created, time.Now().Add(time.Second).UnixMilli()))
}

// loose is a Bank that says what nobody should keep.
type loose struct{ *paymenttest.Bank }

const (
	plantedSecret = "pi_123_secret_planted"
	plantedCard   = "4242424242424242"
	plantedError  = "sk_live_planted"
)

func (l loose) Commit(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	p, err := l.Bank.Commit(ctx, a)
	if err == nil && p.Action != nil {
		p.Action = &payment.NextAction{Provider: "bank", ClientSecret: secret.NewValue(plantedSecret)}
	}
	if err != nil {
		err = fault.New(fault.KindOf(err), errors.New(plantedError+" "+plantedCard))
	}
	return p, err
}

// storesNoSecrets charges in all kinds of ways, and looks at all that is stored.
func storesNoSecrets(t *testing.T, databaseURL string) {
	j, pool := open(t, databaseURL)
	bank := loose{&paymenttest.Bank{}}
	pay := client(t, j, bank, payment.WithHandler(func(ctx context.Context, e payment.Event) error { return deliver(ctx, e.Order, string(e.Type)) }))
	for _, method := range []string{paymenttest.Good, paymenttest.Poor, paymenttest.Strict, paymenttest.Slow, ""} {
		o := order("order-" + cmp.Or(method, "page"))
		o.Methods["bank"] = payment.Method{ID: method}
		if method == "" {
			o.Methods = nil
		}
		_, err := pay.Charge(t.Context(), o)
		require.NoError(t, err)
	}
	bank.Fail(paymenttest.Commit, fault.New(fault.Uncertain, nil))
	bank.Fail(paymenttest.LookUp, fault.New(fault.Unavailable, nil))
	_, _ = pay.Charge(t.Context(), order("order-lost"))
	o := order("order-card")
	o.Methods["bank"] = payment.Method{ID: plantedCard}
	_, err := pay.Charge(t.Context(), o)
	assert.ErrorIs(t, err, fault.Invalid)

	all := everything(t, pool, databaseURL)
	assert.Contains(t, all, "order-strict", "it has been looked at")
	assert.Contains(t, all, "user-42")
	for _, planted := range []string{plantedSecret, plantedCard, plantedError, "_secret_"} {
		assert.NotContains(t, all, planted)
	}
}

func everything(t *testing.T, pool *sql.DB, databaseURL string) string {
	t.Helper()
	var all strings.Builder
	for _, query := range []string{"select * from payment_journal", "select * from payment_journal_ids", "select * from delivery"} {
		rows, err := pool.QueryContext(t.Context(), query)
		require.NoError(t, err)
		defer rows.Close()
		columns, err := rows.Columns()
		require.NoError(t, err)
		for rows.Next() {
			values, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			require.NoError(t, rows.Scan(into...))
			for _, v := range values {
				if b, ok := v.([]byte); ok {
					v = string(b)
				}
				fmt.Fprintln(&all, v)
			}
		}
		require.NoError(t, rows.Err())
	}
	if path, ok := strings.CutPrefix(databaseURL, "sqlite:"); ok { // what was there once, too
		files, err := filepath.Glob(path + "*")
		require.NoError(t, err)
		for _, name := range files {
			data, err := os.ReadFile(name)
			require.NoError(t, err)
			all.Write(data)
		}
	}
	return all.String()
}

func closedPool(t *testing.T, databaseURL string) {
	pool, err := sqldb.Open(t.Context(), databaseURL)
	require.NoError(t, err)
	j, err := paymentsql.Open(t.Context(), pool)
	require.NoError(t, err)
	require.NoError(t, pool.Close())
	isDown(t, j)
}

// isDown fails unless everything that a journal is asked is Unavailable.
func isDown(t *testing.T, j *paymentsql.Journal) {
	t.Helper()
	k := payment.Key{Order: "order-1"}
	start := time.Now()
	_, updateErr := j.Update(t.Context(), k, func(context.Context, *payment.Entry) error { return nil })
	_, entryErr := j.Entry(t.Context(), k)
	_, findErr := j.Find(t.Context(), payment.ProviderID{Provider: "bank", ID: "pay_1"})
	_, dueErr := j.Due(t.Context(), time.Now(), 10)
	for name, err := range map[string]error{"Update": updateErr, "Entry": entryErr, "Find": findErr, "Due": dueErr} {
		assert.ErrorIs(t, err, fault.Unavailable, name)
	}
	assert.Less(t, time.Since(start), 3*time.Second, "at once, and not after the five seconds for which others may be in the way")
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	pool := sqldbtest.Open(t, sqldbtest.SQLite(t))
	_, err := pool.ExecContext(t.Context(), "pragma journal_mode = delete")
	require.NoError(t, err)
	_, err = paymentsql.Open(t.Context(), pool)
	assert.ErrorIs(t, err, fault.Invalid)
	assert.ErrorContains(t, err, "journal_mode(WAL)")
}

// TestSQLiteUsesItsIndexes: what is asked for often reads no more rows than it
// answers.
func TestSQLiteUsesItsIndexes(t *testing.T) {
	_, pool := open(t, sqldbtest.SQLite(t))
	for query, index := range map[string]string{
		"select tenant, order_id from payment_journal where due > 0 and due <= 5 order by due, tenant, order_id limit 10": "USING COVERING INDEX payment_journal_due",
		"select tenant, order_id from payment_journal_ids where provider = 'a' and id = 'b'":                              "USING INDEX sqlite_autoindex_payment_journal_ids_1",
		"select entry from payment_journal where tenant = 'a' and order_id = 'b'":                                         "USING INDEX sqlite_autoindex_payment_journal_1",
	} {
		var plan, skip string
		require.NoError(t, pool.QueryRowContext(t.Context(), "explain query plan "+query).Scan(&skip, &skip, &skip, &plan))
		assert.Contains(t, plan, index)
	}
}

// TestTheFormStays reads what was written when the form was fixed, and writes
// what it has read: no field may go, be renamed, or change its form.
func TestTheFormStays(t *testing.T) {
	data, err := os.ReadFile("testdata/entry.json")
	require.NoError(t, err)
	j, pool := open(t, sqldbtest.SQLite(t))
	_, err = pool.ExecContext(t.Context(), "insert into payment_journal (tenant, order_id, version, entry) values ('shop', 'order-1', 7, $1)", string(data))
	require.NoError(t, err)
	_, err = j.Update(t.Context(), payment.Key{Tenant: "shop", Order: "order-1"}, func(_ context.Context, e *payment.Entry) error {
		assert.Equal(t, usd(1999), e.Order.Amount)
		assert.Equal(t, payment.InsufficientFunds, e.Attempts[0].Decline.Reason)
		assert.Equal(t, payment.AttemptPaid, e.Attempts[1].State)
		assert.Equal(t, time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC), e.Created.UTC())
		e.Version = 6 // which the store doesn't care about
		return nil
	})
	require.NoError(t, err)
	var written string
	require.NoError(t, pool.QueryRowContext(t.Context(), "select entry from payment_journal").Scan(&written))
	var was, is map[string]any
	require.NoError(t, json.Unmarshal(data, &was))
	require.NoError(t, json.Unmarshal([]byte(written), &is))
	assert.InDelta(t, 8, is["Version"], 0)
	delete(was, "Version")
	holds(t, "", is, was)
}

// holds fails where something of was isn't in is; there may be more in it.
func holds(t *testing.T, path string, is, was any) {
	t.Helper()
	switch was := was.(type) {
	case map[string]any:
		is, ok := is.(map[string]any)
		assert.True(t, ok, path)
		for name := range was {
			holds(t, path+"."+name, is[name], was[name])
		}
	case []any:
		is, ok := is.([]any)
		if assert.True(t, ok && len(is) == len(was), path) {
			for i := range was {
				holds(t, fmt.Sprintf("%s[%d]", path, i), is[i], was[i])
			}
		}
	default:
		assert.Equal(t, was, is, path)
	}
}
