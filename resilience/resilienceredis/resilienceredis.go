// Package resilienceredis lets processes share over Redis what package resilience
// and its cache keep for one: cached answers ([Cache]), a rate limit ([Limiter])
// and the news that a breaker has opened ([State]).
//
//	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
//	limit, err := resilienceredis.NewLimiter(client, resilienceredis.LimiterConfig{Rate: 100, Burst: 20, Share: 4})
//	…
//	policy.Limiter = limit
//
// Rules that a caller must know:
//
//   - Redis is never needed. Where it is down, slow or was emptied, a call fails for
//     it only where [FailClosed] was chosen; what is done instead is said for each type.
//   - The client is yours: it is neither configured nor closed here. Its option
//     ContextTimeoutEnabled must be on, or commands outlast their time limit.
//   - It may be a Client, a ClusterClient or, but for State, a Ring. Every command
//     touches one key. Tested with Redis 7.0; the scripts need 5.0. The user needs EVAL, EVALSHA, GETRANGE, SET, DEL,
//     PUBLISH and SUBSCRIBE, and what the scripts call.
//   - A key begins with the Prefix of its Config. Who shares a Redis and a Prefix
//     shares limits, answers and news, whichever database number they use for the news.
package resilienceredis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// check refuses a client whose commands can't be bounded, where its options can
// be seen.
func check(client redis.UniversalClient) error {
	bounded := true
	switch c := client.(type) {
	case nil:
		return errors.New("resilienceredis: the client is missing")
	case *redis.Client:
		bounded = c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		bounded = c.Options().ContextTimeoutEnabled
	case *redis.Ring:
		bounded = c.Options().ContextTimeoutEnabled
	}
	if !bounded {
		return errors.New("resilienceredis: the client's option ContextTimeoutEnabled must be on, or a command waits for ReadTimeout, whatever its time limit is")
	}
	return nil
}

// failed says which command failed and why, without the server's address.
func failed(command string, err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return fmt.Errorf("resilienceredis: %s: %w", command, err)
}

// sleep waits for d or for ctx's end, and reports whether it was d.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
