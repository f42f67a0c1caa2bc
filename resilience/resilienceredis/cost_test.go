package resilienceredis_test

import (
	"context"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/resilienceredis"
)

func takeN(t *testing.T, l *resilienceredis.Limiter, n int) time.Duration {
	t.Helper()
	wait, err := l.TakeN(t.Context(), "ai", n)
	require.NoError(t, err)
	return wait
}

func settle(t *testing.T, l *resilienceredis.Limiter, n int) {
	t.Helper()
	require.NoError(t, l.Settle(t.Context(), "ai", n))
}

// step is one call of a limit of 10 a second, 5 at once.
type step struct {
	after  time.Duration
	settle int
	take   int // none where it is 0
	wait   time.Duration
}

const ms = time.Millisecond

var costs = map[string][]step{
	"a cost is granted as a whole, and a refused one takes nothing": {
		{take: 3}, {take: 3, wait: 100 * ms}, {take: 3, wait: 100 * ms}, {take: 2}, {take: 1, wait: 100 * ms},
	},
	"the wait is for all of the cost": {
		{take: 5}, {take: 5, wait: 500 * ms}, {after: 499 * ms, take: 5, wait: ms}, {take: 1}, {take: 4, wait: ms}, {after: ms, take: 4},
	},
	"what was spent beyond the limit is owed": {
		{take: 1}, {settle: 10}, {take: 1, wait: 700 * ms}, {after: 600 * ms, take: 1, wait: 100 * ms}, {after: 100 * ms, take: 1}, {take: 1, wait: 100 * ms},
	},
	"what was spent within the limit can't be taken any more": {
		{take: 1}, {settle: 3}, {take: 2, wait: 100 * ms}, {take: 1},
	},
	"what is given back can be taken again": {
		{take: 5}, {settle: -3}, {take: 3}, {take: 1, wait: 100 * ms},
	},
	"what is given back pays a debt first": {
		{settle: 10}, {settle: -3}, {take: 1, wait: 300 * ms},
	},
	"giving back fills up to the burst": {
		{take: 1}, {settle: -100}, {take: 5}, {take: 1, wait: 100 * ms},
	},
	"an unused limit has nothing to be given back": {
		{settle: -5}, {take: 5}, {take: 1, wait: 100 * ms},
	},
	"what has come back by itself isn't given back a second time": {
		{take: 5}, {after: 300 * ms, settle: -5}, {after: 100 * ms, take: 5}, {take: 1, wait: 100 * ms},
	},
	"a debt is bounded by what the rate gives in an hour": {
		{take: 5}, {settle: math.MaxInt}, {settle: math.MaxInt}, {take: 1, wait: time.Hour + 100*ms}, {after: time.Hour, settle: -5}, {take: 5},
	},
	"giving back everything and more is no credit": {
		{settle: math.MinInt}, {take: 5}, {take: 1, wait: 100 * ms},
	},
	"where the true cost was taken nothing changes": {
		{take: 5}, {settle: 0}, {take: 1, wait: 100 * ms},
	},
}

func TestACostOverRedis(t *testing.T) {
	for name, steps := range costs {
		t.Run(name, func(t *testing.T) {
			server, c := start(t)
			l := patient(t, c, resilienceredis.LimiterConfig{Rate: 10, Burst: 5, WhenDown: resilienceredis.FailClosed})
			now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
			for i, s := range steps {
				now = now.Add(s.after)
				server.SetTime(now)
				settle(t, l, s.settle)
				if s.take > 0 {
					require.Equal(t, s.wait, takeN(t, l, s.take), "step %d", i+1)
				}
			}
		})
	}
}

func TestACostWhileRedisIsDown(t *testing.T) {
	for name, steps := range costs {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := hanging(t)
				defer c.Close()
				l := limiter(t, c, resilienceredis.LimiterConfig{Rate: 10, Burst: 5, Backoff: 24 * time.Hour})
				take(t, l, "ses") // finds out that Redis is down
				for i, s := range steps {
					time.Sleep(s.after)
					settle(t, l, s.settle)
					if s.take > 0 {
						require.Equal(t, s.wait, takeN(t, l, s.take).Round(time.Microsecond), "step %d", i+1)
					}
				}
			})
		})
	}
}

