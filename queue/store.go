package queue

import (
	"context"
	"time"
)

// Store is what a database does for an [Engine], which makes a Queue of it. Its
// errors are of kind fault.Unavailable where nothing was done. Times are those of
// the Engine's clock, to the millisecond; a Store compares, and never asks what
// time it is.
type Store interface {
	// Insert makes records durable, all or none, in their order. Of a record whose
	// DedupeKey is known for its Kind, and hasn't expired by now, it stores nothing
	// and answers the known ID; with another hash, or where an ID is known already,
	// nothing of all is stored and the error is of kind fault.Conflict.
	Insert(ctx context.Context, now time.Time, records []Record) ([]Enqueued, error)
	// Claim leases at most n jobs of these kinds until the lease's end, lowest rank
	// first, and counts the attempt: heads of their keys that are due, and those
	// whose lease has ended or ends later than any lease could (a clock that went
	// back). A head is due at NotBefore, or when its next attempt is, or when it
	// Expires, if that is sooner; without them at any time. It also returns jobs that may not run any more (expired, or no attempt
	// left), claimed like the others, since only the Engine says what they died of.
	Claim(ctx context.Context, c Claim) ([]Claimed, error)
	// Settle ends or extends leases. What is no longer the lease's is left alone and
	// reported as lost, in the settlements' order.
	Settle(ctx context.Context, now time.Time, all []Settlement) (lost []bool, err error)
	// Due is when the next job of these kinds can be claimed, zero where there is
	// none, and wakes whoever waits in [Waker].
	Due(ctx context.Context, kinds []string) (time.Time, error)
	// Count is what Stats says.
	Count(ctx context.Context, now time.Time) (Stats, error)
}

// Graveyard is the part of a Store that keeps dead letters.
type Graveyard interface {
	// List gives at most n, oldest first, behind that ID; one that isn't dead begins
	// anew.
	List(ctx context.Context, after string, n int) ([]Buried, error)
	// Revive makes dead letters new jobs, behind all others of their keys: enqueued
	// now, with their priority, no attempt made, no delay and no expiry. It does
	// nothing, and answers false, where one of them isn't dead.
	Revive(ctx context.Context, now time.Time, ids []string) (bool, error)
	Erase(ctx context.Context, ids []string) error
}

// Canceler is the part of a Store that forgets jobs which are no longer wanted.
type Canceler interface {
	// Cancel forgets jobs that aren't running, dead letters among them, and says of
	// each whether it did.
	Cancel(ctx context.Context, now time.Time, ids []string) ([]bool, error)
}

// Waker is a Store that can tell when jobs have come, from other processes too.
// Woken is closed at the next change after the call; it may close for nothing.
type Waker interface{ Woken() <-chan struct{} }

// Record is a job as it is stored.
type Record struct {
	ID, Kind, Key string
	// Payload is sealed where the Engine has keys.
	Payload []byte
	// Rank orders the claims: the lower, the sooner.
	Rank               int64
	NotBefore, Expires time.Time // zero: none
	MaxAttempts        int
	EnqueuedAt         time.Time
	DedupeKey          string
	DedupeHash         [32]byte
	DedupeUntil        time.Time
}

// Claim asks for jobs.
type Claim struct {
	Now, Until time.Time
	Kinds      []string
	N          int
}

// Claimed is a leased job. Token rises with every claim of the job, so that a
// lease that was lost can't settle it.
type Claimed struct {
	Record
	Attempt   int // this one included
	Token     int64
	LastError string
}

// Outcome is what becomes of a claimed job.
type Outcome uint8

// The outcomes.
const (
	Done   Outcome = iota // it is forgotten
	Again                 // it may be claimed again at At
	Buries                // it becomes a dead letter
	Extend                // the lease lasts until At
)

// Settlement ends or extends a lease.
type Settlement struct {
	ID      string
	Token   int64
	Outcome Outcome
	At      time.Time
	Reason  string // kept as LastError, or as the dead letter's reason
}

// Buried is a dead letter as it is stored.
type Buried struct {
	Claimed
	Reason string
	Died   time.Time
}
