package resilience_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// moody answers in every way that there is.
func moody(ctx context.Context) error {
	switch n := rand.IntN(1000); {
	case n < 5:
		return hang(ctx)
	case n < 20:
		panic("boom")
	case n < 40:
		runtime.Goexit()
	case n < 200:
		return fault.New(fault.Kind(n%int(fault.Canceled+1)), nil)
	case n < 500:
		select {
		case <-time.After(rand.N(20 * time.Millisecond)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Whatever ends a call, nothing stays taken. MIXED_CALLS sets how many are made.
func TestMixedCallsLoseNoPermitNoGoroutineAndNoHalfOpenSlot(t *testing.T) {
	calls, err := strconv.Atoi(os.Getenv("MIXED_CALLS"))
	if err != nil {
		calls = 40_000
	}
	for name, change := range map[string]func(*resilience.Policy){
		"a bulkhead":        func(p *resilience.Policy) { p.Concurrency = 24 },
		"an adaptive limit": func(p *resilience.Policy) { p.Adaptive.Max = 40 },
		"hedging":           func(p *resilience.Policy) { p.Concurrency, p.Hedge.After = 24, 5*time.Millisecond },
		"limits per key": func(p *resilience.Policy) {
			p.Concurrency, p.PerKey = 24, &resilience.Policy{Concurrency: 4, Breaker: p.Breaker, Rate: 1e4, Burst: 1e3}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := resilience.Default
				p.Rate, p.Burst, p.MaxWait, p.RetryBudget = 1e5, 1e4, 50*time.Millisecond, 0
				p.Timeout, p.Breaker.OpenFor = 100*time.Millisecond, 200*time.Millisecond
				p.Backoff = resilience.Backoff{Initial: time.Millisecond, Max: 10 * time.Millisecond, Jitter: 0.5}
				change(&p)
				one, two := &provider{fn: moody}, &provider{fn: moody}
				g := group(t, p, one, two)
				outcomes := mix(t, g, calls/4)

				one.fn, two.fn = nil, nil
				time.Sleep(time.Minute)
				for range 10 {
					require.NoError(t, ask(t.Context(), g))
				}
				for _, s := range g.Inspect() {
					assert.Zero(t, s.InFlight)
				}
				assert.Equal(t, resilience.Closed, g.Inspect()[0].State, "a lost half-open slot would keep it from closing")
				t.Logf("%d calls, %d attempts: %v", calls/4, one.calls.Load()+two.calls.Load(), outcomes)
			})
		})
	}
}

// mix makes calls of every shape from 64 goroutines and counts how they ended.
func mix(t *testing.T, g *resilience.Group[asker], calls int) map[string]int64 {
	var counts [5]atomic.Int64
	const answered, failed, panicked, exited, canceled = 0, 1, 2, 3, 4
	one := func(n int) {
		how := exited // unless something else happens
		defer func() {
			if recover() != nil {
				how = panicked
			}
			counts[how].Add(1)
		}()
		ctx := resilience.WithKey(t.Context(), strconv.Itoa(n%50))
		if n%10 == 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, rand.N(15*time.Millisecond))
			defer cancel()
		}
		switch err := shape(ctx, g, n); {
		case err == nil:
			how = answered
		case errors.Is(err, fault.Canceled):
			how = canceled
		default:
			how = failed
			time.Sleep(rand.N(20 * time.Millisecond)) // as callers do
		}
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(calls); n = next.Add(1) {
				var alone sync.WaitGroup
				alone.Go(func() { one(int(n)) }) // Goexit ends its goroutine
				alone.Wait()
			}
		})
	}
	wg.Wait()
	sum := int64(0)
	for i := range counts {
		sum += counts[i].Load()
	}
	require.EqualValues(t, calls, sum)
	return map[string]int64{
		"answered": counts[answered].Load(), "failed": counts[failed].Load(), "panicked": counts[panicked].Load(),
		"exited": counts[exited].Load(), "canceled": counts[canceled].Load(),
	}
}

// shape makes the n-th call in one of the ways that there are.
func shape(ctx context.Context, g *resilience.Group[asker], n int) error {
	switch n % 4 {
	case 0:
		_, body, err := resilience.Keep(ctx, g, opAsk, func(ctx context.Context, p asker) (string, io.ReadCloser, error) {
			s, err := p.Ask(ctx, "q")
			return s, io.NopCloser(strings.NewReader(s)), err
		})
		if err == nil {
			_, err = io.Copy(io.Discard, body)
			return errors.Join(err, body.Close())
		}
		return err
	case 1:
		once := func(p asker, ctx context.Context, q string) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) { yield(p.Ask(ctx, q)) }
		}
		for _, err := range resilience.Stream(ctx, g, opAsk, once, "q") {
			return err
		}
		return nil
	case 2:
		_, err := resilience.Call(ctx, g, opRead, asker.Ask, "q")
		return err
	}
	return ask(ctx, g)
}
