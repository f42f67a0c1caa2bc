// Package queue keeps work until it is done: durable jobs, claimed with a lease,
// repeated with backoff, and never lost. What can't be done ends in the dead
// letters, with the reason.
//
//	q, err := sqlite.Open(ctx, "mail.db")
//	…
//	_, err = q.Enqueue(ctx, queue.Job{Kind: "email.send", Payload: data})
//	…
//	err = q.Run(ctx, map[string]queue.Handler{"email.send": send}) // until ctx ends, then it drains
//
// A [Queue] is a contract: queue/sqlite is the embedded default, queue/postgres
// and queue/river serve fleets, queuetest.Memory serves tests, and queuetest.Run
// checks them all. Rules that a caller must know:
//
//   - A job runs at least once. One that was running when its worker died runs
//     again when its lease has ended; a handler that must not act twice needs a
//     key of its own (the job's ID is the same in every attempt).
//   - Attempts are counted when a job is claimed, so one that kills its worker
//     ends in the dead letters too.
//   - Jobs of one Key run one after the other, in the order in which they were
//     enqueued: a head that waits for its next attempt blocks those behind it,
//     until it succeeds, expires or dies. Priority chooses among keys, never
//     inside one, and grows with age.
//   - An expired job never runs; it ends in the dead letters as well.
//
// [RunOptions].Observe is told what becomes of the jobs; [Log] writes it to a
// logger.
package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/smilefactory/integrations/fault"
)

// Queue is the contract. Every method is safe for concurrent use.
type Queue interface {
	// Enqueue makes jobs durable, all of them or none: when it has returned they
	// survive a crash of process and machine. The outcomes are in the jobs' order.
	// Errors are of kind fault.Invalid (a field is wrong, see [FieldError]),
	// fault.Conflict (a DedupeKey was used for another content), or
	// fault.Unavailable (nothing was stored).
	Enqueue(ctx context.Context, jobs ...Job) ([]Enqueued, error)
	// Run works on jobs of the kinds that have a handler, until ctx ends; then it
	// claims no more, lets handlers finish for as long as its options say, and
	// returns nil. Any number of processes may run at once.
	Run(ctx context.Context, handlers map[string]Handler, options ...RunOption) error
	// Stats says what is in the queue.
	Stats(ctx context.Context) (Stats, error)
}

// DeadLetters is what a Queue offers for what could not be done. Every Queue of
// this module has it.
type DeadLetters interface {
	// Dead lists dead letters, oldest first, at most n of them behind the one whose
	// ID is after; an empty after begins. Their payloads are opened.
	Dead(ctx context.Context, after string, n int) ([]Dead, error)
	// Replay enqueues dead letters again, at the end of their keys, with no attempt
	// made and no expiry. An ID that isn't dead is fault.NotFound.
	Replay(ctx context.Context, ids ...string) error
	// Discard forgets dead letters for good.
	Discard(ctx context.Context, ids ...string) error
}

// Job is a piece of work.
type Job struct {
	// ID is 1 to 64 of [A-Za-z0-9_-]; one is made where it is empty. A known one is
	// fault.Conflict.
	ID string
	// Kind says which handler: 1 to 64 of [a-z0-9._-].
	Kind string
	// Payload is what the handler needs, at most [MaxPayload] bytes.
	Payload []byte
	// Key orders: jobs of one Key (at most 255 bytes of UTF-8) run one after the other.
	// Empty: it waits for nobody.
	Key string
	// DedupeKey (at most 255 bytes of UTF-8) is remembered for DedupeFor (24 hours where it
	// is zero), also when the job is done: an equal key of the same Kind enqueues
	// nothing, and the outcome names the first job. With another Payload it is
	// fault.Conflict.
	DedupeKey string
	DedupeFor time.Duration
	// Priority is from -10 to 10. A step is worth a minute of waiting: a job of
	// priority 0 overtakes one of priority 1 that came more than a minute later.
	Priority int
	// NotBefore delays it.
	NotBefore time.Time
	// Expires is when it is no longer worth running.
	Expires time.Time
	// MaxAttempts is 1 to 1000; zero means 30, which
	// is most of a day with the usual waits.
	MaxAttempts int
}

// Limits of a Job.
const (
	MaxPayload         = 32 << 20 // bytes, before encryption
	DefaultMaxAttempts = 30
	maxName            = 64
	maxKey             = 255
	maxPriority        = 10
	maxMaxAttempts     = 1000
	defaultDedupe      = 24 * time.Hour
)

