// Package matrix shows what becomes of payments when things go wrong: the real
// Client, adapters and journals against the simulators of Stripe and PayPal, in
// every situation ("cell") that the words of cell_test.go make.
//
//	go test ./internal/matrix                      // a few hundred cells, no server needed
//	make matrix                                    // the whole; with PostgreSQL where INTEGRATIONS_POSTGRES_URL is set
//	go test ./internal/matrix -full -run 'TestMatrix/at_once/charge\.commit\.acted\.reset\.first\.once'
//
// The ledgers of the simulators say what really happened, testdata/matrix.tsv how
// many cells of each kind ended how; -update writes it anew.
package matrix_test

import (
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/internal/sqldbtest"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymentsql"
)

var (
	full   = flag.Bool("full", false, "run the whole matrix; cells on PostgreSQL where INTEGRATIONS_POSTGRES_URL is set")
	update = flag.Bool("update", false, "write testdata/matrix.tsv anew")
)

// inFlight is how many cells run at once that wait most of their time.
const inFlight = 128

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		child()
	}
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(inFlight)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func TestMatrix(t *testing.T) {
	cells, skipped := all()
	name, share := "short", shortShare
	if *full {
		name, share = "full", fullShare
	}
	postgres := *full && os.Getenv("INTEGRATIONS_POSTGRES_URL") != ""
	sums := newTally(name, skipped)
	t.Cleanup(func() { sums.report(t) })
	var chosen []cell
	for _, c := range cells {
		if c.hash()%(share*c.costs()) == 0 && (postgres || c.Store != inPostgres) {
			chosen = append(chosen, c)
			sums.expect()
		}
	}
	at := newRig(t, postgres)
	// What waits for time limits, and what needs processes, comes apart: the others
	// would make it late.
	t.Run("at once", func(t *testing.T) {
		at.play(t, chosen, sums, 16, func(c cell) bool { return !c.waits() && !c.processes() })
	})
	t.Run("with waits", func(t *testing.T) {
		at.play(t, chosen, sums, inFlight, func(c cell) bool { return c.waits() && !c.processes() })
	})
	t.Run("in processes", func(t *testing.T) { at.play(t, chosen, sums, 16, cell.processes) })
}

// rig is what cells share.
type rig struct {
	journals map[string]payment.Journal
	urls     map[string]string
	crews    map[string][]*process // two for each database
}

func newRig(t *testing.T, postgres bool) *rig {
	t.Helper()
	r := &rig{journals: map[string]payment.Journal{}, urls: map[string]string{}, crews: map[string][]*process{}}
	r.add(t, inSQLite, sqldbtest.SQLite(t))
	if postgres {
		r.add(t, inPostgres, sqldbtest.Postgres(t))
	}
	return r
}

func (r *rig) add(t *testing.T, store, url string) {
	t.Helper()
	j, err := paymentsql.Open(t.Context(), sqldbtest.Open(t, url))
	require.NoError(t, err)
	r.journals[store], r.urls[store] = j, url
	r.crews[store] = []*process{start(t), start(t)}
}

// journal is where a cell's orders are remembered, and its URL.
func (r *rig) journal(c cell) (payment.Journal, string) {
	if c.Store == inMemory {
		return &payment.MemoryJournal{AssumeDurable: true}, ""
	}
	return r.journals[c.Store], r.urls[c.Store]
}

// play plays those of the cells, so many at once.
func (r *rig) play(t *testing.T, cells []cell, sums *tally, atOnce int, which func(cell) bool) {
	slots := make(chan struct{}, atOnce)
	for _, c := range cells {
		if !which(c) {
			continue
		}
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("alone: go test ./internal/matrix -full -run '%s'", pattern(t.Name()))
				}
			})
			sums.add(c, c.play(t, r))
		})
	}
}

// processes reports whether a cell needs processes of its own, or those that many
// callers are in.
func (c cell) processes() bool { return c.Flaw.among(ofProcess) || c.Callers > 1 }

// costs is how many cells another one stands for, of those that cost much.
func (c cell) costs() int {
	switch {
	case c.Callers > 1:
		return 160
	case c.Flaw == kills:
		return 8
	case c.Flaw == stops:
		return 1
	case c.Store != inMemory:
		return 8
	}
	return 1
}

// pattern matches a test's name and no other.
func pattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// One cell of so many is run, of which is decided by its name alone. The words of
// a cell are independent of one another but for what impossible says.
const (
	fullShare  = 6
	shortShare = 96 // a multiple of fullShare
)

func (c cell) hash() int {
	h := fnv.New32a()
	h.Write([]byte(c.name()))
	return int(h.Sum32())
}

// all are the cells that can be, and how many can't for which reason.
func all() (cells []cell, skipped map[string]int) {
	skipped = map[string]int{}
	each(func(c cell) {
		if why := c.impossible(); why != "" {
			skipped[why]++
			return
		}
		cells = append(cells, c)
	})
	return cells, skipped
}

func each(f func(cell)) {
	for _, op := range operations {
		for _, r := range requestsOf[op] {
			for _, s := range steps {
				for _, w := range flaws {
					for _, p := range []phase{first, retried, doubted, failover} {
						for _, e := range []extent{once, lasting, provider} {
							variants(cell{Op: op, Hit: r, Step: s, Flaw: w, Phase: p, Extent: e}, f)
						}
					}
				}
			}
		}
	}
}

func variants(c cell, f func(cell)) {
	for _, primary := range []string{"stripe", "paypal"} {
		for _, h2 := range []bool{false, true} {
			c.Primary, c.HTTP2 = primary, h2
			histories(c, f)
		}
	}
}

func histories(c cell, f func(cell)) {
	for _, change := range []func(*cell){func(*cell) {}, func(c *cell) { c.Done = true }, func(c *cell) { c.Decline = true }, func(c *cell) { c.Day = true }} {
		c := c
		change(&c)
		for _, where := range []struct {
			store   string
			callers int
		}{{inMemory, 1}, {inSQLite, 1}, {inPostgres, 1}, {inSQLite, 20}, {inPostgres, 20}} {
			c.Store, c.Callers = where.store, where.callers
			f(c)
		}
	}
}
