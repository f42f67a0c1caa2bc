// Package crash kills processes that deliver queued mail, at named points, and
// counts at the provider's ledger what that did to the mails.
//
//	scripts/crash 13
//
// The child is this test's own program (child_test.go): it opens the queue, sends
// through the real Client and adapter, and kills itself from within, with SIGKILL,
// at the moment that its environment names. It tells its parent which mails it has
// begun and ended, so that the parent knows what was in flight.
//
// CRASH_KILLS is how many kills there are at each point under each policy; 1.
package crash_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The points of a delivery at which the child dies.
const (
	beforeSend = "before the send"
	afterWrite = "after the write"
	afterTaken = "after the provider's 202"
	beforeAck  = "before the ack"
)

var points = []string{beforeSend, afterWrite, afterTaken, beforeAck}

// policy is what may happen to a mail that may have gone.
type policy string

const (
	atLeastOnce policy = "at least once" // it goes again
	atMostOnce  policy = "at most once"  // it is listed as a dead letter
)

var policies = []policy{atLeastOnce, atMostOnce}

func file(t *testing.T) string {
	t.Helper()
	return "sqlite:" + filepath.Join(t.TempDir(), "queue.db")
}

func TestKilledWhileDelivering(t *testing.T) { killAtEachPoint(t, "SQLite", file, 1) }

func TestTwoProcessesOnOneFileOneOfThemKilled(t *testing.T) {
	killAtEachPoint(t, "SQLite, two processes", file, 2)
}

// killAtEachPoint kills one of that many children, at each point and under each
// policy. It prints rows of the table that scripts/crash shows.
func killAtEachPoint(t *testing.T, store string, queue func(t *testing.T) string, children int) {
	kills := killsFrom(t)
	for _, p := range policies {
		for _, point := range points {
			t.Run(fmt.Sprintf("%s, killed %s", p, point), func(t *testing.T) {
				var sum outcome
				for range kills {
					o := round{queue: queue(t), policy: p, point: point, children: children}.play(t)
					o.check(t, p)
					sum.add(o)
				}
				row(t, store, p, point, kills, sum)
			})
		}
	}
}

func killsFrom(t *testing.T) int {
	n := os.Getenv("CRASH_KILLS")
	if n == "" {
		return 1
	}
	kills, err := strconv.Atoi(n)
	require.NoError(t, err, "CRASH_KILLS")
	return kills
}

func row(t *testing.T, store string, p policy, point string, kills int, o outcome) {
	t.Logf("| %s | %s | %s | %d | %d | %d | %d | %d | %d |", store, p, point, kills, o.mails, len(o.lost), len(o.twice), len(o.inFlight), len(o.unsettled))
}

// A worker that acknowledges before it sends loses mails, and one that forgets
// that it had begun sends twice what must go once: the checks above see both.
func TestABrokenWorkerIsFoundOut(t *testing.T) {
	o := round{queue: file(t), policy: atLeastOnce, point: beforeSend, children: 1, flaw: acksFirst}.play(t)
	assert.NotEmpty(t, o.lost)
	o = round{queue: file(t), policy: atMostOnce, point: beforeAck, children: 1, flaw: forgetsAttempts}.play(t)
	assert.NotEmpty(t, o.twice)
	assert.Empty(t, o.unsettled)
}
