package window

import (
	"slices"
	"sync"
	"time"
)

// Latencies are a provider's last ones.
type Latencies struct {
	mu     sync.Mutex
	recent [128]time.Duration
	n      int
	sorted []time.Duration // of a moment ago
}

const (
	enoughLatencies = 32
	sortEvery       = 16
)

// Add takes one.
func (l *Latencies) Add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recent[l.n%len(l.recent)] = d
	l.n++
	if l.n >= enoughLatencies && l.n%sortEvery == 0 {
		l.sorted = append(l.sorted[:0], l.recent[:min(l.n, len(l.recent))]...)
		slices.Sort(l.sorted)
	}
}

// Percentile is zero while too few are known.
func (l *Latencies) Percentile(p float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sorted) == 0 {
		return 0
	}
	return l.sorted[int(p*float64(len(l.sorted)))]
}
