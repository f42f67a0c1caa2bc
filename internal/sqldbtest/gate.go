package sqldbtest

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// Gate stands before a PostgreSQL, and can let the answer to a commit get lost.
type Gate struct {
	URL    string // of the same database, through the gate
	server string
	lose   atomic.Bool
	all    sync.WaitGroup
}

// NewGate opens a gate until the test has ended.
func NewGate(t testing.TB, databaseURL string) *Gate {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &Gate{server: u.Host}
	u.Host = l.Addr().String()
	g.URL = u.String()
	g.all.Go(func() { g.accept(t, l) })
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		g.all.Wait()
	})
	return g
}

// LoseNext closes the connection on which the next commit is said, when the
// server has answered it and before the client hears that.
func (g *Gate) LoseNext() { g.lose.Store(true) }

func (g *Gate) accept(t testing.TB, l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return // closed
		}
		server, err := net.Dial("tcp", g.server)
		if err != nil {
			t.Error(err)
			client.Close()
			continue
		}
		var lost atomic.Bool
		g.all.Go(func() {
			relay(server, client, func(said []byte) bool {
				if bytes.Contains(said, []byte("commit\x00")) && g.lose.CompareAndSwap(true, false) {
					lost.Store(true)
				}
				return true
			})
		})
		g.all.Go(func() { relay(client, server, func([]byte) bool { return !lost.Load() }) })
	}
}

// relay copies until either side closes, or until it may not.
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
