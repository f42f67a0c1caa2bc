package email_test

import (
	"context"
	"errors"
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
)

var errReset = fault.New(fault.Uncertain, errors.New("connection reset"))

const hold = 10 * time.Minute

// holding are the ways in which a mail becomes one that may have gone: at once, or
// in the queue's hands.
var holding = map[string]func(queue.Queue) email.Option{"sent at once": email.WithQueue, "queued first": email.WithQueueFirst}

// held sends a mail of which nobody knows whether it went, and returns a minute
// after that. The provider has it.
func held(t *testing.T, how func(queue.Queue) email.Option, change func(*email.Message)) *desk {
	t.Helper()
	d := openDesk(t, how, email.WithHold(hold))
	d.main.FailAfter(errReset)
	m := order(1)
	change(m)
	r, err := d.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Equal(t, email.StatusQueued, r.Status)
	d.work(t, time.Minute)
	assert.Len(t, d.main.Sent(), 1, "the one that may have gone")
	assert.Empty(t, d.backup.Sent(), "it isn't repeated elsewhere either")
	return d
}

func asItIs(*email.Message) {}

func (d *desk) stats(t *testing.T) queue.Stats {
	t.Helper()
	s, err := d.queue.Stats(t.Context())
	require.NoError(t, err)
	return s
}

func TestADeliveryEventWithinTheHoldCancelsTheSecondSending(t *testing.T) {
	for name, how := range holding {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := held(t, how, asItIs)
				assert.Equal(t, queue.Stats{Waiting: 1}, d.stats(t))
				require.NoError(t, d.Delivered(t.Context(), "order-1", "unknown"))
				assert.Zero(t, d.stats(t))
				d.work(t, 24*time.Hour)
				assert.Len(t, d.main.Sent(), 1)
				assert.Empty(t, d.backup.Sent())
				assert.Empty(t, d.dead(t))
				require.NoError(t, d.Delivered(t.Context(), "order-1"), "events come twice")
			})
		})
	}
}

func TestWithoutAnEventAHeldMailGoesAgainAfterTheHold(t *testing.T) {
	for name, how := range holding {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := held(t, how, asItIs)
				d.work(t, hold-time.Minute-time.Second)
				assert.Len(t, d.main.Sent(), 1, "within the hold")
				d.work(t, 2*time.Second)
				assert.Equal(t, []string{"Order 1", "Order 1"}, subjects(&d.main))
				assert.Zero(t, d.stats(t))
			})
		})
	}
}

func TestAMailThatIsInDoubtAgainIsHeldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := held(t, email.WithQueueFirst, asItIs)
		d.main.FailAfter(errReset)
		d.work(t, hold)
		assert.Len(t, d.main.Sent(), 2)
		assert.Equal(t, queue.Stats{Waiting: 1}, d.stats(t))
		require.NoError(t, d.Delivered(t.Context(), "order-1"))
		d.work(t, 24*time.Hour)
		assert.Len(t, d.main.Sent(), 2)
	})
}

// What provably wasn't sent waits for no event.
func TestAMailThatWasProvablyNotSentIsNotHeld(t *testing.T) {
	for name, how := range holding {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := openDesk(t, how, email.WithHold(hold))
				d.main.Fail(errDown)
				d.backup.Fail(errDown)
				_, err := d.Send(t.Context(), order(1))
				require.NoError(t, err)
				d.work(t, 5*time.Second)
				assert.Len(t, d.main.Sent(), 1)
			})
		})
	}
}

func TestAHeldMailThatExpiresDoesNotGoAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := held(t, email.WithQueueFirst, func(m *email.Message) { m.Expires = time.Now().Add(hold / 2) })
		d.work(t, 24*time.Hour)
		assert.Len(t, d.main.Sent(), 1)
		require.Len(t, d.dead(t), 1)
		assert.Contains(t, d.dead(t)[0].Reason, queue.ReasonExpired)
		require.NoError(t, d.Delivered(t.Context(), "order-1"), "though it came late")
		assert.Empty(t, d.dead(t))
	})
}

