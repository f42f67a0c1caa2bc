package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// withFallback is failsafe-go as its documentation composes it: fallback, retry,
// breaker, timeout.
func withFallback(second provider) (func() string, protected) {
	cb := failsafeBreaker()
	f := fallback.NewWithFunc(func(x failsafe.Execution[*answer]) (*answer, error) { return second.Ask(x.Context(), &query{}) })
	return func() string { return failsafeState(cb) }, failsafeWith(f, failsafeRetry(), cb, timeout.New[*answer](attemptLimit))
}

// failoverSituations are the rest of the section.
var failoverSituations = []situation{
	{
		when: "the primary hangs and eight callers come one after the other (3 s, two retries, ten calls minimum)",
		ours: func(t *testing.T) string {
			g := ours(t, nil, hangs, fast)
			d := took(func() {
				require.Equal(t, 8, times(8, func() error { return oursDo(t.Context(), g, opWrite) }))
			})
			return fmt.Sprintf("all answered by the backup after %v together; %s", d, state(g))
		},
		failsafe: func(t *testing.T) string {
			look, call := withFallback(fast)
			d := took(func() { require.Equal(t, 8, times(8, func() error { return call(t.Context(), hangs) })) })
			return fmt.Sprintf("all answered by the fallback after %v together; %s", d, look())
		},
	},
	{
		when: "200 callers with 2 s each, an attempt may take 3 s, and the primary hangs",
		ours: func(t *testing.T) string {
			g := ours(t, func(p *resilience.Policy) { p.Breaker = resilience.Breaker{} }, hangs, fast)
			return impatient(t, func(ctx context.Context) error { return oursDo(ctx, g, opWrite) })
		},
		failsafe: func(t *testing.T) string {
			_, call := withFallback(fast)
			return impatient(t, func(ctx context.Context) error { return call(ctx, hangs) })
		},
	},
	{
		when: "the primary times out once, no retries: how often is the backup asked?",
		ours: func(t *testing.T) string {
			second := counting(fast)
			g := ours(t, noRetries, hangs, second)
			require.NoError(t, oursDo(t.Context(), g, opWrite))
			time.Sleep(time.Hour)
			return fmt.Sprintf("%d time", second.n.Load())
		},
		failsafe: func(t *testing.T) string {
			second := counting(fast)
			f := fallback.NewWithFunc(func(x failsafe.Execution[*answer]) (*answer, error) { return second.Ask(x.Context(), nil) })
			require.NoError(t, failsafeWith(f, timeout.New[*answer](attemptLimit))(t.Context(), hangs))
			time.Sleep(time.Hour)
			return fmt.Sprintf("%d time", second.n.Load())
		},
	},
	{
		when: "three calls of 0.1 s come to one slot, for which one may wait 1 s, and a backup is there",
		ours: func(t *testing.T) string {
			second := counting(fast)
			g := ours(t, func(p *resilience.Policy) { p.Concurrency = 1 }, takes(100*time.Millisecond, nil), second)
			atOnce(3, func() error { return oursAsk(t.Context(), g, &query{}) })
			return fmt.Sprintf("%d go to the backup at once", second.n.Load())
		},
		failsafe: func(t *testing.T) string {
			second := counting(fast)
			f := fallback.NewWithFunc(func(x failsafe.Execution[*answer]) (*answer, error) { return second.Ask(x.Context(), nil) })
			call := failsafeWith(f, bulkhead.NewBuilder[*answer](1).WithMaxWaitTime(time.Second).Build())
			atOnce(3, func() error { return call(t.Context(), takes(100*time.Millisecond, nil)) })
			return fmt.Sprintf("%d go to the fallback; two wait", second.n.Load())
		},
	},
	{
		when: "a charge times out, and a backup is there",
		ours: func(t *testing.T) string {
			first, second := counting(hangs), counting(fast)
			err := oursDo(t.Context(), ours(t, nil, first, second), opOnce)
			require.ErrorIs(t, err, fault.Uncertain)
			return fmt.Sprintf("%d attempt, %d at the backup; the error says that it may have acted", first.n.Load(), second.n.Load())
		},
		failsafe: func(t *testing.T) string {
			first, second := counting(hangs), counting(fast)
			_, call := withFallback(second)
			require.NoError(t, call(t.Context(), first))
			return fmt.Sprintf("%d attempts, %d at the fallback, unless each policy is told which errors to handle", first.n.Load(), second.n.Load())
		},
	},
	{
		when: "a client inside a client fails over: two providers hang for 3 s each, the third answers",
		ours: func(t *testing.T) string {
			g := ours(t, nil, client{ours(t, nil, hangs, hangs, fast)})
			var err error
			d := took(func() { err = oursAsk(t.Context(), g, &query{}) })
			require.NoError(t, err)
			return fmt.Sprintf("answered after %v", d)
		},
		failsafe: func(t *testing.T) string {
			limit := timeout.New[*answer](attemptLimit)
			chain := providerFunc(func(ctx context.Context, _ *query) (*answer, error) {
				next := func(ctx context.Context, p provider, second func(failsafe.Execution[*answer]) (*answer, error)) error {
					return failsafeWith(fallback.NewWithFunc(second), limit)(ctx, p)
				}
				return ok, next(ctx, hangs, func(x failsafe.Execution[*answer]) (*answer, error) {
					return ok, next(x.Context(), hangs, func(failsafe.Execution[*answer]) (*answer, error) { return ok, nil })
				})
			})
			var err error
			d := took(func() { err = failsafeWith(limit)(t.Context(), chain) })
			require.Error(t, err)
			return fmt.Sprintf("%q after %v, by the outer limit", err, d)
		},
	},
}

// impatient lets 200 callers with two seconds come at once.
func impatient(t *testing.T, call func(context.Context) error) string {
	n := atOnce(200, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return call(ctx)
	})
	return fmt.Sprintf("%d are answered", n)
}
