package resilience

import (
	"math"
	"sync/atomic"
)

// budget bounds retries to a share of the calls. Each call deposits the share,
// each retry takes a whole; what may gather is bounded, so that a long good
// time doesn't pay for a storm. The counts are millionths.
type budget struct {
	share, left atomic.Int64
}

const (
	retryCost    = 1_000_000
	retryReserve = 10 * retryCost
)

func (b *budget) init() { b.left.Store(retryReserve) }

func (b *budget) setShare(share float64) { b.share.Store(int64(math.Ceil(share * retryCost))) }

// deposit notes a call. At the brim, which is the usual case, it only reads.
func (b *budget) deposit() {
	for share := b.share.Load(); share > 0; {
		old := b.left.Load()
		if old >= retryReserve || b.left.CompareAndSwap(old, min(old+share, retryReserve)) {
			return
		}
	}
}

// take asks for one retry. Without a share there is no bound.
func (b *budget) take() bool {
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