func TestAHeldMailKeepsTheOrderOfItsRecipient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := held(t, email.WithQueueFirst, func(m *email.Message) { m.InOrder = true })
		next := order(2)
		next.InOrder = true
		_, err := d.Send(t.Context(), next)
		require.NoError(t, err)
		d.work(t, time.Minute)
		assert.Equal(t, []string{"Order 1"}, subjects(&d.main), "the next one waits behind it")
		require.NoError(t, d.Delivered(t.Context(), "order-1"))
		d.work(t, time.Second)
		assert.Equal(t, []string{"Order 1", "Order 2"}, subjects(&d.main))
	})
}

// AtMostOnce is never held, since no time makes a second sending right.
func TestAMailThatGoesAtMostOnceIsNotHeldButListedUntilAnEventSettlesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		once := order(1)
		once.AtMostOnce = true
		d := openDesk(t, email.WithQueue, email.WithHold(hold))
		d.main.FailAfter(errReset)
		_, err := d.Send(t.Context(), once)
		require.ErrorIs(t, err, fault.Uncertain)
		assert.Zero(t, d.stats(t))

		d = openDesk(t, email.WithQueueFirst, email.WithHold(hold))
		d.main.FailAfter(errReset)
		_, err = d.Send(t.Context(), once)
		require.NoError(t, err)
		d.work(t, 24*time.Hour)
		assert.Len(t, d.main.Sent(), 1)
		require.Len(t, d.dead(t), 1)
		assert.Contains(t, d.dead(t)[0].Reason, "may have been sent")
		require.NoError(t, d.Delivered(t.Context(), "order-1"))
		assert.Empty(t, d.dead(t))
		assert.Empty(t, d.backup.Sent())
	})
}

func TestAMailThatIsBeingSentIsLeftToItsWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := openDesk(t, email.WithQueueFirst, email.WithHold(hold))
		d.main.Delay(2 * time.Second)
		_, err := d.Send(t.Context(), order(1))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { assert.NoError(t, d.Run(ctx)) })
		time.Sleep(time.Second)
		require.NoError(t, d.Delivered(t.Context(), "order-1"))
		assert.Equal(t, queue.Stats{Running: 1}, d.stats(t))
		wg.Wait()
		assert.Len(t, d.main.Sent(), 1)
		assert.Zero(t, d.stats(t))
	})
}

// A worker that dies while it sends leaves a mail in doubt, as a lost answer does.
func TestAMailWhoseWorkerDiedIsHeldForItsEvent(t *testing.T) {
	for name, event := range map[string]bool{"which comes": true, "which doesn't": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &queuetest.Memory{}
				engine, err := queue.NewEngine(store)
				require.NoError(t, err)
				var box emailtest.Outbox
				c, err := email.New(&box, email.WithQueueFirst(engine), email.WithHold(hold))
				require.NoError(t, err)
				_, err = c.Send(t.Context(), order(1))
				require.NoError(t, err)
				now := time.Now() // a worker claims it, and is never heard of again
				_, err = store.Claim(t.Context(), queue.Claim{Now: now, Until: now.Add(time.Minute), Kinds: []string{"email.send"}, N: 1})
				require.NoError(t, err)
				work := func(long time.Duration) {
					ctx, cancel := context.WithTimeout(t.Context(), long)
					defer cancel()
					require.NoError(t, c.Run(ctx))
				}
				work(hold)
				assert.Empty(t, box.Sent(), "within a minute of lease and the hold")
				if event {
					require.NoError(t, c.Delivered(t.Context(), "order-1"))
				}
				work(2 * time.Minute)
				if event {
					assert.Empty(t, box.Sent())
				} else {
					assert.Len(t, box.Sent(), 1)
				}
				s, err := engine.Stats(t.Context())
				require.NoError(t, err)
				assert.Zero(t, s)
			})
		})
	}
}

func TestAHoldNeedsAQueueThatCanCancel(t *testing.T) {
	var box emailtest.Outbox
	_, err := email.New(&box, email.WithHold(hold))
	assert.ErrorContains(t, err, "WithHold needs a queue")

	c, err := email.New(&box)
	require.NoError(t, err)
	assert.ErrorIs(t, c.Delivered(t.Context(), "a"), fault.Unsupported)
	c, err = email.New(&box, email.WithQueue(full{}))
	require.NoError(t, err)
	assert.ErrorIs(t, c.Delivered(t.Context(), "a"), fault.Unsupported)
}
