package cache

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// shard has the flights of some ids, so that not all calls wait for one lock.
type shard[T any] struct {
	mu      sync.Mutex
	slots   map[id]*slot[T]
	running int           // goroutines
	idle    chan struct{} // closed when none runs; nil where no Close waits
}

func (c *Cache[T]) shard(who id) *shard[T] {
	h := maphash.String(c.seed, who.tenant) + maphash.String(c.seed, who.key)
	return &c.shards[h%uint64(len(c.shards))]
}

// slot is what the flights of one id have in common. It exists while there is one.
type slot[T any] struct {
	flight *flight[T] // that new callers join; nil where they must not
	epoch  int        // counts invalidations
	users  int        // what still needs the slot
}

// flight is one upstream call with all who wait for it.
type flight[T any] struct {
	*shard[T]
	slot  *slot[T]
	epoch int // of the slot when it began
	ctx   loadContext
	due   int64 // when ctx ends; zero where the caller's is used instead

	// Guarded by mu; the last three are written by the flight's goroutine.
	callers  int
	detached bool     // it goes on without callers
	void     bool     // nobody wants what it brings: it isn't kept
	old      entry[T] // what there was before it
	has      bool     // old is something
	newer    bool     // old came from the Store, and memory hasn't got it

	landed  chan struct{}
	down    bool        // landed is closed; guarded by mu
	pending atomic.Bool // a caller has yet to put the answer into memory

	// What became of it: set by the flight's goroutine, and read once it has landed.
	entry entry[T]
	have  bool   // callers get entry, though it is perhaps an old one
	keep  bool   // memory gets it
	fresh bool   // it came from fn
	data  []byte // what the Store gets
	err   error  // fn's
	panic *Panic
	exit  bool // fn ended its goroutine
}

// Panic is what callers panic with where the function that they wait for did.
type Panic struct {
	// Value is what it panicked with.
	Value any
	// Stack is that of the goroutine in which it did.
	Stack []byte
}

// Error shows both.
func (p *Panic) Error() string { return fmt.Sprintf("%v\n\n%s", p.Value, p.Stack) }

// Unwrap gives Value where it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

func panicOf(value any) *Panic {
	if p, ok := value.(*Panic); ok { // of a Cache inside
		return p
	}
	return &Panic{Value: value, Stack: debug.Stack()}
}

// join returns the flight to wait for, or none and what the caller gets at once,
// which may be a stale answer.
func (c *Cache[T]) join(ctx context.Context, who id, fn func(context.Context) (T, error)) (*flight[T], entry[T], bool) {
	h := c.shard(who)
	h.mu.Lock()
	defer h.mu.Unlock()
	var f *flight[T]
	if s := h.slots[who]; s != nil {
		f = s.flight
	}
	if f != nil && f.down {
		return nil, f.entry, false
	}
	e, now, ok := c.look(who)
	if ok && e.fresh(now) {
		return nil, e, false
	}
	if !ok {
		now = c.now()
	}
	if f != nil && now >= f.due { // its context has ended, and it hasn't
		f.void, f = true, nil
	}
	atOnce := ok && c.atOnce(e, now)
	if f == nil {
		f = c.begin(ctx, h, who, e, ok)
		f.slot.flight, f.due = f, now+int64(c.config.LoadTimeout)
		f.ctx.deadline = c.base.Add(time.Duration(f.due))
		go c.fly(&f.ctx, f, fn) //nolint:contextcheck // it has the values of ctx
	} else if !atOnce {
		c.stats.joined.Add(1)
	}
	if atOnce {
		f.detached = true
		return nil, e, true
	}
	f.callers++
	return f, entry[T]{}, false
}

// begin makes a flight that nobody has joined yet. It must land and end.
func (c *Cache[T]) begin(ctx context.Context, h *shard[T], who id, old entry[T], has bool) *flight[T] {
	s := h.slots[who]
	if s == nil {
		s = &slot[T]{}
		h.slots[who] = s
	}
	s.users++
	if h.running == 0 {
		h.idle = nil
	}
	h.running++
	return &flight[T]{
		shard: h, slot: s, epoch: s.epoch, old: old, has: has, landed: make(chan struct{}),
		ctx: loadContext{cache: c, who: who, caller: context.WithoutCancel(ctx)},
	}
}

