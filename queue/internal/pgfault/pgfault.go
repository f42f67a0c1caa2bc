// Package pgfault says what an error of pgx means for a queue in PostgreSQL:
// whether anything was done, and whether it may be done again.
package pgfault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/smilefactory/integrations/fault"
)

// SQLSTATEs, from appendix A of PostgreSQL's manual.
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
)

// Retry repeats what PostgreSQL refused for what others did at the same time, and
// what met a dead connection of the pool, five times at most. Its error is that of
// the last time.
func Retry(ctx context.Context, do func() error) error {
	const most = 5
	for n := 1; ; n++ {
		err := do()
		if err == nil || n == most || ctx.Err() != nil || !repeatable(err) {
			return err
		}
		select {
		case <-time.After(rand.N(time.Duration(n) * 10 * time.Millisecond)): //nolint:gosec // spreading, not secrecy
		case <-ctx.Done():
		}
	}
}

// repeatable: what has a kind already would have it again.
func repeatable(err error) bool {
	if _, known := fault.As(err); known {
		return false
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code == serializationFailure || e.Code == deadlockDetected
	}
	_, refused := errors.AsType[*pgconn.ConnectError](err)
	return !refused && (errors.Is(err, errNothingDone) || pgconn.SafeToRetry(err))
}

// Answered tells whether the server said so, and goes on listening.
func Answered(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.SeverityUnlocalized != "FATAL" && e.SeverityUnlocalized != "PANIC"
}

var errNothingDone = errors.New("nothing was done")

// NothingDone marks an error before which nothing can have been committed.
func NothingDone(err error) error { return &undone{err} }

type undone struct{ error }

func (u *undone) Unwrap() error        { return u.error }
func (u *undone) Is(target error) bool { return target == errNothingDone }

// Of gives an error its kind, and the name of the package that met it. A
// connection that was lost in the commit leaves it Uncertain. What has a kind
// already keeps it.
func Of(ctx context.Context, pkg string, err error) error {
	if err == nil {
		return nil
	}
	if f, known := fault.As(err); known {
		return f
	}
	_, refused := errors.AsType[*pgconn.ConnectError](err)
	f := fault.New(fault.Uncertain, fmt.Errorf("%s: %w", pkg, err))
	switch {
	case ctx.Err() != nil:
		f = fault.New(fault.Canceled, context.Cause(ctx))
	case Answered(err), refused, errors.Is(err, errNothingDone), pgconn.SafeToRetry(err):
		f.Kind = fault.Unavailable
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		f.Code = e.Code
	}
	return f
}
