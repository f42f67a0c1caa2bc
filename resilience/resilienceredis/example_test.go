package resilienceredis_test

import (
	"context"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/cache"
	"github.com/smilefactory/integrations/resilience/resilienceredis"
)

// exampleServer stands for a Redis.
func exampleServer() (c *redis.Client, end func()) {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	server.SetTime(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)) // its clock stands still
	c = redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	return c, func() { c.Close(); server.Close() }
}

// Four processes that make ten calls a second together. While Redis is down each
// makes two and a half.
func ExampleLimiter() {
	client, end := exampleServer()
	defer end()
	limit, err := resilienceredis.NewLimiter(client, resilienceredis.LimiterConfig{Rate: 10, Burst: 2, Share: 4, Timeout: time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	policy := resilience.Default
	policy.Limiter = limit // a Group with this policy asks it
	for range 3 {
		fmt.Println(policy.Limiter.Take(context.Background(), "ses"))
	}
	// Output:
	// 0s <nil>
	// 0s <nil>
	// 100ms <nil>
}

// Two processes, one upstream call.
func ExampleCache() {
	client, end := exampleServer()
	defer end()
	op := resilience.Op{Name: "rates.rate", Safety: fault.Read}
	for _, process := range []string{"first", "second"} {
		store, err := resilienceredis.NewCache(client, resilienceredis.CacheConfig{})
		if err != nil {
			fmt.Println(err)
			return
		}
		rates, err := cache.New(cache.Config[float64]{TTL: time.Minute, Stale: time.Hour, Store: store, StoreTimeout: time.Second})
		if err != nil {
			fmt.Println(err)
			return
		}
		answer, err := rates.Do(context.Background(), op, cache.Key("USD"), func(context.Context) (float64, error) {
			fmt.Println("the bank is asked by the", process)
			return 1.09, nil
		})
		fmt.Println(answer.Value, err)
		_ = rates.Close(context.Background()) // the answer has reached Redis
	}
	// Output:
	// the bank is asked by the first
	// 1.09 <nil>
	// 1.09 <nil>
}

// A Group that tells others of its breakers, and is warned by theirs.
func ExampleState() {
	client, end := exampleServer()
	defer end()
	state, err := resilienceredis.NewState(client, resilienceredis.StateConfig{Prefix: "mail:"})
	if err != nil {
		fmt.Println(err)
		return
	}
	type sender = func(context.Context) error
	group, err := resilience.New(resilience.Default, []resilience.Member[sender]{
		{Name: "ses", Provider: func(context.Context) error { return nil }},
	}, state)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	fmt.Println(state.Run(ctx, group)) // in a goroutine, for as long as the service runs
	// Output: context deadline exceeded
}
