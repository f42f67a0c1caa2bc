package resiliencehttp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/resiliencehttp"
)

func hang(_ http.ResponseWriter, r *http.Request, _ int) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func TestAHangingReadIsRepeatedAndAHangingPostIsNot(t *testing.T) {
	for method, attempts := range map[string]int{"GET": 3, "POST": 1} {
		t.Run(method, func(t *testing.T) {
			onBoth(t, func(t *testing.T, protocol string) {
				s := serveInBubble(t, protocol, hang)
				tr := newTransport(t, s, quick())
				start := time.Now()
				_, err := (&http.Client{Transport: tr}).Do(s.request(t, method, "payload"))
				assert.Equal(t, time.Duration(attempts)*3*time.Second, time.Since(start).Truncate(time.Second))
				assert.EqualValues(t, attempts, s.hits.Load())
				assert.ErrorIs(t, err, resilience.ErrTimeout)
				assert.ErrorIs(t, err, fault.Uncertain)
				assert.True(t, fault.MayHaveActed(err))
				var u *url.Error
				require.ErrorAs(t, err, &u)
				assert.True(t, u.Timeout(), "as callers of net/http ask")
				assert.Equal(t, attempts, tr.Inspect()[0].Failures)
			})
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for name, c := range map[string]struct {
		status   int
		after    func(now time.Time) string
		waits    time.Duration
		attempts int64
	}{
		"seconds are waited for":             {429, func(time.Time) string { return "5" }, 5 * time.Second, 2},
		"a date is waited for":               {429, func(now time.Time) string { return now.Add(5 * time.Second).UTC().Format(http.TimeFormat) }, 5 * time.Second, 2},
		"a 503 is asked to be left alone":    {503, func(time.Time) string { return "5" }, 5 * time.Second, 2},
		"a date that is past is no wait":     {429, func(now time.Time) string { return now.Add(-time.Hour).UTC().Format(http.TimeFormat) }, 0, 2},
		"nonsense is no wait":                {429, func(time.Time) string { return "soon" }, 0, 2},
		"beyond patience the answer is back": {429, func(time.Time) string { return "11" }, 0, 1},
		"as for a 503":                       {503, func(time.Time) string { return "3600" }, 0, 1},
		"a week isn't believed or waited":    {429, func(time.Time) string { return strconv.Itoa(7 * 86400) }, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, protocol string) {
				s := serveInBubble(t, protocol, func(w http.ResponseWriter, _ *http.Request, n int) {
					if n == 1 {
						w.Header().Set("Retry-After", c.after(time.Now()))
						w.WriteHeader(c.status)
						_, _ = io.WriteString(w, "later")
					}
				})
				p := quick()
				p.MaxWait = 10 * time.Second
				start := time.Now()
				resp, err := newTransport(t, s, p).RoundTrip(s.request(t, "GET", ""))
				require.NoError(t, err)
				waited := time.Since(start) // up to a tenth for the pause, and for who waits
				assert.GreaterOrEqual(t, waited, c.waits)
				assert.LessOrEqual(t, waited, max(c.waits*121/100, time.Second-1))
				assert.Equal(t, c.attempts, s.hits.Load())
				if c.attempts == 1 {
					assert.Equal(t, c.status, resp.StatusCode)
					assert.Equal(t, "later", read(t, resp))
					return
				}
				assert.Equal(t, 200, resp.StatusCode)
				read(t, resp)
			})
		})
	}
}

func TestNoWaitIsLongerThanTheMaximum(t *testing.T) {
	onBoth(t, func(t *testing.T, protocol string) {
		s := serveInBubble(t, protocol, answers(503))
		p := resilience.Default
		p.Retries, p.Backoff = 10, resilience.Backoff{Initial: time.Second, Max: 2 * time.Second, Jitter: 1}
		start := time.Now()
		resp, err := newTransport(t, s, p, resiliencehttp.WithClassifier(func(*http.Response) (fault.Kind, bool) { return fault.RateLimited, true })).RoundTrip(s.request(t, "GET", ""))
		require.NoError(t, err)
		read(t, resp)
		assert.LessOrEqual(t, time.Since(start), 20*time.Second)
		assert.EqualValues(t, 11, s.hits.Load())
	})
}

// A wait that the deadline would cut off is not begun: the caller has the answer
// while there is time to do something about it.
func TestTheDeadlineIsRespectedAndTheLastAnswerKept(t *testing.T) {
	onBoth(t, func(t *testing.T, protocol string) {
		s := serveInBubble(t, protocol, answers(503))
		p := resilience.Default
		p.Backoff = resilience.Backoff{Initial: 5 * time.Second}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		resp, err := newTransport(t, s, p).RoundTrip(s.request(t, "GET", "").WithContext(ctx))
		require.NoError(t, err)
		assert.Zero(t, time.Since(start))
		assert.Equal(t, 503, resp.StatusCode)
		assert.Equal(t, "answer 1", read(t, resp))
	})
}

