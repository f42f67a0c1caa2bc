package resiliencehttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/resiliencehttp"
)

// What base transports may do with bodies and contexts (see http.RoundTripper),
// and must find: played by fakes.

func over(t *testing.T, base roundTripper, options ...resiliencehttp.Option) *resiliencehttp.Transport {
	t.Helper()
	tr, err := resiliencehttp.New(quick(), append(options, resiliencehttp.WithBase(base))...)
	require.NoError(t, err)
	return tr
}

func ok(r *http.Request) *http.Response {
	return &http.Response{StatusCode: 200, Request: r, Body: io.NopCloser(strings.NewReader("ok"))}
}

func post(t *testing.T, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "https://service.test", body)
	require.NoError(t, err)
	return req
}

// notReached is an error with the proof that no connection was had.
func notReached(r *http.Request) error {
	httptrace.ContextClientTrace(r.Context()).GetConn("service.test:443")
	return errors.New("no such host")
}

func TestALateReadOfAnAttemptThatIsOverGetsNothing(t *testing.T) {
	body := &tracked{Reader: strings.NewReader("payload")}
	var late io.ReadCloser
	resp, err := over(t, func(r *http.Request) (*http.Response, error) {
		if late == nil {
			late = r.Body
			return nil, notReached(r)
		}
		_, err := late.Read(make([]byte, 1))
		assert.ErrorIs(t, err, http.ErrBodyReadAfterClose)
		assert.NoError(t, late.Close())
		got, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		assert.Equal(t, "payload", string(got))
		assert.NoError(t, r.Body.Close())
		return ok(r), nil
	}).RoundTrip(post(t, body))
	require.NoError(t, err)
	read(t, resp)
	assert.EqualValues(t, 1, body.closed.Load())
}

func TestABodyThatIsClosedAfterTheResponseIsClosedOnce(t *testing.T) {
	body := &tracked{Reader: strings.NewReader("payload")}
	var sent io.ReadCloser
	resp, err := over(t, func(r *http.Request) (*http.Response, error) {
		sent = r.Body
		return ok(r), nil
	}).RoundTrip(post(t, body))
	require.NoError(t, err)
	assert.Zero(t, body.closed.Load(), "the base may be sending it still")
	require.NoError(t, sent.Close())
	require.NoError(t, sent.Close())
	assert.EqualValues(t, 1, body.closed.Load())
	read(t, resp)
}

func TestABodyThatIsClosedUnreadIsClosedAllTheSame(t *testing.T) {
	body := &tracked{Reader: strings.NewReader("payload")}
	resp, err := over(t, func(r *http.Request) (*http.Response, error) { return ok(r), r.Body.Close() }).RoundTrip(post(t, body))
	require.NoError(t, err)
	assert.EqualValues(t, 1, body.closed.Load())
	read(t, resp)
}

func TestAPanicInTheClassifierClosesTheResponse(t *testing.T) {
	body := &tracked{Reader: strings.NewReader("payload")}
	tr := over(t, func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Request: r, Body: body}, nil
	}, resiliencehttp.WithClassifier(func(*http.Response) (fault.Kind, bool) { panic("spoilt") }))
	assert.PanicsWithValue(t, "spoilt", func() { _, _ = tr.RoundTrip(post(t, nil)) })
	assert.Positive(t, body.closed.Load())
}

