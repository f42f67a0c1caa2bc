package resilience

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience/internal/limit"
)

// Limiter is a rate limit that lives elsewhere, such as one that many processes
// share. It is asked in the place of [Policy.Rate]. Take grants one call by a
// wait of zero; a longer one means that nothing was taken, and when to ask
// again. An error means that it can't say, and the call is refused; a Limiter
// that would rather let calls through then does so itself. It must be quick and
// safe for concurrent use.
type Limiter interface {
	Take(ctx context.Context, provider string) (wait time.Duration, err error)
}

// CostLimiter is a Limiter for calls of which one costs more than another
// ([WithCost]); to any other Limiter each of them costs one.
type CostLimiter interface {
	Limiter
	// TakeN is Take for a call that costs n, at least 1.
	TakeN(ctx context.Context, provider string, n int) (wait time.Duration, err error)
	// Settle corrects what was taken, once the true cost is known: n more, or where
	// it is negative, fewer. It is never refused: the limit may go into debt.
	Settle(ctx context.Context, provider string, n int) error
}

// WithCost says how much the calls under the returned context take of the rate
// limits, such as the tokens that a model is expected to use; every other call
// takes one. More than a limit's Burst is never granted, and fault.Unsupported. It
// is not for what a provider calls.
func WithCost(ctx context.Context, n int) context.Context {
	return withMarks(ctx, func(m *marks) { m.cost = max(n, 1) })
}

// Spent tells the rate limits what the attempt that ctx belongs to has cost in
// the end: what it took too much is given back, what it took too little is owed by
// those who come after. It is for the function that a Client's method calls, since
// adapters don't import this package. Outside an attempt it does nothing.
func Spent(ctx context.Context, n int) {
	_, a := marksOf(ctx)
	if a == nil {
		return
	}
	a.mu.Lock()
	more := max(n, 0) - a.cost
	a.cost += more
	a.mu.Unlock()
	for _, m := range []*member{a.door.key, a.door.member} {
		if m == nil || more == 0 {
			continue
		}
		r := m.rules.Load()
		if l, ok := r.policy.Limiter.(CostLimiter); ok {
			_ = l.Settle(ctx, m.name, more) // it tells its own errors
		} else if r.line != nil {
			r.line.Settle(more)
		}
	}
}

// takeTokens takes a call's cost from the rate limit, and waits for it at most
// that long.
func (m *member) takeTokens(ctx context.Context, b *bid, p *permit) error {
	r := p.rules
	switch {
	case r.line == nil && r.policy.Limiter == nil:
		return nil
	case r.slots != nil && b.rest(p) <= 0 && r.slots.Full():
		return m.refuse(b, ErrFull, 0)
	case r.policy.Limiter != nil:
		return m.askLimiter(ctx, b, p)
	case b.cost > r.policy.Burst:
		return &fault.Error{
			Kind: fault.Unsupported, Provider: m.name, Op: b.op, Local: true,
			Err: fmt.Errorf("a cost of %d is more than the rate limit's Burst (%d): it would never be granted", b.cost, r.policy.Burst),
		}
	}
	if r.line.TryTake(p.start, b.cost) {
		p.tokens = b.cost
		return nil
	}
	wait := b.rest(p)
	if wait <= 0 {
		return m.refuse(b, ErrLimited, r.line.Missing(p.start, b.cost))
	}
	if !m.queue() {
		return m.refuse(b, ErrLimited, 0)
	}
	defer m.waiting.Add(-1)
	ok, missing, err := r.line.Take(ctx, p.start, b.cost, wait)
	switch {
	case err != nil:
		return err
	case !ok:
		return m.refuse(b, ErrLimited, missing)
	}
	p.start, p.tokens = time.Now(), b.cost
	return nil
}

// giveBack returns what was taken for an attempt that isn't made: neither refused
// probes nor a full bulkhead may drain the limit.
func (p *permit) giveBack(ctx context.Context) {
	if p.tokens > 0 {
		if l, ok := p.rules.policy.Limiter.(CostLimiter); ok {
			_ = l.Settle(context.WithoutCancel(ctx), p.m.name, -p.tokens) // it tells its own errors
		} else if p.rules.line != nil {
			p.rules.line.Settle(-p.tokens)
		}
		p.tokens = 0
	}
	p.dropSlot()
}

// unused ends the permit of an attempt that isn't made after all, the key's too.
func (p *permit) unused(ctx context.Context) {
	p.giveBack(ctx)
	if p.key != nil {
		p.key.giveBack(ctx)
	}
	p.end(silent, p.start)
}

// askLimiter asks until it grants, or patience ends.
func (m *member) askLimiter(ctx context.Context, b *bid, p *permit) error {
	until := b.now.Add(b.wait)
	for queued := false; ; {
		delay, err := take(ctx, p.rules.policy.Limiter, m.name, b.cost)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fault.Unsupported):
			return &fault.Error{Kind: fault.Unsupported, Provider: m.name, Op: b.op, Local: true, Err: err}
		case err != nil:
			return m.refuse(b, ErrLimited, 0)
		case delay <= 0:
			p.start, p.tokens = time.Now(), b.cost
			return nil
		case time.Now().Add(delay).After(until) || !queued && !m.queue():
			return m.refuse(b, ErrLimited, delay)
		}
		if !queued {
			queued = true
			defer m.waiting.Add(-1)
		}
		if err := limit.Sleep(ctx, delay); err != nil {
			return err
		}
	}
}

func take(ctx context.Context, l Limiter, provider string, n int) (time.Duration, error) {
	if c, ok := l.(CostLimiter); ok && n > 1 {
		return c.TakeN(ctx, provider, n)
	}
	return l.Take(ctx, provider)
}
