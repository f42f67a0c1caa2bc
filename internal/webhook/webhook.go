// Package webhook is what the endpoints for providers' events share: a bounded
// body, and answers by which a provider delivers again what could not be taken,
// and nothing else.
package webhook

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// MaxBody bounds an event; those of providers have some kilobytes.
const MaxBody = 1 << 20

// RetryAfter is what a provider is told to wait that must come again. Most ignore
// it, and wait longer.
const RetryAfter = 10 * time.Second

// Handler hands the raw body of each POST to take, with the path's value
// "provider". The answer is
//
//	200  take returned nil: the event is done with
//	400  fault.Invalid: it can't be read; 401 fault.Denied: it isn't genuine
//	404  fault.NotFound: there is no such provider
//	405  it isn't a POST; 413 it is too long
//	503  anything else: it must come again
//
// and says nothing of the error, which may be told to others by take.
func Handler(take func(ctx context.Context, provider string, h http.Header, body []byte) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
		if err != nil {
			status := http.StatusBadRequest
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				status = http.StatusRequestEntityTooLarge
			}
			w.WriteHeader(status)
			return
		}
		status := statusOf(take(r.Context(), r.PathValue("provider"), r.Header, body))
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", strconv.Itoa(int(RetryAfter/time.Second)))
		}
		w.WriteHeader(status)
	})
}

func statusOf(err error) int {
	if err == nil {
		return http.StatusOK
	}
	switch fault.KindOf(err) {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.Denied:
		return http.StatusUnauthorized
	case fault.NotFound:
		return http.StatusNotFound
	default:
		return http.StatusServiceUnavailable
	}
}
