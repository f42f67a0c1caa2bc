package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/resilience"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick is pace with still shorter waits.
func quick() resilience.Policy {
	p := pace()
	p.Timeout = 250 * time.Millisecond // long enough for a busy machine
	p.Backoff = resilience.Backoff{Initial: time.Millisecond}
	p.Breaker.OpenFor = 200 * time.Millisecond
	return p
}

func TestTheShowDeliversEveryMailOnceAndSaysSo(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, show(t.Context(), &out, quick()))
	said := out.String()
	assert.True(t, strings.HasSuffix(said, "\n24 sent = 24 delivered, 0 lost, 0 twice\n"), said)
	for _, want := range []string{
		"sendgrid ✓ ", "sendgrid ✗✗✗  ses ✓", "sendgrid –  ses ✓", "may have gone",
		"breaker of sendgrid: closed → open", "breaker of sendgrid: open → half-open", "breaker of sendgrid: half-open → closed",
		"What you saw:",
	} {
		assert.Contains(t, said, want)
	}
	for line := range strings.Lines(said) {
		assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 80, line)
	}
}

func TestTheShowEndsWhenItsSpectatorLeaves(t *testing.T) {
	var out bytes.Buffer
	require.Error(t, show(canceled(t), &out, quick()))
}

// A tally that doesn't add up is an error, so that CI sees it.
func TestATallyThatDoesNotAddUpIsAnError(t *testing.T) {
	var out bytes.Buffer
	s := staged(t, &out)
	s.ids = []string{"never-sent"}
	require.ErrorContains(t, s.tally(), "lost")
	assert.Contains(t, out.String(), "1 sent = 0 delivered, 1 lost, 0 twice")

	s = staged(t, &out)
	s.counts = 1
	require.ErrorContains(t, s.tally(), "1 attempts were reported, and 0 were made")
}
