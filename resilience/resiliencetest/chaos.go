// Package resiliencetest shows how a service bears the failures of its
// providers: Chaos makes them fail, around any Client of any domain, and
// Recorder tells what happened.
//
//	var chaos resiliencetest.Chaos
//	mail, err := email.New(primary, email.WithBackup(backup), email.WithObserver(&chaos))
//	…
//	chaos.Always("sendgrid", resiliencetest.Step{Hang: true})
//	chaos.Share("ses", 0.1, resiliencetest.Step{Err: fault.New(fault.RateLimited, nil)})
//
// Chaos works inside the attempt, where the provider would: its delays meet the
// attempt's time limit, its errors the table of faults, its panics the caller.
// Both are safe for concurrent use.
package resiliencetest

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/smilefactory/integrations/resilience"
)

// Step is what happens to one attempt, in the order of its fields. The zero
// value lets it through.
type Step struct {
	// Delay, and up to Jitter more, is added before; it ends with the context.
	Delay, Jitter time.Duration
	// Hang answers nothing until the attempt's context ends.
	Hang bool
	// Panic is panicked with.
	Panic any
	// Goexit ends the goroutine, as a failed test's FailNow does.
	Goexit bool
	// Err is answered in the provider's place, or, with Acted, after it has acted.
	Err   error
	Acted bool
}

// Chaos is an observer that spoils attempts. The zero value spoils none.
type Chaos struct {
	mu    sync.Mutex
	rand  *rand.Rand
	rules map[string]*rule
	count map[string]int
}

type rule struct {
	script []Step
	always *Step
	shares []share
}

type share struct {
	of   float64
	step Step
}

// Seed makes what Share draws repeatable, as far as attempts come in the same
// order.
func (c *Chaos) Seed(seed uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rand = rand.New(rand.NewPCG(seed, seed))
}

// Script spoils the coming attempts at a provider (a path, "eu/ses"), one step
// each, before all else is asked.
func (c *Chaos) Script(provider string, steps ...Step) {
	c.change(provider, func(r *rule) { r.script = append(r.script, steps...) })
}

// Always spoils every attempt at a provider.
func (c *Chaos) Always(provider string, s Step) { c.change(provider, func(r *rule) { r.always = &s }) }

// Share spoils that share of attempts, from 0 to 1; several shares add up.
func (c *Chaos) Share(provider string, of float64, s Step) {
	c.change(provider, func(r *rule) { r.shares = append(r.shares, share{of, s}) })
}

// Calm ends whatever was planned for a provider.
func (c *Chaos) Calm(provider string) { c.change(provider, func(r *rule) { *r = rule{} }) }

func (c *Chaos) change(provider string, by func(*rule)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rules == nil {
		c.rules = map[string]*rule{}
	}
	if c.rules[provider] == nil {
		c.rules[provider] = &rule{}
	}
	by(c.rules[provider])
}

// Spoiled is how many attempts at a provider were not let through as they were.
func (c *Chaos) Spoiled(provider string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count[provider]
}

// Observe does nothing: it makes Chaos fit where observers go.
func (*Chaos) Observe(context.Context, resilience.Event) {}

// Inject is called by the Client, once for each attempt.
func (c *Chaos) Inject(ctx context.Context, e resilience.Event) (instead, after error) {
	s, delay := c.next(e.Provider)
	if err := sleep(ctx, delay); err != nil {
		return err, nil
	}
	switch {
	case s.Hang:
		<-ctx.Done()
		return ctx.Err(), nil
	case s.Panic != nil:
		panic(s.Panic)
	case s.Goexit:
		runtime.Goexit()
	case s.Acted:
		return nil, s.Err
	}
	return s.Err, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
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

// next is the step of the coming attempt, and its delay.
func (c *Chaos) next(provider string) (Step, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.pick(c.rules[provider])
	if s == (Step{}) {
		return s, 0
	}
	if c.count == nil {
		c.count = map[string]int{}
	}
	c.count[provider]++
	return s, s.Delay + time.Duration(c.float()*float64(s.Jitter))
}

func (c *Chaos) pick(r *rule) Step {
	switch {
	case r == nil:
		return Step{}
	case len(r.script) > 0:
		s := r.script[0]
		r.script = r.script[1:]
		return s
	case r.always != nil:
		return *r.always
	}
	drawn := c.float()
	for _, s := range r.shares {
		if drawn -= s.of; drawn < 0 {
			return s.step
		}
	}
	return Step{}
}

func (c *Chaos) float() float64 {
	if c.rand == nil {
		return rand.Float64()
	}
	return c.rand.Float64()
}