// alone makes the call in the caller's goroutine and under its own context, which
// a Group inside must see: it is an attempt of the Group around it.
func (c *Cache[T]) alone(ctx context.Context, who id, fn func(context.Context) (T, error)) (resilience.Answer[T], error) {
	h := c.shard(who)
	h.mu.Lock()
	old, _, has := c.look(who)
	f := c.begin(ctx, h, who, old, has)
	h.mu.Unlock()
	returned := false
	defer func() {
		if !returned {
			c.stats.panicked.Add(1)
		}
		if c.land(f) {
			go c.deliver(ctx, f)
		}
	}()
	c.fill(context.WithValue(ctx, loadKey{}, &f.ctx), f, fn)
	f.have = f.err == nil // a stale answer is for the outermost to give
	returned = true
	return c.result(f)
}

// wait is a caller's, until the flight has landed or its own context has ended.
func (c *Cache[T]) wait(ctx context.Context, f *flight[T]) (resilience.Answer[T], error) {
	select {
	case <-f.landed:
	case <-ctx.Done():
		if old, stale, left := c.leave(ctx, f); left {
			why := &fault.Error{Kind: fault.Canceled, Op: f.ctx.who.op, Err: ctx.Err()}
			if stale {
				return c.stale(&old, why), nil
			}
			return resilience.Answer[T]{}, why
		}
	}
	c.settle(f)
	return c.result(f)
}

// leave is a caller's whose own context has ended, where the flight hasn't landed.
// At its deadline an old answer is given and the flight goes on. Else the last one
// ends the flight.
func (c *Cache[T]) leave(ctx context.Context, f *flight[T]) (old entry[T], stale, left bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return old, false, false
	}
	f.callers--
	if f.has && !f.overtaken() && c.usable(f.old, c.now()) && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		f.detached = true
		return f.old, true, true
	}
	if f.callers == 0 && !f.detached {
		f.void = true
		if f.slot.flight == f {
			f.slot.flight = nil
		}
		f.ctx.end()
	}
	return old, false, true
}

// result is what a caller that has waited gets.
func (c *Cache[T]) result(f *flight[T]) (resilience.Answer[T], error) {
	switch {
	case f.panic != nil:
		panic(f.panic)
	case f.exit:
		runtime.Goexit()
	case f.err != nil && !f.have:
		return resilience.Answer[T]{}, f.err
	case f.err != nil:
		return c.stale(&f.entry, f.err), nil //nolint:nilerr // it is in the answer
	case f.fresh:
		return c.answer(&f.entry, f.entry.made), nil
	}
	return c.answer(&f.entry, c.now()), nil
}

// fly is the goroutine of a flight. Callers have their answer before the Store
// has it.
func (c *Cache[T]) fly(ctx context.Context, f *flight[T], fn func(context.Context) (T, error)) {
	returned := false
	defer func() { // even where fn ends this goroutine
		if !returned {
			c.crashed(f, recover())
		}
		if c.land(f) {
			c.deliver(ctx, f)
		}
	}()
	c.fill(ctx, f, fn)
	returned = true
}

// deliver puts the answer into the Store, whoever has left meanwhile.
func (c *Cache[T]) deliver(ctx context.Context, f *flight[T]) {
	defer func() {
		f.mu.Lock()
		f.over()
		f.mu.Unlock()
	}()
	_ = protect(func() error { c.send(context.WithoutCancel(ctx), f); return nil })
}

// fill asks the Store, then fn. It and what it calls for a new answer use little of
// the stack: see land.
func (c *Cache[T]) fill(ctx context.Context, f *flight[T], fn func(context.Context) (T, error)) {
	if c.store != nil && c.found(ctx, f) {
		return
	}
	c.stats.upstream.Add(1)
	value, err := fn(ctx)
	if err != nil {
		c.stats.failed.Add(1)
		c.failed(f, err)
		return
	}
	f.entry, f.have, f.keep, f.fresh = c.kept(value), true, true, true
	if c.store != nil {
		f.data = c.encoded(f)
	}
}

