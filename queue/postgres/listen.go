package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// bell tells those who wait in [queue.Waker] that jobs have come: here at once,
// and in other processes by NOTIFY.
type bell struct {
	mu        sync.Mutex
	woken     chan struct{}
	listening bool
	unsaid    bool // something has changed since the last notification
	saying    bool // and somebody is about to tell it
	closed    bool
	ctx       context.Context //nolint:containedctx // the life of the goroutines, not of a call
	end       context.CancelFunc
	all       sync.WaitGroup
}

func (b *bell) init() { b.ctx, b.end = context.WithCancel(context.Background()) }

func (b *bell) close(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.end()
	done := make(chan struct{})
	go func() { b.all.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.woken != nil {
		close(b.woken)
		b.woken = nil
	}
}

// Woken is closed at the next change, see [queue.Waker]. The first call begins
// to listen.
func (s *store) Woken() <-chan struct{} {
	b := &s.bell
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.woken == nil {
		b.woken = make(chan struct{})
	}
	if !b.listening && !b.closed {
		b.listening = true
		b.all.Go(func() { s.listen(b.ctx) })
	}
	return b.woken
}

// longestRest is how long after a failure it is tried again to listen; the first
// time it is a thirtieth.
const longestRest = 3 * time.Second

// listen wakes whoever waits, again and again until ctx ends. A lost connection
// is made anew, and since it may have missed something it wakes, too.
func (s *store) listen(ctx context.Context) {
	for rest := longestRest / 30; ctx.Err() == nil; {
		start := time.Now()
		_ = s.listenOnce(ctx) // workers poll meanwhile
		if time.Since(start) > longestRest {
			rest = longestRest / 30
		}
		select {
		case <-time.After(rest):
		case <-ctx.Done():
		}
		rest = min(2*rest, longestRest)
	}
}

func (s *store) listenOnce(ctx context.Context) error {
	cfg := s.pool.Config()
	conn := cfg.ConnConfig.Copy()
	if cfg.BeforeConnect != nil {
		if err := cfg.BeforeConnect(ctx, conn); err != nil {
			return err
		}
	}
	c, err := pgx.ConnectConfig(ctx, conn)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	if _, err := c.Exec(ctx, "listen "+s.schema); err != nil {
		return err
	}
	for {
		s.bell.ring()
		if _, err := c.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}

// pause bounds how often other processes are notified.
const pause = 10 * time.Millisecond

// announce wakes, here and elsewhere. It isn't part of the transaction that
// changed something: PostgreSQL commits those that notify one after the other.
// What dies before it has told leaves the others to their polls.
func (s *store) announce() {
	s.bell.ring()
	b := &s.bell
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unsaid = true
	if !b.saying && !b.closed {
		b.saying = true
		b.all.Go(s.say)
	}
}

// say notifies until there is nothing more to say.
func (s *store) say() {
	b := &s.bell
	for {
		b.mu.Lock()
		if b.saying = b.unsaid && b.ctx.Err() == nil; !b.saying {
			b.mu.Unlock()
			return
		}
		b.unsaid = false
		b.mu.Unlock()
		_, _ = s.pool.Exec(b.ctx, notify, s.schema) // workers poll where it fails
		select {
		case <-time.After(pause):
		case <-b.ctx.Done():
		}
	}
}
