package bench

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// errLast is what the provider said last.
var errLast = errors.New("the provider's last error")

func fails(err error) providerFunc {
	return func(context.Context, *query) (*answer, error) { return nil, err }
}

// within ends a call after so long, and says what its caller learns.
func within(t *testing.T, limit time.Duration, call func(context.Context) error) string {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var err error
	d := took(func() { err = call(ctx) })
	learns := "the last error is lost: " + fmt.Sprint(err)
	if errors.Is(err, errLast) {
		learns = "the caller has the last error"
	}
	return fmt.Sprintf("it returns after %v; %s", d, learns)
}

func waiting(p *resilience.Policy) {
	p.Breaker, p.Backoff = resilience.Breaker{}, resilience.Backoff{Initial: 10 * time.Second}
}

func tenSeconds() failsafe.Policy[*answer] {
	return retrypolicy.NewBuilder[*answer]().WithMaxRetries(2).WithDelay(10 * time.Second).Build()
}

var callSituations = []situation{
	{
		when: "a retry would come in 10 s, and the caller has 2 s (cenkalti/backoff#53)",
		ours: func(t *testing.T) string {
			g := ours(t, waiting, fails(fault.New(fault.Unavailable, errLast)))
			return within(t, 2*time.Second, func(ctx context.Context) error { return oursDo(ctx, g, op) })
		},
		failsafe: func(t *testing.T) string {
			call := failsafeWith(tenSeconds())
			return within(t, 2*time.Second, func(ctx context.Context) error { return call(ctx, fails(errLast)) })
		},
		others: []named{{"backoff v4", func(t *testing.T) string {
			return within(t, 2*time.Second, func(ctx context.Context) error {
				b := backoff.WithContext(backoff.NewConstantBackOff(10*time.Second), ctx)
				return backoff.Retry(func() error { return errLast }, b)
			})
		}}},
	},
	{
		when: "the caller's context has ended before the call",
		ours: func(t *testing.T) string {
			p := counting(fast)
			g := ours(t, nil, p)
			return canceledBefore(t, p, func(ctx context.Context) error { return oursDo(ctx, g, op) })
		},
		failsafe: func(t *testing.T) string {
			p, call := counting(fast), failsafeWith(tenSeconds())
			return canceledBefore(t, p, func(ctx context.Context) error { return call(ctx, p) })
		},
		others: []named{{"backoff v4", func(t *testing.T) string {
			p := counting(fast)
			return canceledBefore(t, p, func(ctx context.Context) error {
				return backoff.Retry(func() error { _, err := p.Ask(ctx, nil); return err }, backoff.WithContext(&backoff.ZeroBackOff{}, ctx))
			})
		}}},
	},
	{
		when: "an attempt times out that may have acted, of an operation that must run once",
		ours: func(t *testing.T) string {
			p := counting(hangs)
			g := ours(t, nil, p)
			err := oursDo(t.Context(), g, opOnce)
			require.ErrorIs(t, err, fault.Uncertain)
			return fmt.Sprintf("%d attempt; the error says that it may have acted", p.n.Load())
		},
		failsafe: func(t *testing.T) string {
			p := counting(hangs)
			call := failsafeWith(retrypolicy.NewBuilder[*answer]().WithMaxRetries(2).Build(), timeout.New[*answer](attemptLimit))
			require.Error(t, call(t.Context(), p))
			return fmt.Sprintf("%d attempts, unless the user's predicate knows better", p.n.Load())
		},
	},
	{
		when: "the provider asks to be left alone for 7 s, and ten callers come meanwhile",
		ours: func(t *testing.T) string {
			p := counting(fails(&fault.Error{Kind: fault.RateLimited, RetryAfter: 7 * time.Second}))
			g := ours(t, nil, p, providerFunc(fast.Ask))
			well := times(10, func() error { return oursDo(t.Context(), g, op) })
			return fmt.Sprintf("it is asked once, the backup answers %d of 10", well)
		},
		failsafe: func(t *testing.T) string {
			p := counting(fails(errLast))
			call := failsafeWith(fallback.NewWithResult[*answer](ok))
			well := times(10, func() error { return call(t.Context(), p) })
			return fmt.Sprintf("it is asked %d times, the fallback answers %d of 10", p.n.Load(), well)
		},
	},
	{
		when: "the breaker is open, and a call comes that may be retried twice (virtrigaud#70)",
		ours: func(t *testing.T) string { return openFirst(t, around(ours(t, nil, fast), op)) },
		failsafe: func(t *testing.T) string {
			return openFirst(t, failsafeWith(failsafeRetry(), failsafeBreaker())) + ", unless the retry is told which errors to handle"
		},
	},
	{
		when: "answers are right and come after 5 s, though an attempt may take 3 s, ten times",
		ours: func(t *testing.T) string {
			g := ours(t, noRetries, takes(5*time.Second, nil))
			n := times(10, func() error { return oursAsk(t.Context(), g, &query{}) })
			return fmt.Sprintf("%d are given to their callers; then it is %s", n, state(g))
		},
		failsafe: func(t *testing.T) string {
			cb := failsafeBreaker()
			call := failsafeWith(cb, timeout.New[*answer](attemptLimit))
			n := times(10, func() error { return call(t.Context(), takes(5*time.Second, nil)) })
			return fmt.Sprintf("%d are given to their callers; then it is %s", n, failsafeState(cb))
		},
	},
	{
		when: "a backup is asked by a hedge, and says that it wants to be left alone for a minute (grpc/proposal#18)",
		ours: func(t *testing.T) string {
			return pushedBack(func(primary, backup provider) func() error {
				g := ours(t, func(p *resilience.Policy) { noRetries(p); p.Hedge.After = time.Second }, primary, backup)
				return func() error { return oursAsk(t.Context(), g, &query{}) }
			})
		},
		failsafe: func(t *testing.T) string {
			e := failsafe.With(hedgepolicy.NewWithDelay[*answer](time.Second))
			return pushedBack(func(primary, backup provider) func() error {
				return func() error {
					_, err := e.WithContext(t.Context()).GetWithExecution(func(x failsafe.Execution[*answer]) (*answer, error) {
						if x.IsHedge() {
							return backup.Ask(x.Context(), &query{})
						}
						return primary.Ask(x.Context(), &query{})
					})
					return err
				}
			})
		},
	},
	{
		when: "the rate limit would let the call through in 5 s, and the caller has 2 s",
		ours: func(t *testing.T) string {
			g := ours(t, func(p *resilience.Policy) { p.Rate, p.Burst, p.MaxWait = 0.2, 1, 10*time.Second }, fast)
			require.NoError(t, oursDo(t.Context(), g, op))
			return refusedAfter(t, func(ctx context.Context) error { return oursDo(ctx, g, op) })
		},
		failsafe: func(t *testing.T) string {
			call := failsafeWith(ratelimiter.NewSmoothBuilderWithMaxRate[*answer](5 * time.Second).WithMaxWaitTime(10 * time.Second).Build())
			require.NoError(t, call(t.Context(), fast))
			return refusedAfter(t, func(ctx context.Context) error { return call(ctx, fast) })
		},
	},
}