func TestACostAboveTheShareIsGrantedAndTheRestIsOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hanging(t)
		defer c.Close()
		l := limiter(t, c, resilienceredis.LimiterConfig{Rate: 40, Burst: 8, Share: 4, Backoff: time.Hour})
		require.Zero(t, takeN(t, l, 8), "of a share of 2 at once")
		require.Equal(t, 700*ms, takeN(t, l, 1).Round(time.Microsecond))
		wait := takeN(t, l, 8)
		require.Equal(t, 800*ms, wait.Round(time.Microsecond), "when the share is unused")
		time.Sleep(wait)
		require.Zero(t, takeN(t, l, 8))
	})
}

func TestACostThatCanNeverBeGrantedIsRefusedAtOnce(t *testing.T) {
	for n, kind := range map[int]fault.Kind{math.MinInt: fault.Invalid, -1: fault.Invalid, 0: fault.Invalid, 6: fault.Unsupported, math.MaxInt: fault.Unsupported} {
		for name, whenDown := range map[string]resilienceredis.Fallback{"share": resilienceredis.LocalShare, "open": resilienceredis.FailOpen, "closed": resilienceredis.FailClosed} {
			t.Run(strconv.Itoa(n)+" "+name, func(t *testing.T) {
				server, c := start(t)
				l := patient(t, c, resilienceredis.LimiterConfig{Rate: 10, Burst: 5, WhenDown: whenDown})
				_, err := l.TakeN(t.Context(), "ai", n)
				require.ErrorIs(t, err, kind)
				assert.ErrorContains(t, err, strconv.Itoa(n))
				if n > 5 {
					assert.ErrorContains(t, err, "Burst (5)")
				}
				assert.Zero(t, server.CommandCount(), "Redis isn't asked")
				assert.Zero(t, takeN(t, l, 5), "and nothing was taken")
			})
		}
	}
}

func TestAKeyLastsAsLongAsItsDebt(t *testing.T) {
	const key = "resilience:limit:ai"
	for name, row := range map[string]struct {
		take, settle int
		lasts        time.Duration
	}{
		"what was taken":            {take: 3, lasts: 300 * ms},
		"a debt":                    {take: 3, settle: 100, lasts: 10_300 * ms},
		"a debt that is bounded":    {take: 3, settle: math.MaxInt, lasts: time.Hour + 500*ms},
		"some of it is given back":  {take: 3, settle: -1, lasts: 200 * ms},
		"everything is given back":  {take: 3, settle: -3},
		"more than that":            {take: 3, settle: -4},
		"a settlement without more": {settle: 2, lasts: 200 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			server, c := start(t)
			l := patient(t, c, resilienceredis.LimiterConfig{Rate: 10, Burst: 5, WhenDown: resilienceredis.FailClosed})
			if row.take > 0 {
				require.Zero(t, takeN(t, l, row.take))
			}
			settle(t, l, row.settle)
			assert.Equal(t, row.lasts > 0, server.Exists(key))
			assert.Equal(t, row.lasts, server.TTL(key))
		})
	}
}

func TestADebtOutlastsAClockThatWasPutBackAndNotLongerThanItself(t *testing.T) {
	server, c := start(t)
	l := patient(t, c, resilienceredis.LimiterConfig{Rate: 10, Burst: 5, WhenDown: resilienceredis.FailClosed})
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	server.SetTime(now)
	settle(t, l, 25) // 20 are owed
	now = now.Add(-time.Hour)
	server.SetTime(now)
	require.Equal(t, 2100*ms, takeN(t, l, 1))
	server.SetTime(now.Add(2 * time.Second))
	require.Equal(t, 100*ms, takeN(t, l, 1))
	server.SetTime(now.Add(2100 * ms))
	require.Zero(t, takeN(t, l, 1))
}

