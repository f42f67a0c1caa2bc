package matrix_test

import (
	"fmt"
	"slices"
	"strings"
)

// The dimensions of a cell. Each has the words that its name is made of.
type (
	operation string
	request   string
	step      string
	flaw      string
	phase     string
	extent    string
)

// What is asked of the Client.
const (
	charge  operation = "charge"
	capture operation = "capture"
	void    operation = "void"
	refund  operation = "refund"
	resume  operation = "resume"
)

var operations = []operation{charge, capture, void, refund, resume}

// The requests to a provider, one of which the fault hits.
const (
	toLogin        request = "login" // PayPal's access token
	toPrepare      request = "prepare"
	toCommit       request = "commit"
	toLookUp       request = "lookup"
	toFence        request = "fence" // Stripe's cancel
	toCapture      request = "capture"
	toVoid         request = "void"
	toRefund       request = "refund"
	toLookUpRefund request = "lookuprefund"
)

// requestsOf are those that an operation makes.
var requestsOf = map[operation][]request{
	charge:  {toLogin, toPrepare, toCommit, toLookUp, toFence},
	capture: {toCapture, toLookUp},
	void:    {toVoid, toLookUp},
	refund:  {toRefund, toLookUpRefund},
	resume:  {toLookUp, toCommit},
}

// The moments of a request, in their order.
const (
	inNote   step = "note"     // before the journal is told what is to be sent
	inSend   step = "send"     // the journal was told, and nothing was sent
	inDNS    step = "dns"      // the name is looked up
	inDial   step = "dial"     // the connection is made
	inTLS    step = "tls"      // the handshake
	inHeader step = "header"   // half of the request's header is out
	inBody   step = "body"     // half of its body is out
	written  step = "written"  // all of it is there, and nothing was done
	acted    step = "acted"    // it was done, and nothing was answered
	inReply  step = "reply"    // half of the answer is out
	answered step = "answered" // the answer is there, and the journal doesn't know
)

var steps = []step{inNote, inSend, inDNS, inDial, inTLS, inHeader, inBody, written, acted, inReply, answered}

// What goes wrong.
const (
	resets      flaw = "reset"    // TCP's RST; of a dial: refused
	closes      flaw = "close"    // TCP's FIN; of a name: there is none
	stalls      flaw = "stall"    // nothing more comes until the caller gives up
	late        flaw = "late"     // it is done after the caller gave up
	truncates   flaw = "truncate" // what was begun ends too early
	status429   flaw = "429"
	status500   flaw = "500"
	retry500    flaw = "500retry"   // with Stripe-Should-Retry: true
	noRetry500  flaw = "500noretry" // with Stripe-Should-Retry: false, and kept under the key
	page502     flaw = "502page"
	page404     flaw = "404page" // of something before the provider
	status503   flaw = "503"
	status409   flaw = "409"    // another request with the key is under way
	kills       flaw = "kill"   // SIGKILL, and the process is started again
	stops       flaw = "stop"   // SIGSTOP, another process takes over, SIGCONT
	cancels     flaw = "cancel" // the caller gives up
	journalDown flaw = "down"   // the journal stores nothing and says so
	journalSlow flaw = "slow"
	journalLost flaw = "lost"   // the journal stores nothing and says that it doesn't know
	journalKept flaw = "unsure" // the journal stores, and says that it doesn't know
)

var flaws = []flaw{
	resets, closes, stalls, late, truncates, status429, status500, retry500, noRetry500, page502, page404, status503, status409,
	kills, stops, cancels, journalDown, journalSlow, journalLost, journalKept,
}

// When the request is made that is hit.
const (
	first    phase = "first"
	retried  phase = "retry" // after a 429
	doubted  phase = "doubt" // after a 503, which may have acted
	failover phase = "failover"
)

// How much is hit.
const (
	once     extent = "once"
	lasting  extent = "lasting"  // every such request from then on
	provider extent = "provider" // every request to the provider from then on
)

// cell is one situation. It can be handed to another process.
type cell struct {
	Op      operation
	Hit     request
	Step    step
	Flaw    flaw
	Phase   phase
	Extent  extent
	Done    bool // what the requests before had left undecided was done
	Decline bool // the card is declined
	Day     bool // reconciled after more than a day
	Callers int
	Store   string // of the journal
	HTTP2   bool
	Primary string // "stripe", "paypal"
}

