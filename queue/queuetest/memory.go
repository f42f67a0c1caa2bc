// Package queuetest has a queue in memory for tests, and the suite that every
// queue of this module passes.
//
//	q := queuetest.New()
//	client, err := email.New(sender, email.WithQueue(q))
//
// It behaves as queue/sqlite does, but for what a process that ends forgets. An
// implementation of [queue.Queue] is checked by [Run], one of [queue.Store] by
// [RunStore] as well:
//
//	func TestQueue(t *testing.T) {
//		queuetest.Run(t, func(t *testing.T) queuetest.Subject { … })
//		queuetest.RunStore(t, func(t *testing.T) queue.Store { … })
//	}
package queuetest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
)

// New is a ready queue in memory. It panics where an option is wrong.
func New(options ...queue.Option) *queue.Engine {
	q, err := queue.NewEngine(&Memory{}, options...)
	if err != nil {
		panic(err)
	}
	return q
}

// Memory is a [queue.Store] that keeps everything in memory: also a
// [queue.Graveyard], a [queue.Canceler] and a [queue.Waker]. The zero value is empty and ready. It
// is meant for tests: a claim looks at every job.
type Memory struct {
	mu     sync.Mutex
	jobs   []*live // in the order in which they run within a key
	dead   []queue.Buried
	ids    map[string]bool // of both
	dedupe map[dedupeKey]first
	tokens int64
	woken  chan struct{}
}

// live is a job that is not dead. The last three fields of its Claimed are those of its latest
// claim.
type live struct {
	queue.Claimed
	running bool
	until   time.Time // the lease's end while it runs, else when it is due; zero: at once
}

type dedupeKey struct{ kind, key string }

// first is the job that a dedupe key stands for.
type first struct {
	id    string
	hash  [32]byte
	until time.Time
}

// Insert stores records, see [queue.Store].
func (m *Memory) Insert(ctx context.Context, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]queue.Enqueued, len(records))
	jobs, ids, known := []*live{}, map[string]bool{}, map[dedupeKey]first{}
	for i, r := range records {
		key := dedupeKey{r.Kind, r.DedupeKey}
		f, again := known[key]
		if !again {
			f, again = m.dedupe[key]
		}
		switch {
		case r.DedupeKey != "" && again && now.Before(f.until):
			if f.hash != r.DedupeHash {
				return nil, conflict("dedupe_key", "was used for another payload")
			}
			out[i] = queue.Enqueued{ID: f.id, Duplicate: true}
			continue
		case m.ids[r.ID] || ids[r.ID]:
			return nil, conflict("id", "is known already")
		case r.DedupeKey != "":
			known[key] = first{r.ID, r.DedupeHash, r.DedupeUntil}
		}
		out[i].ID = r.ID
		ids[r.ID] = true
		jobs = append(jobs, newLive(r))
	}
	if m.dedupe == nil {
		m.dedupe, m.ids = map[dedupeKey]first{}, map[string]bool{}
	}
	maps.Copy(m.dedupe, known)
	maps.Copy(m.ids, ids)
	m.jobs = append(m.jobs, jobs...)
	m.wake()
	return out, nil
}

// ended refuses a call whose caller has given up: nothing is done.
func ended(ctx context.Context) error {
	if ctx.Err() != nil {
		return fault.New(fault.Canceled, context.Cause(ctx))
	}
	return nil
}

func conflict(field, problem string) error {
	return fault.New(fault.Conflict, &queue.FieldError{Field: field, Problem: problem})
}

func newLive(r queue.Record) *live {
	r.Payload = slices.Clone(r.Payload)
	for _, t := range []*time.Time{&r.NotBefore, &r.Expires, &r.EnqueuedAt, &r.DedupeUntil} {
		*t = milli(*t)
	}
	return &live{Claimed: queue.Claimed{Record: r}, until: r.NotBefore}
}

// milli is what a database keeps of a time.
func milli(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.UnixMilli(t.UnixMilli())
}

// heads are the jobs that wait for nobody of their key.
func (m *Memory) heads() []*live {
	seen := map[string]bool{}
	var heads []*live
	for _, j := range m.jobs {
		if j.Key == "" || !seen[j.Key] {
			heads = append(heads, j)
		}
		if j.Key != "" {
			seen[j.Key] = true
		}
	}
	return heads
}

// due is when a head can be claimed.
func (j *live) due() time.Time {
	if !j.running && !j.Expires.IsZero() && j.Expires.Before(j.until) {
		return j.Expires // only to be buried
	}
	return j.until
}

// claimable also knows a lease that no clock but one that went back since could
// have made.
func (j *live) claimable(now time.Time) bool {
	return !now.Before(j.due()) || j.running && j.until.After(now.Add(queue.MaxLease))
}

// Claim leases jobs, see [queue.Store].
func (m *Memory) Claim(ctx context.Context, c queue.Claim) ([]queue.Claimed, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := milli(c.Now)
	able := slices.DeleteFunc(m.heads(), func(j *live) bool { return !slices.Contains(c.Kinds, j.Kind) || !j.claimable(now) })
	slices.SortStableFunc(able, func(a, b *live) int { return cmp.Compare(a.Rank, b.Rank) })
	var out []queue.Claimed
	for _, j := range able[:min(c.N, len(able))] {
		m.tokens++
		j.running, j.until, j.Token = true, milli(c.Until), m.tokens
		j.Attempt++
		taken := j.Claimed
		taken.Payload = slices.Clone(j.Payload)
		out = append(out, taken)
	}
	return out, nil
}