func TestSettlingWhileRedisIsDown(t *testing.T) {
	for name, row := range map[string]struct {
		whenDown resilienceredis.Fallback
		errs     bool
	}{
		"corrects the local share":             {whenDown: resilienceredis.LocalShare},
		"has nothing to correct with FailOpen": {whenDown: resilienceredis.FailOpen},
		"errs with FailClosed":                 {whenDown: resilienceredis.FailClosed, errs: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := hanging(t)
				defer c.Close()
				told := 0
				l := limiter(t, c, resilienceredis.LimiterConfig{Rate: 10, Burst: 5, WhenDown: row.whenDown, OnError: func(error) { told++ }})
				for i := range 10 {
					start := time.Now()
					err := l.Settle(t.Context(), "ai", 1)
					assert.Equal(t, row.errs, err != nil)
					if i == 0 {
						assert.Equal(t, 50*ms, time.Since(start), "it waits for one Timeout")
					} else {
						assert.Zero(t, time.Since(start), "and then Redis is left alone")
					}
				}
				assert.Equal(t, 1, told)
			})
		})
	}
}

func TestACallerWhoHasLeftStillPays(t *testing.T) {
	_, c := start(t)
	l := patient(t, c, resilienceredis.LimiterConfig{Rate: 10, Burst: 5, WhenDown: resilienceredis.FailClosed})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, l.Settle(ctx, "ai", 5))
	assert.Equal(t, 100*ms, takeN(t, l, 1))
}

// event is what was taken (granted), or settled.
type event struct {
	at      time.Time
	cost    int
	granted bool
}

// checkStretches holds that in no stretch of time that ends with a grant more was
// spent than the burst and the rate allow, what was given back taken off.
func checkStretches(t *testing.T, events []event, perSecond, burst float64) {
	t.Helper()
	for i, first := range events {
		sum := 0
		for _, e := range events[i:] {
			sum += e.cost
			most := burst + perSecond*e.at.Sub(first.at).Seconds()
			if e.granted && float64(sum) > most+1e-6 {
				t.Fatalf("%d spent in %v, where %.2f are allowed", sum, e.at.Sub(first.at), most)
			}
		}
	}
}

func TestNoStretchOfTimeCostsMoreThanItsShare(t *testing.T) {
	server, c := start(t)
	const perSecond, burst = 70, 40
	l := patient(t, c, resilienceredis.LimiterConfig{Rate: perSecond, Burst: burst, WhenDown: resilienceredis.FailClosed})
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	begin, spent, grants := now, 0, 0
	var events []event
	for range 1500 {
		now = now.Add(time.Duration(rand.ExpFloat64() * float64(200*ms))).Truncate(time.Microsecond)
		server.SetTime(now)
		cost := 1 + rand.IntN(burst)
		if takeN(t, l, cost) > 0 {
			continue
		}
		events = append(events, event{now, cost, true})
		off := rand.IntN(2*cost) - cost + rand.IntN(cost) // it has cost between nothing and thrice as much
		settle(t, l, off)
		events = append(events, event{now, off, false})
		spent, grants = spent+cost+off, grants+1
	}
	checkStretches(t, events, perSecond, burst)
	rate := float64(spent) / now.Sub(begin).Seconds()
	t.Logf("%d calls granted in %v, which cost %.2f a second", grants, now.Sub(begin), rate)
	assert.Greater(t, grants, 300)
	assert.Greater(t, rate, perSecond/2., "and the rate is used")
}

func TestAGroupTakesItsCostsAndSettlesThem(t *testing.T) {
	_, c := start(t)
	policy := resilience.Default
	l := patient(t, c, resilienceredis.LimiterConfig{Rate: 10, Burst: 5, WhenDown: resilienceredis.FailClosed})
	policy.Limiter, policy.MaxWait, policy.Retries = l, 0, 0
	type provider = func(context.Context) error
	g, err := resilience.New(policy, []resilience.Member[provider]{{Name: "ai", Provider: func(ctx context.Context) error {
		resilience.Spent(ctx, 12)
		return nil
	}}})
	require.NoError(t, err)
	call := func(cost int) error {
		_, err := resilience.Do(resilience.WithCost(t.Context(), cost), g, resilience.Op{Name: "ai.complete"}, func(ctx context.Context, p provider) (struct{}, error) { return struct{}{}, p(ctx) })
		return err
	}
	require.ErrorIs(t, call(6), fault.Unsupported)
	require.NoError(t, call(4))
	require.ErrorIs(t, call(1), resilience.ErrLimited)
	assert.Equal(t, 800*ms, takeN(t, l, 1), "12 of 5 are spent")
}
