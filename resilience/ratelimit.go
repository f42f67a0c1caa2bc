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

// takeToken takes one from the rate limiter, and waits for it at most that long.
func (m *member) takeToken(ctx context.Context, op string, p *permit, wait time.Duration) error {
	r := p.rules
	switch {
	case r.limiter == nil && r.policy.Limiter == nil:
		return nil
	case wait <= 0 && r.slots != nil && r.slots.full():
		return m.refusals.get(m.name, op, ErrFull, 0)
	case r.policy.Limiter != nil:
		return m.askLimiter(ctx, op, p, wait)
	case r.limiter.AllowN(p.start, 1):
		p.token = true
		return nil
	}
	if delay := untilToken(r.limiter, p.start); delay > wait {
		return m.refusals.get(m.name, op, ErrLimited, delay)
	}
	res := r.limiter.ReserveN(p.start, 1)
	delay := res.DelayFrom(p.start)
	if delay > wait { // others were quicker
		res.CancelAt(p.start)
		return m.refusals.get(m.name, op, ErrLimited, delay)
	}
	if err := sleep(ctx, delay); err != nil {
		res.Cancel()
		return err
	}
	p.start, p.token = time.Now(), true
	return nil
}

// untilToken is when there will be one, without reserving it: a reservation that
// is cancelled changes what can be given back of others.
func untilToken(l *rate.Limiter, now time.Time) time.Duration {
	wait := (1 - l.TokensAt(now)) / float64(l.Limit()) * float64(time.Second)
	if wait >= float64(forever) {
		return forever
	}
	return time.Duration(wait)
}

// giveBack returns what was taken for an attempt that isn't made: neither refused
// probes nor a full bulkhead may drain the limit.
func (p *permit) giveBack() {
	if p.token {
		p.rules.limiter.AllowN(time.Now(), -1)
		p.token = false
	}
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
