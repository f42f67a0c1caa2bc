package resilience

import (
	"context"
	"sync"
	"time"
)

// attemptContext is the context of one attempt. Its deadline costs nothing
// until somebody asks for Done; then it becomes a real context.WithDeadline.
// It also is the frame by which a Group inside a Group of the same operation
// finds the outer one.
type attemptContext struct {
	context.Context // the caller's

	// The frame, fixed at the start.
	op     string
	prefix string    // path of the member, with a slash, for the inner one's events
	pin    string    // the rest of a pinned path
	after  int       // providers left behind this one, in all outer Groups
	total  time.Time // the outer Group's total deadline; zero where the caller's comes first

	mu       sync.Mutex
	deadline time.Time // ours; zero where the caller's comes first
	handed   bool      // somebody has seen the deadline: it can't be lifted
	real     context.Context
	cancel   context.CancelFunc
	ended    bool

	// What the inner Group reports.
	nested   bool
	path     string
	attempts int
}

type frameKey struct{}

// outerAttempt is the attempt of another Group, of the same operation, that ctx
// runs in, or nil.
func outerAttempt(ctx context.Context, op string) *attemptContext {
	a, ok := ctx.(*attemptContext)
	if !ok {
		a, ok = ctx.Value(frameKey{}).(*attemptContext)
	}
	if !ok || a.op != op {
		return nil
	}
	return a
}

// enter notes that another Group runs inside this attempt: its own limits rule,
// so ours is lifted where nobody has seen it yet.
func (a *attemptContext) enter() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nested = true
	if !a.handed {
		a.deadline = a.total
	}
}

func (a *attemptContext) leave(path string, attempts int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.path, a.attempts = path, attempts
}

// Deadline is ours, or the caller's where that comes first.
func (a *attemptContext) Deadline() (time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.deadline.IsZero() {
		return a.Context.Deadline()
	}
	a.handed = true
	return a.deadline, true
}

// Done makes the deadline real.
func (a *attemptContext) Done() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.real != nil {
		return a.real.Done()
	}
	if a.deadline.IsZero() {
		return a.Context.Done()
	}
	a.handed = true
	a.real, a.cancel = context.WithDeadlineCause(a.Context, a.deadline, ErrTimeout)
	if a.ended {
		a.cancel()
	}
	return a.real.Done()
}

// Err agrees with Done, whether or not that was asked for.
func (a *attemptContext) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.real != nil {
		return a.real.Err()
	}
	if err := a.Context.Err(); err != nil || a.deadline.IsZero() {
		return err
	}
	if a.ended {
		return context.Canceled
	}
	if !time.Now().Before(a.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// Value goes to the real context once there is one, or every child context
// would need a goroutine to watch this one.
func (a *attemptContext) Value(key any) any {
	if _, ok := key.(frameKey); ok {
		return a
	}
	a.mu.Lock()
	real := a.real
	a.mu.Unlock()
	if real != nil {
		return real.Value(key)
	}
	return a.Context.Value(key)
}

// end cancels what the attempt has left behind.
func (a *attemptContext) end() {
	a.mu.Lock()
	a.ended = true
	cancel := a.cancel
	a.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}
