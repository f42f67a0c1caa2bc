package resilience

import (
	"context"
	"sync"
	"time"
)

// attemptContext is the context of one attempt. Its deadline costs nothing
// until somebody asks for Done; then it becomes a real context.WithDeadline.
// It also is the frame by which a Group inside a Group of the same operation
// finds the outer one. A pin is for the call that it was made for, not for what its
// provider calls.
type attemptContext struct {
	context.Context //nolint:containedctx // it is one: the caller's
	frame

	mu       sync.Mutex
	deadline time.Time       // ours; zero where the caller's comes first
	handed   bool            // somebody has seen the deadline: it can't be lifted
	timed    context.Context //nolint:containedctx // what it becomes
	cancel   context.CancelFunc
	ended    bool
	inner    *report
}

// report is what a Group inside the attempt has to say; without one there is
// none.
type report struct {
	path     string
	attempts int
}

// frame is what an inner Group must know of the outer one, fixed at the start.
type frame struct {
	op       string
	prefix   string    // path of the member, with a slash
	pin      string    // the rest of a pinned path
	marks    *marks    // those of the call, but for the pin
	number   int       // of this attempt in the whole call, from 1
	left     int       // providers that could still take the call, in all outer Groups
	callers  time.Time // the caller's deadline
	total    time.Time // that, or the earliest total deadline of a Group
	outlives bool      // the attempt may outlive the call: only its timer ends it
}

// marks are what a context says about the calls under it: one value, so that a
// call looks once. They are never changed.
type marks struct{ tenant, key, pin string }

var noMarks = &marks{}

type (
	marksKey   struct{}
	attemptKey struct{}
)

// marksOf also gives the attempt that ctx belongs to, if any.
func marksOf(ctx context.Context) (*marks, *attemptContext) {
	a, ok := ctx.(*attemptContext)
	if !ok {
		switch v := ctx.Value(marksKey{}).(type) {
		case *marks:
			a, _ = ctx.Value(attemptKey{}).(*attemptContext)
			return v, a
		case *attemptContext:
			a = v
		default:
			return noMarks, nil
		}
	}
	return a.marks, a
}

func withMarks(ctx context.Context, change func(*marks)) context.Context {
	old, _ := marksOf(ctx)
	m := *old
	change(&m)
	return context.WithValue(ctx, marksKey{}, &m)
}

// keyOr is the key, or the tenant where there is none.
func (m *marks) keyOr() string {
	if m.key == "" {
		return m.tenant
	}
	return m.key
}

// WithKey says for whom or what a call is made, such as a tenant, a host or a
// user: [Policy.PerKey] holds for each key apart, and [Sticky] sends equal keys
// to the same provider. A provider's own calls of other services see it too.
func WithKey(ctx context.Context, key string) context.Context {
	return withMarks(ctx, func(m *marks) { m.key = key })
}

// WithTenant says for whose account the calls under this context are made.
// Caches and stores keep tenants apart; it also is the key where [WithKey] gave
// none.
func WithTenant(ctx context.Context, tenant string) context.Context {
	return withMarks(ctx, func(m *marks) { m.tenant = tenant })
}

// Tenant is what [WithTenant] said, or empty.
func Tenant(ctx context.Context) string {
	m, _ := marksOf(ctx)
	return m.tenant
}

// Pin makes the calls under the returned context go to the provider of that
// path ("eu/ses") alone: a second step belongs to the provider of the first.
// A Group without such a provider refuses with fault.NotFound. A call that a
// provider makes of another service is not pinned.
func Pin(ctx context.Context, path string) context.Context {
	return withMarks(ctx, func(m *marks) { m.pin = path })
}

// enter notes that another Group runs inside this attempt: its own limits rule,
// so ours is lifted where nobody has seen it yet.
func (a *attemptContext) enter() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inner = &report{}
	if a.handed || a.outlives {
		return
	}
	a.deadline = time.Time{}
	if !a.total.Equal(a.callers) {
		a.deadline = a.total
	}
}

func (a *attemptContext) leave(path string, attempts int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inner = &report{path, attempts}
}

func (a *attemptContext) inside() *report {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.inner
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
	if a.timed != nil {
		return a.timed.Done()
	}
	if a.deadline.IsZero() {
		return a.Context.Done()
	}
	a.handed = true
	a.timed, a.cancel = context.WithDeadlineCause(a.Context, a.deadline, ErrTimeout)
	if a.ended {
		a.cancel()
	}
	return a.timed.Done()
}

// Err agrees with Done, whether or not that was asked for.
func (a *attemptContext) Err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timed != nil {
		return a.timed.Err()
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
	switch key.(type) {
	case marksKey, attemptKey:
		return a
	}
	a.mu.Lock()
	timed := a.timed
	a.mu.Unlock()
	if timed != nil {
		return timed.Value(key)
	}
	return a.Context.Value(key)
}

// end cancels what the attempt has left behind.
func (a *attemptContext) end() *report {
	a.mu.Lock()
	a.ended = true
	cancel, inner := a.cancel, a.inner
	a.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	return inner
}

// Nested reports whether a call of that operation under ctx would run inside the
// attempt of another Group: what a Client does when nobody answers (a queue, a
// stale answer) is then left to the outermost one.
func Nested(ctx context.Context, op string) bool {
	_, outer := marksOf(ctx)
	return outer != nil && outer.op == op
}
