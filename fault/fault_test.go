package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
)

func TestDecideReadsTheTable(t *testing.T) {
	type v = fault.Verdict
	for kind, want := range map[fault.Kind][2]v{ // once; at least once
		fault.Unknown:     {{}, {Retry: true, Failover: true, Queue: true}},
		fault.Invalid:     {{}, {}},
		fault.NotFound:    {{}, {}},
		fault.Conflict:    {{}, {}},
		fault.Rejected:    {{}, {}},
		fault.Unsupported: {{Failover: true}, {Failover: true}},
		fault.Denied:      {{Failover: true, Count: true, Queue: true}, {Failover: true, Count: true, Queue: true}},
		fault.Exhausted:   {{Failover: true, Count: true, Queue: true}, {Failover: true, Count: true, Queue: true}},
		fault.RateLimited: {{Retry: true, Failover: true, Queue: true}, {Retry: true, Failover: true, Queue: true}},
		fault.Unavailable: {{true, true, true, true}, {true, true, true, true}},
		fault.Uncertain:   {{Count: true}, {true, true, true, true}},
		fault.Canceled:    {{}, {}},
	} {
		assert.Equal(t, want[0], fault.Decide(fault.New(kind, nil), fault.Once), "%v once", kind)
		assert.Equal(t, want[1], fault.Decide(fault.New(kind, nil), fault.AtLeastOnce), "%v at least once", kind)
		assert.Equal(t, want[1], fault.Decide(kind, fault.AtLeastOnce), "a bare %v", kind)
	}
}

func TestAKeyThatTheProviderDeduplicatesByMakesARepetitionHereSafe(t *testing.T) {
	v := fault.Decide(&fault.Error{Kind: fault.Uncertain, Deduped: true}, fault.Once)
	assert.Equal(t, fault.Verdict{Retry: true, Count: true}, v)
}

func TestOurOwnRefusalIsNeitherRetriedNorCounted(t *testing.T) {
	v := fault.Decide(&fault.Error{Kind: fault.Unavailable, Local: true}, fault.Once)
	assert.Equal(t, fault.Verdict{Failover: true, Queue: true}, v)
}

func TestAnErrorMatchesItsOwnKindAndReachesTheCauses(t *testing.T) {
	err := fmt.Errorf("wrapped: %w", &fault.Error{Kind: fault.Unavailable, Tried: []*fault.Error{
		{Kind: fault.RateLimited, Err: io.EOF}, {Kind: fault.Unavailable, Err: io.ErrUnexpectedEOF},
	}})
	assert.ErrorIs(t, err, fault.Unavailable)
	assert.NotErrorIs(t, err, fault.RateLimited)
	assert.ErrorIs(t, err, io.EOF)
	assert.ErrorIs(t, fault.New(fault.Unsupported, nil), errors.ErrUnsupported)
}

func TestStatuses(t *testing.T) {
	for status, want := range map[int]fault.Kind{
		400: fault.Invalid, 401: fault.Denied, 402: fault.Exhausted, 403: fault.Denied, 404: fault.NotFound, 408: fault.Uncertain, 409: fault.Conflict,
		410: fault.NotFound, 421: fault.Unavailable, 422: fault.Invalid, 425: fault.Unavailable, 429: fault.RateLimited, 451: fault.Rejected,
		500: fault.Uncertain, 501: fault.Unsupported, 502: fault.Uncertain, 503: fault.Uncertain, 504: fault.Uncertain, 302: fault.Unknown, 0: fault.Unknown,
	} {
		assert.Equal(t, want, fault.FromStatus(status), status)
	}
}

// No call that the server acted on may be called Unavailable, whenever it was
// cut off. Over HTTP/2 WroteHeaders would fail this.
func TestNoCallThatActedIsCalledUnavailable(t *testing.T) {
	n := 50_000 // of each protocol
	if testing.Short() {
		n = 2_000
	}
	for _, http2 := range []bool{false, true} {
		t.Run("http2 "+strconv.FormatBool(http2), func(t *testing.T) {
			acted := make([]atomic.Bool, n)
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				i, err := strconv.Atoi(r.URL.Query().Get("i"))
				if err == nil {
					acted[i].Store(true)
				}
			}))
			srv.EnableHTTP2 = http2
			srv.StartTLS()
			defer srv.Close()
			client := srv.Client()
			var failed, unavailable, wrong atomic.Int64
			var wg sync.WaitGroup
			kinds := make([]fault.Kind, n)
			for g := range 8 {
				wg.Go(func() {
					for i := g; i < n; i += 8 {
						if i%500 == g { // now and then a connection has to be made anew
							client.CloseIdleConnections()
						}
						limit := time.Duration((i*7919)%400) * time.Microsecond
						err := get(t.Context(), client, srv.URL+"/?i="+strconv.Itoa(i), limit, &kinds[i])
						if err != nil {
							failed.Add(1)
						}
					}
				})
			}
			wg.Wait()
			srv.Close() // waits for what is still being handled
			for i, k := range kinds {
				if k == fault.Unavailable {
					unavailable.Add(1)
					if acted[i].Load() {
						wrong.Add(1)
					}
				}
			}
			t.Logf("%d calls, %d failed, %d of them called unavailable, %d of those wrongly", n, failed.Load(), unavailable.Load(), wrong.Load())
			require.Positive(t, failed.Load())
			assert.Zero(t, wrong.Load())
		})
	}
}

func get(ctx context.Context, client *http.Client, url string, limit time.Duration, kind *fault.Kind) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ctx, latch := fault.Trace(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		*kind = latch.Kind()
		return err
	}
	return res.Body.Close()
}

func TestARefusedConnectionIsUnavailable(t *testing.T) {
	var kind fault.Kind
	require.Error(t, get(t.Context(), &http.Client{Transport: &http.Transport{}}, "http://127.0.0.1:1/", time.Second, &kind))
	assert.Equal(t, fault.Unavailable, kind)
}
