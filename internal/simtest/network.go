// Package simtest opens simulators as subjects of the conformance suites.
package simtest

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
)

// Network is the way to a server. The zero value leads there.
type Network struct {
	mu    sync.Mutex
	cut   error         // of every new connection
	stuck chan struct{} // closed when it leads on; nil where it does
}

// DialContext is net.Dialer's, as long as the way leads there.
func (n *Network) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	cut, stuck := n.cut, n.stuck
	n.mu.Unlock()
	if cut != nil {
		return nil, cut
	}
	if stuck != nil {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-stuck:
		}
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// Cut refuses every new connection.
func (n *Network) Cut() { n.fail(syscall.ECONNREFUSED) }

// Lose forgets where the server is.
func (n *Network) Lose() {
	n.fail(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "gone.invalid", IsNotFound: true}})
}

func (n *Network) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = err
}

// Stick neither makes nor refuses a connection.
func (n *Network) Stick() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stuck == nil {
		n.stuck = make(chan struct{})
	}
}

// Restore lets it lead there again.
func (n *Network) Restore() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = nil
	if n.stuck != nil {
		close(n.stuck)
		n.stuck = nil
	}
}

// Gate stands before what a Sender asks for, such as its key. The zero value is open.
type Gate struct {
	mu     sync.Mutex
	shut   bool
	broken error
}

// Pass returns at once, with an error where the gate is broken, or where it is shut
// when the context ends, with its error.
func (g *Gate) Pass(ctx context.Context) error {
	g.mu.Lock()
	shut, broken := g.shut, g.broken
	g.mu.Unlock()
	if !shut {
		return broken
	}
	<-ctx.Done()
	return ctx.Err()
}

// Shut holds whoever comes from now on.
func (g *Gate) Shut() { g.set(true, nil) }

// Break refuses whoever comes from now on.
func (g *Gate) Break() { g.set(false, errors.New("the vault is sealed")) }

// Open lets them pass.
func (g *Gate) Open() { g.set(false, nil) }

func (g *Gate) set(shut bool, broken error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.broken = shut, broken
}