// The stores.
const (
	inMemory   = "memory"
	inSQLite   = "sqlite"
	inPostgres = "postgres"
)

func (c cell) name() string {
	words := []string{string(c.Op), string(c.Hit), string(c.Step), string(c.Flaw), string(c.Phase), string(c.Extent)}
	for _, w := range []struct {
		on   bool
		word string
	}{{c.Done, "done"}, {c.Decline, "decline"}, {c.Day, "day"}, {c.HTTP2, "h2"}, {!c.HTTP2, "h1"}} {
		if w.on {
			words = append(words, w.word)
		}
	}
	return strings.Join(append(words, c.Primary, c.Store, fmt.Sprint(c.Callers)), ".")
}

// row is what counts are kept for.
func (c cell) row() string {
	return fmt.Sprintf("%s\t%s\t%s", c.Op, c.Step, c.Flaw)
}

// target is the provider that is hit.
func (c cell) target() string {
	if c.Phase == failover {
		return other(c.Primary)
	}
	return c.Primary
}

func other(name string) string {
	if name == "stripe" {
		return "paypal"
	}
	return "stripe"
}

// moves is the request by which the operation changes something.
func (c cell) moves() request {
	return map[operation]request{charge: toCommit, resume: toCommit, capture: toCapture, void: toVoid, refund: toRefund}[c.Op]
}

// follows reports whether the request that is hit is made only because one
// before it was cut off.
func (c cell) follows() bool {
	return c.Op != resume && slices.Contains([]request{toLookUp, toFence, toLookUpRefund}, c.Hit)
}

// answers are the flaws that are an answer in the provider's place.
var answers = []flaw{status429, status500, retry500, noRetry500, page502, page404, status503, status409}

// Flaws of the process, the caller and the journal.
var (
	ofProcess = []flaw{kills, stops}
	ofJournal = []flaw{journalDown, journalSlow, journalLost, journalKept}
)

func (f flaw) among(list []flaw) bool { return slices.Contains(list, f) }

// ofWire reports whether the network or the provider is what fails.
func (f flaw) ofWire() bool {
	return f != cancels && !f.among(ofProcess) && !f.among(ofJournal)
}

// impossible says why there can't be such a cell; empty where there can.
func (c cell) impossible() string {
	for _, rule := range []func(cell) string{cell.noSuchRequest, cell.noSuchStep, cell.noSuchFlaw, cell.noSuchHistory, cell.noSuchExtent} {
		if why := rule(c); why != "" {
			return why
		}
	}
	return ""
}

func (c cell) noSuchRequest() string {
	paypal := c.target() == "paypal"
	switch {
	case c.Hit == toLogin && !paypal:
		return "Stripe has no access token"
	case c.Hit == toFence && paypal:
		return "PayPal can't cancel an order: its fence is a look-up"
	case c.Op == resume && c.Hit == toCommit && c.Done:
		return "what was committed is not committed again"
	case c.Hit == toFence && c.Done:
		return "what was committed is not fenced"
	case c.Done && !c.follows() && c.Op != resume:
		return "nothing was left undecided before"
	}
	return ""
}

func (c cell) noSuchStep() string {
	reads := c.Hit == toLookUp || c.Hit == toLookUpRefund
	switch {
	case c.Step == inBody && reads:
		return "a look-up has no body"
	case c.Step == inBody && c.Hit == toVoid && c.target() == "paypal":
		return "PayPal's void has no body"
	case c.Step == acted && reads:
		return "a look-up does nothing"
	case c.Step == inNote && (reads || c.Hit == toFence || c.Hit == toLogin):
		return "the journal isn't told before this request"
	case c.Step == answered && c.Hit == toLogin:
		return "the journal isn't told of an access token"
	}
	return ""
}