// Settle ends or extends leases, see [queue.Store].
func (m *Memory) Settle(ctx context.Context, now time.Time, all []queue.Settlement) ([]bool, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	lost := make([]bool, len(all))
	for i, s := range all {
		at := slices.IndexFunc(m.jobs, func(j *live) bool { return j.ID == s.ID && j.running && j.Token == s.Token })
		if lost[i] = at < 0; !lost[i] {
			m.settle(milli(now), at, s)
		}
	}
	return lost, nil
}

func (m *Memory) settle(now time.Time, at int, s queue.Settlement) {
	j := m.jobs[at]
	switch s.Outcome {
	case queue.Extend:
		j.until = milli(s.At)
		return
	case queue.Again:
		j.running, j.until, j.LastError = false, milli(s.At), s.Reason
		m.wake()
		return
	case queue.Buries:
		m.dead = append(m.dead, queue.Buried{Claimed: j.Claimed, Reason: s.Reason, Died: now})
	case queue.Done:
		delete(m.ids, j.ID)
	}
	m.jobs = slices.Delete(m.jobs, at, at+1)
	if j.Key != "" {
		m.wake() // the next of the key
	}
}

// Due is when the next job can be claimed, see [queue.Store].
func (m *Memory) Due(ctx context.Context, kinds []string) (time.Time, error) {
	if err := ended(ctx); err != nil {
		return time.Time{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var first time.Time
	for _, j := range m.heads() {
		due := j.due()
		if due.IsZero() {
			due = time.UnixMilli(0) // at once
		}
		if slices.Contains(kinds, j.Kind) && (first.IsZero() || due.Before(first)) {
			first = due
		}
	}
	return first, nil
}

// Count counts jobs, see [queue.Store].
func (m *Memory) Count(ctx context.Context, now time.Time) (queue.Stats, error) {
	if err := ended(ctx); err != nil {
		return queue.Stats{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := queue.Stats{Dead: len(m.dead), Waiting: len(m.jobs)}
	for _, j := range m.heads() {
		switch {
		case j.claimable(milli(now)):
			s.Ready++
			if s.Oldest.IsZero() || j.EnqueuedAt.Before(s.Oldest) {
				s.Oldest = j.EnqueuedAt
			}
		case j.running:
			s.Running++
		}
	}
	s.Waiting -= s.Ready + s.Running
	return s, nil
}

// List lists dead letters, see [queue.Graveyard].
func (m *Memory) List(ctx context.Context, after string, n int) ([]queue.Buried, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	from := 1 + slices.IndexFunc(m.dead, func(b queue.Buried) bool { return b.ID == after })
	out := slices.Clone(m.dead[from:][:min(max(n, 0), len(m.dead)-from)])
	for i := range out {
		out[i].Payload = slices.Clone(out[i].Payload)
	}
	return out, nil
}

// Revive makes dead letters new jobs, see [queue.Graveyard].
func (m *Memory) Revive(ctx context.Context, now time.Time, ids []string) (bool, error) {
	if err := ended(ctx); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	isDead := func(id string) bool {
		return slices.ContainsFunc(m.dead, func(b queue.Buried) bool { return b.ID == id })
	}
	if slices.ContainsFunc(ids, func(id string) bool { return !isDead(id) }) {
		return false, nil
	}
	now = milli(now)
	for _, id := range ids {
		at := slices.IndexFunc(m.dead, func(b queue.Buried) bool { return b.ID == id })
		if at < 0 {
			continue // named twice
		}
		c := m.dead[at].Claimed
		c.Rank += now.Sub(c.EnqueuedAt).Milliseconds() // as much before now as its priority says
		c.EnqueuedAt, c.NotBefore, c.Expires = now, time.Time{}, time.Time{}
		c.Attempt, c.LastError = 0, ""
		m.jobs = append(m.jobs, &live{Claimed: c})
		m.dead = slices.Delete(m.dead, at, at+1)
	}
	m.wake()
	return true, nil
}

// Erase forgets dead letters, see [queue.Graveyard].
func (m *Memory) Erase(ctx context.Context, ids []string) error {
	if err := ended(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		m.forget(id, false)
	}
	return nil
}

// Cancel forgets jobs that don't run, see [queue.Canceler].
func (m *Memory) Cancel(ctx context.Context, _ time.Time, ids []string) ([]bool, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	done := make([]bool, len(ids))
	for i, id := range ids {
		done[i] = m.forget(id, true)
	}
	m.wake()
	return done, nil
}

// forget drops a dead letter, and a job that doesn't run where it may.
func (m *Memory) forget(id string, alive bool) bool {
	before := len(m.jobs) + len(m.dead)
	m.dead = slices.DeleteFunc(m.dead, func(b queue.Buried) bool { return b.ID == id })
	if alive {
		m.jobs = slices.DeleteFunc(m.jobs, func(j *live) bool { return j.ID == id && !j.running })
	}
	gone := len(m.jobs)+len(m.dead) < before
	if gone {
		delete(m.ids, id)
	}
	return gone
}

// Woken is closed at the next change, see [queue.Waker].
func (m *Memory) Woken() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.woken == nil {
		m.woken = make(chan struct{})
	}
	return m.woken
}

func (m *Memory) wake() {
	if m.woken != nil {
		close(m.woken)
		m.woken = nil
	}
}
