package matrix_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tally counts how cells ended, by row of the table.
type tally struct {
	run     string // "short", "full"; cells on PostgreSQL have rows of their own, "postgres"
	skipped map[string]int

	mu       sync.Mutex
	expected int
	cells    map[string]int
	counts   map[string]map[outcome]int
	ops      map[operation]map[outcome]int
	rounds   map[int]int
	gaveUp   []time.Duration
	missed   int
	reasons  map[string]string // by row, why its counts vary
}

func newTally(run string, skipped map[string]int) *tally {
	return &tally{
		run: run, skipped: skipped, cells: map[string]int{}, counts: map[string]map[outcome]int{},
		ops: map[operation]map[outcome]int{}, rounds: map[int]int{}, reasons: map[string]string{},
	}
}

// row is what a cell's counts are kept under.
func (a *tally) row(c cell) string {
	run := a.run
	if c.Store == inPostgres {
		run = inPostgres
	}
	return run + "\t" + c.row()
}

// ran reports whether cells of this run were played.
func (a *tally) ran(run string) bool {
	for row := range a.cells {
		if strings.HasPrefix(row, run+"\t") {
			return true
		}
	}
	return false
}

func (a *tally) expect() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expected++
}

func (a *tally) add(c cell, out came) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cells[a.row(c)]++
	a.rounds[out.rounds]++
	if why := c.varies(); why != "" {
		a.reasons[a.row(c)] = why
	}
	told := best(out.answers)
	count(a.counts, a.row(c), told)
	count(a.ops, c.Op, told)
	if out.missed {
		a.missed++
	}
	if out.gaveUp >= 0 {
		a.gaveUp = append(a.gaveUp, out.gaveUp)
	}
}

// best is the most that a caller of a cell was told: which of twenty asks first is
// chance.
func best(answers []answer) outcome {
	for _, o := range outcomes {
		if slices.ContainsFunc(answers, func(a answer) bool { return a.Outcome == o }) {
			return o
		}
	}
	return unknown
}

func count[K comparable](all map[K]map[outcome]int, k K, o outcome) {
	if all[k] == nil {
		all[k] = map[outcome]int{}
	}
	all[k][o]++
}

// varies says why the counts of a row are ranges.
func (c cell) varies() string {
	if c.Flaw == cancels {
		return "the caller gives up while the call goes on, and either may be first"
	}
	return ""
}

// around is the range of a count that varies: a fifth and two to either side.
func around(n int) span { return span{max(n-n/5-2, 0), n + n/5 + 2} }

// report prints the sums, and compares the counts with the table.
func (a *tally) report(t *testing.T) {
	t.Helper()
	ran := 0
	for _, n := range a.cells {
		ran += n
	}
	t.Log(a.summary(ran))
	if t.Failed() || ran < a.expected { // some were left out with -run
		return
	}
	table := readTable(t)
	if *update {
		a.merge(table)
		writeTable(t, table)
		return
	}
	for _, row := range slices.Sorted(maps.Keys(a.cells)) {
		a.compare(t, row, table)
	}
	for row := range table {
		run, _, _ := strings.Cut(row, "\t")
		assert.True(t, !a.ran(run) || a.cells[row] > 0, "%s: the table has this row, and no cell is of it (-update writes the table anew)", row)
	}
}

func (a *tally) summary(ran int) string {
	var b strings.Builder
	impossible := 0
	for _, n := range a.skipped {
		impossible += n
	}
	fmt.Fprintf(&b, "%d cells, %s; %d combinations can't be:\n", ran, a.run, impossible)
	for _, why := range slices.Sorted(maps.Keys(a.skipped)) {
		fmt.Fprintf(&b, "  %6d  %s\n", a.skipped[why], why)
	}
	fmt.Fprintf(&b, "%-10s", "operation")
	for _, o := range outcomes {
		fmt.Fprintf(&b, "%10s", o)
	}
	for _, op := range operations {
		fmt.Fprintf(&b, "\n%-10s", op)
		for _, o := range outcomes {
			fmt.Fprintf(&b, "%10d", a.ops[op][o])
		}
	}
	b.WriteString("\nrounds of reconciliation until nothing was unknown:")
	for _, n := range slices.Sorted(maps.Keys(a.rounds)) {
		fmt.Fprintf(&b, " %d: %d cells;", n, a.rounds[n])
	}
	fmt.Fprintf(&b, "\nprocesses whose moment to die or to stop didn't come: %d", a.missed)
	if n := len(a.gaveUp); n > 0 {
		slices.Sort(a.gaveUp)
		fmt.Fprintf(&b, "\nfrom a cancellation to the answer: median %v, longest %v, of %d", a.gaveUp[n/2], a.gaveUp[n-1], n)
	}
	return b.String()
}