func TestTheTotalLimitsACall(t *testing.T) {
	onBoth(t, func(t *testing.T, protocol string) {
		s := serveInBubble(t, protocol, hang)
		p := quick()
		p.Total, p.Retries = 5*time.Second, 10
		start := time.Now()
		_, err := newTransport(t, s, p).RoundTrip(s.request(t, "GET", ""))
		assert.ErrorIs(t, err, resilience.ErrTimeout)
		assert.Equal(t, 5*time.Second, time.Since(start))
	})
}

// drip gives the header at once, then a byte each second.
func drip(n int, status int) func(http.ResponseWriter, *http.Request, int) {
	return func(w http.ResponseWriter, r *http.Request, _ int) {
		w.WriteHeader(status)
		for range n {
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(time.Second):
			case <-r.Context().Done():
				return
			}
		}
	}
}

func TestABodyMayTakeLongerThanAnAttempt(t *testing.T) {
	for name, status := range map[string]int{"of an answer": 200, "of a failing answer": 503} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, protocol string) {
				s := serveInBubble(t, protocol, drip(40, status))
				p := quick()
				p.Concurrency, p.Retries = 1, 0
				tr := newTransport(t, s, p)
				resp, err := tr.RoundTrip(s.request(t, "GET", ""))
				require.NoError(t, err)
				assert.Equal(t, map[int]int{200: 1, 503: 0}[status], tr.Inspect()[0].InFlight, "a failure is over and counted")
				assert.Len(t, read(t, resp), 40)
				assert.Zero(t, tr.Inspect()[0].InFlight)
			})
		})
	}
}

func TestASilentBodyEndsAsAFault(t *testing.T) {
	for name, status := range map[string]int{"of an answer": 200, "of a failing answer": 503} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, protocol string) {
				s := serveInBubble(t, protocol, func(w http.ResponseWriter, r *http.Request, _ int) {
					w.WriteHeader(status)
					_, _ = w.Write([]byte("half"))
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
				})
				p := quick()
				p.Retries, p.Breaker.Window = 0, 2*p.Silence
				tr := newTransport(t, s, p)
				resp, err := tr.RoundTrip(s.request(t, "GET", ""))
				require.NoError(t, err)
				start := time.Now()
				b, err := io.ReadAll(resp.Body)
				assert.Equal(t, "half", string(b))
				assert.ErrorIs(t, err, resilience.ErrTimeout)
				assert.ErrorIs(t, err, fault.Uncertain)
				assert.Equal(t, p.Silence, time.Since(start))
				_, again := resp.Body.Read(make([]byte, 1))
				assert.Equal(t, err, again)
				require.NoError(t, resp.Body.Close())
				assert.Equal(t, 1, tr.Inspect()[0].Failures)
			})
		})
	}
}

// Trap 9 of retrying clients: each stage ends at once when the caller goes.
func TestACallerWhoGoesIsLetGoAtOnce(t *testing.T) {
	gone := errors.New("the user has closed the page")
	for name, c := range map[string]struct {
		handler func(http.ResponseWriter, *http.Request, int)
		policy  func(*resilience.Policy)
		failing int
	}{
		"while the host thinks":                       {hang, func(*resilience.Policy) {}, 0},
		"during a wait":                               {answers(503), func(p *resilience.Policy) { p.Backoff.Initial = time.Minute; p.Total = time.Hour }, 1},
		"while a failing response is read to its end": {drip(1000, 503), func(*resilience.Policy) {}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, protocol string) {
				s := serveInBubble(t, protocol, c.handler)
				p := quick()
				c.policy(&p)
				tr := newTransport(t, s, p)
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(50*time.Millisecond, func() { cancel(gone) })
				body := &tracked{Reader: strings.NewReader("payload")}
				req := s.request(t, "PUT", "").WithContext(ctx)
				req.Body, req.GetBody = body, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("payload")), nil }
				start := time.Now()
				_, err := tr.RoundTrip(req)
				assert.Equal(t, 50*time.Millisecond, time.Since(start))
				assert.ErrorIs(t, err, fault.Canceled)
				assert.ErrorIs(t, err, context.Canceled)
				assert.ErrorIs(t, err, gone)
				assert.Equal(t, c.failing, tr.Inspect()[0].Failures)
				assert.Positive(t, body.closed.Load())
			})
		})
	}
}

