package matrix_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/payment"
)

// run is one cell, from its beginning to its end.
type run struct {
	cell
	*world

	t         *testing.T
	journal   payment.Journal
	url       string     // of the journal, for other processes
	clockFile string     // likewise
	crew      []*process // that many callers are in
	id        string
	asks      *payment.Order
	sleeper   answer // of a process that was stopped
	miss      bool   // the cell's moment didn't come

	mu     sync.Mutex
	pulled time.Time // when the caller gave up
}

// came is what became of a cell.
type came struct {
	answers []answer
	rounds  int           // of Reconcile until nothing was unknown
	gaveUp  time.Duration // from a cancellation to the answer
	missed  bool          // the moment of the flaw didn't come
}

// orderID is the same in each run.
func (c cell) orderID() string {
	h := fnv.New64a()
	h.Write([]byte(c.name()))
	return fmt.Sprintf("order-%x", h.Sum64())
}

func (c cell) play(t *testing.T, at *rig) came {
	t.Helper()
	w := newWorld(t, c)
	defer w.close()
	r := &run{cell: c, world: w, t: t, id: c.orderID()}
	r.asks = c.order(r.id, w.vault)
	r.journal, r.url = at.journal(c)
	if c.Store != inMemory {
		r.crew, r.clockFile = at.crews[c.Store], filepath.Join(t.TempDir(), "clock")
		r.writeClock()
	}
	r.arrange()
	out := r.act()
	w.heal()
	r.checkAnswers(out.answers)
	out.rounds = r.reconcile()
	r.checkEnd()
	r.complete()
	return out
}

// act is the operation, with the flaw.
func (r *run) act() came {
	switch {
	case r.Flaw == kills:
		return r.actKilled()
	case r.Flaw == stops:
		return r.actStopped()
	case r.Callers > 1:
		return r.actTogether()
	}
	return r.actAlone()
}

// party makes another Client, as another process would.
func (r *run) party(pull func()) *party {
	return newParty(r.cell, r.ends(), r.journal, r.clock.Now, r.pace(), pull)
}

// arrange makes what the operation begins with.
func (r *run) arrange() {
	if r.Op == charge {
		return
	}
	p := newParty(r.cell, r.ends(), r.journal, r.clock.Now, unhurried(), func() {})
	p.c.Op = charge
	defer func() { require.NoError(r.t, p.close()) }()
	p.set(r.arranging(), false)
	a := p.perform(r.t.Context(), r.asks)
	want := succeeded
	switch r.Op {
	case resume:
		want = unknown
	case capture, void:
		want = unknown // it is held, which is no success of a charge
		require.Contains(r.t, a.Said, payment.Authorized)
	default:
	}
	require.Equal(r.t, want, a.Outcome, a.Said)
}

// arranging is the rule of that charge: the primary is away where the operation
// is to be at the other one, and what is to be resumed is cut off.
func (r *run) arranging() rule {
	return func(provider string, kind request, _ int) string {
		switch {
		case provider != r.target():
			return map[bool]string{true: down}[r.Phase == failover]
		case r.Op != resume || kind == toPrepare || kind == toLogin:
			return ""
		case kind == toCommit && r.Done:
			return cutDone
		}
		return cutIdle
	}
}

// actAlone is one caller in this process.
func (r *run) actAlone() came {
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	giveUp := sync.OnceFunc(func() {
		r.mu.Lock()
		r.pulled = time.Now()
		r.mu.Unlock()
		cancel()
	})
	if r.Flaw == cancels {
		r.onPull(giveUp)
	}
	p := r.party(giveUp)
	p.set(r.marking(), true)
	a := p.perform(ctx, r.asks)
	out := came{answers: []answer{a}, gaveUp: -1}
	r.mu.Lock()
	if !r.pulled.IsZero() {
		out.gaveUp = time.Since(r.pulled)
	}
	r.mu.Unlock()
	r.world.heal()
	p.set(nil, false)
	assert.NoError(r.t, p.close(), "what has begun ends")
	assert.Less(r.t, out.gaveUp, time.Second, "a caller who gives up has his answer within 50 ms, where the machine isn't busy")
	if r.goesOn() {
		e, err := r.journal.Entry(r.t.Context(), payment.Key{Order: r.id})
		require.NoError(r.t, err)
		assert.False(r.t, doubtful(e), "what has begun goes on without its caller, and is recorded: %+v", e)
	}
	return out
}

// goesOn reports whether the caller gives up while money moves.
func (c cell) goesOn() bool {
	return c.Flaw == cancels && c.Hit == c.moves() && slices.Contains([]step{inHeader, inBody, written, acted}, c.Step)
}

// checkAnswers holds what was told against the ledgers.
func (r *run) checkAnswers(answers []answer) {
	t := r.t
	l := r.ledger(r.id)
	r.checkOnce(l)
	for _, a := range answers {
		switch a.Outcome {
		case succeeded:
			assert.Equal(t, r.done(), r.state(l), "a success was told: %s", a.Said)
		case declined, failed:
			if len(answers) == 1 { // else another caller may have been luckier
				assert.Equal(t, r.undone(), r.state(l), "%s was told, so nothing was done: %s", a.Outcome, a.Said)
			}
		case unknown:
		}
		if r.succeeds() && !r.miss {
			assert.Equal(t, succeeded, a.Outcome, "a provider is healthy, and the table allows it: %s", a.Said)
		}
		if r.Decline {
			assert.NotEqual(t, succeeded, a.Outcome)
		}
	}
	if s := r.sleeper; s.Outcome == succeeded {
		assert.Equal(t, r.done(), r.state(l), "a success was told to who had slept: %s", s.Said)
	} else if s.Outcome == failed {
		assert.Equal(t, r.undone(), r.state(l), "who had slept was told that nothing was done: %s", s.Said)
	}
	if r.staysAway() {
		assert.Zero(t, r.asked(other(r.target())), "the table forbids another provider, which was asked")
	}
}

