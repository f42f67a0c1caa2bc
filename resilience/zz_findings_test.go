//go:build findings

// Each test holds a rule that doesn't hold yet: go test -tags findings ./resilience.

package resilience_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"math"
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

// ticks yields n numbers, one each second.
func ticks(n int) func(asker, context.Context, string) iter.Seq2[int, error] {
	return func(_ asker, ctx context.Context, _ string) iter.Seq2[int, error] {
		return func(yield func(int, error) bool) {
			for i := range n {
				if err := steady(time.Second)(ctx); err != nil {
					yield(0, err)
					return
				}
				if !yield(i, nil) {
					return
				}
			}
		}
	}
}

// A. Limits.Stall counts from the zero time until there is an item, where By is zero:
// without a Timeout, or where the caller's deadline comes before it.
func TestAStallDoesNotRunBeforeTheFirstItem(t *testing.T) {
	for name, c := range map[string]struct{ timeout, caller time.Duration }{
		"no time limit":                          {0, 0},
		"the caller's deadline before the limit": {30 * time.Second, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if c.caller > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.caller)
					defer cancel()
				}
				g := group(t, resilience.Policy{Timeout: c.timeout, Stall: 10 * time.Second}, &provider{})
				n := 0
				for _, err := range resilience.Stream(ctx, g, opPut, ticks(3), "q") {
					require.NoError(t, err)
					n++
				}
				assert.Equal(t, 3, n)
			})
		})
	}
}

// B. A provider that streams steadily is counted as failing when the caller's own
// deadline ends the stream, as one that watches for a minute does; the same with Keep
// counts nothing.
func TestAStreamThatTheCallersDeadlineEndsMidwayIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, resilience.Default, &provider{})
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), 10500*time.Millisecond)
			n := 0
			for _, err := range resilience.Stream(ctx, g, opAsk, ticks(1000), "q") {
				if err == nil {
					n++
				}
			}
			cancel()
			assert.Equal(t, 10, n)
		}
		assert.Zero(t, g.Inspect()[0].Failures)
		assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
	})
}

// C. The same for an upload: whose own body is slow, while the provider waits for the
// caller, and which the provider reads steadily.
func TestAnUploadWhoseBodyIsSlowerThanTheCallersDeadlineIsNoFailureOfTheProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, resilience.Default, &sink{})
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), 10500*time.Millisecond)
			slow := readerFunc(func(p []byte) (int, error) { time.Sleep(time.Second); p[0] = 'x'; return 1, nil })
			require.ErrorIs(t, upload(ctx, g, opPut, slow), fault.Canceled)
			cancel()
		}
		assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
	})
}

func TestAnUploadThatTheCallersDeadlineEndsWhileItIsReadSteadilyIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, resilience.Default, &sink{every: time.Second})
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), 10500*time.Millisecond)
			require.Error(t, upload(ctx, g, opPut, strings.NewReader(strings.Repeat("x", 100))))
			cancel()
		}
		assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
	})
}

// D. An SDK asks a seekable body for its size before it connects.
func TestAskingForTheSizeOfABodyIsNotReadingIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := quiet()
		p.Timeout, p.Total, p.Silence = 3*time.Second, 0, 30*time.Second
		g := group(t, p, &sink{})
		start := time.Now()
		_, err := resilience.Upload(t.Context(), g, opPut, strings.NewReader("0123456789"),
			func(ctx context.Context, _ asker, body io.Reader) (string, error) {
				_, _ = body.(io.Seeker).Seek(0, io.SeekEnd)
				_, _ = body.(io.Seeker).Seek(0, io.SeekStart)
				return "", hang(ctx) // to connect
			})
		require.ErrorIs(t, err, resilience.ErrTimeout)
		assert.Equal(t, 3*time.Second, time.Since(start))
	})
}

// E. A body that failed once is said to have failed in every later attempt, whose
// success is lost.
func TestABodyThatFailedInOneAttemptHasNotFailedInTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, quiet(), &sink{}, &sink{})
		body := &flaky{Reader: bytes.NewReader([]byte("0123456789")), failAt: 1}
		var got []string
		_, err := resilience.Upload(t.Context(), g, opPut, body, func(_ context.Context, _ asker, body io.Reader) (string, error) {
			data, _ := io.ReadAll(body) // takes half of it for the whole
			got = append(got, string(data))
			return "", nil
		})
		t.Log(got, err)
		if len(got) == 1 {
			assert.ErrorIs(t, err, fault.Invalid, "the document: where the body fails, the call ends with Invalid")
			return
		}
		assert.NoError(t, err, "the second attempt has sent all")
	})
}

// flaky fails at that Read, once.
type flaky struct {
	*bytes.Reader
	failAt, reads int
}

func (f *flaky) Read(p []byte) (int, error) {
	if f.reads++; f.reads == f.failAt {
		return 0, errors.New("disk")
	}
	return f.Reader.Read(p)
}

