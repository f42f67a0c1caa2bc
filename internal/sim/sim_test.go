package sim_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/internal/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shop accepts whatever isn't "bad" and enters it in its ledger.
type shop struct {
	*sim.Server
	sim.Ledger[string]
}

func open(t *testing.T, cfg sim.Config) *shop {
	t.Helper()
	s := &shop{}
	s.Server = sim.NewServer(cfg, func(_ *http.Request, body []byte) sim.Reply {
		if string(body) == "bad" {
			return sim.Reply{Status: http.StatusBadRequest, Body: `{"error":"bad"}`}
		}
		return sim.Reply{
			Status: http.StatusCreated, Header: http.Header{"X-Own": {"1"}}, Body: `{"ok":true}`,
			Act: func() { s.Add(string(body), string(body)) },
		}
	})
	t.Cleanup(s.Close)
	return s
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (s *shop) post(ctx context.Context, body string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, io.MultiReader(strings.NewReader(body)))
	if err != nil {
		return answer{}, err
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(got)}, err
}

func onBoth(t *testing.T, rule func(t *testing.T, cfg sim.Config)) {
	t.Run("HTTP/1.1", func(t *testing.T) { rule(t, sim.Config{}) })
	t.Run("HTTP/2", func(t *testing.T) { rule(t, sim.Config{HTTP2: true}) })
}

func TestAStepDecidesWhatIsDoneAndWhatIsHeard(t *testing.T) {
	tests := map[string]struct {
		step   sim.Step
		body   string
		status int // 0: the connection breaks
		answer string
		acted  int
	}{
		"no step: acts and answers":                   {body: "a", status: 201, answer: `{"ok":true}`, acted: 1},
		"no step: a refused request isn't done":       {body: "bad", status: 400, answer: `{"error":"bad"}`},
		"a status is answered instead of acting":      {step: sim.Step{Status: 503, Body: "down"}, body: "a", status: 503, answer: "down"},
		"acted: a status is answered after acting":    {step: sim.Step{Status: 500, Acted: true}, body: "a", status: 500, acted: 1},
		"reset before acting":                         {step: sim.Step{Reset: sim.BeforeActing}, body: "a"},
		"reset after acting":                          {step: sim.Step{Reset: sim.AfterActing}, body: "a", acted: 1},
		"reset after acting: a refusal is never done": {step: sim.Step{Reset: sim.AfterActing}, body: "bad"},
		"malformed acts and breaks off in the JSON":   {step: sim.Step{Malformed: true}, body: "a", status: 201, answer: `{"id":"01HZ","status":`, acted: 1},
		"malformed leaves a refusal whole":            {step: sim.Step{Malformed: true}, body: "bad", status: 400, answer: `{"error":"bad"}`},
		"a delay passes":                              {step: sim.Step{Delay: time.Millisecond}, body: "a", status: 201, answer: `{"ok":true}`, acted: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, cfg sim.Config) {
				s := open(t, cfg)
				s.Next(tt.step)
				got, err := s.post(t.Context(), tt.body)
				if tt.status == 0 {
					require.Error(t, err)
				} else {
					require.NoError(t, err)
				}
				assert.Equal(t, tt.status, got.status)
				assert.Equal(t, tt.answer, got.body)
				assert.Equal(t, tt.acted, s.Count(tt.body))
				assert.Equal(t, 1, s.Requests())
			})
		})
	}
}

func TestTheProtocolIsTheOneAskedFor(t *testing.T) {
	for cfg, proto := range map[sim.Config]int{{}: 1, {HTTP2: true}: 2} {
		s := open(t, cfg)
		resp, err := s.Client().Post(s.URL, "text/plain", strings.NewReader("a"))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, proto, resp.ProtoMajor)
	}
}

func TestAResetIsATCPReset(t *testing.T) {
	s := open(t, sim.Config{})
	s.Next(sim.Step{Reset: sim.AfterActing})
	_, err := s.post(t.Context(), "a")
	// The client may meet the reset while it reads or only as a closed connection; it must not be a clean answer.
	assert.True(t, errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF), "%v", err)
}

func TestAHangLastsUntilTheCallerGivesUp(t *testing.T) {
	for when, acted := range map[sim.When]int{sim.BeforeActing: 0, sim.AfterActing: 1} {
		onBoth(t, func(t *testing.T, cfg sim.Config) {
			s := open(t, cfg)
			s.Next(sim.Step{Hang: when})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := s.post(ctx, "a")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, acted, s.Count("a"))

			got, err := s.post(t.Context(), "b")
			require.NoError(t, err)
			assert.Equal(t, 201, got.status, "the next request is served")
		})
	}
}

