package email_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/queuetest"
	"github.com/smilefactory/integrations/resilience"
)

// office is a Client with its usual policy over two outboxes, whose worker keeps
// what became of the mails.
type office struct {
	*email.Client
	main, backup emailtest.Outbox
	queue        *queue.Engine
	attempts     []int // of each mail that went
	retried      int
	wait         time.Duration // the longest
}

const backlog = 200

func openOffice(t *testing.T, options ...email.Option) *office {
	t.Helper()
	o := &office{queue: queuetest.New()}
	var err error
	o.Client, err = email.New(email.Named("main", &o.main),
		append([]email.Option{email.WithBackup(email.Named("backup", &o.backup)), email.WithQueueFirst(o.queue)}, options...)...)
	require.NoError(t, err)
	for i := range backlog {
		_, err := o.Send(t.Context(), order(i))
		require.NoError(t, err)
	}
	return o
}

func (o *office) work(t *testing.T, long time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	seen := make(chan queue.Event)
	go func() {
		defer close(seen)
		assert.NoError(t, o.Run(ctx, queue.With(func(r *queue.RunOptions) { r.Observe = func(e queue.Event) { seen <- e } })))
	}()
	for e := range seen {
		switch e.Type {
		case queue.Finished:
			o.attempts = append(o.attempts, e.Attempt)
		case queue.Retried:
			o.retried++
			o.wait = max(o.wait, e.Wait)
		default:
			t.Errorf("%s: %v", e.Type, e.Err)
		}
	}
}

// While the breakers are open nobody is asked, which is no attempt: else a
// backlog would be dead after 30 refusals, a quarter of an hour.
func TestABacklogSurvivesAnOutageWithoutUsingUpItsAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := openOffice(t)
		o.main.Delay(time.Hour)
		o.backup.Delay(time.Hour)
		o.work(t, 2*time.Hour)
		assert.Empty(t, o.attempts)
		assert.LessOrEqual(t, o.retried, 8+2*int(2*time.Hour/(30*time.Second)), "of which each is one of the first, or a probe")

		o.main.Heal()
		o.backup.Heal()
		o.work(t, time.Minute)
		assert.Greater(t, len(o.attempts), backlog*3/4, "at once, but for those that were probes")
		o.work(t, time.Hour)
		assert.Len(t, o.attempts, backlog)
	})
}

func TestAWorkerThatWaitsForAProviderEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := openOffice(t)
		require.NoError(t, o.Control().Switch("main", resilience.ForcedOpen))
		require.NoError(t, o.Control().Switch("backup", resilience.ForcedOpen))
		start := time.Now()
		o.work(t, time.Minute)
		assert.Equal(t, time.Minute, time.Since(start))
		assert.Equal(t, 8, o.retried, "one of each worker")
	})
}

// Retry-After is the least that a provider wants, and no reason to use up 30
// attempts in half a minute.
func TestAProviderThatAlwaysAsksForASecondUsesUpNoMailsAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := openOffice(t)
		busy := &fault.Error{Kind: fault.RateLimited, RetryAfter: time.Second, Err: errors.New("slow down")}
		o.main.FailAlways(busy)
		o.backup.FailAlways(busy)
		o.work(t, time.Hour)
		assert.Greater(t, o.wait, 20*time.Minute)
		o.main.Heal()
		o.work(t, time.Hour)
		assert.Len(t, o.attempts, backlog)
	})
}

// A rate limit of ours paces the workers, and pushes no mail back.
func TestARateLimitUsesUpNoAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := resilience.Default
		policy.Rate, policy.Burst = 1, 1
		o := openOffice(t, email.WithPolicy(policy))
		o.work(t, backlog/2*time.Second) // at two providers
		assert.LessOrEqual(t, o.retried, 8, "those in hand at the end")
		assert.Greater(t, len(o.attempts), backlog*9/10)
	})
}

// One that goes at most once isn't kept in a worker's hands, where its death would
// make it look as if it may have gone.
func TestAMailThatGoesAtMostOnceIsGivenBackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDesk(t, email.WithQueueFirst)
		m := order(1)
		m.AtMostOnce = true
		_, err := d.Send(t.Context(), m)
		require.NoError(t, err)
		d.outOfService(t)
		d.work(t, 100*time.Millisecond)
		s, err := d.queue.Stats(t.Context())
		require.NoError(t, err)
		assert.Equal(t, queue.Stats{Waiting: 1}, s)
	})
}

func (d *desk) outOfService(t *testing.T) {
	t.Helper()
	require.NoError(t, d.Control().Switch("main", resilience.ForcedOpen))
	require.NoError(t, d.Control().Switch("backup", resilience.ForcedOpen))
}

func TestAMailExpiresWhileAWorkerWaitsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDesk(t, email.WithQueueFirst)
		m := order(1)
		m.Expires = time.Now().Add(time.Minute)
		_, err := d.Send(t.Context(), m)
		require.NoError(t, err)
		d.outOfService(t)
		d.work(t, 61*time.Second)
		require.Len(t, d.dead(t), 1)
		assert.Contains(t, d.dead(t)[0].Reason, queue.ReasonExpired)
		assert.WithinRange(t, d.dead(t)[0].Died, m.Expires, m.Expires.Add(time.Second))
	})
}

// A tenant that has used up a limit of its own keeps no worker from the others.
func TestATenantsOwnLimitHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := resilience.Default
		policy.PerKey = &resilience.Policy{Rate: 0.01, Burst: 1}
		o := openOffice(t, email.WithPolicy(policy))
		flood := resilience.WithTenant(t.Context(), "flood")
		for i := range backlog {
			m := order(backlog + i)
			m.Priority = 10
			_, err := o.Send(flood, m)
			require.NoError(t, err)
		}
		o.work(t, time.Second)
		assert.GreaterOrEqual(t, len(o.attempts), backlog)
	})
}
