package resilience

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// EventType says what an [Event] reports.
type EventType uint8

// The types of events.
const (
	// AttemptEnded: a provider answered, or its time was up.
	AttemptEnded EventType = iota + 1
	// RetryScheduled: the same provider is asked again after Delay.
	RetryScheduled
	// FailedOver: the next provider is asked; Provider is the one given up.
	FailedOver
	// Refused: we did not ask the provider; Err says why.
	Refused
	// StateChanged: the breaker went From one state To another; where it opened,
	// Delay is for how long.
	StateChanged
	// Paused: the provider asked to be left alone for Delay.
	Paused
	// Panicked: the provider panicked, or ended its goroutine. The panic propagates,
	// and the CallEnded that follows has an error.
	Panicked
	// CallEnded: the call is over, after Attempt attempts.
	CallEnded
	// CallStarted and AttemptStarted are what a Starter is told, and nobody else.
	CallStarted
	AttemptStarted
)

var eventNames = [...]string{
	"unknown", "attempt ended", "retry scheduled", "failed over", "refused",
	"state changed", "paused", "panicked", "call ended", "call started", "attempt started",
}

// String is the type in words.
func (t EventType) String() string {
	if int(t) < len(eventNames) {
		return eventNames[t]
	}
	return eventNames[0]
}

// Event is one step of a call, flat and passed by value. It holds no arguments
// and no results.
type Event struct {
	Type     EventType
	Time     time.Time
	Op       string
	Class    string // of the operation; of the breaker for StateChanged
	Provider string // a path where Groups are nested
	// Key is set where the key's own breaker or limit is meant ([Policy.PerKey]).
	Key string
	// Attempt counts the attempts of this call, from 1.
	Attempt int
	// Duration is that of the attempt or call.
	Duration time.Duration
	// Delay is the wait that follows.
	Delay time.Duration
	// Err is the fault, or nil on success.
	Err error
	// From and To are set for StateChanged.
	From, To State
	// Exchange is what the adapter has noted of an attempt that ended ([fault.Note]),
	// or nil. It is nobody else's and may be kept.
	Exchange *fault.Exchange
}

// Observer sees every step of every call, in the caller's goroutine, so it must
// be quick and safe for concurrent use. No lock is held: it may call Inspect.
// Context is that of the call, or the one that a [Starter] made of it; for
// AttemptEnded and Panicked that of the attempt. The attempts of a Group inside
// another's attempt are seen by the inner one's observers, or where it has none by
// the outer one's.
type Observer interface {
	Observe(ctx context.Context, e Event)
}

// Starter is an Observer that also sees a call and an attempt begin and may give
// it another context, so that a span reaches the provider and comes back with the
// event of its end. The Event has Type (CallStarted or AttemptStarted), Time, Op
// and Class, that of an attempt also Provider and Attempt.
type Starter interface {
	Start(ctx context.Context, e Event) context.Context
}

// Injector is an Observer that may spoil attempts, to see how a service bears
// it. Inject runs in the attempt, before the provider: it may wait, hang or
// panic. The error instead is taken for the provider's answer, and the provider
// isn't asked; the error after replaces its answer once it has acted.
type Injector interface {
	Inject(ctx context.Context, e Event) (instead, after error)
}

// ObserverFunc makes a function an Observer.
type ObserverFunc func(ctx context.Context, e Event)

// Observe calls f.
func (f ObserverFunc) Observe(ctx context.Context, e Event) { f(ctx, e) }

// watchers are the observers of a Group, by what they can.
type watchers struct {
	observers []Observer
	starters  []Starter
	injectors []Injector
}

func newWatchers(observers []Observer) (*watchers, error) {
	w := &watchers{observers: slices.Clone(observers)}
	for i, o := range observers {
		if o == nil {
			return nil, fmt.Errorf("resilience: observer %d is nil", i)
		}
		if s, ok := o.(Starter); ok {
			w.starters = append(w.starters, s)
		}
		if in, ok := o.(Injector); ok {
			w.injectors = append(w.injectors, in)
		}
	}
	return w, nil
}

func (w *watchers) any() bool { return len(w.observers) > 0 }

func (w *watchers) start(ctx context.Context, e Event) context.Context {
	for _, s := range w.starters {
		ctx = s.Start(ctx, e) //nolint:fatcontext // each wraps the one before
	}
	return ctx
}

func (w *watchers) emit(ctx context.Context, e Event) {
	for _, o := range w.observers {
		o.Observe(ctx, e)
	}
}
