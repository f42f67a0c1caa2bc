// Package matrix shows what becomes of payments when things go wrong: the real
// Client, adapters and journals against the simulators of Stripe and PayPal, in
// every situation ("cell") that the words of cell_test.go make.
//
//	go test ./internal/matrix                      // a few hundred cells, no server needed
//	make matrix                                    // all, with PostgreSQL
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

	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/payment"
)

var (
	full   = flag.Bool("full", false, "run all cells; needs INTEGRATIONS_POSTGRES_URL")
	update = flag.Bool("update", false, "write testdata/matrix.tsv anew")
)

// inFlight is how many cells run at once that wait most of their time.
const inFlight = 128

func TestMain(m *testing.M) {
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
	sums := newTally(name, skipped)
	t.Cleanup(func() { sums.report(t) })
	var chosen []cell
	for _, c := range cells {
		if c.hash()%share == 0 && !c.Flaw.among(ofProcess) {
			chosen = append(chosen, c)
			sums.expect(c)
		}
	}
	// What waits for time limits comes apart: the others would make it late.
	t.Run("at once", func(t *testing.T) { playAll(t, chosen, sums, false, 16) })
	t.Run("with waits", func(t *testing.T) { playAll(t, chosen, sums, true, inFlight) })
}

// playAll plays those of the cells that wait, or the others, so many at once.
func playAll(t *testing.T, cells []cell, sums *tally, waits bool, atOnce int) {
	slots := make(chan struct{}, atOnce)
	for _, c := range cells {
		if c.waits() != waits {
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
			sums.add(c, c.play(t))
		})
	}
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
							variants(cell{Op: op, Hit: r, Step: s, Flaw: w, Phase: p, Extent: e, Callers: 1, Store: "memory"}, f)
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
			for _, done := range []bool{false, true} {
				c.Primary, c.HTTP2, c.Done, c.Decline, c.Day = primary, h2, done, false, false
				f(c)
			}
			c.Done, c.Decline = false, true
			f(c)
			c.Decline, c.Day = false, true
			f(c)
		}
	}
}

// journalOf is where a cell's orders are remembered.
func journalOf(t testing.TB, c cell) payment.Journal {
	t.Helper()
	switch c.Store {
	default:
		return &payment.MemoryJournal{AssumeDurable: true}
	}
}