// Enqueued is the outcome for one job.
type Enqueued struct {
	ID string
	// Duplicate: nothing was enqueued, since DedupeKey is that of the job ID.
	Duplicate bool
}

// Delivery is a job in a handler's hands.
type Delivery struct {
	Job
	// Attempt counts from 1.
	Attempt int
	// EnqueuedAt is when it was made durable.
	EnqueuedAt time.Time
	// LastError is what the attempt before answered, empty in the first.
	LastError string
}

// Handler does the work. Its context ends when the lease was lost to another
// worker or the drain's time is up. Nil: the job is done. An error: it is tried
// again after a wait that grows with the attempts, see [RetryAfter] and [Bury].
// A panic counts as an error. An error's text is stored: no secrets, no
// personal data.
type Handler func(ctx context.Context, d Delivery) error

// RetryAfter makes a handler's error wait that long instead of the usual time.
func RetryAfter(err error, wait time.Duration) error { return &verdict{err: err, wait: max(wait, 0)} }

// Bury makes a handler's error final: the job goes to the dead letters.
func Bury(err error) error { return &verdict{err: err, bury: true} }

type verdict struct {
	err  error
	wait time.Duration
	bury bool
}

func (v *verdict) Error() string { return v.err.Error() }
func (v *verdict) Unwrap() error { return v.err }

// Dead is a job that could not be done.
type Dead struct {
	Delivery
	// Reason says why, in words; Died is when.
	Reason string
	Died   time.Time
}

// The beginnings of the reasons that are ours; what a handler said follows.
const (
	ReasonExpired     = "expired"
	ReasonAttempts    = "no attempt is left"
	ReasonBuried      = "buried"
	ReasonUnreadable  = "unreadable"
	ReasonWorkerDied  = "its worker died"
	ReasonUnknownKind = "unknown kind"
)

// Stats counts the jobs of a queue.
type Stats struct {
	// Ready could run now, Waiting later (delayed, or behind the head of their
	// key), Running are claimed, Dead could not be done.
	Ready, Waiting, Running, Dead int
	// Oldest is when the job that has waited longest, of those that are ready, was
	// enqueued; zero where there is none.
	Oldest time.Time
}

// FieldError says which field of a Job is wrong and why. It never quotes it.
type FieldError struct{ Field, Problem string }

func (e *FieldError) Error() string { return "queue: " + e.Field + ": " + e.Problem }

// Validate checks a job without any I/O; every Queue does so before it enqueues.
func (j *Job) Validate() error {
	var problems []error
	require := func(ok bool, field, format string, args ...any) {
		if !ok {
			problems = append(problems, &FieldError{field, fmt.Sprintf(format, args...)})
		}
	}
	require(j.ID == "" || len(j.ID) <= maxName && !strings.ContainsFunc(j.ID, notID), "id", "must be 1 to %d of [A-Za-z0-9_-]", maxName)
	require(j.Kind != "" && len(j.Kind) <= maxName && !strings.ContainsFunc(j.Kind, notKind), "kind", "must be 1 to %d of [a-z0-9._-]", maxName)
	require(len(j.Payload) <= MaxPayload, "payload", "has %d bytes, at most %d are allowed", len(j.Payload), MaxPayload)
	require(keyed(j.Key), "key", "must have at most %d bytes of UTF-8 and no NUL", maxKey)
	require(keyed(j.DedupeKey), "dedupe_key", "must have at most %d bytes of UTF-8 and no NUL", maxKey)
	require(j.DedupeFor >= 0, "dedupe_for", "is negative")
	require(j.Priority >= -maxPriority && j.Priority <= maxPriority, "priority", "must be from -%d to %d", maxPriority, maxPriority)
	require(j.MaxAttempts >= 0 && j.MaxAttempts <= maxMaxAttempts, "max_attempts", "must be 1 to %d", maxMaxAttempts)
	if len(problems) > 0 {
		return fault.New(fault.Invalid, errors.Join(problems...))
	}
	return nil
}

// keyed says whether a key is one that every database can hold as text.
func keyed(key string) bool {
	return len(key) <= maxKey && utf8.ValidString(key) && !strings.Contains(key, "\x00")
}

func notKind(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
}

func notID(r rune) bool { return r == '.' || notKind(r) && (r < 'A' || r > 'Z') }