// F. A caller who goes while their own body is read is Canceled anywhere else.
func TestACallersCancellationThatEndsTheirBodyIsACancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := group(t, uploading(), &sink{})
		err := upload(ctx, g, opPut, readerFunc(func([]byte) (int, error) {
			cancel() // as the connection of an incoming request that is passed on
			return 0, io.ErrUnexpectedEOF
		}))
		assert.ErrorIs(t, err, context.Canceled)
		assert.ErrorIs(t, err, fault.Canceled)
	})
}

// G. A panic of the caller's own body is not the provider's, as that of a stream's
// consumer isn't.
func TestAPanicOfTheBodyIsNotTheProviders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, uploading(), &sink{})
		for range 5 {
			assert.Panics(t, func() { _ = upload(t.Context(), g, opPut, readerFunc(func([]byte) (int, error) { panic("mine") })) })
		}
		assert.Zero(t, g.Inspect()[0].Failures)
		assert.Equal(t, resilience.Closed, g.Inspect()[0].State)
	})
}

// H. "An answer that comes after the time limit is given all the same, and counts as
// a failure": not that of an upload.
func TestAnUploadThatIsAnsweredTooLateCountsAsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, resilience.Default, &sink{})
		_, err := resilience.Upload(t.Context(), g, opPut, strings.NewReader("x"), func(context.Context, asker, io.Reader) (string, error) {
			time.Sleep(time.Minute) // and doesn't look at its context
			return "", nil
		})
		require.NoError(t, err)
		assert.Equal(t, 1, g.Inspect()[0].Failures)
	})
}

// I. What is given back while the limit is in debt is lost: AllowN with a negative
// number changes nothing unless the sum is positive.
func TestSpentTwiceInDebtIsCorrected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, resilience.Policy{Rate: 1, Burst: 100}, &provider{})
		_, err := resilience.Do(t.Context(), g, opAsk, func(ctx context.Context, _ asker) (string, error) {
			resilience.Spent(ctx, 1000) // an estimate midway
			resilience.Spent(ctx, 500)  // and less in the end
			return "", nil
		})
		require.NoError(t, err)
		time.Sleep(402 * time.Second)
		assert.NoError(t, ask(t.Context(), g))
	})
}

// J. A caller who waits for tokens sleeps on when they come back early.
func TestAWaiterGoesAsSoonAsTheTokensAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, resilience.Policy{Rate: 1, Burst: 100, MaxWait: time.Minute}, &provider{})
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			_, _ = resilience.Do(resilience.WithCost(t.Context(), 100), g, opAsk, func(ctx context.Context, _ asker) (string, error) {
				time.Sleep(time.Second)
				resilience.Spent(ctx, 10)
				return "", nil
			})
		})
		synctest.Wait()
		start := time.Now()
		require.NoError(t, ask(resilience.WithCost(t.Context(), 50), g))
		assert.Equal(t, time.Second, time.Since(start))
	})
}

// K. A number out of a provider's answer must not hang the caller.
func TestSpentTakesAnyNumber(t *testing.T) {
	g := group(t, resilience.Policy{Rate: 1, Burst: 1}, &provider{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = resilience.Do(t.Context(), g, opAsk, func(ctx context.Context, _ asker) (string, error) {
			resilience.Spent(ctx, math.MaxInt)
			return "", nil
		})
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("it still counts")
	}
}

// L. A path below a provider that isn't made of any is no provider's.
func TestAPinBelowAProviderThatIsNotNestedIsNotFound(t *testing.T) {
	g := group(t, quiet(), &provider{})
	assert.ErrorIs(t, ask(resilience.Pin(t.Context(), "p0/gone"), g), fault.NotFound)
}

// M. The call's error forgets that all its faults were of the account, so that a
// decorator which doesn't show the Client inside counts them against the provider.
func TestTheErrorOfACallWhoseFaultsAreAllOfTheAccountSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		revoked := func(context.Context) error { return &fault.Error{Kind: fault.Denied, Account: true} }
		inner := group(t, resilience.Default, &provider{fn: revoked}, &provider{fn: revoked})
		f, _ := fault.As(ask(t.Context(), inner))
		assert.True(t, f.Account)
		outer := group(t, resilience.Default, hidden{nested{inner}})
		for range 5 {
			_ = ask(t.Context(), outer)
		}
		assert.Equal(t, resilience.Closed, outer.Inspect()[0].State)
	})
}

// N. An observer can't tell a refusal of one key from one of the provider, though
// Event.Key is documented for it.
func TestARefusalOfAKeyNamesTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refused []string
		watch := resilience.ObserverFunc(func(_ context.Context, e resilience.Event) {
			if e.Type == resilience.Refused {
				refused = append(refused, e.Key)
			}
		})
		one := &byKey{bad: "k", kind: fault.Unavailable}
		g := observed(t, perKey(resilience.Policy{Breaker: resilience.Default.Breaker}), watch, one)
		for range 6 {
			_ = askAs(t.Context(), g, "k")
		}
		assert.Equal(t, []string{"k"}, refused)
	})
}

