package emailsql_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailsql"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sqldbtest"
)

var rules = []rule{
	{"of 32 who ask at once, over two pools, one gets a new key, and the others wait for it", newKeyHasOneWinner},
	{"of 32 who ask at once, one gets a key that has run out", oldKeyHasOneWinner},
	{"of 32 who ask at once, one takes over an abandoned key", abandonedKeyHasOneWinner},
	{"many keys at once, each is sent once", manyKeysAtOnce},
	{"another process reads the receipt", anotherProcessReads},
	{"a key that was noted before there were tokens is taken over and ended", noteOfAFormerRelease},
	{"what has run out is deleted, a few at a time", oldRowsAreSwept},
	{"nothing of a mail or its key is stored in the clear", nothingInTheClear},
	{"a receipt that was tampered with is an error, and the mail doesn't go again", tamperedReceipt},
	{"a caller who has given up notes nothing", canceledNotesNothing},
	{"a process killed while it sends leaves a key in progress, then an abandoned one", killedWhileSending},
	{"a process killed while it sends a mail that goes at most once leaves it unsettled", killedWhileSendingOnce},
}

var (
	now  = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	hash = [32]byte{1}
)

const (
	day   = 24 * time.Hour
	stale = 5 * time.Minute
)

// ask is Begin as a Client calls it at that time.
func ask(t *testing.T, r *emailsql.Receipts, key string, hash [32]byte, at time.Time) email.Known {
	t.Helper()
	known, err := r.Begin(t.Context(), key, hash, at, at.Add(-stale), at.Add(day))
	assert.NoError(t, err)
	return known
}

// atOnce asks 32 times at once, half of them over another pool, and counts the answers.
func atOnce(t *testing.T, databaseURL, key string, at time.Time) map[string]int {
	t.Helper()
	one, _ := open(t, databaseURL)
	other, _ := open(t, databaseURL)
	var mu sync.Mutex
	answers := map[string]int{}
	var all sync.WaitGroup
	start := make(chan struct{})
	for g := range 32 {
		all.Go(func() {
			<-start
			known := ask(t, []*emailsql.Receipts{one, other}[g%2], key, hash, at)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case !known.Known:
				answers["new"]++
			case known.Abandoned:
				answers["abandoned"]++
			case known.Receipt == nil && known.Hash == hash:
				answers["in progress"]++
			}
		})
	}
	close(start)
	all.Wait()
	return answers
}

func newKeyHasOneWinner(t *testing.T, databaseURL string) {
	for n := range 5 {
		assert.Equal(t, map[string]int{"new": 1, "in progress": 31}, atOnce(t, databaseURL, fmt.Sprint(n), now))
	}
}

func oldKeyHasOneWinner(t *testing.T, databaseURL string) {
	r, _ := open(t, databaseURL)
	for _, ended := range []bool{false, true} {
		key := fmt.Sprint(ended)
		holder := ask(t, r, key, [32]byte{7}, now)
		if ended {
			require.NoError(t, r.End(t.Context(), key, holder.Token, &email.Receipt{ID: "m-1"}))
		}
		assert.Equal(t, map[string]int{"new": 1, "in progress": 31}, atOnce(t, databaseURL, key, now.Add(day)))
	}
}

func abandonedKeyHasOneWinner(t *testing.T, databaseURL string) {
	r, _ := open(t, databaseURL)
	ask(t, r, "k", hash, now)
	for n := range 3 {
		at := now.Add(time.Duration(n+1) * (stale + time.Millisecond))
		assert.Equal(t, map[string]int{"abandoned": 1, "in progress": 31}, atOnce(t, databaseURL, "k", at))
	}
}

