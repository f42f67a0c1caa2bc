// Package cache keeps the answers of reads: in memory, and where a [Store] is
// given also behind it, for all processes together.
//
//	rates, err := cache.New(cache.Config[float64]{TTL: time.Minute, Jitter: 0.1, Stale: time.Hour})
//	…
//	answer, err := rates.Do(ctx, opRate, cache.Key("USD", "EUR"), func(ctx context.Context) (float64, error) {
//		return resilience.Call(ctx, banks, opRate, Bank.Rate, pair)
//	})
//
// Rules that a caller must know:
//
//   - Only reads are cached, and what [Config.Repeatable] allows. Others are refused.
//   - An answer belongs to the tenant ([resilience.WithTenant]), the operation and
//     the key that it was asked with. What else changes the answer, such as a user's
//     permissions or the provider that a call is pinned to, must be part of the key.
//   - Identical calls at one time make one upstream call. It runs in a goroutine of
//     its own, with the values of the context of the caller that began it and with
//     [Config.LoadTimeout] as its only deadline. It is cancelled when all callers have
//     gone, unless one of them got a stale answer at its deadline. A caller whose own
//     context ends returns at once.
//   - An answer past its TTL is kept for [Config.Stale] longer. It is given, marked as
//     stale with its age and the reason, when the upstream call fails with a fault that
//     isn't the request's own, or hasn't ended by the caller's deadline. Invalid,
//     NotFound, Conflict, Rejected and Canceled are returned as they are.
//   - Errors are never kept, but for NotFound where [Config.NegativeTTL] is set. A panic
//     of the function is raised again, as a [*Panic], in every caller that waits for it;
//     one that ends its goroutine ends theirs.
//   - A function that asks for its own key gets an error: it would wait for itself.
//   - A value is handed to many callers: it must not be changed, unless [Config.Clone]
//     makes a copy for each.
//   - Where a Client with a Cache is a member of another Client, a call is joined by
//     none and gets no stale answer: both are for the outermost Client to do.
//   - A Store that is down, slow or gives garbage fails no call.
package cache

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// Config says what a Cache keeps and for how long. TTL is required.
type Config[T any] struct {
	// TTL is how long an answer is fresh.
	TTL time.Duration
	// Jitter shortens each answer's TTL by a random share of up to this much, so
	// that what was cached in one moment doesn't expire in one. From 0 to 1.
	Jitter float64
	// Stale is how much longer an answer is kept for the case that no new one
	// can be had. Zero switches stale answers off.
	Stale time.Duration
	// Revalidate is for how long after its TTL an answer in memory is given at once,
	// marked as stale, while one call in the background fetches a new one. After a
	// fault of the request's own, such as NotFound, callers wait again. At most Stale;
	// zero means that callers always wait.
	Revalidate time.Duration
	// NegativeTTL is how long a NotFound is kept, in memory alone, and given as the
	// same error. Zero means not at all. Beside a Weight it weighs a 10,000th of Size.
	NegativeTTL time.Duration
	// LoadTimeout limits one upstream call: then its context ends, and later callers
	// don't wait for it any more. Zero means 30 s.
	LoadTimeout time.Duration
	// Repeatable allows [fault.Idempotent] and [fault.AtLeastOnce] operations too.
	Repeatable bool

	// Size bounds what is kept in memory: the number of answers, or where Weight
	// is set the sum of their weights. Zero means 10,000.
	Size int
	// Weight is what an answer counts for in Size, such as its bytes; less than
	// one counts as one.
	Weight func(T) int
	// Clone makes the copy that a caller gets. Without it all callers share one
	// value. It is called by several goroutines with the same value at a time.
	Clone func(T) T

	// Store is the second level, which processes share. Nil means none.
	Store Store
	// StoreTimeout limits one call of the Store. Zero means 100 ms.
	StoreTimeout time.Duration
	// Version is part of the key of what is in the Store. Change it with the meaning
	// or the encoding of T, and old and new processes can run side by side.
	Version string
	// Encode and Decode turn a value into bytes and back. Nil means JSON.
	Encode func(T) ([]byte, error)
	Decode func([]byte) (T, error)
	// OnStoreError is told what the Store did wrong, in the goroutine of the
	// upstream call. The errors are the Store's own.
	OnStoreError func(op string, err error)
}

