package email_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
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

func TestTheReceiptsInMemoryConform(t *testing.T) {
	emailtest.RunReceipts(t, func(*testing.T) email.Receipts { return new(email.MemoryReceipts) })
}

// keyed is a mail with an idempotency key.
func keyed(key string) *email.Message {
	m := hello()
	m.IdempotencyKey = key
	return m
}

// keeper is a Client over an outbox that keeps receipts, and makes one attempt.
func keeper(t *testing.T, r email.Receipts, options ...email.Option) (*email.Client, *emailtest.Outbox) {
	t.Helper()
	outbox := new(emailtest.Outbox)
	p := resilience.Default
	p.Retries, p.Breaker, p.Timeout, p.Total = 0, resilience.Breaker{}, time.Hour, 2*time.Hour
	client, err := email.New(outbox, append([]email.Option{email.WithPolicy(p), email.WithReceipts(r, 0)}, options...)...)
	require.NoError(t, err)
	return client, outbox
}

func TestAnEqualMailUnderItsKeyGetsTheFirstReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, outbox := keeper(t, new(email.MemoryReceipts))
		first, err := client.Send(t.Context(), keyed("order-1"))
		require.NoError(t, err)
		want := *first
		first.Provider = "changed by its caller"
		for name, change := range map[string]func(*email.Message){
			"as it was":                          func(*email.Message) {},
			"under an id of its own":             func(m *email.Message) { m.ID = "again" },
			"with another time limit":            func(m *email.Message) { m.Expires = time.Now().Add(time.Hour) },
			"for another time":                   func(m *email.Message) { m.SendAt = time.Now().Add(time.Hour) },
			"with another priority in the queue": func(m *email.Message) { m.Priority = 3 },
		} {
			m := keyed("order-1")
			change(m)
			r, err := client.Send(t.Context(), m)
			require.NoError(t, err, name)
			assert.Equal(t, want, *r, name)
		}
		assert.Len(t, outbox.Sent(), 1)
		_, err = client.Send(t.Context(), keyed("order-2"))
		require.NoError(t, err)
		assert.Len(t, outbox.Sent(), 2, "another key is another mail")
	})
}

func TestAnotherMailUnderAKeyIsAConflict(t *testing.T) {
	for name, change := range map[string]func(*email.Message){
		"text":          func(m *email.Message) { m.Text = "Bye" },
		"recipient":     func(m *email.Message) { m.To[0].Address = "alan@example.org" },
		"blind copy":    func(m *email.Message) { m.Bcc = []email.Address{{Address: "alan@example.org"}} },
		"from":          func(m *email.Message) { m.From.Name = "Ada" },
		"header":        func(m *email.Message) { m.Headers = map[string]string{"X-A": "1"} },
		"attachment":    func(m *email.Message) { m.Attachments = []email.Attachment{{Name: "a", Data: []byte("1")}} },
		"thread":        func(m *email.Message) { m.Thread = "order" },
		"at most once":  func(m *email.Message) { m.AtMostOnce = true },
		"a file opened": func(m *email.Message) { m.Attachments = opening("2") },
	} {
		t.Run(name, func(t *testing.T) {
			client, outbox := keeper(t, new(email.MemoryReceipts))
			_, err := client.Send(t.Context(), keyed("order-1"))
			require.NoError(t, err)
			m := keyed("order-1")
			change(m)
			_, err = client.Send(t.Context(), m)
			require.ErrorIs(t, err, email.ErrKeyReused)
			require.ErrorIs(t, err, fault.Conflict)
			assert.False(t, fault.MayHaveActed(err))
			assert.Len(t, outbox.Sent(), 1)
		})
	}
}

// opening is a file that is read from its beginning each time.
func opening(content string) []email.Attachment {
	return []email.Attachment{{Name: "a.txt", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}}
}