// manyKeysAtOnce lets two Clients send the same mails.
func manyKeysAtOnce(t *testing.T, databaseURL string) {
	var outbox emailtest.Outbox
	var all sync.WaitGroup
	var sent atomic.Int64
	for range 2 {
		r, _ := open(t, databaseURL)
		c, err := email.New(&outbox, email.WithReceipts(r, 0))
		require.NoError(t, err)
		for g := range 16 {
			all.Go(func() {
				for n := range 8 {
					m := order()
					m.IdempotencyKey = fmt.Sprintf("order-%d", (g+n)%16)
					r, err := c.Send(t.Context(), m)
					for errors.Is(err, email.ErrInProgress) { // a busy machine takes longer than a call waits
						r, err = c.Send(t.Context(), m)
					}
					if assert.NoError(t, err) {
						assert.Equal(t, email.StatusAccepted, r.Status)
						sent.Add(1)
					}
				}
			})
		}
	}
	all.Wait()
	assert.EqualValues(t, 256, sent.Load())
	assert.Len(t, outbox.Sent(), 16)
}

func anotherProcessReads(t *testing.T, databaseURL string) {
	r, _ := open(t, databaseURL)
	first := &email.Receipt{
		ID: "m-1", Provider: "eu/ses", ProviderID: "p-1", MessageID: "id@example.com", Status: email.StatusAccepted, Attempts: 3,
		Recipients: []email.Recipient{{Address: "grace@example.org", Status: email.StatusAccepted}, {Address: "ada@example.org", Status: email.StatusRefused, Code: "550 5.1.1"}},
	}
	holder := ask(t, r, "k", hash, now)
	assert.False(t, holder.Known)
	require.NoError(t, r.End(t.Context(), "k", holder.Token, first))
	other, _ := open(t, databaseURL)
	assert.Equal(t, email.Known{Known: true, Hash: hash, Receipt: first}, ask(t, other, "k", hash, now.Add(time.Hour)))
	assert.Equal(t, email.Known{Known: true, Hash: hash, Receipt: first}, ask(t, other, "k", [32]byte{2}, now.Add(time.Hour)))
}

// noteOfAFormerRelease has what the migration makes of a row that was there.
func noteOfAFormerRelease(t *testing.T, databaseURL string) {
	r, pool := open(t, databaseURL)
	ask(t, r, "k", hash, now)
	_, err := pool.ExecContext(t.Context(), "update email_receipts set token = 1, since = 1")
	require.NoError(t, err)
	assert.Equal(t, email.Known{Known: true, Hash: hash}, ask(t, r, "k", hash, now))
	holder := ask(t, r, "k", hash, now.Add(2*stale))
	assert.True(t, holder.Abandoned)
	assert.Greater(t, holder.Token, int64(1))
	first := &email.Receipt{ID: "m-1"}
	require.NoError(t, r.End(t.Context(), "k", holder.Token, first))
	assert.Equal(t, first, ask(t, r, "k", hash, now.Add(2*stale)).Receipt)
}

func oldRowsAreSwept(t *testing.T, databaseURL string) {
	r, pool := open(t, databaseURL)
	rows := func() (n int) {
		require.NoError(t, pool.QueryRowContext(t.Context(), "select count(*) from email_receipts").Scan(&n))
		return n
	}
	for n := range 200 {
		ask(t, r, fmt.Sprint("old ", n), hash, now)
	}
	require.Equal(t, 200, rows())
	most := 200
	for n := range 80 {
		ask(t, r, fmt.Sprint("new ", n), hash, now.Add(day))
		assert.LessOrEqual(t, most-rows(), 64, "at once")
		most = rows()
	}
	assert.Equal(t, 80, rows(), "only the new ones")

	r, _ = open(t, databaseURL) // a process that sends one mail a day
	ask(t, r, "last", hash, now.Add(3*day))
	assert.Equal(t, 80-64+1, rows())
}

func nothingInTheClear(t *testing.T, databaseURL string) {
	r, pool := open(t, databaseURL)
	holder := ask(t, r, "order-4711", hash, now)
	require.NoError(t, r.End(t.Context(), "order-4711", holder.Token, &email.Receipt{ID: "m-1", Recipients: []email.Recipient{{Address: "grace@example.org"}}}))
	rows, err := pool.QueryContext(t.Context(), "select id, hash, owner, receipt from email_receipts")
	require.NoError(t, err)
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		columns := make([][]byte, 4)
		require.NoError(t, rows.Scan(&columns[0], &columns[1], &columns[2], &columns[3]))
		for _, c := range columns {
			assert.NotEmpty(t, c)
			for _, secret := range []string{"grace", "example.org", "m-1", "4711"} {
				assert.NotContains(t, string(c), secret)
			}
		}
	}
	require.NoError(t, rows.Err())
	assert.Equal(t, 1, n)
}