func TestACallerWhoHasGoneBeforeSendsNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, protocol string) {
		s := serveInBubble(t, protocol, answers(200))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for name, rewinds := range map[string]bool{"with a copy": true, "without": false} {
			body := &tracked{Reader: strings.NewReader("payload")}
			req := s.request(t, "PUT", "x").WithContext(ctx)
			if req.Body = body; !rewinds {
				req.GetBody = nil
			}
			_, err := newTransport(t, s, quick()).RoundTrip(req)
			assert.ErrorIs(t, err, context.Canceled)
			assert.EqualValues(t, 1, body.closed.Load(), name)
		}
		assert.Zero(t, s.conns.Load())
	})
}

func TestACancelWhileTheBodyIsReadIsNotTheHostsFault(t *testing.T) {
	onBoth(t, func(t *testing.T, protocol string) {
		s := serveInBubble(t, protocol, drip(1000, 200))
		tr := newTransport(t, s, quick())
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := tr.RoundTrip(s.request(t, "GET", "").WithContext(ctx))
		require.NoError(t, err)
		time.AfterFunc(1500*time.Millisecond, cancel)
		start := time.Now()
		_, err = io.ReadAll(resp.Body)
		assert.Equal(t, 1500*time.Millisecond, time.Since(start))
		assert.ErrorIs(t, err, context.Canceled)
		assert.ErrorIs(t, err, fault.Canceled)
		require.NoError(t, resp.Body.Close())
		assert.Zero(t, tr.Inspect()[0].Failures)
		assert.Zero(t, tr.Inspect()[0].InFlight)
	})
}

func TestAClientsTimeout(t *testing.T) {
	onBoth(t, func(t *testing.T, protocol string) {
		s := serveInBubble(t, protocol, hang)
		client := &http.Client{Transport: newTransport(t, s, quick()), Timeout: 4 * time.Second}
		start := time.Now()
		_, err := client.Do(s.request(t, "GET", ""))
		assert.Equal(t, 4*time.Second, time.Since(start))
		var n net.Error
		require.ErrorAs(t, err, &n)
		assert.True(t, n.Timeout())
		assert.EqualValues(t, 2, s.hits.Load())
	})
}

// Request.Cancel is older than contexts, and some still use it.
func TestTheOldCancelChannelEndsTheCall(t *testing.T) {
	onBoth(t, func(t *testing.T, protocol string) {
		s := serveInBubble(t, protocol, hang)
		tr := newTransport(t, s, quick())
		req := s.request(t, "GET", "")
		done := make(chan struct{})
		req.Cancel = done //nolint:staticcheck // deprecated
		time.AfterFunc(time.Second, func() { close(done) })
		start := time.Now()
		_, err := tr.RoundTrip(req)
		assert.ErrorIs(t, err, fault.Canceled)
		assert.Equal(t, time.Second, time.Since(start))
		assert.EqualValues(t, 1, s.hits.Load())
		assert.Zero(t, tr.Inspect()[0].Failures)
	})
}

func TestAnOpenBreakerRefusesWithoutTheNetwork(t *testing.T) {
	onBoth(t, func(t *testing.T, protocol string) {
		fails := true
		s := serveInBubble(t, protocol, func(w http.ResponseWriter, _ *http.Request, _ int) {
			if fails {
				w.WriteHeader(500)
			}
		})
		p := quick()
		p.Retries = 0
		tr := newTransport(t, s, p)
		for range 5 {
			resp, err := tr.RoundTrip(s.request(t, "GET", ""))
			require.NoError(t, err)
			read(t, resp)
		}
		for range 3 {
			body := &tracked{Reader: strings.NewReader("payload")}
			req := s.request(t, "POST", "")
			req.Body = body
			_, err := tr.RoundTrip(req)
			assert.ErrorIs(t, err, resilience.ErrOpen)
			assert.False(t, fault.MayHaveActed(err))
			assert.EqualValues(t, 1, body.closed.Load())
		}
		assert.EqualValues(t, 5, s.hits.Load())
		fails = false
		time.Sleep(35 * time.Second)
		resp, err := tr.RoundTrip(s.request(t, "GET", ""))
		require.NoError(t, err)
		read(t, resp)
		assert.Equal(t, resilience.Closed, tr.Inspect()[0].State)
	})
}

// What there is of an answer is the caller's.
func TestARefusedRetryGivesTheResponseThatThereWas(t *testing.T) {
	for name, change := range map[string]func(*resilience.Policy){
		"by the breaker, which the failure has opened": func(p *resilience.Policy) { p.Breaker.InARow = 1 },
		"by the rate limit":                            func(p *resilience.Policy) { p.Rate, p.Burst, p.MaxWait = 0.001, 1, 0 },
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, protocol string) {
				s := serveInBubble(t, protocol, answers(500))
				p := quick()
				change(&p)
				resp, err := newTransport(t, s, p).RoundTrip(s.request(t, "GET", ""))
				require.NoError(t, err)
				assert.Equal(t, 500, resp.StatusCode)
				assert.Equal(t, "answer 1", read(t, resp))
			})
		})
	}
}