func (c *Config[T]) validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("cache: "+format, args...))
		}
	}
	refuse(c.TTL <= 0, "TTL must be positive, not %v", c.TTL)
	refuse(c.Stale < 0, "Stale is negative: %v", c.Stale)
	refuse(c.Revalidate < 0 || c.Revalidate > c.Stale, "Revalidate must be from 0 to Stale (%v), not %v", c.Stale, c.Revalidate)
	refuse(c.NegativeTTL < 0, "NegativeTTL is negative: %v", c.NegativeTTL)
	refuse(c.LoadTimeout < 0, "LoadTimeout is negative: %v", c.LoadTimeout)
	refuse(!(c.Jitter >= 0 && c.Jitter <= 1), "Jitter must be from 0 to 1, not %v", c.Jitter)
	refuse(c.Size < 0, "Size is negative: %d", c.Size)
	refuse(c.Weight != nil && c.Size == 0, "Weight without Size")
	refuse(c.StoreTimeout < 0, "StoreTimeout is negative: %v", c.StoreTimeout)
	refuse((c.Encode == nil) != (c.Decode == nil), "Encode and Decode belong together")
	return errors.Join(errs...)
}

const (
	defaultSize         = 10_000
	defaultStoreTimeout = 100 * time.Millisecond
	defaultLoadTimeout  = 30 * time.Second
	// forever is what longer durations are cut to, so that sums of them don't overflow.
	forever = 50 * 365 * 24 * time.Hour
)

func (c *Config[T]) fillIn() {
	for _, d := range []*time.Duration{&c.TTL, &c.Stale, &c.Revalidate, &c.NegativeTTL, &c.LoadTimeout, &c.StoreTimeout} {
		*d = min(*d, forever)
	}
	c.LoadTimeout = cmp.Or(c.LoadTimeout, defaultLoadTimeout)
	c.Size = cmp.Or(c.Size, defaultSize)
	c.StoreTimeout = cmp.Or(c.StoreTimeout, defaultStoreTimeout)
	if c.OnStoreError == nil {
		c.OnStoreError = func(string, error) {}
	}
	if c.Encode == nil {
		c.Encode = func(v T) ([]byte, error) { return json.Marshal(v) }
		c.Decode = func(data []byte) (v T, err error) { return v, json.Unmarshal(data, &v) }
	}
}

var _ resilience.Cache[int] = (*Cache[int])(nil)

// Cache keeps answers of type T. It is safe for concurrent use.
type Cache[T any] struct {
	config Config[T]
	base   time.Time // instants inside are nanoseconds since then
	memory *otter.Cache[id, entry[T]]
	store  *level // nil without a Store
	stats  counters
	seed   maphash.Seed
	shards [16]shard[T]
}

// id is whose answer to what.
type id struct{ tenant, op, key string }

// New checks config and returns an empty Cache.
func New[T any](config Config[T]) (*Cache[T], error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	config.fillIn()
	base := time.Now()
	memory, err := newMemory[T](config.Size, config.Stale, base)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	c := &Cache[T]{config: config, base: base, memory: memory, seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].slots = map[id]*slot[T]{}
	}
	if config.Store != nil {
		c.store = newLevel(config.Store, config.StoreTimeout)
	}
	return c, nil
}

// Key joins the arguments of a call into a key, so that no two lists of
// arguments have the same one.
func Key(args ...string) string {
	var b strings.Builder
	for _, a := range args {
		b.WriteString(strconv.Itoa(len(a)))
		b.WriteByte(':')
		b.WriteString(a)
	}
	return b.String()
}

// Do answers from memory or the Store, or calls fn, which must use the context
// that it is given.
func (c *Cache[T]) Do(ctx context.Context, op resilience.Op, key string, fn func(context.Context) (T, error)) (resilience.Answer[T], error) {
	if err := c.check(ctx, op); err != nil {
		return resilience.Answer[T]{}, err
	}
	who := id{resilience.Tenant(ctx), op.Name, key}
	if e, now, ok := c.look(who); ok && e.fresh(now) {
		return c.hit(&e, now)
	}
	return c.miss(ctx, op, who, fn)
}

func (c *Cache[T]) miss(ctx context.Context, op resilience.Op, who id, fn func(context.Context) (T, error)) (resilience.Answer[T], error) {
	if loading(ctx, c, who) {
		return resilience.Answer[T]{}, refusal(op, fault.Invalid, errors.New("cache: the function asks for the key that it is called for, and would wait for itself"))
	}
	if resilience.Nested(ctx) {
		return c.alone(ctx, who, fn)
	}
	f, e, stale := c.join(ctx, who, fn)
	switch {
	case f != nil:
		return c.wait(ctx, f)
	case stale:
		return c.stale(&e, nil), nil
	}
	return c.hit(&e, c.now())
}

