package backlog

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/resilience"
)

// report is what is seen of a worker.
type report struct {
	t      *testing.T
	ranks  []int64 // of the mails: who goes first
	cameAt []time.Time

	mu        sync.Mutex
	start     time.Time
	stop      context.CancelFunc
	gone      []time.Duration // of the mails, since the start
	order     []int           // in which they went
	attempts  map[int]int     // how many mails took so many
	events    map[queue.EventType]int
	refused   int
	died      int
	breakers  []string
	opened    time.Duration // when a breaker first opened
	took      time.Duration
	sampling  sync.WaitGroup
	sampled   chan struct{}
	heap      uint64
	routines  int
	rss, base int // KB
}

func newReport(t *testing.T, n int) *report {
	return &report{
		t: t, ranks: make([]int64, n), cameAt: make([]time.Time, n), gone: make([]time.Duration, n),
		attempts: map[int]int{}, events: map[queue.EventType]int{}, sampled: make(chan struct{}),
	}
}

// readRanks asks the file what the queue made of age and priority.
func (r *report) readRanks(path string) {
	db, err := sql.Open("sqlite", path)
	require.NoError(r.t, err)
	defer db.Close()
	rows, err := db.QueryContext(r.t.Context(), `SELECT id, rank, enqueued FROM queue_jobs`)
	require.NoError(r.t, err)
	defer rows.Close()
	for rows.Next() {
		var id string
		var rank, enqueued int64
		require.NoError(r.t, rows.Scan(&id, &rank, &enqueued))
		r.ranks[number(id)], r.cameAt[number(id)] = rank, time.UnixMilli(enqueued)
	}
	require.NoError(r.t, rows.Err())
}

func (r *report) begin(stop context.CancelFunc) {
	runtime.GC()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // Linux: the peak of RSS starts anew
	r.base = memory("VmRSS:")
	r.start, r.stop = time.Now(), stop
	r.sampling.Go(r.sample)
}

func (r *report) sample() {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	used := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	for {
		metrics.Read(used) // their sum is HeapInuse
		r.heap = max(r.heap, used[0].Value.Uint64()+used[1].Value.Uint64())
		r.routines = max(r.routines, runtime.NumGoroutine())
		select {
		case <-tick.C:
		case <-r.sampled:
			return
		}
	}
}

func (r *report) end() {
	r.took = time.Since(r.start)
	close(r.sampled)
	r.sampling.Wait()
	r.rss = memory("VmHWM:")
}

// memory is a figure of /proc/self/status in KB, 0 where there is none.
func memory(name string) (kb int) {
	status, _ := os.ReadFile("/proc/self/status")
	if _, rest, ok := bytes.Cut(status, []byte(name)); ok {
		_, _ = fmt.Sscan(string(rest), &kb)
	}
	return kb
}

func (r *report) queueEvent(e queue.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events[e.Type]++
	switch e.Type {
	case queue.Finished:
		i := number(e.ID)
		r.gone[i] = time.Since(r.start)
		r.order = append(r.order, i)
		r.attempts[e.Attempt]++
	case queue.Died:
		r.died++
	case queue.StoreFailed, queue.LeaseLost:
		r.t.Logf("%s: %v", e.Type, e.Err)
	case queue.Retried:
	}
	if len(r.order)+r.died == len(r.ranks) {
		r.stop()
	}
}

