package resilience

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// line is a rate limit whose waiters stand in line. They reserve nothing: where
// one leaves, those behind it move up.
type line struct {
	limiter *rate.Limiter
	length  atomic.Int64 // of waiting, to be asked without the lock

	mu      sync.Mutex
	waiting list.List // of *waiter
	costs   int       // of all that wait
}

type waiter struct {
	cost int
	turn chan struct{} // closed when it is the first
}

// take takes cost tokens, and waits for them at most that long. Where it can't
// have them by then it says at once how long it would take, and takes nothing.
func (l *line) take(ctx context.Context, now time.Time, cost int, wait time.Duration) (ok bool, missing time.Duration, err error) {
	if l.length.Load() == 0 && l.limiter.AllowN(now, cost) {
		return true, 0, nil
	}
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
			return false, l.missing(time.Now(), cost), nil
		case <-ctx.Done():
			return false, 0, ctx.Err()
		}
	}
	for {
		now = time.Now()
		if l.limiter.AllowN(now, cost) {
			return true, 0, nil
		}
		missing = max(l.missing(now, cost), 1)
		if now.Add(missing).After(until) {
			return false, missing, nil
		}
		if err := sleep(ctx, missing); err != nil {
			return false, 0, err
		}
	}
}

// join takes a place at the end, unless it would take too long.
func (l *line) join(now time.Time, cost int, wait time.Duration) (*list.Element, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if missing := l.missing(now, l.costs+cost); missing > wait {
		return nil, missing
	}
	w := &waiter{cost, make(chan struct{})}
	if l.waiting.Len() == 0 {
		close(w.turn)
	}
	l.costs += cost
	l.length.Add(1)
	return l.waiting.PushBack(w), 0
}

func (l *line) leave(place *list.Element) {
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

// missing is when there will be that many tokens.
func (l *line) missing(now time.Time, tokens int) time.Duration {
	wait := (float64(tokens) - l.limiter.TokensAt(now)) / float64(l.limiter.Limit()) * float64(time.Second)
	if wait >= float64(longest) {
		return longest
	}
	return max(time.Duration(wait), 0)
}

// settle takes more, or where n is negative gives back. The limit may go into
// debt.
func (l *line) settle(n int) {
	now := time.Now()
	for n > 0 {
		step := min(n, max(l.limiter.Burst(), 1))
		l.limiter.ReserveN(now, step)
		n -= step
	}
	if n < 0 {
		l.limiter.AllowN(now, n)
	}
}
