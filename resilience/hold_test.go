package resilience_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// slowBody gives one byte every pause, as long as its context lives.
type slowBody struct {
	ctx   context.Context //nolint:containedctx // as a response's body has
	left  int
	pause time.Duration
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(b.pause):
		b.left--
		p[0] = 'x'
		return 1, nil
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
}

func (*slowBody) Close() error { return nil }

func keep(ctx context.Context, g *resilience.Group[asker], left int, pause time.Duration) (io.ReadCloser, error) {
	_, body, err := resilience.Keep(ctx, g, opAsk, func(ctx context.Context, p asker) (string, io.ReadCloser, error) {
		s, err := p.Ask(ctx, "q")
		return s, &slowBody{ctx, left, pause}, err
	})
	return body, err
}

func TestTrap14ABodyOutlivesTheCallUntilItIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := resilience.Default
		p.Concurrency = 1
		g := group(t, p, &provider{})
		body, err := keep(t.Context(), g, 3, time.Second)
		require.NoError(t, err)
		assert.Equal(t, 1, g.Inspect()[0].InFlight)
		data, err := io.ReadAll(body)
		require.NoError(t, err)
		assert.Len(t, data, 3)
		require.NoError(t, body.Close())
		require.NoError(t, body.Close())
		assert.Zero(t, g.Inspect()[0].InFlight)
		assert.Equal(t, 1, g.Inspect()[0].Successes)
	})
}

func TestTrap19ABodyMayTakeLongerThanTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, resilience.Default, &provider{})
		body, err := keep(t.Context(), g, 40, time.Second)
		require.NoError(t, err)
		data, err := io.ReadAll(body)
		require.NoError(t, err)
		assert.Len(t, data, 40)
		require.NoError(t, body.Close())
	})
}

func TestASilentBodyFailsAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, resilience.Default, &provider{})
		body, err := keep(t.Context(), g, 1, time.Hour)
		require.NoError(t, err)
		start := time.Now()
		_, err = io.ReadAll(body)
		require.ErrorIs(t, err, resilience.ErrTimeout)
		assert.Equal(t, resilience.Default.Silence, time.Since(start))
		require.NoError(t, body.Close())
		assert.Equal(t, 1, g.Inspect()[0].Failures)
	})
}

func TestKeepAsksTheBackupBeforeThereIsABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		two := &provider{}
		body, err := keep(t.Context(), group(t, resilience.Default, &provider{fn: hang}, two), 1, time.Second)
		require.NoError(t, err)
		assert.EqualValues(t, 1, two.calls.Load())
		require.NoError(t, body.Close())
	})
}

// words yields n words, one each second, then fails where it has an error.
type words struct {
	provider
	n     int
	err   error
	pause time.Duration // before the first; a second where it is zero
	// second is the pause before the others.
	second time.Duration
	mute   bool // it ends without a word when its context ends
}

func (w *words) before(i int) time.Duration {
	d := w.pause
	if i > 0 {
		d = w.second
	}
	return cmp.Or(d, time.Second)
}

func stream(ctx context.Context, g *resilience.Group[asker]) iter.Seq2[int, error] {
	return resilience.Stream(ctx, g, opAsk, func(p asker, ctx context.Context, _ string) iter.Seq2[int, error] {
		w := p.(*words)
		w.calls.Add(1)
		return func(yield func(int, error) bool) {
			for i := range w.n {
				select {
				case <-time.After(w.before(i)):
				case <-ctx.Done():
					if !w.mute {
						yield(0, ctx.Err())
					}
					return
				}
				if !yield(i, nil) {
					return
				}
			}
			if w.err != nil {
				yield(0, w.err)
			}
		}
	}, "q")
}

func TestAStreamFailsOverBeforeItsFirstItemAlone(t *testing.T) {
	for name, c := range map[string]struct{ items, second int }{"before": {0, 1}, "after": {2, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := resilience.Default
				p.Retries = 0
				one, two := &words{n: c.items, err: fault.New(fault.Unavailable, errors.New("broke off"))}, &words{n: 3}
				got, failed := 0, 0
				for _, err := range stream(t.Context(), group(t, p, one, two)) {
					if err != nil {
						failed++
						assert.ErrorIs(t, err, fault.Unavailable)
						continue
					}
					got++
				}
				assert.EqualValues(t, c.second, two.calls.Load())
				assert.Equal(t, map[bool]int{true: 3, false: 2}[c.second == 1], got)
				assert.Equal(t, 1-c.second, failed)
			})
		})
	}
}