func TestAFileThatIsOpenedIsPartOfTheMail(t *testing.T) {
	client, outbox := keeper(t, new(email.MemoryReceipts))
	send := func(content string) error {
		m := keyed("order-1")
		m.Attachments = opening(content)
		_, err := client.Send(t.Context(), m)
		return err
	}
	require.NoError(t, send("one"))
	require.NoError(t, send("one"))
	require.ErrorIs(t, send("two"), email.ErrKeyReused)
	require.Len(t, outbox.Sent(), 1)
	assert.Equal(t, "one", string(outbox.Sent()[0].Attachments[0].Data))

	m := keyed("order-2")
	m.Attachments = []email.Attachment{{Name: "a.txt", Open: func() (io.ReadCloser, error) { return nil, errors.New("gone") }}}
	_, err := client.Send(t.Context(), m)
	require.ErrorIs(t, err, fault.Invalid)
	_, err = client.Send(t.Context(), keyed("order-2"))
	require.NoError(t, err, "a mail that can't be read leaves its key free")
}

func TestAKeyIsOneTenantsOwn(t *testing.T) {
	client, outbox := keeper(t, new(email.MemoryReceipts))
	north, south := resilience.WithTenant(t.Context(), "north"), resilience.WithTenant(t.Context(), "south")
	other := keyed("order-1")
	other.Text = "another mail"
	for range 2 {
		for ctx, m := range map[context.Context]*email.Message{t.Context(): keyed("order-1"), north: other, south: keyed("order-1")} {
			_, err := client.Send(ctx, m)
			require.NoError(t, err)
		}
	}
	assert.Len(t, outbox.Sent(), 3)
	_, err := client.Send(south, other)
	require.ErrorIs(t, err, email.ErrKeyReused)
}

func TestAMailWithoutAKeyIsNotNoted(t *testing.T) {
	client, outbox := keeper(t, &store{begin: errors.New("never asked")})
	for range 2 {
		_, err := client.Send(t.Context(), hello())
		require.NoError(t, err)
	}
	assert.Len(t, outbox.Sent(), 2)
}

func TestAWrongMailIsNotNoted(t *testing.T) {
	client, outbox := keeper(t, &store{begin: errors.New("never asked")})
	m := keyed("order-1")
	m.To = nil
	_, err := client.Send(t.Context(), m)
	require.ErrorIs(t, err, fault.Invalid)
	assert.Empty(t, outbox.Sent())
}

func TestCallsAtOnceSendOneMailAndGetOneReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, outbox := keeper(t, new(email.MemoryReceipts))
		outbox.Delay(700 * time.Millisecond)
		const callers = 20
		got := make([]*email.Receipt, callers)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				r, err := client.Send(t.Context(), keyed("order-1"))
				assert.NoError(t, err)
				got[i] = r
			})
		}
		wg.Wait()
		assert.Len(t, outbox.Sent(), 1)
		for _, r := range got {
			assert.Equal(t, got[0], r)
		}
	})
}

func TestACallWaitsASecondForAnothersReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, outbox := keeper(t, new(email.MemoryReceipts))
		outbox.Delay(time.Minute)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := client.Send(t.Context(), keyed("order-1"))
			assert.NoError(t, err)
		})
		synctest.Wait()
		start := time.Now()
		_, err := client.Send(t.Context(), keyed("order-1"))
		require.ErrorIs(t, err, email.ErrInProgress)
		require.ErrorIs(t, err, fault.Conflict)
		assert.Equal(t, time.Second, time.Since(start))

		start = time.Now()
		other := keyed("order-1")
		other.Text = "another mail"
		_, err = client.Send(t.Context(), other)
		require.ErrorIs(t, err, email.ErrKeyReused)
		assert.Zero(t, time.Since(start), "no answer could change that")

		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err = client.Send(ctx, keyed("order-1"))
		require.ErrorIs(t, err, fault.Canceled)
		assert.Equal(t, 300*time.Millisecond, time.Since(start))
		wg.Wait()
		assert.Len(t, outbox.Sent(), 1)
	})
}

