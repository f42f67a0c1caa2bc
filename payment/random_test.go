package payment_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymenttest"
)

// randomRuns is how many seeds are run, 300 of each kind; RANDOM_RUNS says another
// number, RANDOM_SEED one seed alone.
func randomRuns(t *testing.T, run func(t *testing.T, rnd *rand.Rand)) {
	t.Helper()
	from, n := uint64(0), 300
	if v, err := strconv.Atoi(os.Getenv("RANDOM_RUNS")); err == nil {
		n = v
	}
	if v, err := strconv.ParseUint(os.Getenv("RANDOM_SEED"), 10, 64); err == nil {
		from, n = v, 1
	}
	for i := range n {
		seed := from + uint64(i)
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { run(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

// chaos is four processes on one journal, whose clocks differ by up to a minute,
// a journal that fails, providers that fail, and customers who click when they like.
type chaos struct {
	*two
	t         *testing.T
	rnd       *rand.Rand
	clients   []*payment.Client
	running   sync.WaitGroup
	mu        sync.Mutex
	journal   *rand.Rand
	failing   int // percent of the journal's calls
	given     map[string]bool
	said      []string
	succeeded bool
}

func newChaos(t *testing.T, rnd *rand.Rand) *chaos {
	t.Helper()
	c := &chaos{two: setup(t), t: t, rnd: rnd, given: map[string]bool{}}
	c.journal = rand.New(rand.NewPCG(rnd.Uint64(), 2))
	c.failing = []int{0, 0, 5, 20}[rnd.IntN(4)]
	for i := range 4 {
		late := time.Duration(i-2) * 20 * time.Second
		j := &trouble{MemoryJournal: c.two.journal, fails: c.fails}
		c.clients = append(c.clients, c.again(t, payment.WithJournal(j), payment.WithRules(payment.Rules{
			Now: func() time.Time { return time.Now().Add(late) },
		})))
	}
	return c
}

func (c *chaos) fails(int) how {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.journal.IntN(100) >= c.failing {
		return works
	}
	return how(1 + c.journal.IntN(4))
}

func (c *chaos) client() *payment.Client { return c.clients[c.rnd.IntN(len(c.clients))] }

// call lets a process do something, for a caller who waits as long as he likes.
func (c *chaos) call(what string, do func(ctx context.Context, p *payment.Client) (any, error)) {
	p, within := c.client(), []time.Duration{time.Second, 30 * time.Second, time.Hour}[c.rnd.IntN(3)]
	c.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), within)
		defer cancel()
		r, err := do(ctx, p)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.said = append(c.said, fmt.Sprintf("%s %s: %+v %v", time.Now().Format(time.TimeOnly), what, r, err))
		if r, ok := r.(*payment.Result); ok && r != nil {
			c.given[r.PaymentID] = c.given[r.PaymentID] || r.Action != nil
			c.succeeded = c.succeeded || r.Status == payment.Succeeded
		}
	})
}

// result is a call that answers with a Result.
func (c *chaos) result(what string, do func(ctx context.Context, p *payment.Client) (*payment.Result, error)) {
	c.call(what, func(ctx context.Context, p *payment.Client) (any, error) { return do(ctx, p) })
}

// spoil lets a step of a provider go wrong when it is next taken.
func (c *chaos) spoil(b *paymenttest.Bank, steps ...paymenttest.Step) {
	s := steps[c.rnd.IntN(len(steps))]
	switch c.rnd.IntN(4) {
	case 0:
		b.Fail(s, fault.New(fault.Unavailable, nil))
	case 1:
		b.Fail(s, uncertain())
	case 2:
		b.Lose(s)
	case 3:
		time.AfterFunc(time.Duration(c.rnd.IntN(300))*time.Second, b.Hang(s))
	}
}

// payments are those that the journal knows; the customer acts only on what he was
// given.
func (c *chaos) payments(given bool, do func(b *paymenttest.Bank, id string)) {
	e, err := c.two.journal.Entry(c.t.Context(), payment.Key{Order: "o"})
	if err != nil {
		return
	}
	for _, a := range e.Attempts {
		c.mu.Lock()
		skip := a.PaymentID == "" || given && !c.given[a.PaymentID]
		c.mu.Unlock()
		if skip {
			continue
		}
		do(map[string]*paymenttest.Bank{"first": c.first, "second": c.second}[a.Provider], a.PaymentID)
	}
}

