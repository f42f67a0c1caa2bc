package stripe

import (
	"net/http"
	"net/url"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

// kept is what an idempotency key stands for. A key holds for one account in one mode.
type kept struct {
	operation string // method and path
	form      string // in one order
	at        time.Time
	request   string
	done      bool
	reply     sim.Reply
	replayed  int
}

const (
	maxKey       = 255            // docs.stripe.com/api/idempotent_requests: characters
	keyRetention = 24 * time.Hour // docs.stripe.com/api/idempotent_requests: pruned once at least so old

	// unkeptHeader never leaves the simulator: a reply that has it isn't kept.
	unkeptHeader = "Sim-Unkept"
)

// Replayed is how often a key got its first request's answer again, in all accounts and modes.
func (s *Sim) Replayed(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, sp := range s.spaces {
		if k := sp.keys[key]; k != nil {
			n += k.replayed
		}
	}
	return n
}

// once runs a request once for its key (docs.stripe.com/api/idempotent_requests). What it answers is kept, 500s
// included, once its execution began, unless validation or a conflict refused it.
func (c *call) once(key, operation, form string, run func() sim.Reply) sim.Reply {
	if len([]rune(key)) > maxKey {
		return malformed("Idempotency-Key is too long: keys are up to 255 characters.", "").reply()
	}
	c.key = key
	mine, known := c.begin(key, operation, canonical(form))
	if mine == nil {
		return known
	}
	reply := run()
	unkept := reply.Header.Get(unkeptHeader) != ""
	reply.Header = reply.Header.Clone()
	if reply.Header == nil {
		reply.Header = http.Header{}
	}
	reply.Header.Del(unkeptHeader)
	reply.Header.Set("Idempotency-Key", key)
	reply.Header.Set("Original-Request", c.requestID)
	c.finish(key, mine, reply, c.executed && !unkept)
	return reply
}

// begin notes that the key is in progress; without an entry of its own the request gets the reply.
func (c *call) begin(key, operation, form string) (*kept, sim.Reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.cfg.Now()
	k := c.keys[key]
	switch {
	case k == nil || k.done && now.Sub(k.at) >= keyRetention:
		k = &kept{operation: operation, form: form, at: now, request: c.requestID}
		c.keys[key] = k
		return k, sim.Reply{}
	case k.operation != operation || k.form != form:
		return nil, otherParameters(key).reply()
	case !k.done:
		return nil, inUse(key).reply()
	}
	k.replayed++
	reply := k.reply
	reply.Header = reply.Header.Clone()
	reply.Header.Set("Idempotent-Replayed", "true")
	return nil, reply
}

func (c *call) finish(key string, k *kept, reply sim.Reply, keep bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !keep {
		delete(c.keys, key)
		return
	}
	k.done, k.reply = true, reply
}

// canonical makes the order of parameters count for nothing.
func canonical(form string) string {
	values, err := url.ParseQuery(form)
	if err != nil {
		return form
	}
	return values.Encode()
}
