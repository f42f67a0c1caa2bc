package cache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// slot is what the flights of one id have in common. It exists while there is one.
type slot[T any] struct {
	flight *flight[T] // that new callers join; nil where they must not
	epoch  int        // counts invalidations
	users  int        // flights
}

// flight is one upstream call with all who wait for it.
type flight[T any] struct {
	who    id
	slot   *slot[T]
	cancel context.CancelFunc
	epoch  int // of the slot when it began

	// Guarded by Cache.mu.
	callers int
	left    bool // by all callers: nobody wants what it brings

	landed chan struct{}
	// What follows is written before landed is closed, and read after.
	down  bool // the same under Cache.mu
	entry entry[T]
	have  bool  // entry is something, though perhaps an old one
	newer bool  // entry is newer than what memory had
	fresh bool  // entry came from fn
	err   error // fn's
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

// join returns the flight to wait for, or none and the entry that has come in
// since the caller looked.
func (c *Cache[T]) join(ctx context.Context, who id, fn func(context.Context) (T, error)) (*flight[T], entry[T]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slots[who]
	if s != nil && s.flight != nil {
		s.flight.callers++
		c.stats.joined.Add(1)
		return s.flight, entry[T]{}
	}
	e, now, ok := c.memory.get(who)
	if ok && e.fresh(now) {
		return nil, e
	}
	f := c.begin(who)
	f.callers, f.entry, f.have = 1, e, ok
	ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx)) //nolint:gosec // fly calls it
	f.slot.flight = f
	go c.fly(ctx, f, fn)
	return f, entry[T]{}
}

// begin makes a flight that nobody has joined yet. It must be ended.
func (c *Cache[T]) begin(who id) *flight[T] {
	s := c.slots[who]
	if s == nil {
		s = &slot[T]{}
		c.slots[who] = s
	}
	s.users++
	c.running++
	return &flight[T]{who: who, slot: s, epoch: s.epoch, landed: make(chan struct{})}
}

// alone makes the call in the caller's goroutine and under its own context, which
// a Group inside must see: it is an attempt of the Group around it.
func (c *Cache[T]) alone(ctx context.Context, who id, fn func(context.Context) (T, error)) (Answer[T], error) {
	c.mu.Lock()
	f := c.begin(who)
	c.mu.Unlock()
	var data []byte
	returned := false
	defer func() {
		if !returned {
			c.stats.panicked.Add(1)
		}
		if data == nil {
			c.end(f)
			return
		}
		go c.deliver(ctx, f, data)
	}()
	data = c.fill(ctx, f, fn)
	if !c.land(f) {
		data = nil
	}
	returned = true
	if f.err != nil { // a stale answer is for the outermost to give
		return Answer[T]{}, f.err
	}
	return c.result(f)
}

// leave is a caller's whose own context has ended. The last one ends the flight.
func (c *Cache[T]) leave(f *flight[T]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.callers--
	if f.callers > 0 || f.down {
		return
	}
	f.left = true
	if f.slot.flight == f {
		f.slot.flight = nil
	}
	f.cancel()
}

// result is what a caller that has waited gets.
func (c *Cache[T]) result(f *flight[T]) (Answer[T], error) {
	switch {
	case f.panic != nil:
		panic(f.panic)
	case f.exit:
		runtime.Goexit()
	case f.err != nil && !f.have:
		return Answer[T]{}, f.err
	case f.err != nil:
		c.stats.stale.Add(1)
		return c.answer(f.entry, c.now(), f.err), nil //nolint:nilerr // it is in the answer
	case f.fresh:
		return c.answer(f.entry, f.entry.made, nil), nil
	}
	return c.answer(f.entry, c.now(), nil), nil
}

// fly is the goroutine of a flight. Callers have their answer before the Store
// has it.
func (c *Cache[T]) fly(ctx context.Context, f *flight[T], fn func(context.Context) (T, error)) {
	var data []byte
	defer func() { // even where fn ends this goroutine
		f.cancel()
		if data == nil {
			c.end(f)
			return
		}
		c.deliver(ctx, f, data)
	}()
	data = c.fetch(ctx, f, fn)
}

// deliver puts the answer into the Store, whoever has left meanwhile.
func (c *Cache[T]) deliver(ctx context.Context, f *flight[T], data []byte) {
	defer c.end(f)
	_ = protect(func() error { c.send(context.WithoutCancel(ctx), f, data); return nil })
}

// fetch gets the answer and lands, however fn ends. It returns what is for the
// Store.
func (c *Cache[T]) fetch(ctx context.Context, f *flight[T], fn func(context.Context) (T, error)) (data []byte) {
	returned := false
	defer func() {
		if !returned {
			c.stats.panicked.Add(1)
			if value := recover(); value != nil {
				f.panic = panicOf(value)
			} else {
				f.exit = true
			}
		}
		if !c.land(f) {
			data = nil
		}
	}()
	data = c.fill(ctx, f, fn)
	returned = true
	return data
}

// fill asks the Store, then fn.
func (c *Cache[T]) fill(ctx context.Context, f *flight[T], fn func(context.Context) (T, error)) []byte {
	// A Group inside must be the first to see ctx's deadline.
	if e, ok := c.load(context.WithoutCancel(ctx), f.who); ok && (!f.have || e.made > f.entry.made) {
		f.entry, f.have, f.newer = e, true, true
	}
	if f.have && f.entry.fresh(c.now()) {
		c.stats.storeHits.Add(1)
		return nil
	}
	if err := ctx.Err(); err != nil { // all have left meanwhile
		f.err, f.have = err, false
		return nil
	}
	c.stats.upstream.Add(1)
	value, err := fn(ctx)
	now := c.now()
	if err != nil {
		c.stats.failed.Add(1)
		f.err = err
		f.have = f.have && f.entry.usable(now) && !ofRequest(err)
		return nil
	}
	life := c.life()
	f.entry = entry[T]{value: value, made: now, life: life, keep: life + c.config.Stale, weight: c.weigh(value)}
	f.have, f.newer, f.fresh = true, true, true
	return c.encoded(f.who, f.entry)
}

// ofRequest reports whether the fault is the request's own, which an old answer
// must not hide.
func ofRequest(err error) bool {
	switch fault.KindOf(err) { //nolint:exhaustive // the others are the provider's, or unknown
	case fault.Invalid, fault.NotFound, fault.Conflict, fault.Rejected, fault.Canceled:
		return true
	}
	return false
}

// land puts the answer into memory and hands it to all who wait, and reports
// whether it was kept. One that was overtaken by an invalidation is not.
func (c *Cache[T]) land(f *flight[T]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.slot.flight == f {
		f.slot.flight = nil
	}
	kept := f.newer && !f.left && f.epoch == f.slot.epoch
	if kept {
		c.memory.set(f.who, f.entry)
	}
	f.down = true
	close(f.landed)
	return kept
}

// end is the last thing that a flight's goroutine does.
func (c *Cache[T]) end(f *flight[T]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.slot.users--
	if f.slot.users == 0 {
		delete(c.slots, f.who)
	}
	c.running--
	if c.running == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

func (c *Cache[T]) overtaken(f *flight[T]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return f.epoch != f.slot.epoch
}

func (c *Cache[T]) whenIdle() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == 0 {
		done := make(chan struct{})
		close(done)
		return done
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	return c.idle
}

// life is the TTL of a new answer.
func (c *Cache[T]) life() time.Duration {
	spread := rand.Float64() * c.config.Jitter * float64(c.config.TTL) //nolint:gosec // spreading, not secrecy
	return max(c.config.TTL-time.Duration(spread), 1)
}
