package bench

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/sony/gobreaker/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// run plays a situation, in virtual time, and says in a few words what it led to.
type run func(t *testing.T) string

// situation is a row of docs/situations.md. Ours and failsafe-go are in each;
// others are peers that are known for it, or do it well.
type situation struct {
	when           string
	ours, failsafe run
	others         []named
}

type named struct {
	lib string
	run run
}

// section is a table of them.
type section struct {
	title string
	rows  []situation
}

var sections = []section{
	{"The breaker", breakerSituations},
	{"What opens it, and how it recovers", recoverySituations},
	{"Time limits, retries and waits", append(callSituations, waitSituations...)},

	{"Rate limits, slots and budgets", limitSituations},
	{"Backups and nesting", append(backupSituations, failoverSituations...)},
	{"HTTP", httpSituations},
	{"Caches, hedges and contexts", otherSituations},
}

const document = "../docs/situations.md"

// Each cell of the tables is what a run here has said. SITUATIONS=write writes
// them anew.
func TestSituations(t *testing.T) {
	was, err := os.ReadFile(document)
	require.NoError(t, err)
	preface, _, _ := strings.Cut(string(was), "\n## ")
	var b strings.Builder
	b.WriteString(strings.TrimRight(preface, "\n") + "\n")
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n| what happens when… | ours | failsafe-go | others |\n|-|-|-|-|\n", s.title)
		for _, r := range s.rows {
			row := fmt.Sprintf("| %s | %s | %s | %s |", r.when, play(t, r.when, "ours", r.ours), play(t, r.when, "failsafe", r.failsafe), r.elsewhere(t))
			t.Log(row)
			b.WriteString(row + "\n")
		}
	}
	if os.Getenv("SITUATIONS") == "write" {
		require.NoError(t, os.WriteFile(document, []byte(b.String()), 0o644))
		return
	}
	assert.Equal(t, string(was), b.String())
}

func (s situation) elsewhere(t *testing.T) string {
	all := make([]string, 0, len(s.others))
	for _, o := range s.others {
		all = append(all, o.lib+": "+play(t, s.when, o.lib, o.run))
	}
	return strings.Join(all, "; ")
}

func play(t *testing.T, when, lib string, r run) (said string) {
	if r == nil {
		return ""
	}
	t.Run(when+"/"+lib, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { said = r(t) })
	})
	return strings.ReplaceAll(said, "|", "/")
}

// counted is a provider that counts its attempts.
type counted struct {
	n  atomic.Int64
	fn atomic.Pointer[providerFunc]
}

func counting(fn providerFunc) *counted {
	c := &counted{}
	c.does(fn)
	return c
}

func (c *counted) does(fn providerFunc) { c.fn.Store(&fn) }

func (c *counted) Ask(ctx context.Context, q *query) (*answer, error) {
	c.n.Add(1)
	return (*c.fn.Load())(ctx, q)
}

