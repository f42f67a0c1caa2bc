package main

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Three customers click whatever there is on five orders, while the providers fail
// in every way. CHECKOUT_CLICKS is how often each of them clicks, CHECKOUT_SEED
// what they click.
func TestWhateverIsClickedTheBooksAgree(t *testing.T) {
	clicks, seed := number("CHECKOUT_CLICKS", 10), number("CHECKOUT_SEED", rand.Uint64())
	t.Logf("CHECKOUT_SEED=%d", seed)
	s := opened(t)
	var orders []string
	for i := range 5 {
		id, err := s.book.add(t.Context(), items["book"], i%3 == 0)
		require.NoError(t, err)
		orders = append(orders, id)
	}
	var all sync.WaitGroup
	for i := range uint64(3) {
		c := &clicker{demo: demo{s: s, client: s.world.client}, r: rand.New(rand.NewPCG(seed, i))}
		all.Go(func() {
			for range clicks {
				c.id = pick(c.r, orders...)
				c.click(t.Context())
			}
		})
	}
	all.Wait()
	settled(t, s, orders)
}

func number(name string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

// settled mends all, asks how each order stands, and compares the books.
func settled(t *testing.T, s *shop, orders []string) {
	t.Helper()
	d := &demo{s: s, client: s.world.client}
	require.NoError(t, d.mend(t.Context()))
	s.world.deliverEvents(t.Context(), true)
	for _, d.id = range orders {
		_, err := d.click(t.Context(), "resume")
		require.NoError(t, err)
		o, err := d.look(t.Context())
		require.NoError(t, err)
		t.Log(o.ID, o.Status, len(o.Entry.Attempts), o.Told)
		require.NotEqual(t, "unknown", string(o.Status))
		require.NoError(t, o.disagree())
	}
	assert.Zero(t, s.world.verdict().Twice)
}

// clicker is a customer who knows no rules, and has a page of a provider's open.
type clicker struct {
	demo

	r    *rand.Rand
	open page
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// click does something. Whether it works doesn't matter.
func (c *clicker) click(ctx context.Context) {
	switch n := c.r.IntN(20); {
	case n < 7:
		c.open, _ = c.pay(ctx, pick(c.r, "visa", "wallet", "secure", "poor", "form", "paypal"))
		if f := secretField.FindStringSubmatch(c.open.body); f != nil {
			c.open, _ = c.demo.click(ctx, "form", "secret", f[1], "card", pick(c.r, "visa", "secure", "poor"))
		}
	case n < 11 && c.open.url != nil:
		_, _ = c.post(ctx, c.open.url.String(), "choice", pick(c.r, "pay", "cancel", "decline"), "outcome", pick(c.r, "complete", "fail"))
	case n < 12:
		_, _ = c.demo.click(ctx, "resume")
	case n < 13:
		_, _ = c.demo.click(ctx, "capture", "amount", pick(c.r, "all", "half"))
	case n < 14:
		_, _ = c.demo.click(ctx, "void")
	case n < 15:
		_, _ = c.demo.click(ctx, "refund", "refund", pick(c.r, "r1", "r2", "r3"), "amount", pick(c.r, "all", "part"))
	case n < 16:
		_, _ = c.post(ctx, c.s.url+"/deliver", "shuffled", pick(c.r, "", "1"))
	case n < 18:
		_, _ = c.post(ctx, c.s.url+"/trouble", "provider", pick(c.r, "stripe", "paypal"), "trouble", pick(c.r, troubles...).Name)
	default:
		_, _ = c.post(ctx, c.s.url+"/trouble", "provider", pick(c.r, "stripe", "paypal"))
	}
}
