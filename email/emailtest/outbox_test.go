package emailtest_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/fault"
)

func to(address string) *email.Message {
	return &email.Message{
		From: email.Address{Address: "ada@example.com"}, To: []email.Address{{Address: address}}, Subject: "Hello", Text: "Hi",
		Attachments: []email.Attachment{{Name: "a.txt", Data: []byte("abc")}}, Headers: map[string]string{"X-A": "1"}, Tags: []string{"t"},
	}
}

func TestAnOutboxFailsAsScripted(t *testing.T) {
	for name, tt := range map[string]struct {
		script func(*emailtest.Outbox)
		want   []fault.Kind // of each mail in turn; a success where it is fault.Unknown
		kept   int
	}{
		"by default it takes every mail": {func(*emailtest.Outbox) {}, []fault.Kind{0, 0}, 2},
		"Fail is for one mail each":      {func(o *emailtest.Outbox) { o.Fail(fault.Denied, nil, fault.Exhausted) }, []fault.Kind{fault.Denied, 0, fault.Exhausted, 0}, 2},
		"Fail adds to what is scripted":  {func(o *emailtest.Outbox) { o.Fail(fault.Denied); o.Fail(fault.Exhausted) }, []fault.Kind{fault.Denied, fault.Exhausted, 0}, 1},
		"FailAlways is for all others":   {func(o *emailtest.Outbox) { o.FailAlways(fault.Denied); o.Fail(nil) }, []fault.Kind{0, fault.Denied, fault.Denied}, 1},
		"FailAlways ends with nil":       {func(o *emailtest.Outbox) { o.FailAlways(fault.Denied); o.FailAlways(nil) }, []fault.Kind{0}, 1},
		"FailAfter keeps the mail":       {func(o *emailtest.Outbox) { o.FailAfter(fault.Uncertain) }, []fault.Kind{fault.Uncertain, 0}, 2},
		"Heal drops everything": {func(o *emailtest.Outbox) {
			o.FailAlways(fault.Denied)
			o.Fail(fault.Denied)
			o.Delay(time.Hour)
			o.Heal()
		}, []fault.Kind{0, 0}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			var o emailtest.Outbox
			tt.script(&o)
			for i, want := range tt.want {
				receipt, err := o.Send(t.Context(), to("grace@example.org"))
				if want == fault.Unknown {
					require.NoError(t, err, "mail %d", i)
					assert.NotEmpty(t, receipt.ID)
				} else {
					require.ErrorIs(t, err, want, "mail %d", i)
				}
			}
			assert.Len(t, o.Sent(), tt.kept)
		})
	}
}

func TestAWrongMailUsesUpNothingOfTheScript(t *testing.T) {
	var o emailtest.Outbox
	o.Fail(fault.Denied)
	_, err := o.Send(t.Context(), to("nobody"))
	require.ErrorIs(t, err, fault.Invalid)
	_, err = o.Send(t.Context(), to("grace@example.org"))
	require.ErrorIs(t, err, fault.Denied)
}

func TestADelayIsWaitedForUntilTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o emailtest.Outbox
		o.Delay(time.Minute)
		start := time.Now()
		_, err := o.Send(t.Context(), to("grace@example.org"))
		require.NoError(t, err)
		assert.Equal(t, time.Minute, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		_, err = o.Send(ctx, to("grace@example.org"))
		require.ErrorIs(t, err, fault.Uncertain)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(start))
		assert.Len(t, o.Sent(), 1, "what was left isn't kept")
	})
}

func TestAnOutboxKeepsCopies(t *testing.T) {
	var o emailtest.Outbox
	m := to("grace@example.org")
	_, err := o.Send(t.Context(), m)
	require.NoError(t, err)
	m.To[0].Address, m.Attachments[0].Data[0], m.Headers["X-A"], m.Tags[0] = "other@example.org", 'x', "2", "u"
	kept := o.Sent()[0]
	assert.NotEmpty(t, kept.ID)
	kept.ID, m = "", to("grace@example.org")
	assert.Equal(t, m, kept)
	o.Sent()[0] = nil
	assert.NotNil(t, o.Sent()[0], "the list is the caller's own")
}

// failing is a testing.TB that notes a failure instead of failing.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestRequireSentFailsUnlessExactlySoManyMailsWentThere(t *testing.T) {
	var o emailtest.Outbox
	for _, address := range []string{"a@example.org", "a@example.org", "b@example.org"} {
		_, err := o.Send(t.Context(), to(address))
		require.NoError(t, err)
	}
	hidden := to("c@example.org")
	hidden.Cc, hidden.Bcc = []email.Address{{Address: "cc@example.org"}}, []email.Address{{Address: "bcc@example.org"}}
	_, err := o.Send(t.Context(), hidden)
	require.NoError(t, err)

	assert.Len(t, o.RequireSent(t, "a@example.org", 2), 2)
	assert.Equal(t, "b@example.org", o.RequireSent(t, "b@example.org", 1)[0].To[0].Address)
	o.RequireSent(t, "cc@example.org", 1)
	o.RequireSent(t, "bcc@example.org", 1)
	o.RequireSent(t, "nobody@example.org", 0)
	for address, n := range map[string]int{"a@example.org": 1, "b@example.org": 2, "nobody@example.org": 1, "bcc@example.org": 0} {
		tb := &failing{TB: t}
		var done sync.WaitGroup
		done.Go(func() { o.RequireSent(tb, address, n) })
		done.Wait()
		assert.Contains(t, tb.said, address)
		assert.Contains(t, tb.said, fmt.Sprintf("want %d", n))
	}
}

func TestAnOutboxCountsExactlyUnderManySenders(t *testing.T) {
	var o emailtest.Outbox
	const senders, each, failures = 8, 100, 300
	for range failures {
		o.Fail(fault.Unavailable)
	}
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for range each {
				_, _ = o.Send(t.Context(), to("grace@example.org"))
				_ = o.Sent()
			}
		})
	}
	wg.Wait()
	o.RequireSent(t, "grace@example.org", senders*each-failures)
}