func tamperedReceipt(t *testing.T, databaseURL string) {
	r, pool := open(t, databaseURL)
	var outbox emailtest.Outbox
	c, err := email.New(&outbox, email.WithReceipts(r, 0))
	require.NoError(t, err)
	for _, key := range []string{"order-1", "order-2"} {
		m := order()
		m.IdempotencyKey = key
		_, err := c.Send(t.Context(), m)
		require.NoError(t, err)
	}
	_, err = pool.ExecContext(t.Context(), "update email_receipts set receipt = (select receipt from email_receipts order by id limit 1)")
	require.NoError(t, err)
	failed := 0
	for _, key := range []string{"order-1", "order-2"} {
		m := order()
		m.IdempotencyKey = key
		if _, err := c.Send(t.Context(), m); err != nil {
			assert.ErrorIs(t, err, fault.Unavailable)
			failed++
		}
	}
	assert.Equal(t, 1, failed, "the receipt of another key")
	assert.Len(t, outbox.Sent(), 2)
}

func canceledNotesNothing(t *testing.T, databaseURL string) {
	r, _ := open(t, databaseURL)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Begin(ctx, "k", hash, now, now.Add(-stale), now.Add(day))
	assert.ErrorIs(t, err, fault.Canceled)
	assert.False(t, ask(t, r, "k", hash, now).Known)
}

// killedWhileSending: the documented behaviour of a Client, whoever was killed.
func killedWhileSending(t *testing.T, databaseURL string) {
	killed(t, databaseURL, false)
	synctest.Test(t, func(t *testing.T) {
		r, pool := open(t, databaseURL)
		var outbox emailtest.Outbox
		c, err := email.New(&outbox, email.WithReceipts(r, 0))
		require.NoError(t, err)

		_, err = c.Send(t.Context(), order())
		assert.ErrorIs(t, err, email.ErrInProgress)
		assert.ErrorIs(t, err, fault.Conflict)
		other := order()
		other.Text = "No, thank you."
		_, err = c.Send(t.Context(), other)
		assert.ErrorIs(t, err, email.ErrKeyReused)

		minutesLater(t, pool)
		_, err = c.Send(t.Context(), other)
		assert.ErrorIs(t, err, email.ErrKeyReused, "another mail never takes it over")
		assert.Empty(t, outbox.Sent())
		first, err := c.Send(t.Context(), order())
		require.NoError(t, err, "it may go twice rather than not at all")
		again, err := c.Send(t.Context(), order())
		require.NoError(t, err)
		assert.Equal(t, first, again)
		assert.Len(t, outbox.Sent(), 1)
	})
}

func killedWhileSendingOnce(t *testing.T, databaseURL string) {
	killed(t, databaseURL, true)
	synctest.Test(t, func(t *testing.T) {
		r, pool := open(t, databaseURL)
		var outbox emailtest.Outbox
		c, err := email.New(&outbox, email.WithReceipts(r, 0))
		require.NoError(t, err)
		m := order()
		m.AtMostOnce = true
		_, err = c.Send(t.Context(), m)
		assert.ErrorIs(t, err, email.ErrInProgress)

		for range 2 {
			minutesLater(t, pool)
			_, err = c.Send(t.Context(), m)
			assert.ErrorIs(t, err, fault.Uncertain)
		}
		assert.Empty(t, outbox.Sent())
	})
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	pool := sqldbtest.Open(t, sqldbtest.SQLite(t))
	_, err := pool.ExecContext(t.Context(), "pragma journal_mode = delete")
	require.NoError(t, err)
	_, err = emailsql.Open(t.Context(), pool)
	assert.ErrorIs(t, err, fault.Invalid)
	assert.ErrorContains(t, err, "journal_mode(WAL)")
}
