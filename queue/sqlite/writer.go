package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/smilefactory/integrations/fault"
)

// session is what statements are run on: the writer's connection, or a caller's
// transaction.
type session interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// prepared is a connection that prepares each statement once.
type prepared struct {
	conn       *sql.Conn
	statements map[string]*sql.Stmt
}

func (p *prepared) statement(query string) (*sql.Stmt, error) {
	if s := p.statements[query]; s != nil {
		return s, nil
	}
	s, err := p.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	p.statements[query] = s
	return s, nil
}

// close also closes the statements, since database/sql does so for none of a
// sql.Conn, and SQLite keeps the file open while there is one.
func (p *prepared) close() {
	for _, s := range p.statements {
		_ = s.Close()
	}
	_ = p.conn.Close()
}

func (p *prepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := p.statement(query)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, args...)
}

func (p *prepared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := p.statement(query)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

func (p *prepared) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	s, err := p.statement(query)
	if err != nil {
		return p.conn.QueryRowContext(ctx, query, args...) // which has the same error
	}
	return s.QueryRowContext(ctx, args...)
}

// writer is the only one in this process that writes to the file. What callers
// want written while a transaction is being synced shares the next one.
type writer struct {
	session *prepared
	path    string // of the file
	wake    func() // after a commit that made jobs claimable

	mu      sync.Mutex
	pending []*write
	closed  bool
	more    chan struct{}
	done    chan struct{} // closed when the loop has ended
}

// write is one caller's part of a transaction.
type write struct {
	// work may run more than once, each time in another transaction. It reports
	// whether somebody should look for jobs. A fault is the answer to its caller and
	// was found before anything was written; any other error undoes the transaction.
	work  func(ctx context.Context, s session) (wakes bool, err error)
	bytes int
	taken atomic.Bool // by the transaction, or by its caller who gave up
	wakes bool
	err   error
	done  chan struct{}
}

// A transaction takes no more than that, so that nobody waits long for its end.
const (
	maxWrites = 256
	maxBytes  = 8 << 20
)

func newWriter(conn *sql.Conn, path string, wake func()) *writer {
	w := &writer{
		session: &prepared{conn, map[string]*sql.Stmt{}}, path: path, wake: wake,
		more: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go w.loop()
	return w
}

// do has work done in the next transaction, and returns when that is on the disk.
// A caller who gives up while nothing has been begun (another process has the
// file's lock) leaves at once, and nothing is done.
func (w *writer) do(ctx context.Context, bytes int, work func(context.Context, session) (bool, error)) error {
	if err := ctx.Err(); err != nil {
		return kind(w.path, err)
	}
	op := &write{work: work, bytes: bytes, done: make(chan struct{})}
	if !w.add(op) {
		return errClosed()
	}
	select {
	case <-op.done:
	case <-ctx.Done():
		if op.taken.CompareAndSwap(false, true) {
			return kind(w.path, ctx.Err())
		}
		<-op.done
	}
	return op.err
}

func errClosed() error {
	return fault.New(fault.Unavailable, errors.New("queue/sqlite: the queue was closed"))
}

func (w *writer) add(op *write) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.pending = append(w.pending, op)
	w.signal()
	return true
}

func (w *writer) signal() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// close ends the loop when what is pending was written.
func (w *writer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.signal()
}

func (w *writer) loop() {
	defer close(w.done)
	for range w.more {
		for w.left() > 0 {
			w.round()
		}
		w.mu.Lock()
		ended := w.closed && len(w.pending) == 0
		w.mu.Unlock()
		if ended {
			return
		}
	}
}

func (w *writer) left() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pending)
}

// take gives what the transaction, which has begun, can hold.
func (w *writer) take() []*write {
	w.mu.Lock()
	defer w.mu.Unlock()
	var taken []*write
	bytes, n := 0, 0
	for _, op := range w.pending {
		if len(taken) > 0 && (len(taken) == maxWrites || bytes+op.bytes > maxBytes) {
			break
		}
		n++
		if op.taken.CompareAndSwap(false, true) {
			taken = append(taken, op)
			bytes += op.bytes
		}
	}
	w.pending = append([]*write(nil), w.pending[n:]...)
	return taken
}

// gather lets callers run who were just answered, since they come again at once:
// else the first of them would have a sync for himself, and all others the next.
// With 32 callers that is a quarter fewer syncs, and on a disk that takes 4 ms for
// each half as many jobs again.
func (w *writer) gather() {
	for n := 0; n < min(w.left(), maxWrites); {
		n = w.left()
		runtime.Gosched()
	}
}

// round is one transaction. Its lock is had first, since more callers come while
// it is waited for.
func (w *writer) round() {
	w.gather()
	err := w.exec("BEGIN IMMEDIATE")
	ops := w.take()
	if err != nil {
		w.answer(ops, err)
		return
	}
	if err = w.commit(ops); err != nil && len(ops) > 1 {
		for _, op := range ops { // alone, so that what ails one fails no other
			if err = w.exec("BEGIN IMMEDIATE"); err == nil {
				err = w.commit([]*write{op})
			}
			w.answer([]*write{op}, err)
		}
		return
	}
	w.answer(ops, err)
}

func (w *writer) answer(ops []*write, err error) {
	for _, op := range ops {
		if err != nil {
			op.err = kind(w.path, err)
		}
		close(op.done)
	}
}

// commit does all of the writes, or none where one fails.
func (w *writer) commit(ops []*write) error {
	ctx, wakes := context.Background(), false
	for _, op := range ops {
		op.wakes, op.err = op.work(ctx, w.session)
		if _, answered := fault.As(op.err); op.err != nil && !answered {
			return w.undo(op.err)
		}
		wakes = wakes || op.wakes
	}
	if err := w.exec("COMMIT"); err != nil {
		if code(err) == sqlite3.SQLITE_IOERR { // the disk may have it all the same
			err = fault.New(fault.Uncertain, fmt.Errorf("queue/sqlite: %s: %w", w.path, err))
		}
		return w.undo(err)
	}
	if wakes {
		w.wake()
	}
	return nil
}

func (w *writer) undo(cause error) error {
	_ = w.exec("ROLLBACK") // it has nothing to do where SQLite rolled back already
	return cause
}

func (w *writer) exec(statement string) error {
	_, err := w.session.ExecContext(context.Background(), statement)
	return err
}
