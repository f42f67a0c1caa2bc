package resilience

import (
	"fmt"
	"slices"

	"github.com/smilefactory/integrations/fault"
)

// stamp is a copy of the provider's error that names provider and operation.
// The provider's own is never written to.
func (c *call) stamp(a *attempt, err error) *fault.Error {
	f := &fault.Error{Kind: fault.KindOf(err), Err: err}
	if e, ok := fault.As(err); ok {
		*f = *e
		if err != error(e) { // keep what was wrapped around it
			f.Err = err
		}
	} else if classify := a.door.member.classify; classify != nil {
		f.Kind = classify(err)
	}
	path := f.Provider // of the inner one, where the provider is made of providers
	f.Op, f.Provider = c.op.Name, a.door.member.name
	if !a.inner() {
		f.Attempts, f.Tried = 0, nil
		return f
	}
	if path != "" {
		f.Provider = a.door.member.prefix + path
	}
	f.Tried = slices.Clone(f.Tried)
	for i, t := range f.Tried {
		n := *t
		n.Provider = a.door.member.prefix + t.Provider
		f.Tried[i] = &n
	}
	return f
}

// rank orders the kinds for a call in which every provider failed: what the
// caller must know first stands first.
var rank = []fault.Kind{
	fault.Uncertain, fault.Unknown, fault.Unavailable, fault.RateLimited, fault.Exhausted, fault.Denied, fault.Unsupported,
	fault.Conflict, fault.Rejected, fault.NotFound, fault.Invalid, // after which only [Op.Decide] lets a backup be asked
}

// failure is the error of the whole call.
func (c *call) failure() error {
	kind := c.end
	if kind == fault.Unknown && len(c.more) == 0 && c.first != nil {
		kind = c.first.Kind
	} else if kind == fault.Unknown {
		kind = c.worst()
	}
	if c.unsettled && kind != fault.Canceled || c.unsettled && c.cause != nil {
		kind = fault.Uncertain
	}
	if f := c.first; f != nil && len(c.more) == 0 && c.cause == nil && f.Kind == kind {
		if f.Local {
			return f // shared: see refusals
		}
		switch f.Attempts = c.attempts; {
		case f.Err == nil:
			f.Err = c.stayed
		case c.stayed != nil:
			f.Err = fmt.Errorf("%w; %w", f.Err, c.stayed)
		}
		return f
	}
	e := &fault.Error{Kind: kind, Op: c.op.Name, Attempts: c.attempts, Tried: c.tried(), Err: c.cause, Local: c.attempts == 0}
	if e.Err == nil {
		e.Err = c.stayed
	}
	e.Account = len(e.Tried) > 0 && !slices.ContainsFunc(e.Tried, func(t *fault.Error) bool { return !t.Account })
	for _, t := range e.Tried {
		if t.RetryAfter > 0 && (e.RetryAfter == 0 || t.RetryAfter < e.RetryAfter) {
			e.RetryAfter = t.RetryAfter
		}
	}
	return e
}

func (c *call) tried() []*fault.Error {
	if c.first == nil {
		return nil
	}
	return append([]*fault.Error{c.first}, c.more...)
}

func (c *call) worst() fault.Kind {
	tried := c.tried()
	for _, k := range rank {
		if slices.ContainsFunc(tried, func(t *fault.Error) bool { return t.Kind == k }) {
			return k
		}
	}
	return fault.Unknown
}
