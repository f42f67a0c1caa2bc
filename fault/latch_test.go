package fault_test

import (
	"context"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// result is what became of one call.
type result struct {
	failed bool
	kind   fault.Kind
	wrote  bool // httptrace.WroteHeaders fired before the client gave up
	acted  atomic.Bool
}

// No call that the server acted on may be called Unavailable, whenever it was cut
// off. LATCH_CALLS sets how many calls each protocol is tried with.
func TestNoCallThatActedIsCalledUnavailable(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("LATCH_CALLS"))
	if err != nil {
		n = 5_000
	}
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			results := make([]result, n)
			srv := counting(http2, results)
			defer srv.Close()
			usual := latency(t, srv)
			var wg sync.WaitGroup
			for g := range 8 {
				wg.Go(func() {
					for i := g; i < n; i += 8 {
						if i%50 == g { // now and then a connection has to be made anew
							srv.Client().CloseIdleConnections()
						}
						results[i].call(t.Context(), srv, i, time.Duration(rand.Int64N(int64(2*usual))))
					}
				})
			}
			wg.Wait()
			srv.Close() // waits for what is still being handled
			var failed, ambiguous, unavailable, wrong, byHeaders int
			for i := range results {
				r := &results[i]
				failed += count(r.failed)
				ambiguous += count(r.failed && r.acted.Load())
				unavailable += count(r.kind == fault.Unavailable)
				wrong += count(r.kind == fault.Unavailable && r.acted.Load())
				byHeaders += count(r.failed && !r.wrote && r.acted.Load())
			}
			t.Logf("%d calls of up to %v, %d failed, the server had acted on %d of those; %d called unavailable, %d of them wrongly (by WroteHeaders: %d)",
				n, 2*usual, failed, ambiguous, unavailable, wrong, byHeaders)
			require.Positive(t, ambiguous, "or the test shows nothing")
			assert.Zero(t, wrong)
		})
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// counting is a server that notes whom it has acted for, and takes its time.
func counting(http2 bool, results []result) *httptest.Server {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if i, err := strconv.Atoi(r.URL.Query().Get("i")); err == nil {
			results[i].acted.Store(true)
		}
		time.Sleep(rand.N(500 * time.Microsecond)) // a server's work, not a wait of the test's
	}))
	srv.EnableHTTP2 = http2
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that broke off
	srv.StartTLS()
	return srv
}

// latency is what a call with a new connection takes here.
func latency(t *testing.T, srv *httptest.Server) time.Duration {
	t.Helper()
	const calls = 20
	start := time.Now()
	for range calls {
		srv.Client().CloseIdleConnections()
		require.NoError(t, get(t.Context(), srv.Client(), srv.URL))
	}
	return time.Since(start) / calls
}

func (r *result) call(ctx context.Context, srv *httptest.Server, i int, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var wrote atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }})
	ctx, latch := fault.Trace(ctx)
	if err := get(ctx, srv.Client(), srv.URL+"/?i="+strconv.Itoa(i)); err != nil {
		r.failed, r.kind, r.wrote = true, latch.Kind(), wrote.Load()
	}
}

func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

func TestARefusedConnectionIsUnavailableAndAResetIsUncertain(t *testing.T) {
	reset := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer reset.Close()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	for name, c := range map[string]struct {
		url  string
		want fault.Kind
	}{
		"refused":            {"http://127.0.0.1:1/", fault.Unavailable},
		"no such host":       {"http://nowhere.invalid/", fault.Unavailable},
		"untrusted":          {untrusted.URL, fault.Unavailable},
		"reset":              {reset.URL, fault.Uncertain},
		"no protocol for it": {"gopher://127.0.0.1/", fault.Uncertain},
	} {
		ctx, latch := fault.Trace(t.Context())
		assert.Equal(t, fault.Uncertain, latch.Kind(), "nothing is known yet")
		assert.True(t, latch.Untouched())
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		require.Error(t, get(ctx, client, c.url), name)
		assert.Equal(t, c.want, latch.Kind(), name)
	}
}
