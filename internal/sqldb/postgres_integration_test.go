package sqldb_test

import (
	"context"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sqldb"
	"github.com/smilefactory/integrations/internal/sqldbtest"
)

// raise fails as the server would with that SQLSTATE.
func raise(state string) string { return "do $$ begin raise sqlstate '" + state + "'; end $$" }

func TestIntegrationPostgresRepeatsWhatOthersPrevented(t *testing.T) {
	for name, statement := range map[string]string{
		"serialization failure": raise("40001"),
		"deadlock":              raise("40P01"),
		"lost connection":       "select pg_terminate_backend(pg_backend_pid())",
	} {
		t.Run(name, func(t *testing.T) {
			db, pool := bank(t, sqldbtest.Postgres(t))
			n := 0
			require.NoError(t, db.InTx(t.Context(), func(tx sqldb.Tx) error {
				n++
				if err := move(t.Context(), tx, "ada", "grace", 30); err != nil || n > 1 {
					return err
				}
				_, err := tx.Exec(t.Context(), statement)
				return err
			}))
			assert.Equal(t, 2, n)
			assert.Equal(t, 70, cents(t, pool, "ada"))
		})
	}
}

// TestIntegrationPostgresRepeatsWhatAFunctionsOwnStatementsMet: they answer with
// the driver's error, which is no fault.
func TestIntegrationPostgresRepeatsWhatAFunctionsOwnStatementsMet(t *testing.T) {
	db, pool := bank(t, sqldbtest.Postgres(t))
	for state, runs := range map[string]int{"40001": 2, "40P01": 2, "23505": 1} {
		n := 0
		err := db.InTx(t.Context(), func(tx sqldb.Tx) error {
			if n++; n > 1 {
				return nil
			}
			_, err := tx.SQL().ExecContext(t.Context(), raise(state))
			return err
		})
		assert.Equal(t, runs, n, state)
		assert.Equal(t, runs > 1, err == nil, state)
	}
	assert.Equal(t, 100, cents(t, pool, "ada"))
}

// TestIntegrationPostgresCanceledInTheCommitIsUncertain: the commit takes a while,
// and its caller goes. Before it he is Canceled.
func TestIntegrationPostgresCanceledInTheCommitIsUncertain(t *testing.T) {
	databaseURL := sqldbtest.Postgres(t)
	db, pool := bank(t, databaseURL)
	for _, statement := range []string{
		"create function nap() returns trigger language plpgsql as $$ begin perform pg_sleep(10000); return null; end $$",
		"create constraint trigger naps after update on account deferrable initially deferred for each row execute function nap()",
	} {
		require.NoError(t, in(t.Context(), db, statement))
	}
	for _, inTheCommit := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		err := db.InTx(ctx, func(tx sqldb.Tx) error {
			_, err := tx.Exec(ctx, "update account set cents = 1 where id = 'ada'")
			if inTheCommit {
				time.AfterFunc(50*time.Millisecond, cancel)
			} else {
				cancel()
			}
			return err
		})
		assert.Equal(t, map[bool]fault.Kind{true: fault.Uncertain, false: fault.Canceled}[inTheCommit], fault.KindOf(err), "%v", err)
	}
	assert.Equal(t, 100, cents(t, pool, "ada"))
}

func TestIntegrationPostgresDeadlocksEnd(t *testing.T) {
	databaseURL := sqldbtest.Postgres(t)
	_, pool := bank(t, databaseURL)
	db := with(t, databaseURL, "", "deadlock_timeout", "20ms")
	var attempts, both atomic.Int64
	meet := make(chan struct{})
	var all sync.WaitGroup
	for _, d := range [][2]string{{"ada", "grace"}, {"grace", "ada"}} {
		all.Go(func() {
			assert.NoError(t, db.InTx(t.Context(), func(tx sqldb.Tx) error {
				attempts.Add(1)
				for i, id := range d {
					if _, err := tx.Exec(t.Context(), "update account set cents = cents + ? where id = ?", 1-2*i, id); err != nil {
						return err
					}
					if i == 0 && both.Add(1) == 2 {
						close(meet)
					}
					<-meet
				}
				return nil
			}))
		})
	}
	all.Wait()
	assert.GreaterOrEqual(t, attempts.Load(), int64(3), "one of them was the victim")
	assert.Equal(t, 100, cents(t, pool, "ada"))
}

func TestIntegrationPostgresAnswersAreKinds(t *testing.T) {
	databaseURL := sqldbtest.Postgres(t)
	db, pool := bank(t, databaseURL)
	for state, kind := range map[string]fault.Kind{
		"53100": fault.Unavailable, // disk_full
		"53300": fault.Unavailable, // too_many_connections
		"58030": fault.Unavailable, // io_error
		"22001": fault.Invalid,     // string_data_right_truncation
		"23P01": fault.Conflict,    // exclusion_violation
		"42501": fault.Denied,      // insufficient_privilege
	} {
		assert.Equal(t, kind, fault.KindOf(in(t.Context(), db, raise(state))), state)
	}
	u, err := url.Parse(databaseURL)
	require.NoError(t, err)
	u.User = url.User("nobody")
	_, err = sqldb.Open(t.Context(), u.String())
	assert.ErrorIs(t, err, fault.Denied)
	assert.Equal(t, 100, cents(t, pool, "ada"))
}

// TestIntegrationPostgresRefusesInTheCommit: the server answers a commit with an
// error, here of a constraint that is deferred: nothing was done.
func TestIntegrationPostgresRefusesInTheCommit(t *testing.T) {
	db, pool := bank(t, sqldbtest.Postgres(t))
	require.NoError(t, in(t.Context(), db, "update account set cents = 7 where id = 'grace'"))
	require.NoError(t, in(t.Context(), db, "alter table account add constraint once unique (cents) deferrable initially deferred"))
	err := in(t.Context(), db, "update account set cents = 7")
	assert.ErrorIs(t, err, fault.Conflict)
	assert.False(t, fault.MayHaveActed(err))
	assert.Equal(t, 100, cents(t, pool, "ada"))
}

func TestIntegrationPostgresLostInTheCommitIsUncertain(t *testing.T) {
	databaseURL := sqldbtest.Postgres(t)
	_, pool := bank(t, databaseURL)
	g := sqldbtest.NewGate(t, databaseURL)
	db, _ := open(t, g.URL)
	runs := 0
	err := db.InTx(t.Context(), func(tx sqldb.Tx) error {
		runs++
		g.LoseNext()
		_, err := tx.Exec(t.Context(), "update account set cents = cents - 1 where id = 'ada'")
		return err
	})
	assert.ErrorIs(t, err, fault.Uncertain)
	assert.True(t, fault.MayHaveActed(err))
	assert.Equal(t, 1, runs, "it isn't repeated")
	assert.Equal(t, 99, cents(t, pool, "ada"), "here it was committed")
	assert.NoError(t, in(t.Context(), db, "update account set cents = 50 where id = 'ada'"), "the next one has another connection")
}
