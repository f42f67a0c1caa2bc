package resilience

import (
	"math"
	"sync"
	"time"
)

// Adaptive is a limit on concurrency that finds its own height: it grows while
// it is used and latency shows no queue at the provider, and shrinks when it
// does, or when the provider says that it has too much.
//
// It is TCP Vegas (the queue is what latency has over that of an idle provider)
// with three changes. It goes by means over a round of attempts, since a single
// quick answer says nothing about the next one's work. It measures the idle
// latency anew from time to time with half the limit, as BBR does, since a
// lowest value ever seen outlives what it was true for. And it shrinks on
// refusals, since a provider that sheds load answers quickly, which latency alone
// takes for health. The gradient of two means (Gradient2 of Netflix's
// concurrency-limits) was weighed: its long mean learns the queue that it should
// find, and settled at three times what a simulated provider could do.
type Adaptive struct {
	// Min and Max bound the limit; Max switches it on. Min is 1 where it is zero.
	Min, Max int
	// Initial is where it starts; zero means 20, within Min and Max.
	Initial int
}

const (
	minRound     = 30 // attempts that make a mean; a round has two for each slot
	firstProbe   = 5  // rounds until the idle latency is looked at again, doubled
	lastProbe    = 80 // up to this while it stays as it was
	same         = 0.1
	queueLow     = 0.15 // of the limit may queue before it stops growing
	queueHigh    = 0.25 // and before it shrinks
	overloadedTo = 0.9
	growth       = 0.1
	overloadFrom = 0.05 // share of a round that is refused or timed out; less is noise
	usedFrom     = 0.8  // who doesn't use the limit learns nothing about it
)

// vegas is the state of an Adaptive limit.
type vegas struct {
	Adaptive
	mu    sync.Mutex
	limit float64
	idle  float64 // latency in ns without a queue

	// The round.
	n        int
	sum      float64
	used     int // most at once
	overload int

	rounds, wait int     // since the last look at the idle latency; until the next
	probe        int     // 0: none; 1: the queue drains; 2: it is measured
	saved        float64 // the limit before it
}

func newVegas(a Adaptive) *vegas {
	a.Min = max(a.Min, 1)
	if a.Initial == 0 {
		a.Initial = 20
	}
	return &vegas{Adaptive: a, limit: float64(min(max(a.Initial, a.Min), a.Max)), wait: firstProbe}
}

func (v *vegas) current() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return int(math.Round(v.limit))
}

// sample takes an attempt that ended and how many ran at its end, and returns
// the limit.
func (v *vegas) sample(latency time.Duration, inUse int, overload bool) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.n++
	v.sum += float64(max(latency, 1))
	v.used = max(v.used, inUse)
	if overload {
		v.overload++
	}
	if v.n >= max(minRound, 2*int(v.limit)) {
		v.round(v.sum / float64(v.n))
		v.limit = max(float64(v.Min), min(float64(v.Max), v.limit))
		v.n, v.sum, v.used, v.overload = 0, 0, 0, 0
	}
	return int(math.Round(v.limit))
}

// round draws the conclusion from a round.
func (v *vegas) round(mean float64) {
	if float64(v.overload) >= overloadFrom*float64(v.n) {
		if v.probe > 0 {
			v.limit, v.probe = v.saved, 0
		}
		v.limit *= overloadedTo
		return
	}
	switch v.probe {
	case 1:
		v.probe = 2
		return
	case 2:
		v.probed(mean)
		return
	}
	if v.idle == 0 || mean < v.idle || v.limit <= float64(v.Min) {
		v.idle = mean
	}
	if v.rounds++; v.rounds >= v.wait {
		v.probe, v.saved = 1, v.limit
		v.limit /= 2
		return
	}
	v.follow(mean)
}

// probed takes the idle latency, and looks again soon where it has changed.
func (v *vegas) probed(mean float64) {
	v.wait = min(2*v.wait, lastProbe)
	if math.Abs(mean-v.idle) > same*v.idle {
		v.wait = firstProbe
	}
	v.idle, v.limit, v.probe, v.rounds = mean, v.saved, 0, 0
}

func (v *vegas) follow(mean float64) {
	queue := 1 - v.idle/mean // as a share of the limit
	switch {
	case queue > queueHigh:
		v.limit *= (1 - queue) + queueLow
	case queue < queueLow && float64(v.used) >= usedFrom*v.limit:
		v.limit += max(1, growth*v.limit)
	}
}
