package payment

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// MemoryJournal is a Journal of one process, which forgets everything with it:
// for tests, and for a Client of one provider. The zero value is ready.
type MemoryJournal struct {
	// AssumeDurable makes a Client with a backup take it, for tests.
	AssumeDurable bool

	mu      sync.Mutex
	entries map[Key]*Entry
	ids     map[ProviderID]Key
}

var errNoEntry = errors.New("payment: the journal has no such order")

// Update changes one entry, see [Journal]. Others wait.
func (j *MemoryJournal) Update(ctx context.Context, k Key, change func(context.Context, *Entry) error) (*Entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, fault.New(fault.Unavailable, err)
	}
	e := &Entry{Key: k}
	if have, ok := j.entries[k]; ok {
		e = have.Clone()
	}
	if err := change(ctx, e); err != nil {
		return nil, err
	}
	e.Key, e.Version = k, e.Version+1
	if j.entries == nil {
		j.entries, j.ids = map[Key]*Entry{}, map[ProviderID]Key{}
	}
	j.entries[k] = e.Clone()
	for _, id := range e.IDs() {
		j.ids[id] = k
	}
	return e, nil
}

// Entry is the entry as it stands, see [Journal].
func (j *MemoryJournal) Entry(_ context.Context, k Key) (*Entry, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.entries[k]
	if !ok {
		return nil, fault.New(fault.NotFound, errNoEntry)
	}
	return e.Clone(), nil
}

// Find is the key of the entry with that id, see [Journal].
func (j *MemoryJournal) Find(_ context.Context, id ProviderID) (Key, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	k, ok := j.ids[id]
	if !ok {
		return Key{}, fault.New(fault.NotFound, errNoEntry)
	}
	return k, nil
}

// Due lists what needs looking after, see [Journal].
func (j *MemoryJournal) Due(_ context.Context, until time.Time, n int) ([]Key, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var due []*Entry
	for _, e := range j.entries {
		if !e.Due.IsZero() && !e.Due.After(until) {
			due = append(due, e)
		}
	}
	slices.SortFunc(due, func(a, b *Entry) int {
		return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.Key.Tenant, b.Key.Tenant), cmp.Compare(a.Key.Order, b.Key.Order))
	})
	keys := make([]Key, 0, min(n, len(due)))
	for _, e := range due[:min(n, len(due))] {
		keys = append(keys, e.Key)
	}
	return keys, nil
}

// Durable is what AssumeDurable says.
func (j *MemoryJournal) Durable() bool { return j.AssumeDurable }
