package sim_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sim"
)

// till takes money, and remembers its answer by the request's body as its idempotency key.
type till struct {
	sim.Plan
	*sim.Host
	sim.Ledger[string]

	kept map[string]sim.Reply
}

func openTill(t *testing.T, http2 bool) *till {
	t.Helper()
	s := &till{kept: map[string]sim.Reply{}}
	s.Host = sim.NewHost(s.Plan.Handler(s.do), http2)
	t.Cleanup(func() {
		s.Plan.Close()
		s.Host.Close()
	})
	return s
}

func (s *till) do(_ *http.Request, body []byte, x *sim.Exchange) sim.Reply {
	key := string(body)
	if known, ok := s.kept[key]; ok {
		return known
	}
	if !x.Before() {
		return sim.Reply{}
	}
	reply, acted, ok := x.Kept()
	if !ok || acted {
		s.Add(key)
	}
	if !ok {
		reply = sim.Reply{Body: `{"ok":true}`, Header: http.Header{"X-Own": {"1"}}}
	}
	s.kept[key] = reply
	return reply
}

func (s *till) Add(key string) { s.Ledger.Add(key, key) }

func (s *till) post(ctx context.Context, path, body string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+path, io.MultiReader(strings.NewReader(body)))
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

func onBothHosts(t *testing.T, rule func(t *testing.T, http2 bool)) {
	t.Run("HTTP/1.1", func(t *testing.T) { rule(t, false) })
	t.Run("HTTP/2", func(t *testing.T) { rule(t, true) })
}

func TestAFaultHappensAtItsMoment(t *testing.T) {
	page := sim.Reply{Status: 502, Body: "<html>bad gateway</html>", Header: http.Header{"Content-Type": {"text/html"}}}
	tests := map[string]struct {
		fault  sim.Fault
		status int // 0: nothing whole is heard
		acted  int
		again  int // the status that the same request gets afterwards
		money  int // what has been done after that
	}{
		"nothing":                           {sim.Fault{}, 200, 1, 200, 1},
		"answer before reading":             {sim.Fault{At: sim.BeforeReading, Do: sim.Answer, Reply: page}, 502, 0, 200, 1},
		"answer before acting":              {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: page}, 502, 0, 200, 1},
		"answer after acting":               {sim.Fault{At: sim.AfterActing, Do: sim.Answer, Reply: page}, 502, 1, 200, 1},
		"kept answer before acting":         {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: page, Kept: true}, 502, 0, 502, 0},
		"kept answer after acting":          {sim.Fault{At: sim.AfterActing, Do: sim.Answer, Reply: page, Kept: true}, 502, 1, 502, 1},
		"close before reading":              {sim.Fault{At: sim.BeforeReading, Do: sim.Close}, 0, 0, 200, 1},
		"reset before reading":              {sim.Fault{At: sim.BeforeReading, Do: sim.Reset}, 0, 0, 200, 1},
		"close before acting":               {sim.Fault{At: sim.BeforeActing, Do: sim.Close}, 0, 0, 200, 1},
		"reset before acting":               {sim.Fault{At: sim.BeforeActing, Do: sim.Reset}, 0, 0, 200, 1},
		"close after acting":                {sim.Fault{At: sim.AfterActing, Do: sim.Close}, 0, 1, 200, 1},
		"reset after acting":                {sim.Fault{At: sim.AfterActing, Do: sim.Reset}, 0, 1, 200, 1},
		"close within the header":           {sim.Fault{At: sim.MidHeader, Do: sim.Close}, 0, 1, 200, 1},
		"reset within the header":           {sim.Fault{At: sim.MidHeader, Do: sim.Reset}, 0, 1, 200, 1},
		"close within the body":             {sim.Fault{At: sim.MidAnswer, Do: sim.Close}, 0, 1, 200, 1},
		"reset within the body":             {sim.Fault{At: sim.MidAnswer, Do: sim.Reset}, 0, 1, 200, 1},
		"delay before acting":               {sim.Fault{At: sim.BeforeActing, Do: sim.Delay, Delay: time.Millisecond}, 200, 1, 200, 1},
		"delay after acting":                {sim.Fault{At: sim.AfterActing, Do: sim.Delay, Delay: time.Millisecond}, 200, 1, 200, 1},
		"another method isn't meant":        {sim.Fault{On: sim.Match{Method: "GET"}, Do: sim.Answer, At: sim.BeforeActing, Reply: page}, 200, 1, 200, 1},
		"another path isn't meant":          {sim.Fault{On: sim.Match{Path: "/v1/*"}, Do: sim.Answer, At: sim.BeforeActing, Reply: page}, 200, 1, 200, 1},
		"a segment is a star":               {sim.Fault{On: sim.Match{Path: "/pay/*/confirm"}, Do: sim.Answer, At: sim.BeforeActing, Reply: page}, 502, 0, 200, 1},
		"a predicate that says no":          {sim.Fault{On: sim.Match{If: func(_ *http.Request, b []byte) bool { return string(b) != "order" }}, Do: sim.Answer, At: sim.BeforeActing, Reply: page}, 200, 1, 200, 1},
		"the second request, not the first": {sim.Fault{Nth: 2, At: sim.BeforeActing, Do: sim.Answer, Reply: page}, 200, 1, 502, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			onBothHosts(t, func(t *testing.T, http2 bool) {
				s := openTill(t, http2)
				if tt.fault.Nth == 0 {
					tt.fault.Times = 1
				}
				s.Plan.Add(tt.fault)
				got, err := s.post(t.Context(), "/pay/1/confirm", "order")
				if tt.status == 0 {
					require.Error(t, err)
				} else {
					require.NoError(t, err)
					assert.Equal(t, tt.status, got.status)
				}
				assert.Equal(t, tt.acted, s.Count("order"))
				got, err = s.post(t.Context(), "/pay/1/confirm", "order")
				require.NoError(t, err)
				assert.Equal(t, tt.again, got.status)
				assert.Equal(t, tt.money, s.Count("order"))
				assert.Len(t, s.Calls(sim.Match{Path: "/pay/*/confirm"}), 2)
			})
		})
	}
}

