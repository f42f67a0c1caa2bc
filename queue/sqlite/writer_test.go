package sqlite

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/smilefactory/integrations/queue"
)

// On one processor it is sure that nobody comes while a transaction is begun.
func TestCallersWhoComeAgainShareATransaction(t *testing.T) {
	const callers, each = 32, 20
	q := file(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var commits atomic.Int64
	q.store.writer.wake = func() { commits.Add(1) }
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range each {
				if _, err := q.Enqueue(t.Context(), queue.Job{Kind: "a"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := commits.Load(); n > each*3/2 {
		t.Errorf("%d transactions for %d calls of each of %d callers", n, each, callers)
	}
}
