// Package resend simulates Resend's email API (POST /emails) on a loopback port: it refuses what Resend's documents say
// Resend refuses, in Resend's shape, keeps what it accepted, and sends nothing twice under one idempotency key.
//
//	rs := resend.New(resend.Config{Key: "re_test"})
//	defer rs.Close()
//	rs.Next(sim.Step{Reset: sim.AfterActing})
//	// … send twice through rs.URL, with one Idempotency-Key …
//	rs.Mails.Len() // 1
//
// Comments name the rules' sources, pages of Resend's documentation: "Send Email", "Errors", "Introduction" and "Usage
// Limits" of the API reference; "Idempotency Keys", "Tags", "Attachments" and "Schedule Email" of the guides; "Unsupported
// attachments" of the knowledge base.
package resend

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

// Config says whom the simulator knows.
type Config struct {
	// Key is the API key that is let in. An empty one lets nobody in.
	Key string
	// HTTP2 serves HTTP/2 over TLS, which only [sim.Server.Client] trusts.
	HTTP2 bool
	// Now is the clock for scheduled_at and for keys; nil is time.Now.
	Now func() time.Time
}

// Sim is a running simulator. It's safe for concurrent use.
type Sim struct {
	*sim.Server
	// Mails are those accepted, by the tag [sim.IDKey].
	Mails sim.Ledger[sim.Mail]

	key atomic.Pointer[string]
	now func() time.Time

	mu   sync.Mutex
	keys map[string]entry
}

// entry is what an idempotency key stands for.
type entry struct {
	hash     [sha256.Size]byte // of the request's body
	answer   string            // empty while the request is in progress
	at       time.Time
	replayed int
}

// Path of the one operation that there is.
const Path = "/emails"

const (
	maxBody   = 40 << 20       // Attachments: 40 MB an email, after base64; here it's MiB of JSON.
	maxKey    = 256            // Idempotency Keys: characters.
	keptFor   = 24 * time.Hour // Idempotency Keys.
	keyHeader = "Idempotency-Key"
)

// New starts a simulator; Close ends it.
func New(cfg Config) *Sim {
	s := &Sim{now: cfg.Now, keys: map[string]entry{}}
	if s.now == nil {
		s.now = time.Now
	}
	s.SetKey(cfg.Key)
	s.Server = sim.NewServer(sim.Config{HTTP2: cfg.HTTP2, MaxBody: maxBody}, s.serve)
	return s
}

// SetKey replaces the API key that is let in, as a rotation does.
func (s *Sim) SetKey(key string) { s.key.Store(&key) }

// Hold makes a request under an idempotency key be in progress until release.
func (s *Sim) Hold(key string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[key] = entry{at: s.now()}
	return func() { s.forget(key) }
}

// Replayed is how often an idempotency key got the answer of its first request again.
func (s *Sim) Replayed(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[key].replayed
}

func (s *Sim) serve(r *http.Request, body []byte) sim.Reply {
	if refusal, ok := s.admit(r, len(body)); !ok {
		return refusal
	}
	key, given := r.Header.Get(keyHeader), len(r.Header.Values(keyHeader)) > 0
	if given && (key == "" || len(key) > maxKey) {
		return failure(http.StatusBadRequest, "invalid_idempotency_key", "Idempotency keys, if present, must have between 1 and 256 characters.")
	}
	if given {
		if known, ok := s.begin(key, sha256.Sum256(body)); ok {
			return known
		}
	}
	reply := s.judge(body, key)
	if given && reply.Act == nil { // Idempotency Keys: whether an email "has already been sent"
		s.forget(key)
	}
	return reply
}

// begin notes that a request is in progress, unless the key is known: then it's the answer (Idempotency Keys, Possible
// responses).
func (s *Sim) begin(key string, hash [sha256.Size]byte) (sim.Reply, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	e, ok := s.keys[key]
	switch {
	case !ok || now.Sub(e.at) >= keptFor:
		s.keys[key] = entry{hash: hash, at: now}
		return sim.Reply{}, false
	case e.answer == "":
		return failure(http.StatusConflict, "concurrent_idempotent_requests", "There is another request in progress with the same idempotency key."), true
	case e.hash != hash:
		return failure(http.StatusConflict, "invalid_idempotent_request", "This idempotency key has been used with this HTTP method and endpoint "+
			"within the last 24 hours, but the request body was modified and doesn't match the original request."), true
	}
	e.replayed++
	s.keys[key] = e
	return sim.Reply{Body: e.answer}, true
}

func (s *Sim) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, key)
}

func (s *Sim) done(key, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.keys[key]; ok {
		e.answer = answer
		s.keys[key] = e
	}
}

// admit checks what doesn't need the body (Introduction; Errors).
func (s *Sim) admit(r *http.Request, size int) (sim.Reply, bool) {
	switch key := *s.key.Load(); {
	case r.Header.Get("User-Agent") == "":
		return sim.Reply{Status: http.StatusForbidden, Body: "error code: 1010"}, false
	case r.URL.Path != Path:
		return failure(http.StatusNotFound, "not_found", "The requested endpoint does not exist."), false
	case r.Method != http.MethodPost:
		return failure(http.StatusMethodNotAllowed, "method_not_allowed", "Method is not allowed for the requested path."), false
	case r.Header.Get("Authorization") == "":
		return failure(http.StatusUnauthorized, "missing_api_key", "Missing API key in the authorization header."), false
	case key == "" || r.Header.Get("Authorization") != "Bearer "+key:
		return failure(http.StatusForbidden, "invalid_api_key", "API key is invalid."), false
	case size > maxBody:
		return failure(http.StatusRequestEntityTooLarge, "validation_error", "The email is too large."), false
	}
	return sim.Reply{}, true
}

func (s *Sim) judge(body []byte, key string) sim.Reply {
	var req request
	if err := json.Unmarshal(body, &req); err != nil {
		return failure(http.StatusBadRequest, "validation_error", "The request body is not valid JSON.")
	}
	if p := req.check(s.now()); p != nil {
		return failure(p.status, p.name, p.message)
	}
	m := req.mail()
	m.ProviderID, m.Key = uuid(), key
	answer := fmt.Sprintf(`{"id":%q}`, m.ProviderID) // Send Email, Response
	return sim.Reply{Body: answer, Act: func() {
		if !req.dropped() {
			s.Mails.Add(m.ID, m)
		}
		s.done(key, answer)
	}}
}

func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func failure(status int, name, message string) sim.Reply {
	out, _ := json.Marshal(map[string]any{"statusCode": status, "name": name, "message": message}) //nolint:errchkjson // strings and a number can't fail
	return sim.Reply{Status: status, Body: string(out)}
}

// Error is the step that answers status with Resend's error body, and does nothing.
func Error(status int, name, message string) sim.Step {
	r := failure(status, name, message)
	return sim.Step{Status: r.Status, Body: r.Body}
}

// RateLimited is the step that answers 429 for so long, in whole seconds (Usage Limits, Response Headers).
func RateLimited(wait time.Duration) sim.Step {
	step := Error(http.StatusTooManyRequests, "rate_limit_exceeded", "Too many requests.")
	seconds := strconv.Itoa(int(wait / time.Second))
	step.Header = http.Header{"Ratelimit-Limit": {"10"}, "Ratelimit-Remaining": {"0"}, "Ratelimit-Reset": {seconds}, "Retry-After": {seconds}}
	return step
}
