package resilienceredis_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/resilienceredis"
)

// warning is what a Warner was told.
type warning struct {
	provider string
	d        time.Duration
}

type warnings chan warning

func (w warnings) Warn(provider string, d time.Duration) { w <- warning{provider, d} }

func (w warnings) next(t *testing.T) warning {
	t.Helper()
	select {
	case got := <-w:
		return got
	case <-time.After(10 * time.Second):
		t.Fatal("no warning came within 10 s")
		return warning{}
	}
}

// process is a State that runs until the test ends, on a connection of its own.
func process(t *testing.T, addr string, config resilienceredis.StateConfig) (*resilienceredis.State, warnings) {
	t.Helper()
	s, err := resilienceredis.NewState(client(t, &redis.Options{Addr: addr}), config)
	require.NoError(t, err)
	heard := make(warnings, 100)
	run(t, s, heard)
	return s, heard
}

func run(t *testing.T, s *resilienceredis.State, targets ...resilienceredis.Warner) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { assert.ErrorIs(t, s.Run(ctx, targets...), context.Canceled) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func opened(provider string, d time.Duration) resilience.Event {
	return resilience.Event{Type: resilience.StateChanged, Provider: provider, From: resilience.Closed, To: resilience.Open, Delay: d}
}

// listening waits until n processes are subscribed.
func listening(t *testing.T, server *miniredis.Miniredis, n int) {
	t.Helper()
	const channel = "resilience:state:opened"
	require.Eventually(t, func() bool { return server.PubSubNumSub(channel)[channel] == n }, 10*time.Second, time.Millisecond)
}

func TestABreakerThatOpensWarnsTheOtherProcesses(t *testing.T) {
	server, _ := start(t)
	a, heardByA := process(t, server.Addr(), resilienceredis.StateConfig{})
	_, heardByB := process(t, server.Addr(), resilienceredis.StateConfig{})
	_, heardByC := process(t, server.Addr(), resilienceredis.StateConfig{})
	listening(t, server, 3)
	a.Observe(t.Context(), opened("eu/ses", 30*time.Second))
	for _, heard := range []warnings{heardByB, heardByC} {
		got := heard.next(t)
		assert.Equal(t, "eu/ses", got.provider)
		assert.InDelta(t, 30*time.Second, got.d, float64(time.Second))
	}
	assert.Empty(t, heardByA, "its own news is none")
	require.Eventually(t, func() bool { return a.Stats() == resilienceredis.StateStats{Published: 1} }, 10*time.Second, time.Millisecond)
}

func TestAProcessThatStartsLaterIsWarnedAtOnce(t *testing.T) {
	server, _ := start(t)
	a, _ := process(t, server.Addr(), resilienceredis.StateConfig{})
	a.Observe(t.Context(), opened("ses", 30*time.Second))
	a.Observe(t.Context(), opened("smtp", 10*time.Second))
	a.Observe(t.Context(), opened("ses", 60*time.Second))
	require.Eventually(t, func() bool { return a.Stats().Published == 3 }, 10*time.Second, time.Millisecond)
	server.SetTime(time.Date(2026, 7, 1, 12, 0, 5, 123_456_000, time.UTC))

	_, heard := process(t, server.Addr(), resilienceredis.StateConfig{})
	got := map[string]time.Duration{}
	for range 2 {
		w := heard.next(t)
		got[w.provider] = w.d.Round(time.Second)
	}
	assert.Equal(t, map[string]time.Duration{"ses": 55 * time.Second, "smtp": 5 * time.Second}, got)

	server.SetTime(time.Date(2026, 7, 1, 12, 0, 20, 0, time.UTC))
	_, heard = process(t, server.Addr(), resilienceredis.StateConfig{})
	assert.Equal(t, "ses", heard.next(t).provider)
	assert.Empty(t, heard, "what is over is forgotten")
	const key = "resilience:state:open"
	assert.LessOrEqual(t, server.TTL(key), 60*time.Second, "and in the end all of it")
	assert.Positive(t, server.TTL(key))
}

func TestPrefixesAreApart(t *testing.T) {
	server, _ := start(t)
	a, _ := process(t, server.Addr(), resilienceredis.StateConfig{Prefix: "mail"})
	_, heard := process(t, server.Addr(), resilienceredis.StateConfig{Prefix: "payment"})
	a.Observe(t.Context(), opened("main", time.Minute))
	require.Eventually(t, func() bool { return a.Stats().Published == 1 }, 10*time.Second, time.Millisecond)
	_, late := process(t, server.Addr(), resilienceredis.StateConfig{Prefix: "mail"})
	late.next(t)
	assert.Empty(t, heard)
}

func TestOnlyABreakerThatOpensIsTold(t *testing.T) {
	_, c := start(t)
	s, err := resilienceredis.NewState(c, resilienceredis.StateConfig{Queue: 1})
	require.NoError(t, err)
	for _, e := range []resilience.Event{
		{Type: resilience.AttemptEnded, Provider: "ses", To: resilience.Open, Delay: time.Minute},
		{Type: resilience.StateChanged, Provider: "ses", From: resilience.Open, To: resilience.HalfOpen, Delay: time.Minute},
		{Type: resilience.StateChanged, Provider: "ses", From: resilience.HalfOpen, To: resilience.Closed, Delay: time.Minute},
		{Type: resilience.StateChanged, Provider: "ses", From: resilience.Closed, To: resilience.Open},
		{Type: resilience.StateChanged, Provider: "ses", Key: "ada", From: resilience.Closed, To: resilience.Open, Delay: time.Minute},
	} {
		s.Observe(t.Context(), e)
	}
	s.Observe(t.Context(), opened("ses", time.Minute))
	assert.Zero(t, s.Stats().Dropped, "the queue had room for one")
	s.Observe(t.Context(), opened("ses", time.Minute))
	assert.EqualValues(t, 1, s.Stats().Dropped)
}

func TestMessagesThatNoneOfUsSentAreIgnored(t *testing.T) {
	server, c := start(t)
	s, heard := process(t, server.Addr(), resilienceredis.StateConfig{})
	listening(t, server, 1)
	messages := []string{
		"", "x", "{}", "null", "[1]", `"x"`, "\xff",
		`{"v":2,"from":"a1","provider":"ses","ms":1000}`,
		`{"v":1,"from":"","provider":"ses","ms":1000}`,
		`{"v":1,"from":"A B","provider":"ses","ms":1000}`,
		`{"v":1,"from":"` + strings.Repeat("a", 65) + `","provider":"ses","ms":1000}`,
		`{"v":1,"from":"a1","provider":"","ms":1000}`,
		`{"v":1,"from":"a1","provider":"SES","ms":1000}`,
		`{"v":1,"from":"a1","provider":"` + strings.Repeat("a", 513) + `","ms":1000}`,
		`{"v":1,"from":"a1","provider":"ses"}`,
		`{"v":1,"from":"a1","provider":"ses","ms":0}`,
		`{"v":1,"from":"a1","provider":"ses","ms":-1}`,
		`{"v":1,"from":"a1","provider":"ses","ms":1e30}`,
		`{"v":1,"from":"a1","provider":"ses","ms":"1"}`,
		`{"v":1,"from":"a1","provider":"ses","ms":1000,"more":"` + strings.Repeat("a", 1024) + `"}`,
	}
	for _, m := range messages {
		server.Publish("resilience:state:opened", m)
	}
	server.Publish("resilience:state:opened", `{"v":1,"from":"a1","provider":"eu/ses","ms":9000000000,"new":true}`)
	assert.Equal(t, warning{"eu/ses", time.Hour}, heard.next(t), "a longer time is cut to an hour")
	assert.Empty(t, heard)
	assert.Equal(t, resilienceredis.StateStats{Heard: 1, Invalid: uint64(len(messages))}, s.Stats())

	for i, m := range messages { // the same where it is remembered
		c.ZAdd(t.Context(), "resilience:state:open", redis.Z{Score: 1e15 + float64(i), Member: m})
	}
	c.ZAdd(t.Context(), "resilience:state:open", redis.Z{Score: 2e15, Member: `{"v":1,"from":"a1","provider":"smtp"}`})
	late, heardLater := process(t, server.Addr(), resilienceredis.StateConfig{})
	for w := heardLater.next(t); w != (warning{"smtp", time.Hour}); w = heardLater.next(t) {
		assert.Equal(t, "ses", w.provider, "but for those that lack nothing but their time")
	}
	assert.Positive(t, late.Stats().Invalid)
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	server, _ := start(t)
	s, _ := process(t, server.Addr(), resilienceredis.StateConfig{Queue: 2000})
	for i := range 1100 {
		s.Observe(t.Context(), opened("p"+strconv.Itoa(i), time.Minute+time.Duration(i)*time.Millisecond))
	}
	require.Eventually(t, func() bool { return s.Stats().Published == 1100 }, 30*time.Second, time.Millisecond)
	members, err := server.ZMembers("resilience:state:open")
	require.NoError(t, err)
	assert.Len(t, members, 1000)
}

func TestAWarnedBreakerOpensAfterFewerFailures(t *testing.T) {
	server, _ := start(t)
	type provider = func() error
	down := func() error { return fault.New(fault.Unavailable, errors.New("down")) }
	policy := resilience.Default
	policy.Retries, policy.Breaker = 0, resilience.Breaker{InARow: 6, OpenFor: time.Minute}
	group := func() (*resilience.Group[provider], *resilienceredis.State) {
		s, err := resilienceredis.NewState(client(t, &redis.Options{Addr: server.Addr()}), resilienceredis.StateConfig{})
		require.NoError(t, err)
		g, err := resilience.New(policy, []resilience.Member[provider]{{Name: "ses", Provider: down}}, s)
		require.NoError(t, err)
		return g, s
	}
	failures := func(g *resilience.Group[provider]) (n int) {
		for {
			_, err := resilience.Do(t.Context(), g, resilience.Op{Name: "mail.send"}, func(_ context.Context, p provider) (struct{}, error) { return struct{}{}, p() })
			if errors.Is(err, resilience.ErrOpen) {
				return n
			}
			n++
		}
	}
	first, a := group()
	second, b := group()
	heard := make(warnings, 1)
	run(t, a, first)
	run(t, b, second, heard)
	listening(t, server, 2)
	alone := failures(first)
	heard.next(t)
	warned := failures(second)
	t.Logf("the first opened after %d failures, the warned one after %d", alone, warned)
	assert.Equal(t, 6, alone)
	assert.Less(t, warned, alone)
}

// While Redis is down.

func TestNoCallWaitsForRedis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := hanging(t)
		var failures atomic.Int64
		s, err := resilienceredis.NewState(c, resilienceredis.StateConfig{Queue: 10, OnError: func(error) { failures.Add(1) }})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { assert.ErrorIs(t, s.Run(ctx), context.Canceled) })
		start := time.Now()
		for range 100 {
			s.Observe(t.Context(), opened("ses", 10*time.Second))
			synctest.Wait()
		}
		assert.Zero(t, time.Since(start))
		assert.EqualValues(t, 100-10-1, s.Stats().Dropped, "ten wait, and one is being told")
		time.Sleep(time.Minute)
		assert.EqualValues(t, 100, s.Stats().Dropped, "and in the end they are over")
		t.Logf("%d failures in a minute", failures.Load())
		assert.Less(t, failures.Load(), int64(60), "Redis is tried no more than once a second by either half")

		end := time.Now()
		cancel()
		wg.Wait()
		assert.LessOrEqual(t, time.Since(end), time.Second)
		c.Close()
	})
}

