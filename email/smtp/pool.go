package smtp

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// pool bounds the open connections and keeps the idle ones. It has no goroutine:
// each idle connection has a timer that closes it.
type pool struct {
	slots  chan struct{}
	maxAge time.Duration

	mu     sync.Mutex
	free   []*conn // the last one used is taken first, so that the others can age
	closed bool
}

func newPool(size int, maxAge time.Duration) *pool {
	return &pool{slots: make(chan struct{}, size), maxAge: maxAge}
}

// enter waits for the right to one connection.
func (p *pool) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fault.New(fault.Unavailable, err)
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		f := fault.New(fault.Unavailable, fmt.Errorf("smtp: wait for a connection: %w", ctx.Err()))
		f.Local = true
		return f
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.leave()
		return closed()
	}
	return nil
}

func (p *pool) leave() { <-p.slots }

// idle is an idle connection, or nil.
func (p *pool) idle() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := len(p.free); n > 0; n = len(p.free) {
		c := p.free[n-1]
		p.free = p.free[:n-1]
		if c.age.Stop() { // else its time has come
			return c
		}
		c.close()
	}
	return nil
}

// put takes a connection back, or closes it where it is of no more use.
func (p *pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.broken || p.closed {
		c.close()
		return
	}
	c.used = true
	c.age = time.AfterFunc(p.maxAge, func() { p.drop(c) })
	p.free = append(p.free, c)
}

// drop closes an idle connection that has aged.
func (p *pool) drop(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, f := range p.free {
		if f == c {
			p.free = append(p.free[:i], p.free[i+1:]...)
			c.close()
			return
		}
	}
}

// goodbye is how long Close waits for servers to answer QUIT, in all.
const goodbye = time.Second

func (p *pool) close() {
	p.mu.Lock()
	free := p.free
	p.free, p.closed = nil, true
	p.mu.Unlock()
	until := time.Now().Add(goodbye)
	for _, c := range free {
		c.age.Stop()
		c.quit(until)
	}
}
