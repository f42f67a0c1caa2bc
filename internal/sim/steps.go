package sim

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"slices"
	"sync"
	"time"
)

// Further moments, for a [Fault] only: a [Step] knows nothing of them.
const (
	// BeforeReading: the header of the request was read, its body wasn't.
	BeforeReading When = iota + 101
	// MidHeader: half of the header of the answer is out. Under HTTP/2, where a header is one frame, nothing is.
	MidHeader
	// Acted: what was asked for was done, and the request is still in progress: its answer isn't kept yet. Delay and Stall
	// make sense here.
	Acted
)

// Action is what a [Fault] does at its moment.
type Action int

// The actions. The zero value does nothing, so that a Fault without one only counts.
const (
	// Answer answers with Fault.Reply in the provider's place: at BeforeReading, BeforeActing, or AfterActing.
	Answer Action = iota + 1
	// Close closes the connection (FIN); under HTTP/2 it resets the stream.
	Close
	// Reset breaks the connection off with a TCP reset; under HTTP/2 it resets the stream.
	Reset
	// Stall waits for Fault.Gate and goes on then, though the caller may have gone. Without a gate it waits until the
	// caller goes or the [Plan] closes, and does no more for this request.
	Stall
	// Delay waits for Fault.Delay and goes on, though the caller may have gone.
	Delay
)

// Match says which requests are meant. The zero value means all.
type Match struct {
	Method string // "" is any
	// Path is a pattern of [path.Match], in which a star stands for one segment: "/v1/refunds", "/v1/payment_intents/*/confirm".
	Path string
	// If is asked last; body is nil for a fault BeforeReading.
	If func(r *http.Request, body []byte) bool
}

func (m Match) matches(r *http.Request, body []byte) bool {
	if m.Method != "" && m.Method != r.Method {
		return false
	}
	if m.Path != "" {
		if ok, err := path.Match(m.Path, r.URL.Path); err != nil || !ok {
			return false
		}
	}
	return m.If == nil || m.If(r, body)
}

// Fault is one thing that goes wrong.
type Fault struct {
	On Match
	At When
	Do Action
	// Nth means the nth matching request alone, from 1. Zero is each.
	Nth int
	// Times bounds how often it happens. Zero is without bound.
	Times int

	Reply Reply // of Answer
	// Kept makes the provider give the Reply as its own and keep it under the request's idempotency key: the error of a
	// provider that fails while it executes. Otherwise the Reply comes from something in front of the provider.
	Kept  bool
	Delay time.Duration // of Delay
	Gate  *Gate         // of Stall
}

// Gate holds requests up until it's opened, once and for all. Make one with [NewGate].
type Gate struct {
	arrived, opened chan struct{}
	arriving        sync.Once
	opening         sync.Once
}

// NewGate is a shut gate.
func NewGate() *Gate { return &Gate{arrived: make(chan struct{}), opened: make(chan struct{})} }

// Arrived is closed when the first request stands before the gate.
func (g *Gate) Arrived() <-chan struct{} { return g.arrived }

// Open lets all through.
func (g *Gate) Open() { g.opening.Do(func() { close(g.opened) }) }

// Call is a request as it arrived.
type Call struct {
	Method, Path string
	Header       http.Header
	Body         []byte // nil where a fault came before it was read
}

// Plan is which faults happen to which requests. The zero value lets all requests through. It's safe for concurrent use.
type Plan struct {
	mu     sync.Mutex
	faults []*planned
	calls  []*Call
	closed chan struct{}
	shut   bool
}

type planned struct {
	Fault
	seen, done int
}

// Add plans faults, after those planned already. Of several that match a request each happens at its moment; an Answer
// or an end of the connection is the last.
func (p *Plan) Add(faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range faults {
		p.faults = append(p.faults, &planned{Fault: f})
	}
}

// Heal drops all faults. What stalls goes on stalling.
func (p *Plan) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// Close ends what stalls or waits, now and later. What ended so isn't acted on.
func (p *Plan) Close() {
	closed := p.done()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.shut {
		p.shut = true
		close(closed)
	}
}