func TestNewsWaitsUntilRedisIsBackAndIsShorterThen(t *testing.T) {
	server, _ := start(t)
	addr := server.Addr()
	a, _ := process(t, addr, resilienceredis.StateConfig{})
	_, heard := process(t, addr, resilienceredis.StateConfig{})
	listening(t, server, 2)
	server.Close()
	a.Observe(t.Context(), opened("ses", 30*time.Second))
	require.Eventually(t, func() bool { return a.Stats().Failed > 0 }, 10*time.Second, time.Millisecond)
	require.NoError(t, server.StartAddr(addr))
	got := heard.next(t)
	assert.Equal(t, "ses", got.provider)
	assert.Less(t, got.d, 30*time.Second)
}

func TestRunRunsOnceAtATimeAndMayRunAgain(t *testing.T) {
	server, c := start(t)
	s, err := resilienceredis.NewState(c, resilienceredis.StateConfig{})
	require.NoError(t, err)
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		for range 2 {
			go func() { ended <- s.Run(ctx) }()
		}
		assert.ErrorContains(t, <-ended, "running already", "one of them")
		listening(t, server, 1)
		start := time.Now()
		cancel()
		assert.ErrorIs(t, <-ended, context.Canceled)
		assert.Less(t, time.Since(start), time.Second)
		listening(t, server, 0)
	}
}

func TestAStateConfigThatCannotWorkIsRefused(t *testing.T) {
	_, c := start(t)
	_, err := resilienceredis.NewState(c, resilienceredis.StateConfig{Queue: -1})
	assert.ErrorContains(t, err, "Queue")
}
