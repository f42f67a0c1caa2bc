package resilience

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// bulkhead bounds the attempts that run at the same time. Whoever waits is
// served in order; the bound may change at any time.
type bulkhead struct {
	mu      sync.Mutex
	limit   int // 0 is none
	inUse   int
	waiting list.List // of chan struct{}, closed when the slot is given
}

// tryTake takes a slot that is free, where nobody waits for it.
func (b *bulkhead) tryTake() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	free := b.limit == 0 || b.inUse < b.limit && b.waiting.Len() == 0
	if free {
		b.inUse++
	}
	return free
}

// take waits for a slot at most that long. It reports whether it got one; the
// error is ctx's.
func (b *bulkhead) take(ctx context.Context, wait time.Duration) (bool, error) {
	given := make(chan struct{})
	b.mu.Lock()
	place := b.waiting.PushBack(given)
	b.serve()
	b.mu.Unlock()

	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-given:
		return true, nil
	case <-t.C:
		return b.leave(place, given), nil
	case <-ctx.Done():
		if b.leave(place, given) {
			b.release()
		}
		return false, ctx.Err()
	}
}

// leave gives up a place in the queue, and reports whether the slot had come
// meanwhile.
func (b *bulkhead) leave(place *list.Element, given chan struct{}) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-given:
		return true
	default:
		b.waiting.Remove(place)
		return false
	}
}

func (b *bulkhead) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inUse--
	b.serve()
}

func (b *bulkhead) serve() {
	for b.waiting.Len() > 0 && (b.limit == 0 || b.inUse < b.limit) {
		first := b.waiting.Front()
		b.waiting.Remove(first)
		b.inUse++
		close(first.Value.(chan struct{})) //nolint:forcetypeassert // all are
	}
}

func (b *bulkhead) setLimit(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = n
	b.serve()
}

// full reports whether a slot can't be had at once.
func (b *bulkhead) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limit > 0 && (b.inUse >= b.limit || b.waiting.Len() > 0)
}

// state is what Inspect shows.
func (b *bulkhead) state() (inUse, limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inUse, b.limit
}
