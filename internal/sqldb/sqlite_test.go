package sqldb_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sqldb"
	"github.com/smilefactory/integrations/internal/sqldbtest"
)

func TestSQLiteFilesOfAnyName(t *testing.T) {
	for _, name := range []string{"plain.db", "a b.db", "what?.db", "100%.db", "c#.db", "ü&x=1.db"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			bank(t, "sqlite:"+path)
			_, err := os.Stat(path)
			assert.NoError(t, err)
		})
	}
	t.Run("relative", func(t *testing.T) {
		t.Chdir(t.TempDir())
		bank(t, "sqlite:here.db")
		_, err := os.Stat("here.db")
		assert.NoError(t, err)
	})
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	for url, kind := range map[string]fault.Kind{
		"":                                    fault.Invalid,
		"sqlite:":                             fault.Invalid,
		"mysql://app:hunter2@127.0.0.1/app":   fault.Invalid,
		"sqlite:" + t.TempDir() + "/no/no.db": fault.Unavailable,
		"postgres://app:hunter2@127.0.0.1:1/app?sslmode=disable": fault.Unavailable,
		"postgres://app:hunter2@127.0.0.1:x/app":                 fault.Unavailable,
	} {
		_, err := sqldb.Open(t.Context(), url)
		assert.Equal(t, kind, fault.KindOf(err), "%s: %v", url, err)
		assert.NotContains(t, err.Error(), "hunter2")
	}
}

func TestNewRefusesAFileThatWouldForget(t *testing.T) {
	for name, c := range map[string]struct{ source, says string }{
		"no log":            {"file:x.db", "journal_mode is delete: open the file with _pragma=journal_mode(WAL)"},
		"no wait for disks": {"file:x.db?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)", "synchronous is 1: open the file with _pragma=synchronous(FULL)"},
		"memory":            {":memory:", "journal_mode is memory"},
		"EXTRA":             {"file:x.db?_pragma=journal_mode(WAL)&_pragma=synchronous(EXTRA)", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			pool, err := sql.Open("sqlite", c.source)
			require.NoError(t, err)
			defer pool.Close()
			_, err = sqldb.New(t.Context(), pool)
			if c.says == "" {
				assert.NoError(t, err)
				return
			}
			assert.ErrorIs(t, err, fault.Invalid)
			assert.ErrorContains(t, err, c.says)
		})
	}
}

func TestSQLiteFullIsUnavailableAndLeavesNothing(t *testing.T) {
	databaseURL := sqldbtest.SQLite(t)
	_, pool := bank(t, databaseURL)
	db := with(t, databaseURL, "max_page_count(10)", "", "")
	err := db.InTx(t.Context(), func(tx sqldb.Tx) error {
		if _, err := tx.Exec(t.Context(), "update account set cents = 1"); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), "insert into account values (hex(randomblob(100000)), 1)")
		return err
	})
	assert.ErrorIs(t, err, fault.Unavailable)
	f, _ := fault.As(err)
	assert.Equal(t, "13", f.Code)
	assert.Equal(t, 100, cents(t, pool, "ada"))
	assert.NoError(t, in(t.Context(), db, "update account set cents = 2"), "what has room goes on")
}

// TestSQLiteLockedAllTheTime: no matter how many wait, and how, each waits five
// seconds at most.
func TestSQLiteLockedAllTheTime(t *testing.T) {
	databaseURL := sqldbtest.SQLite(t)
	bank(t, databaseURL)
	release := held(t, databaseURL)
	defer release()
	for _, pragma := range []string{"busy_timeout(5000)", "busy_timeout(0)", "busy_timeout(60000)", "busy_timeout(60000)&_txlock=immediate"} {
		synctest.Test(t, func(t *testing.T) {
			db := with(t, databaseURL, pragma, "", "")
			start := time.Now()
			errs := make(chan error)
			for range 8 {
				go func() { errs <- in(context.WithoutCancel(t.Context()), db, "update account set cents = 0") }()
			}
			for range 8 {
				assert.ErrorIs(t, <-errs, fault.Unavailable)
			}
			assert.InDelta(t, 5, time.Since(start).Seconds(), 0.3, pragma)
		})
	}
}

func TestTimesAreMilliseconds(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 8_999_999, time.UTC)
	assert.EqualValues(t, 1772600767008, sqldb.Milli(now))
	assert.True(t, sqldb.Time(1772600767008).Equal(now.Truncate(time.Millisecond)))
	assert.Zero(t, sqldb.Milli(time.Time{}))
	assert.True(t, sqldb.Time(0).IsZero())
}
