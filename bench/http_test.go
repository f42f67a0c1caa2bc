package bench

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/hashicorp/go-retryablehttp"

	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/resiliencehttp"
)

// transport is the same for all: a connection for each caller, kept.
func transport(b *testing.B) *http.Transport {
	t := &http.Transport{MaxIdleConns: 100, MaxIdleConnsPerHost: 32}
	b.Cleanup(t.CloseIdleConnections)
	return t
}

// get reads a response to its end.
func get(do func(*http.Request) (*http.Response, error), url string) call {
	return func(ctx context.Context, _ *query) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		return whole(do(req))
	}
}

func whole(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
}

// A GET of 1 KiB from a server on the loopback, which is in the same process: its
// work is in the times of all.
func BenchmarkHTTP(b *testing.B) {
	body := make([]byte, 1<<10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	defer server.Close()
	compare(
		b, "http",
		contender{"ours", func(b *testing.B) call { // retry, rate limit, breaker, time limits to header and between reads
			p := resilience.Default
			p.Rate, p.Burst = perSec, plenty
			t, err := resiliencehttp.New(p, resiliencehttp.WithBase(transport(b)))
			if err != nil {
				b.Fatal(err)
			}
			return get((&http.Client{Transport: t}).Do, server.URL)
		}},
		contender{"failsafe", func(b *testing.B) call { // retry, rate limit, breaker, time limit of the whole exchange
			t := failsafehttp.NewRoundTripper(transport(b), []failsafe.Policy[*http.Response]{
				failsafehttp.NewRetryPolicyBuilder().WithMaxRetries(retries).WithBackoff(firstWait, longestWait).Build(),
				ratelimiter.NewBursty[*http.Response](plenty, time.Second),
				circuitbreaker.NewBuilder[*http.Response]().WithFailureRateThreshold(failureRatio, uint(minCalls), window).WithDelay(openFor).Build(),
				timeout.New[*http.Response](attemptLimit),
			}...)
			return get((&http.Client{Transport: t}).Do, server.URL)
		}},
		contender{"retryablehttp", func(b *testing.B) call { // retries alone, its log switched off
			c := retryablehttp.NewClient()
			c.Logger, c.HTTPClient = nil, &http.Client{Transport: transport(b)}
			c.RetryMax, c.RetryWaitMin, c.RetryWaitMax = retries, firstWait, longestWait
			return func(ctx context.Context, _ *query) error {
				req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
				if err != nil {
					return err
				}
				return whole(c.Do(req))
			}
		}},
		contender{"nethttp", func(b *testing.B) call { // nothing at all
			return get((&http.Client{Transport: transport(b)}).Do, server.URL)
		}},
	)
}