// Observe sees the breakers, and who was refused.
func (r *report) Observe(_ context.Context, e resilience.Event) {
	if e.Type != resilience.Refused && e.Type != resilience.StateChanged {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Type == resilience.Refused {
		r.refused++
		return
	}
	at := time.Since(r.start)
	if r.opened == 0 && e.To == resilience.Open {
		r.opened = at
	}
	if len(r.breakers) < 12 {
		r.breakers = append(r.breakers, fmt.Sprintf("%s %s at %.1f s", e.Provider, e.To, at.Seconds()))
	}
}

func (r *report) print(t *testing.T) {
	t.Logf("%d workers: %d of %d mails gone, %d dead, in %.1f s", *workers, len(r.order), len(r.ranks), r.died, r.took.Seconds())
	flows := max(r.opened, r.gone[r.order[0]])
	t.Logf("throughput: %.0f mails/s in the first 10 s, %.0f since %.1f s, when a breaker had opened and the first mail went, %.0f over all",
		float64(r.within(0, 10*time.Second))/min(10, r.took.Seconds()),
		float64(r.within(flows, r.took))/(r.took-flows).Seconds(), flows.Seconds(), float64(len(r.order))/r.took.Seconds())
	for from := time.Duration(0); from < r.took; from += 5 * time.Second {
		to := min(from+5*time.Second, r.took)
		t.Logf("  %3.0f to %3.0f s: %6.0f mails/s", from.Seconds(), to.Seconds(), float64(r.within(from, to))/(to-from).Seconds())
	}
	t.Logf("breakers: %v; %d refusals", r.breakers, r.refused)
	t.Logf("memory: HeapInuse at most %.1f MB; RSS %.1f MB at first, at most %.1f MB; goroutines at most %d",
		float64(r.heap)/1e6, float64(r.base)/1e3, float64(r.rss)/1e3, r.routines)
	t.Logf("attempts: %s; events: %v", counted(r.attempts), r.events)
	r.printPriorities(t)
}

func counted(attempts map[int]int) (s string) {
	for _, n := range slices.Sorted(maps.Keys(attempts)) {
		s += fmt.Sprintf("%d mails took %d, ", attempts[n], n)
	}
	return s
}

func (r *report) within(from, to time.Duration) (n int) {
	for _, i := range r.order {
		if g := r.gone[i]; g >= from && g < to {
			n++
		}
	}
	return n
}

func (r *report) printPriorities(t *testing.T) {
	classes := map[int][]int{}
	for _, i := range r.order {
		classes[priorityOf(i)] = append(classes[priorityOf(i)], i)
	}
	for _, p := range slices.Backward(slices.Sorted(maps.Keys(classes))) {
		var gone, waited []time.Duration
		for _, i := range classes[p] {
			gone = append(gone, r.gone[i])
			waited = append(waited, r.start.Add(r.gone[i]).Sub(r.cameAt[i]))
		}
		t.Logf("priority %3d, %5d mails: gone p1 %5.1f s, p50 %5.1f s, p99 %5.1f s after the start; had waited p50 %4.1f min, at most %4.1f min",
			p, len(gone), at(gone, 1).Seconds(), at(gone, 50).Seconds(), at(gone, 99).Seconds(), at(waited, 50).Minutes(), at(waited, 100).Minutes())
	}
}

func at(d []time.Duration, percent int) time.Duration {
	slices.Sort(d)
	return d[min(len(d)*percent/100, len(d)-1)]
}

// checkOrder holds the order in which mails went against that of age and
// priority. A mail that was in the hands of a provider that hung is late by what
// the others delivered meanwhile.
func (r *report) checkOrder(t *testing.T) {
	best := slices.Clone(r.order)
	slices.SortStableFunc(best, func(a, b int) int { return int(r.ranks[a] - r.ranks[b]) })
	place := make([]int, len(r.ranks))
	for n, i := range best {
		place[i] = n
	}
	late := make([]int, len(r.order)) // by how many places
	for n, i := range r.order {
		late[n] = max(n-place[i], 0)
	}
	slices.Sort(late)
	n := len(late)
	t.Logf("against the order of age and priority: p50 %d places late, p99 %d, p99.9 %d, at most %d", late[n/2], late[n*99/100], late[n*999/1000], late[n-1])
	hung := 3 * *workers // at the start all of them, then one for each probe
	assert.LessOrEqual(t, late[max(n-1-hung, 0)], 2**workers, "mails go out in the order of age and priority, but those that hung")
}
