package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sqldb"
)

var txRules = []rule{
	{"what a function did is there when it returned nil", committed},
	{"nothing is there when it returned an error, which comes back as it is", undoneByError},
	{"nothing is there when it panicked, and the connection is free", undoneByPanic},
	{"a statement that failed ends the transaction, even if nobody looks", failedStatementEnds},
	{"a row is read, or it is sql.ErrNoRows, which ends nothing", rowsAreRead},
	{"rows are read until the function has had enough", rowsUntilEnough},
	{"a question mark within quotes is no argument", quotedQuestionMark},
	{"32 goroutines over two pools lose no update", noUpdateLost},
	{"a compare-and-set has one winner, and the lease's token rises", leaseHasOneHolder},
	{"what only reads waits for nobody, and sees what is committed", readsWait},
	{"statements of database/sql's own transaction last or go with it", ownStatements},
	{"a driver's error that a function returns comes back as it is", ownErrors},
	{"a transaction that the function ended isn't repeated, and nobody knows what it was", endedByFunction},
	{"within a caller's transaction it lasts if that commits", withinCommitted},
	{"within a caller's transaction it goes if that is rolled back", withinRolledBack},
	{"within a caller's transaction an error undoes only its own part", withinFailed},
	{"within itself too", withinNested},
}

// move moves cents, as a store would do it.
func move(ctx context.Context, tx sqldb.Tx, from, to string, cents int) error {
	for _, c := range []struct {
		id string
		by int
	}{{from, -cents}, {to, cents}} {
		var has int
		if err := tx.QueryRow(ctx, []any{&has}, "select cents from account where id = ?"+tx.ForUpdate(), c.id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "update account set cents = ? where id = ?", has+c.by, c.id); err != nil {
			return err
		}
	}
	return nil
}

func committed(t *testing.T, databaseURL string) {
	db, pool := bank(t, databaseURL)
	require.NoError(t, db.InTx(t.Context(), func(tx sqldb.Tx) error { return move(t.Context(), tx, "ada", "grace", 30) }))
	assert.Equal(t, 70, cents(t, pool, "ada"))
	assert.Equal(t, 130, cents(t, pool, "grace"))
}

func undoneByError(t *testing.T, databaseURL string) {
	db, pool := bank(t, databaseURL)
	own := errors.New("no")
	err := db.InTx(t.Context(), func(tx sqldb.Tx) error {
		require.NoError(t, move(t.Context(), tx, "ada", "grace", 30))
		return own
	})
	assert.Equal(t, own, err)
	assert.Equal(t, 100, cents(t, pool, "ada"))
}

func undoneByPanic(t *testing.T, databaseURL string) {
	db, pool := bank(t, databaseURL)
	pool.SetMaxOpenConns(1)
	for range 3 {
		assert.PanicsWithValue(t, "oh", func() {
			_ = db.InTx(t.Context(), func(tx sqldb.Tx) error {
				require.NoError(t, move(t.Context(), tx, "ada", "grace", 30))
				panic("oh")
			})
		})
	}
	assert.Equal(t, 100, cents(t, pool, "ada"))
}

func failedStatementEnds(t *testing.T, databaseURL string) {
	db, pool := bank(t, databaseURL)
	insert := func(tx sqldb.Tx, id string) error {
		_, err := tx.Exec(t.Context(), "insert into account values (?, 1)", id)
		return err
	}
	err := db.InTx(t.Context(), func(tx sqldb.Tx) error {
		require.NoError(t, insert(tx, "new"))
		conflict := insert(tx, "ada")
		require.ErrorIs(t, conflict, fault.Conflict)
		assert.Equal(t, conflict, insert(tx, "other"), "nothing runs behind it")
		var n int
		assert.Equal(t, conflict, tx.QueryRow(t.Context(), []any{&n}, "select 1"))
		assert.Equal(t, conflict, tx.Query(t.Context(), nil, "select 1"))
		return nil
	})
	assert.ErrorIs(t, err, fault.Conflict)
	var n int
	require.NoError(t, pool.QueryRowContext(t.Context(), "select count(*) from account").Scan(&n))
	assert.Equal(t, 2, n)
}

func rowsAreRead(t *testing.T, databaseURL string) {
	db, pool := bank(t, databaseURL)
	require.NoError(t, db.InTx(t.Context(), func(tx sqldb.Tx) error {
		var n int
		assert.Equal(t, sql.ErrNoRows, tx.QueryRow(t.Context(), []any{&n}, "select cents from account where id = ?", "nobody"))
		require.NoError(t, tx.QueryRow(t.Context(), []any{&n}, "select cents from account where id = ?", "ada"))
		assert.Equal(t, 100, n)
		changed, err := tx.Exec(t.Context(), "update account set cents = cents + ?", 1)
		assert.EqualValues(t, 2, changed)
		return err
	}))
	assert.Equal(t, 101, cents(t, pool, "ada"))
}

