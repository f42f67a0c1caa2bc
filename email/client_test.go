package email_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheFakeConforms(t *testing.T) {
	emailtest.Run(t, func(*testing.T) emailtest.Subject {
		var o emailtest.Outbox
		return subject(&o, &o, "outbox")
	})
}

func TestTheClientConforms(t *testing.T) {
	for name, deep := range map[string]int{"outbox": 0, "email/outbox": 1, "email/email/outbox": 2} {
		t.Run(name, func(t *testing.T) {
			emailtest.Run(t, func(t *testing.T) emailtest.Subject {
				var o emailtest.Outbox
				client, err := email.New(&o, email.WithPolicy(quick()))
				require.NoError(t, err)
				for range deep {
					client, err = email.New(client, email.WithPolicy(quick()))
					require.NoError(t, err)
				}
				s := subject(&o, client, name)
				s.Retries = true
				return s
			})
		})
	}
}

// quick is the default policy with shorter waits between attempts.
func quick() resilience.Policy {
	p := resilience.Default
	p.Backoff = resilience.Backoff{Initial: time.Millisecond}
	return p
}

func subject(o *emailtest.Outbox, sender email.Sender, name string) emailtest.Subject {
	return emailtest.Subject{
		Sender: sender, Name: name, Sent: o.Sent, Heal: o.Heal,
		Break: func(t emailtest.Trouble) bool {
			switch t { //nolint:exhaustive // the others are kinds of errors
			case emailtest.Hang:
				o.Delay(time.Hour)
				return true
			case emailtest.Slow:
				o.Delay(150 * time.Millisecond)
				return true
			case emailtest.ResetAfter, emailtest.Garbled:
				o.FailAfter(fault.New(fault.Uncertain, nil))
				return true
			}
			kind, ok := map[emailtest.Trouble]fault.Kind{
				emailtest.Unreachable: fault.Unavailable, emailtest.NoCredentials: fault.Denied, emailtest.ServerError: fault.Uncertain, emailtest.Throttled: fault.RateLimited,
				emailtest.BadCredentials: fault.Denied, emailtest.Blocked: fault.Rejected, emailtest.Reset: fault.Uncertain,
			}[t]
			if ok {
				o.FailAlways(fault.New(kind, nil))
			}
			return ok
		},
	}
}

func TestAMailThatMustGoAtMostOnceIsNotRepeatedWhereItMayHaveGone(t *testing.T) {
	for once, want := range map[bool]int{true: 0, false: 1} {
		first, second := &emailtest.Outbox{}, &emailtest.Outbox{}
		first.FailAlways(fault.New(fault.Uncertain, nil))
		client, err := email.New(first, email.WithBackup(email.Named("backup", second)), email.WithPolicy(quick()))
		require.NoError(t, err)
		m := hello()
		m.AtMostOnce = once
		_, err = client.Send(t.Context(), m)
		if once {
			require.ErrorIs(t, err, fault.Uncertain)
		} else {
			require.NoError(t, err)
		}
		assert.Len(t, second.Sent(), want)
	}
}

func TestAMailThatExpiresBetweenAttemptsIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := &emailtest.Outbox{}, &emailtest.Outbox{}
		first.Delay(time.Hour)
		client, err := email.New(first, email.WithBackup(email.Named("backup", second)))
		require.NoError(t, err)
		m := hello()
		m.Expires = time.Now().Add(2 * time.Second) // less than the three of an attempt
		_, err = client.Send(t.Context(), m)
		require.ErrorIs(t, err, email.ErrExpired)
		assert.Empty(t, second.Sent())
	})
}