// O. A caller who has gone, or whose request is wrong, needs no second source.
func TestALadderAsksNobodyElseForACallerWhoHasGoneOrARequestThatIsWrong(t *testing.T) {
	for _, k := range []fault.Kind{fault.Canceled, fault.Invalid} {
		second := 0
		_, err := resilience.Ladder(t.Context(), passing{}, opRead, "k",
			func(context.Context) (string, error) { return "", fault.New(k, nil) },
			func(context.Context) (string, error) { second++; return "x", nil })
		assert.ErrorIs(t, err, k)
		assert.Zero(t, second, k)
	}
}

// passing is a Cache that keeps nothing.
type passing struct{}

func (passing) Do(ctx context.Context, _ resilience.Op, _ string, fn func(context.Context) (string, error)) (resilience.Answer[string], error) {
	v, err := fn(ctx)
	return resilience.Answer[string]{Value: v}, err
}
func (passing) Invalidate(context.Context, resilience.Op, string) error { return nil }

// P. What a breaker or a full bulkhead refuses drains a limit from elsewhere, though
// Settle could give it back.
func TestWhatIsRefusedAfterALimiterFromElsewhereIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &costs{}
		p := resilience.Default
		p.Retries, p.Limiter = 0, l
		one := &provider{fn: answers(fault.Unavailable)}
		g := group(t, p, one)
		for range 5 {
			_ = ask(t.Context(), g)
		}
		time.Sleep(34 * time.Second) // half-open
		one.fn = steady(time.Second)
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { assert.NoError(t, ask(t.Context(), g)) })
		synctest.Wait()
		l.took, l.settled = nil, nil
		require.ErrorIs(t, ask(resilience.WithCost(t.Context(), 50), g), resilience.ErrOpen)
		sum := 0
		for _, n := range append(l.took, l.settled...) {
			sum += n
		}
		assert.Zero(t, sum)
	})
}

// Q. A sign of life inside a decorator that doesn't show its Client, or inside any call
// that a provider makes, doesn't reach the outer attempt's limit on silence.
func TestASignOfLifeReachesTheAttemptsAroundIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := quiet()
		p.Timeout, p.Total, p.Silence, p.Breaker = time.Minute, 0, 3*time.Second, resilience.Breaker{}
		inner := group(t, p, &provider{})
		lively := func(_ asker, ctx context.Context, _ string) iter.Seq2[int, error] {
			return func(yield func(int, error) bool) {
				for range 10 {
					if err := steady(time.Second)(ctx); err != nil {
						yield(0, err)
						return
					}
					fault.Alive(ctx)
				}
				yield(1, nil)
			}
		}
		outer := group(t, p, hidden{nested{inner}})
		for _, err := range resilience.Stream(t.Context(), outer, opAsk, func(_ asker, ctx context.Context, q string) iter.Seq2[int, error] {
			return resilience.Stream(ctx, inner, opAsk, lively, q)
		}, "q") {
			assert.NoError(t, err)
		}
	})
}

// R. A rate limit of one account shrinks the adaptive limit for everybody.
func TestARateLimitOfOneAccountDoesNotShrinkTheProvidersLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Policy{Adaptive: resilience.Adaptive{Max: 100, Initial: 20}}
		g := group(t, p, &provider{fn: func(context.Context) error { return &fault.Error{Kind: fault.RateLimited, Account: true} }})
		before := g.Inspect()[0].Limit
		for range 200 {
			_ = ask(t.Context(), g)
		}
		assert.Equal(t, before, g.Inspect()[0].Limit)
	})
}

// S. A body that can rewind isn't sent again where the refusal comes while the
// transport's goroutine is inside a Read. With net/http and a body of 1 MB that takes a
// millisecond for 4 kB, a 503 before the end reached the backup 7 times of 20.
func TestABodyThatCanRewindIsSentAgainAfterAnEarlyRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backup := &sink{}
		g := group(t, uploading(), &sink{}, backup)
		content := strings.NewReader("0123456789")
		body := struct {
			io.Reader
			io.Seeker
		}{readerFunc(func(p []byte) (int, error) { time.Sleep(time.Millisecond); return content.Read(p[:1]) }), content}
		var wg sync.WaitGroup
		defer wg.Wait()
		_, err := resilience.Upload(t.Context(), g, opPut, body, func(ctx context.Context, p asker, body io.Reader) (string, error) {
			if p == asker(backup) {
				return "", backup.put(ctx, body)
			}
			wg.Go(func() { _, _ = io.Copy(io.Discard, body) })
			synctest.Wait()
			return "", fault.New(fault.Uncertain, errors.New("503"))
		})
		require.NoError(t, err)
		assert.Equal(t, []string{"0123456789"}, backup.got)
	})
}

// T. Of the reasons why no backup is asked, the error leaves out the body's.
func TestTheErrorSaysThatABodyCouldNotBeSentAgain(t *testing.T) {
	g := group(t, uploading(), &sink{after: fault.New(fault.Denied, nil)}, &sink{})
	assert.ErrorContains(t, upload(t.Context(), g, opPut, once("abc")), "body")
}
