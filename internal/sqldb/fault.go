package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// phase is how far a transaction had come when something failed.
type phase int

const (
	connecting phase = iota
	open
	committing
)

// answer is what a code of the database means.
type answer struct {
	kind   fault.Kind
	undone bool // even as the answer to a commit: nothing was done
	repeat bool // others were in the way
	lost   bool // the connection ends
}

// states are SQLSTATEs and their beginnings, the longest that fits counts:
// appendix A of PostgreSQL's manual. What isn't here was not done, but perhaps
// in a commit: there an error of the disk, say, leaves it open.
var states = map[string]answer{
	"08":    {kind: fault.Unavailable, lost: true},                 // connection exception
	"22":    {kind: fault.Invalid, undone: true},                   // data exception
	"23":    {kind: fault.Invalid, undone: true},                   // integrity constraint violation
	"23505": {kind: fault.Conflict, undone: true},                  // unique_violation
	"23P01": {kind: fault.Conflict, undone: true},                  // exclusion_violation
	"25":    {kind: fault.Unavailable, undone: true},               // invalid transaction state: read-only, aborted
	"28":    {kind: fault.Denied},                                  // invalid authorization
	"40":    {kind: fault.Unavailable, undone: true},               // transaction rollback
	"40001": {kind: fault.Unavailable, undone: true, repeat: true}, // serialization_failure
	"40003": {kind: fault.Unavailable},                             // statement_completion_unknown
	"40P01": {kind: fault.Unavailable, undone: true, repeat: true}, // deadlock_detected
	"42":    {kind: fault.Unavailable, undone: true},               // no such table, syntax
	"42501": {kind: fault.Denied, undone: true},                    // insufficient_privilege
	"55P03": {kind: fault.Unavailable, undone: true, repeat: true}, // lock_not_available
	"57014": {kind: fault.Unavailable, undone: true},               // query_canceled
	"57P":   {kind: fault.Unavailable, lost: true},                 // shutdown, crash, timeout of the session
	"P0":    {kind: fault.Unavailable, undone: true},               // raised by a function
}

// results are SQLite's primary result codes: sqlite.org/rescode.html.
var results = map[int]answer{
	1:  {kind: fault.Unavailable, undone: true},               // ERROR: no such table, syntax
	3:  {kind: fault.Denied, undone: true},                    // PERM
	5:  {kind: fault.Unavailable, undone: true, repeat: true}, // BUSY
	6:  {kind: fault.Unavailable, undone: true, repeat: true}, // LOCKED
	8:  {kind: fault.Unavailable, undone: true},               // READONLY
	9:  {kind: fault.Unavailable, undone: true},               // INTERRUPT
	13: {kind: fault.Unavailable, undone: true},               // FULL
	15: {kind: fault.Unavailable, undone: true, repeat: true}, // PROTOCOL: a race of those who lock the WAL
	18: {kind: fault.Invalid, undone: true},                   // TOOBIG
	19: {kind: fault.Invalid, undone: true},                   // CONSTRAINT
	20: {kind: fault.Invalid, undone: true},                   // MISMATCH
	23: {kind: fault.Denied, undone: true},                    // AUTH
}

// Result codes of SQLite.
const (
	constraintPrimaryKey = 19 | 6<<8
	constraintUnique     = 19 | 8<<8
	constraintRowID      = 19 | 10<<8
)

// answerOf is what the database said, and by which code, false where it said
// nothing. The methods are those of pgx's PgError and of sqlite's Error.
func answerOf(err error) (code string, a answer, ok bool) {
	if e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return e.SQLState(), stateMeans(e.SQLState()), true
	}
	if e, ok := errors.AsType[interface {
		error
		Code() int
	}](err); ok {
		return strconv.Itoa(e.Code()), resultMeans(e.Code()), true
	}
	return "", answer{}, false
}

func stateMeans(state string) answer {
	for n := len(state); n > 0; n-- {
		if a, ok := states[state[:n]]; ok {
			return a
		}
	}
	return answer{kind: fault.Unavailable}
}

func resultMeans(code int) answer {
	switch code {
	case constraintPrimaryKey, constraintUnique, constraintRowID:
		return answer{kind: fault.Conflict, undone: true}
	}
	if a, ok := results[code&0xff]; ok {
		return a
	}
	return answer{kind: fault.Unavailable}
}

var (
	errBusy = errors.New("sqldb: others had the database all the time")
	errLost = errors.New("sqldb: the connection was lost before the commit")
	errOpen = errors.New("sqldb: nobody knows whether it was committed")
)

// failure makes a fault of a driver's error.
func failure(ctx context.Context, err error, at phase) error {
	if err == nil {
		return nil
	}
	if _, known := fault.As(err); known {
		return err
	}
	code, a, answered := answerOf(err)
	f := &fault.Error{Kind: fault.Unavailable, Code: code, Err: err}
	switch {
	case answered && a.kind != fault.Unavailable && (at != committing || a.undone):
		f.Kind = a.kind
	case at == committing && !a.undone: // whoever cut it off
		f.Kind, f.Err = fault.Uncertain, fmt.Errorf("%w: %w", errOpen, err)
	case ctx.Err() != nil: // whatever it made of the connection
		f.Kind, f.Err = fault.Canceled, context.Cause(ctx)
	case errors.Is(err, sql.ErrTxDone):
		f.Kind, f.Err = fault.Uncertain, fmt.Errorf("%w: %w", errOpen, err) // somebody else ended it
	case at == open && (!answered || a.lost):
		f.Err = fmt.Errorf("%w: %w", errLost, err)
	}
	return f
}

// busy is the failure of an attempt that waited for others too long, or as long
// as its caller wanted.
func busy(ctx context.Context) error {
	if ctx.Err() != nil {
		return fault.New(fault.Canceled, context.Cause(ctx))
	}
	return fault.New(fault.Unavailable, errBusy)
}

const (
	patience     = 5 * time.Second        // for what others do, all attempts together
	firstPause   = 2 * time.Millisecond   // between two attempts, then twice as long each time
	longestPause = 200 * time.Millisecond // and a random part of it is left out
)

// repeat makes attempts until one succeeds or fails for good, or patience ends.
func repeat(ctx context.Context, patience time.Duration, attempt func(patient context.Context) error) error {
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := attempt(patient)
		if !repeatable(err) {
			return err
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2)): //nolint:gosec // spreading, not secrecy
		case <-patient.Done():
			if ctx.Err() != nil {
				return busy(ctx)
			}
			return err
		}
	}
}

// repeatable: nothing was done, and the next attempt may find it otherwise. A
// function's own statements (see [Tx.SQL]) answer with a driver's error.
func repeatable(err error) bool {
	f, ok := fault.As(err)
	if !ok {
		_, a, _ := answerOf(err)
		return a.repeat
	}
	if f.Kind != fault.Unavailable {
		return false
	}
	_, a, _ := answerOf(f.Err)
	return a.repeat || errors.Is(f.Err, errLost)
}
