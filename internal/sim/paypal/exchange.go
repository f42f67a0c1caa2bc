package paypal

import (
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

// operation is one of PayPal's, by the operationId of its specification.
type operation struct {
	id, method, path string
	body             *shape // nil: the body isn't looked at
	// retention is how long a PayPal-Request-Id is kept from its first use on; 0: the header has no effect.
	retention time.Duration
	maxID     int  // characters of a PayPal-Request-Id; 0: any number
	mismatch  bool // another body under a kept id is refused
	exclusive bool // a second request on the same resource is refused while one is under way
	act       func(*Sim, *call) (answer, *problem)
	open      func(*Sim, *call) sim.Reply // in place of act, for what takes no bearer token
}

// call is one request that was understood.
type call struct {
	r       *http.Request
	raw     []byte
	op      *operation
	id      string // the {id} of the path
	base    string // where links begin
	account Account
	body    any
	now     time.Time
}

func (c *call) record() object {
	o, _ := c.body.(object)
	return o
}

// whole is whether the caller wants the whole resource. The default is the minimal answer of id, status and links
// (Orders v2 specification, parameter prefer); PayPal was seen to say more than that, so a caller that relies on more
// than the specification promises finds out here.
func (c *call) whole() bool { return c.r.Header.Get("Prefer") == "return=representation" }

func (c *call) requestID() string { return c.r.Header.Get("PayPal-Request-Id") }

// answer is what an operation that was done says.
type answer struct {
	status int
	body   any // nil: none
	// again is what a repetition under the same request id is told: the latest state of what the first one made
	// (PayPal's page "Idempotency"). Nil: the same answer.
	again func(*call) (answer, *problem)
}

// exchange is a request from its arrival to its answer. Between the two steps it holds its request id, so that a
// duplicate meanwhile is refused.
type exchange struct {
	sim     *Sim
	call    *call
	claim   *claim
	refusal *sim.Reply
}

// begin reads and admits a request, and claims its id. Where it is not refused, either act or drop must follow.
func (s *Sim) begin(r *http.Request, body []byte) *exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &exchange{sim: s}
	if reply, done := s.admit(e, r, body); done {
		e.refusal = &reply
	}
	return e
}

func (s *Sim) admit(e *exchange, r *http.Request, body []byte) (sim.Reply, bool) {
	op, id, p := find(r.Method, r.URL.Path)
	if p != nil {
		return p.reply(), true
	}
	e.call = &call{r: r, raw: body, op: op, id: id, base: s.baseOf(r), now: s.now()}
	if op.open != nil {
		return sim.Reply{}, false
	}
	if e.call.account, p = s.authenticate(r, e.call.now); p != nil {
		return p.reply(), true
	}
	if p = e.call.read(); p != nil {
		return p.reply(), true
	}
	return s.claimID(e)
}

// read decodes the body where the operation has one.
func (c *call) read() *problem {
	if c.op.body == nil {
		return nil
	}
	mediaType, _, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if !strings.HasPrefix(mediaType, "application/json") { // error_415
		return refuse(http.StatusUnsupportedMediaType)
	}
	var p *problem
	c.body, p = decode(c.raw, *c.op.body)
	return p
}

func (s *Sim) baseOf(r *http.Request) string {
	if s.cfg.BaseURL == "" {
		s.base = "http://" + r.Host
		if r.TLS != nil {
			s.base = "https://" + r.Host
		}
	}
	return s.base
}

// act does what was asked for, and settles the request's id.
func (e *exchange) act() sim.Reply {
	s := e.sim
	s.mu.Lock()
	defer s.mu.Unlock()
	e.call.now = s.now()
	if e.call.op.open != nil {
		return e.call.op.open(s, e.call)
	}
	a, p := e.call.op.act(s, e.call)
	e.claim.settle(s, a, p)
	if p != nil {
		return p.reply()
	}
	return respond(a.status, a.body, newDebugID())
}

// drop gives up a request that was cut off before anything was done.
func (e *exchange) drop() {
	e.sim.mu.Lock()
	defer e.sim.mu.Unlock()
	e.claim.settle(e.sim, answer{}, refuse(http.StatusInternalServerError))
}

// find is the operation for a path, in which {id} stands for one segment.
func find(method, path string) (*operation, string, *problem) {
	status := http.StatusNotFound
	for i := range operations {
		op := &operations[i]
		id, ok := match(op.path, path)
		if !ok {
			continue
		}
		if op.method == method {
			return op, id, nil
		}
		status = http.StatusMethodNotAllowed
	}
	return nil, "", refuse(status)
}

func match(pattern, path string) (id string, ok bool) {
	before, after, wild := strings.Cut(pattern, "{id}")
	if !wild {
		return "", path == pattern
	}
	rest, ok := strings.CutPrefix(path, before)
	if !ok {
		return "", false
	}
	id, ok = strings.CutSuffix(rest, after)
	return id, ok && id != "" && !strings.Contains(id, "/")
}
