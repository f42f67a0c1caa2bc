package resilience

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// attemptContext is the context of one attempt. Its deadline costs nothing
// until somebody asks for Done; then it becomes a real one.
type attemptContext struct {
	context.Context        //nolint:containedctx // it is one: the caller's
	marks           *marks // those of the call, but for what is for this call alone
	door            door
	nest            *nest // where the member is made of providers
	hold            *hold // where the attempt may outlive the call: only its timer ends it
	observed        bool

	mu       sync.Mutex
	ended    bool
	beaten   bool            // by a second attempt beside it
	cost     int             // what it has taken of the rate limits
	deadline time.Time       // ours; zero where the caller's comes first
	timed    context.Context //nolint:containedctx // what it becomes
	cancel   context.CancelFunc
	exchange *fault.Exchange
}

// nest is what a Group inside must know of the outer attempt, and what it has to
// say to it.
type nest struct {
	made    *Control // whom the member is made of
	prefix  string   // path of the member, with a slash
	pin     string   // the rest of a pinned path
	cost    int
	number  int       // of the next attempt in the whole call, from 1
	left    int       // providers that could still take the call, in all outer Groups
	callers time.Time // the caller's deadline
	total   time.Time // the earliest total deadline of a Group
	watch   *watchers

	// What calls inside have said, under attemptContext.mu.
	entered  bool
	attempts int
	path     string
	// unsettled: one of them may have acted.
	unsettled bool
}

// marks are what a context says about the calls under it: one value, so that a
// call looks once. They are never changed.
type marks struct {
	tenant, key string
	pin         string // this and cost are not for what a provider calls
	cost        int
}

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

// around is the attempt that a call of this Group under ctx would run inside:
// one that goes on, at a member that is made of it.
func (g *Control) around(a *attemptContext) *nest {
	if a == nil || a.nest == nil || a.nest.made.identity() != g.identity() {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return nil
	}
	return a.nest
}

// Nested reports whether a call under ctx would run inside the attempt of another
// Group, at a member that is made of this one: what a Client does when nobody
// answers (a queue, a stale answer) is then left to the outermost one.
func (g *Control) Nested(ctx context.Context) bool {
	_, a := marksOf(ctx)
	return g.around(a) != nil
}

// Nested reports the same to what lies around a Client's calls and doesn't know
// its Group, such as a cache: whether ctx is that of an attempt at a member which
// is made of providers.
func Nested(ctx context.Context) bool {
	_, a := marksOf(ctx)
	return a != nil && a.nest != nil && a.nest.made.around(a) != nil
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

// report notes what a call inside has come to; several add up.
func (a *attemptContext) report(path string, attempts int, unsettled bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nest.entered = true
	a.nest.unsettled = a.nest.unsettled || unsettled
	a.nest.attempts += attempts
	a.nest.number += attempts
	if path != "" {
		a.nest.path = path
	}
}

// Note and Alive make it a [fault.Attempt].
func (a *attemptContext) Note(f func(*fault.Exchange)) {
	if !a.observed {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	if a.exchange == nil {
		a.exchange = &fault.Exchange{}
	}
	f(a.exchange)
}

func (a *attemptContext) Alive() {
	if a.hold != nil {
		a.hold.Alive()
	}
}

// noted is a copy of what was noted so far.
func (a *attemptContext) noted() *fault.Exchange {
	if !a.observed {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.exchange == nil {
		return nil
	}
	e := *a.exchange
	e.Units = maps.Clone(e.Units)
	return &e
}

// Deadline is ours, or the caller's where that comes first.
func (a *attemptContext) Deadline() (time.Time, bool) {
	if a.deadline.IsZero() {
		return a.Context.Deadline()
	}
	return a.deadline, true
}

// Done makes the deadline, and the end of the attempt, real.
func (a *attemptContext) Done() <-chan struct{} {
	if a.hold != nil {
		return a.Context.Done()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timed == nil {
		if a.deadline.IsZero() {
			a.timed, a.cancel = context.WithCancel(a.Context)
		} else {
			a.timed, a.cancel = context.WithDeadlineCause(a.Context, a.deadline, ErrTimeout)
		}
		if a.ended {
			a.cancel()
		}
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
	if err := a.Context.Err(); err != nil {
		return err
	}
	if a.ended {
		return context.Canceled
	}
	if !a.deadline.IsZero() && !time.Now().Before(a.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// Value goes to the real context once there is one, or every child context
// would need a goroutine to watch this one.
func (a *attemptContext) Value(key any) any {
	switch key.(type) {
	case marksKey, attemptKey, fault.AttemptKey:
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
func (a *attemptContext) end() {
	a.mu.Lock()
	a.ended = true
	cancel := a.cancel
	a.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}
