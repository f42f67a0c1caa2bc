package resilienceredis

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/smilefactory/integrations/fault"
)

// CacheConfig says where and how much a Cache stores. Its zero value is of use.
type CacheConfig struct {
	// Prefix begins every key. Empty means "resilience:cache:".
	Prefix string
	// MaxBytes bounds one value, encoded. Zero means 1 MiB.
	MaxBytes int
}

const (
	defaultCachePrefix = "resilience:cache:"
	defaultMaxBytes    = 1 << 20
)

// Cache is a Store for package cache, as plain keys that expire. It makes one
// attempt; the time limit, and what follows from a failure, are cache's. Give
// the server a maxmemory with an eviction policy, such as allkeys-lru: nothing
// here bounds the number of keys.
type Cache struct {
	client redis.UniversalClient
	prefix string
	max    int
}

// NewCache checks client and config.
func NewCache(client redis.UniversalClient, config CacheConfig) (*Cache, error) {
	if err := check(client); err != nil {
		return nil, err
	}
	if config.MaxBytes < 0 {
		return nil, fmt.Errorf("resilienceredis: MaxBytes is negative: %d", config.MaxBytes)
	}
	c := &Cache{client, config.Prefix, config.MaxBytes}
	if c.prefix == "" {
		c.prefix = defaultCachePrefix
	}
	if c.max == 0 {
		c.max = defaultMaxBytes
	}
	return c, nil
}

// Get reads no more than MaxBytes: a longer value is as if there were none, as is
// something that is no string.
func (c *Cache) Get(ctx context.Context, key string) ([]byte, bool, error) {
	data, err := c.client.GetRange(ctx, c.prefix+key, 0, int64(c.max)).Bytes() // a missing key is an empty range
	switch {
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return nil, false, nil
	case err != nil:
		return nil, false, failed("get", err)
	}
	return data, len(data) > 0 && len(data) <= c.max, nil
}

// Set refuses empty data, which Get can't tell from none, and what is longer
// than MaxBytes, both with fault.Invalid. A ttl is rounded up to milliseconds.
func (c *Cache) Set(ctx context.Context, key string, data []byte, ttl time.Duration) error {
	switch {
	case len(data) == 0 || len(data) > c.max:
		return fault.New(fault.Invalid, fmt.Errorf("resilienceredis: a value must have 1 to %d bytes, and this one has %d", c.max, len(data)))
	case ttl <= 0:
		return fault.New(fault.Invalid, fmt.Errorf("resilienceredis: ttl must be positive, not %v", ttl))
	}
	ttl = (ttl + time.Millisecond - 1).Truncate(time.Millisecond)
	if err := c.client.Set(ctx, c.prefix+key, data, ttl).Err(); err != nil {
		return failed("set", err)
	}
	return nil
}

// Delete removes a value.
func (c *Cache) Delete(ctx context.Context, key string) error {
	if err := c.client.Del(ctx, c.prefix+key).Err(); err != nil {
		return failed("delete", err)
	}
	return nil
}
