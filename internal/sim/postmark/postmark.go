// Package postmark simulates Postmark's email API (POST /email) on a loopback port: it refuses what Postmark's documents
// say Postmark refuses, in Postmark's shape, and keeps what it accepted.
//
//	pm := postmark.New(postmark.Config{Token: "pm-test"})
//	defer pm.Close()
//	pm.Suppress("gone@example.org")
//	// … send through pm.URL …
//	pm.Mails.All()
//
// Comments name the rules' sources: "Overview" is the developer documentation's API overview with its table of error
// codes, "Email API" its page on POST /email, "User guide" its pages on sending with the API and with SMTP, "Size limits"
// and "Custom metadata" the support center's articles of those names. Postmark documents few of its texts; those of ours
// that a client might read are its libraries' (ActiveCampaign/postmark.js, postmark-gem and postmark-php).
package postmark

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

// Config says whom the simulator knows.
type Config struct {
	// Token is the server token that is let in. An empty one lets nobody in.
	Token string
	// Streams are the message streams beside the default one, "outbound".
	Streams []string
	// HTTP2 serves HTTP/2 over TLS, which only [sim.Server.Client] trusts.
	HTTP2 bool
}

// Sim is a running simulator. It's safe for concurrent use.
type Sim struct {
	*sim.Server
	// Mails are those accepted, by the metadata [sim.IDKey]. Suppressed recipients aren't in them.
	Mails sim.Ledger[sim.Mail]
	// Taken are the requests of the mails accepted, by the same key.
	Taken sim.Ledger[Request]

	token   atomic.Pointer[string]
	streams []string

	mu         sync.Mutex
	suppressed []string // in lower case
}

// Path of the one operation that there is.
const Path = "/email"

// maxBody: 10 MB, attachments included, measured after base64 (Size limits). The page doesn't say whether a MB is a power
// of ten, nor whether the mail or its JSON is measured; here it's 10 MiB of JSON.
const maxBody = 10 << 20

// New starts a simulator; Close ends it.
func New(cfg Config) *Sim {
	s := &Sim{streams: append([]string{"outbound"}, cfg.Streams...)}
	s.SetToken(cfg.Token)
	s.Server = sim.NewServer(sim.Config{HTTP2: cfg.HTTP2, MaxBody: maxBody}, s.serve)
	return s
}

// SetToken replaces the token that is let in, as a rotation does.
func (s *Sim) SetToken(token string) { s.token.Store(&token) }

// Suppress makes these recipients inactive, as a hard bounce does.
func (s *Sim) Suppress(addresses ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range addresses {
		s.suppressed = append(s.suppressed, strings.ToLower(a))
	}
}

func (s *Sim) inactive(address string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.suppressed, strings.ToLower(address))
}

func (s *Sim) serve(r *http.Request, body []byte) sim.Reply {
	if refusal, ok := s.admit(r, len(body)); !ok {
		return refusal
	}
	if !json.Valid(body) { // Overview: 402.
		return failure(http.StatusUnprocessableEntity, 402, "Invalid JSON.")
	}
	var req Request
	if err := json.Unmarshal(body, &req); err != nil { // Overview: 403, a field of another type.
		return failure(http.StatusUnprocessableEntity, 403, "Invalid request field(s).")
	}
	if p := s.check(req); p != nil {
		return failure(http.StatusUnprocessableEntity, p.code, p.message)
	}
	return s.accept(req)
}

// admit checks what doesn't need the body (Overview, HTTP response codes).
func (s *Sim) admit(r *http.Request, size int) (sim.Reply, bool) {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch token := *s.token.Load(); {
	case r.URL.Path != Path || r.Method != http.MethodPost:
		return sim.Reply{Status: http.StatusNotFound}, false
	case token == "" || !strings.EqualFold(r.Header.Get("X-Postmark-Server-Token"), token): // "name and value are case insensitive"
		return failure(http.StatusUnauthorized, 10, "The Server Token you provided in the X-Postmark-Server-Token request header was invalid."), false
	case mediaType != "application/json" || r.Header.Get("Accept") != "application/json":
		return sim.Reply{Status: http.StatusUnsupportedMediaType}, false
	case size > maxBody:
		return sim.Reply{Status: http.StatusRequestEntityTooLarge}, false
	}
	return sim.Reply{}, true
}

// accept answers 406 where every recipient is inactive, and names those that are where some are.
func (s *Sim) accept(req Request) sim.Reply {
	m := req.mail()
	var gone []string
	active := 0
	for _, list := range []*[]address{&m.To, &m.Cc, &m.Bcc} {
		*list = slices.DeleteFunc(*list, func(a address) bool {
			if !s.inactive(a.Address) {
				active++
				return false
			}
			gone = append(gone, strings.ToLower(a.Address)) // as postmark.js and django-anymail expect it
			return true
		})
		if len(*list) == 0 {
			*list = nil
		}
	}
	list := strings.Join(gone, ", ")
	if active == 0 {
		return failure(http.StatusUnprocessableEntity, 406, "You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses: "+list+
			". Inactive recipients are ones that have generated a hard bounce, a spam complaint, or a manual suppression.")
	}
	message := "OK"
	if len(gone) > 0 {
		message = "Message OK, but will not deliver to these inactive addresses: " + list + ". Inactive recipients are ones that have generated a hard bounce, a spam complaint, or a manual suppression."
	}
	m.ProviderID = uuid()
	out, _ := json.Marshal(map[string]any{ //nolint:errchkjson // strings and numbers alone can't fail
		"To": req.To, "SubmittedAt": time.Now().Format("2006-01-02T15:04:05.0000000-07:00"), "MessageID": m.ProviderID, "ErrorCode": 0, "Message": message,
	})
	return sim.Reply{Body: string(out), Act: func() {
		s.Mails.Add(m.ID, m)
		s.Taken.Add(m.ID, req)
	}}
}

func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// failure has the code in the body and, the same, in a header (Overview, API error codes).
func failure(status, code int, message string) sim.Reply {
	out, _ := json.Marshal(map[string]any{"ErrorCode": code, "Message": message}) //nolint:errchkjson // strings and numbers alone can't fail
	return sim.Reply{Status: status, Body: string(out), Header: http.Header{"X-PM-ApiErrorCode": {strconv.Itoa(code)}}}
}

// Error is the step that answers status with Postmark's error body, and does nothing.
func Error(status, code int, message string) sim.Step {
	r := failure(status, code, message)
	return sim.Step{Status: r.Status, Header: r.Header, Body: r.Body}
}
