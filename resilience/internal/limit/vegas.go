package limit

import (
	"math"
	"sync"
	"time"
)

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

// Vegas is a number of slots that finds itself. See resilience.Adaptive.
type Vegas struct {
	min, max int
	mu       sync.Mutex
	limit    float64
	idle     float64 // latency in ns without a queue

	// The round.
	n        int
	sum      float64
	used     int // most at once
	overload int

	rounds, wait int     // since the last look at the idle latency; until the next
	probe        int     // 0: none; 1: the queue drains; 2: it is measured
	saved        float64 // the limit before it
}

// NewVegas begins at initial, or 20 where that is zero, and stays within the bounds.
func NewVegas(low, high, initial int) *Vegas {
	low = max(low, 1)
	if initial == 0 {
		initial = 20
	}
	return &Vegas{min: low, max: high, limit: float64(min(max(initial, low), high)), wait: firstProbe}
}

// Current is the limit.
func (v *Vegas) Current() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return int(math.Round(v.limit))
}

// Sample takes an attempt that ended and how many ran at its end, and returns
// the limit.
func (v *Vegas) Sample(latency time.Duration, inUse int, overload bool) int {
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
		v.limit = max(float64(v.min), min(float64(v.max), v.limit))
		v.n, v.sum, v.used, v.overload = 0, 0, 0, 0
	}
	return int(math.Round(v.limit))
}

// round draws the conclusion from a round.
func (v *Vegas) round(mean float64) {
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
	if v.idle == 0 || mean < v.idle || v.limit <= float64(v.min) {
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
func (v *Vegas) probed(mean float64) {
	v.wait = min(2*v.wait, lastProbe)
	if math.Abs(mean-v.idle) > same*v.idle {
		v.wait = firstProbe
	}
	v.idle, v.limit, v.probe, v.rounds = mean, v.saved, 0, 0
}

func (v *Vegas) follow(mean float64) {
	queue := 1 - v.idle/mean // as a share of the limit
	switch {
	case queue > queueHigh:
		v.limit *= (1 - queue) + queueLow
	case queue < queueLow && float64(v.used) >= usedFrom*v.limit:
		v.limit += max(1, growth*v.limit)
	}
}