// found asks the Store, and reports whether fn need not be asked.
func (c *Cache[T]) found(ctx context.Context, f *flight[T]) bool {
	// A Group inside must be the first to see ctx's deadline.
	if e, ok := c.load(context.WithoutCancel(ctx), f.ctx.who); ok && (!f.has || e.made > f.old.made) {
		f.mu.Lock()
		f.old, f.has, f.newer = e, true, true
		f.mu.Unlock()
	}
	if f.has && f.old.fresh(c.now()) {
		c.stats.storeHits.Add(1)
		f.entry, f.have, f.keep = f.old, true, f.newer
		return true
	}
	if err := ctx.Err(); err != nil { // all have left, or the time is over
		c.failed(f, err)
		return true
	}
	return false
}

// failed sets what callers get of an error.
func (c *Cache[T]) failed(f *flight[T], err error) {
	now, kind := c.now(), fault.KindOf(err)
	if f.due > 0 && now >= f.due && (kind == fault.Canceled || kind == fault.Uncertain) { // by our limit, and not by a caller
		kind = fault.Uncertain
		err = &fault.Error{Kind: kind, Op: f.ctx.who.op, Err: fmt.Errorf("cache: no answer within %v: %w", c.config.LoadTimeout, err)}
	}
	f.entry, f.keep, f.err = f.old, f.newer, err
	switch kind {
	case fault.NotFound, fault.Invalid, fault.Conflict, fault.Rejected: // an old answer would hide what is wrong with the request
		if e, _ := fault.As(err); kind == fault.NotFound && c.config.NegativeTTL > 0 && (e == nil || !e.Local) {
			f.entry, f.keep = c.missing(err, now), true
			break
		}
		f.entry.doubted, f.keep = true, f.has
	case fault.Canceled:
	default:
		f.have = f.has && c.usable(f.old, now)
	}
}

// crashed is failed where fn has not returned.
func (c *Cache[T]) crashed(f *flight[T], value any) {
	c.stats.panicked.Add(1)
	f.entry, f.keep, f.exit = f.old, f.has, value == nil
	f.entry.doubted = true
	if value != nil {
		f.panic = panicOf(value)
	}
}

// land hands what fill has set to all who wait, and reports whether the Store is to have
// it. It is kept unless an invalidation has overtaken it. A new answer is put into
// memory by one of those who wait: in the flight's own goroutine the stack would
// have to grow for it, which costs as much as the rest of the flight.
func (c *Cache[T]) land(f *flight[T]) bool {
	f.ctx.end()
	f.mu.Lock()
	defer f.mu.Unlock()
	keep := f.keep && !f.void && !f.overtaken()
	f.have = f.have && (f.err == nil || !f.overtaken())
	waiting := keep && f.fresh && f.callers > 0
	switch {
	case waiting:
		f.pending.Store(true)
		f.slot.users++
	case keep:
		if e, _, ok := c.look(f.ctx.who); !ok || e.made <= f.entry.made {
			c.memory.Set(f.ctx.who, f.entry)
		}
	}
	if !waiting && f.slot.flight == f {
		f.slot.flight = nil
	}
	f.down = true
	close(f.landed)
	toStore := keep && f.data != nil
	if !toStore {
		f.over()
	}
	return toStore
}

// settle puts the answer into memory, where it isn't there yet.
func (c *Cache[T]) settle(f *flight[T]) {
	if !f.pending.CompareAndSwap(true, false) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.overtaken() {
		c.memory.Set(f.ctx.who, f.entry)
	}
	if f.slot.flight == f {
		f.slot.flight = nil
	}
	f.release()
}

// over is the last thing that a flight's goroutine does.
func (f *flight[T]) over() {
	f.release()
	f.running--
	if f.running == 0 && f.idle != nil {
		close(f.idle)
	}
}

func (f *flight[T]) release() {
	f.slot.users--
	if f.slot.users == 0 {
		delete(f.slots, f.ctx.who)
	}
}

func (f *flight[T]) overtaken() bool { return f.epoch != f.slot.epoch }

func (h *shard[T]) whenIdle() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.idle == nil {
		h.idle = make(chan struct{})
		if h.running == 0 {
			close(h.idle)
		}
	}
	return h.idle
}
