package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"io"
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

var (
	opLook   = resilience.Op{Name: "test.look", Class: "read", Safety: fault.Read}
	opCommit = resilience.Op{Name: "test.commit", Class: "commit"}
)

// as makes one call of an operation at a Group whose provider isn't asked but
// answers that.
func as(ctx context.Context, g *resilience.Group[asker], op resilience.Op, answer error) error {
	_, err := resilience.Do(ctx, g, op, func(context.Context, asker) (string, error) { return "", answer })
	return err
}

func quiet() resilience.Policy {
	p := resilience.Default
	p.Retries, p.Breaker.Jitter = 0, 0
	return p
}

// of is the state of a class at the first provider.
func of(g *resilience.Group[asker], class string) resilience.Status {
	for _, s := range g.Inspect() {
		if s.Class == class {
			return s
		}
	}
	return resilience.Status{}
}

func TestWhatFailsAloneIsRefusedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, quiet(), &provider{})
		sent := 0
		for range 200 {
			require.NoError(t, as(t.Context(), g, opLook, nil))
			if !errors.Is(as(t.Context(), g, opCommit, fault.New(fault.Uncertain, nil)), resilience.ErrOpen) {
				sent++
			}
			require.NoError(t, as(t.Context(), g, opLook, nil))
			time.Sleep(100 * time.Millisecond)
		}
		assert.Equal(t, 5, sent)
		assert.Equal(t, resilience.Open, of(g, "commit").State)
		assert.Equal(t, resilience.Closed, of(g, "read").State)
		assert.Equal(t, resilience.Closed, of(g, "").State)
		require.NoError(t, ask(t.Context(), g), "those without a class have their own")
	})
}

func TestAProviderThatCannotBeReachedIsRefusedToAllClasses(t *testing.T) {
	down := fault.New(fault.Unavailable, nil)
	never := resilience.Op{Name: "test.report", Class: "report", Safety: fault.Read}
	for name, fail := range map[string]func(g *resilience.Group[asker]){
		"five in a row of one class": func(g *resilience.Group[asker]) {
			for range 5 {
				_ = as(context.Background(), g, opLook, down)
			}
		},
		"five in a row over several": func(g *resilience.Group[asker]) {
			for i := range 5 {
				_ = as(context.Background(), g, []resilience.Op{opLook, opCommit}[i%2], down)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := group(t, quiet(), &provider{})
				require.NoError(t, as(t.Context(), g, opCommit, nil))
				fail(g)
				for _, op := range []resilience.Op{opLook, opCommit, opAsk, never} {
					require.ErrorIs(t, as(t.Context(), g, op, nil), resilience.ErrOpen, op.Name)
				}
				time.Sleep(30 * time.Second)
				for _, op := range []resilience.Op{opLook, opCommit, opAsk, never} {
					require.NoError(t, as(t.Context(), g, op, nil), "each probes by itself: %s", op.Name)
				}
				for _, s := range g.Inspect() {
					assert.Equal(t, resilience.Closed, s.State, s.Class)
				}
			})
		})
	}
}

// A blip among thousands of look-ups is nothing to a commit, which is rare.
func TestWhatIsNotReachedNowAndThenDoesNotOpenARareClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, quiet(), &provider{})
		require.NoError(t, as(t.Context(), g, opCommit, nil))
		for n := range 10_000 {
			if n%100 == 0 {
				require.Error(t, as(t.Context(), g, opLook, fault.New(fault.Unavailable, nil)))
			}
			require.NoError(t, as(t.Context(), g, opLook, nil))
			time.Sleep(time.Millisecond)
		}
		require.NoError(t, as(t.Context(), g, opCommit, nil))
	})
}

func TestAProbeThatDoesNotReachTheProviderOpensItsClassAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, quiet(), &provider{})
		for range 5 {
			_ = as(t.Context(), g, opCommit, fault.New(fault.Uncertain, nil))
		}
		time.Sleep(30 * time.Second)
		require.NoError(t, as(t.Context(), g, opLook, nil))
		require.Error(t, as(t.Context(), g, opCommit, fault.New(fault.Unavailable, nil)))
		assert.Equal(t, resilience.Open, of(g, "commit").State)
		require.NoError(t, as(t.Context(), g, opLook, nil))
	})
}

