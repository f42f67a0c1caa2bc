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

const (
	storeFailures = 3               // in a row, after which a Store is left alone
	storeRest     = 5 * time.Second // for so long; then one call tries again
	maxStuck      = 64              // calls in a Store that ignores its context, after which it is left alone until one returns
)

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
	err   error
}

// do makes one call of the Store, unless it is left alone.
func (l *level) do(ctx context.Context, call func(context.Context) stored) stored {
	if l.stuck.Load() >= maxStuck {
		return stored{err: errResting}
	}
	done, err := l.breaker.Allow()
	if err != nil {
		return stored{err: errResting}
	}
	s := l.bounded(ctx, call)
	if err = s.err; err != nil && (ctx.Err() != nil || fault.KindOf(err) == fault.Invalid) {
		err = errExcluded
	}
	done(err)
	return s
}

// bounded runs call for the timeout at most, in a goroutine of its own, since not
// every client heeds its context.
func (l *level) bounded(ctx context.Context, call func(context.Context) stored) stored {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	ended := make(chan stored, 1)
	var settled atomic.Bool // by whoever comes first: the call's end or ours
	go func() {
		s := stored{err: errExited}
		defer func() {
			ended <- s
			if settled.Swap(true) {
				l.stuck.Add(-1)
			}
		}()
		s.err = protect(func() error {
			s = call(ctx)
			return s.err
		})
	}()
	select {
	case s := <-ended:
		return s
	case <-ctx.Done():
		l.stuck.Add(1)
		if settled.Swap(true) { // it ended just now
			l.stuck.Add(-1)
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return stored{err: fmt.Errorf("cache: the store didn't answer within %v: %w", l.timeout, ctx.Err())}
		}
		return stored{err: ctx.Err()}
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
	s := c.store.do(ctx, func(ctx context.Context) (s stored) {
		s.data, s.found, s.err = c.store.Get(ctx, c.storeKey(who))
		return s
	})
	c.blame(ctx, who, s.err)
	if s.err != nil || !s.found {
		return entry[T]{}, false
	}
	e, err := c.decoded(s.data)
	if err != nil {
		c.stats.garbage.Add(1)
		c.config.OnStoreError(who.op, err)
		_ = c.drop(ctx, who)
		return entry[T]{}, false
	}
	return e, true
}

// encoded is what the Store gets, nil where it gets nothing.
func (c *Cache[T]) encoded(f *flight[T]) []byte {
	var payload []byte
	err := protect(func() (err error) {
		payload, err = c.config.Encode(f.entry.value)
		return err
	})
	if err != nil {
		c.config.OnStoreError(f.ctx.who.op, fmt.Errorf("cache: encoding: %w", err))
		return nil
	}
	return seal(envelope{time.Now(), f.entry.life, payload})
}

func (c *Cache[T]) decoded(data []byte) (entry[T], error) {
	env, err := unseal(data)
	if err != nil {
		return entry[T]{}, err
	}
	// Another process may have another clock, or another Config.
	age := min(max(time.Since(env.made), 0), forever)
	e := entry[T]{made: c.now() - int64(age), life: min(env.life, c.config.TTL)}
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
	s := c.store.do(ctx, func(ctx context.Context) stored {
		return stored{err: c.store.Set(ctx, c.storeKey(f.ctx.who), f.data, f.entry.keep(c.config.Stale))}
	})
	c.blame(ctx, f.ctx.who, s.err)
	f.mu.Lock()
	overtaken := f.overtaken()
	f.mu.Unlock()
	if overtaken {
		_ = c.drop(ctx, f.ctx.who)
	}
}

func (c *Cache[T]) drop(ctx context.Context, who id) error {
	s := c.store.do(ctx, func(ctx context.Context) stored { return stored{err: c.store.Delete(ctx, c.storeKey(who))} })
	c.blame(ctx, who, s.err)
	return s.err
}

// blame counts a failed call of the Store, unless it was the callers who left.
func (c *Cache[T]) blame(ctx context.Context, who id, err error) {
	switch {
	case err == nil:
	case err == errResting:
		c.stats.storeSkipped.Add(1)
	case ctx.Err() == nil:
		c.stats.storeErrors.Add(1)
		c.config.OnStoreError(who.op, err)
	}
}
