package resilience_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"strconv"
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

// rude is a provider that does all that an adapter shouldn't: it tells life and cost
// from other goroutines and after its end, twice and below zero, reads the body from
// another goroutine that it leaves behind, panics, and hangs.
type rude struct{ provider }

func (r *rude) late(ctx context.Context, wg *sync.WaitGroup) {
	for range 3 {
		wg.Go(func() {
			time.Sleep(rand.N(20 * time.Millisecond))
			fault.Alive(ctx)
			resilience.Spent(ctx, rand.N(40)-5)
			fault.Note(ctx, func(e *fault.Exchange) { e.Status++ })
			resilience.Spent(ctx, rand.N(40)-5)
		})
	}
}

func (r *rude) act(ctx context.Context) error {
	switch rand.N(12) {
	case 0:
		panic("rude")
	case 1:
		return &fault.Error{Kind: fault.Denied, Account: true}
	case 2:
		return fault.New(fault.Unavailable, nil)
	case 3:
		return &fault.Error{Kind: fault.RateLimited, Account: rand.N(2) == 0, RetryAfter: 5 * time.Millisecond}
	case 4:
		return hang(ctx)
	case 5:
		return fault.New(fault.Uncertain, nil)
	}
	return steady(rand.N(10 * time.Millisecond))(ctx)
}

func (r *rude) watch(ctx context.Context, wg *sync.WaitGroup) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		r.late(ctx, wg)
		for i := range rand.N(5) {
			fault.Alive(ctx)
			if err := r.act(ctx); err != nil {
				yield(0, err)
				return
			}
			if !yield(i, nil) {
				return
			}
		}
	}
}

func (r *rude) put(ctx context.Context, body io.Reader, wg *sync.WaitGroup) error {
	r.late(ctx, wg)
	done := make(chan error, 1)
	wg.Go(func() {
		_, err := io.Copy(io.Discard, body)
		if s, ok := body.(io.Seeker); ok {
			_, _ = s.Seek(0, io.SeekStart)
		}
		done <- err
	})
	if rand.N(3) == 0 {
		return r.act(ctx) // and answers before it has read all
	}
	select {
	case err := <-done:
		return errors.Join(err, r.act(ctx))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// moodyBody is a body of a caller who is no better.
type moodyBody struct{ io.Reader }

func (m moodyBody) Read(p []byte) (int, error) {
	time.Sleep(rand.N(3 * time.Millisecond))
	if rand.N(40) == 0 {
		return 0, errors.New("disk")
	}
	return m.Reader.Read(p[:min(len(p), 100)])
}

type moodySeeker struct {
	moodyBody
	io.Seeker
}

func (m moodySeeker) Seek(offset int64, whence int) (int64, error) {
	if rand.N(10) == 0 {
		return 0, errors.New("seek")
	}
	return m.Seeker.Seek(offset, whence)
}

func hostileBody() io.Reader {
	data := bytes.NewReader(make([]byte, 1000))
	if rand.N(2) == 0 {
		return moodyBody{data}
	}
	return moodySeeker{moodyBody{data}, data}
}

func TestHostileUseLosesNoSlotNoTokenAndNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Policy{
			Timeout: 50 * time.Millisecond, Total: 300 * time.Millisecond, Silence: 20 * time.Millisecond, Stall: 30 * time.Millisecond,
			Retries: 1, Backoff: resilience.Backoff{Initial: time.Millisecond}, Concurrency: 8, Rate: 5000, Burst: 50, MaxWait: 20 * time.Millisecond,
			Breaker: resilience.Breaker{Ratio: 0.9, MinCalls: 50, Window: time.Second, OpenFor: 10 * time.Millisecond},
		}
		p.PerKey = &resilience.Policy{Rate: 1000, Burst: 50, Breaker: resilience.Breaker{InARow: 3, OpenFor: 20 * time.Millisecond}}
		inner := group(t, p, &rude{}, &rude{})
		outer := group(t, p, nested{inner}, &rude{})
		var late, wg sync.WaitGroup
		for n := range 3000 {
			wg.Go(func() {
				time.Sleep(time.Duration(n) * time.Millisecond / 4)
				defer func() { _ = recover() }()
				ctx, cancel := context.WithTimeout(t.Context(), rand.N(200*time.Millisecond)+time.Millisecond)
				defer cancel()
				if n%7 == 0 {
					time.AfterFunc(rand.N(30*time.Millisecond), cancel)
				}
				ctx = resilience.WithKey(resilience.WithCost(ctx, n%60-3), strconv.Itoa(n%20))
				if n%5 == 0 {
					ctx = resilience.Pin(ctx, outer.Members()[n%2])
				}
				hostile(ctx, n, outer, inner, &late)
			})
		}
		wg.Wait()
		late.Wait()
		for _, s := range outer.Inspect() {
			assert.Zero(t, s.InFlight, s.Name)
		}
		time.Sleep(time.Minute) // debts are paid
		for _, path := range []string{"p0/p0", "p0/p1", "p1"} {
			_, err := resilience.Do(resilience.WithCost(resilience.Pin(t.Context(), path), 50), outer, opAsk,
				func(ctx context.Context, a asker) (string, error) {
					if _, ok := a.(nested); ok {
						return resilience.Do(ctx, inner, opAsk, func(context.Context, asker) (string, error) { return "", nil })
					}
					return "", nil
				})
			require.NoError(t, err, path)
		}
	})
}

