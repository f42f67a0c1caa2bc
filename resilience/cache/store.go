package cache

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/smilefactory/integrations/fault"
)

// Store is a second level, such as a server that many processes share. Keys are
// short and printable, and show no argument of a call. It must be safe for
// concurrent use. An error of the kind fault.Invalid says that it is the value
// that can't be stored, and nothing is wrong with the Store.
type Store interface {
	// Get returns what is stored, or false where there is nothing.
	Get(ctx context.Context, key string) (data []byte, found bool, err error)
	// Set stores data, which is never empty, for that long.
	Set(ctx context.Context, key string, data []byte, ttl time.Duration) error
	// Delete removes what is stored. That there is nothing is no error.
	Delete(ctx context.Context, key string) error
}

// A Store that failed so often in a row is left alone for so long; then one call
// tries again.
const (
	storeFailures = 3
	storeRest     = 5 * time.Second
)

// maxStuck is how many calls may be in a Store that ignores its context, after
// which it is left alone until one returns.
const maxStuck = 64

var (
	errResting = errors.New("cache: the store is left alone for a while, as it kept failing")
	errExited  = errors.New("cache: the store ended its goroutine")
	// errExcluded tells the breaker that an error says nothing of the store.
	errExcluded = errors.New("excluded")
)

// level is a Store that can be waited for.
type level struct {
	Store
	timeout time.Duration
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	stuck   atomic.Int32
}

func newLevel(s Store, timeout time.Duration) *level {
	return &level{Store: s, timeout: timeout, breaker: gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout:     storeRest,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= storeFailures },
		IsExcluded:  func(err error) bool { return err == errExcluded },
	})}
}

// stored is what a Store has for a key.
type stored struct {
	data  []byte
	found bool
}

// do makes one call of the Store, unless it is left alone.
func (l *level) do(ctx context.Context, call func(context.Context) (stored, error)) (stored, error) {
	if l.stuck.Load() >= maxStuck {
		return stored{}, errResting
	}
	done, err := l.breaker.Allow()
	if err != nil {
		return stored{}, errResting
	}
	s, err := l.bounded(ctx, call)
	switch {
	case err == nil:
		done(nil)
	case ctx.Err() != nil || fault.KindOf(err) == fault.Invalid:
		done(errExcluded)
	default:
		done(err)
	}
	return s, err
}

// bounded runs call for the timeout at most, in a goroutine of its own, since not
// every client heeds its context.
func (l *level) bounded(ctx context.Context, call func(context.Context) (stored, error)) (stored, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	type result struct {
		stored
		err error
	}
	ended := make(chan result, 1)
	var settled atomic.Bool // by whoever comes first: the call's end or ours
	go func() {
		r := result{err: errExited}
		defer func() {
			ended <- r
			if settled.Swap(true) {
				l.stuck.Add(-1)
			}
		}()
		r.err = protect(func() (err error) {
			r.stored, err = call(ctx)
			return err
		})
	}()
	select {
	case r := <-ended:
		return r.stored, r.err
	case <-ctx.Done():
		l.stuck.Add(1)
		if settled.Swap(true) { // it ended just now
			l.stuck.Add(-1)
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return stored{}, fmt.Errorf("cache: the store didn't answer within %v: %w", l.timeout, ctx.Err())
		}
		return stored{}, ctx.Err()
	}
}

// protect makes an error of a panic.
func protect(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = panicOf(value)
		}
	}()
	return f()
}

// load is what the Store has. Garbage is removed.
func (c *Cache[T]) load(ctx context.Context, who id) (entry[T], bool) {
	s, err := c.store.do(ctx, func(ctx context.Context) (s stored, err error) {
		s.data, s.found, err = c.store.Get(ctx, c.storeKey(who))
		return s, err
	})
	if err != nil {
		c.blame(ctx, who, err)
	}
	if err != nil || !s.found {
		return entry[T]{}, false
	}
	e, err := c.decoded(s.data)
	if err != nil {
		c.stats.garbage.Add(1)
		c.tell(who, err)
		_ = c.drop(ctx, who)
		return entry[T]{}, false
	}
	return e, true
}

// encoded is what the Store gets, nil where it gets nothing.
func (c *Cache[T]) encoded(who id, e entry[T]) []byte {
	if c.store == nil {
		return nil
	}
	var payload []byte
	err := protect(func() (err error) {
		payload, err = c.config.Encode(e.value)
		return err
	})
	if err != nil {
		c.tell(who, fmt.Errorf("cache: encoding: %w", err))
		return nil
	}
	return seal(envelope{time.Now(), e.life, payload})
}

func (c *Cache[T]) decoded(data []byte) (entry[T], error) {
	env, err := unseal(data)
	if err != nil {
		return entry[T]{}, err
	}
	// Another process may have another clock, or another Config.
	age := min(max(time.Since(env.made), 0), forever)
	life := min(env.life, c.config.TTL)
	e := entry[T]{made: c.now() - int64(age), life: life, keep: life + c.config.Stale}
	err = protect(func() (err error) {
		e.value, err = c.config.Decode(env.payload)
		return err
	})
	if err != nil {
		return entry[T]{}, fmt.Errorf("cache: decoding: %w", err)
	}
	e.weight = c.weigh(e.value)
	return e, nil
}

// send stores an answer. An invalidation that ran beside it may have come before
// it, so what it stored goes again.
func (c *Cache[T]) send(ctx context.Context, f *flight[T]) {
	_, err := c.store.do(ctx, func(ctx context.Context) (stored, error) {
		return stored{}, c.store.Set(ctx, c.storeKey(f.ctx.who), f.data, f.entry.keep)
	})
	if err != nil {
		c.blame(ctx, f.ctx.who, err)
	}
	c.mu.Lock()
	overtaken := c.overtaken(f)
	c.mu.Unlock()
	if overtaken {
		_ = c.drop(ctx, f.ctx.who)
	}
}

func (c *Cache[T]) drop(ctx context.Context, who id) error {
	_, err := c.store.do(ctx, func(ctx context.Context) (stored, error) { return stored{}, c.store.Delete(ctx, c.storeKey(who)) })
	if err != nil {
		c.blame(ctx, who, err)
	}
	return err
}

// blame counts a failed call of the Store, unless it was the callers who left.
func (c *Cache[T]) blame(ctx context.Context, who id, err error) {
	switch {
	case err == errResting:
		c.stats.storeSkipped.Add(1)
	case ctx.Err() == nil:
		c.stats.storeErrors.Add(1)
		c.tell(who, err)
	}
}

func (c *Cache[T]) tell(who id, err error) {
	if c.config.OnStoreError != nil {
		c.config.OnStoreError(who.op, err)
	}
}