// The caller has a status, and must decide what it is worth.
func TestAnAnswerCanStopInTheMiddle(t *testing.T) {
	for name, step := range map[string]sim.Step{"it hangs": {Hang: sim.MidAnswer}, "it breaks off": {Reset: sim.MidAnswer}} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, cfg sim.Config) {
				s := open(t, cfg)
				s.Next(step)
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				got, err := s.post(ctx, "a")
				require.Error(t, err)
				if step.Hang != 0 {
					require.ErrorIs(t, err, context.DeadlineExceeded)
				}
				assert.Equal(t, 201, got.status)
				assert.JSONEq(t, `{"ok":true}`, got.body+`:true}`)
				assert.Equal(t, 1, s.Count("a"))
			})
		})
	}
}

func TestCloseReleasesHangsAndDelays(t *testing.T) {
	for name, step := range map[string]sim.Step{
		"hang": {Hang: sim.BeforeActing}, "hang after": {Hang: sim.AfterActing}, "hang within": {Hang: sim.MidAnswer}, "delay": {Delay: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, cfg sim.Config) {
				s := open(t, cfg)
				s.Always(step)
				broken := make(chan error)
				go func() {
					_, err := s.post(t.Context(), "a")
					broken <- err
				}()
				require.Eventually(t, func() bool { return s.Requests() == 1 }, 5*time.Second, time.Millisecond)
				s.Close()
				require.Error(t, <-broken)
				s.Close()
			})
		})
	}
}

func TestQueuedStepsComeBeforeTheStandingOneAndHealDropsBoth(t *testing.T) {
	s := open(t, sim.Config{})
	s.Always(sim.Step{Status: 500})
	s.Next(sim.Step{Status: 429, Header: http.Header{"retry-after": {"7"}}}, sim.Step{Status: 503})
	var got []int
	for range 4 {
		a, err := s.post(t.Context(), "a")
		require.NoError(t, err)
		if len(got) == 0 {
			assert.Equal(t, "7", a.header.Get("Retry-After"))
		}
		got = append(got, a.status)
	}
	assert.Equal(t, []int{429, 503, 500, 500}, got)

	s.Next(sim.Step{Status: 503})
	s.Heal()
	a, err := s.post(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, 201, a.status)
}

func TestAStepsHeaderIsAddedToTheProvidersOwn(t *testing.T) {
	s := open(t, sim.Config{})
	s.Next(sim.Step{Header: http.Header{"X-More": {"2"}}})
	a, err := s.post(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, []string{"1", "2"}, []string{a.header.Get("X-Own"), a.header.Get("X-More")})
}

func TestAProviderSeesOneByteMoreThanTheLimit(t *testing.T) {
	seen := 0
	s := sim.NewServer(sim.Config{MaxBody: 4}, func(_ *http.Request, body []byte) sim.Reply {
		seen = len(body)
		return sim.Reply{}
	})
	defer s.Close()
	resp, err := s.Client().Post(s.URL, "text/plain", strings.NewReader("123456789"))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, 5, seen)
	assert.Equal(t, 200, resp.StatusCode, "no status is 200")
}

func TestTheLedgerProvesWhatWasLostAndDoubled(t *testing.T) {
	var l sim.Ledger[int]
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() { l.Add(string(rune('a'+i%2)), i) })
	}
	wg.Wait()
	l.Add("c", 7)
	assert.Equal(t, 101, l.Len())
	assert.Equal(t, 50, l.Count("b"))
	assert.Equal(t, []string{"a", "b"}, l.Doubled())
	assert.Equal(t, []string{"d"}, l.Missing("a", "d", "c"))
	all := l.All()
	assert.Equal(t, 7, all[100], "in order")
	all[0] = -1
	assert.NotEqual(t, -1, l.All()[0], "All is a copy")
	l.Clear()
	assert.Zero(t, l.Len())
	assert.Empty(t, l.Doubled())
}

func TestManyCallersUnderFailuresAreCountedExactly(t *testing.T) {
	s := open(t, sim.Config{})
	for range 50 {
		s.Next(sim.Step{}, sim.Step{Status: 503}, sim.Step{Reset: sim.BeforeActing}, sim.Step{Reset: sim.AfterActing})
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				_, _ = s.post(t.Context(), "a")
			}
		})
	}
	wg.Wait()
	assert.Equal(t, 200, s.Requests())
	assert.Equal(t, 100, s.Count("a"), "the half of the steps acted")
}

func TestMalformedIsNotJSON(t *testing.T) {
	s := open(t, sim.Config{})
	s.Next(sim.Step{Malformed: true})
	a, err := s.post(t.Context(), "a")
	require.NoError(t, err)
	assert.False(t, json.Valid([]byte(a.body)))
}
