package resilience

import (
	"math"
	"sync"
	"time"
)

// Adaptive is a limit on concurrency that finds its own height: it grows while
// latency stays where it was and shrinks when it rises, or when the provider
// says that it has too much. It is the gradient of Netflix's concurrency-limits
// (Gradient2Limit) with a decrease on overload, which that has not: a provider
// that sheds load answers quickly, and latency alone would take that for health.
//
// Vegas was weighed: it compares with the lowest latency ever seen, which the
// quick answers of a small request set for all large ones.
type Adaptive struct {
	// Min and Max bound the limit; Max switches it on. Min is 1 where it is zero.
	Min, Max int
	// Initial is where it starts; zero means 20, within Min and Max.
	Initial int
	// Tolerance is how much latency may rise over its long-term mean before the
	// limit shrinks; zero means 1.5, half as much again.
	Tolerance float64
}

const (
	longWindow   = 600 // samples in the long-term mean; those of the original
	smoothing    = 0.2 // share of a new estimate
	backOffTo    = 0.9 // of the limit, on overload
	steepest     = 0.5 // a single sample at most halves the estimate
	queueAllowed = 4   // by which the limit grows at leisure
)

// gradient is the state of an Adaptive limit.
type gradient struct {
	Adaptive
	mu       sync.Mutex
	estimate float64
	long     float64 // mean latency in ns, exponentially weighted
	samples  int
	lastDrop time.Time
}

func newGradient(a Adaptive) *gradient {
	a.Min = max(a.Min, 1)
	if a.Initial == 0 {
		a.Initial = 20
	}
	if a.Tolerance == 0 {
		a.Tolerance = 1.5
	}
	return &gradient{Adaptive: a, estimate: float64(min(max(a.Initial, a.Min), a.Max))}
}

// sample takes the latency of an attempt that ended, with how many ran at its
// end, and returns the new limit.
func (g *gradient) sample(now time.Time, latency time.Duration, inUse int, overload bool) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if overload {
		if now.Sub(g.lastDrop) >= time.Duration(g.long) { // one decrease for what was in flight together
			g.estimate, g.lastDrop = g.estimate*backOffTo, now
		}
		return g.limit()
	}
	short := float64(max(latency, 1))
	g.samples++
	g.long += (short - g.long) / float64(min(g.samples, longWindow))
	if g.long > 2*short { // it recovers from a long bad time at once, not over hundreds of samples
		g.long *= 0.95
	}
	if float64(inUse) < g.estimate/2 {
		return g.limit() // who doesn't use the limit learns nothing about it
	}
	slope := max(steepest, min(1, g.Tolerance*g.long/short))
	g.estimate += smoothing * (g.estimate*slope + queueAllowed - g.estimate)
	return g.limit()
}

// limit is called under the lock, or before anybody else knows of g.
func (g *gradient) limit() int {
	g.estimate = max(float64(g.Min), min(float64(g.Max), g.estimate))
	return int(math.Round(g.estimate))
}
