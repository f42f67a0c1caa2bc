package resiliencetest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/resiliencetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type mailer struct {
	*email.Client
	chaos    resiliencetest.Chaos
	recorder resiliencetest.Recorder
	boxes    [2]emailtest.Outbox
}

func open(t testing.TB) *mailer {
	t.Helper()
	m := &mailer{}
	p := resilience.Default
	p.Retries = 0
	var err error
	m.Client, err = email.New(email.Named("main", &m.boxes[0]), email.WithBackup(email.Named("backup", &m.boxes[1])),
		email.WithPolicy(p), email.WithObserver(&m.chaos), email.WithObserver(&m.recorder))
	require.NoError(t, err)
	return m
}

func (m *mailer) send(ctx context.Context) error {
	_, err := m.Send(ctx, &email.Message{
		From: email.Address{Address: "a@example.com"}, To: []email.Address{{Address: "b@example.org"}}, Subject: "s", Text: "t",
	})
	return err
}

func (m *mailer) delivered() [2]int { return [2]int{len(m.boxes[0].Sent()), len(m.boxes[1].Sent())} }

func TestEveryKindOfChaosMeetsTheRulesOfTheClient(t *testing.T) {
	down := fault.New(fault.Unavailable, errors.New("down"))
	for name, c := range map[string]struct {
		step      resiliencetest.Step
		took      time.Duration
		delivered [2]int
		lines     []string
	}{
		"nothing": {resiliencetest.Step{}, 0, [2]int{1, 0}, []string{"attempt ended main 1", "call ended main 1"}},
		"latency": {resiliencetest.Step{Delay: time.Second}, time.Second, [2]int{1, 0}, []string{"attempt ended main 1", "call ended main 1"}},
		"latency beyond the attempt's limit": {resiliencetest.Step{Delay: time.Hour}, 3 * time.Second, [2]int{0, 1}, []string{
			"attempt ended main 1: uncertain", "failed over main 1: uncertain", "attempt ended backup 2", "call ended backup 2",
		}},
		"a hang": {resiliencetest.Step{Hang: true}, 3 * time.Second, [2]int{0, 1}, []string{
			"attempt ended main 1: uncertain", "failed over main 1: uncertain", "attempt ended backup 2", "call ended backup 2",
		}},
		"a fault": {resiliencetest.Step{Err: down}, 0, [2]int{0, 1}, []string{
			"attempt ended main 1: unavailable", "failed over main 1: unavailable", "attempt ended backup 2", "call ended backup 2",
		}},
		"a fault after acting": {resiliencetest.Step{Err: fault.New(fault.Uncertain, nil), Acted: true}, 0, [2]int{1, 1}, []string{
			"attempt ended main 1: uncertain", "failed over main 1: uncertain", "attempt ended backup 2", "call ended backup 2",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := open(t)
				m.chaos.Script("main", c.step)
				start := time.Now()
				require.NoError(t, m.send(t.Context()))
				assert.Equal(t, c.took, time.Since(start))
				assert.Equal(t, c.delivered, m.delivered())
				m.recorder.RequireLines(t, c.lines...)
				m.recorder.Clear()
				require.NoError(t, m.send(t.Context()))
				m.recorder.RequireLines(t, "attempt ended main 1", "call ended main 1")
			})
		})
	}
}

func TestAPanicAndAGoexitReachTheCallerAndCount(t *testing.T) {
	m := open(t)
	m.chaos.Script("main", resiliencetest.Step{Panic: "boom"}, resiliencetest.Step{Goexit: true})
	assert.PanicsWithValue(t, "boom", func() { _ = m.send(t.Context()) })
	ended := false
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { ended = true }()
		_ = m.send(context.Background())
		ended = true
		runtime.Goexit()
	})
	wg.Wait()
	assert.True(t, ended)
	assert.Equal(t, 2, m.Inspect()[0].Failures)
	assert.Equal(t, 2, m.recorder.Count(resilience.Panicked, "main"))
	assert.Equal(t, 2, m.chaos.Spoiled("main"))
}

func TestASeedRepeatsTheShares(t *testing.T) {
	run := func(seed uint64) []string {
		m := open(t)
		m.chaos.Seed(seed)
		m.chaos.Share("main", 0.2, resiliencetest.Step{Err: fault.New(fault.Unsupported, nil)})
		m.chaos.Share("main", 0.1, resiliencetest.Step{Err: fault.New(fault.Invalid, nil)})
		for range 1000 {
			_ = m.send(t.Context())
		}
		assert.InDelta(t, 300, m.chaos.Spoiled("main"), 60)
		assert.InDelta(t, 200, m.recorder.Count(resilience.FailedOver, "main"), 50)
		assert.Equal(t, 1000, m.recorder.Count(resilience.CallEnded, ""))
		return m.recorder.Lines()
	}
	first := run(7)
	assert.Equal(t, first, run(7))
	assert.NotEqual(t, first, run(8))
}

func TestAlwaysLastsUntilCalm(t *testing.T) {
	m := open(t)
	m.chaos.Always("main", resiliencetest.Step{Err: fault.New(fault.Unsupported, nil)})
	for range 3 {
		require.NoError(t, m.send(t.Context()))
	}
	m.chaos.Calm("main")
	require.NoError(t, m.send(t.Context()))
	assert.Equal(t, [2]int{1, 3}, m.delivered())
}

// A service's own test of what happens while its provider fails.
func ExampleChaos() {
	var chaos resiliencetest.Chaos
	var main, backup emailtest.Outbox
	mail, err := email.New(email.Named("main", &main), email.WithBackup(email.Named("backup", &backup)), email.WithObserver(&chaos))
	if err != nil {
		fmt.Println(err)
		return
	}
	chaos.Always("main", resiliencetest.Step{Err: fault.New(fault.Denied, errors.New("the key was revoked"))})
	receipt, err := mail.Send(context.Background(), &email.Message{
		From: email.Address{Address: "shop@example.com"}, To: []email.Address{{Address: "ada@example.org"}}, Subject: "Order 1", Text: "Thank you.",
	})
	fmt.Println(receipt.Provider, receipt.Attempts, err)
	// Output: backup 2 <nil>
}
