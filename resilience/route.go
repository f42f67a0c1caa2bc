package resilience

import (
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// Route says which provider is asked first. The others stand behind it, under
// the same rules of faults.
type Route uint8

const (
	// InOrder asks the primary first, then its backups as they are listed.
	InOrder Route = iota
	// RoundRobin lets each call begin with the next provider.
	RoundRobin
	// Weighted begins with a provider drawn by [Policy.Weights], such as 5 of 100
	// calls for a canary, and goes on in the order of the list.
	Weighted
	// Sticky begins with the same provider for the same key (see [WithKey]), as
	// long as that one can take calls; each key's second choice is its own too, so
	// that a lost provider's keys spread. Calls without a key go in order.
	Sticky
	routes
)

// order maps the places of a call to its members: a rotation by start, or one
// member before the others.
type order struct {
	n, start int
	rotates  bool
}

func (o order) at(place int) int {
	switch {
	case o.rotates:
		return (o.start + place) % o.n
	case place == 0:
		return o.start
	case place <= o.start:
		return place - 1
	}
	return place
}

func (g *Control) order(p *Policy, key, class string, now time.Time) order {
	o := order{n: len(g.members)}
	switch p.Route {
	case InOrder, routes:
	case RoundRobin:
		o.rotates = true
		o.start = int((g.turn.Add(1) - 1) % uint64(o.n)) //nolint:gosec // below n
	case Weighted:
		o.start = g.draw(p.Weights, class, now)
	case Sticky:
		if key != "" {
			o.start = g.home(key, class, now)
		}
	}
	return o
}

// draw picks a member by weight among those that could take a call.
func (g *Control) draw(weights map[string]int, class string, now time.Time) int {
	total := 0
	for _, m := range g.members {
		total += weight(m, weights, class, now)
	}
	if total == 0 {
		return 0
	}
	n := rand.IntN(total) //nolint:gosec // spreading, not secrecy
	for i, m := range g.members {
		if n -= weight(m, weights, class, now); n < 0 {
			return i
		}
	}
	return 0 // one became ready meanwhile
}

func weight(m *member, weights map[string]int, class string, now time.Time) int {
	if w := weights[m.name]; w > 0 && m.doorOf("").ready(class, now) > 0 {
		return w
	}
	return 0
}

// home is the key's provider by rendezvous hashing: the loss or return of a
// member moves that member's keys alone.
func (g *Control) home(key, class string, now time.Time) int {
	best, at := uint64(0), 0
	for i, m := range g.members {
		h := fnv.New64a()
		_, _ = h.Write([]byte(m.name + "\x00" + key))
		if score := mix(h.Sum64()); m.doorOf(key).ready(class, now) > 0 && score >= best {
			best, at = score, i
		}
	}
	return at
}

// mix is the finaliser of SplitMix64: FNV alone leaves the high bits of short
// strings alike.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
