package sim

import (
	"maps"
	"net/http"
	"sync"
	"time"
)

// When is the moment at which a step cuts a request off.
type When int

// The moments. The zero value is never.
const (
	// BeforeActing: the request was read and nothing was done.
	BeforeActing When = iota + 1
	// AfterActing: what was asked for was done, and the caller isn't told.
	AfterActing
	// MidAnswer: status, header and half of the body of the answer are out.
	MidAnswer
)

// Step is what happens to one request. The zero value lets the provider act and answer as it would.
type Step struct {
	// Status answers with this status, Body and Header, and nothing is done.
	Status int
	Body   string
	// Header is added to the answer, also to the provider's own.
	Header http.Header
	// Acted lets the provider act before Status is answered: the error of a server that had already done the work.
	Acted bool
	// Delay comes before everything else. The request goes on after it though the caller may have gone.
	Delay time.Duration
	// Hang answers nothing until the caller gives up or the server closes.
	Hang When
	// Reset breaks the connection off: with a TCP reset under HTTP/1.1, with a reset of the stream under HTTP/2.
	Reset When
	// Malformed lets the provider act, and answers its success with a body that breaks off in the middle of the JSON.
	Malformed bool
}

const malformedBody = `{"id":"01HZ","status":`

// reshape turns the provider's reply into what the step answers.
func (s Step) reshape(reply Reply) Reply {
	if reply.Status == 0 {
		reply.Status = http.StatusOK
	}
	if s.Malformed && reply.Status < 300 {
		reply.Body = malformedBody
	}
	if s.Status != 0 {
		reply = Reply{Status: s.Status, Body: s.Body}
	}
	header := http.Header{}
	maps.Copy(header, reply.Header)
	maps.Copy(header, s.Header)
	reply.Header = header
	return reply
}

// Script decides what happens to the requests to come. The zero value lets all of them through. It's safe for
// concurrent use.
type Script struct {
	mu     sync.Mutex
	queued []Step
	always Step
}

// Next queues steps for the coming requests, one each, after those already queued.
func (s *Script) Next(steps ...Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued = append(s.queued, steps...)
}

// Always sets what happens to every request for which nothing is queued.
func (s *Script) Always(step Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.always = step
}

// Heal drops the queued and the standing steps. What already hangs goes on hanging.
func (s *Script) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued, s.always = nil, Step{}
}

func (s *Script) take() Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queued) == 0 {
		return s.always
	}
	step := s.queued[0]
	s.queued = s.queued[1:]
	return step
}
