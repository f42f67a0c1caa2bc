package fleet

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	deadline = 10 * time.Second     // a caller's, as services have one
	tick     = 1 * time.Millisecond // calls begin at whole ones, which spares the bubble's clock steps
)

// fleet is how many processes there are, and how many calls each makes per
// second, as a Poisson process.
type fleet struct {
	processes int
	rate      float64
}

// load is the fleet's normal one, in calls per second.
func (f fleet) load() float64 { return float64(f.processes) * f.rate }

// result is what was measured, by second of virtual time. A call is booked to the
// second in which it began, an attempt to the one in which it arrived.
type result struct {
	fleet
	timeline
	mu              sync.Mutex
	calls, answered []int
	took            []time.Duration // the sum over all calls
	tookAnswered    []time.Duration // the sum over those that were answered
	offered, backup []int           // attempts at the primary and the backup
	full            int             // attempts that found the primary's queue full
}

// seconds leaves room for calls that end after the simulation.
func (tl timeline) seconds() int { return int((tl.end+deadline)/time.Second) + 1 }

func count[N int | time.Duration](by []N, at time.Duration, n N) { by[at/time.Second] += n }

// simulate runs a fleet against a provider once, in virtual time. Calls come at
// the same instants for the same seed, whatever the variant.
func simulate(t *testing.T, f fleet, tl timeline, tr trouble, v variant, seed uint64) *result {
	n := tl.seconds()
	r := &result{
		fleet: f, timeline: tl, calls: make([]int, n), answered: make([]int, n),
		took: make([]time.Duration, n), tookAnswered: make([]time.Duration, n),
	}
	synctest.Test(t, func(t *testing.T) {
		primary := newProvider(tr, tl, f.load(), seed)
		var backup *provider
		if v.backup {
			backup = newProvider(none, tl, f.load(), seed+1)
			r.backup = backup.offered
		}
		r.offered = primary.offered
		clients := make([]client, f.processes)
		for i := range clients {
			clients[i] = v.client(t, primary, backup)
		}
		r.run(t.Context(), rand.New(rand.NewPCG(seed, 1)), clients)
		r.full = primary.full
	})
	return r
}

// run makes the calls of the whole fleet. Together its Poisson processes are one,
// of which each call belongs to any of them. Goroutines that have made a call make
// another, since a fresh one has its stack to grow.
func (r *result) run(ctx context.Context, rng *rand.Rand, clients []client) {
	begun, free := time.Now(), make(chan chan client, 2*int(r.load()*deadline.Seconds()))
	var all sync.WaitGroup
	worker := func(calls chan client) {
		for ask := range calls {
			r.call(ctx, begun, ask)
			free <- calls
		}
	}
	var workers []chan client
	for at := 0.0; ; {
		at += rng.ExpFloat64() / r.load()
		due := time.Duration(at * float64(time.Second)).Truncate(tick)
		if due >= r.end {
			break
		}
		time.Sleep(due - time.Since(begun))
		var w chan client
		select {
		case w = <-free:
		default:
			w = make(chan client, 1)
			workers = append(workers, w)
			all.Go(func() { worker(w) })
		}
		w <- clients[rng.IntN(len(clients))]
	}
	for _, w := range workers {
		close(w)
	}
	all.Wait()
}

// call makes one and books it.
func (r *result) call(ctx context.Context, begun time.Time, ask client) {
	at := time.Since(begun)
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	err := ask(ctx)
	took := time.Since(begun) - at
	r.mu.Lock()
	defer r.mu.Unlock()
	count(r.calls, at, 1)
	count(r.took, at, took)
	if err == nil {
		count(r.answered, at, 1)
		count(r.tookAnswered, at, took)
	}
}
