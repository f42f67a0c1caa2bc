package servertest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
)

// Line is the way to a server, which is cut where a test says so. The zero value
// is whole.
type Line struct {
	// Next is what becomes of the next connection that writes its text.
	Next atomic.Pointer[Cut]
	// Down: it leads nowhere.
	Down atomic.Bool
}

// Cut says where a Line is cut.
type Cut struct {
	Text   string // of what is written
	Before bool   // the server doesn't get it any more; else it has answered
	Down   bool   // and no connection works any more
}

var errCut = errors.New("the line was cut")

// Dial connects over the Line.
func (l *Line) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if l.Down.Load() {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errCut}
	}
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &wire{c, l}, nil
}

type wire struct {
	net.Conn

	line *Line
}

func (w *wire) Write(p []byte) (int, error) {
	if w.line.Down.Load() {
		_ = w.Close()
		return 0, errCut
	}
	c := w.line.Next.Load()
	if c == nil || !bytes.Contains(p, []byte(c.Text)) || !w.line.Next.CompareAndSwap(c, nil) {
		return w.Conn.Write(p)
	}
	w.line.Down.Store(c.Down)
	if !c.Before {
		if _, err := w.Conn.Write(p); err != nil {
			return 0, err
		}
		_, _ = w.Read(make([]byte, 1)) // it has answered: it is done
	}
	_ = w.Close()
	return 0, errCut
}
