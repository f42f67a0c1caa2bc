// Package fleet simulates a fleet of processes whose one provider fails, is slow
// and recovers, in virtual time: docs/fleet.md says what and shows the figures.
package fleet

import (
	"flag"
	"os"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/smilefactory/integrations/resilience"
)

var update = flag.Bool("update", false, "run every variant, write the tables of docs/fleet.md and its plots")

// A collection looks at the stacks of thousands of goroutines, which cost half of
// the time by default.
func TestMain(m *testing.M) {
	debug.SetGCPercent(1600)
	os.Exit(m.Run())
}

// whole is the timeline of the comparison, onset that of its beginning alone.
var (
	whole = timeline{down: 60 * time.Second, slow: 120 * time.Second, well: 180 * time.Second, end: 300 * time.Second}
	onset = timeline{down: 15 * time.Second, slow: 30 * time.Second, well: 30 * time.Second, end: 30 * time.Second}
)

const (
	seed = 1
	// bound is the most load that a second may bring, as a multiple of the normal
	// one. Poisson noise is in what is compared with it: 1 % of 10,000 calls.
	bound = 1.2
	// boundFrom is the rate, in calls per second of a process, from which it holds.
	boundFrom = 8
)

// size is that of docs/fleet.md only where that is rewritten, which takes minutes;
// the figures depend on it no further than in their noise.
func size(t *testing.T) fleet {
	f := fleet{processes: 400, rate: 10}
	switch {
	case testing.Short():
		f.processes = 100
	case *update:
		f.processes = 1000
	}
	t.Logf("%d processes, %g calls/s each", f.processes, f.rate)
	return f
}

// results are by trouble, then by variant.
type results map[trouble]map[string]*result

// run runs the variants side by side, and returns when all have ended.
func run(t *testing.T, f fleet, which func(trouble, variant) bool) results {
	all := results{}
	type job struct {
		trouble
		variant
		*result
	}
	var jobs []*job
	for _, tr := range []trouble{refuses, hangs} {
		all[tr] = map[string]*result{}
		for _, v := range variants {
			if which(tr, v) {
				jobs = append(jobs, &job{tr, v, nil})
			}
		}
	}
	t.Run("the provider", func(t *testing.T) {
		for _, j := range jobs {
			t.Run(string(j.trouble)+", "+j.name, func(t *testing.T) {
				t.Parallel()
				start := time.Now()
				j.result = simulate(t, f, whole, j.trouble, j.variant, seed)
				t.Logf("300 s in %.1f s", time.Since(start).Seconds())
			})
		}
	})
	for _, j := range jobs {
		all[j.trouble][j.name] = j.result
	}
	return all
}

func TestFleet(t *testing.T) {
	asserted := []string{defaults, peer, defaultsBackup}
	all := run(t, size(t), func(tr trouble, v variant) bool {
		return *update || slices.Contains(asserted, v.name) || v.name == retriesAlone && tr == hangs
	})
	for _, tr := range []trouble{refuses, hangs} {
		t.Log(all.table(tr))
		for _, name := range []string{defaults, defaultsBackup} {
			r := all[tr][name]
			assert.LessOrEqual(t, r.most(r.offered, 0), bound, "%s, %s: load offered in some second", tr, name)
			assert.Zero(t, r.full, "%s, %s: no attempt finds the queue full", tr, name)
		}

		r, b := all[tr][defaults], resilience.Default.Breaker
		longestOpen := time.Duration(float64(b.OpenFor) * (1 + b.Jitter))
		probed := longestOpen + resilience.Default.Timeout // a probe that begins a moment too early fails, and the next succeeds
		assert.LessOrEqual(t, r.recovery(), probed, tr)
		assert.Zero(t, r.lost(whole.slow+probed, whole.end), "%s: after that no answer is lost", tr)
		assert.Less(t, r.most(r.offered, whole.down+10*time.Second, whole.slow), 0.05, "%s: an open breaker lets probes through alone", tr)
		assert.Zero(t, all[tr][defaultsBackup].lost(0, whole.end), "%s: with a backup no answer is lost", tr)

		// The peer's timers run in virtual time too.
		assert.Less(t, all[tr][peer].recovery(), time.Minute, tr)
	}
	r := all[hangs][retriesAlone]
	assert.Equal(t, whole.well-whole.slow, r.recovery().Round(10*time.Second), "a stampede keeps the provider down for as long as it is slow, so the model would show one")
	assert.NotZero(t, r.full)
	if *update {
		all.write(t)
	}
}

// Where a process makes few calls, a provider that fails for all at once meets the
// first retry of each within a second: no process can know that it isn't alone.
func TestSlowProcessesOfferMoreInTheFirstSecond(t *testing.T) {
	var rows []rateRow
	for _, rate := range []float64{0.5, 1, 2, 3, 5, 8, 10, 20} {
		f := fleet{processes: int(2000 / rate), rate: rate}
		row := rateRow{rate: rate}
		for i, tr := range []trouble{refuses, hangs} {
			row.ours[i] = simulate(t, f, onset, tr, named(defaults), seed)
			row.peers[i] = simulate(t, f, onset, tr, named(peer), seed)
			most := row.ours[i].most(row.ours[i].offered, 0)
			if rate >= boundFrom {
				assert.LessOrEqual(t, most, bound, "%s, %g/s", tr, rate)
			}
			assert.Less(t, most, 2.6, "%s, %g/s: five failures in a row open, also where each call makes three attempts", tr, rate)
		}
		rows = append(rows, row)
	}
	t.Log(rateTable(rows))
	if *update {
		write(t, "rates", rateTable(rows))
	}
}

func named(name string) variant {
	return variants[slices.IndexFunc(variants, func(v variant) bool { return v.name == name })]
}