func TestAStallWithoutAGateLastsUntilTheCallerGoes(t *testing.T) {
	for when, acted := range map[sim.When]int{sim.BeforeReading: 0, sim.BeforeActing: 0, sim.AfterActing: 1, sim.MidHeader: 1, sim.MidAnswer: 1} {
		onBothHosts(t, func(t *testing.T, http2 bool) {
			s := openTill(t, http2)
			s.Plan.Add(sim.Fault{At: when, Do: sim.Stall, Times: 1})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := s.post(ctx, "/", "a")
			if when == sim.MidHeader && http2 {
				require.Error(t, err)
			} else {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
			assert.Equal(t, acted, s.Count("a"))
			got, err := s.post(t.Context(), "/", "a")
			require.NoError(t, err)
			assert.Equal(t, 200, got.status)
			assert.Equal(t, 1, s.Count("a"))
		})
	}
}

func TestARequestGoesOnBehindItsGateThoughTheCallerHasGone(t *testing.T) {
	onBothHosts(t, func(t *testing.T, http2 bool) {
		s := openTill(t, http2)
		gate := sim.NewGate()
		s.Plan.Add(sim.Fault{At: sim.BeforeActing, Do: sim.Stall, Gate: gate})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-gate.Arrived()
			cancel()
		}()
		_, err := s.post(ctx, "/", "a")
		require.ErrorIs(t, err, context.Canceled)
		assert.Zero(t, s.Count("a"))
		gate.Open()
		require.Eventually(t, func() bool { return s.Count("a") == 1 }, 5*time.Second, time.Millisecond)
	})
}

func TestAKilledHostActsNoMoreAndItsStateOutlivesIt(t *testing.T) {
	onBothHosts(t, func(t *testing.T, http2 bool) {
		s := openTill(t, http2)
		_, err := s.post(t.Context(), "/", "a")
		require.NoError(t, err)
		gate := sim.NewGate()
		s.Plan.Add(sim.Fault{At: sim.BeforeActing, Do: sim.Stall, Gate: gate})
		go func() {
			<-gate.Arrived()
			s.Kill()
			gate.Open()
		}()
		_, err = s.post(t.Context(), "/", "b")
		require.Error(t, err)
		s.Kill()
		_, err = s.post(t.Context(), "/", "b")
		require.Error(t, err, "nobody listens")
		s.Restart()
		s.Heal()
		got, err := s.post(t.Context(), "/", "a")
		require.NoError(t, err)
		assert.Equal(t, `{"ok":true}`, got.body)
		assert.Equal(t, 1, s.Count("a"))
		assert.Zero(t, s.Count("b"), "what stood before the gate wasn't done")
	})
}

func TestAClosedPlanHoldsNothingUp(t *testing.T) {
	for name, f := range map[string]sim.Fault{
		"stall": {At: sim.BeforeActing, Do: sim.Stall}, "gate": {At: sim.BeforeActing, Do: sim.Stall, Gate: sim.NewGate()},
		"unread": {At: sim.BeforeReading, Do: sim.Stall}, "delay": {At: sim.BeforeActing, Do: sim.Delay, Delay: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			onBothHosts(t, func(t *testing.T, http2 bool) {
				s := openTill(t, http2)
				s.Plan.Add(f)
				broken := make(chan error)
				go func() {
					_, err := s.post(t.Context(), "/", "a")
					broken <- err
				}()
				require.Eventually(t, func() bool { return len(s.Calls(sim.Match{})) == 1 }, 5*time.Second, time.Millisecond)
				s.Plan.Close()
				require.Error(t, <-broken)
				assert.Zero(t, s.Count("a"))
			})
		})
	}
}