// stepsOf are the steps at which a flaw can be.
var stepsOf = map[flaw][]step{
	resets:      {inDial, inTLS, inHeader, inBody, written, acted, inReply},
	closes:      {inDNS, inTLS, inHeader, inBody, written, acted, inReply},
	stalls:      {inDNS, inDial, inTLS, inHeader, inBody, written, acted, inReply},
	late:        {written},
	truncates:   {inTLS, inHeader, inBody, inReply},
	status429:   {inBody, written},
	status500:   {inBody, written, acted},
	retry500:    {written, acted},
	noRetry500:  {written, acted},
	page502:     {inBody, written, acted},
	page404:     {written},
	status503:   {inBody, written, acted},
	status409:   {written, acted},
	kills:       {inNote, inSend, inDNS, inDial, inTLS, inHeader, inBody, written, acted, inReply, answered},
	stops:       {inNote, inSend},
	cancels:     {inNote, inSend, inDNS, inDial, inTLS, inHeader, inBody, written, acted, inReply, answered},
	journalDown: {inNote, answered},
	journalSlow: {inNote, answered},
	journalLost: {inNote, answered},
	journalKept: {inNote, answered},
}

func (c cell) noSuchFlaw() string {
	moves := c.Hit == c.moves() || c.Hit == toPrepare
	switch {
	case !slices.Contains(stepsOf[c.Flaw], c.Step):
		return c.misplaced()
	case (c.Flaw == retry500 || c.Flaw == noRetry500) && c.target() == "paypal":
		return "PayPal has no Stripe-Should-Retry"
	case c.Flaw == status409 && !moves:
		return "only what carries a key can find it in use"
	case c.Flaw == noRetry500 && (c.Hit == toVoid || c.Hit == toFence || !moves):
		return "an answer is kept under a key, and the request has none"
	case c.Flaw == late && !moves && c.Hit != toFence:
		return "a look-up does nothing, and can't do it late"
	case c.Flaw == stops && c.Hit != c.moves():
		return "a process is stopped before it moves something"
	}
	return ""
}

// misplaced is why a flaw can't be at its step.
func (c cell) misplaced() string {
	switch {
	case c.Flaw.among(answers) && c.Step == acted:
		return "429 says that nothing was done"
	case c.Flaw.among(answers):
		return "nobody answers at that step"
	case c.Flaw.among(ofJournal):
		return "the journal isn't asked at that step"
	case c.Flaw == stops:
		return "a process is stopped before the commit"
	case c.Flaw == late:
		return "what wasn't wholly written can't be acted on late, and what was acted on isn't late"
	case c.Step == inNote || c.Step == inSend || c.Step == answered:
		return "nothing is on the wire at that step"
	case c.Step == inDNS || c.Step == inDial:
		return "a look-up of a name and a dial end in one way"
	case c.Flaw == truncates:
		return "nothing is half done at that step"
	}
	return "the flaw is none of that step's"
}

func (c cell) noSuchHistory() string {
	switch {
	case c.Decline && (c.Op != charge || c.Hit != toCommit):
		return "a card is declined when it is charged"
	case (c.Phase == retried || c.Phase == doubted) && (c.Flaw.among(ofJournal) || c.Step == inNote):
		return "the journal is told once, before the first try"
	case (c.Phase == retried || c.Phase == doubted) && c.Hit == toVoid && c.target() == "paypal" && c.Phase == doubted:
		return "PayPal's void has no key, and isn't repeated in doubt"
	case c.Phase == doubted && c.Hit == toLogin:
		return "an access token leaves nothing in doubt"
	}
	return ""
}

func (c cell) noSuchExtent() string {
	switch {
	case c.Flaw.among(ofProcess) && c.Store == inMemory:
		return "a journal in memory ends with its process"
	case c.Callers > 1 && (c.Flaw == cancels || c.Flaw == stops):
		return "one caller gives up, one process sleeps"
	case c.Callers > 1 && c.Day:
		return "callers don't wait for a day"
	case c.Callers > 1 && c.Flaw.among(ofJournal):
		return "the flaw is of one process's journal, and its callers share that"
	case c.Flaw == stops && c.Day && c.Step == inSend:
		return "a request that slept for a day has no time left"
	case c.Extent != once && (c.Flaw.among(ofProcess) || c.Flaw == cancels):
		return "a process and a caller are lost once"
	case c.Extent == provider && c.Flaw.among(ofJournal):
		return "the journal isn't the provider's"
	case c.Extent != once && c.Flaw == journalSlow:
		return "a slow journal is slow once or always, which is the same"
	case c.Extent != once && c.Flaw == noRetry500:
		return "what is kept under a key lasts"
	case c.Extent != once && c.Flaw == late:
		return "what is late comes in the end"
	case c.Day && c.Extent != provider && !c.Flaw.among(ofProcess):
		return "what is known at once isn't reconciled"
	}
	return ""
}
