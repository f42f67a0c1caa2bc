package sqlite

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/smilefactory/integrations/queue"
)

// bell wakes those who wait for jobs: at once after a write of this process, and
// within lookEvery after one of another.
type bell struct {
	mu      sync.Mutex
	woken   chan struct{} // nil while nobody waits
	waiting chan struct{} // tells the watch that somebody does
	stop    context.CancelFunc
	ctx     context.Context //nolint:containedctx // it ends the watch
	done    chan struct{}
}

// lookEvery is how often the file's counter of changes is read while somebody
// waits. That takes some microseconds and no lock.
const lookEvery = 100 * time.Millisecond

var _ queue.Waker = (*store)(nil)

// Woken is closed at the next change, see [queue.Waker].
func (s *store) Woken() <-chan struct{} { return s.bell.wait() }

func (b *bell) init() {
	b.waiting, b.done = make(chan struct{}, 1), make(chan struct{})
	b.ctx, b.stop = context.WithCancel(context.Background())
}

func (b *bell) close() { b.stop() }

func (b *bell) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.woken == nil {
		b.woken = make(chan struct{})
		select {
		case b.waiting <- struct{}{}:
		default:
		}
	}
	return b.woken
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.woken != nil {
		close(b.woken)
		b.woken = nil
	}
}

func (b *bell) awaited() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.woken != nil
}

// watch rings when another connection has changed the file. Where its counter
// can't be read, workers still poll.
func (b *bell) watch(conn *sql.Conn) {
	defer close(b.done)
	defer conn.Close() //nolint:errcheck // nothing is lost with it
	version, err := dataVersion(b.ctx, conn)
	for {
		select {
		case <-b.waiting:
		case <-b.ctx.Done():
			return
		}
		for b.awaited() {
			select {
			case <-time.After(lookEvery):
			case <-b.ctx.Done():
				return
			}
			now, failed := dataVersion(b.ctx, conn)
			if now != version && err == nil && failed == nil {
				b.ring()
			}
			version, err = now, failed
		}
	}
}

// dataVersion differs when another connection has committed, see SQLite's "PRAGMA
// data_version".
func dataVersion(ctx context.Context, conn *sql.Conn) (v int64, err error) {
	err = conn.QueryRowContext(ctx, `PRAGMA data_version`).Scan(&v)
	return v, err
}
