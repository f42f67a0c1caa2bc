package limit

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// Slots bounds the attempts that run at the same time. Whoever waits is
// served in order; the bound may change at any time.
type Slots struct {
	mu      sync.Mutex
	limit   int // 0 is none
	inUse   int
	waiting list.List // of chan struct{}, closed when the slot is given
}

// TryTake takes a slot that is free, where nobody waits for it.
func (b *Slots) TryTake() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	free := b.limit == 0 || b.inUse < b.limit && b.waiting.Len() == 0
	if free {
		b.inUse++
	}
	return free
}

// Take waits for a slot at most that long. It reports whether it got one; the
// error is ctx's.
func (b *Slots) Take(ctx context.Context, wait time.Duration) (bool, error) {
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
			b.Release()
		}
		return false, ctx.Err()
	}
}

// leave gives up a place in the queue, and reports whether the slot had come
// meanwhile.
func (b *Slots) leave(place *list.Element, given chan struct{}) bool {
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

// Release gives a slot back.
func (b *Slots) Release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inUse--
	b.serve()
}

func (b *Slots) serve() {
	for b.waiting.Len() > 0 && (b.limit == 0 || b.inUse < b.limit) {
		first := b.waiting.Front()
		b.waiting.Remove(first)
		b.inUse++
		close(first.Value.(chan struct{})) //nolint:forcetypeassert // all are
	}
}

// SetLimit changes the bound; what runs goes on.
func (b *Slots) SetLimit(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = n
	b.serve()
}

// Full reports whether a slot can't be had at once.
func (b *Slots) Full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limit > 0 && (b.inUse >= b.limit || b.waiting.Len() > 0)
}

// State is what Inspect shows.
func (b *Slots) State() (inUse, limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inUse, b.limit
}
