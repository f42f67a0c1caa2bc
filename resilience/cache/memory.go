package cache

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/maypok86/otter/v2"
)

// entry is an answer with its times, or a NotFound.
type entry[T any] struct {
	value   T
	err     error         // the NotFound
	made    int64         // when the provider gave it, in nanoseconds since Cache.base; negative where it came from the Store
	life    time.Duration // how long it is fresh, the jitter taken off
	weight  uint32
	doubted bool // the provider has since refused the request: who wants this one must ask first
}

func (e *entry[T]) fresh(now int64) bool          { return e.since(now) < e.life }
func (e *entry[T]) since(now int64) time.Duration { return time.Duration(now - e.made) }
func (e *entry[T]) age(now int64) time.Duration   { return max(e.since(now), 0) }

// keep is for how long it may be given, stale ones among them.
func (e *entry[T]) keep(stale time.Duration) time.Duration {
	if e.err != nil {
		return e.life
	}
	return e.life + stale
}

func (c *Cache[T]) usable(e entry[T], now int64) bool { return e.since(now) < e.keep(c.config.Stale) }

// atOnce reports whether a caller gets it without waiting for a new one.
func (c *Cache[T]) atOnce(e entry[T], now int64) bool {
	return e.err == nil && !e.doubted && e.since(now) < e.life+c.config.Revalidate
}

// kept makes an entry of a new answer.
func (c *Cache[T]) kept(v T) entry[T] {
	return entry[T]{value: v, made: c.now(), life: c.life(c.config.TTL), weight: c.weigh(v)}
}

// missing makes an entry of a NotFound.
func (c *Cache[T]) missing(err error, now int64) entry[T] {
	e := entry[T]{err: err, made: now, life: c.life(c.config.NegativeTTL), weight: 1}
	if c.config.Weight != nil { // whose unit isn't known, so their number is bounded
		e.weight = weight(c.config.Size / defaultSize)
	}
	return e
}

// life is a TTL with the jitter taken off.
func (c *Cache[T]) life(ttl time.Duration) time.Duration {
	spread := rand.Float64() * c.config.Jitter * float64(ttl) //nolint:gosec // spreading, not secrecy
	return max(ttl-time.Duration(spread), 1)
}

// weigh is an answer's share of Size.
func (c *Cache[T]) weigh(v T) uint32 {
	if c.config.Weight == nil {
		return 1
	}
	return weight(c.config.Weight(v))
}

func weight(n int) uint32 { return uint32(min(max(n, 1), math.MaxInt32)) }

// newMemory makes the first level.
func newMemory[T any](size int, stale time.Duration, base time.Time) (*otter.Cache[id, entry[T]], error) {
	return otter.New(&otter.Options[id, entry[T]]{
		MaximumWeight: uint64(size), //nolint:gosec // checked not negative
		Weigher:       func(_ id, e entry[T]) uint32 { return e.weight },
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[id, entry[T]]) time.Duration {
			return max(e.Value.keep(stale)-e.Value.since(e.SnapshotAtNano), 1)
		}),
		Clock: clock{base},
	})
}

// look returns what memory has, and the time at which it was found.
func (c *Cache[T]) look(who id) (entry[T], int64, bool) {
	e, ok := c.memory.GetEntry(who)
	return e.Value, e.SnapshotAtNano, ok
}

// clock is otter's, in nanoseconds since base. It doesn't tick: expired entries
// leave memory with the next writes, and no goroutine is needed for it.
type clock struct{ base time.Time }

func (c clock) NowNano() int64                    { return int64(time.Since(c.base)) }
func (clock) Tick(time.Duration) <-chan time.Time { return nil }
