package resilience_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// spans is a tracer: each beginning makes a span, each end must come with it.
type spans struct {
	mu   sync.Mutex
	seen []string
}

type spanID struct{}

func (s *spans) Start(ctx context.Context, e resilience.Event) context.Context {
	parent, _ := ctx.Value(spanID{}).(string)
	id := fmt.Sprintf("%s/%s%d", parent, e.Provider, e.Attempt)
	s.note("+" + id)
	return context.WithValue(ctx, spanID{}, id)
}

func (s *spans) Observe(ctx context.Context, e resilience.Event) {
	id, _ := ctx.Value(spanID{}).(string)
	switch e.Type { //nolint:exhaustive // the others have no beginning
	case resilience.CallStarted, resilience.AttemptStarted:
		s.note("seen by Observe")
	case resilience.AttemptEnded, resilience.CallEnded:
		s.note(fmt.Sprintf("-%s=%d", id, e.Attempt))
	case resilience.Panicked:
		s.note("!" + id)
	}
}

func (s *spans) note(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, line)
}

func TestEachEndComesWithTheContextThatItsBeginningMade(t *testing.T) {
	boom := func(context.Context) error { panic("boom") }
	for name, c := range map[string]struct {
		members []asker
		want    string
	}{
		"a failover": {[]asker{&provider{fn: answers(fault.Denied)}, &provider{}}, "+/0 +/0/p01 -/0/p01=1 +/0/p12 -/0/p12=2 -/0=2"},
		"a panic":    {[]asker{&provider{fn: boom}}, "+/0 +/0/p01 !/0/p01 -/0=1"},
		"a Client inside without observers": {
			[]asker{nested{group(t, quiet(), &provider{fn: answers(fault.Denied)}, &provider{})}},
			"+/0 +/0/p0/p01 -/0/p0/p01=1 +/0/p0/p12 -/0/p0/p12=2 -/0=2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &spans{}
			g := observed(t, quiet(), s, c.members...)
			func() {
				defer func() { _ = recover() }()
				_ = ask(t.Context(), g)
			}()
			assert.Equal(t, c.want, strings.Join(s.seen, " "))
		})
	}
}

func TestTheNumbersOfAttemptsAgreeUnderHedging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &spans{}
		g := observed(t, hedgedPolicy(), s, &provider{fn: steady(2 * time.Second)}, &provider{fn: steady(time.Second)})
		_, err := resilience.Call(t.Context(), g, opRead, asker.Ask, "q")
		require.NoError(t, err)
		synctest.Wait()
		slices.Sort(s.seen)
		assert.Equal(t, []string{"+/0", "+/0/p01", "+/0/p12", "-/0/p01=1", "-/0/p12=2", "-/0=2"}, s.seen)
	})
}

func TestAnInnerClientsObserversSeeItsAttemptsAndTheOuterOnesDoNot(t *testing.T) {
	inner, outer := &spans{}, &spans{}
	g := observed(t, quiet(), outer, nested{observed(t, quiet(), inner, &provider{})})
	require.NoError(t, ask(t.Context(), g))
	assert.Equal(t, "+/0 -/0=1", strings.Join(outer.seen, " "))
	assert.Equal(t, "+/0/p0/p01 -/0/p0/p01=1", strings.Join(inner.seen, " "))
}

