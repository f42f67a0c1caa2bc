package email_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
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

// desk is a Client over two outboxes, with a queue in memory.
type desk struct {
	*email.Client
	main, backup emailtest.Outbox
	queue        *queue.Engine
}

var errDown = fault.New(fault.Unavailable, errors.New("down"))

func openDesk(t *testing.T, how func(queue.Queue) email.Option, options ...email.Option) *desk {
	t.Helper()
	d := &desk{queue: queuetest.New()}
	p := resilience.Default
	p.Retries, p.Breaker = 0, resilience.Breaker{}
	all := append([]email.Option{email.WithBackup(email.Named("backup", &d.backup)), email.WithPolicy(p), how(d.queue)}, options...)
	var err error
	d.Client, err = email.New(email.Named("main", &d.main), all...)
	require.NoError(t, err)
	return d
}

func (d *desk) down(err error) { d.main.FailAlways(err); d.backup.FailAlways(err) }

// work runs the Client's worker for that long.
func (d *desk) work(t *testing.T, long time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	require.NoError(t, d.Run(ctx))
}

func (d *desk) dead(t *testing.T) []queue.Dead {
	t.Helper()
	all, err := d.queue.Dead(t.Context(), "", 100)
	require.NoError(t, err)
	return all
}

func order(n int) *email.Message {
	return &email.Message{
		ID: fmt.Sprintf("order-%d", n), From: email.Address{Address: "shop@example.com"}, To: []email.Address{{Address: "ada@example.org"}},
		Subject: fmt.Sprintf("Order %d", n), Text: "Thank you.",
	}
}

func subjects(o *emailtest.Outbox) []string {
	var all []string
	for _, m := range o.Sent() {
		all = append(all, m.Subject)
	}
	return all
}

func TestAMailThatNobodyTakesIsQueuedAndGoesOutLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDesk(t, email.WithQueue)
		d.main.FailAlways(errDown)
		d.backup.FailAlways(fault.New(fault.Denied, errors.New("revoked")))
		r, err := d.Send(t.Context(), order(1))
		require.NoError(t, err)
		assert.Equal(t, email.StatusQueued, r.Status)
		assert.Equal(t, email.StatusQueued, r.Recipients[0].Status)
		assert.Equal(t, "order-1", r.ID)
		assert.Equal(t, 2, r.Attempts)
		require.Len(t, r.Faults, 2, "each provider's last fault")
		assert.Equal(t, []string{"main", "backup"}, []string{r.Faults[0].Provider, r.Faults[1].Provider})
		assert.ErrorIs(t, r.Faults[1], fault.Denied)

		d.work(t, 10*time.Second)
		assert.Empty(t, d.main.Sent())
		d.down(nil)
		d.work(t, time.Hour)
		assert.Equal(t, []string{"Order 1"}, subjects(&d.main))
		assert.Empty(t, d.dead(t))
	})
}

func TestWhatIsNotWorthQueueingIsAnError(t *testing.T) {
	for _, k := range []fault.Kind{fault.Invalid, fault.Rejected, fault.NotFound, fault.Conflict, fault.Unsupported} {
		d := openDesk(t, email.WithQueue)
		d.down(fault.New(k, nil))
		_, err := d.Send(t.Context(), order(1))
		assert.ErrorIs(t, err, k)
		s, err := d.queue.Stats(t.Context())
		require.NoError(t, err)
		assert.Zero(t, s)
	}
}

func TestACallerWithoutTimeLeftStillGetsHisMailQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDesk(t, email.WithQueue)
		d.down(fault.New(fault.Unavailable, nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, err := d.Send(ctx, order(1))
		require.NoError(t, err)
		assert.Equal(t, email.StatusQueued, r.Status)
	})
}

func TestAtMostOnceIsNeverQueuedWhereItMayHaveGone(t *testing.T) {
	d := openDesk(t, email.WithQueue)
	d.down(fault.New(fault.Uncertain, errors.New("reset")))
	m := order(1)
	m.AtMostOnce = true
	_, err := d.Send(t.Context(), m)
	assert.ErrorIs(t, err, fault.Uncertain)

	d.down(errDown)
	r, err := d.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Equal(t, email.StatusQueued, r.Status, "provably not sent")
}

