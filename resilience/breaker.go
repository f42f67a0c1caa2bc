package resilience

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/smilefactory/integrations/resilience/internal/window"
)

// breaker is that of one class of operations at one member. gobreaker is its
// state machine, which alone opens, admits probes and closes; what it decides on
// is a window of ours, since successes then need no lock. The gate in front
// (openUntil) answers without a lock while it is shut.
type breaker struct {
	m       *member
	class   string
	policy  Breaker
	tenth   time.Duration
	machine *gobreaker.TwoStepCircuitBreaker[struct{}] // nil where the breaker is off

	// An opening stores openUntil before the new window, and a closing the new
	// window before openUntil, so that who finds it closed never has a window in which
	// it is open.
	openUntil atomic.Int64 // zero while it is closed
	window    atomic.Pointer[window.Window]
	usual     atomic.Int64 // what an answer usually takes
	forced    atomic.Bool  // the next failure opens it, whatever the window says
}

// The outcomes as gobreaker's classifiers see them. It calls those under its
// lock, so the decision is made before.
var (
	errFailure  = errors.New("failure")
	errExcluded = errors.New("excluded")
)

// outcome is what an attempt says about its provider.
type outcome uint8

const (
	silent      outcome = iota // nothing
	good                       // it works
	slow                       // it works, and took too long
	bad                        // it failed
	unreachable                // it failed for every class of operations
	ofAccount                  // it failed for the call's key alone
)

// newBreaker makes a closed one. Its machine's clock is there to be overtaken by
// the gate's, which decides when to probe: it must be ready by then.
func (m *member) newBreaker(class string, p Breaker, ready time.Duration) *breaker {
	b := &breaker{m: m, class: class, policy: p, tenth: window.TenthOf(p.Window)}
	b.window.Store(&window.Window{})
	if p.on() {
		b.machine = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			MaxRequests:   uint32(max(p.Probes, 1)), //nolint:gosec // checked not negative by Validate
			Timeout:       min(max(ready-time.Nanosecond, 1), p.OpenFor),
			ReadyToTrip:   func(gobreaker.Counts) bool { return b.forced.Load() || b.readyToTrip() },
			IsSuccessful:  func(err error) bool { return err == nil },
			IsExcluded:    func(err error) bool { return err == errExcluded },
			OnStateChange: func(_ string, from, to gobreaker.State) { b.changed(states[from], states[to]) },
		})
	}
	return b
}

var states = map[gobreaker.State]State{
	gobreaker.StateClosed: Closed, gobreaker.StateHalfOpen: HalfOpen, gobreaker.StateOpen: Open,
}

func (b *breaker) tenthAt(now time.Time) uint64 {
	return uint64(now.Sub(b.m.base) / b.tenth) //nolint:gosec // never before base
}

// readyToTrip looks at what has completed.
func (b *breaker) readyToTrip() bool {
	now := time.Now()
	since := now.Sub(b.m.base)
	if since-headStart < b.policy.WarmUp {
		return false
	}
	inARow, minCalls := int64(b.needs(b.policy.InARow)), b.needs(b.policy.MinCalls)
	w := b.window.Load()
	if inARow > 0 && max(w.InARow.Load(), b.m.unreachable.Load()) >= inARow {
		return true
	}
	successes, failures := w.Sum(b.tenthAt(now))
	completed := successes + failures
	return b.policy.Ratio > 0 && completed >= minCalls && float64(failures) >= b.policy.Ratio*float64(completed)
}

// changed runs under gobreaker's lock: it only takes notes.
func (b *breaker) changed(from, to State) {
	now := time.Now()
	ch := change{at: now, class: b.class, from: from, to: to}
	switch to { //nolint:exhaustive // half-open is open whose time has passed
	case Open:
		p := b.policy
		ch.openFor = p.OpenFor + time.Duration(rand.Float64()*p.Jitter*float64(p.OpenFor)) //nolint:gosec // spreading, not secrecy
		b.openUntil.Store(int64(now.Sub(b.m.base) + ch.openFor))
		b.window.Store(&window.Window{})
	case Closed:
		b.window.Store(&window.Window{})
		b.openUntil.Store(0)
	}
	b.m.note(b, ch)
}

// tell takes the outcome of an attempt that the window w let in, by a probe's
// permit where it was one.
func (b *breaker) tell(w *window.Window, probe func(error), o outcome, now time.Time) {
	switch o {
	case good:
		w.Add(b.tenthAt(now), window.Success)
		if w.InARow.Load() != 0 {
			w.InARow.Store(0)
		}
		if b.m.unreachable.Load() != 0 {
			b.m.unreachable.Store(0)
		}
		if probe != nil {
			probe(nil)
		}
	case slow, bad, unreachable:
		w.Add(b.tenthAt(now), window.Failure)
		if o != slow {
			w.InARow.Add(1)
		}
		b.failed(w, probe, o == unreachable)
	case silent, ofAccount:
		if probe != nil {
			probe(errExcluded)
		}
	}
}

// failed tells the machine of a failure. One from before the last opening or
// closing is excluded, so that it takes no probe's place.
func (b *breaker) failed(w *window.Window, probe func(error), everywhere bool) {
	closed, reached := probe == nil, false
	if closed {
		if b.window.Load() != w || b.machine == nil {
			return
		}
		if everywhere {
			reached = b.m.unreachable.Add(1) >= b.enough()
		}
		var err error
		if probe, err = b.machine.Allow(); err != nil {
			return
		}
		if b.window.Load() != w {
			probe(errExcluded)
			return
		}
	}
	probe(errFailure)
	if reached && b.window.Load() != w {
		b.m.openAll(b)
	}
}

// enough is how many calls in a row must not reach the provider for all classes to
// open.
func (b *breaker) enough() int64 {
	return int64(b.needs(cmp.Or(b.policy.InARow, b.policy.MinCalls)))
}

// needs is a figure of the policy, halved for a warned breaker.
func (b *breaker) needs(n int) int {
	if int64(time.Since(b.m.base)) < b.m.warnedUntil.Load() {
		return (n + 1) / 2
	}
	return n
}

// trip opens a closed breaker by hand.
func (b *breaker) trip() {
	done, err := b.machine.Allow()
	if err != nil {
		return
	}
	b.forced.Store(true)
	done(errFailure)
	b.forced.Store(false)
}

// answered notes how long an answer took. What takes less than a millisecond is
// taken for one, and a small change changes nothing, so that the usual case only
// reads.
func (b *breaker) answered(took time.Duration) {
	d, usual := max(int64(took), int64(time.Millisecond)), b.usual.Load()
	if usual == 0 {
		b.usual.Store(d)
	} else if off := d - usual; off > usual/8 || off < -usual/8 {
		b.usual.Store(usual + off/8)
	}
}

// change is a step of a breaker that observers are to be told of.
type change struct {
	at       time.Time
	class    string
	from, to State
	openFor  time.Duration
}
