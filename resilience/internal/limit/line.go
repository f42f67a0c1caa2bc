// Package limit has the limits of a provider, each by itself: a rate whose waiters
// stand in line, slots, a number of slots that finds itself, and a budget.
package limit

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Line is a rate limit whose waiters stand in line. They reserve nothing: where
// one leaves, those behind it move up.
type Line struct {
	limiter *rate.Limiter
	length  atomic.Int64 // of waiting, to be asked without the lock

	mu      sync.Mutex
	waiting list.List // of *waiter
	costs   int       // of all that wait
}

type waiter struct {
	cost int
	turn chan struct{} // closed when it is the first
	more chan struct{} // told when tokens were given back
}

// NewLine is a limit of that many tokens a second, burst at once.
func NewLine(perSecond float64, burst int) *Line {
	return &Line{limiter: rate.NewLimiter(rate.Limit(perSecond), burst)}
}

// Set changes the limit, and keeps what was taken.
func (l *Line) Set(perSecond float64, burst int) {
	l.limiter.SetLimit(rate.Limit(perSecond))
	l.limiter.SetBurst(burst)
}

// TryTake takes cost tokens that are there, where nobody waits for them.
func (l *Line) TryTake(now time.Time, cost int) bool {
	return l.length.Load() == 0 && l.limiter.AllowN(now, cost)
}

// Take waits for cost tokens at most that long. Where it can't have them by then
// it says at once how long it would take, and takes nothing.
func (l *Line) Take(ctx context.Context, now time.Time, cost int, wait time.Duration) (ok bool, missing time.Duration, err error) {
	until := now.Add(wait)
	place, missing := l.join(now, cost, wait)
	if place == nil {
		return false, missing, nil
	}
	defer l.leave(place)
	w := place.Value.(*waiter) //nolint:forcetypeassert // all are
	select {
	case <-w.turn:
	default:
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-w.turn:
		case <-t.C:
			return false, l.Missing(time.Now(), cost), nil
		case <-ctx.Done():
			return false, 0, ctx.Err()
		}
	}
	for {
		now = time.Now()
		if l.limiter.AllowN(now, cost) {
			return true, 0, nil
		}
		missing = max(l.Missing(now, cost), 1)
		if now.Add(missing).After(until) {
			return false, missing, nil
		}
		t := time.NewTimer(missing)
		select {
		case <-t.C:
		case <-w.more:
		case <-ctx.Done():
			t.Stop()
			return false, 0, ctx.Err()
		}
		t.Stop()
	}
}

// join takes a place at the end, unless it would take too long.
func (l *Line) join(now time.Time, cost int, wait time.Duration) (*list.Element, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if missing := l.Missing(now, l.costs+cost); missing > wait {
		return nil, missing
	}
	w := &waiter{cost, make(chan struct{}), make(chan struct{}, 1)}
	if l.waiting.Len() == 0 {
		close(w.turn)
	}
	l.costs += cost
	l.length.Add(1)
	return l.waiting.PushBack(w), 0
}

func (l *Line) leave(place *list.Element) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.waiting.Front() == place
	w := l.waiting.Remove(place).(*waiter) //nolint:forcetypeassert // all are
	l.costs -= w.cost
	l.length.Add(-1)
	if next := l.waiting.Front(); first && next != nil {
		close(next.Value.(*waiter).turn) //nolint:forcetypeassert // all are
	}
}

// Missing is when there will be that many tokens.
func (l *Line) Missing(now time.Time, tokens int) time.Duration {
	wait := (float64(tokens) - l.limiter.TokensAt(now)) / float64(l.limiter.Limit()) * float64(time.Second)
	if wait >= float64(Longest) {
		return Longest
	}
	return max(time.Duration(wait), 0)
}

// Settle takes more, or where n is negative gives back. The limit may go into
// debt.
func (l *Line) Settle(n int) {
	now, burst := time.Now(), max(l.limiter.Burst(), 1)
	for n = min(n, maxDebt*burst); n > burst; n -= burst {
		l.limiter.ReserveN(now, burst)
	}
	l.limiter.ReserveN(now, n)
	if n >= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if first := l.waiting.Front(); first != nil {
		select {
		case first.Value.(*waiter).more <- struct{}{}: //nolint:forcetypeassert // all are
		default:
		}
	}
}

// maxDebt bounds a debt, in bursts.
const maxDebt = 10_000

// Longest is what longer times are cut to: for ever, without overflowing where two
// are added.
const Longest = 50 * 365 * 24 * time.Hour

// Sleep waits for d or for ctx's end, whose error it returns.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
