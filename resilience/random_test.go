package resilience_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

var (
	seeds    = flag.Int("seeds", 300, "how many random worlds")
	oneSeed  = flag.Int("seed", -1, "only this one")
	errPlain = errors.New("plain")
)

type rcall struct {
	mu       sync.Mutex
	attempts int
	acted    map[string]bool
	settled  map[string]bool
	log      []string
	sawPanic bool
}

type rcallKey struct{}

type ranswer struct {
	attempts int
	path     string
}

func (a *ranswer) Answered(p string, n int) { a.path, a.attempts = p, n }

type rasker interface {
	Get(ctx context.Context, q string) (*ranswer, error)
}

type world struct {
	*rand.Rand
	mu     sync.Mutex
	leaf   int
	panics bool
}

func (w *world) n(n int) int { w.mu.Lock(); defer w.mu.Unlock(); return w.IntN(n) }

type rleaf struct {
	w    *world
	name string
	sick int // percent that fails
}

func (l *rleaf) Get(ctx context.Context, _ string) (*ranswer, error) {
	c := ctx.Value(rcallKey{}).(*rcall)
	c.mu.Lock()
	c.attempts++
	c.mu.Unlock()
	note := func(what string, acted bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.log = append(c.log, l.name+": "+what)
		if acted {
			c.acted[l.name] = true
			delete(c.settled, l.name)
		}
	}
	d := []time.Duration{0, 0, time.Millisecond, 50 * time.Millisecond, 400 * time.Millisecond, 2 * time.Second}[l.w.n(6)]
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			note("ended "+ctx.Err().Error(), true)
			if l.w.n(3) == 0 {
				return nil, &fault.Error{Kind: fault.Uncertain, Err: ctx.Err(), Deduped: l.w.n(2) == 0}
			}
			return nil, ctx.Err()
		}
	}
	if l.w.n(100) >= l.sick {
		note("ok", true)
		return &ranswer{}, nil
	}
	if l.w.panics && l.w.n(12) == 0 {
		note("panic", true)
		c.mu.Lock()
		c.sawPanic = true
		c.mu.Unlock()
		if l.w.n(2) == 0 {
			runtime.Goexit()
		}
		panic("hostile")
	}
	k := fault.Kind(l.w.n(12))
	if l.w.n(3) == 0 {
		k = []fault.Kind{fault.Unavailable, fault.Uncertain, fault.RateLimited}[l.w.n(3)]
	}
	f := &fault.Error{Kind: k, Deduped: l.w.n(2) == 0}
	if l.w.n(4) == 0 {
		f.RetryAfter = time.Duration(l.w.n(1500)) * time.Millisecond
	}
	acted := k == fault.Unknown || k == fault.Uncertain || k == fault.Canceled
	note(fmt.Sprintf("%v dedup=%v after=%v", k, f.Deduped, f.RetryAfter), acted)
	if f.Settles() {
		c.mu.Lock()
		c.settled[l.name] = true
		c.mu.Unlock()
	}
	if k == fault.Unknown && l.w.n(2) == 0 {
		return nil, errPlain
	}
	return nil, f
}

type rnest struct {
	*resilience.Group[rasker]
}

func (n rnest) Get(ctx context.Context, q string) (*ranswer, error) {
	return resilience.Call(ctx, n.Group, ctx.Value(opKey{}).(resilience.Op), rasker.Get, q)
}

type opKey struct{}

type rdeco struct {
	rasker
	d time.Duration
}

func (r rdeco) Unwrap() rasker { return r.rasker }
func (r rdeco) Get(ctx context.Context, q string) (*ranswer, error) {
	if r.d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.d)
		defer cancel()
	}
	return r.rasker.Get(ctx, q)
}

