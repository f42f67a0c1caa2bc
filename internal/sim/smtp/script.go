package smtp

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

// The moments of a conversation that are no commands.
const (
	Connect = "CONNECT" // before the greeting
	TLS     = "TLS"     // before the handshake, which can hang or break off
	End     = "END"     // after the dot that ends a message
)

// Step is what happens at one moment of a conversation.
type Step struct {
	// At is a command such as "MAIL", or Connect, TLS or End.
	At string
	// For narrows MAIL and RCPT to an address that holds this.
	For string
	// Reply is the whole reply line, such as "451 4.3.0 try later", and nothing is done. After a 421 the server closes.
	Reply string
	// Acted lets the server act before Reply.
	Acted bool
	// Delay comes before everything else.
	Delay time.Duration
	// Hang answers nothing until the caller gives up or the server closes.
	Hang bool
	// Drop breaks the connection off, before or after acting, without a reply.
	Drop sim.When
}

// Script decides what happens at the moments to come, and counts them. The zero value lets everything pass. It's safe for concurrent use.
type Script struct {
	mu     sync.Mutex
	queued []Step
	always []Step
	came   map[string]int
}

// Next queues steps, each for the next moment that it fits.
func (s *Script) Next(steps ...Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued = append(s.queued, steps...)
}

// Always adds steps for every moment that they fit, until Heal.
func (s *Script) Always(steps ...Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.always = append(s.always, steps...)
}

// Heal drops all steps. What already hangs goes on hanging.
func (s *Script) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued, s.always = nil, nil
}

// Came is how often a moment came: a command was said, a message ended, a caller connected.
func (s *Script) Came(at string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.came[at]
}

func (s *Script) take(at, arg string) Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.came == nil {
		s.came = map[string]int{}
	}
	s.came[at]++
	fits := func(step Step) bool { return step.At == at && strings.Contains(arg, step.For) }
	if i := slices.IndexFunc(s.queued, fits); i >= 0 {
		step := s.queued[i]
		s.queued = slices.Delete(s.queued, i, i+1)
		return step
	}
	if i := slices.IndexFunc(s.always, fits); i >= 0 {
		return s.always[i]
	}
	return Step{}
}
