// Package backlog has a worker deliver many queued mails while providers hang:
// what it delivers when, what it needs for that, and whether the priorities are
// treated fairly. docs/performance.md shows the figures.
//
//	make backlog
package backlog

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/sqlite"
	"github.com/smilefactory/integrations/resilience"
)

var (
	mails   = flag.Int("mails", 2000, "how many mails are queued; make backlog has 100,000")
	workers = flag.Int("workers", 8, "how many of them a worker delivers at once")
)

// The mails came over that time, as they do while the providers are away, so that
// age and priority are weighed against one another.
const cameOver = 30 * time.Minute

// priorities of each twenty mails: newsletters, receipts, resets of passwords.
var priorities = [20]int{0: 10, 1: 5, 2: 5, 3: 5, 4: -10, 5: -10, 6: -10, 7: -10, 8: -10, 9: -10, 10: -10, 11: -10}

func mailID(i int) string  { return fmt.Sprintf("m-%06d", i) }
func priorityOf(i int) int { return priorities[(i*7)%len(priorities)] }
func number(id string) (i int) {
	_, _ = fmt.Sscanf(id, "m-%d", &i)
	return i
}

var html = "<p>" + strings.Repeat("Thank you for your order. We have it, and pack it now. ", 60) + "</p>" // 3.3 KB

func mail(i int) *email.Message {
	return &email.Message{
		ID:       mailID(i),
		From:     email.Address{Name: "Shop", Address: "shop@example.com"},
		To:       []email.Address{{Address: fmt.Sprintf("reader%d@example.org", i)}},
		Subject:  fmt.Sprintf("Your order %d", i),
		Text:     html[3:600],
		HTML:     html,
		Priority: priorityOf(i),
	}
}

// clock is that of the queue: the mails come over half an hour that is past when
// the worker starts.
type clock struct {
	start time.Time
	come  atomic.Int64
	works atomic.Bool
}

func (c *clock) now() time.Time {
	if c.works.Load() {
		return time.Now()
	}
	return c.start.Add(time.Duration(c.come.Add(1)) * cameOver / time.Duration(*mails))
}

// fill queues the mails, by as many writers as a busy service has.
func fill(t *testing.T, c *email.Client, clock *clock) {
	var all sync.WaitGroup
	var next atomic.Int64
	start := time.Now()
	clock.start = start.Add(-cameOver)
	for range 32 {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(*mails); i = next.Add(1) - 1 {
				r, err := c.Send(t.Context(), mail(int(i)))
				if !assert.NoError(t, err) || !assert.Equal(t, email.StatusQueued, r.Status) {
					return
				}
			}
		})
	}
	all.Wait()
	clock.works.Store(true)
	t.Logf("%d mails queued in %.1f s: %.0f mails/s", *mails, time.Since(start).Seconds(), float64(*mails)/time.Since(start).Seconds())
}

// rig is a full queue and what works on it.
type rig struct {
	*providers
	*report
	client *email.Client
}

func setUp(t *testing.T) *rig {
	p, r := startProviders(t), newReport(t, *mails)
	var c clock
	path := filepath.Join(t.TempDir(), "queue.db")
	q, err := sqlite.Open(t.Context(), path, queue.WithClock(c.now))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, q.Close(context.Background())) })
	rig := &rig{p, r, p.client(*workers, email.WithQueueFirst(q), email.WithObserver(r))}
	fill(t, rig.client, &c)
	r.readRanks(path)
	return rig
}

// deliver works until every mail has gone or died.
func (r *rig) deliver(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r.begin(cancel)
	require.NoError(t, r.client.Run(ctx, queue.With(func(o *queue.RunOptions) { o.Workers, o.Observe = *workers, r.queueEvent })))
	r.end()
}

func (r *rig) check(t *testing.T) ledger {
	l := r.ledger(*mails)
	t.Logf("lost %d, twice %d; SendGrid has %d, Amazon SES %d, of %d requests", l.Lost, l.Twice, l.SendGrid, l.Amazon, l.Requests)
	assert.Zero(t, l.Lost, "mails that no provider has")
	assert.Zero(t, l.Twice, "mails that were delivered more than once")
	assert.Zero(t, r.died, "dead letters")
	return l
}

// One of two providers hangs, all the time.
func TestABacklogGoesOutThroughTheBackup(t *testing.T) {
	r := setUp(t)
	r.hang("sendgrid")
	r.deliver(t)
	r.print(t)
	r.check(t)
	r.checkOrder(t)
}

// No provider answers for 30 seconds. The breakers open, and then nobody is asked
// but by a probe.
func TestABacklogWaitsUntilAProviderReturns(t *testing.T) {
	const outage = 30 * time.Second
	r := setUp(t)
	r.hang("sendgrid", "amazon")
	healed := time.AfterFunc(outage, func() { r.heal("sendgrid", "amazon") })
	defer healed.Stop()
	r.deliver(t)
	r.print(t)
	r.check(t)
}

var _ resilience.Observer = (*report)(nil)