// openFirst opens each library's breaker, and lets a call with two retries come.
func openFirst(t *testing.T, call protected) string {
	times(minCalls, func() error { return call(t.Context(), down) })
	d := took(func() { require.Error(t, call(t.Context(), fast)) })
	return fmt.Sprintf("refused after %v", d)
}

// pushedBack is a backup that asks to be left alone for a minute, beside a primary
// that is slow and fails; two calls come.
func pushedBack(with func(primary, backup provider) func() error) string {
	backup := counting(fails(told(time.Minute)))
	times(2, with(takes(2*time.Second, errDown), backup))
	time.Sleep(time.Minute)
	return fmt.Sprintf("it is asked %d×", backup.n.Load())
}

func canceledBefore(t *testing.T, p *counted, call func(context.Context) error) string {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := call(ctx)
	if p.n.Load() == 0 {
		require.Error(t, err)
		return "nobody is asked"
	}
	return "the provider is asked all the same"
}

func refusedAfter(t *testing.T, call func(context.Context) error) string {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var err error
	d := took(func() { err = call(ctx) })
	require.Error(t, err)
	return fmt.Sprintf("refused after %v", d)
}

var backupSituations = []situation{
	hurriedCallers(1).called("the primary, which answered before, hangs; a backup is there, and 20 callers come one after the other with 2 s each"),
	hurriedCallers(0).called("… and it has never answered"),
	{
		when: "the request is wrong, and a backup is there",
		ours: func(t *testing.T) string {
			p, backup := counting(fails(fault.New(fault.Invalid, nil))), counting(fast)
			g := ours(t, nil, p, backup)
			require.ErrorIs(t, oursDo(t.Context(), g, op), fault.Invalid)
			return fmt.Sprintf("the backup is asked %d times", backup.n.Load())
		},
		failsafe: func(t *testing.T) string {
			backup := counting(fast)
			call := failsafeWith(fallback.NewWithFunc(func(x failsafe.Execution[*answer]) (*answer, error) { return backup.Ask(x.Context(), nil) }))
			require.NoError(t, call(t.Context(), fails(errLast)))
			return fmt.Sprintf("the fallback is asked %d time, unless the user's predicate knows better", backup.n.Load())
		},
	},
	{
		when: "a client with two retries is used inside another with two retries, and everything fails",
		ours: func(t *testing.T) string {
			p := counting(down)
			inner := ours(t, withoutBreaker, p)
			outer := ours(t, withoutBreaker, nestedProvider{inner})
			require.Error(t, oursDo(t.Context(), outer, op))
			return fmt.Sprintf("%d attempts", p.n.Load())
		},
		failsafe: func(t *testing.T) string {
			p := counting(down)
			retry := func() failsafe.Policy[*answer] { return retrypolicy.NewBuilder[*answer]().WithMaxRetries(2).Build() }
			inner, outer := failsafeWith(retry()), failsafeWith(retry())
			require.Error(t, outer(t.Context(), providerFunc(func(ctx context.Context, _ *query) (*answer, error) {
				return nil, inner(ctx, p)
			})))
			return fmt.Sprintf("%d attempts", p.n.Load())
		},
	},
}

