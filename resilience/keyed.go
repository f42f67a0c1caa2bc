package resilience

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// keyed is the state of each key at one provider. The key that was used least
// recently is forgotten when there are too many, with its open breaker too.
type keyed struct {
	of     *member
	policy Policy
	mu     sync.Mutex
	lru    *simplelru.LRU[string, *member]
}

const defaultMaxKeys = 10_000

func newKeyed(of *member, p Policy, size int) *keyed {
	if size == 0 {
		size = defaultMaxKeys
	}
	lru, _ := simplelru.NewLRU[string, *member](size, nil) // fails for a size below 1 alone, which Validate refuses
	return &keyed{of: of, policy: p, lru: lru}
}

func (k *keyed) get(key string) *member {
	k.mu.Lock()
	defer k.mu.Unlock()
	m, ok := k.lru.Get(key)
	if !ok {
		m = newMember(k.of.name, k.policy, nil, k.of.observed)
		k.lru.Add(key, m)
	}
	return m
}
