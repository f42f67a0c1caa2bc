package resilience

import (
	"context"
	"time"
)

// Answer is the value that a [Cache] gives, and how old it is.
type Answer[T any] struct {
	Value T
	// Age is how long ago the provider gave it; zero where it just did.
	Age time.Duration
	// Stale: it is past its time.
	Stale bool
	// Err says why there is no new one; nil where a new one is being fetched in
	// the background.
	Err error
}

// Cache keeps the answers of a Client's reads. Package resilience/cache has one;
// a Client takes one by an option, so that it compiles none. It keeps answers
// apart by tenant ([WithTenant]), operation and key, and is safe for concurrent
// use.
type Cache[T any] interface {
	// Do gives the answer that it has, or calls fn for a new one. Where fn fails
	// it may give an old answer, which is marked as stale.
	Do(ctx context.Context, op Op, key string, fn func(context.Context) (T, error)) (Answer[T], error)
	// Invalidate forgets an answer.
	Invalidate(ctx context.Context, op Op, key string) error
}

// Ladder answers from the cache or from first, else from second, else with the
// stale answer that the cache has left; where it has none the error is first's.
// What second gives is not kept, and Err then says what was wrong with first.
func Ladder[T any](ctx context.Context, c Cache[T], op Op, key string, first, second func(context.Context) (T, error)) (Answer[T], error) {
	answer, err := c.Do(ctx, op, key, first)
	why := err
	if why == nil {
		why = answer.Err
	}
	if why == nil {
		return answer, nil
	}
	if value, failed := second(ctx); failed == nil {
		return Answer[T]{Value: value, Err: why}, nil
	}
	return answer, err
}
