package resilience

import (
	"time"

	"github.com/smilefactory/integrations/resilience/internal/limit"
)

// rules are a member's policy with what was made for it. They are replaced as a
// whole when the policy changes.
type rules struct {
	policy Policy
	line   *limit.Line
	slots  *limit.Slots
	vegas  *limit.Vegas
	keys   *keyed
}

// newRules takes over what the old ones have given out.
func (m *member) newRules(old *rules, p Policy) *rules {
	if old == nil {
		old = &rules{}
	}
	r := &rules{policy: p}
	if p.Rate > 0 && p.Limiter == nil {
		if r.line = old.line; r.line == nil {
			r.line = limit.NewLine(p.Rate, p.Burst)
		} else {
			r.line.Set(p.Rate, p.Burst)
		}
	}
	most := p.Concurrency
	if a := p.Adaptive; a.Max > 0 {
		if r.vegas = old.vegas; r.vegas == nil || old.policy.Adaptive != a {
			r.vegas = limit.NewVegas(a.Min, a.Max, a.Initial)
		}
		most = r.vegas.Current()
	}
	if r.slots = old.slots; most > 0 && r.slots == nil {
		r.slots = &limit.Slots{}
	}
	if r.slots != nil {
		r.slots.SetLimit(most)
	}
	if p.PerKey != nil {
		if r.keys = old.keys; r.keys == nil {
			r.keys = newKeyed(m)
		}
		r.keys.setPolicy(*p.PerKey, p.MaxKeys)
	}
	return r
}

// setPolicy puts other rules in force and keeps the state: what is open stays
// open for as long as it would have, and an equal Breaker keeps its counts.
func (m *member) setPolicy(p Policy) {
	old := m.rules.Load()
	m.budget.SetShare(p.RetryBudget)
	m.rules.Store(m.newRules(old, p))
	if old.policy.Breaker != p.Breaker {
		m.setBreakers(p.Breaker, func(b *breaker) int64 { return b.openUntil.Load() })
	}
}

// setBreakers replaces the breakers by new ones, in the state that until gives of
// the old.
func (m *member) setBreakers(p Breaker, until func(old *breaker) int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []*breaker
	for _, b := range *m.breakers.Load() {
		all = append(all, m.resumed(b, p, until(b)))
	}
	m.breakers.Store(&all)
	m.unreachable.Store(0)
}

// resumed is a breaker in the place of an old one: open until then, half-open
// where that is past, closed where it is zero.
func (m *member) resumed(old *breaker, p Breaker, until int64) *breaker {
	ready := p.OpenFor
	if until > 0 {
		ready = time.Duration(until) - time.Since(m.base)
	}
	b := m.newBreaker(old.class, p, ready)
	b.usual.Store(old.usual.Load())
	if until > 0 && b.machine != nil {
		b.trip()
		b.openUntil.Store(until)
	}
	return b
}

// reopen lets the breaker of a class be open for that long, or half-open where that
// is past. It is for a state that is restored: all counts begin anew.
func (m *member) reopen(class string, d time.Duration) {
	of := m.breaker(class)
	m.setBreakers(m.policy().Breaker, func(b *breaker) int64 {
		if b != of {
			return b.openUntil.Load()
		}
		return max(int64(time.Since(m.base)+d), 1)
	})
}