// checkOnce is what holds at every moment.
func (r *run) checkOnce(l ledger) {
	t := r.t
	assert.LessOrEqual(t, len(l.charges)+l.holds, 1, "charged or held more than once: %v, %d holds", l.charges, l.holds)
	assert.LessOrEqual(t, len(l.refunds), 1, "refunded more than once: %v", l.refunds)
	accounts := map[string]string{"stripe": stripeAccount, "paypal": "MERCHANT23456"}
	for amount, moved := range map[int64][]charged{minor: l.charges, refundMinor: l.refunds} {
		for _, c := range moved {
			assert.Equal(t, charged{c.provider, accounts[c.provider], r.id, "USD", amount}, c, "amount, currency, account and order")
		}
	}
}

// stands is how an order stands by the ledgers: charges, refunds, holds.
type stands struct{ charges, refunds, holds int }

func (r *run) state(l ledger) stands { return stands{len(l.charges), len(l.refunds), l.holds} }

// done is how it stands when the operation was done, undone when it wasn't.
func (c cell) done() stands {
	switch c.Op {
	case void:
		return stands{}
	case refund:
		return stands{charges: 1, refunds: 1}
	default:
		return stands{charges: 1}
	}
}

func (c cell) undone() stands {
	switch c.Op {
	case capture, void:
		return stands{holds: 1}
	case refund:
		return stands{charges: 1}
	default:
		return stands{}
	}
}

const maxRounds = 3

// pauses are the times between the rounds: longer than a lease and than what is
// waited before an order is looked after again, and together longer than what was
// to be committed is still committed.
var pauses = [maxRounds]time.Duration{2 * time.Minute, 30 * time.Minute, time.Hour}

// reconcile lets time pass and counts the rounds until nothing is unknown.
func (r *run) reconcile() int {
	if r.Day || r.kept() && r.Step == written && (r.Op == refund || r.Op == capture) { // which the key forbids until then
		r.advance(25 * time.Hour)
	}
	p := r.party(func() {})
	defer func() { assert.NoError(r.t, p.close()) }()
	for round := range maxRounds + 1 {
		e, err := r.journal.Entry(r.t.Context(), payment.Key{Order: r.id})
		if err != nil || !doubtful(e) { // nothing was noted, nothing was sent
			return round
		}
		if round == maxRounds {
			assert.Fail(r.t, "it isn't known after 3 rounds", "%+v %+v", e.Attempts, e.Refunds)
			break
		}
		r.advance(pauses[round])
		_, err = p.pay.ReconcileOnce(r.t.Context())
		assert.NoError(r.t, err)
	}
	return maxRounds + 1
}

func doubtful(e *payment.Entry) bool {
	for _, a := range e.Attempts {
		switch a.State {
		case payment.AttemptNoted, payment.AttemptCommitting, payment.AttemptCapturing, payment.AttemptVoiding, payment.AttemptProcessing:
			return true
		default:
		}
	}
	for _, f := range e.Refunds {
		if f.State == payment.RefundUnknown || f.State == payment.RefundPending {
			return true
		}
	}
	return false
}

// checkEnd holds the journal against the ledgers.
func (r *run) checkEnd() {
	l := r.ledger(r.id)
	r.checkOnce(l)
	e, err := r.journal.Entry(r.t.Context(), payment.Key{Order: r.id})
	if err != nil {
		assert.Equal(r.t, stands{}, r.state(l), "the journal knows nothing, so nothing was done")
		return
	}
	var journal stands
	for _, a := range e.Attempts {
		switch a.State {
		case payment.AttemptPaid:
			journal.charges++
		case payment.AttemptHeld:
			journal.holds++
		default:
		}
	}
	for _, f := range e.Refunds {
		if f.State == payment.RefundSucceeded {
			journal.refunds++
		}
	}
	assert.Equal(r.t, r.state(l), journal, "the journal and the ledgers")
}

// complete asks once more, with all in order: it must be done then, once.
func (r *run) complete() {
	r.advance(pauses[0]) // a lease that could not be given back runs out
	p := r.party(func() {})
	defer func() { assert.NoError(r.t, p.close()) }()
	c := r.cell
	c.Decline = false
	o := c.order(r.id, r.vault)
	o.Try = 1
	if r.Decline { // the customer takes another card
		o.Methods["paypal"] = payment.Method{ID: r.anotherVault()}
	}
	if r.Op == resume {
		p.c.Op = charge
	}
	e, err := r.journal.Entry(r.t.Context(), payment.Key{Order: r.id})
	if r.Op != charge && r.Op != resume && err == nil && r.ended(e) {
		return // the authorisation ran out
	}
	a := p.perform(r.t.Context(), o)
	assert.Equal(r.t, succeeded, a.Outcome, "asked once more when all was in order: %s", a.Said)
	l := r.ledger(r.id)
	r.checkOnce(l)
	assert.Equal(r.t, r.done(), r.state(l), "asked once more")
}

func (r *run) ended(e *payment.Entry) bool {
	return r.Op == capture && e.Attempts[len(e.Attempts)-1].State == payment.AttemptEnded
}
