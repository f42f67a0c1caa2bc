package resilience

import (
	"time"
)

// State is that of a breaker.
type State string

// The states. A provider without a breaker is always closed.
const (
	Closed   State = "closed"
	HalfOpen State = "half-open"
	Open     State = "open"
)

// Inspector is what is made of providers and can show them: a Group, and every
// Client built on one.
type Inspector interface {
	Inspect() []Status
}

// Status is one provider as it stands now.
type Status struct {
	// Name is the provider's, a path ("eu/ses") where Groups are nested.
	Name string
	// Class is that of the breaker which State, OpenFor and the counts are of. The
	// first Status of a provider is that of the empty class, the others, of the same
	// Name, are those of the classes that were used.
	Class string
	State State
	// OpenFor and PausedFor are how long the gate stays shut, zero where it isn't.
	OpenFor, PausedFor time.Duration
	// Successes and Failures are those that count now: of the window, since the
	// breaker last opened or closed.
	Successes, Failures int
	// InARow counts failures since the last success, likewise.
	InARow int
	// Usual is how long an answer takes here, smoothed; zero before the first.
	Usual time.Duration
	// Mode is Automatic where the breaker rules.
	Mode Mode
	// InFlight counts the attempts that run; Limit is how many may, zero where
	// nothing limits them.
	InFlight, Limit int
	// RetriesLeft is what the retry budget allows at once, -1 where it is off.
	RetriesLeft int
}

// Inspect shows every provider, in order of preference, each class of it by itself.
func (g *Control) Inspect() []Status {
	now := time.Now()
	all := make([]Status, 0, len(g.members))
	for _, m := range g.members {
		if !m.inner.is() {
			for _, b := range *m.breakers.Load() {
				all = append(all, m.status(b, now))
			}
			continue
		}
		show := m.inner.show
		if show == nil {
			show = m.inner.Control
		}
		for _, s := range show.Inspect() {
			s.Name = m.prefix + s.Name
			all = append(all, s)
		}
	}
	return all
}

func (m *member) status(b *breaker, now time.Time) Status {
	r, w, at := m.rules.Load(), b.window.Load(), int64(now.Sub(m.base))
	s := Status{
		Name: m.name, Class: b.class, State: Closed, RetriesLeft: m.budget.Left(),
		InARow: int(w.InARow.Load()), InFlight: int(m.inFlight.Load()), Mode: Mode(m.mode.Load()), Usual: time.Duration(b.usual.Load()),
	}
	s.Successes, s.Failures = w.Sum(b.tenthAt(now))
	s.OpenFor = time.Duration(max(b.openUntil.Load()-at, 0))
	s.PausedFor = time.Duration(max(m.pausedUntil.Load()-at, 0))
	if r.slots != nil {
		_, s.Limit = r.slots.State()
	}
	switch { // asking gobreaker would move it on: a look must not start a probe
	case s.OpenFor > 0:
		s.State = Open
	case b.openUntil.Load() > 0:
		s.State = HalfOpen
	}
	return s
}
