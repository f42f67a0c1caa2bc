package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sqldb"
	"github.com/smilefactory/integrations/internal/sqldbtest"
)

var faultRules = []rule{
	{"a key that is taken is Conflict, a value that may not be Invalid, no table Unavailable", answersAreKinds},
	{"a database that may only be read is Unavailable", readOnlyIsUnavailable},
	{"a caller who gives up gets Canceled from a statement, at once, and nothing was done", statementCanceled},
	{"a caller who gives up gets Canceled from a wait for others, at once", waitCanceled},
	{"a caller who has given up gets Canceled before anything is done", canceledBefore},
	{"a caller's deadline is Canceled, too", deadlineCanceled},
	{"where others are in the way for a while, it waits", waitsForOthers},
}

// in runs one statement in a transaction of its own.
func in(ctx context.Context, db *sqldb.DB, query string) error {
	return db.InTx(ctx, func(tx sqldb.Tx) error {
		_, err := tx.Exec(ctx, query)
		return err
	})
}

// with opens a database with a pragma of SQLite, or a setting of PostgreSQL.
func with(t *testing.T, databaseURL, pragma, setting, value string) *sqldb.DB {
	t.Helper()
	var pool *sql.DB
	if path, ok := strings.CutPrefix(databaseURL, "sqlite:"); ok {
		var err error
		pool, err = sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma="+pragma)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, pool.Close()) })
	} else {
		u, err := url.Parse(databaseURL)
		require.NoError(t, err)
		q := u.Query()
		q.Set(setting, value)
		u.RawQuery = q.Encode()
		pool = sqldbtest.Open(t, u.String())
	}
	db, err := sqldb.New(t.Context(), pool)
	require.NoError(t, err)
	return db
}

func readOnly(t *testing.T, databaseURL string) *sqldb.DB {
	t.Helper()
	return with(t, databaseURL, "query_only(1)", "default_transaction_read_only", "on")
}

func answersAreKinds(t *testing.T, databaseURL string) {
	db, _ := bank(t, databaseURL)
	for _, c := range []struct {
		query string
		kind  fault.Kind
	}{
		{"insert into account values ('ada', 1)", fault.Conflict},
		{"insert into account values ('eve', null)", fault.Invalid},
		{"insert into account values ('eve', -1)", fault.Invalid},
		{"insert into nothing values (1)", fault.Unavailable},
		{"nonsense", fault.Unavailable},
	} {
		err := in(t.Context(), db, c.query)
		assert.Equal(t, c.kind, fault.KindOf(err), "%s: %v", c.query, err)
		f, _ := fault.As(err)
		require.NotNil(t, f)
		assert.NotEmpty(t, f.Code)
		assert.Error(t, f.Err, "the driver's error is the cause")
	}
}

func readOnlyIsUnavailable(t *testing.T, databaseURL string) {
	_, pool := bank(t, databaseURL)
	err := in(t.Context(), readOnly(t, databaseURL), "update account set cents = 1")
	assert.ErrorIs(t, err, fault.Unavailable)
	assert.Equal(t, 100, cents(t, pool, "ada"))
}

// slow takes hours.
var slow = map[sqldb.Dialect]string{
	sqldb.SQLite:   "update account set cents = (with recursive n (i) as (select 1 union all select i + 1 from n) select count(*) from n)",
	sqldb.Postgres: "update account set cents = (select 1 from pg_sleep(10000))",
}

// soon is what an end of a context may take, on a slow machine too.
const soon = 500 * time.Millisecond

func statementCanceled(t *testing.T, databaseURL string) {
	db, pool := bank(t, databaseURL)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	var ended time.Time
	err := db.InTx(ctx, func(tx sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "update account set cents = 1"); err != nil {
			return err
		}
		time.AfterFunc(50*time.Millisecond, func() { ended = time.Now(); cancel(why) })
		_, err := tx.Exec(ctx, slow[db.Dialect()])
		return err
	})
	assert.Less(t, time.Since(ended), soon)
	assert.ErrorIs(t, err, fault.Canceled)
	assert.ErrorIs(t, err, why)
	assert.Equal(t, 100, cents(t, pool, "ada"))
}

// held has written to ada in a transaction that goes on until it is released.
func held(t *testing.T, databaseURL string) (release func()) {
	t.Helper()
	db, _ := open(t, databaseURL)
	holds, over := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		assert.NoError(t, db.InTx(t.Context(), func(tx sqldb.Tx) error {
			_, err := tx.Exec(t.Context(), "update account set cents = cents + 1 where id = 'ada'")
			close(holds)
			<-over
			return err
		}))
	})
	<-holds
	return func() { close(over); all.Wait() }
}

func waitCanceled(t *testing.T, databaseURL string) {
	db, pool := bank(t, databaseURL)
	release := held(t, databaseURL)
	ctx, cancel := context.WithCancel(t.Context())
	var ended time.Time
	time.AfterFunc(50*time.Millisecond, func() { ended = time.Now(); cancel() })
	err := in(ctx, db, "update account set cents = 0 where id = 'ada'")
	assert.Less(t, time.Since(ended), soon)
	assert.ErrorIs(t, err, fault.Canceled)
	release()
	assert.Equal(t, 101, cents(t, pool, "ada"))
}

func canceledBefore(t *testing.T, databaseURL string) {
	db, _ := bank(t, databaseURL)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := db.InTx(ctx, func(sqldb.Tx) error { t.Error("it ran"); return nil })
	assert.ErrorIs(t, err, fault.Canceled)
}

func deadlineCanceled(t *testing.T, databaseURL string) {
	db, _ := bank(t, databaseURL)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := in(ctx, db, slow[db.Dialect()])
	assert.ErrorIs(t, err, fault.Canceled)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}

func waitsForOthers(t *testing.T, databaseURL string) {
	_, pool := bank(t, databaseURL)
	for _, patient := range []string{"busy_timeout(5000)", "busy_timeout(0)", "busy_timeout(5000)&_txlock=immediate"} { // SQLite waits, or we do
		db := with(t, databaseURL, patient, "application_name", "patient")
		release := held(t, databaseURL)
		var all sync.WaitGroup
		all.Go(func() {
			assert.NoError(t, in(t.Context(), db, "update account set cents = cents + 10 where id = 'ada'"))
		})
		<-time.After(100 * time.Millisecond) // most of which it waits
		release()
		all.Wait()
	}
	assert.Equal(t, 133, cents(t, pool, "ada"))
}
