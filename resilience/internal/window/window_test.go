package window_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/smilefactory/integrations/resilience/internal/window"
)

// An outcome that was dated ten tenths ago, since its goroutine was held up, is
// too old to count and must not wipe out what counts now.
func TestALateOutcomeDoesNotWipeTheTenthThatRuns(t *testing.T) {
	var w window.Window
	for range 100 {
		w.Add(15, window.Failure)
	}
	w.Add(5, window.Success)
	successes, failures := w.Sum(15)
	assert.Equal(t, 0, successes)
	assert.Equal(t, 100, failures)
}
