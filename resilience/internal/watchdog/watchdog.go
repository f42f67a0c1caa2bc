// Package watchdog ends an attempt that has outlived its limits. It is a timer
// that can be stopped, since a deadline that was handed out by a context can't be
// lifted.
package watchdog

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/smilefactory/integrations/resilience/internal/limit"
)

// Limits are those of an attempt.
type Limits struct {
	By      time.Time     // when the answer must have begun; zero where it has
	Silence time.Duration // between two signs of life; zero for no limit
	Stall   time.Duration // between two items, once the answer has begun
}

// Dog watches over one attempt.
type Dog struct {
	start  time.Time
	expire func()
	life   atomic.Int64 // the last sign of life, in nanoseconds since start

	mu      sync.Mutex
	timer   *time.Timer
	limits  Limits
	item    time.Time // the last one
	resting bool
	expired bool
}

// New watches from start on, and calls expire once, in a goroutine of its own.
func New(start time.Time, limits Limits, expire func()) *Dog {
	d := &Dog{start: start, item: start, limits: limits, expire: expire}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timer = time.AfterFunc(d.due(time.Now()), d.fire)
	return d
}

// due is how long the timer may sleep.
func (d *Dog) due(now time.Time) time.Duration {
	due := limit.Longest
	if l := d.limits; !l.By.IsZero() {
		due = l.By.Sub(now)
	} else if l.Stall > 0 {
		due = d.item.Add(l.Stall).Sub(now)
	}
	if d.limits.Silence > 0 {
		due = min(due, d.start.Add(time.Duration(d.life.Load())+d.limits.Silence).Sub(now))
	}
	return due
}

// fire ends the attempt, unless there was a sign of life since the timer was set.
func (d *Dog) fire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.resting {
		return
	}
	if due := d.due(time.Now()); due > 0 {
		d.timer.Reset(due)
		return
	}
	d.expired = true
	d.expire()
}

// Alive notes a sign of life.
func (d *Dog) Alive() { d.life.Store(int64(time.Since(d.start))) }

// Watch begins the limits anew, from now; change sets others first.
func (d *Dog) Watch(change func(*Limits)) {
	d.Alive()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.item = time.Now(); d.expired {
		return
	}
	if d.resting = false; change != nil {
		change(&d.limits)
	}
	d.timer.Reset(d.due(d.item))
}

// Rest stops the limits, while the caller works, and reports whether the attempt
// was in time.
func (d *Dog) Rest() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.resting = true
	d.timer.Stop()
	return !d.expired
}
