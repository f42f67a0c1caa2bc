package resilience_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// server has so many workers, each of which takes about so long; who finds them
// busy queues.
type server struct {
	workers atomic.Pointer[chan struct{}]
	took    time.Duration
	shed    int64 // more than that at once are refused at once; 0: none are
	inside  atomic.Int64
	served  atomic.Int64
	total   atomic.Int64 // ns of those served
}

func newServer(workers int) *server {
	s := &server{took: 100 * time.Millisecond}
	s.resize(workers)
	return s
}

func (s *server) resize(workers int) {
	c := make(chan struct{}, workers)
	s.workers.Store(&c)
}

func (s *server) Ask(ctx context.Context, _ string) (string, error) {
	start := time.Now()
	defer s.inside.Add(-1)
	if n := s.inside.Add(1); s.shed > 0 && n > s.shed {
		return "", fault.New(fault.RateLimited, nil)
	}
	workers := *s.workers.Load()
	select {
	case workers <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	time.Sleep(s.took/2 + rand.N(s.took))
	<-workers
	s.served.Add(1)
	s.total.Add(int64(time.Since(start)))
	return "ok", nil
}

// load lets so many callers ask without a pause, for so long; it returns answers
// a second and their mean latency at the server.
func (s *server) load(ctx context.Context, g *resilience.Group[asker], callers int, d time.Duration) (rate float64, latency time.Duration) {
	s.served.Store(0)
	s.total.Store(0)
	until := time.Now().Add(d)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for time.Now().Before(until) {
				if ask(ctx, g) != nil {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	return float64(s.served.Load()) / d.Seconds(), time.Duration(s.total.Load() / max(s.served.Load(), 1))
}

func adaptivePolicy() resilience.Policy {
	return resilience.Policy{MaxWait: time.Minute, Adaptive: resilience.Adaptive{Max: 200}}
}

// The limit finds what the server can do, keeps its throughput, and lets callers
// queue here instead of there; when the server changes, it follows.
func TestAnAdaptiveLimitConvergesToWhatTheServerCanDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(10)
		g := group(t, adaptivePolicy(), s)
		check := func(phase string, workers int) {
			rate, latency := s.load(t.Context(), g, 150, 60*time.Second)
			limit := g.Inspect()[0].Limit
			t.Logf("%-22s %2d workers: limit %3d, %5.1f answers/s (at most %d), %v at the server", phase, workers, limit, rate, workers*10, latency.Round(time.Millisecond))
			assert.InDelta(t, workers*10, rate, float64(workers), "the throughput is kept")
			assert.Less(t, latency, 350*time.Millisecond, "1.5 s where all 150 queue there")
			assert.GreaterOrEqual(t, limit, workers/2, "half of it while the idle latency is measured")
			assert.LessOrEqual(t, limit, workers*2)
		}
		check("from its initial value", 10)
		s.resize(30)
		check("the server grows", 30)
		s.resize(10)
		check("the server shrinks", 10)

		bare := newServer(10)
		_, latency := bare.load(t.Context(), group(t, resilience.Policy{}, bare), 150, 60*time.Second)
		t.Logf("without a limit: %v at the server", latency.Round(time.Millisecond))
		assert.Greater(t, latency, time.Second)
	})
}

// A server that sheds load answers the refused ones quickly: latency alone would
// take that for health.
func TestAnAdaptiveLimitStaysBelowWhatTheProviderRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(100)
		s.shed = 12
		p := adaptivePolicy()
		g := group(t, p, s)
		s.load(t.Context(), g, 100, 30*time.Second)
		rate, _ := s.load(t.Context(), g, 100, 30*time.Second)
		limit := g.Inspect()[0].Limit
		t.Logf("12 at once are taken: limit %d, %.1f answers/s of 120", limit, rate)
		assert.LessOrEqual(t, limit, 16)
		assert.Greater(t, rate, 80.0)
	})
}

func TestAnAdaptiveLimitStaysWithinItsBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := adaptivePolicy()
		p.Adaptive = resilience.Adaptive{Min: 5, Max: 8, Initial: 6}
		s := newServer(1)
		g := group(t, p, s)
		assert.Equal(t, 6, g.Inspect()[0].Limit)
		s.load(t.Context(), g, 50, 30*time.Second)
		assert.Contains(t, []int{5, 6, 7, 8}, g.Inspect()[0].Limit)
		s.resize(100)
		s.load(t.Context(), g, 50, 30*time.Second)
		assert.Contains(t, []int{5, 6, 7, 8}, g.Inspect()[0].Limit)
	})
}