func hostile(ctx context.Context, n int, outer, inner *resilience.Group[asker], late *sync.WaitGroup) {
	switch n % 3 {
	case 0:
		var watch func(p asker, ctx context.Context, q string) iter.Seq2[int, error]
		watch = func(p asker, ctx context.Context, q string) iter.Seq2[int, error] {
			if r, ok := p.(*rude); ok {
				return r.watch(ctx, late)
			}
			return resilience.Stream(ctx, inner, opAsk, watch, q)
		}
		s := resilience.Stream(ctx, outer, opAsk, watch, "q")
		var both sync.WaitGroup // ranged twice at a time
		for range 2 {
			both.Go(func() {
				defer func() { _ = recover() }()
				for range s {
					switch rand.N(10) {
					case 0:
						return
					case 1:
						panic("consumer")
					}
				}
			})
		}
		both.Wait()
	case 1:
		var put func(ctx context.Context, p asker, body io.Reader) (string, error)
		put = func(ctx context.Context, p asker, body io.Reader) (string, error) {
			if r, ok := p.(*rude); ok {
				return "", r.put(ctx, body, late)
			}
			return resilience.Upload(ctx, inner, opPut, body, put)
		}
		_, _ = resilience.Upload(ctx, outer, opPut, hostileBody(), put)
	case 2:
		var call func(ctx context.Context, p asker) (string, error)
		call = func(ctx context.Context, p asker) (string, error) {
			if r, ok := p.(*rude); ok {
				r.late(ctx, late)
				return "", r.act(ctx)
			}
			return resilience.Do(ctx, inner, opAsk, call)
		}
		_, _ = resilience.Do(ctx, outer, opAsk, call)
	}
}

// A body that nobody ends: the caller's context does, and the transport's goroutine is
// left with it.
func TestABodyThatBlocksForEverIsLeftByItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		g := group(t, uploading(), &rude{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		_, err := resilience.Upload(ctx, g, opPut, r, func(ctx context.Context, _ asker, body io.Reader) (string, error) {
			wg.Go(func() { _, _ = io.Copy(io.Discard, body) })
			return "", hang(ctx)
		})
		require.ErrorIs(t, err, fault.Canceled)
		_ = w.Close()
		wg.Wait()
		assert.Zero(t, g.Inspect()[0].InFlight)
	})
}

func TestAnUploadInsideAnUploadBeginsAnewInEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, body := range map[string]io.Reader{"seeks": strings.NewReader("headbody"), "doesn't": once("headbody")} {
			_, _ = io.CopyN(io.Discard, body, 4)
			refused := func() *sink { return &sink{after: fault.New(fault.Unavailable, nil)} }
			a, b, c := refused(), refused(), &sink{}
			inner := group(t, uploading(), a, b)
			outer := group(t, uploading(), nested{inner}, c)
			var put func(ctx context.Context, p asker, body io.Reader) (string, error)
			put = func(ctx context.Context, p asker, body io.Reader) (string, error) {
				if s, ok := p.(*sink); ok {
					return "", s.put(ctx, body)
				}
				return resilience.Upload(ctx, inner, opPut, body, put)
			}
			_, err := resilience.Upload(t.Context(), outer, opPut, body, put)
			if name == "seeks" {
				require.NoError(t, err)
				assert.Equal(t, []string{"body"}, c.got)
				assert.Equal(t, []string{"body"}, b.got)
			} else {
				require.ErrorIs(t, err, fault.Unavailable)
				assert.Empty(t, b.got)
				assert.Empty(t, c.got)
			}
			assert.Equal(t, []string{"body"}, a.got)
		}
	})
}
