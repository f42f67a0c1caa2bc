package cache

import (
	"math"
	"time"

	"github.com/maypok86/otter/v2"
)

// entry is an answer with its times.
type entry[T any] struct {
	value  T
	made   int64         // when the provider gave it, in nanoseconds since Cache.base; negative where it came from the Store
	life   time.Duration // how long it is fresh, the jitter taken off
	keep   time.Duration // how long it may be given when stale, from made
	weight uint32
}

func (e *entry[T]) fresh(now int64) bool { return e.since(now) < e.life }

func (e *entry[T]) usable(now int64) bool { return e.since(now) < e.keep }

func (e *entry[T]) since(now int64) time.Duration { return time.Duration(now - e.made) }

func (e *entry[T]) age(now int64) time.Duration { return max(e.since(now), 0) }

// memory is the first level.
type memory[T any] struct{ *otter.Cache[id, entry[T]] }

func newMemory[T any](size int, base time.Time) (*memory[T], error) {
	m, err := otter.New(&otter.Options[id, entry[T]]{
		MaximumWeight: uint64(size), //nolint:gosec // checked not negative
		Weigher:       func(_ id, e entry[T]) uint32 { return e.weight },
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[id, entry[T]]) time.Duration {
			return max(e.Value.keep-e.Value.since(e.SnapshotAtNano), 1)
		}),
		Clock: clock{base},
	})
	return &memory[T]{m}, err
}

// get returns the entry and the time at which it was looked up.
func (m *memory[T]) get(who id) (entry[T], int64, bool) {
	e, ok := m.GetEntry(who)
	return e.Value, e.SnapshotAtNano, ok
}

func (m *memory[T]) set(who id, e entry[T]) { m.Set(who, e) }

func (m *memory[T]) drop(who id) { m.Invalidate(who) }

func (m *memory[T]) size() int { return m.EstimatedSize() }

// weigh is an answer's share of Size.
func (c *Cache[T]) weigh(v T) uint32 {
	if c.config.Weight == nil {
		return 1
	}
	return uint32(min(max(c.config.Weight(v), 1), math.MaxInt32))
}

// clock is otter's, in nanoseconds since base. It doesn't tick: expired entries
// leave memory with the next writes, and no goroutine is needed for it.
type clock struct{ base time.Time }

func (c clock) NowNano() int64 { return int64(time.Since(c.base)) }

func (clock) Tick(time.Duration) <-chan time.Time { return nil }