// pause lets some time pass, or all that runs end.
func (c *chaos) pause() {
	if c.rnd.IntN(2) == 0 {
		time.Sleep(time.Duration(c.rnd.IntN(5000)) * time.Millisecond)
	}
	if c.rnd.IntN(8) == 0 {
		c.running.Wait()
	}
}

// settle is the time after all that, in which nothing fails any more.
func (c *chaos) settle(end func(b *paymenttest.Bank, id string)) {
	c.running.Wait()
	c.mu.Lock()
	c.failing = 0
	c.mu.Unlock()
	for i := range 60 {
		time.Sleep(time.Hour)
		_, err := c.clients[i%4].ReconcileOnce(c.t.Context())
		require.NoError(c.t, err)
		if i == 40 { // what took days has ended by then
			c.payments(false, end)
		}
	}
}

// story is what happened, for a run that fails.
func (c *chaos) story() string {
	e, _ := c.two.journal.Entry(c.t.Context(), payment.Key{Order: "o"})
	return fmt.Sprintf("%d%% of the journal's calls fail\ncharges %v\nentry %+v\nsaid %q", c.failing, c.charges("o"), e, c.said)
}

// TestWhateverHappensAnOrderIsPaidOnceAndTheJournalKnows runs random calls of four
// processes, faults, webhooks and customers.
func TestWhateverHappensAnOrderIsPaidOnceAndTheJournalKnows(t *testing.T) {
	randomRuns(t, func(t *testing.T, rnd *rand.Rand) {
		c := newChaos(t, rnd)
		noFence := rnd.IntN(2) == 0
		c.first.Approves, c.first.NoFence = noFence, noFence
		hold, voids := rnd.IntN(4) == 0, rnd.IntN(3) == 0
		usual := anyMethod(rnd)
		for range 12 + rnd.IntN(20) {
			c.anything(usual, hold, voids)
			c.pause()
		}
		c.settle(func(b *paymenttest.Bank, id string) { b.Clear(id, true) })
		charges := len(c.charges("o"))
		require.LessOrEqual(t, charges, 1, c.story())
		r, err := c.clients[1].Recorded(t.Context(), "o")
		if errors.Is(err, fault.NotFound) {
			assert.Zero(t, charges)
			return
		}
		require.NoError(t, err)
		assert.Equal(t, charges == 1, r.Status == payment.Succeeded, c.story())
		assert.True(t, !c.succeeded || charges == 1, c.story())
		if !voids || !noFence { // what can't be fenced and must not be paid waits until the provider has forgotten it
			assert.NotEqual(t, payment.Unknown, r.Status, c.story())
		}
	})
}

func anyMethod(rnd *rand.Rand) string {
	return []string{paymenttest.Good, paymenttest.Poor, paymenttest.Strict, paymenttest.Slow, ""}[rnd.IntN(5)]
}

// anything does one thing.
func (c *chaos) anything(usual string, hold, voids bool) {
	o := order("o", usual)
	o.Hold, o.Try = hold, c.rnd.IntN(2)
	switch n := c.rnd.IntN(20); {
	case n < 5:
		if n == 0 {
			o.Methods = order("o", anyMethod(c.rnd)).Methods
		}
		c.result("charge", func(ctx context.Context, p *payment.Client) (*payment.Result, error) { return p.Charge(ctx, o) })
	case n < 6:
		c.result("start", func(ctx context.Context, p *payment.Client) (*payment.Result, error) { return p.Start(ctx, o) })
	case n < 7:
		c.result("finish", func(ctx context.Context, p *payment.Client) (*payment.Result, error) { return p.Finish(ctx, "o") })
	case n < 8:
		c.result("resume", func(ctx context.Context, p *payment.Client) (*payment.Result, error) { return p.Resume(ctx, "o") })
	case n < 9 && voids:
		c.result("void", func(ctx context.Context, p *payment.Client) (*payment.Result, error) { return p.Void(ctx, "o") })
	case n < 10 && hold:
		amount := usd(int64(500 * (1 + c.rnd.IntN(2))))
		c.result("capture", func(ctx context.Context, p *payment.Client) (*payment.Result, error) {
			return p.Capture(ctx, "o", amount)
		})
	default:
		c.outside()
	}
}

