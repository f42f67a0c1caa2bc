package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/resilience"
)

// quick is pace with still shorter waits.
func quick() resilience.Policy {
	p := pace()
	p.Timeout = 250 * time.Millisecond // long enough for a busy machine
	p.Backoff = resilience.Backoff{Initial: time.Millisecond}
	p.Breaker.OpenFor = 200 * time.Millisecond
	return p
}

func TestEveryMailArrivesOnceThoughSendGridFails(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, failover(t.Context(), &out, quick()))
	said := out.String()
	assert.True(t, strings.HasSuffix(said, "\n24 sent = 24 delivered, 0 lost, 0 twice\n"), said)
	for _, want := range []string{
		"sendgrid ✓ ", "sendgrid ✗✗✗  ses ✓", "sendgrid –  ses ✓", "may have gone",
		"breaker of sendgrid: closed → open", "breaker of sendgrid: open → half-open", "breaker of sendgrid: half-open → closed",
		"What you saw:",
	} {
		assert.Contains(t, said, want)
	}
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
