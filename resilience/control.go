package resilience

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// ErrDrained is the cause of a refusal by a provider that was taken out of
// service with [Control.Drain].
var ErrDrained = errors.New("taken out of service")

// Mode says whether a provider's own breaker rules, or somebody's hand.
type Mode uint32

const (
	// Automatic is the zero value: the breaker rules.
	Automatic Mode = iota
	// ForcedOpen refuses every call, as an open breaker does.
	ForcedOpen
	// ForcedClosed lets every call through, whatever the breaker and a pause say,
	// and counts nothing. Limits still hold.
	ForcedClosed
	// Drained takes no new call but those that are pinned to the provider: a
	// second step belongs to the provider of the first.
	Drained
	modes
)

var modeNames = [modes]string{"automatic", "forced open", "forced closed", "drained"}

// String is the mode in words.
func (m Mode) String() string {
	if m < modes {
		return modeNames[m]
	}
	return fmt.Sprintf("mode %d", uint32(m))
}

// Control is what of a Group doesn't depend on its providers' type: it shows
// their state and changes it at run time. Providers are named by their path,
// "eu/ses" for one in a Group inside the Group. It is safe for concurrent use.
type Control struct {
	policy    atomic.Pointer[Policy]
	members   []*member
	observers []Observer
	starters  []Starter
	injectors []Injector
	turn      atomic.Uint64 // of RoundRobin
}

// controlled is a Client that shows the Control of its Group.
type controlled interface{ Control() *Control }

// find is the member of that path.
func (g *Control) find(path string) (*member, error) {
	if m := g.search(path); m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("resilience: there is no provider %q", path)
}

func (g *Control) search(path string) *member {
	first, rest, nested := strings.Cut(path, "/")
	for _, m := range g.members {
		if m.name != first {
			continue
		}
		if !nested {
			return m
		}
		if in, ok := m.inner.(controlled); ok {
			return in.Control().search(rest)
		}
	}
	return nil
}

// Switch changes a provider's mode.
func (g *Control) Switch(path string, mode Mode) error {
	m, err := g.find(path)
	switch {
	case err != nil:
		return err
	case mode >= modes:
		return fmt.Errorf("resilience: there is no %v", mode)
	}
	m.mode.Store(uint32(mode))
	return nil
}

// Drain takes a provider out of service and waits until its last attempt has
// ended, bodies and streams included, or ctx ends. Switch with Automatic brings
// it back.
func (g *Control) Drain(ctx context.Context, path string) error {
	m, err := g.find(path)
	if err != nil {
		return err
	}
	m.mode.Store(uint32(Drained))
	select {
	case <-m.whenIdle():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("resilience: %d attempts at %q are still running: %w", m.inFlight.Load(), path, ctx.Err())
	}
}

func (m *member) whenIdle() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.idle == nil {
		m.idle = make(chan struct{})
	}
	idle := m.idle
	if m.inFlight.Load() == 0 {
		close(idle)
		m.idle = nil
	}
	return idle
}

func (m *member) wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.idle != nil {
		close(m.idle)
		m.idle = nil
	}
}

// Warn tells a provider's breaker that others have seen it fail: for that long
// it opens after half as many failures. An unknown provider is ignored.
func (g *Control) Warn(path string, d time.Duration) {
	if m, err := g.find(path); err == nil && d > 0 {
		raise(&m.warnedUntil, int64(time.Since(m.base)+d))
	}
}

// SetPolicy puts another policy in force for all providers, also for those that
// had one of their own. The state stays: what is open or paused stays so for as
// long as it would have, attempts that run keep their slots; a breaker's counts
// begin anew. Groups inside the Group keep theirs.
func (g *Control) SetPolicy(p Policy) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if err := g.checkWeights(p); err != nil {
		return err
	}
	g.policy.Store(&p)
	for _, m := range g.members {
		if m.inner == nil {
			m.setPolicy(p)
		}
	}
	return nil
}

func (g *Control) checkWeights(p Policy) error {
	total := 0
	for name, w := range p.Weights {
		if _, err := g.find(name); err != nil || strings.Contains(name, "/") {
			return fmt.Errorf("resilience: policy: Weights names %q, which is no member", name)
		}
		total += w
	}
	if p.Route == Weighted && total == 0 {
		return errors.New("resilience: policy: Route is Weighted, and no member has a weight")
	}
	return nil
}

// Snapshot is the state of a provider that a new process should start from. It
// is fit for JSON.
type Snapshot struct {
	Name string `json:"name"`
	// OpenUntil and PausedUntil are instants; zero where it is neither.
	OpenUntil   time.Time `json:"open_until,omitzero"`
	PausedUntil time.Time `json:"paused_until,omitzero"`
	Mode        Mode      `json:"mode,omitempty"`
}

// Snapshot is the state of every provider that isn't as a new one would be.
func (g *Control) Snapshot() []Snapshot {
	var all []Snapshot
	for _, m := range g.members {
		if in, ok := m.inner.(controlled); ok {
			for _, s := range in.Control().Snapshot() {
				s.Name = m.prefix + s.Name
				all = append(all, s)
			}
		}
		s := Snapshot{Name: m.name, Mode: Mode(m.mode.Load())}
		s.OpenUntil, s.PausedUntil = m.instant(m.openUntil.Load()), m.instant(m.pausedUntil.Load())
		if s.PausedUntil.Before(time.Now()) {
			s.PausedUntil = time.Time{}
		}
		if s != (Snapshot{Name: m.name}) {
			all = append(all, s)
		}
	}
	return all
}

func (m *member) instant(at int64) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return m.base.Add(time.Duration(at)).Round(0) // without the monotonic clock, which another process hasn't
}

// Restore takes over a Snapshot: a breaker whose time has passed is half-open,
// one that is open stays so for the rest of it, but never longer than its policy
// would keep it. Names that are not here are ignored.
func (g *Control) Restore(all []Snapshot) {
	now := time.Now()
	for _, s := range all {
		m, err := g.find(s.Name)
		if err != nil {
			continue
		}
		if s.Mode < modes {
			m.mode.Store(uint32(s.Mode))
		}
		if d := s.PausedUntil.Sub(now); d > 0 {
			m.pause(now, min(d, maxPause))
		}
		if b := m.policy().Breaker; b.on() && !s.OpenUntil.IsZero() {
			m.reopen(min(s.OpenUntil.Sub(now), b.OpenFor+time.Duration(b.Jitter*float64(b.OpenFor))))
		}
	}
}

// reopen is an open breaker for that long, or a half-open one where that is past.
func (m *member) reopen(d time.Duration) {
	m.openUntil.Store(max(int64(time.Since(m.base)+d), 1))
	m.setPolicy(*m.policy())
}
