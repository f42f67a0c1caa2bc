// Package window counts what has become of calls, and how long they took.
package window

import (
	"math"
	"sync/atomic"
	"time"
)

// Window counts what became of the calls that one generation of a breaker let
// in: each opening and each closing begins another, and a call tells the one that
// let it in, so that a call from before has no say. It moves in tenths, and needs
// no lock.
type Window struct {
	// Each word is the number of a tenth (24 bits), its failures and its successes
	// (20 bits each).
	words  [tenths]atomic.Uint64
	InARow atomic.Int64 // failures since the last success, however far apart
}

// What Add counts.
const (
	Success = 1
	Failure = 1 << countBits
)

const (
	tenths     = 10
	countBits  = 20
	maxCount   = 1<<countBits - 1
	numberMask = 1<<(64-2*countBits) - 1
)

// TenthOf is the length of a tenth. Without a window there is one for ever.
func TenthOf(window time.Duration) time.Duration {
	if window == 0 {
		return math.MaxInt64
	}
	return max(window/tenths, 1)
}

// Add counts one call in a tenth: plus is Success or Failure.
func (w *Window) Add(tenth uint64, plus uint64) {
	word := &w.words[tenth%tenths]
	for {
		old := word.Load()
		if older := (old>>(2*countBits) - tenth) & numberMask; older > 0 && older <= 2*tenths {
			return // it comes too late for its tenth
		}
		fresh := old
		if old>>(2*countBits) != tenth&numberMask {
			fresh = tenth & numberMask << (2 * countBits)
		}
		if fresh&maxCount == maxCount || fresh>>countBits&maxCount == maxCount { // halved together, so that the ratio stays
			fresh = fresh&^(1<<(2*countBits)-1) | (fresh>>countBits&maxCount/2)<<countBits | fresh&maxCount/2
		}
		if word.CompareAndSwap(old, fresh+plus) {
			return
		}
	}
}

// Sum is what the window holds when that tenth runs.
func (w *Window) Sum(tenth uint64) (successes, failures int) {
	for i := range w.words {
		word := w.words[i].Load()
		if (tenth-word>>(2*countBits))&numberMask < tenths {
			successes += int(word & maxCount)
			failures += int(word >> countBits & maxCount)
		}
	}
	return successes, failures
}
