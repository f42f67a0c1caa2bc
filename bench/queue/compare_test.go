package queue

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var rounds = flag.Int("rounds", 0, "compare the queues in so many interleaved rounds; make bench-queue has 5")

const (
	jobsOfARound    = 20_000
	jobsOnASlowDisk = 3_000 // whose every sync takes 4 ms longer
)

// figures are those of one library, one of each round.
type figures struct{ perSecond, p99, slowly, slowP99, worked []float64 } // jobs a second, milliseconds

// The libraries take turns, so that what else the machine does meets all of them.
func TestTheQueueBesideBolt(t *testing.T) {
	if *rounds == 0 {
		t.Skip("-rounds says how often")
	}
	all := map[string]*figures{}
	for _, lib := range libs {
		all[lib.name] = &figures{}
	}
	for range *rounds {
		for _, lib := range libs {
			all[lib.name].add(t, lib.name, measured(func(b *testing.B) { enqueue(b, lib.open(b, 32), 32) }), measured(func(b *testing.B) { workOff(b, lib.open(b, 32), 32) }))
		}
	}
	var table strings.Builder
	ours := median(all["sqlite"].perSecond)
	for _, lib := range libs {
		f := all[lib.name]
		fmt.Fprintf(&table, "| %s | %.0f | %.0f to %.0f | %.1f | %.2f | %d | %.0f | %.1f | %.0f |\n", lib.name, median(f.perSecond), slices.Min(f.perSecond), slices.Max(f.perSecond),
			median(f.p99), ours/median(f.perSecond), syncs(t, lib.name), median(f.slowly), median(f.slowP99), median(f.worked))
	}
	t.Logf("32 writers, 32 workers, payloads of %d bytes; medians of %d interleaved rounds of %d jobs (slow disk: %d); a write and its fsync take %v here\n"+
		"| queue | enqueued/s | from, to | p99, ms | sqlite is times as fast | syncs per 1,000 | slow disk: enqueued/s | p99, ms | worked off/s |\n|-|-|-|-|-|-|-|-|-|\n%s",
		payloadBytes, *rounds, jobsOfARound, jobsOnASlowDisk, oneSync(t), table.String())
	assert.GreaterOrEqual(t, ours, 2*median(all["bbolt"].perSecond), "jobs per second, beside bbolt's Batch")
}

func (f *figures) add(t *testing.T, lib string, enqueued, worked testing.BenchmarkResult) {
	f.perSecond, f.p99 = append(f.perSecond, enqueued.Extra["jobs/s"]), append(f.p99, enqueued.Extra["p99-µs"]/1000)
	f.worked = append(f.worked, worked.Extra["jobs/s"])
	out, _ := traced(t, lib, jobsOnASlowDisk, "-e", "inject=fsync,fdatasync:delay_enter=4000")
	f.slowly, f.slowP99 = append(f.slowly, metric(t, out, "jobs/s")), append(f.slowP99, metric(t, out, "p99-µs")/1000)
}

func metric(t *testing.T, out, unit string) float64 {
	m := regexp.MustCompile(`([\d.]+) ` + unit).FindStringSubmatch(out)
	require.Len(t, m, 2, out)
	f, err := strconv.ParseFloat(m[1], 64)
	require.NoError(t, err)
	return f
}

func measured(bench func(b *testing.B)) testing.BenchmarkResult {
	_ = flag.Set("test.benchtime", strconv.Itoa(jobsOfARound)+"x")
	return testing.Benchmark(bench)
}

func median(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	return of[len(of)/2]
}

// oneSync is the median time in which the disk of the files takes 4 KB.
func oneSync(t *testing.T) time.Duration {
	f, err := os.Create(filepath.Join(t.TempDir(), "sync"))
	require.NoError(t, err)
	defer f.Close()
	var took []time.Duration
	for range 201 {
		start := time.Now()
		_, err := f.Write(make([]byte, 4096))
		require.NoError(t, cmp.Or(err, f.Sync()))
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2].Round(time.Microsecond)
}

// traced enqueues in another run of this program, which strace watches from
// outside.
func traced(t *testing.T, lib string, jobs int, options ...string) (out, summary string) {
	program, err := os.Executable()
	require.NoError(t, err)
	run := exec.CommandContext(t.Context(), "strace", append(append([]string{"-f", "-qq", "--seccomp-bpf", "-c", "-e", "trace=fsync,fdatasync"}, options...),
		program, "-test.run", "^$", "-test.bench", "Enqueue/writers=32/lib="+lib+"$", "-test.benchtime", strconv.Itoa(jobs)+"x")...)
	var watched bytes.Buffer
	run.Stderr = &watched
	printed, err := run.Output()
	require.NoError(t, err, "strace is needed, which counts syncs and slows them down: %s", &watched)
	return string(printed), watched.String()
}

// syncs counts the calls by which the kernel is told to bring 1,000 jobs to the
// disk.
func syncs(t *testing.T, lib string) int {
	const jobs = 5000
	_, summary := traced(t, lib, jobs)
	calls := 0
	for _, line := range regexp.MustCompile(`(?m)^\s*\S+\s+\S+\s+\S+\s+(\d+).*\b(fsync|fdatasync)$`).FindAllStringSubmatch(summary, -1) {
		n, err := strconv.Atoi(line[1])
		require.NoError(t, err)
		calls += n
	}
	require.Positive(t, calls, summary)
	return calls * 1000 / jobs
}
