package resilience

import "fmt"

// Leaks says what the members of a Group, and of those inside, still hold.
func (g *Control) Leaks() (all []string) {
	for _, m := range g.members {
		all = append(all, m.leaks(m.name)...)
		if m.inner.is() {
			all = append(all, m.inner.Leaks()...)
		}
		if k := m.rules.Load().keys; k != nil {
			for _, km := range k.lru.Values() {
				all = append(all, km.leaks(m.name+" key")...)
			}
		}
	}
	return all
}

func (m *member) leaks(name string) (all []string) {
	if n := m.inFlight.Load(); n != 0 {
		all = append(all, fmt.Sprintf("%s: in flight %d", name, n))
	}
	if n := m.waiting.Load(); n != 0 {
		all = append(all, fmt.Sprintf("%s: waiting %d", name, n))
	}
	r := m.rules.Load()
	if r.slots != nil {
		if n, _ := r.slots.State(); n != 0 {
			all = append(all, fmt.Sprintf("%s: slots %d", name, n))
		}
	}
	for _, b := range *m.breakers.Load() {
		if b.machine == nil {
			continue
		}
		c := b.machine.Counts()
		if out := int64(c.Requests) - int64(c.TotalSuccesses) - int64(c.TotalFailures) - int64(c.TotalExclusions); b.machine.State().String() == "half-open" && out > 0 {
			all = append(all, fmt.Sprintf("%s: probes out %d", name, out))
		}
	}
	return all
}
