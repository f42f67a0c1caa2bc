// Package sendgrid simulates SendGrid's mail API (POST /v3/mail/send) on a loopback port: it refuses what SendGrid's
// documents say SendGrid refuses, in SendGrid's words and shape, and keeps what it accepted.
//
//	sg := sendgrid.New(sendgrid.Config{Key: "SG.test"})
//	defer sg.Close()
//	sg.Next(sendgrid.RateLimited(time.Now().Add(time.Minute)))
//	// … send through sg.URL …
//	sg.Mails.All()
//
// Comments name the rules' sources: "Mail Send reference" is SendGrid's v3 OpenAPI description of the operation, "Mail
// Send errors" and "Mail Send limitations" are the pages of those names in its v3 API reference.
package sendgrid

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/smilefactory/integrations/internal/sim"
)

// Config says whom the simulator knows.
type Config struct {
	// Key is the API key that is let in. An empty one lets nobody in.
	Key string
	// HTTP2 serves HTTP/2 over TLS, which only [sim.Server.Client] trusts.
	HTTP2 bool
	// Now is the clock for send_at; nil is time.Now.
	Now func() time.Time
}

// Sim is a running simulator. It's safe for concurrent use.
type Sim struct {
	*sim.Server
	// Mails are those accepted, by the custom argument [sim.IDKey]; one for each personalization.
	Mails sim.Ledger[sim.Mail]

	key atomic.Pointer[string]
	now func() time.Time
}

// Path of the one operation that there is.
const Path = "/v3/mail/send"

// maxBody: a mail, attachments included, must be less than 30 MB (Mail Send limitations). The page doesn't say whether
// a MB is a power of ten, nor whether the mail or its JSON is measured; here it's 30 MiB of JSON.
const maxBody = 30 << 20

// New starts a simulator; Close ends it.
func New(cfg Config) *Sim {
	s := &Sim{now: cfg.Now}
	if s.now == nil {
		s.now = time.Now
	}
	s.SetKey(cfg.Key)
	s.Server = sim.NewServer(sim.Config{HTTP2: cfg.HTTP2, MaxBody: maxBody}, s.serve)
	return s
}

// SetKey replaces the key that is let in, as a rotation does.
func (s *Sim) SetKey(key string) { s.key.Store(&key) }

func (s *Sim) serve(r *http.Request, body []byte) sim.Reply {
	if refusal, ok := s.admit(r); !ok {
		return refusal
	}
	body, refusal, ok := payload(r.Header, body)
	if !ok {
		return refusal
	}
	var req request
	if err := json.Unmarshal(body, &req); err != nil {
		return failure(http.StatusBadRequest, "Bad Request")
	}
	if problems := req.check(s.now()); len(problems) > 0 {
		return refuse(http.StatusBadRequest, problems...)
	}
	return s.accept(r, req)
}

// admit checks what doesn't need the body.
func (s *Sim) admit(r *http.Request) (sim.Reply, bool) {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch key := *s.key.Load(); {
	case r.URL.Path != Path:
		return failure(http.StatusNotFound, "not found"), false
	case r.Method != http.MethodPost:
		return failure(http.StatusMethodNotAllowed, "POST method allowed only"), false
	case key == "" || r.Header.Get("Authorization") != "Bearer "+key:
		return failure(http.StatusUnauthorized, "The provided authorization grant is invalid, expired, or revoked"), false
	case mediaType != "application/json":
		return failure(http.StatusUnsupportedMediaType, "Content-Type should be application/json."), false
	}
	return sim.Reply{}, true
}

// payload unpacks the body, which may be gzipped (Mail Send overview, Mail body compression).
func payload(h http.Header, body []byte) ([]byte, sim.Reply, bool) {
	if h.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, failure(http.StatusBadRequest, "Bad Request"), false
		}
		if body, err = io.ReadAll(io.LimitReader(z, maxBody)); err != nil {
			return nil, failure(http.StatusBadRequest, "Bad Request"), false
		}
	}
	if len(body) >= maxBody {
		return nil, failure(http.StatusRequestEntityTooLarge, "content too large"), false
	}
	if !utf8.Valid(body) { // Mail Send errors, Encoding Errors.
		return nil, failure(http.StatusUnsupportedMediaType, "Invalid UTF8 in request"), false
	}
	return body, sim.Reply{}, true
}

// accept answers 202 for a real send and 200 for one in the sandbox, which isn't done (Mail Send errors, status 200).
func (s *Sim) accept(r *http.Request, req request) sim.Reply {
	if req.MailSettings.SandboxMode.Enable {
		return sim.Reply{Status: http.StatusOK}
	}
	id := rand.Text()
	mails := req.mails(id, r.Header.Get("Idempotency-Key"))
	return sim.Reply{
		Status: http.StatusAccepted,
		Header: http.Header{"X-Message-Id": {id}},
		Act: func() {
			for _, m := range mails {
				s.Mails.Add(m.ID, m)
			}
		},
	}
}
