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
	policy  atomic.Pointer[Policy]
	members []*member
	watch   *watchers
	whole   *Control      // that it is a part of
	turn    atomic.Uint64 // of RoundRobin
}

// controlled is a Client that shows the Control of its Group, grouped what embeds
// one.
type (
	controlled interface{ Control() *Control }
	grouped    interface{ control() *Control }
)

func (g *Control) control() *Control { return g }

// PartOf makes the Group one of many that are one provider to whoever is around
// them, as those of a transport are that has one for each host. Whole is the
// Control that this provider shows, and may be the zero value. It must be called
// before the first call.
func (g *Control) PartOf(whole *Control) { g.whole = whole }

func (g *Control) identity() *Control {
	if g.whole != nil {
		return g.whole
	}
	return g
}

// Members names the providers in order of preference, each a path for [Pin]. One
// that is made of providers is one here; [Control.Inspect] shows what it is made of.
func (g *Control) Members() []string {
	names := make([]string, 0, len(g.members))
	for _, m := range g.members {
		names = append(names, m.name)
	}
	return names
}

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
		if m.inner.is() {
			return m.inner.search(rest)
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
	if m.idle == nil {
		m.idle = make(chan struct{})
	}
	idle := m.idle
	m.draining.Store(true)
	m.mu.Unlock()
	if m.inFlight.Load() == 0 {
		m.wake()
	}
	return idle
}

func (m *member) wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.idle != nil {
		close(m.idle)
		m.idle = nil
		m.draining.Store(false)
	}
}

// Warn tells a provider's breaker that others have seen it fail: for that long
// it opens after half as many failures. An unknown provider is ignored.
func (g *Control) Warn(path string, d time.Duration) {
	if m, err := g.find(path); err == nil && d > 0 {
		storeMax(&m.warnedUntil, int64(time.Since(m.base)+min(d, longest)))
	}
}

// SetPolicy puts another policy in force for all providers, also for those that
// had one of their own. The state stays: what is open or paused stays so for as
// long as it would have, attempts that run keep their slots. A breaker's counts
// begin anew where its policy is another. Groups inside the Group keep theirs.
func (g *Control) SetPolicy(p Policy) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if err := g.checkWeights(p); err != nil {
		return err
	}
	own := p.owned()
	g.policy.Store(&own)
	for _, m := range g.members {
		if !m.inner.is() {
			m.setPolicy(own)
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
	// Class is that of the breaker which OpenUntil is of; the rest is the
	// provider's, and stands where Class is empty.
	Class string `json:"class,omitempty"`
	// OpenUntil and PausedUntil are instants; zero where it is neither.
	OpenUntil   time.Time `json:"open_until,omitzero"`
	PausedUntil time.Time `json:"paused_until,omitzero"`
	Mode        Mode      `json:"mode,omitempty"`
}

// Snapshot is the state of every provider that isn't as a new one would be.
func (g *Control) Snapshot() []Snapshot {
	var all []Snapshot
	for _, m := range g.members {
		if m.inner.is() {
			for _, s := range m.inner.Snapshot() {
				s.Name = m.prefix + s.Name
				all = append(all, s)
			}
		}
		for i, b := range *m.breakers.Load() {
			s := Snapshot{Name: m.name, Class: b.class, OpenUntil: m.instant(b.openUntil.Load())}
			if i == 0 {
				s.Mode = Mode(m.mode.Load())
				if until := m.instant(m.pausedUntil.Load()); until.After(time.Now()) {
					s.PausedUntil = until
				}
			}
			if s != (Snapshot{Name: m.name, Class: b.class}) {
				all = append(all, s)
			}
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
		if s.Mode < modes && s.Class == "" {
			m.mode.Store(uint32(s.Mode))
		}
		if d := s.PausedUntil.Sub(now); d > 0 {
			storeMax(&m.pausedUntil, int64(now.Sub(m.base)+min(d, maxPause+maxPause/10)))
		}
		if p := m.policy().Breaker; p.on() && !s.OpenUntil.IsZero() {
			m.reopen(s.Class, min(s.OpenUntil.Sub(now), p.OpenFor+time.Duration(p.Jitter*float64(p.OpenFor))))
		}
	}
}