func withoutBreaker(p *resilience.Policy) {
	p.Breaker, p.Retries, p.Backoff, p.RetryBudget = resilience.Breaker{}, 2, resilience.Backoff{Initial: time.Millisecond}, 0
}

// nestedProvider is a client of a group.
type nestedProvider struct{ *resilience.Group[provider] }

func (n nestedProvider) Ask(ctx context.Context, q *query) (*answer, error) {
	return resilience.Call(ctx, n.Group, op, provider.Ask, q)
}

// hurriedCallers come to a primary that hangs from an attempt on, and to its backup.
func hurriedCallers(answers int64) situation {
	primary := func() *counted {
		p := counting(nil)
		p.does(func(ctx context.Context, q *query) (*answer, error) {
			if p.n.Load() <= answers {
				return ok, nil
			}
			return hangs(ctx, q)
		})
		return p
	}
	play := func(t *testing.T, p *counted, call func(context.Context) error) string {
		require.EqualValues(t, answers, times(int(answers), func() error { return call(t.Context()) }))
		well := 0
		d := took(func() {
			well = times(20, func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				return call(ctx)
			})
		})
		return fmt.Sprintf("%d of 20 are answered in %v; the primary is asked %d times", well, d, p.n.Load()-answers)
	}
	return situation{
		ours: func(t *testing.T) string {
			p := primary()
			g := ours(t, nil, p, fast)
			return play(t, p, func(ctx context.Context) error { return oursDo(ctx, g, opWrite) })
		},
		failsafe: func(t *testing.T) string {
			p := primary()
			call := failsafeWith(fallback.NewWithResult[*answer](ok), oneProbe(), timeout.New[*answer](attemptLimit))
			return play(t, p, func(ctx context.Context) error { return call(ctx, p) })
		},
	}
}