func refusal(op resilience.Op, k fault.Kind, err error) error {
	return &fault.Error{Kind: k, Op: op.Name, Local: true, Err: err}
}

func (c *Cache[T]) check(ctx context.Context, op resilience.Op) error {
	switch {
	case op.Name == "":
		return refusal(op, fault.Invalid, errors.New("cache: the operation has no name"))
	case op.Safety != fault.Read && (!c.config.Repeatable || op.Safety != fault.Idempotent && op.Safety != fault.AtLeastOnce):
		return refusal(op, fault.Invalid, fmt.Errorf("cache: an operation that is %v is not cached here", op.Safety))
	case ctx.Err() != nil:
		return refusal(op, fault.Canceled, ctx.Err())
	}
	return nil
}

// hit is what one caller gets of what is kept.
func (c *Cache[T]) hit(e *entry[T], now int64) (resilience.Answer[T], error) {
	c.stats.hits.Add(1)
	if e.err != nil {
		return resilience.Answer[T]{}, e.err
	}
	return c.answer(e, now), nil
}

// stale is an old answer, and why there is no new one.
func (c *Cache[T]) stale(e *entry[T], why error) resilience.Answer[T] {
	c.stats.stale.Add(1)
	a := c.answer(e, c.now())
	a.Stale, a.Err = true, why
	return a
}

func (c *Cache[T]) answer(e *entry[T], now int64) resilience.Answer[T] {
	a := resilience.Answer[T]{Value: e.value, Age: e.age(now)}
	if c.config.Clone != nil {
		a.Value = c.config.Clone(a.Value)
	}
	return a
}

// Invalidate forgets an answer, in memory and in the Store, and what calls that
// run now will answer. The error is the Store's: until it is reachable again,
// other processes, and this one, may get the old answer from it. What other
// processes have in memory stays there for its TTL.
func (c *Cache[T]) Invalidate(ctx context.Context, op resilience.Op, key string) error {
	who := id{resilience.Tenant(ctx), op.Name, key}
	h := c.shard(who)
	h.mu.Lock()
	if s := h.slots[who]; s != nil {
		s.epoch++
		s.flight = nil
	}
	c.memory.Invalidate(who)
	h.mu.Unlock()
	if c.store == nil {
		return nil
	}
	return c.drop(ctx, who)
}

// Close waits until what runs in the background has ended, or ctx has: upstream
// calls that all their callers have left, and answers on their way to the Store.
// The Cache can be used on.
func (c *Cache[T]) Close(ctx context.Context) error {
	for i := range c.shards {
		select {
		case <-c.shards[i].whenIdle():
		case <-ctx.Done():
			return fmt.Errorf("cache: calls are still running: %w", ctx.Err())
		}
	}
	return nil
}

// Stats counts what became of the calls since New.
type Stats struct {
	// Hits were answered from memory, be it with a NotFound.
	Hits uint64
	// Joined found an identical call on its way and waited for it.
	Joined uint64
	// StoreHits were found in the Store, fresh.
	StoreHits uint64
	// Upstream calls were made; Failed of them failed, Panicked panicked or ended
	// their goroutine.
	Upstream, Failed, Panicked uint64
	// Stale answers were given.
	Stale uint64
	// StoreErrors are calls of the Store that failed, StoreSkipped those that
	// weren't made, as it had failed before, and Garbage what couldn't be decoded.
	StoreErrors, StoreSkipped, Garbage uint64
	// Entries is how many answers are in memory, about.
	Entries int
}

type counters struct {
	hits, joined, storeHits, upstream, failed, panicked, stale, storeErrors, storeSkipped, garbage atomic.Uint64
}

// Stats is a look at the counts.
func (c *Cache[T]) Stats() Stats {
	s := &c.stats
	return Stats{
		Hits: s.hits.Load(), Joined: s.joined.Load(), StoreHits: s.storeHits.Load(),
		Upstream: s.upstream.Load(), Failed: s.failed.Load(), Panicked: s.panicked.Load(), Stale: s.stale.Load(),
		StoreErrors: s.storeErrors.Load(), StoreSkipped: s.storeSkipped.Load(), Garbage: s.garbage.Load(),
		Entries: c.memory.EstimatedSize(),
	}
}

func (c *Cache[T]) now() int64 { return int64(time.Since(c.base)) }
