package resilience

import (
	"context"
	"time"

	"golang.org/x/time/rate"
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

// token is what was taken from the rate limiter, where it can be given back. One
// that was waited for is spent: given back late, it would be granted twice.
type token struct {
	*rate.Reservation
	at time.Time
}

func (t token) giveBack() {
	if t.Reservation != nil {
		t.CancelAt(t.at)
	}
}

// takeToken takes one from the rate limiter. Where a refusal is likely to
// follow, it is a reservation that can be given back: neither refused probes nor
// a full bulkhead may drain the limit.
func (m *member) takeToken(ctx context.Context, op string, p *permit, wait time.Duration) (token, error) {
	r := p.rules
	if r.limiter == nil && r.policy.Limiter == nil {
		return token{}, nil
	}
	full := r.slots != nil && r.slots.full()
	switch {
	case full && wait <= 0:
		return token{}, m.refusals.get(m.name, op, ErrFull, 0)
	case r.policy.Limiter != nil:
		return token{}, m.askLimiter(ctx, op, p, wait)
	case !full && !m.halfOpen.Load() && r.limiter.AllowN(p.start, 1):
		return token{}, nil
	}
	res := r.limiter.ReserveN(p.start, 1)
	delay := res.DelayFrom(p.start)
	switch {
	case delay <= 0:
		return token{res, p.start}, nil
	case delay > wait:
		res.CancelAt(p.start)
		return token{}, m.refusals.get(m.name, op, ErrLimited, delay)
	}
	if err := sleep(ctx, delay); err != nil {
		res.Cancel()
		return token{}, err
	}
	p.start = time.Now()
	return token{}, nil
}

// askLimiter asks until it grants, or patience ends.
func (m *member) askLimiter(ctx context.Context, op string, p *permit, wait time.Duration) error {
	until := p.start.Add(wait)
	for {
		delay, err := p.rules.policy.Limiter.Take(ctx, m.name)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return m.refusals.get(m.name, op, ErrLimited, 0)
		case delay <= 0:
			p.start = time.Now()
			return nil
		case time.Now().Add(delay).After(until):
			return m.refusals.get(m.name, op, ErrLimited, delay)
		}
		if err := sleep(ctx, delay); err != nil {
			return err
		}
	}
}