func TestWhatBecomesOfAKeyWhoseMailFailed(t *testing.T) {
	for name, c := range map[string]struct {
		once  bool
		kind  fault.Kind
		stays bool
	}{
		"unsent":                           {false, fault.Unavailable, false},
		"refused":                          {false, fault.Rejected, false},
		"it may have gone":                 {false, fault.Uncertain, false},
		"at most once, unsent":             {true, fault.Unavailable, false},
		"at most once, refused":            {true, fault.Rejected, false},
		"at most once, it may have gone":   {true, fault.Uncertain, true},
		"at most once, the caller is gone": {true, fault.Canceled, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, outbox := keeper(t, new(email.MemoryReceipts))
				outbox.Fail(fault.New(c.kind, errors.New("scripted")))
				m := keyed("order-1")
				m.AtMostOnce = c.once
				_, err := client.Send(t.Context(), m)
				require.Error(t, err)
				require.Equal(t, c.stays, m.AtMostOnce && fault.MayHaveActed(err))

				start := time.Now()
				_, err = client.Send(t.Context(), m)
				assert.Zero(t, time.Since(start), "nobody is sending it")
				if !c.stays {
					require.NoError(t, err)
					assert.Len(t, outbox.Sent(), 1)
					return
				}
				require.ErrorIs(t, err, fault.Uncertain)
				time.Sleep(23 * time.Hour)
				_, err = client.Send(t.Context(), m)
				require.ErrorIs(t, err, fault.Uncertain, "as long as the key is kept")
				other := keyed("order-1")
				other.AtMostOnce, other.Text = true, "another mail"
				_, err = client.Send(t.Context(), other)
				require.ErrorIs(t, err, email.ErrKeyReused)
				assert.Empty(t, outbox.Sent())
			})
		})
	}
}

func TestTheKeyOfACallerWhoIsGoneIsSettledAllTheSame(t *testing.T) {
	for _, once := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			client, outbox := keeper(t, &store{Receipts: new(email.MemoryReceipts)})
			outbox.Delay(time.Minute)
			m := keyed("order-1")
			m.AtMostOnce = once
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := client.Send(ctx, m)
			require.True(t, fault.MayHaveActed(err), "%v", err)
			start := time.Now()
			outbox.Heal()
			_, err = client.Send(t.Context(), m)
			assert.Zero(t, time.Since(start), "its key isn't in use any more")
			assert.Equal(t, once, errors.Is(err, fault.Uncertain), "%v", err)
		})
	}
}

func TestAMailWhoseProcessDiedGoesAgainOrIsUncertainAsItsPolicySays(t *testing.T) {
	for _, once := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			// A process that dies never says how it ended.
			var receipts email.MemoryReceipts
			m := keyed("order-1")
			m.AtMostOnce = once
			dying, gone := keeper(t, &store{Receipts: &receipts, end: errors.New("killed")})
			_, err := dying.Send(t.Context(), m)
			require.NoError(t, err)
			require.Len(t, gone.Sent(), 1)

			client, outbox := keeper(t, &receipts)
			_, err = client.Send(t.Context(), m)
			require.ErrorIs(t, err, email.ErrInProgress)
			time.Sleep(5*time.Minute - 2*time.Second)
			_, err = client.Send(t.Context(), m)
			require.ErrorIs(t, err, email.ErrInProgress)
			time.Sleep(time.Second)
			other := keyed("order-1")
			other.AtMostOnce, other.Text = once, "another mail"
			_, err = client.Send(t.Context(), other)
			require.ErrorIs(t, err, email.ErrKeyReused)
			if !once {
				first, err := client.Send(t.Context(), m)
				require.NoError(t, err)
				again, err := client.Send(t.Context(), m)
				require.NoError(t, err)
				assert.Equal(t, first, again)
				assert.Len(t, outbox.Sent(), 1)
				return
			}
			for range 3 {
				_, err = client.Send(t.Context(), m)
				require.ErrorIs(t, err, fault.Uncertain)
			}
			assert.Empty(t, outbox.Sent())
		})
	}
}

func TestACallThatTookVeryLongStillSettlesItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, outbox := keeper(t, new(email.MemoryReceipts))
		outbox.Delay(10 * time.Minute)
		m := keyed("order-1")
		m.AtMostOnce = true
		var first *email.Receipt
		var wg sync.WaitGroup
		wg.Go(func() { first, _ = client.Send(t.Context(), m) })
		time.Sleep(6 * time.Minute)
		_, err := client.Send(t.Context(), m)
		require.ErrorIs(t, err, fault.Uncertain, "its process may have died")
		wg.Wait()
		r, err := client.Send(t.Context(), m)
		require.NoError(t, err)
		assert.Equal(t, first, r)
		assert.Len(t, outbox.Sent(), 1)
	})
}

// A sender that comes back when another has its key neither takes that away nor
// loses what is true.
func TestASlowSenderLeavesTheKeyToWhoHasItByNow(t *testing.T) {
	refused := fault.New(fault.Rejected, errors.New("refused"))
	for name, c := range map[string]struct {
		slow, second error         // how their attempts end
		takes        time.Duration // that of the second
		sent         int           // by all three
	}{
		"it fails, the other has sent the mail":     {slow: refused, sent: 1},
		"it fails, the other is still sending":      {slow: refused, takes: 10 * time.Minute, sent: 1},
		"it succeeds, the other is still sending":   {takes: 10 * time.Minute, sent: 2},
		"it succeeds, the other fails after that":   {second: refused, takes: 10 * time.Minute, sent: 1},
		"it succeeds, the other failed before that": {second: refused, sent: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var receipts email.MemoryReceipts
				slow, first := keeper(t, &receipts)
				other, second := keeper(t, &receipts)
				third, never := keeper(t, &receipts)
				first.Delay(10 * time.Minute)
				first.FailAlways(c.slow)
				second.Delay(c.takes)
				second.FailAlways(c.second)
				var wg sync.WaitGroup
				defer wg.Wait()
				send := func(client *email.Client, want error) {
					wg.Go(func() {
						_, err := client.Send(t.Context(), keyed("order-1"))
						assert.Equal(t, want == nil, err == nil, "%v", err)
					})
				}
				send(slow, c.slow)
				time.Sleep(6 * time.Minute)
				send(other, c.second)
				time.Sleep(4*time.Minute + time.Second) // the slow one has come back
				_, err := third.Send(t.Context(), keyed("order-1"))
				if c.slow != nil && c.takes > 0 {
					require.ErrorIs(t, err, email.ErrInProgress)
				} else {
					require.NoError(t, err)
				}
				wg.Wait()
				_, err = third.Send(t.Context(), keyed("order-1"))
				require.NoError(t, err)
				assert.Len(t, slices.Concat(first.Sent(), second.Sent(), never.Sent()), c.sent)
				assert.Empty(t, never.Sent())
			})
		})
	}
}

// store is one that can fail, and looks whether its caller has gone.
type store struct {
	email.Receipts
	begin, end error
	drops      int
}

func (s *store) Begin(ctx context.Context, key string, hash [32]byte, now, stale, until time.Time) (email.Known, error) {
	if s.begin != nil {
		return email.Known{}, s.begin
	}
	return s.Receipts.Begin(ctx, key, hash, now, stale, until)
}

func (s *store) End(ctx context.Context, key string, token int64, r *email.Receipt) error {
	if err := cmp.Or(ctx.Err(), s.end); err != nil {
		return err
	}
	return s.Receipts.End(ctx, key, token, r)
}

func (s *store) Drop(ctx context.Context, key string, token int64) error {
	s.drops++
	if err := cmp.Or(ctx.Err(), s.end); err != nil {
		return err
	}
	return s.Receipts.Drop(ctx, key, token)
}

func TestWithoutItsStoreNothingIsSent(t *testing.T) {
	down := errors.New("connection refused")
	client, outbox := keeper(t, &store{begin: down})
	_, err := client.Send(t.Context(), keyed("order-1"))
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, err, down)
	assert.False(t, fault.MayHaveActed(err))
	assert.Empty(t, outbox.Sent())
}