func (p *Plan) done() chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed == nil {
		p.closed = make(chan struct{})
	}
	return p.closed
}

// Calls are the requests that arrived, oldest first; all those that m matches.
func (p *Plan) Calls(m Match) []Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Call
	for _, c := range p.calls {
		r, err := http.NewRequest(c.Method, c.Path, nil)
		if err != nil {
			continue
		}
		r.Header = c.Header
		if m.matches(r, c.Body) {
			out = append(out, *c)
		}
	}
	return out
}

func (p *Plan) note(r *http.Request) *Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &Call{Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone()}
	p.calls = append(p.calls, c)
	return c
}

func (p *Plan) noteBody(c *Call, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.Body = body
}

// pick counts r and returns the faults that are its, of those before (or not before) the reading.
func (p *Plan) pick(r *http.Request, body []byte, reading bool) []Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Fault
	for _, f := range p.faults {
		if (f.At == BeforeReading) != reading || !f.On.matches(r, body) {
			continue
		}
		f.seen++
		if f.Nth != 0 && f.seen != f.Nth || f.Times != 0 && f.done >= f.Times {
			continue
		}
		f.done++
		out = append(out, f.Fault)
	}
	return out
}

// Doer does what a request asks for and returns the answer. It calls [Exchange.Before] once it knows that it will act,
// with what marks the request as in progress already set, and acts only where that is true; where it's false its Reply
// goes nowhere.
type Doer func(r *http.Request, body []byte, x *Exchange) Reply

// maxRequest bounds a request's body, in bytes; what is longer is cut there, and refused as malformed.
const maxRequest = 1 << 20

// Handler serves do with the faults of the plan, over HTTP/1.1 or HTTP/2.
func (p *Plan) Handler(do Doer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &Exchange{plan: p, w: w, r: r, killed: killed(r.Context())}
		x.serve(do)
	})
}

// Exchange is one request under a [Plan].
type Exchange struct {
	plan   *Plan
	w      http.ResponseWriter
	r      *http.Request
	killed <-chan struct{} // with its host
	faults []Fault
	before bool   // the moment BeforeActing has passed
	cut    Action // Close or Reset, once the exchange is to end without an answer
}

func (x *Exchange) serve(do Doer) {
	call := x.plan.note(x.r)
	x.faults = x.plan.pick(x.r, nil, true)
	if reply, ok := x.instead(BeforeReading, false); ok {
		x.answer(reply)
		return
	}
	if !x.play(BeforeReading) {
		x.end()
		return
	}
	body, err := io.ReadAll(io.LimitReader(x.r.Body, maxRequest))
	if err != nil { // The caller broke off: half a request is none.
		x.cut = Reset
		x.end()
		return
	}
	x.plan.noteBody(call, body)
	x.faults = append(x.faults, x.plan.pick(x.r, body, false)...)
	if reply, ok := x.instead(BeforeActing, false); ok {
		x.answer(reply)
		return
	}
	x.act(do, body)
}

func (x *Exchange) act(do Doer, body []byte) {
	reply := do(x.r, body, x)
	if !x.Before() || !x.play(AfterActing) {
		x.end()
		return
	}
	if own, ok := x.instead(AfterActing, false); ok {
		reply = own
	}
	x.answer(reply)
}

// Before is the moment between judging and acting. Where it's false the Doer must not act.
func (x *Exchange) Before() bool {
	if !x.before {
		x.before = true
		x.play(BeforeActing)
	}
	return x.cut == 0
}

// Acted is the moment between acting and keeping the answer, for a Doer that keeps answers.
func (x *Exchange) Acted() { x.play(Acted) }

// Kept is the answer that the provider is to give and keep in place of its own, if any; acted says whether it acts all
// the same.
func (x *Exchange) Kept() (reply Reply, acted, ok bool) {
	if reply, ok = x.instead(BeforeActing, true); ok {
		return reply, false, true
	}
	reply, ok = x.instead(AfterActing, true)
	return reply, true, ok
}

