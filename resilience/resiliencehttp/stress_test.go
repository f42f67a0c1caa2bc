package resiliencehttp_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/resiliencehttp"
)

// Whatever host and callers do, nothing stays taken and every body is closed.
// TestMain finds the goroutines that would be left.
func TestMixedCallsLoseNothing(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := serve(t, protocol, func(w http.ResponseWriter, r *http.Request, n int) {
				_, _ = io.Copy(io.Discard, r.Body)
				switch n % 7 {
				case 0:
					panic(http.ErrAbortHandler)
				case 1:
					w.WriteHeader(503)
				case 2:
					w.Header().Set("Retry-After", "1")
					w.WriteHeader(429)
				case 3:
					<-r.Context().Done()
				case 4:
					_, _ = w.Write(make([]byte, 200<<10))
					panic(http.ErrAbortHandler)
				}
				_, _ = w.Write(make([]byte, rand.IntN(100<<10)))
			})
			p := quick()
			p.Timeout, p.Concurrency, p.MaxWait = 20*time.Millisecond, 8, 5*time.Millisecond
			p.Breaker = resilience.Breaker{InARow: 50, OpenFor: time.Millisecond}
			tr := newTransport(t, s, p)
			var wg sync.WaitGroup
			for worker := range 16 {
				wg.Go(func() {
					for i := range 60 {
						mixedCall(t, s, tr, worker*1000+i)
					}
				})
			}
			wg.Wait()
			assert.Zero(t, tr.Inspect()[0].InFlight)
		})
	}
}

func mixedCall(t *testing.T, s *service, tr *resiliencehttp.Transport, i int) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if i%5 == 0 {
		stop := time.AfterFunc(time.Duration(rand.IntN(10))*time.Millisecond, cancel)
		defer stop.Stop()
	}
	method := []string{"GET", "POST", "PUT", "HEAD"}[i%4]
	req, _ := http.NewRequestWithContext(ctx, method, s.url, nil)
	body := &tracked{Reader: strings.NewReader("payload")}
	if method == "POST" || method == "PUT" {
		req.Body = body
		if i%3 == 0 {
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("payload")), nil }
		}
	}
	resp, err := tr.RoundTrip(req)
	if err == nil {
		if i%2 == 0 {
			_, _ = io.Copy(io.Discard, resp.Body)
		} else {
			_, _ = io.CopyN(io.Discard, resp.Body, 10)
		}
		_ = resp.Body.Close()
	}
	if req.Body != nil { // a base may close it a little later
		assert.Eventually(t, func() bool { return body.closed.Load() > 0 }, time.Second, time.Millisecond)
	}
}