func rowsUntilEnough(t *testing.T, databaseURL string) {
	db, pool := bank(t, databaseURL)
	pool.SetMaxOpenConns(1)
	enough := errors.New("enough")
	var ids []string
	err := db.InTx(t.Context(), func(tx sqldb.Tx) error {
		return tx.Query(t.Context(), func(scan func(...any) error) error {
			var id string
			require.NoError(t, scan(&id))
			ids = append(ids, id)
			return enough
		}, "select id from account order by id")
	})
	assert.Equal(t, enough, err)
	assert.Equal(t, []string{"ada"}, ids)
	assert.Equal(t, 100, cents(t, pool, "ada"), "the connection is free")
}

func quotedQuestionMark(t *testing.T, databaseURL string) {
	db, _ := open(t, databaseURL)
	require.NoError(t, db.InTx(t.Context(), func(tx sqldb.Tx) error {
		var a, b, c string
		err := tx.QueryRow(t.Context(), []any{&a, &b, &c}, `select '?', cast(? as text) as "what?", cast(? as text)`, "one", "two")
		assert.Equal(t, []string{"?", "one", "two"}, []string{a, b, c})
		return err
	}))
}

func noUpdateLost(t *testing.T, databaseURL string) {
	_, pool := bank(t, databaseURL)
	other, _ := open(t, databaseURL)
	one, _ := open(t, databaseURL)
	var all sync.WaitGroup
	for g := range 32 {
		db := []*sqldb.DB{one, other}[g%2]
		all.Go(func() {
			for range 4 {
				assert.NoError(t, db.InTx(t.Context(), func(tx sqldb.Tx) error {
					var has int
					if err := tx.QueryRow(t.Context(), []any{&has}, "select cents from account where id = ?"+tx.ForUpdate(), "ada"); err != nil {
						return err
					}
					_, err := tx.Exec(t.Context(), "update account set cents = ? where id = ?", has+1, "ada")
					return err
				}))
			}
		})
	}
	all.Wait()
	assert.Equal(t, 100+32*4, cents(t, pool, "ada"))
}

// leaseHasOneHolder takes a lease as a journal does it: who holds it has the
// token of the row, and whoever comes with an older one changes nothing.
func leaseHasOneHolder(t *testing.T, databaseURL string) {
	db, _ := open(t, databaseURL)
	other, _ := open(t, databaseURL)
	require.NoError(t, db.Migrate(t.Context(), "leases", files("00001_lease.sql", `-- +goose Up
create table lease (id text primary key, token bigint not null, until bigint not null);
insert into lease values ('job', 0, 0);`)))
	take := func(db *sqldb.DB, now int64) (token int64) {
		require.NoError(t, db.InTx(t.Context(), func(tx sqldb.Tx) error {
			var until int64
			err := tx.QueryRow(t.Context(), []any{&token, &until}, "select token, until from lease where id = ?"+tx.ForUpdate(), "job")
			if err != nil || now < until {
				token = 0
				return err
			}
			n, err := tx.Exec(t.Context(), "update lease set token = token + 1, until = ? where id = ? and token = ?", now+10, "job", token)
			token++
			assert.EqualValues(t, 1, n)
			return err
		}))
		return token
	}
	for round := range int64(5) {
		var holders atomic.Int64
		var all sync.WaitGroup
		for g := range 8 {
			all.Go(func() {
				if token := take([]*sqldb.DB{db, other}[g%2], 100*round+100); token != 0 {
					assert.Equal(t, round+1, token)
					holders.Add(1)
				}
			})
		}
		all.Wait()
		assert.EqualValues(t, 1, holders.Load())
	}
	require.NoError(t, db.InTx(t.Context(), func(tx sqldb.Tx) error {
		n, err := tx.Exec(t.Context(), "update lease set until = 0 where id = ? and token = ?", "job", 4)
		assert.Zero(t, n, "the token of the fourth holder is an old one")
		return err
	}))
}

func readsWait(t *testing.T, databaseURL string) {
	db, _ := bank(t, databaseURL)
	sees := func() (cents int) {
		require.NoError(t, db.Read(t.Context(), func(tx sqldb.Tx) error {
			assert.Nil(t, tx.SQL())
			return tx.QueryRow(t.Context(), []any{&cents}, "select cents from account where id = ?", "ada")
		}))
		return cents
	}
	release := held(t, databaseURL)
	assert.Equal(t, 100, sees())
	release()
	assert.Equal(t, 101, sees())
	err := db.Read(t.Context(), func(tx sqldb.Tx) error {
		return tx.QueryRow(t.Context(), []any{new(int)}, "select cents from account where id = ?", "nobody")
	})
	assert.Equal(t, sql.ErrNoRows, err)
	err = db.Read(t.Context(), func(tx sqldb.Tx) error { return tx.Query(t.Context(), nil, "nonsense") })
	assert.ErrorIs(t, err, fault.Unavailable)
}

