package fleet

import (
	"context"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/fallback"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// client makes one call, as one process of the fleet does.
type client func(ctx context.Context) error

// variant is a way to protect calls. Each process makes a client of its own; the
// backup is nil where the variant has none.
type variant struct {
	name   string
	client func(t *testing.T, primary, backup *provider) client
	backup bool
}

var variants = []variant{
	{name: defaults, client: ours(func(*resilience.Policy) {})},
	{name: "the same without retry budget", client: ours(func(p *resilience.Policy) { p.RetryBudget = 0 })},
	{name: noBreaker, client: ours(func(p *resilience.Policy) { p.Breaker = resilience.Breaker{} })},
	{name: retriesAlone, client: ours(func(p *resilience.Policy) { p.RetryBudget, p.Breaker = 0, resilience.Breaker{} })},
	{name: peer, client: failsafeGo(byRate, false)},
	{name: "failsafe-go, breaker by failures in a row", client: failsafeGo(inARow, false)},
	{name: "failsafe-go with its retry budget", client: failsafeGo(byRate, true)},
	{name: timeoutsAlone, client: bare},
	{name: defaultsBackup, client: ours(func(*resilience.Policy) {}), backup: true},
	{name: "failsafe-go and a backup as fallback", client: failsafeGo(byRate, false), backup: true},
}

const (
	defaults       = "our defaults"
	noBreaker      = "the same without breaker"
	retriesAlone   = "retries and timeouts alone"
	peer           = "failsafe-go"
	timeoutsAlone  = "timeouts alone"
	defaultsBackup = "our defaults and a backup"
)

// read may be repeated anywhere, so that policies alone hold retries back.
var read = resilience.Op{Name: "fleet.read", Safety: fault.Read}

// ours is the library with its defaults, but for a change.
func ours(change func(*resilience.Policy)) func(*testing.T, *provider, *provider) client {
	return func(t *testing.T, primary, backup *provider) client {
		p := resilience.Default
		change(&p)
		members := []resilience.Member[*provider]{{Name: "primary", Provider: primary}}
		if backup != nil {
			members = append(members, resilience.Member[*provider]{Name: "backup", Provider: backup})
		}
		g, err := resilience.New(p, members)
		require.NoError(t, err)
		return func(ctx context.Context) error {
			_, err := resilience.Call(ctx, g, read, (*provider).Ask, struct{}{})
			return err
		}
	}
}

// failsafeGo is failsafe-go composed as its documentation does under "Policy
// Composition" (failsafe-go.dev/policies): fallback, retry, breaker and timeout,
// from outside to inside, with the figures of our defaults. Its breaker goes by a
// rate or by failures in a row, not by both; without the jitter that we give it,
// which is off unless asked for, and with our window, it would do worse.
func failsafeGo(trip func(circuitbreaker.Builder[struct{}]) circuitbreaker.Builder[struct{}], budgeted bool) func(*testing.T, *provider, *provider) client {
	d := resilience.Default
	return func(_ *testing.T, primary, backup *provider) client {
		retry := retrypolicy.NewBuilder[struct{}]().WithMaxRetries(d.Retries).
			WithBackoff(d.Backoff.Initial, d.Backoff.Max).WithJitterFactor(d.Backoff.Jitter)
		if budgeted {
			retry = retry.WithBudget(budget.NewBuilder().WithMaxRate(d.RetryBudget).Build())
		}
		longest := time.Duration(float64(d.Breaker.OpenFor) * (1 + d.Breaker.Jitter))
		breaker := trip(circuitbreaker.NewBuilder[struct{}]()).
			WithRandomDelay(d.Breaker.OpenFor, longest).WithSuccessThreshold(uint(d.Breaker.Probes))
		policies := []failsafe.Policy[struct{}]{retry.Build(), breaker.Build(), timeout.New[struct{}](d.Timeout)}
		if backup != nil {
			policies = append([]failsafe.Policy[struct{}]{
				fallback.NewWithFunc(func(x failsafe.Execution[struct{}]) (struct{}, error) { return backup.Ask(x.Context(), struct{}{}) }),
			}, policies...)
		}
		e := failsafe.With(policies...)
		return func(ctx context.Context) error {
			return e.WithContext(ctx).RunWithExecution(func(x failsafe.Execution[struct{}]) error {
				_, err := primary.Ask(x.Context(), struct{}{})
				return err
			})
		}
	}
}

// rateWindow is shorter than ours of 30 s, in which what went well before would
// keep a breaker closed for up to 15 s that goes by the rate alone.
const rateWindow = 10 * time.Second

func byRate(b circuitbreaker.Builder[struct{}]) circuitbreaker.Builder[struct{}] {
	d := resilience.Default.Breaker
	return b.WithFailureRateThreshold(d.Ratio, uint(d.MinCalls), rateWindow)
}

func inARow(b circuitbreaker.Builder[struct{}]) circuitbreaker.Builder[struct{}] {
	return b.WithFailureThreshold(uint(resilience.Default.Breaker.InARow))
}

// bare makes one attempt, with the time limit of the others.
func bare(_ *testing.T, primary, _ *provider) client {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, resilience.Default.Timeout)
		defer cancel()
		_, err := primary.Ask(ctx, struct{}{})
		return err
	}
}
