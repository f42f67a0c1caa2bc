package river_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
)

func TestIntegrationMailIsQueuedInRiverAndSent(t *testing.T) {
	pool := connect(t)
	q := open(t, pool, schema(t, pool))
	var out emailtest.Outbox
	c, err := email.New(&out, email.WithQueue(q))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- c.Run(ctx, queue.With(func(o *queue.RunOptions) { o.Initial, o.Longest = 10*time.Millisecond, 50*time.Millisecond }))
	}()
	t.Cleanup(func() { stop(); require.NoError(t, <-done) })

	out.FailAlways(fault.New(fault.Unavailable, errors.New("down")))
	m := &email.Message{From: email.Address{Address: "shop@example.com"}, To: []email.Address{{Address: "ada@example.com"}}, Subject: "Hello", Text: "Hello."}
	r, err := c.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Equal(t, email.StatusQueued, r.Status)
	assert.Equal(t, 1, func() int { s := stats(t, q); return s.Ready + s.Waiting + s.Running }())
	out.Heal()
	eventually(t, func() bool { return len(out.Sent()) == 1 })
	empty(t, q)

	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = c.SendTx(t.Context(), q.Tx(tx), m)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	eventually(t, func() bool { return len(out.Sent()) == 2 })
	empty(t, q)
	out.RequireSent(t, "ada@example.com", 2)

	later, err := c.SendLater(t.Context(), m, time.Now().Add(time.Hour))
	require.NoError(t, err)
	require.NoError(t, c.Delivered(t.Context(), later.ID), "an event says that it has gone")
	assert.Equal(t, queue.Stats{}, stats(t, q))

	ordered := *m
	ordered.InOrder = true
	_, err = c.SendLater(t.Context(), &ordered, time.Now())
	require.ErrorIs(t, err, fault.Unsupported, "mail in order needs another queue, and doesn't go without it")
}
