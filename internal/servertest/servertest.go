// Package servertest lets tests use the real servers that scripts/servers starts.
package servertest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"sync"
	"testing"
)

// Env is the value of a variable that scripts/servers prints. Where it isn't set
// the test is skipped, and says how to set it.
func Env(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Skipf("%s isn't set: run `make servers`, then `eval \"$(scripts/servers env)\"`", name)
	}
	return value
}

// JSON makes a request of a server's own API, which must succeed, with body as
// JSON where it isn't nil. The answer is read into out, or whole where out is a
// *[]byte, or not at all where it is nil.
func JSON(t testing.TB, method, url string, body, out any) {
	t.Helper()
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		sent = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, sent)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode > 299 {
		t.Fatalf("%s %s: status %d: %s", method, url, res.StatusCode, got)
	}
	switch out := out.(type) {
	case nil:
	case *[]byte:
		*out = got
	default:
		if err == nil {
			err = json.Unmarshal(got, out)
		}
	}
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
}

// AtOnce calls f with 0, 1, … 16*each-1 from 16 goroutines, each call once.
func AtOnce(each int, f func(n int)) {
	const goroutines = 16
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := range each {
				f(g*each + i)
			}
		})
	}
	all.Wait()
}