// Reading a discarded response to its end is worth a moment, no more.
func TestASlowFailingResponseIsGivenUp(t *testing.T) {
	onBoth(t, func(t *testing.T, protocol string) {
		s := serveInBubble(t, protocol, drip(1000, 503))
		start := time.Now()
		resp, err := newTransport(t, s, quick()).RoundTrip(s.request(t, "GET", ""))
		require.NoError(t, err)
		assert.Less(t, time.Since(start), 250*time.Millisecond)
		assert.EqualValues(t, 3, s.hits.Load())
		require.NoError(t, resp.Body.Close())
	})
}

func TestAResponseThatIsJudgedTooLateIsATimeOut(t *testing.T) {
	for _, status := range []int{503, 429} {
		onBoth(t, func(t *testing.T, protocol string) { judgedTooLate(t, protocol, status) })
	}
}

func judgedTooLate(t *testing.T, protocol string, status int) {
	s := serveInBubble(t, protocol, answers(status))
	slow := resiliencehttp.WithClassifier(func(r *http.Response) (fault.Kind, bool) {
		<-r.Request.Context().Done()
		return resiliencehttp.Classify(r)
	})
	p := quick()
	p.Retries = 0
	_, err := newTransport(t, s, p, slow).RoundTrip(s.request(t, "GET", ""))
	assert.ErrorIs(t, err, resilience.ErrTimeout)
}

func TestADeadlineOfTheCallersIsATimeOut(t *testing.T) {
	impatient := errors.New("the page is due")
	onBoth(t, func(t *testing.T, protocol string) {
		s := serveInBubble(t, protocol, hang)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, impatient)
		defer cancel()
		_, err := (&http.Client{Transport: newTransport(t, s, quick())}).Do(s.request(t, "GET", "").WithContext(ctx))
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorIs(t, err, impatient)
		assert.ErrorIs(t, err, fault.Canceled)
		var u *url.Error
		require.ErrorAs(t, err, &u)
		assert.True(t, u.Timeout())
	})
}

func TestASlotIsHeldUntilTheBodyHasEnded(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *http.Response){
		"by reading it":                func(_ *testing.T, r *http.Response) { _, _ = io.ReadAll(r.Body) },
		"by closing it":                func(t *testing.T, r *http.Response) { require.NoError(t, r.Body.Close()) },
		"by closing it twice":          func(t *testing.T, r *http.Response) { _ = r.Body.Close(); require.NoError(t, r.Body.Close()) },
		"by reading it and closing it": func(t *testing.T, r *http.Response) { read(t, r) },
		"by going away and closing it": func(_ *testing.T, r *http.Response) { _, _ = io.CopyN(io.Discard, r.Body, 1); _ = r.Body.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, protocol string) {
				s := serveInBubble(t, protocol, answers(200))
				p := quick()
				p.Concurrency, p.MaxWait = 1, 0
				tr := newTransport(t, s, p)
				for range 3 {
					resp, err := tr.RoundTrip(s.request(t, "GET", ""))
					require.NoError(t, err)
					_, err = tr.RoundTrip(s.request(t, "GET", ""))
					assert.ErrorIs(t, err, resilience.ErrFull)
					end(t, resp)
				}
				assert.Zero(t, tr.Inspect()[0].InFlight)
			})
		})
	}
}

func TestAResponseWithoutABodyHoldsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		method string
		status int
	}{"head": {"HEAD", 200}, "no content": {"GET", 204}, "not modified": {"GET", 304}, "empty": {"POST", 200}, "failing head": {"HEAD", 503}} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, protocol string) {
				s := serveInBubble(t, protocol, func(w http.ResponseWriter, _ *http.Request, _ int) { w.WriteHeader(c.status) })
				tr := newTransport(t, s, quick())
				_, err := tr.RoundTrip(s.request(t, c.method, ""))
				require.NoError(t, err)
				assert.Zero(t, tr.Inspect()[0].InFlight)
			})
		})
	}
}

// No goroutine is started for a call that goes well; those of net/http are one
// for each connection.
func TestACallThatGoesWellStartsNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, err := resiliencehttp.New(resilience.Default, resiliencehttp.WithBase(roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("x")), Request: r}, nil
		})))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://service.test", nil)
		started := goroutinesStarted()
		for range 100 {
			resp, err := tr.RoundTrip(req)
			require.NoError(t, err)
			read(t, resp)
		}
		assert.Equal(t, started, goroutinesStarted())
	})
}
