package email_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/fault"
)

func TestTheFakeConforms(t *testing.T) {
	emailtest.Run(t, func(*testing.T) emailtest.Subject {
		var o emailtest.Outbox
		return subject(&o, &o, "outbox")
	})
}

func TestTheClientConforms(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject {
		var o emailtest.Outbox
		client, err := email.New(&o)
		require.NoError(t, err)
		s := subject(&o, client, "outbox")
		s.Retries = true
		return s
	})
}

func subject(o *emailtest.Outbox, sender email.Sender, name string) emailtest.Subject {
	return emailtest.Subject{
		Sender: sender, Name: name, Sent: o.Sent,
		Break: func(t emailtest.Trouble) bool {
			kind, ok := map[emailtest.Trouble]fault.Kind{
				emailtest.Unreachable: fault.Unavailable, emailtest.ServerError: fault.Uncertain, emailtest.Throttled: fault.RateLimited,
				emailtest.BadCredentials: fault.Denied, emailtest.Blocked: fault.Rejected, emailtest.Reset: fault.Uncertain,
			}[t]
			if ok {
				o.Fail(fault.New(kind, nil))
			}
			return ok
		},
		Heal: func() { o.FailAlways(nil) },
	}
}

func TestAMailThatMustGoAtMostOnceIsNotRepeatedWhereItMayHaveGone(t *testing.T) {
	for once, want := range map[bool]int{true: 0, false: 1} {
		first, second := &emailtest.Outbox{}, &named{Outbox: &emailtest.Outbox{}}
		first.FailAlways(fault.New(fault.Uncertain, nil))
		client, err := email.New(first, email.WithBackup(second))
		require.NoError(t, err)
		m := &email.Message{
			From: email.Address{Address: "ada@example.com"}, To: []email.Address{{Address: "grace@example.org"}}, Subject: "s", Text: "t", AtMostOnce: once,
		}
		_, err = client.Send(t.Context(), m)
		if once {
			assert.ErrorIs(t, err, fault.Uncertain)
		} else {
			assert.NoError(t, err)
		}
		assert.Len(t, second.Sent(), want)
	}
}

type named struct{ *emailtest.Outbox }

func (*named) Name() string { return "backup" }
