package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// loadContext is the context of an upstream call in a goroutine of its own: the
// values of the caller that began it, and our own deadline. That costs nothing
// until somebody asks for Done; then it becomes a real context.WithDeadline.
type loadContext struct {
	cache    any // a *Cache
	who      id
	caller   context.Context //nolint:containedctx // without its end; it may belong to another call
	deadline time.Time
	over     atomic.Bool
	mu       sync.Mutex
	timed    context.Context //nolint:containedctx // what it becomes
	cancel   context.CancelFunc
}

func (l *loadContext) Deadline() (time.Time, bool) { return l.deadline, true }
func (l *loadContext) Done() <-chan struct{}       { return l.real().Done() }

func (l *loadContext) Err() error {
	if !l.over.Load() && time.Now().Before(l.deadline) {
		return nil
	}
	return l.real().Err()
}

// Value goes to the real context once there is one, or every child context would
// need a goroutine to watch this one.
func (l *loadContext) Value(key any) any {
	if key == (loadKey{}) {
		return l
	}
	l.mu.Lock()
	ctx := l.timed
	l.mu.Unlock()
	if ctx == nil {
		ctx = l.caller
	}
	return ctx.Value(key)
}

func (l *loadContext) real() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timed == nil {
		l.timed, l.cancel = context.WithDeadline(l.caller, l.deadline)
		if l.over.Load() {
			l.cancel()
		}
	}
	return l.timed
}

// end cancels what the call has left behind.
func (l *loadContext) end() {
	l.over.Store(true)
	l.mu.Lock()
	cancel := l.cancel
	l.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

type loadKey struct{}

// loading reports whether ctx belongs to a call that is running for that key, or
// to what such a call asks for.
func loading(ctx context.Context, cache any, who id) bool {
	l, ok := ctx.Value(loadKey{}).(*loadContext)
	if !ok {
		return false
	}
	return l.cache == cache && l.who == who && !l.over.Load() || loading(l.caller, cache, who) //nolint:contextcheck // what lies around it
}