func TestWhatAnAdapterNotesOfAnExchangeComesWithTheAttemptsEnd(t *testing.T) {
	var ended []*fault.Exchange
	g := observed(t, quiet(), resilience.ObserverFunc(func(_ context.Context, e resilience.Event) {
		if e.Type == resilience.AttemptEnded {
			ended = append(ended, e.Exchange)
		}
	}), &provider{fn: func(ctx context.Context) error {
		var hooks sync.WaitGroup // which may run at any time
		for range 10 {
			hooks.Go(func() { fault.Note(ctx, func(e *fault.Exchange) { e.Sent++ }) })
		}
		hooks.Wait()
		fault.Note(ctx, func(e *fault.Exchange) {
			e.Target, e.Status, e.Units = "api.example.com:443", 503, map[string]float64{"tokens": 7}
		})
		go fault.Note(ctx, func(e *fault.Exchange) { e.Status = 0; e.Units["late"] = 1 }) // outlives the answer, or not
		time.Sleep(time.Millisecond)
		fault.Note(ctx, func(e *fault.Exchange) { e.Status = 503 })
		return fault.New(fault.Denied, nil)
	}}, &provider{})
	require.NoError(t, ask(t.Context(), g))
	require.Len(t, ended, 2)
	assert.Equal(t, "api.example.com:443", ended[0].Target)
	assert.Equal(t, 503, ended[0].Status)
	assert.EqualValues(t, 10, ended[0].Sent)
	assert.InDelta(t, 7, ended[0].Units["tokens"], 0)
	assert.Nil(t, ended[1], "nothing was noted")
	fault.Note(t.Context(), func(*fault.Exchange) { t.Error("outside an attempt") })
}

func TestLogWritesALineForEachCall(t *testing.T) {
	type requestID struct{}
	plain := func(k fault.Kind) []asker { return []asker{&provider{fn: answers(k)}} }
	for name, c := range map[string]struct {
		members []asker
		policy  func(*resilience.Policy)
		want    []string // of info and above
	}{
		"a success":                  {members: []asker{&provider{}}},
		"after a failover":           {members: []asker{&provider{fn: answers(fault.Denied)}, &provider{}}, want: []string{"INFO call ended p1 2"}},
		"rejected":                   {members: plain(fault.Rejected), want: []string{"WARN call ended  1"}},
		"invalid":                    {members: plain(fault.Invalid), want: []string{"WARN call ended  1"}},
		"not found":                  {members: plain(fault.NotFound), want: []string{"WARN call ended  1"}},
		"a conflict":                 {members: plain(fault.Conflict), want: []string{"WARN call ended  1"}},
		"a failure":                  {members: plain(fault.Denied), want: []string{"ERROR call ended  1"}},
		"a failure after a retry":    {members: plain(fault.Unavailable), policy: func(p *resilience.Policy) { p.Retries = 1 }, want: []string{"ERROR call ended  2"}},
		"a breaker that opens by it": {members: plain(fault.Denied), policy: func(p *resilience.Policy) { p.Breaker.InARow = 1 }, want: []string{"WARN state changed p0 0", "ERROR call ended  1"}},
		"a success after a retry":    {members: []asker{script(fault.New(fault.Unavailable, nil))}, policy: func(p *resilience.Policy) { p.Retries = 1 }, want: []string{"INFO call ended p0 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := quiet()
				if c.policy != nil {
					c.policy(&p)
				}
				h := &lines{key: requestID{}}
				g := observed(t, p, resilience.Log(slog.New(h)), c.members...)
				_ = ask(context.WithValue(t.Context(), requestID{}, "r1"), g)
				assert.Equal(t, c.want, h.above)
				assert.Equal(t, h.all, h.withID, "each with the call's context")
				assert.Positive(t, h.all)
			})
		})
	}
}

// lines is a slog handler that keeps what matters.
type lines struct {
	slog.Handler
	key         any
	above       []string
	all, withID int
}

func (*lines) Enabled(context.Context, slog.Level) bool { return true }

func (l *lines) Handle(ctx context.Context, r slog.Record) error {
	l.all++
	if ctx.Value(l.key) != nil {
		l.withID++
	}
	if r.Level < slog.LevelInfo {
		return nil
	}
	provider, n := "", int64(0)
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "provider":
			provider = a.Value.String()
		case "attempt", "attempts":
			n = a.Value.Int64()
		}
		return true
	})
	l.above = append(l.above, fmt.Sprintf("%s %s %s %d", r.Level, r.Message, provider, n))
	return nil
}

func TestLogCostsNothingWhereItsLevelIsOff(t *testing.T) {
	g := observed(t, quiet(), resilience.Log(slog.New(slog.NewTextHandler(&bytes.Buffer{}, &slog.HandlerOptions{Level: slog.LevelInfo}))), &provider{})
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { _ = ask(t.Context(), g) }), 1.0)
}