func ownStatements(t *testing.T, databaseURL string) {
	db, pool := bank(t, databaseURL)
	no := errors.New("no")
	for _, c := range []struct {
		end  error
		want int
	}{{no, 100}, {nil, 70}} {
		err := db.InTx(t.Context(), func(tx sqldb.Tx) error {
			if err := move(t.Context(), tx, "ada", "grace", 10); err != nil {
				return err
			}
			if _, err := tx.SQL().ExecContext(t.Context(), "update account set cents = cents - 20 where id = 'ada'"); err != nil {
				return err
			}
			return c.end
		})
		assert.Equal(t, c.end, err)
		assert.Equal(t, c.want, cents(t, pool, "ada"))
	}
	tx, err := pool.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, db.Within(t.Context(), tx, func(within sqldb.Tx) error {
		assert.Same(t, tx, within.SQL())
		return nil
	}))
	require.NoError(t, tx.Rollback())
}

func ownErrors(t *testing.T, databaseURL string) {
	db, pool := bank(t, databaseURL)
	var own error
	err := db.InTx(t.Context(), func(tx sqldb.Tx) error {
		_, own = tx.SQL().ExecContext(t.Context(), "insert into account values ('ada', 1)")
		return own
	})
	require.Error(t, err)
	assert.Equal(t, own, err)
	assert.NoError(t, in(t.Context(), db, "update account set cents = 7"))
	assert.Equal(t, 7, cents(t, pool, "ada"))
}

func endedByFunction(t *testing.T, databaseURL string) {
	db, pool := bank(t, databaseURL)
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback} {
		for _, writes := range []bool{true, false} {
			runs := 0
			err := db.InTx(t.Context(), func(tx sqldb.Tx) error {
				runs++
				require.NoError(t, end(tx.SQL()))
				if !writes {
					return nil
				}
				_, err := tx.Exec(t.Context(), "update account set cents = 0")
				return err
			})
			assert.ErrorIs(t, err, fault.Uncertain)
			assert.Equal(t, 1, runs)
		}
	}
	assert.Equal(t, 100, cents(t, pool, "ada"))
	assert.NoError(t, in(t.Context(), db, "update account set cents = 7"), "the connection is free")
}

func withinCommitted(t *testing.T, databaseURL string) {
	db, pool := bank(t, databaseURL)
	tx, err := pool.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, db.Within(t.Context(), tx, func(tx sqldb.Tx) error { return move(t.Context(), tx, "ada", "grace", 30) }))
	require.NoError(t, tx.Commit())
	assert.Equal(t, 70, cents(t, pool, "ada"))
}

func withinRolledBack(t *testing.T, databaseURL string) {
	db, pool := bank(t, databaseURL)
	tx, err := pool.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, db.Within(t.Context(), tx, func(tx sqldb.Tx) error { return move(t.Context(), tx, "ada", "grace", 30) }))
	require.NoError(t, tx.Rollback())
	assert.Equal(t, 100, cents(t, pool, "ada"))
}

func withinFailed(t *testing.T, databaseURL string) {
	db, pool := bank(t, databaseURL)
	tx, err := pool.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "update account set cents = 1 where id = 'ada'")
	require.NoError(t, err)
	err = db.Within(t.Context(), tx, func(tx sqldb.Tx) error {
		require.NoError(t, move(t.Context(), tx, "grace", "ada", 30))
		_, err := tx.Exec(t.Context(), "insert into account values ('ada', 1)")
		return err
	})
	require.ErrorIs(t, err, fault.Conflict)
	_, err = tx.ExecContext(t.Context(), "update account set cents = cents + 1 where id = 'ada'")
	require.NoError(t, err, "the transaction goes on")
	require.NoError(t, tx.Commit())
	assert.Equal(t, 2, cents(t, pool, "ada"))
	assert.Equal(t, 100, cents(t, pool, "grace"))
}

func withinNested(t *testing.T, databaseURL string) {
	db, pool := bank(t, databaseURL)
	tx, err := pool.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	no := errors.New("no")
	require.NoError(t, db.Within(t.Context(), tx, func(outer sqldb.Tx) error {
		require.NoError(t, move(t.Context(), outer, "ada", "grace", 10))
		err := db.Within(t.Context(), tx, func(inner sqldb.Tx) error {
			require.NoError(t, move(t.Context(), inner, "ada", "grace", 20))
			return no
		})
		assert.ErrorIs(t, err, no)
		return move(t.Context(), outer, "ada", "grace", 5)
	}))
	require.NoError(t, tx.Commit())
	assert.Equal(t, 85, cents(t, pool, "ada"))
}