func TestBreakersPerClassAreBoundedAndNamedWhereverTheyShow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		g := observed(t, quiet(), resilience.ObserverFunc(func(_ context.Context, e resilience.Event) {
			if e.Type == resilience.StateChanged {
				seen = append(seen, fmt.Sprintf("%s %s→%s", e.Class, e.From, e.To))
			}
		}), &provider{})
		for i := range 100 {
			op := resilience.Op{Name: "x", Class: fmt.Sprint(i)}
			require.NoError(t, as(t.Context(), g, op, nil))
		}
		assert.Len(t, g.Inspect(), 16)
		for range 5 {
			_ = as(t.Context(), g, resilience.Op{Name: "x", Class: "7"}, fault.New(fault.Uncertain, nil))
		}
		assert.Equal(t, []string{"7 closed→open"}, seen)
		assert.Equal(t, resilience.Open, of(g, "7").State)
		kept := g.Snapshot()
		require.Len(t, kept, 1)
		assert.Equal(t, "7", kept[0].Class)
		fresh := group(t, quiet(), &provider{})
		fresh.Restore(kept)
		assert.Equal(t, resilience.Open, of(fresh, "7").State)
		assert.Equal(t, resilience.Closed, of(fresh, "").State)
		time.Sleep(30 * time.Second)
		require.NoError(t, as(t.Context(), fresh, resilience.Op{Name: "x", Class: "7"}, nil))
		assert.Empty(t, fresh.Snapshot())
	})
}

// What was let in before the breaker last opened or closed has no say, in whatever
// shape it was called, nor in the count in a row.
func TestACallFromBeforeAnOpeningHasNoSayAfterIt(t *testing.T) {
	open := func(g *resilience.Group[asker]) {
		for range 5 {
			_ = as(context.Background(), g, opAsk, fault.New(fault.Unavailable, nil))
		}
	}
	late := func(answer error) map[string]func(g *resilience.Group[asker]) func() {
		return map[string]func(g *resilience.Group[asker]) func(){
			"Call": func(g *resilience.Group[asker]) func() {
				release, done := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(done)
					_, _ = resilience.Do(context.Background(), g, opAsk, func(context.Context, asker) (string, error) { <-release; return "", answer })
				}()
				synctest.Wait()
				return func() { close(release); <-done }
			},
			"Keep": func(g *resilience.Group[asker]) func() {
				_, body, err := resilience.Keep(context.Background(), g, opAsk, func(context.Context, asker) (string, io.ReadCloser, error) {
					if answer == nil {
						return "", io.NopCloser(strings.NewReader("")), nil
					}
					return "", io.NopCloser(&broken1{answer}), nil
				})
				if err != nil {
					panic(err)
				}
				return func() { _, _ = io.ReadAll(body); _ = body.Close() }
			},
		}
	}
	p := quiet()
	p.Timeout, p.Total, p.Breaker.Window = time.Hour, 0, 3*time.Hour
	inARow := resilience.Policy{Timeout: time.Hour, Breaker: resilience.Breaker{InARow: 5, OpenFor: 30 * time.Second}}
	for policyName, p := range map[string]resilience.Policy{"with a window": p, "in a row alone": inARow} {
		for answerName, answer := range map[string]error{"a success": nil, "a failure": fault.New(fault.Unavailable, nil)} {
			for shape := range late(nil) {
				t.Run(policyName+", "+answerName+", "+shape, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						g := group(t, p, &provider{})
						end := late(answer)[shape](g)
						open(g)
						require.Equal(t, resilience.Open, g.Inspect()[0].State)
						time.Sleep(31 * time.Second)
						end()
						s := g.Inspect()[0]
						assert.Equal(t, resilience.HalfOpen, s.State)
						assert.Zero(t, s.InARow+s.Failures+s.Successes)
						require.NoError(t, ask(t.Context(), g), "the probe's place is free")
						assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
					})
				})
			}
		}
	}
}

type broken1 struct{ err error }

func (b *broken1) Read([]byte) (int, error) { return 0, b.err }

func TestLateFailuresOfOneGenerationOpenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened := 0
		p := quiet()
		p.Timeout, p.Breaker.OpenFor = 4*time.Second, time.Second
		one := &provider{}
		one.fn = func(context.Context) error {
			time.Sleep(time.Duration(one.calls.Load()) * 100 * time.Millisecond)
			return fault.New(fault.Unavailable, nil)
		}
		var mu sync.Mutex
		g := observed(t, p, resilience.ObserverFunc(func(_ context.Context, e resilience.Event) {
			if e.Type == resilience.StateChanged && e.To == resilience.Open {
				mu.Lock()
				opened++
				mu.Unlock()
			}
		}), one)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { _ = ask(t.Context(), g) })
			synctest.Wait()
		}
		wg.Wait()
		assert.Equal(t, 1, opened)
	})
}

func TestAnEqualBreakerKeepsItsCountsWhenThePolicyIsSetAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := quiet()
		p.Breaker.InARow = 0
		one := &provider{fn: answers(fault.Unavailable)}
		g := group(t, p, one)
		for range 60 { // a reloader, once a second
			_ = ask(t.Context(), g)
			require.NoError(t, g.SetPolicy(p))
			time.Sleep(time.Second)
		}
		assert.LessOrEqual(t, one.calls.Load(), int64(12))
	})
}

func TestInspectShowsWhatCountsNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, quiet(), &provider{})
		_ = as(t.Context(), g, opAsk, fault.New(fault.Uncertain, nil))
		assert.Equal(t, 1, g.Inspect()[0].Failures)
		time.Sleep(31 * time.Second)
		assert.Zero(t, g.Inspect()[0].Failures, "it has left the window")
		assert.Equal(t, 1, g.Inspect()[0].InARow, "and is one in a row still")
	})
}

func TestPlainErrorsOpenTheBreakerUnlessTheMemberSaysBetter(t *testing.T) {
	for name, c := range map[string]struct {
		classify func(error) fault.Kind
		want     resilience.State
		kind     fault.Kind
	}{
		"plain":              {nil, resilience.Open, fault.Uncertain},
		"the request's own":  {func(error) fault.Kind { return fault.Invalid }, resilience.Closed, fault.Invalid},
		"provably not there": {func(error) fault.Kind { return fault.Unavailable }, resilience.Open, fault.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := resilience.New(quiet(), []resilience.Member[asker]{{
				Name: "p0", Provider: &provider{fn: func(context.Context) error { return errors.New("plain") }}, Classify: c.classify,
			}})
			require.NoError(t, err)
			_, err = resilience.Call(t.Context(), g, resilience.Op{Name: "x"}, asker.Ask, "q")
			require.ErrorIs(t, err, c.kind)
			for range 4 {
				_, _ = resilience.Call(t.Context(), g, opAsk, asker.Ask, "q")
			}
			assert.Equal(t, c.want, g.Inspect()[0].State)
		})
	}
	g, err := resilience.New(quiet(), []resilience.Member[asker]{{
		Name: "p0", Provider: &provider{fn: answers(fault.NotFound)}, Classify: func(error) fault.Kind { return fault.Uncertain },
	}})
	require.NoError(t, err)
	require.ErrorIs(t, ask(t.Context(), g), fault.NotFound, "a fault has its kind already")
}

func TestAProviderThatIsAlwaysLateOpensAndItsAnswersAreGiven(t *testing.T) {
	for name, caller := range map[string]time.Duration{"our limit": time.Hour, "the caller's": 2 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				one := &provider{fn: func(context.Context) error { time.Sleep(20 * time.Second); return nil }} // heeds nothing
				g := group(t, quiet(), one)
				for range 5 {
					ctx, cancel := context.WithTimeout(t.Context(), caller)
					require.NoError(t, ask(ctx, g))
					cancel()
				}
				assert.Equal(t, resilience.Open, g.Inspect()[0].State)
			})
		})
	}
}

func TestACancellationNeverCountsAndIsFoundWhateverTheProviderSays(t *testing.T) {
	for name, answer := range map[string]error{
		"an error of its own": errors.New("connection closed"), "a fault": fault.New(fault.Uncertain, errors.New("EOF")),
		"not sent": fault.New(fault.Unavailable, nil), "nothing": fault.New(fault.Uncertain, nil),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := group(t, quiet(), &provider{fn: func(ctx context.Context) error { <-ctx.Done(); return answer }})
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				err := ask(ctx, g)
				assert.ErrorIs(t, err, context.Canceled)
				assert.ErrorIs(t, err, fault.Canceled)
				assert.Zero(t, g.Inspect()[0].Failures)
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if fault.KindOf(answer) != fault.Unavailable {
					assert.ErrorIs(t, ask(ctx, g), context.DeadlineExceeded)
				}
			})
		})
	}
}

func TestTheErrorSaysWhyNoBackupWasAsked(t *testing.T) {
	uncertain := &provider{fn: answers(fault.Uncertain)}
	g := group(t, quiet(), uncertain, &provider{})
	err := as(t.Context(), g, resilience.Op{Name: "x"}, fault.New(fault.Uncertain, errors.New("no answer")))
	assert.ErrorContains(t, err, "no answer; the operation is Once: no backup was asked")
	strict := resilience.Op{Name: "x", Decide: func(f *fault.Error, v fault.Verdict) fault.Verdict {
		v.Failover = v.Failover && f.Kind != fault.Denied
		return v
	}}
	assert.ErrorContains(t, as(t.Context(), g, strict, fault.New(fault.Denied, nil)), "forbids to ask a backup")
	alone := group(t, quiet(), uncertain)
	assert.NotContains(t, as(t.Context(), alone, resilience.Op{Name: "x"}, fault.New(fault.Uncertain, nil)).Error(), "backup")
}