func TestSilenceStopsWhileTheConsumerHoldsAnItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, resilience.Default, &words{n: 5})
		n := 0
		for _, err := range stream(t.Context(), g) {
			require.NoError(t, err)
			time.Sleep(time.Hour)
			n++
		}
		assert.Equal(t, 5, n)
	})
}

func TestRangingTwiceCallsTwiceAndABreakIsASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &words{n: 5}
		g := group(t, resilience.Default, one)
		s := stream(t.Context(), g)
		for range 2 {
			for range s {
				break
			}
		}
		assert.EqualValues(t, 2, one.calls.Load())
		assert.Equal(t, 2, g.Inspect()[0].Successes)
	})
}

func TestAConsumersPanicIsNotTheProviders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := group(t, resilience.Default, &words{n: 5})
		assert.PanicsWithValue(t, "mine", func() {
			for range stream(t.Context(), g) {
				panic("mine")
			}
		})
		assert.Zero(t, g.Inspect()[0].Failures)
	})
}

func TestAStreamOfTheBackupAfterATimeOutIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &words{n: 1, pause: time.Hour}, &words{n: 3}
		n := 0
		for _, err := range stream(t.Context(), group(t, resilience.Default, one, two)) {
			require.NoError(t, err)
			n++
		}
		assert.Equal(t, 3, n)
		assert.EqualValues(t, 1, one.calls.Load())
	})
}

func TestASilentStreamEndsWithATimeOutAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := &words{n: 2, second: time.Hour}
		g := group(t, resilience.Default, one)
		start, n := time.Now(), 0
		var last error
		for _, err := range stream(t.Context(), g) {
			if last = err; err == nil {
				n++
			}
		}
		assert.Equal(t, 1, n)
		assert.ErrorIs(t, last, resilience.ErrTimeout)
		assert.Equal(t, time.Second+resilience.Default.Silence, time.Since(start))
		assert.Equal(t, 1, g.Inspect()[0].InARow)
	})
}

// A provider may end its stream without a word when its context ends.
func TestAStreamThatTheCallerCutOffHasNotComeToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g := group(t, resilience.Default, &words{n: 5, mute: true})
		var last error
		for _, err := range stream(ctx, g) {
			last = err
			cancel()
		}
		assert.ErrorIs(t, last, fault.Canceled)
		assert.Zero(t, g.Inspect()[0].Failures)
	})
}

func TestABodyThatBreaksOffNamesItsProviderAndCounts(t *testing.T) {
	g := group(t, resilience.Default, &provider{})
	_, body, err := resilience.Keep(t.Context(), g, opAsk, func(context.Context, asker) (string, io.ReadCloser, error) {
		return "ok", io.NopCloser(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("half of it")))), nil
	})
	require.NoError(t, err)
	_, err = io.ReadAll(body)
	assert.ErrorIs(t, err, fault.Uncertain)
	assert.ErrorIs(t, err, iotest.ErrTimeout)
	assert.ErrorContains(t, err, "test.ask: p0: uncertain")
	require.NoError(t, body.Close())
	assert.Equal(t, 1, g.Inspect()[0].Failures)
}

func TestABodyThatCameTooLateIsClosedAndTheBackupAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := &closed{}
		one, two := &provider{fn: func(context.Context) error { time.Sleep(4 * time.Second); return nil }}, &provider{}
		_, body, err := resilience.Keep(t.Context(), group(t, resilience.Default, one, two), opAsk,
			func(ctx context.Context, p asker) (string, io.ReadCloser, error) {
				s, err := p.Ask(ctx, "q")
				if p == asker(one) {
					return s, late, err
				}
				return s, io.NopCloser(strings.NewReader("whole")), err
			})
		require.NoError(t, err)
		data, err := io.ReadAll(body)
		require.NoError(t, err)
		assert.Equal(t, "whole", string(data))
		assert.True(t, late.closed)
		require.NoError(t, body.Close())
	})
}

type closed struct {
	strings.Reader
	closed bool
}

func (c *closed) Close() error { c.closed = true; return nil }
