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
// Client built on one. A Group treats a member that is one as nested.
type Inspector interface {
	Inspect() []Status
}

// Status is one provider as it stands now.
type Status struct {
	// Name is the provider's, a path ("eu/ses") where Groups are nested.
	Name  string
	State State
	// OpenFor and PausedFor are how long the gate stays shut, zero where it isn't.
	OpenFor, PausedFor time.Duration
	// Successes and Failures are those that the breaker's window holds.
	Successes, Failures int
	// InARow counts failures since the last success.
	InARow int
	// Mode is Automatic where the breaker rules.
	Mode Mode
	// InFlight counts the attempts that run; Limit is how many may, zero where
	// nothing limits them.
	InFlight, Limit int
	// RetriesLeft is what the retry budget allows at once, -1 where it is off.
	RetriesLeft int
}

// Inspect shows every provider, in order of preference.
func (g *Control) Inspect() []Status {
	now := time.Now()
	all := make([]Status, 0, len(g.members))
	for _, m := range g.members {
		if m.inner == nil {
			all = append(all, m.status(now))
			continue
		}
		for _, s := range m.inner.Inspect() {
			s.Name = m.name + "/" + s.Name
			all = append(all, s)
		}
	}
	return all
}

func (m *member) status(now time.Time) Status {
	r := m.rules.Load()
	s := Status{
		Name: m.name, State: Closed, RetriesLeft: -1,
		InARow: int(m.inARow.Load()), InFlight: int(m.inFlight.Load()), Mode: Mode(m.mode.Load()),
	}
	at := int64(now.Sub(m.base))
	s.OpenFor = time.Duration(max(m.openUntil.Load()-at, 0))
	s.PausedFor = time.Duration(max(m.pausedUntil.Load()-at, 0))
	if r.slots != nil {
		_, s.Limit = r.slots.state()
	}
	if m.budget.share.Load() > 0 {
		s.RetriesLeft = int(m.budget.left.Load() / retryCost)
	}
	if r.breaker == nil {
		return s
	}
	c := r.breaker.Counts()
	s.Successes, s.Failures = int(c.TotalSuccesses), int(c.TotalFailures)
	switch { // asking gobreaker would move it on: a look must not start a probe
	case s.OpenFor > 0:
		s.State = Open
	case m.opened():
		s.State = HalfOpen
	}
	return s
}