func TestAStoreThatFailsAfterTheMailWasSentDoesNotMakeThatAFailure(t *testing.T) {
	s := &store{Receipts: new(email.MemoryReceipts), end: errors.New("connection refused")}
	client, outbox := keeper(t, s)
	r, err := client.Send(t.Context(), keyed("order-1"))
	require.NoError(t, err)
	assert.Equal(t, email.StatusAccepted, r.Status)
	assert.Len(t, outbox.Sent(), 1)

	refused := errors.New("blocked")
	outbox.Fail(fault.New(fault.Rejected, refused))
	_, err = client.Send(t.Context(), keyed("order-2"))
	require.ErrorIs(t, err, refused, "the provider's error, not the store's")
	assert.Equal(t, 1, s.drops)
}

func TestAStoreThatHangsAfterTheMailWasSentHoldsItUpFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := keeper(t, &hanging{})
		start := time.Now()
		_, err := client.Send(t.Context(), keyed("order-1"))
		require.NoError(t, err)
		assert.Equal(t, 5*time.Second, time.Since(start))
	})
}

// hanging hangs at the end.
type hanging struct{ email.MemoryReceipts }

func (*hanging) End(ctx context.Context, _ string, _ int64, _ *email.Receipt) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestAKeyIsKeptAsLongAsItIsSaid(t *testing.T) {
	for said, kept := range map[time.Duration]time.Duration{0: 24 * time.Hour, time.Minute: time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			client, outbox := keeper(t, nil, email.WithReceipts(new(email.MemoryReceipts), said))
			_, err := client.Send(t.Context(), keyed("order-1"))
			require.NoError(t, err)
			other := keyed("order-1")
			other.Text = "another mail"
			time.Sleep(kept - time.Nanosecond)
			_, err = client.Send(t.Context(), other)
			require.ErrorIs(t, err, email.ErrKeyReused)
			time.Sleep(time.Nanosecond)
			_, err = client.Send(t.Context(), other)
			require.NoError(t, err)
			assert.Len(t, outbox.Sent(), 2)
		})
	}
}

func TestAQueuedMailsReceiptIsTheFirst(t *testing.T) {
	for name, how := range map[string]func(queue.Queue) email.Option{"first": email.WithQueueFirst, "at last": email.WithQueue} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := queuetest.New()
				client, outbox := keeper(t, new(email.MemoryReceipts), how(q))
				outbox.FailAlways(errDown)
				first, err := client.Send(t.Context(), keyed("order-1"))
				require.NoError(t, err)
				assert.Equal(t, email.StatusQueued, first.Status)
				outbox.Heal()
				again, err := client.Send(t.Context(), keyed("order-1"))
				require.NoError(t, err)
				assert.Equal(t, first.ID, again.ID)
				assert.Equal(t, email.StatusQueued, again.Status)
				stats, err := q.Stats(t.Context())
				require.NoError(t, err)
				assert.Equal(t, 1, stats.Ready+stats.Waiting)

				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				require.NoError(t, client.Run(ctx))
				assert.Len(t, outbox.Sent(), 1)
				again, err = client.Send(t.Context(), keyed("order-1"))
				require.NoError(t, err)
				assert.Equal(t, email.StatusQueued, again.Status, "the first receipt, whatever became of the mail since")
				assert.Len(t, outbox.Sent(), 1)
			})
		})
	}
}

func TestOnlyTheOutermostClientNotesKeys(t *testing.T) {
	inner, outbox := keeper(t, &store{begin: errors.New("never asked")}, email.WithName("inner"))
	outer, err := email.New(inner, email.WithReceipts(new(email.MemoryReceipts), 0))
	require.NoError(t, err)
	for range 2 {
		_, err = outer.Send(t.Context(), keyed("order-1"))
		require.NoError(t, err)
	}
	assert.Len(t, outbox.Sent(), 1)
	_, err = inner.Send(t.Context(), keyed("order-1"))
	require.ErrorContains(t, err, "never asked", "by itself it is the outermost")
}
