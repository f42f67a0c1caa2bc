package email_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/secret"
)

func TestTheProviderOfTheExampleConforms(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject {
		far := new(acmeServer)
		far.heal()
		srv := httptest.NewServer(far)
		t.Cleanup(srv.Close)
		return emailtest.Subject{
			Sender: Acme{Key: secret.Literal(acmeKey), BaseURL: srv.URL, HTTPClient: srv.Client()},
			Name:   "acme", Secrets: []string{acmeKey}, Lacks: []emailtest.Feature{emailtest.SendAt},
			Sent: far.sent, Break: far.fail, Heal: far.heal,
		}
	})
}

const (
	acmeKey = "acme-key-1"
	none    = emailtest.Trouble(-1)
)

// acmeServer is the far side of the wire: it takes mails, or is in trouble.
type acmeServer struct {
	trouble atomic.Int64

	mu    sync.Mutex
	mails []*email.Message
}

// fail begins a trouble, unless it is one that a server can't have.
func (s *acmeServer) fail(t emailtest.Trouble) bool {
	s.trouble.Store(int64(t))
	return t != emailtest.Unreachable
}

func (s *acmeServer) heal() { s.trouble.Store(int64(none)) }

func (s *acmeServer) take(m *email.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, m)
}

func (s *acmeServer) sent() []*email.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

func (s *acmeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var m email.Message
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		panic(http.ErrAbortHandler) // the caller left
	}
	switch emailtest.Trouble(s.trouble.Load()) {
	case emailtest.ServerError:
		w.WriteHeader(http.StatusInternalServerError)
	case emailtest.Throttled:
		acmeRefuses(w, http.StatusTooManyRequests, "too_fast")
	case emailtest.BadCredentials:
		acmeRefuses(w, http.StatusForbidden, "bad_key")
	case emailtest.Blocked:
		acmeRefuses(w, http.StatusBadRequest, "bad_words")
	case emailtest.Hang:
		<-r.Context().Done() // until the caller has gone
	case emailtest.Reset:
		panic(http.ErrAbortHandler)
	case emailtest.ResetAfter:
		s.take(&m)
		panic(http.ErrAbortHandler)
	case emailtest.Garbled:
		s.take(&m)
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"id": `)
	case emailtest.Slow:
		time.Sleep(150 * time.Millisecond)
		fallthrough
	default:
		s.take(&m)
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, `{"id": %q}`, "acme-"+m.ID)
	}
}

func acmeRefuses(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Retry-After", "7")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error": %q, "text": %q}`, code, emailtest.Quote(acmeKey))
}
