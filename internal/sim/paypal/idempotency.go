package paypal

import (
	"crypto/sha256"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/smilefactory/integrations/internal/sim"
)

// How long PayPal-Request-Id is kept.
const (
	orderRetention   = 6 * time.Hour       // Orders v2 specification, parameter paypal_request_id.
	paymentRetention = 45 * 24 * time.Hour // Payments v2 specification, likewise.
	vaultRetention   = 3 * time.Hour       // Payment Method Tokens v3 specification, likewise.
)

// maxOrderID is how long the id of an order's request may be (Orders v2 specification, parameter paypal_request_id).
const maxOrderID = 108

// recorded is what is kept under a request id. The id belongs to the caller and the operation: whether it also belongs
// to the resource in the path is unverified, and a caller that uses one id for two orders is told of the first here.
type recorded struct {
	since time.Time
	sum   [sha256.Size]byte // of path and body
	done  bool
	ok    answer
	no    *problem
}

// claim is a request's hold on its id and, where the operation is exclusive, on its resource. A nil one holds nothing.
type claim struct {
	key, resource string
	record        *recorded // what key stands for; nil where there is no key
}

// claimID answers at once where the id was used before or the resource is busy.
func (s *Sim) claimID(e *exchange) (sim.Reply, bool) {
	c := e.call
	id := c.requestID()
	if n := utf8.RuneCountInString(id); c.op.maxID > 0 && n > c.op.maxID {
		return refuse(http.StatusBadRequest, detail{Field: "PayPal-Request-Id", Issue: "INVALID_STRING_LENGTH", Description: descriptions["INVALID_STRING_LENGTH"]}).reply(), true
	}
	held := &claim{}
	if c.op.retention > 0 && id != "" {
		held.key = c.account.ClientID + "\n" + c.op.id + "\n" + id
		if reply, used := s.repeated(c, held.key); used {
			return reply, true
		}
	}
	if c.op.exclusive {
		held.resource = c.r.URL.Path
		if s.busy[held.resource] {
			return inProgress().reply(), true
		}
		s.busy[held.resource] = true
	}
	if held.key != "" {
		held.record = &recorded{since: c.now, sum: sumOf(c)}
		s.records[held.key] = held.record
	}
	e.claim = held
	return sim.Reply{}, false
}

func sumOf(c *call) [sha256.Size]byte {
	return sha256.Sum256([]byte(c.r.URL.Path + "\n" + string(c.raw)))
}

// repeated answers a request whose id is kept. PayPal documents that it "returns the latest status of the previous
// request that used that same header" (page "Idempotency"), whatever the body; only Payment Method Tokens v3 documents a
// refusal of another one (error PAYPAL_REQUEST_ID_PREVIOUSLY_USED).
func (s *Sim) repeated(c *call, key string) (sim.Reply, bool) {
	r, known := s.records[key]
	switch {
	case !known || r.done && !c.now.Before(r.since.Add(c.op.retention)):
		return sim.Reply{}, false
	case c.op.mismatch && r.sum != sumOf(c):
		return issue("PAYPAL_REQUEST_ID_PREVIOUSLY_USED").reply(), true
	case !r.done:
		return inProgress().reply(), true
	case r.no != nil:
		return r.no.reply(), true
	}
	again := r.ok
	if r.ok.again != nil {
		var p *problem
		if again, p = r.ok.again(c); p != nil {
			return p.reply(), true
		}
	}
	return respond(again.status, again.body, newDebugID()), true
}

// inProgress is 409 (Payments v2 specification, schema 409, for refund and void). For the other operations the page
// "Idempotency" says only that PayPal "might fail the second request", and the same form is unverified.
func inProgress() *problem {
	return refuse(http.StatusConflict, detail{Issue: "PREVIOUS_REQUEST_IN_PROGRESS", Description: descriptions["PREVIOUS_REQUEST_IN_PROGRESS"]})
}

// settle keeps what was done, and a charge's refusal; any other refusal frees the id. (That a decline is kept while a
// failed validation isn't is unverified; that a 5xx may be retried under its id is from the page "Idempotency".)
func (h *claim) settle(s *Sim, a answer, p *problem) {
	if h == nil {
		return
	}
	delete(s.busy, h.resource)
	switch {
	case h.record == nil:
	case p != nil && !p.final:
		delete(s.records, h.key)
	default:
		h.record.done, h.record.ok, h.record.no = true, a, p
	}
}