func TestQueueFirstMakesEveryMailDurableBeforeAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDesk(t, email.WithQueueFirst)
		r, err := d.Send(t.Context(), order(1))
		require.NoError(t, err)
		assert.Equal(t, email.StatusQueued, r.Status)
		assert.Empty(t, d.main.Sent())
		d.work(t, time.Second)
		assert.Equal(t, []string{"Order 1"}, subjects(&d.main))
	})
}

func TestAQueuedMailThatMayHaveGoneAndGoesAtMostOnceIsListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDesk(t, email.WithQueueFirst)
		m := order(1)
		m.AtMostOnce = true
		d.main.Fail(errDown, fault.New(fault.Uncertain, errors.New("reset")))
		d.backup.FailAlways(errDown)
		_, err := d.Send(t.Context(), m)
		require.NoError(t, err)
		d.work(t, time.Minute)
		dead := d.dead(t)
		require.Len(t, dead, 1)
		assert.Equal(t, "order-1", dead[0].ID)
		assert.Equal(t, 2, dead[0].Attempt, "the first provably sent nothing, so there was a second")
		assert.Contains(t, dead[0].Reason, "may have been sent")
		assert.Empty(t, d.main.Sent())
	})
}

// A worker that dies while it sends leaves no word: the next one may not guess.
func TestAMailWhoseWorkerDiedGoesAgainOrIsListedAsItsPolicySays(t *testing.T) {
	for name, once := range map[string]bool{"at least once": false, "at most once": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &queuetest.Memory{}
				engine, err := queue.NewEngine(store)
				require.NoError(t, err)
				var box emailtest.Outbox
				c, err := email.New(&box, email.WithQueueFirst(engine))
				require.NoError(t, err)
				m := order(1)
				m.AtMostOnce = once
				_, err = c.Send(t.Context(), m)
				require.NoError(t, err)
				now := time.Now() // a worker claims it, and is never heard of again
				claimed, err := store.Claim(t.Context(), queue.Claim{Now: now, Until: now.Add(time.Minute), Kinds: []string{"email.send"}, N: 1})
				require.NoError(t, err)
				require.Len(t, claimed, 1)

				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				defer cancel()
				require.NoError(t, c.Run(ctx))
				dead, err := engine.Dead(t.Context(), "", 10)
				require.NoError(t, err)
				if once {
					assert.Empty(t, box.Sent())
					require.Len(t, dead, 1)
					assert.Contains(t, dead[0].Reason, "may have been sent")
				} else {
					assert.Len(t, box.Sent(), 1)
					assert.Empty(t, dead)
				}
			})
		})
	}
}

// While the keys of the queue can't be had nothing is sent, and no worker has died.
func TestAMailThatGoesAtMostOnceOutlastsAVaultThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := false
		keys := queue.Keys{Current: "k1", Key: func(context.Context, string) ([]byte, error) {
			if down {
				return nil, fault.New(fault.Unavailable, errors.New("the vault is sealed"))
			}
			return make([]byte, 32), nil
		}}
		q := queuetest.New(queue.WithKeys(keys))
		var box emailtest.Outbox
		c, err := email.New(&box, email.WithQueueFirst(q))
		require.NoError(t, err)
		m := order(1)
		m.AtMostOnce = true
		_, err = c.Send(t.Context(), m)
		require.NoError(t, err)
		for _, down = range []bool{true, false} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			require.NoError(t, c.Run(ctx))
			cancel()
		}
		assert.Len(t, box.Sent(), 1)
		dead, err := q.Dead(t.Context(), "", 10)
		require.NoError(t, err)
		assert.Empty(t, dead)
	})
}

func TestAStaleMailIsNotDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDesk(t, email.WithQueue)
		d.down(errDown)
		m := order(1)
		m.Expires = time.Now().Add(time.Minute)
		_, err := d.Send(t.Context(), m)
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		d.down(nil)
		d.work(t, time.Hour)
		assert.Empty(t, d.main.Sent())
		require.Len(t, d.dead(t), 1)
		assert.True(t, strings.HasPrefix(d.dead(t)[0].Reason, queue.ReasonExpired))
	})
}

func TestMailsToOneRecipientStayInOrderWhereAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDesk(t, email.WithQueueFirst)
		d.main.Fail(errDown, errDown)
		d.backup.Fail(errDown, errDown)
		for n := range 5 {
			m := order(n)
			m.InOrder = true
			_, err := d.Send(t.Context(), m)
			require.NoError(t, err)
		}
		d.work(t, time.Hour)
		assert.Equal(t, []string{"Order 0", "Order 1", "Order 2", "Order 3", "Order 4"}, subjects(&d.main))
	})
}

func TestSendLaterWaitsInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDesk(t, email.WithQueue)
		_, err := d.SendLater(t.Context(), order(1), time.Now().Add(30*24*time.Hour))
		require.NoError(t, err)
		d.work(t, 29*24*time.Hour)
		assert.Empty(t, d.main.Sent())
		d.work(t, 25*time.Hour)
		assert.Len(t, d.main.Sent(), 1)

		bare, err := email.New(&d.main)
		require.NoError(t, err)
		_, err = bare.SendLater(t.Context(), order(2), time.Now())
		assert.ErrorContains(t, err, "has no queue")
		assert.ErrorContains(t, bare.Run(t.Context()), "has no queue")
	})
}

// tx is a transaction that keeps jobs until it commits.
type tx struct{ jobs []queue.Job }

func (x *tx) Enqueue(_ context.Context, jobs ...queue.Job) ([]queue.Enqueued, error) {
	x.jobs = append(x.jobs, jobs...)
	return []queue.Enqueued{{ID: jobs[0].ID}}, nil
}

func TestSendTxIsPartOfTheCallersTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDesk(t, email.WithQueue)
		x := &tx{}
		r, err := d.SendTx(t.Context(), x, order(1))
		require.NoError(t, err)
		assert.Equal(t, email.StatusQueued, r.Status)
		d.work(t, time.Minute)
		assert.Empty(t, d.main.Sent(), "it has not been committed")
		_, err = d.queue.Enqueue(t.Context(), x.jobs...)
		require.NoError(t, err)
		d.work(t, time.Minute)
		assert.Len(t, d.main.Sent(), 1)
	})
}

func TestAnAttachmentThatOpensIsCopiedIntoTheQueueWithinItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDesk(t, email.WithQueueFirst)
		opened := 0
		file := func(size int) email.Attachment {
			return email.Attachment{Name: "report.csv", Open: func() (io.ReadCloser, error) {
				opened++
				return io.NopCloser(strings.NewReader(strings.Repeat("x", size))), nil
			}}
		}
		m := order(1)
		m.Attachments = []email.Attachment{file(1 << 20)}
		_, err := d.Send(t.Context(), m)
		require.NoError(t, err)
		d.work(t, time.Second)
		require.Len(t, d.main.Sent(), 1)
		assert.Len(t, d.main.Sent()[0].Attachments[0].Data, 1<<20)
		assert.Equal(t, 1, opened)
		assert.Nil(t, m.Attachments[0].Data, "the caller's message stays as it is")

		m.ID, m.Attachments = "large", []email.Attachment{file(1), file(20 << 20)}
		_, err = d.Send(t.Context(), m)
		assert.ErrorIs(t, err, fault.Invalid)
		assert.ErrorContains(t, err, "attachments[1]: is too large")
	})
}

func TestAnAttachmentIsReadAnewForEachAttempt(t *testing.T) {
	d := openDesk(t, email.WithQueue)
	d.main.Fail(errDown)
	opened := 0
	m := order(1)
	m.Attachments = []email.Attachment{{Name: "a.txt", Open: func() (io.ReadCloser, error) {
		opened++
		return io.NopCloser(strings.NewReader("data")), nil
	}}}
	_, err := d.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Equal(t, "data", string(d.backup.Sent()[0].Attachments[0].Data))
	assert.Equal(t, 2, opened)

	m.Attachments[0].Open = func() (io.ReadCloser, error) { return nil, errors.New("/home/ada/secret.txt: no such file") }
	_, err = d.Send(t.Context(), m)
	assert.ErrorIs(t, err, fault.Invalid)
	assert.ErrorContains(t, err, "attachments[0]: can't be opened")
	assert.NotContains(t, err.Error(), "ada")
}

func TestWhatCannotBeReadGoesToTheDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDesk(t, email.WithQueue)
		for id, payload := range map[string]string{"nonsense": "{", "empty": `{"v":1}`, "future": `{"v":9,"message":{"Subject":"s"}}`} {
			_, err := d.queue.Enqueue(t.Context(), queue.Job{ID: id, Kind: "email.send", Payload: []byte(payload)})
			require.NoError(t, err)
		}
		d.work(t, time.Second)
		assert.Len(t, d.dead(t), 3)
	})
}