// line is a row of the table: counts, or ranges with a reason.
type line struct {
	cells  int
	counts map[outcome]span
	reason string
}

type span struct{ low, high int }

func (s span) String() string {
	if s.low == s.high {
		return strconv.Itoa(s.low)
	}
	return fmt.Sprintf("%d-%d", s.low, s.high)
}

func (s span) holds(n int) bool { return s.low <= n && n <= s.high }

func (a *tally) compare(t *testing.T, row string, table map[string]line) {
	t.Helper()
	l, ok := table[row]
	if !assert.True(t, ok, "%q: the table has no such row (-update writes it anew)", row) {
		return
	}
	assert.Equal(t, l.cells, a.cells[row], "%s: cells", row)
	for _, o := range outcomes {
		n := a.counts[row][o]
		assert.True(t, l.counts[o].holds(n), "%s: %s: the table has %v, and it was %d", strings.ReplaceAll(row, "\t", " "), o, l.counts[o], n)
	}
}

// merge replaces the run's rows. What varies keeps ranges that hold.
func (a *tally) merge(table map[string]line) {
	was := maps.Clone(table)
	maps.DeleteFunc(table, func(row string, _ line) bool {
		run, _, _ := strings.Cut(row, "\t")
		return a.ran(run)
	})
	for row, cells := range a.cells {
		l := line{cells: cells, counts: map[outcome]span{}, reason: a.reasons[row]}
		for _, o := range outcomes {
			n := a.counts[row][o]
			l.counts[o] = span{n, n}
			if l.reason != "" {
				l.counts[o] = around(n)
			}
			if old := was[row].counts[o]; l.reason != "" && old.holds(n) { // or each update would change it
				l.counts[o] = old
			}
		}
		table[row] = l
	}
}

var tablePath = filepath.Join("testdata", "matrix.tsv")

const tableHead = "run\toperation\tstep\tflaw\tcells\tsuccess\tdeclined\tunknown\tfailed\twhy it is a range"

func readTable(t *testing.T) map[string]line {
	t.Helper()
	table := map[string]line{}
	data, err := os.ReadFile(tablePath)
	if os.IsNotExist(err) && *update {
		return table
	}
	require.NoError(t, err)
	for text := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimRight(text, "\n"), "\t")
		if f[0] == "run" || len(f) < 9 {
			continue
		}
		l := line{counts: map[outcome]span{}}
		l.cells, err = strconv.Atoi(f[4])
		require.NoError(t, err, text)
		for i, o := range outcomes {
			low, high, ranged := strings.Cut(f[5+i], "-")
			if !ranged {
				high = low
			}
			var s span
			s.low, err = strconv.Atoi(low)
			require.NoError(t, err, text)
			s.high, err = strconv.Atoi(high)
			require.NoError(t, err, text)
			l.counts[o] = s
		}
		if len(f) > 9 {
			l.reason = f[9]
		}
		table[strings.Join(f[:4], "\t")] = l
	}
	return table
}

func writeTable(t *testing.T, table map[string]line) {
	t.Helper()
	var b strings.Builder
	b.WriteString(tableHead + "\n")
	for _, key := range slices.Sorted(maps.Keys(table)) {
		l := table[key]
		fmt.Fprintf(&b, "%s\t%d", key, l.cells)
		for _, o := range outcomes {
			fmt.Fprintf(&b, "\t%v", l.counts[o])
		}
		if l.reason != "" {
			b.WriteString("\t" + l.reason)
		}
		b.WriteString("\n")
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(tablePath), 0o755))
	require.NoError(t, os.WriteFile(tablePath, []byte(b.String()), 0o644))
}
