package limit

import (
	"math"
	"sync/atomic"
)

// Budget bounds retries to a share of the calls. Each call deposits the share,
// each retry takes a whole; what may gather is bounded, so that a long good
// time doesn't pay for a storm. The counts are millionths.
type Budget struct {
	share, left atomic.Int64
}

const (
	retryCost    = 1_000_000
	retryReserve = 10 * retryCost
)

// Fill gives it the whole reserve.
func (b *Budget) Fill() { b.left.Store(retryReserve) }

// SetShare is how much of a retry each call deposits; without one there is no bound.
func (b *Budget) SetShare(share float64) { b.share.Store(int64(math.Ceil(share * retryCost))) }

// Deposit notes a call. At the brim, which is the usual case, it only reads.
func (b *Budget) Deposit() {
	for share := b.share.Load(); share > 0; {
		old := b.left.Load()
		if old >= retryReserve || b.left.CompareAndSwap(old, min(old+share, retryReserve)) {
			return
		}
	}
}

// Take asks for one retry. Without a share there is no bound.
func (b *Budget) Take() bool {
	for b.share.Load() > 0 {
		old := b.left.Load()
		if old < retryCost {
			return false
		}
		if b.left.CompareAndSwap(old, old-retryCost) {
			return true
		}
	}
	return true
}

// Left is how many retries it allows at once, -1 where it has no share.
func (b *Budget) Left() int {
	if b.share.Load() <= 0 {
		return -1
	}
	return int(b.left.Load() / retryCost)
}
