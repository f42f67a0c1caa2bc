package bench

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/cachepolicy"
	"github.com/maypok86/otter/v2"

	"github.com/smilefactory/integrations/resilience/cache"
)

// All keep up to 10,000 answers for a minute after they were written.
const (
	entries = 10_000
	ttl     = time.Minute
)

func newOtter(b *testing.B) *otter.Cache[string, *answer] {
	b.Helper()
	c, err := otter.New(&otter.Options[string, *answer]{MaximumSize: entries, ExpiryCalculator: otter.ExpiryWriting[string, *answer](ttl)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.StopAllGoroutines() })
	return c
}

// otterStore makes otter the store of a failsafe-go cache policy, which has none
// of its own.
type otterStore struct{ *otter.Cache[string, *answer] }

func (o otterStore) Get(key string) (*answer, bool)   { return o.GetIfPresent(key) }
func (o otterStore) Set(key string, response *answer) { o.Cache.Set(key, response) }

// keyOf is the key of a goroutine's next call.
type keyOf func(q *query) string

// cached looks up a key, and asks provider where there is nothing.
func cached(key keyOf, p provider) []contender {
	return []contender{
		{"ours", func(b *testing.B) call { // keys by tenant, operation and arguments; coalescing; stale answers
			c, err := cache.New(cache.Config[*answer]{TTL: ttl, Size: entries, Stale: time.Hour})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = c.Close(context.Background()) })
			return func(ctx context.Context, q *query) error {
				_, err := c.Do(ctx, op, key(q), func(ctx context.Context) (*answer, error) { return p.Ask(ctx, q) })
				return err
			}
		}},
		{"otter", func(b *testing.B) call { // coalescing; no stale answers
			c := newOtter(b)
			return func(ctx context.Context, q *query) error {
				_, err := c.Get(ctx, key(q), otter.LoaderFunc[string, *answer](func(ctx context.Context, _ string) (*answer, error) {
					return p.Ask(ctx, q)
				}))
				return err
			}
		}},
		{"failsafe", func(b *testing.B) call { // otter as its store; neither coalescing nor stale answers
			e := failsafe.With(failsafe.Policy[*answer](cachepolicy.New[*answer](otterStore{newOtter(b)})))
			return func(ctx context.Context, q *query) error {
				return failsafeAsk(cachepolicy.ContextWithCacheKey(ctx, key(q)), e, p, q)
			}
		}},
	}
}

func BenchmarkCache(b *testing.B) {
	known := keyOf(func(q *query) string { q.attempts++; return keys[q.attempts%len(keys)] })
	hits := cached(known, fast)
	for i, c := range hits {
		hits[i].make = func(b *testing.B) call {
			ask, q := c.make(b), &query{}
			for range keys {
				_ = ask(b.Context(), q)
			}
			return ask
		}
	}
	compare(b, "cache-hit", hits...)

	next := keyOf(func(q *query) string { q.attempts++; return strconv.Itoa(q.goroutine) + "-" + strconv.Itoa(q.attempts) })
	compare(b, "cache-miss", cached(next, fast)...)
}
