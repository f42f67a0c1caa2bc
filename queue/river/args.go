package river

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	riverqueue "github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/smilefactory/integrations/queue"
)

// kindPrefix keeps our kinds apart from the team's own. River wants a word at the
// front and a second character, which a [queue.Job].Kind need not have.
const kindPrefix = "integrations:"

// args are the arguments of a River job. River's unique jobs keep ID unique.
type args struct {
	ID      string `json:"id"      river:"unique"`
	Payload []byte `json:"payload"` // as the Engine makes it, which may be sealed

	kind  string // of package queue
	again int64  // when the next attempt is to be, in nanoseconds since 1970
}

// Kind is River's.
func (a args) Kind() string { return kindPrefix + a.kind }

// UnmarshalJSON never fails, since River repeats what it can't read. What makes no
// sense has no payload, and the Engine buries that.
func (a *args) UnmarshalJSON(data []byte) error {
	type plain args
	if json.Unmarshal(data, (*plain)(a)) != nil {
		a.ID, a.Payload = "", nil
	}
	return nil
}

// about is what River has no column for. It is in the column metadata, under our
// name. Times are milliseconds since 1970.
type about struct {
	ID         string `json:"id"`
	Rank       int64  `json:"rank"` // says the priority
	DedupeKey  string `json:"dedupe_key,omitempty"`
	NotBefore  int64  `json:"not_before,omitempty"`
	Expires    int64  `json:"expires,omitempty"`
	EnqueuedAt int64  `json:"enqueued_at"`
}

type metadata struct {
	Integrations *about `json:"integrations"`
}

// living are the states in which an ID is taken: all but that of a job which is
// done.
var living = []rivertype.JobState{
	rivertype.JobStateAvailable, rivertype.JobStateCancelled, rivertype.JobStateDiscarded, rivertype.JobStatePending,
	rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled,
}

// params is a record as River inserts it.
func (s *store) params(now time.Time, r *queue.Record) riverqueue.InsertManyParams {
	m, _ := json.Marshal(metadata{&about{r.ID, r.Rank, r.DedupeKey, milli(r.NotBefore), milli(r.Expires), r.EnqueuedAt.UnixMilli()}})
	opts := &riverqueue.InsertOpts{
		MaxAttempts: r.MaxAttempts, Metadata: m, Priority: riverPriority(r), Queue: s.queue,
		UniqueOpts: riverqueue.UniqueOpts{ByArgs: true, ByQueue: true, ByState: living, ExcludeKind: true},
	}
	if at := r.NotBefore; at.After(now) { // else River's scheduler would have to look at it first
		opts.ScheduledAt = sooner(at, r.Expires)
	}
	return riverqueue.InsertManyParams{Args: args{ID: r.ID, Payload: r.Payload, kind: r.Kind}, InsertOpts: opts}
}

// sooner is when a job is looked at: it dies when it expires, and not after a
// longer wait.
func sooner(at, expires time.Time) time.Time {
	if !expires.IsZero() && expires.Before(at) {
		return expires
	}
	return at
}

// riverPriority is one of River's four, of which 1 comes first. What was enqueued
// without a priority stays apart from what is more and what is less.
func riverPriority(r *queue.Record) int {
	const step = time.Minute // of waiting, in Record.Rank
	switch p := r.EnqueuedAt.Sub(time.UnixMilli(r.Rank)).Round(step) / step; {
	case p > 5:
		return 1
	case p > 0:
		return 2
	case p == 0:
		return 3
	}
	return 4
}

func milli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMilli(m int64) time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMilli(m)
}

// claimed is a row of River's as the Engine takes it. One that isn't ours, or makes
// no sense, has no payload.
func claimed(row *rivertype.JobRow, a *args) queue.Claimed {
	c := queue.Claimed{
		Record: queue.Record{
			ID: nameOf(row.ID), Kind: strings.TrimPrefix(row.Kind, kindPrefix), MaxAttempts: row.MaxAttempts,
			EnqueuedAt: row.CreatedAt, Rank: row.CreatedAt.UnixMilli(),
		},
		Attempt: row.Attempt, LastError: answerOf(row.Errors, row.Attempt-1),
	}
	var m metadata
	if json.Unmarshal(row.Metadata, &m) != nil || m.Integrations == nil || m.Integrations.ID == "" {
		return c
	}
	of := m.Integrations
	c.ID, c.Rank, c.DedupeKey, c.EnqueuedAt = of.ID, of.Rank, of.DedupeKey, time.UnixMilli(of.EnqueuedAt)
	c.NotBefore, c.Expires = fromMilli(of.NotBefore), fromMilli(of.Expires)
	if a.ID == of.ID {
		c.Payload = a.Payload
	}
	return c
}

// nameOf is the ID of a row that has none of ours.
func nameOf(row int64) string { return fmt.Sprintf("river-%d", row) }

// rescued is what River's rescuer notes of an attempt whose worker died.
const rescued = "Stuck job rescued by JobRescuer"

// answerOf is what an attempt answered, empty where its worker died.
func answerOf(errs []rivertype.AttemptError, attempt int) string {
	if len(errs) == 0 {
		return ""
	}
	if last := errs[len(errs)-1]; last.Attempt == attempt && last.Error != rescued {
		return last.Error
	}
	return ""
}

// text is what a column of JSON can hold: an error may say anything.
func text(s string) string { return strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", "�") }