func (w *world) policy() resilience.Policy {
	p := resilience.Default
	p.Timeout = []time.Duration{100 * time.Millisecond, time.Second, 3 * time.Second}[w.n(3)]
	p.Total = []time.Duration{0, 3 * time.Second, 30 * time.Second}[w.n(3)]
	p.Retries = w.n(4)
	p.MaxWait = []time.Duration{0, 200 * time.Millisecond, 2 * time.Second}[w.n(3)]
	p.MaxWaiting = w.n(4)
	p.Breaker.OpenFor = []time.Duration{100 * time.Millisecond, 5 * time.Second}[w.n(2)]
	p.Breaker.InARow = w.n(5)
	p.Breaker.Probes = w.n(3)
	p.Breaker.WarmUp = 0
	if w.n(2) == 0 {
		p.Breaker = resilience.Breaker{}
	}
	if w.n(2) == 0 {
		p.Hedge.After = 20 * time.Millisecond
	}
	switch w.n(4) {
	case 0:
		p.Concurrency = 1 + w.n(3)
	case 1:
		p.Adaptive = resilience.Adaptive{Max: 1 + w.n(10)}
	}
	if w.n(3) == 0 {
		p.Rate, p.Burst = float64(1+w.n(20)), 1+w.n(5)
	}
	if w.n(3) == 0 {
		k := p
		k.PerKey = nil
		k.Hedge = resilience.Hedge{}
		k.Concurrency, k.Adaptive = w.n(3), resilience.Adaptive{}
		k.Rate, k.Burst = float64(w.n(2)*5), 2
		p.PerKey = &k
		p.MaxKeys = 1 + w.n(3)
	}
	p.Route = resilience.Route(w.n(2))
	return p
}

func (w *world) group(t *testing.T, depth int, obs ...resilience.Observer) *resilience.Group[rasker] {
	var ms []resilience.Member[rasker]
	for i := range 1 + w.n(3) {
		var p rasker
		if depth > 0 && w.n(2) == 0 {
			p = rnest{w.group(t, depth-1)}
			if w.n(2) == 0 {
				p = rdeco{rasker: p, d: time.Duration(w.n(2)*w.n(3000)) * time.Millisecond}
			}
		} else {
			w.leaf++
			p = &rleaf{w: w, name: fmt.Sprintf("leaf%d", w.leaf), sick: []int{0, 50, 100}[w.n(3)]}
		}
		m := resilience.Member[rasker]{Name: fmt.Sprintf("m%d", i), Provider: p}
		ms = append(ms, m)
	}
	g, err := resilience.New(w.policy(), ms, obs...)
	if err != nil {
		t.Skip(err)
	}
	return g
}

// book checks that each beginning has one end.
type book struct {
	mu    sync.Mutex
	open  map[int]string
	next  int
	bad   []string
	count map[int]int // attempts by call
	numb  map[int]map[int]int
	ended map[int]int
}

type (
	bookAttempt struct{}
	bookCall    struct{}
)

func (b *book) Start(ctx context.Context, e resilience.Event) context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	b.open[b.next] = e.Type.String()
	if e.Type == resilience.CallStarted {
		return context.WithValue(ctx, bookCall{}, b.next)
	}
	call, _ := ctx.Value(bookCall{}).(int)
	b.count[call]++
	if b.numb[call] == nil {
		b.numb[call] = map[int]int{}
	}
	b.numb[call][e.Attempt]++
	return context.WithValue(ctx, bookAttempt{}, b.next)
}

func (b *book) Observe(ctx context.Context, e resilience.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var id int
	switch e.Type {
	case resilience.AttemptEnded, resilience.Panicked:
		id, _ = ctx.Value(bookAttempt{}).(int)
		if e.Type == resilience.Panicked && id == 0 {
			return // an outer attempt, which didn't begin for observers
		}
		if e.Type == resilience.Panicked && b.open[id] == "" {
			return
		}
	case resilience.CallEnded:
		id, _ = ctx.Value(bookCall{}).(int)
		b.ended[id] = e.Attempt
	default:
		return
	}
	if b.open[id] == "" {
		b.bad = append(b.bad, fmt.Sprintf("%v without a beginning (%d) %s %d", e.Type, id, e.Provider, e.Attempt))
		return
	}
	delete(b.open, id)
}

func TestRandomWorldsActOnceAndLoseNothing(t *testing.T) {
	for seed := range *seeds {
		if *oneSeed >= 0 && seed != *oneSeed {
			continue
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomWorld(t, uint64(seed)) })
		})
	}
}

