package fleet

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// trouble is what the provider does while it is down.
type trouble string

const (
	refuses trouble = "refuses" // it answers 500 or 503, as often, after refusal
	hangs   trouble = "hangs"   // it takes requests and never answers them
	none    trouble = "none"    // a backup, which is always well
)

// timeline says when a provider is down, when it answers again though slowly, when
// it is well again, and when the simulation ends, counted from its beginning.
type timeline struct{ down, slow, well, end time.Duration }

const (
	refusal = 5 * time.Millisecond
	// service is the mean time that a worker takes for a request when the provider
	// is well; it has a lognormal distribution with this sigma.
	service = 50 * time.Millisecond
	sigma   = 0.4
	// capacity and slowCapacity are what the provider can do, as multiples of the
	// fleet's normal load.
	capacity     = 5.0
	slowCapacity = 1.2
	// backlog is how many seconds of the normal load may queue. A slow provider
	// takes 4.2 s for them, longer than any attempt waits.
	backlog = 5
)

// provider is a server with a bounded number of workers and a bounded queue before
// them, first come first served. It doesn't notice that a caller has gone: what
// timed out in the queue is worked on all the same, which is how a stampede keeps
// a server down.
type provider struct {
	trouble trouble
	times   timeline
	began   time.Time
	backlog int

	mu      sync.Mutex
	rng     *rand.Rand
	free    []time.Duration // when each worker is, a heap
	waiting []time.Duration // when the work on each queued request begins, in order
	offered []int           // attempts by second
	full    int             // attempts that found the queue full
}

// newProvider makes one for a normal load in calls per second.
func newProvider(tr trouble, times timeline, load float64, seed uint64) *provider {
	return &provider{
		trouble: tr, times: times, began: time.Now(), backlog: int(backlog * load),
		rng:     rand.New(rand.NewPCG(seed, 0)),
		free:    make([]time.Duration, int(capacity*load*service.Seconds())),
		offered: make([]int, times.seconds()),
	}
}

var (
	errRefused = fault.New(fault.Unavailable, errors.New("503"))
	errBroken  = fault.New(fault.Uncertain, errors.New("500"))
)

// Ask is the provider's one method.
func (p *provider) Ask(ctx context.Context, _ struct{}) (struct{}, error) {
	wait, err := p.arrive()
	if wait == never {
		<-ctx.Done()
		return struct{}{}, ctx.Err()
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return struct{}{}, err
	case <-ctx.Done():
		return struct{}{}, ctx.Err()
	}
}

const never = time.Duration(math.MaxInt64)

// arrive gives a request its place, and says what it will be answered and after
// what time.
func (p *provider) arrive() (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Since(p.began)
	count(p.offered, now, 1)
	if p.trouble != none && now >= p.times.down && now < p.times.slow {
		if p.trouble == hangs {
			return never, nil
		}
		return refusal, [...]error{errRefused, errBroken}[p.rng.IntN(2)]
	}
	first, _ := slices.BinarySearch(p.waiting, now+1)
	p.waiting = p.waiting[first:]
	if len(p.waiting) >= p.backlog {
		p.full++
		return refusal, errRefused
	}
	begin := max(now, p.free[0])
	if begin > now {
		p.waiting = append(p.waiting, begin)
	}
	p.free[0] = begin + p.work(begin)
	done := p.free[0]
	p.sift()
	return done - now, nil
}

// work is how long a worker takes for a request that it begins at that time.
func (p *provider) work(at time.Duration) time.Duration {
	d := float64(service) * math.Exp(sigma*p.rng.NormFloat64()-sigma*sigma/2)
	if p.trouble != none && at >= p.times.slow && at < p.times.well {
		d *= capacity / slowCapacity
	}
	return time.Duration(d)
}

// sift restores the heap of workers after its first has got work.
func (p *provider) sift() {
	h := p.free
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h[child] < h[least] {
				least = child
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
