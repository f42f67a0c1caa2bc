package sim

import (
	"slices"
	"sync"
)

// Ledger keeps what a simulator accepted, in order, each under a key of the caller's such as a message id. The zero
// value is empty and ready. It's safe for concurrent use.
type Ledger[T any] struct {
	mu      sync.Mutex
	entries []T
	counts  map[string]int
}

// Add enters v under key. The same key may be entered many times: that is what the ledger is there to find.
func (l *Ledger[T]) Add(key string, v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil {
		l.counts = map[string]int{}
	}
	l.entries = append(l.entries, v)
	l.counts[key]++
}

// All is everything entered, oldest first.
func (l *Ledger[T]) All() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// Len is how often something was entered.
func (l *Ledger[T]) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// Count is how often key was entered.
func (l *Ledger[T]) Count(key string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[key]
}

// Missing are those of the given keys that were never entered, in the order given: what was lost.
func (l *Ledger[T]) Missing(keys ...string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var missing []string
	for _, key := range keys {
		if l.counts[key] == 0 {
			missing = append(missing, key)
		}
	}
	return missing
}

// Doubled are the keys entered more than once, sorted.
func (l *Ledger[T]) Doubled() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var doubled []string
	for key, n := range l.counts {
		if n > 1 {
			doubled = append(doubled, key)
		}
	}
	slices.Sort(doubled)
	return doubled
}

// Clear forgets everything.
func (l *Ledger[T]) Clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries, l.counts = nil, nil
}
