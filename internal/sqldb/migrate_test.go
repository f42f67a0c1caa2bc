package sqldb_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sqldb"
)

var migrateRules = []rule{
	{"migrations run once, in their order", migrationsRunOnce},
	{"goroutines with pools of their own migrate one after the other", poolsMigrateAtOnce},
	{"processes that start at once migrate one after the other", processesMigrateAtOnce},
	{"a migration that fails leaves nothing behind, and the next start tries again", failedMigrationLeavesNothing},
	{"what a newer program has migrated is left alone", newerIsLeftAlone},
	{"where nothing is to be done, no right to write is needed", noRightNeeded},
	{"two stores have migrations of their own", twoStores},
}

func runs(t *testing.T, databaseURL string) []int {
	t.Helper()
	db, _ := open(t, databaseURL)
	var out []int
	require.NoError(t, db.InTx(t.Context(), func(tx sqldb.Tx) error {
		out = nil
		return tx.Query(t.Context(), func(scan func(...any) error) error {
			var n int
			err := scan(&n)
			out = append(out, n)
			return err
		}, "select n from runs order by n")
	}))
	return out
}

func migrationsRunOnce(t *testing.T, databaseURL string) {
	db, _ := open(t, databaseURL)
	require.NoError(t, db.Migrate(t.Context(), "accounts", files("00001_account.sql", first)))
	assert.Equal(t, []int{1}, runs(t, databaseURL))
	for range 2 {
		require.NoError(t, db.Migrate(t.Context(), "accounts", accounts))
		assert.Equal(t, []int{1, 2}, runs(t, databaseURL))
	}
}

func poolsMigrateAtOnce(t *testing.T, databaseURL string) {
	var all sync.WaitGroup
	for range 8 {
		db, _ := open(t, databaseURL)
		all.Go(func() { assert.NoError(t, db.Migrate(t.Context(), "accounts", accounts)) })
	}
	all.Wait()
	assert.Equal(t, []int{1, 2}, runs(t, databaseURL))
}

func processesMigrateAtOnce(t *testing.T, databaseURL string) {
	var all sync.WaitGroup
	for range 4 {
		p := another(t, databaseURL)
		all.Go(func() { assert.NoError(t, p.Wait(), "%v", p.Stderr) })
	}
	all.Wait()
	assert.Equal(t, []int{1, 2}, runs(t, databaseURL))
}

func failedMigrationLeavesNothing(t *testing.T, databaseURL string) {
	db, pool := open(t, databaseURL)
	err := db.Migrate(t.Context(), "accounts", files("00001_account.sql", first, "00002_ada.sql", second+"insert into account values ('ada', 1);"))
	assert.ErrorIs(t, err, fault.Conflict)
	assert.ErrorContains(t, err, "accounts")
	assert.ErrorContains(t, err, "version:2")
	assert.Equal(t, []int{1}, runs(t, databaseURL))

	require.NoError(t, db.Migrate(t.Context(), "accounts", accounts))
	assert.Equal(t, []int{1, 2}, runs(t, databaseURL))
	assert.Equal(t, 100, cents(t, pool, "ada"))
}

func newerIsLeftAlone(t *testing.T, databaseURL string) {
	db, _ := bank(t, databaseURL)
	require.NoError(t, db.Migrate(t.Context(), "accounts", files("00001_account.sql", first)))
	assert.Equal(t, []int{1, 2}, runs(t, databaseURL))
}

func noRightNeeded(t *testing.T, databaseURL string) {
	bank(t, databaseURL)
	db := readOnly(t, databaseURL)
	require.NoError(t, db.Migrate(t.Context(), "accounts", accounts))
	err := db.Migrate(t.Context(), "accounts", files("00003_more.sql", "-- +goose Up\ninsert into runs values (3);"))
	assert.ErrorIs(t, err, fault.Unavailable)
}

func twoStores(t *testing.T, databaseURL string) {
	db, _ := bank(t, databaseURL)
	require.NoError(t, db.Migrate(t.Context(), "others", files("00001_other.sql", "-- +goose Up\ncreate table other (id bigint);")))
	require.NoError(t, db.InTx(t.Context(), func(tx sqldb.Tx) error {
		_, err := tx.Exec(t.Context(), "insert into other values (?)", 1)
		return err
	}))
}
