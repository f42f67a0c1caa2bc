package resend_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/resend"
	"github.com/smilefactory/integrations/resilience"
)

// behind is Resend with a backup, in a Client that may be inside others.
func behind(t *testing.T, deep int) (*bench, *emailtest.Outbox, *email.Client) {
	t.Helper()
	b, backup := open(t), &emailtest.Outbox{}
	p := resilience.Default
	p.Timeout, p.Backoff = 200*time.Millisecond, resilience.Backoff{Initial: time.Millisecond}
	mail, err := email.New(b.Sender, email.WithBackup(backup), email.WithPolicy(p))
	require.NoError(t, err)
	for range deep {
		mail, err = email.New(mail, email.WithPolicy(p))
		require.NoError(t, err)
	}
	return b, backup, mail
}

// A mail that must go at most once is repeated where it may have gone, under the
// same key: it neither arrives twice nor is it lost.
func TestAnAmbiguousMailThatGoesAtMostOnceIsRepeatedAtResendAlone(t *testing.T) {
	for name, steps := range map[string][]sim.Step{
		"taken, and the answer was lost":      {{Reset: sim.AfterActing}},
		"twice":                               {{Reset: sim.AfterActing}, {Reset: sim.AfterActing}},
		"never taken":                         {{Reset: sim.BeforeActing}},
		"taken, then silence":                 {{Hang: sim.AfterActing}},
		"silence, and not taken":              {{Hang: sim.BeforeActing}},
		"taken, and an internal error":        {{Status: http.StatusInternalServerError, Acted: true}},
		"taken, lost, then too many requests": {{Reset: sim.AfterActing}, {Status: http.StatusTooManyRequests}},
		"taken, lost, then no connection":     {{Reset: sim.AfterActing}, {Reset: sim.BeforeActing}},
		"another request is in progress":      {simulator.Error(http.StatusConflict, "concurrent_idempotent_requests", "")},
	} {
		for _, deep := range []int{0, 2} {
			t.Run(name, func(t *testing.T) {
				b, backup, mail := behind(t, deep)
				b.sim.Next(steps...)
				m := full()
				m.AtMostOnce, m.SendAt = true, time.Time{}
				receipt, err := mail.Send(t.Context(), m)
				require.NoError(t, err)
				assert.Equal(t, len(steps)+1, receipt.Attempts)
				assert.Equal(t, 1, b.sim.Mails.Len(), "it arrived once")
				assert.Equal(t, b.sim.Mails.All()[0].ProviderID, receipt.ProviderID)
				assert.Empty(t, backup.Sent())
			})
		}
	}
}

func TestAnAmbiguousMailNeverGoesToTheBackup(t *testing.T) {
	for name, later := range map[string]sim.Step{
		"resets":               {Reset: sim.AfterActing},
		"a revoked key":        simulator.Error(http.StatusForbidden, "suspended_api_key", ""),
		"a quota that is gone": simulator.Error(http.StatusTooManyRequests, "daily_quota_exceeded", ""),
		"a refusal":            simulator.Error(http.StatusUnavailableForLegalReasons, "security_error", ""),
		"another mail's key":   simulator.Error(http.StatusConflict, "invalid_idempotent_request", ""),
	} {
		t.Run(name, func(t *testing.T) {
			b, backup, mail := behind(t, 0)
			b.sim.Next(sim.Step{Reset: sim.AfterActing})
			b.sim.Always(later)
			m := full()
			m.AtMostOnce = true
			_, err := mail.Send(t.Context(), m)
			require.Error(t, err)
			assert.True(t, fault.MayHaveActed(err), "%v", err)
			assert.ErrorIs(t, err, fault.Uncertain)
			assert.Equal(t, 1, b.sim.Mails.Len())
			assert.Empty(t, backup.Sent())
		})
	}
}

func TestWhatProvablyDidNotGoGoesToTheBackup(t *testing.T) {
	for name, step := range map[string]sim.Step{
		"a revoked key":        simulator.Error(http.StatusForbidden, "suspended_api_key", ""),
		"an unverified domain": simulator.Error(http.StatusForbidden, "validation_error", ""),
		"too many requests":    simulator.RateLimited(time.Minute),
	} {
		t.Run(name, func(t *testing.T) {
			b, backup, mail := behind(t, 0)
			b.sim.Always(step)
			m := full()
			m.AtMostOnce = true
			receipt, err := mail.Send(t.Context(), m)
			require.NoError(t, err)
			assert.Equal(t, "outbox", receipt.Provider)
			assert.Len(t, backup.Sent(), 1)
			assert.Zero(t, b.sim.Mails.Len())
		})
	}
}

// Where a duplicate does no harm, the key still avoids one.
func TestAMailThatGoesAtLeastOnceArrivesOnceWhileResendAnswersAtAll(t *testing.T) {
	b, backup, mail := behind(t, 0)
	b.sim.Next(sim.Step{Reset: sim.AfterActing}, sim.Step{Reset: sim.AfterActing})
	receipt, err := mail.Send(t.Context(), full())
	require.NoError(t, err)
	assert.Equal(t, "resend", receipt.Provider)
	assert.Equal(t, 1, b.sim.Mails.Len())
	assert.Equal(t, 2, b.sim.Replayed("k-1"))
	assert.Empty(t, backup.Sent())
}

func TestAMailWithoutAnIDHasOneKeyInAllAttempts(t *testing.T) {
	b, _, mail := behind(t, 0)
	b.sim.Next(sim.Step{Reset: sim.AfterActing})
	m := full()
	m.ID, m.IdempotencyKey = "", ""
	receipt, err := mail.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Equal(t, 1, b.sim.Mails.Len())
	assert.Equal(t, receipt.ID, b.sim.Mails.All()[0].Key)
}