// hangs until its context ends.
var hangs providerFunc = func(ctx context.Context, _ *query) (*answer, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// takes so long, and heeds no context.
func takes(d time.Duration, err error) providerFunc {
	return func(context.Context, *query) (*answer, error) {
		time.Sleep(d)
		if err != nil {
			return nil, err
		}
		return ok, nil
	}
}

var (
	opOnce  = resilience.Op{Name: "bench.once"}
	opWrite = resilience.Op{Name: "bench.write", Safety: fault.AtLeastOnce}
)

func oursDo(ctx context.Context, g *resilience.Group[provider], op resilience.Op) error {
	_, err := resilience.Call(ctx, g, op, provider.Ask, &query{})
	return err
}

func state(g *resilience.Group[provider]) string { return string(g.Inspect()[0].State) }

// protected makes one call, whatever library is around it.
type protected func(ctx context.Context, p provider) error

func failsafeWith(policies ...failsafe.Policy[*answer]) protected {
	e := failsafe.With(policies...)
	return func(ctx context.Context, p provider) error { return failsafeAsk(ctx, e, p, &query{}) }
}

func gobreakerWith(change func(*gobreaker.Settings)) (*gobreaker.CircuitBreaker[*answer], protected) {
	s := settings()
	if change != nil {
		change(&s)
	}
	b := gobreaker.NewCircuitBreaker[*answer](s)
	return b, func(ctx context.Context, p provider) error {
		_, err := b.Execute(func() (*answer, error) { return p.Ask(ctx, &query{}) })
		return err
	}
}

// rig is a library with a breaker that is set up alike in all of them, as far as
// they have the rules: one probe, and no retries.
type rig struct {
	call   protected
	state  func() string
	opened *atomic.Int64 // how often
}

// set is what a situation changes.
type set struct {
	ours      func(*resilience.Policy)
	failsafe  func(circuitbreaker.Builder[*answer]) circuitbreaker.Builder[*answer]
	gobreaker func(*gobreaker.Settings)
}

// breakers plays a situation with each library that has one.
func breakers(s set, play func(t *testing.T, r rig) string) situation {
	return situation{
		ours:     func(t *testing.T) string { return play(t, oursRig(t, s.ours, op)) },
		failsafe: func(t *testing.T) string { return play(t, failsafeRig(s.failsafe)) },
		others:   []named{{"gobreaker", func(t *testing.T) string { return play(t, gobreakerRig(s.gobreaker)) }}},
	}
}

func oursRig(t *testing.T, change func(*resilience.Policy), op resilience.Op) rig {
	p := resilience.Default
	noRetries(&p)
	if change != nil {
		change(&p)
	}
	r := rig{opened: new(atomic.Int64)}
	g, err := resilience.New(p, []resilience.Member[provider]{{Name: "a", Provider: fast}}, resilience.ObserverFunc(
		func(_ context.Context, e resilience.Event) {
			if e.Type == resilience.StateChanged && e.To == resilience.Open {
				r.opened.Add(1)
			}
		}))
	require.NoError(t, err)
	r.call, r.state = around(g, op), func() string { return state(g) }
	return r
}

// around makes calls of a Group whose one member does what the call says.
func around(g *resilience.Group[provider], op resilience.Op) protected {
	return func(ctx context.Context, p provider) error {
		_, err := resilience.Do(ctx, g, op, func(ctx context.Context, _ provider) (*answer, error) { return p.Ask(ctx, &query{}) })
		return err
	}
}

func failsafeRig(change func(circuitbreaker.Builder[*answer]) circuitbreaker.Builder[*answer]) rig {
	r := rig{opened: new(atomic.Int64)}
	b := circuitbreaker.NewBuilder[*answer]().WithFailureRateThreshold(failureRatio, uint(minCalls), window).
		WithDelay(openFor).WithSuccessThreshold(1).OnOpen(func(circuitbreaker.StateChangedEvent) { r.opened.Add(1) })
	if change != nil {
		b = change(b)
	}
	cb := b.Build()
	r.call, r.state = failsafeWith(cb), func() string { return failsafeState(cb) }
	return r
}

func gobreakerRig(change func(*gobreaker.Settings)) rig {
	r := rig{opened: new(atomic.Int64)}
	cb, call := gobreakerWith(func(s *gobreaker.Settings) {
		s.OnStateChange = func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				r.opened.Add(1)
			}
		}
		if change != nil {
			change(s)
		}
	})
	r.call, r.state = call, func() string { return cb.State().String() }
	return r
}

// times calls f so often, one after the other, and counts what went well.
func times(n int, f func() error) (well int) {
	for range n {
		if f() == nil {
			well++
		}
	}
	return well
}

// atOnce is the same at the same time.
func atOnce(n int, f func() error) int {
	var well atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if f() == nil {
				well.Add(1)
			}
		})
	}
	wg.Wait()
	return int(well.Load())
}

// apart runs f in a goroutine of its own, so that it may panic or end it.
func apart(f func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { _ = recover() }()
		f()
	})
	wg.Wait()
}

// took is how long f takes, in round figures.
func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start).Round(100 * time.Millisecond)
}
