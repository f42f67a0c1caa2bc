package sqldb_test

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

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
	assert.EqualValues(t, 3, attempts.Load(), "one of them was the victim")
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

// gate passes on what client and server say, and can let the answer to a commit
// never arrive.
type gate struct {
	net.Listener
	server string
	shut   atomic.Bool // the next commit is the last that this connection says
	all    sync.WaitGroup
}

func newGate(t *testing.T, server string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := &gate{Listener: l, server: server}
	g.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.all.Go(func() { g.pass(t, c) })
		}
	})
	t.Cleanup(func() { l.Close(); g.all.Wait() })
	return g
}

func (g *gate) pass(t *testing.T, client net.Conn) {
	server, err := net.Dial("tcp", g.server)
	if !assert.NoError(t, err) {
		return
	}
	var committing atomic.Bool
	var both sync.WaitGroup
	both.Go(func() {
		relay(server, client, func(said []byte) bool {
			if bytes.Contains(said, []byte("commit")) && g.shut.CompareAndSwap(true, false) {
				committing.Store(true)
			}
			return true
		})
	})
	both.Go(func() { relay(client, server, func([]byte) bool { return !committing.Load() }) })
	both.Wait()
}

// relay copies until one of them closes, or may no longer.
func relay(to, from net.Conn, may func([]byte) bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil || !may(buf[:n]) {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func TestIntegrationPostgresLostInTheCommitIsUncertain(t *testing.T) {
	databaseURL := sqldbtest.Postgres(t)
	_, pool := bank(t, databaseURL)
	u, err := url.Parse(databaseURL)
	require.NoError(t, err)
	g := newGate(t, u.Host)
	u.Host = g.Addr().String()
	db, _ := open(t, u.String())
	runs := 0
	err = db.InTx(t.Context(), func(tx sqldb.Tx) error {
		runs++
		g.shut.Store(true)
		_, err := tx.Exec(t.Context(), "update account set cents = cents - 1 where id = 'ada'")
		return err
	})
	assert.ErrorIs(t, err, fault.Uncertain)
	assert.True(t, fault.MayHaveActed(err))
	assert.Equal(t, 1, runs, "it isn't repeated")
	assert.Equal(t, 99, cents(t, pool, "ada"), "here it was committed")
	assert.NoError(t, in(t.Context(), db, "update account set cents = 50 where id = 'ada'"), "the next one has another connection")
}
