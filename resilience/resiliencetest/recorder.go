package resiliencetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// Recorder is an observer that keeps what it sees. The zero value is ready.
type Recorder struct {
	mu     sync.Mutex
	events []resilience.Event
}

// Observe keeps the event.
func (r *Recorder) Observe(_ context.Context, e resilience.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// Events are those seen so far, oldest first.
func (r *Recorder) Events() []resilience.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// Clear forgets what was seen.
func (r *Recorder) Clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = nil
}

// Count is how many events of a type a provider had; an empty provider means
// all of them.
func (r *Recorder) Count(t resilience.EventType, provider string) int {
	n := 0
	for _, e := range r.Events() {
		if e.Type == t && (provider == "" || e.Provider == provider) {
			n++
		}
	}
	return n
}

// Lines are the events as one line each, see [Line].
func (r *Recorder) Lines() []string {
	var lines []string
	for _, e := range r.Events() {
		lines = append(lines, Line(e))
	}
	return lines
}

// RequireLines fails the test unless exactly those events were seen, in that
// order.
func (r *Recorder) RequireLines(t testing.TB, want ...string) {
	t.Helper()
	if got := r.Lines(); !slices.Equal(got, want) {
		t.Fatalf("resiliencetest: seen:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// Line is an event without its times, such as
//
//	attempt ended sendgrid 1: rate limited
//	paused sendgrid 1: rate limited
//	state changed sendgrid: closed → open
//	call ended ses 2
func Line(e resilience.Event) string {
	parts := []string{e.Type.String()}
	if e.Provider != "" {
		parts = append(parts, e.Provider)
	}
	if e.Key != "" {
		parts = append(parts, "of "+e.Key)
	}
	if e.Type == resilience.StateChanged {
		return fmt.Sprintf("%s: %s → %s", strings.Join(parts, " "), e.From, e.To)
	}
	parts = append(parts, fmt.Sprint(e.Attempt))
	if e.Err == nil {
		return strings.Join(parts, " ")
	}
	return strings.Join(parts, " ") + ": " + fault.KindOf(e.Err).String()
}