// The form in which mails wait in queues of former releases.
func TestAMailStoredByAFormerReleaseIsStillRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDesk(t, email.WithQueue)
		_, err := d.queue.Enqueue(t.Context(), queue.Job{Kind: "email.send", Payload: []byte(`{"v":1,"tenant":"t1","message":{
			"ID":"m-1","From":{"Name":"Shop","Address":"shop@example.com"},"To":[{"Name":"","Address":"ada@example.org"}],"Cc":null,"Bcc":null,"ReplyTo":null,
			"Subject":"Hello","Text":"Hi","HTML":"","Attachments":[{"Name":"a","ContentType":"text/csv","ContentID":"","Data":"eHg="}],
			"Headers":{"X-A":"b"},"Tags":["t"],"Metadata":{"k":"v"},"Unsubscribe":{"URL":"","Mailto":"","OneClick":false},
			"SendAt":"0001-01-01T00:00:00Z","Expires":"0001-01-01T00:00:00Z","IdempotencyKey":"","AtMostOnce":false,"Locale":"de"}}`)})
		require.NoError(t, err)
		d.work(t, time.Second)
		require.Len(t, d.main.Sent(), 1)
		assert.Equal(t, "xx", string(d.main.Sent()[0].Attachments[0].Data))
		assert.Equal(t, "de", d.main.Sent()[0].Locale)
	})
}

func TestOnlyTheOutermostClientQueues(t *testing.T) {
	inner := openDesk(t, email.WithQueue, email.WithName("inner"))
	inner.down(errDown)
	var last emailtest.Outbox
	outer, err := email.New(inner.Client, email.WithBackup(&last))
	require.NoError(t, err)
	r, err := outer.Send(t.Context(), order(1))
	require.NoError(t, err)
	assert.Equal(t, "outbox", r.Provider)
	s, err := inner.queue.Stats(t.Context())
	require.NoError(t, err)
	assert.Zero(t, s)
}

func TestClientsOfOneQueueWorkOnTheirOwnMails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queuetest.New()
		var a, b emailtest.Outbox
		one, err := email.New(&a, email.WithQueueFirst(q), email.WithName("one"))
		require.NoError(t, err)
		two, err := email.New(&b, email.WithQueueFirst(q), email.WithName("two"))
		require.NoError(t, err)
		_, err = one.Send(t.Context(), order(1))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { assert.NoError(t, one.Run(ctx)) })
		wg.Go(func() { assert.NoError(t, two.Run(ctx)) })
		wg.Wait()
		assert.Len(t, a.Sent(), 1)
		assert.Empty(t, b.Sent())
	})
}

func TestHealthSaysWhatStandsInTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDesk(t, email.WithQueue)
		h := d.Health(t.Context())
		assert.True(t, h.Degraded, "a queue that nobody works on")
		assert.False(t, h.Down)
		assert.Contains(t, strings.Join(h.Problems, "\n"), "call Run")

		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { assert.NoError(t, d.Run(ctx)) })
		synctest.Wait()
		assert.Equal(t, email.Health{Queue: &queue.Stats{}}, d.Health(t.Context()))
		cancel()
		wg.Wait()

		require.NoError(t, d.Control().Switch("main", resilience.ForcedOpen))
		require.NoError(t, d.Control().Switch("backup", resilience.Drained))
		_, err := d.Send(t.Context(), order(1))
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		h = d.Health(t.Context())
		assert.False(t, h.Down, "mails are durable")
		assert.Len(t, h.Problems, 4)
		assert.Equal(t, 1, h.Queue.Ready)

		bare, err := email.New(&d.main)
		require.NoError(t, err)
		assert.Zero(t, bare.Health(t.Context()))
		require.NoError(t, bare.Control().Switch("outbox", resilience.ForcedOpen))
		assert.True(t, bare.Health(t.Context()).Down)
	})
}

// full is a queue that takes nothing.
type full struct{ queue.Queue }

func (full) Enqueue(context.Context, ...queue.Job) ([]queue.Enqueued, error) {
	return nil, fault.New(fault.Unavailable, errors.New("disk full"))
}

func TestAMailThatCannotBeMadeDurableEitherIsAnErrorThatSaysBoth(t *testing.T) {
	d := openDesk(t, func(queue.Queue) email.Option { return email.WithQueue(full{}) })
	d.down(errDown)
	_, err := d.Send(t.Context(), order(1))
	assert.ErrorIs(t, err, fault.Unavailable)
	assert.EqualError(t, err, "email.send: unavailable after 2 attempts: main: unavailable: down; backup: unavailable: down; queue: unavailable: disk full")
}
