// Package resilience makes one call out of many attempts: over a primary and
// its backups, with retries, breakers, limits and deadlines, in one fixed order.
//
//	senders, err := resilience.New(resilience.Default, []resilience.Member[Sender]{
//		{Name: "main", Provider: a}, {Name: "backup", Provider: b},
//	})
//	…
//	receipt, err := resilience.Call(ctx, senders, opSend, Sender.Send, msg)
//
// Domains build their Clients on it; it is of use by itself for any interface.
// The order of a call is
//
//	total deadline → failover → retry (budget)
//	    → per attempt: paused or open? → rate limit → bulkhead → breaker (a key's own first) → attempt deadline → provider
//
// and what each fault leads to is read from one table, [fault.Decide].
// Rules that a caller must know:
//
//   - State (breaker, limiter, pause, budget) belongs to one member of one Group;
//     each class of operations ([Op.Class]) has a breaker of its own there.
//   - Only the last provider that can take a call waits, for [Policy.MaxWait] at
//     most; the others refuse and the next one is asked at once.
//   - A provider runs in the caller's goroutine; one that ignores its context
//     keeps its caller and its slot until it returns.
//   - An answer that comes after the time limit is given all the same, and counts
//     as a failure.
//   - A panic in a provider is counted, frees its resources and propagates.
//   - A Group inside a Group never makes more attempts, or waits longer, than
//     the same providers side by side. It is inside where the member shows it, by a
//     method Control() *Control or by Unwrap() P; any other provider is one by itself.
package resilience

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// The causes of our own refusals, for errors.Is. Such an error is marked
// [fault.Error.Local]: nothing reached the provider.
var (
	ErrOpen    = errors.New("circuit breaker is open")
	ErrPaused  = errors.New("paused, as the provider asked to be left alone")
	ErrLimited = errors.New("rate limit reached")
	ErrFull    = errors.New("all slots are in use")
	// ErrTimeout is the cause where our own time limit ended an attempt.
	ErrTimeout = errors.New("attempt timed out")
)

// Op is an operation of a domain: what it is called in events and errors, and
// how far it may be repeated. Name is required.
type Op struct {
	// Name is the operation with its domain: "email.send".
	Name string
	// Safety is how far it may be repeated; the zero value is the strictest.
	Safety fault.Safety
	// Timeout replaces [Policy.Timeout] for this operation; zero keeps it.
	Timeout time.Duration
	// Class names the operations that fail together, such as "read": each class has
	// a breaker of its own at each provider, so that what fails alone is refused
	// alone. [fault.Unavailable] counts for all of them, since it says that the
	// provider can't be reached. A provider has 16 classes at most; what comes after
	// shares the breaker of the empty class.
	Class string
	// Decide may change what the table ([fault.Decide]) says of a provider's answer:
	// forbid a step, or, where a domain offers that by name, allow one.
	Decide func(*fault.Error, fault.Verdict) fault.Verdict
}

func (o *Op) verdict(f *fault.Error) fault.Verdict {
	v := fault.Decide(f, o.Safety)
	if o.Decide != nil {
		v = o.Decide(f, v)
	}
	return v
}

// ambiguous stands for every attempt that may have acted.
var ambiguous = fault.New(fault.Uncertain, nil)

// Member is one provider of a Group. Name may be empty where Provider has a
// method Name() string.
type Member[P any] struct {
	Name     string
	Provider P
	// Policy replaces the Group's for this member: its limits, breaker,
	// retries and attempt timeout. The total deadline is the Group's.
	Policy *Policy
	// Classify gives the kind of an error that isn't a [fault.Error] yet, for a
	// provider of your own. Without it such an error is [fault.Unknown]: it may have
	// acted, and it counts against the breaker, so that five bad inputs in a row would
	// shut the provider for all callers. A request's own fault should be
	// [fault.Invalid] or [fault.NotFound].
	Classify func(error) fault.Kind
}

// Group is a primary provider with its backups, in order, and their state. It
// is safe for concurrent use and owns no goroutine.
type Group[P any] struct {
	providers []P
	*Control
}

// New checks names and policy and returns a Group that starts with all breakers
// closed. Names are unique within the Group, 1 to 64 of [a-z0-9._-], and should
// be stable: some domains persist them.
func New[P any](policy Policy, members []Member[P], observers ...Observer) (*Group[P], error) {
	if len(members) == 0 {
		return nil, errors.New("resilience: a group needs at least one member")
	}
	if err := policy.Validate(); err != nil {
		return nil, err
	}
	watch, err := newWatchers(observers)
	if err != nil {
		return nil, err
	}
	g := &Group[P]{Control: &Control{watch: watch}}
	own := policy.owned()
	g.policy.Store(&own)
	for i, m := range members {
		if any(m.Provider) == nil {
			return nil, fmt.Errorf("resilience: member %d has no provider", i)
		}
		name, err := g.memberName(i, m.Name, m.Provider)
		if err != nil {
			return nil, err
		}
		p := own
		if m.Policy != nil {
			if err := m.Policy.Validate(); err != nil {
				return nil, fmt.Errorf("member %q: %w", name, err)
			}
			p = m.Policy.owned()
		}
		made := newMember(name, p, madeOf(m.Provider))
		made.classify = m.Classify
		g.members = append(g.members, made)
		g.providers = append(g.providers, m.Provider)
	}
	if err := g.checkWeights(own); err != nil {
		return nil, err
	}
	return g, nil
}

// maxChain bounds how many decorators lie around a Client.
const maxChain = 16

// madeOf finds the Client that a provider is, or decorates.
func madeOf[P any](p P) inner {
	for range maxChain {
		show, _ := any(p).(Inspector)
		if c, ok := any(p).(controlled); ok && c.Control() != nil {
			return inner{c.Control(), show}
		}
		if c, ok := any(p).(grouped); ok && c.control() != nil {
			return inner{c.control(), show}
		}
		d, ok := any(p).(interface{ Unwrap() P })
		if !ok {
			break
		}
		if p = d.Unwrap(); any(p) == nil {
			break
		}
	}
	return inner{}
}

// PolicyFor gives the members of these names a policy of their own, for a Client's
// option.
func PolicyFor[P any](members []Member[P], p Policy, names ...string) error {
	for _, name := range names {
		i := slices.IndexFunc(members, func(m Member[P]) bool { return nameOf(m.Name, m.Provider) == name })
		if i < 0 {
			return fmt.Errorf("resilience: a policy is for %q, which is no member", name)
		}
		members[i].Policy = &p
	}
	return nil
}

func nameOf(name string, provider any) string {
	if n, ok := provider.(interface{ Name() string }); ok && name == "" {
		return n.Name()
	}
	return name
}

func (g *Control) memberName(i int, name string, provider any) (string, error) {
	name = nameOf(name, provider)
	bad := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	}
	switch {
	case name == "":
		return "", fmt.Errorf("resilience: member %d has no name: give one, or let %T have a method Name() string", i, provider)
	case len(name) > 64 || strings.ContainsFunc(name, bad):
		return "", fmt.Errorf("resilience: member %d: name %q must be 1 to 64 of [a-z0-9._-]", i, name)
	}
	for _, m := range g.members {
		if m.name == name {
			return "", fmt.Errorf("resilience: two members are named %q", name)
		}
	}
	return name, nil
}
