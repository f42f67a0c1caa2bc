package resilience_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

var opOnce = resilience.Op{Name: "test.once"}

func askOnce(ctx context.Context, g *resilience.Group[asker]) error {
	_, err := resilience.Call(ctx, g, opOnce, asker.Ask, "q")
	return err
}

// script answers one error after the other, then nil.
func script(errs ...error) *provider {
	p := &provider{}
	p.fn = func(ctx context.Context) error {
		n := int(p.calls.Load()) - 1
		if n >= len(errs) {
			return nil
		}
		if errs[n] == context.DeadlineExceeded {
			<-ctx.Done()
			return &fault.Error{Kind: fault.Uncertain, Deduped: true, Err: ctx.Err()}
		}
		return errs[n]
	}
	return p
}

var (
	deduped  = &fault.Error{Kind: fault.Uncertain, Deduped: true}
	declined = &fault.Error{Kind: fault.Rejected, Deduped: true}
	hangs    = context.DeadlineExceeded
)

func TestTrap12AnAmbiguousOnceOperationNeitherRepeatsNorFailsOver(t *testing.T) {
	one, two := script(fault.New(fault.Uncertain, nil)), &provider{}
	assert.ErrorIs(t, askOnce(t.Context(), group(t, resilience.Default, one, two)), fault.Uncertain)
	assert.EqualValues(t, 1, one.calls.Load())
	assert.Zero(t, two.calls.Load())
}

func TestTrap12ARefusalOfOursIsProvablyUnsentAndFailsOver(t *testing.T) {
	p := resilience.Default
	p.Rate, p.Burst = 0.001, 1
	one, two := &provider{}, &provider{}
	g := group(t, p, one, two)
	for range 2 {
		require.NoError(t, askOnce(t.Context(), g))
	}
	assert.EqualValues(t, 1, two.calls.Load())
}

// The history decides: whatever a repetition answers, the call stays where it
// may have acted.
func TestOnceAnAttemptMayHaveActedTheCallNeverChangesProvider(t *testing.T) {
	for name, c := range map[string]struct {
		answers []error
		want    fault.Kind // Unknown: a success
		calls   int64
	}{
		"repeated here, since the provider deduplicates":        {[]error{deduped}, fault.Unknown, 2},
		"repeated here after a time-out, though a backup waits": {[]error{hangs}, fault.Unknown, 2},
		"then refused for its rate":                             {[]error{deduped, fault.New(fault.RateLimited, nil)}, fault.Unknown, 3},
		"then unavailable for good": {
			[]error{deduped, fault.New(fault.Unavailable, nil), fault.New(fault.Unavailable, nil)}, fault.Uncertain, 3,
		},
		"then denied":                     {[]error{deduped, fault.New(fault.Denied, nil)}, fault.Uncertain, 2},
		"then unsupported":                {[]error{deduped, fault.New(fault.Unsupported, nil)}, fault.Uncertain, 2},
		"then declined, which settles it": {[]error{deduped, declined}, fault.Rejected, 2},
		"then declined without the key":   {[]error{deduped, fault.New(fault.Rejected, nil)}, fault.Uncertain, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				one, two := script(c.answers...), &provider{}
				err := askOnce(t.Context(), group(t, resilience.Default, one, two))
				if c.want == fault.Unknown {
					require.NoError(t, err)
				} else {
					assert.ErrorIs(t, err, c.want)
					assert.Equal(t, c.want == fault.Uncertain, fault.MayHaveActed(err))
				}
				assert.Equal(t, c.calls, one.calls.Load())
				assert.Zero(t, two.calls.Load())
			})
		})
	}
}

// The breaker opens between an ambiguous attempt and its repetition.
func TestARefusedRepetitionOfWhatMayHaveActedDoesNotFailOver(t *testing.T) {
	for name, p := range map[string]func(*resilience.Policy){
		"open breaker": func(p *resilience.Policy) { p.Breaker.InARow = 1 },
		"rate limit":   func(p *resilience.Policy) { p.Rate, p.Burst, p.MaxWait = 0.001, 1, 0 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				policy := resilience.Default
				p(&policy)
				one, two := script(deduped, deduped, deduped), &provider{}
				err := askOnce(t.Context(), group(t, policy, one, two))
				assert.ErrorIs(t, err, fault.Uncertain)
				assert.True(t, fault.MayHaveActed(err))
				assert.Zero(t, two.calls.Load())
			})
		})
	}
}

func TestACanceledOnceOperationSaysThatItMayHaveActed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		two := &provider{}
		err := askOnce(ctx, group(t, resilience.Default, &provider{fn: hang}, two))
		assert.ErrorIs(t, err, fault.Canceled)
		assert.True(t, fault.MayHaveActed(err))
		assert.Zero(t, two.calls.Load())
	})
}

func TestACallerWhoHasGoneIsNotServedByTheBackup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	one := &provider{fn: func(context.Context) error { cancel(); return fault.New(fault.Unavailable, nil) }}
	two := &provider{}
	p := resilience.Default
	p.Retries = 0
	assert.ErrorIs(t, ask(ctx, group(t, p, one, two)), fault.Canceled)
	assert.Zero(t, two.calls.Load())
}