// outside is what others do: providers, customers, time.
func (c *chaos) outside() {
	bank := []*paymenttest.Bank{c.first, c.first, c.first, c.second}[c.rnd.IntN(4)]
	switch c.rnd.IntN(10) {
	case 0, 1, 2:
		c.spoil(bank, paymenttest.Prepare, paymenttest.Commit, paymenttest.LookUp, paymenttest.Fence, paymenttest.Capture, paymenttest.Void)
	case 3:
		c.payments(true, func(b *paymenttest.Bank, id string) { b.Confirm(id) })
	case 4:
		c.payments(true, func(b *paymenttest.Bank, id string) { b.GiveUp(id) })
	case 5:
		paid := c.rnd.IntN(2) == 0
		c.payments(false, func(b *paymenttest.Bank, id string) { b.Clear(id, paid) })
	case 6:
		p, event := c.client(), fmt.Sprint("evt_", c.rnd.IntN(20))
		c.payments(false, func(b *paymenttest.Bank, id string) {
			c.running.Go(func() { c.hook(c.t, p, b.Webhook("/", event, id), b.Name()) })
		})
	case 7:
		p := c.client()
		c.running.Go(func() { _, _ = p.ReconcileOnce(context.WithoutCancel(c.t.Context())) })
	case 8: // a process sleeps, and another takes the order over
		if _, err := c.two.journal.Entry(c.t.Context(), payment.Key{Order: "o"}); err == nil && c.rnd.IntN(3) == 0 {
			c.expire(c.t)
		}
	case 9:
		time.Sleep(time.Duration(c.rnd.IntN(300)) * time.Second)
	}
}

// TestWhateverHappensTheJournalKnowsWhatWasRefunded does the same with refunds.
func TestWhateverHappensTheJournalKnowsWhatWasRefunded(t *testing.T) {
	amounts := map[string]payment.Money{"r1": usd(300), "r2": usd(500), "pending-3": usd(700), "r4": {}, "r5": usd(1999)}
	ids := []string{"r1", "r2", "pending-3", "r4", "r5"}
	randomRuns(t, func(t *testing.T, rnd *rand.Rand) {
		c := newChaos(t, rnd)
		paid, err := c.pay.Charge(t.Context(), order("o", paymenttest.Good))
		require.NoError(t, err)
		for range 6 + rnd.IntN(20) {
			id := ids[rnd.IntN(len(ids))]
			switch rnd.IntN(8) {
			case 0, 1, 2, 3:
				c.call(id, func(ctx context.Context, p *payment.Client) (any, error) { return p.Refund(ctx, "o", id, amounts[id]) })
			case 4, 5:
				c.spoil(c.first, paymenttest.Refund, paymenttest.LookUp)
			case 6:
				c.result("resume", func(ctx context.Context, p *payment.Client) (*payment.Result, error) { return p.Resume(ctx, "o") })
			case 7:
				time.Sleep(time.Duration(rnd.IntN(300)) * time.Second)
			}
			c.pause()
		}
		state := []payment.RefundState{payment.RefundFailed, payment.RefundSucceeded}[rnd.IntN(2)]
		c.settle(func(b *paymenttest.Bank, id string) { b.EndRefund(id, "pending-3", state) })
		r, err := c.pay.Recorded(t.Context(), "o")
		require.NoError(t, err)
		want := usd(0)
		for _, f := range r.Refunds {
			assert.Contains(t, []payment.RefundState{payment.RefundSucceeded, payment.RefundFailed}, f.State, c.story())
			if f.State == payment.RefundSucceeded {
				want.Minor += f.Amount.Minor
			}
		}
		assert.Equal(t, want, c.first.Refunded(paid.PaymentID), c.story())
		assert.LessOrEqual(t, want.Minor, int64(1999))
	})
}
