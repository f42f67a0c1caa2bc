package resiliencehttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/resiliencehttp"
)

// weather is a service that fails at first.
func weather(failures int64) *httptest.Server {
	var n atomic.Int64
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) <= failures {
			http.Error(w, "out of order", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "sunny")
	}))
}

func newClient(options ...resiliencehttp.Option) *http.Client {
	policy := resilience.Default
	policy.Backoff.Initial = time.Millisecond
	t, err := resiliencehttp.New(policy, options...)
	if err != nil {
		panic(err)
	}
	return &http.Client{Transport: t}
}

// A client that is used as any other.
func Example() {
	service := weather(2)
	defer service.Close()
	client := newClient()
	defer client.CloseIdleConnections()

	resp, err := client.Get(service.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	_, attempts := resiliencehttp.Answered(resp)
	fmt.Println(resp.StatusCode, string(body), attempts)
	// Output: 200 sunny 3
}

// A POST is not repeated where it may have acted: its answer is the caller's. One
// that only asks may say so.
func ExampleContextWithSafety() {
	service := weather(2)
	defer service.Close()
	client := newClient()
	defer client.CloseIdleConnections()

	for _, ctx := range []context.Context{
		context.Background(),
		resiliencehttp.ContextWithSafety(context.Background(), fault.Read),
	} {
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, service.URL, strings.NewReader(`{"city":"Wien"}`))
		resp, err := client.Do(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		_, attempts := resiliencehttp.Answered(resp)
		fmt.Println(resp.StatusCode, attempts)
		_ = resp.Body.Close()
	}
	// Output:
	// 503 1
	// 200 2
}

// Two data centres of the same service. The backup is named, so it gets what the
// first would have got, credentials too.
func ExampleWithBackup() {
	first, second := weather(1000), weather(0)
	defer first.Close()
	defer second.Close()
	client := newClient(resiliencehttp.WithBackup(first.URL, second.URL))
	defer client.CloseIdleConnections()

	resp, err := client.Get(first.URL + "/forecast?city=Wien")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode, "http://"+resp.Request.URL.Host == second.URL, resp.Request.URL.RequestURI())
	// Output: 200 true /forecast?city=Wien
}

// Where there is no response at all, the error says what each attempt came to,
// and whether anything may have been done.
func Example_error() {
	service := weather(0)
	service.Close() // nobody listens any more
	_, err := newClient().Post(service.URL, "text/plain", strings.NewReader("x"))

	f, _ := fault.As(err)
	fmt.Println(f.Kind, f.Attempts, fault.MayHaveActed(err), errors.Is(err, resilience.ErrOpen))
	// Output: unavailable 3 false false
}