func (x *Exchange) instead(at When, kept bool) (Reply, bool) {
	for _, f := range x.faults {
		if f.At == at && f.Do == Answer && f.Kept == kept {
			return f.Reply, true
		}
	}
	return Reply{}, false
}

// play lets happen what is planned for now, but for answers, and reports whether the exchange goes on.
func (x *Exchange) play(now When) bool {
	for _, f := range x.faults {
		if f.At != now || x.cut != 0 {
			continue
		}
		switch f.Do {
		case Close, Reset:
			x.cut = f.Do
		case Delay:
			x.wait(time.After(f.Delay))
		case Stall:
			x.stall(f.Gate)
		default: // Answer is for instead.
		}
	}
	return x.cut == 0
}

func (x *Exchange) stall(g *Gate) {
	if g == nil {
		x.gone()
		x.cut = Reset
		return
	}
	g.arriving.Do(func() { close(g.arrived) })
	wait(x, g.opened)
}

func (x *Exchange) wait(t <-chan time.Time) { wait(x, t) }

// wait lasts until c, or the end of the plan or of the host, which end the exchange.
func wait[T any](x *Exchange, c <-chan T) {
	select {
	case <-c:
	case <-x.plan.done():
		x.cut = Reset
	case <-x.killed:
		x.cut = Reset
	}
}

// gone lasts until the caller goes. Before the body was read net/http doesn't watch the connection, so its bytes are
// read here.
func (x *Exchange) gone() {
	conn, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil { // HTTP/2
		select {
		case <-x.r.Context().Done():
		case <-x.plan.done():
		}
		return
	}
	x.w = hijacked{x.w, conn}
	x.drain(conn, buffered)
}

// hijacked hands an already hijacked connection out again.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
}

// drain reads conn until its other end goes, or the plan or the host ends.
func (x *Exchange) drain(conn net.Conn, from io.Reader) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, from)
	}()
	select {
	case <-gone:
		return
	case <-x.plan.done():
	case <-x.killed:
	}
	_ = conn.Close()
	<-gone
}

// end ends the exchange as x.cut says.
func (x *Exchange) end() {
	if h, ok := x.w.(hijacked); ok {
		part(h.conn, x.cut)
		return
	}
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	part(conn, x.cut)
}

func part(conn net.Conn, how Action) {
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = wrapped.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok && how == Reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// answer sends reply, or as much of it as the plan lets out.
func (x *Exchange) answer(reply Reply) {
	if reply.Status == 0 {
		reply.Status = http.StatusOK
	}
	reply.Header = reply.Header.Clone()
	if reply.Header == nil {
		reply.Header = http.Header{}
	}
	switch {
	case x.planned(MidHeader):
		x.halfHeader(reply)
	case x.planned(MidAnswer):
		half(x.w, reply)
		x.finish(MidAnswer)
	default:
		answer(x.w, reply)
	}
}

func (x *Exchange) planned(at When) bool {
	return slices.ContainsFunc(x.faults, func(f Fault) bool { return f.At == at && f.Do != 0 })
}

// finish plays what comes in the middle of an answer. A delay or an opened gate ends in a closed connection too, since
// the rest of the answer doesn't come.
func (x *Exchange) finish(now When) {
	x.play(now)
	if x.cut == 0 {
		x.cut = Close
	}
	x.end()
}

func (x *Exchange) halfHeader(reply Reply) {
	conn, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil { // HTTP/2
		x.finish(MidHeader)
		return
	}
	x.w = hijacked{x.w, conn}
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", reply.Status, http.StatusText(reply.Status))
	_ = reply.Header.Write(&head) // A buffer takes all.
	_, _ = conn.Write(head.Bytes()[:head.Len()-head.Len()/3])
	x.midHeader(conn, buffered)
}

func (x *Exchange) midHeader(conn net.Conn, from io.Reader) {
	for _, f := range x.faults {
		if f.At == MidHeader && f.Do == Stall && f.Gate == nil {
			x.drain(conn, from)
		}
	}
	x.finish(MidHeader)
}