func randomWorld(t *testing.T, seed uint64) {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 1)), panics: seed%3 == 0}
	b := &book{open: map[int]string{}, count: map[int]int{}, numb: map[int]map[int]int{}, ended: map[int]int{}}
	g := w.group(t, 2, b)
	for range 30 {
		var wg sync.WaitGroup
		for range 1 + w.n(6) {
			wg.Go(func() { randomCall(t, w, g) })
		}
		if w.n(4) == 0 {
			wg.Go(func() {
				switch w.n(5) {
				case 0:
					_ = g.SetPolicy(w.policy())
				case 1:
					_ = g.Switch("m0", resilience.Mode(w.n(4)))
				case 2:
					g.Restore(g.Snapshot())
				case 3:
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					_ = g.Drain(ctx, "m0")
				case 4:
					_ = g.Switch("m0", resilience.Automatic)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Duration(w.n(3000)) * time.Millisecond)
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	if l := g.Leaks(); l != nil {
		t.Errorf("left: %v", l)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.open) > 0 || len(b.bad) > 0 {
		t.Errorf("open %v bad %v", b.open, b.bad)
	}
	if !w.panics {
		for call, n := range b.ended {
			if n != b.count[call] {
				t.Errorf("CallEnded says %d attempts, %d were observed", n, b.count[call])
			}
		}
		for _, numbers := range b.numb {
			for n, times := range numbers {
				if times > 1 {
					t.Errorf("attempt number %d %d times of %v", n, times, numbers)
				}
			}
		}
	}
}

func randomCall(t *testing.T, w *world, g *resilience.Group[rasker]) {
	op := resilience.Op{Name: "x", Safety: fault.Safety(w.n(4)), Class: []string{"", "a", "b"}[w.n(3)]}
	if w.n(2) == 0 {
		op.Safety = fault.Once
	}
	if w.n(3) == 0 {
		k := fault.Kind(w.n(12))
		op.Decide = func(f *fault.Error, v fault.Verdict) fault.Verdict {
			if f.Kind == k {
				v.Failover = false
			}
			return v
		}
	}
	c := &rcall{acted: map[string]bool{}, settled: map[string]bool{}}
	ctx := context.WithValue(context.WithValue(t.Context(), rcallKey{}, c), opKey{}, op)
	if w.n(2) == 0 {
		ctx = resilience.WithKey(ctx, fmt.Sprint(w.n(5)))
	}
	var cancel context.CancelFunc
	cancelAt := time.Duration(w.n(4000)) * time.Millisecond
	begun := time.Now()
	switch w.n(4) {
	case 0:
		ctx, cancel = context.WithTimeout(ctx, cancelAt)
		defer cancel()
	case 1:
		ctx, cancel = context.WithCancel(ctx)
		tm := time.AfterFunc(cancelAt, cancel)
		defer tm.Stop()
		defer cancel()
	default:
		cancelAt = -1
	}
	finished := false
	var r *ranswer
	var err error
	func() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() { _ = recover() }()
			r, err = resilience.Call(ctx, g, op, rasker.Get, "q")
			finished = true
		}()
		<-done
	}()
	if took := time.Since(begun); cancelAt >= 0 && took > cancelAt {
		t.Errorf("took %v, canceled after %v: %v", took, cancelAt, c.log)
	}
	if !finished {
		if !c.sawPanic {
			t.Errorf("not finished, nobody panicked")
		}
		return
	}
	time.Sleep(time.Nanosecond) // seconds that were canceled
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		if r.attempts != c.attempts {
			t.Errorf("answered after %d attempts, made %d", r.attempts, c.attempts)
		}
	} else if f, ok := fault.As(err); !ok || f.Attempts != c.attempts {
		t.Errorf("error says %d attempts, made %d: %v; %v", f.Attempts, c.attempts, err, c.log)
	}
	if op.Safety != fault.Once {
		return
	}
	if len(c.acted) > 1 {
		t.Errorf("several may have acted: %v; %v", c.log, err)
	}
	open := 0
	for a := range c.acted {
		if !c.settled[a] {
			open++
		}
	}
	if err != nil && open > 0 && !fault.MayHaveActed(err) {
		t.Errorf("may have acted, and the error doesn't say so: %v; %v", err, c.log)
	}
	if err != nil && open == 0 && len(c.acted) == 0 && fault.MayHaveActed(err) {
		f, _ := fault.As(err)
		if f.Kind != fault.Canceled {
			t.Logf("nobody has acted: %v; %v", err, c.log)
		}
	}
}