func TestABodyThatWasReadIsNeverSentAgain(t *testing.T) {
	reads := func(r *http.Request) (*http.Response, error) { //nolint:unparam // the shape of a round trip
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
		return ok(r), nil
	}
	t.Run("though no connection was had", func(t *testing.T) { // as by a base that signs the body first
		attempts := 0
		_, err := over(t, func(r *http.Request) (*http.Response, error) {
			attempts++
			_, _ = reads(r)
			return nil, notReached(r)
		}).RoundTrip(post(t, io.NopCloser(strings.NewReader("payload"))))
		assert.ErrorIs(t, err, fault.Uncertain)
		assert.Equal(t, 1, attempts)
	})
	t.Run("though a chaos test says that nothing was done", func(t *testing.T) {
		attempts := 0
		_, err := over(t, func(r *http.Request) (*http.Response, error) {
			attempts++
			return reads(r)
		}, resiliencehttp.WithObserver(spoiler{})).RoundTrip(post(t, io.NopCloser(strings.NewReader("payload"))))
		assert.ErrorContains(t, err, "can't be had again")
		assert.Equal(t, 1, attempts)
	})
	t.Run("though a backup could take it", func(t *testing.T) {
		f := &fleet{status: map[string]int{"main.test": 401}}
		tr := f.transport(t, quick(), resiliencehttp.WithBackup(main, spare), resiliencehttp.WithClassifier(func(r *http.Response) (fault.Kind, bool) {
			return fault.FromStatus(r.StatusCode), r.StatusCode == 401
		}))
		for _, rewinds := range []bool{false, true} {
			f.asked = nil
			req, _ := http.NewRequestWithContext(t.Context(), "POST", main, strings.NewReader("payload"))
			if !rewinds {
				req.GetBody = nil
			}
			resp, err := tr.RoundTrip(req)
			require.NoError(t, err)
			read(t, resp)
			assert.Len(t, f.asked, map[bool]int{false: 1, true: 2}[rewinds])
		}
	})
}

type spoiler struct{}

func (spoiler) Observe(context.Context, resilience.Event) {}

func (spoiler) Inject(context.Context, resilience.Event) (instead, after error) {
	return nil, fault.New(fault.Unavailable, errors.New("injected"))
}

// The base has its response and closes the request's body in the midst of a Read.
func TestAReadThatACloseHasEndedIsNoFailure(t *testing.T) {
	ours, theirs := io.Pipe()
	defer theirs.Close()
	resp, err := over(t, func(r *http.Request) (*http.Response, error) {
		reading, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			close(reading)
			_, err := r.Body.Read(make([]byte, 1))
			assert.Error(t, err)
		}()
		<-reading
		for range 1000 { // the Read is on its way
			_ = r.Body.Close()
		}
		<-ended
		assert.NoError(t, r.Context().Err())
		return ok(r), nil
	}).RoundTrip(post(t, ours))
	require.NoError(t, err)
	assert.Equal(t, "ok", read(t, resp))
}

func TestABodyThatFailsAfterTheResponseDoesNotEndIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent *http.Request
		resp, err := over(t, func(r *http.Request) (*http.Response, error) {
			sent = r
			return ok(r), nil
		}).RoundTrip(post(t, errorReader{errors.New("the disk is gone")}))
		require.NoError(t, err)
		_, err = sent.Body.Read(make([]byte, 1))
		require.ErrorContains(t, err, "the disk is gone")
		synctest.Wait()
		require.NoError(t, sent.Context().Err())
		assert.Equal(t, "ok", read(t, resp))
		assert.Error(t, sent.Context().Err(), "it ends with the response's body")
	})
}

func TestADiscardedResponseIsClosedAndItsContextEnded(t *testing.T) {
	for name, length := range map[string]int{"short": 10, "too long to be read": 10 << 20} {
		t.Run(name, func(t *testing.T) {
			var bodies []*tracked
			var contexts []context.Context
			resp, err := over(t, func(r *http.Request) (*http.Response, error) {
				b := &tracked{Reader: strings.NewReader(strings.Repeat("x", length))}
				bodies, contexts = append(bodies, b), append(contexts, r.Context())
				return &http.Response{StatusCode: 503, Body: b, Request: r}, nil
			}).RoundTrip(post(t, nil).WithContext(resiliencehttp.ContextWithSafety(t.Context(), fault.Read)))
			require.NoError(t, err)
			require.Len(t, bodies, 3)
			for i := range 2 {
				assert.Positive(t, bodies[i].closed.Load())
				assert.Error(t, contexts[i].Err())
			}
			assert.NoError(t, contexts[2].Err())
			assert.Len(t, read(t, resp), length)
			assert.Positive(t, bodies[2].closed.Load())
			assert.Error(t, contexts[2].Err())
		})
	}
}

func TestTheBaseIsToldWhyItIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var causes []error
		_, err := over(t, func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			causes = append(causes, context.Cause(r.Context()))
			return nil, r.Context().Err()
		}).RoundTrip(post(t, nil))
		require.ErrorIs(t, err, resilience.ErrTimeout)
		assert.Equal(t, []error{resilience.ErrTimeout}, causes)
	})
}

// A caller who goes before net/http has asked for a connection is not an invalid
// request.
func TestACallerWhoGoesAtTheStartIsCanceled(t *testing.T) {
	s := serve(t, "HTTP/1.1", answers(200))
	ctx, cancel := context.WithCancel(t.Context())
	tr := newTransport(t, s, quick(), resiliencehttp.WithObserver(canceling(cancel)))
	_, err := tr.RoundTrip(s.request(t, "POST", "payload").WithContext(ctx))
	assert.ErrorIs(t, err, fault.Canceled)
	assert.False(t, fault.MayHaveActed(err))
	assert.Zero(t, s.conns.Load())
}

func TestACallerWhoGoesBeforeThereIsAConnectionHasMadeNoInvalidRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, "HTTP/1.1", answers(200))
	s.base.Proxy = func(r *http.Request) (*url.URL, error) { // is asked before a connection is
		cancel()
		<-r.Context().Done()
		return nil, errors.New("no proxy")
	}
	_, err := newTransport(t, s, quick()).RoundTrip(s.request(t, "GET", "").WithContext(ctx))
	assert.ErrorIs(t, err, fault.Canceled)
}

func TestATimeOutOfTheBaseIsOne(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"a time-out":  {os.ErrDeadlineExceeded, true},
		"another one": {io.ErrUnexpectedEOF, false},
	} {
		t.Run(name, func(t *testing.T) {
			client := &http.Client{Transport: over(t, func(*http.Request) (*http.Response, error) { return nil, c.err })}
			_, err := client.Do(post(t, nil))
			assert.Equal(t, c.want, os.IsTimeout(err))
		})
	}
}

type canceling context.CancelFunc

func (canceling) Observe(context.Context, resilience.Event) {}

func (c canceling) Start(ctx context.Context, _ resilience.Event) context.Context {
	c()
	<-ctx.Done()
	return ctx
}

// watched is a caller's context that counts who wants to be told of its end.
type watched struct {
	context.Context //nolint:containedctx // it is one
	watchers        atomic.Int64
}

func (*watched) Done() <-chan struct{} { return make(chan struct{}) }

func (*watched) Value(any) any { return nil }

func (w *watched) AfterFunc(func()) (stop func() bool) {
	w.watchers.Add(1)
	var stopped atomic.Bool
	return func() bool {
		if stopped.Swap(true) {
			return false
		}
		w.watchers.Add(-1)
		return true
	}
}

func TestNothingStaysRegisteredWithTheCallersContext(t *testing.T) {
	status := func(code int) roundTripper {
		return func(r *http.Request) (*http.Response, error) {
			resp := ok(r)
			resp.StatusCode = code
			return resp, nil
		}
	}
	for name, c := range map[string]struct {
		method string
		base   roundTripper
	}{
		"after an answer":            {"POST", status(200)},
		"after a failing answer":     {"POST", status(503)},
		"after a switched protocol":  {"GET", status(101)},
		"after an answer to a HEAD":  {"HEAD", status(200)},
		"after an error":             {"POST", func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }},
		"after a panic":              {"POST", func(*http.Request) (*http.Response, error) { panic("spoilt") }},
		"after nothing":              {"POST", func(*http.Request) (*http.Response, error) { return nil, nil }}, //nolint:nilnil // what a broken base does
		"after no connection at all": {"POST", func(r *http.Request) (*http.Response, error) { return nil, notReached(r) }},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := &watched{Context: t.Context()}
			req, _ := http.NewRequestWithContext(ctx, c.method, "https://service.test", io.NopCloser(strings.NewReader("payload")))
			func() {
				defer func() { _ = recover() }()
				resp, err := over(t, c.base).RoundTrip(req)
				if err == nil {
					_ = resp.Body.Close()
				}
			}()
			assert.Zero(t, ctx.watchers.Load())
		})
	}
}
