package resilience

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience/internal/limit"
)

// door is a provider as one call meets it: its state, and in front of it that of
// the call's key, which is asked first, so that what it refuses or holds back
// costs others nothing. Nothing else looks at keys.
type door struct {
	member *member
	key    *member // nil where keys aren't told apart
}

// doorOf is the member's door for a key.
func (m *member) doorOf(key string) door {
	d := door{member: m}
	if key != "" {
		if keys := m.rules.Load().keys; keys != nil {
			d.key = keys.get(key)
		}
	}
	return d
}

// shut says why nobody gets through at that time, and for how long.
func (d door) shut(class string, now time.Time) (error, time.Duration) { //nolint:revive,staticcheck // the cause is the answer, not a failure
	cause, remaining := d.member.shut(d.member.breaker(class), now)
	if d.key == nil {
		return cause, remaining
	}
	if own, longer := d.key.shut(d.key.breaker(class), now); own != nil && longer > remaining {
		return own, longer
	}
	return cause, remaining
}

// ready is how many providers this one is made of that could take a call.
func (d door) ready(class string, now time.Time) int {
	if cause, _ := d.shut(class, now); cause != nil {
		return 0
	}
	if in := d.member.inner; in.is() && len(in.members) > 0 {
		n := 0
		for _, m := range in.members {
			n += door{member: m}.ready(class, now)
		}
		return n
	}
	return 1
}

func (d door) admit(ctx context.Context, b *bid, p *permit) error {
	if d.key == nil {
		return d.member.admit(ctx, b, p)
	}
	if cause, remaining := d.member.shut(d.member.breaker(b.class), b.now); cause != nil && remaining > b.pause && !b.pinned {
		return d.member.refuse(b, cause, remaining)
	}
	own := new(permit)
	if err := d.key.admit(ctx, b, own); err != nil {
		return err
	}
	rest := *b
	waited := own.start.Sub(b.now)
	rest.now, rest.wait, rest.pause = own.start, b.wait-waited, b.pause-waited
	defer func() {
		if p.key == nil { // refused, or a Limiter has panicked
			own.unused(ctx)
		}
	}()
	if err := d.member.admit(ctx, &rest, p); err != nil {
		return err
	}
	if err := d.key.recheck(&rest, p); err != nil {
		p.unused(ctx)
		return err
	}
	p.key = own
	return nil
}

// budget is whose retries these are.
func (d door) budget() *limit.Budget {
	if d.key != nil && d.key.budget.Left() >= 0 {
		return &d.key.budget
	}
	return &d.member.budget
}

// pause leaves the provider alone for the time that it asked for: for the key,
// where there is one, since it is the key that has too much. It returns whether
// that was anybody.
func (d door) pause(now time.Time, f *fault.Error, after time.Duration) (ofKey, paused bool) {
	switch {
	case d.key != nil:
		d.key.pause(now, after)
		return true, true
	case f.Account:
		return false, false
	}
	d.member.pause(now, after)
	return false, true
}

// keyed is the state of each key at one provider. The key that was used least
// recently is forgotten when there are too many, with its open breaker too.
type keyed struct {
	of     *member
	mu     sync.Mutex
	policy Policy
	lru    *simplelru.LRU[string, *member]
}

const defaultMaxKeys = 10_000

func newKeyed(of *member) *keyed {
	lru, _ := simplelru.NewLRU[string, *member](defaultMaxKeys, nil) // fails for a size below 1 alone
	return &keyed{of: of, lru: lru}
}

// setPolicy is for all keys, those that are known and those to come.
func (k *keyed) setPolicy(p Policy, size int) {
	if size == 0 {
		size = defaultMaxKeys
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.policy = p
	k.lru.Resize(size)
	for _, m := range k.lru.Values() {
		m.setPolicy(p)
	}
}

func (k *keyed) get(key string) *member {
	k.mu.Lock()
	defer k.mu.Unlock()
	m, ok := k.lru.Get(key)
	if !ok {
		m = newMember(k.of.name, k.policy, inner{})
		k.lru.Add(key, m)
	}
	return m
}
