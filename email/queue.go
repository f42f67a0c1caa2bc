package email

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/resilience"
)

// WithQueue makes a mail durable when no provider can take it and it is worth
// trying again (see [fault.Decide]); Send then answers [StatusQueued] and no
// error. Somebody must work on the queue: see [Client.Run].
func WithQueue(q queue.Queue) Option { return func(c *settings) { c.queue = q } }

// WithQueueFirst makes every mail durable before the first attempt, so that it
// survives the death of this process at any moment. Send then always answers
// [StatusQueued], and [Client.Run] makes the attempts.
func WithQueueFirst(q queue.Queue) Option {
	return func(c *settings) { c.queue, c.queueFirst = q, true }
}

// Enqueuer is the part of a queue that takes jobs, such as one bound to a
// database transaction.
type Enqueuer interface {
	Enqueue(ctx context.Context, jobs ...queue.Job) ([]queue.Enqueued, error)
}

var errNoQueue = errors.New("email: the Client has no queue")

// enqueueWithin is the time that making a mail durable may take once all
// providers have failed, whatever is left of the caller's.
const enqueueWithin = 5 * time.Second

// SendTx makes the mail part of the caller's transaction: it is sent once that
// commits, and never if it doesn't. tx is what the queue makes of a transaction,
// such as the Tx method of queue/postgres.
func (c *Client) SendTx(ctx context.Context, tx Enqueuer, m *Message) (*Receipt, error) {
	return c.enqueueAt(ctx, tx, m, time.Time{})
}

// SendLater keeps the mail in the queue until at, for providers that can't
// schedule or for longer than they can. It then has its usual attempts.
func (c *Client) SendLater(ctx context.Context, m *Message, at time.Time) (*Receipt, error) {
	return c.enqueueAt(ctx, c.queue, m, at)
}

func (c *Client) enqueueAt(ctx context.Context, q Enqueuer, m *Message, at time.Time) (*Receipt, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if c.queue == nil {
		return nil, fault.New(fault.Invalid, errNoQueue)
	}
	return c.enqueue(ctx, q, m.WithID(), at, nil)
}

// lastResort makes a mail durable that nobody has taken, where that is worth it.
func (c *Client) lastResort(ctx context.Context, m *Message, err error) (*Receipt, error) {
	if c.queue == nil || c.senders.Nested(ctx) || !c.worthQueueing(m, err) {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), enqueueWithin)
	defer cancel()
	r, queueErr := c.enqueue(ctx, c.queue, m, time.Now().Add(c.firstWait(err)), err)
	if queueErr != nil {
		return nil, alsoFailed(err, queueErr)
	}
	return r, nil
}

// worthQueueing: what is ambiguous is so where a duplicate is tolerable.
func (c *Client) worthQueueing(m *Message, err error) bool {
	if m.AtMostOnce {
		return !fault.MayHaveActed(err) && fault.Decide(err, fault.Once).Queue
	}
	return fault.Decide(err, fault.AtLeastOnce).Queue
}

// firstWait leaves a provider that asked for it alone, and an ambiguous mail to
// the event that may settle it.
func (c *Client) firstWait(err error) time.Duration {
	if c.hold > 0 && fault.MayHaveActed(err) {
		return c.hold
	}
	if f, ok := fault.As(err); ok && f.RetryAfter > 0 {
		return f.RetryAfter
	}
	return time.Second
}

// alsoFailed is the failure of a send whose mail couldn't be made durable either.
func alsoFailed(err, queueErr error) error {
	f, ok := fault.As(err)
	if !ok {
		return err
	}
	out := *f
	out.Tried = f.Tried
	if out.Tried == nil {
		out.Tried = []*fault.Error{f}
	}
	out.Tried = append(slices.Clip(out.Tried), queueFault(f.Op, queueErr))
	out.Err = nil
	return &out
}

func queueFault(op string, err error) *fault.Error {
	f := &fault.Error{Kind: fault.KindOf(err), Provider: "queue", Op: op, Local: true, Err: err}
	if e, ok := err.(*fault.Error); ok { //nolint:errorlint // one that wraps it says more
		f.Err = e.Err
	}
	return f
}

func (c *Client) enqueue(ctx context.Context, q Enqueuer, m *Message, at time.Time, failed error) (*Receipt, error) {
	m, err := m.loaded(maxQueued)
	if err != nil {
		return nil, err
	}
	job, err := c.job(ctx, m, at)
	if err != nil {
		return nil, err
	}
	out, err := q.Enqueue(ctx, job)
	if err != nil {
		return nil, err
	}
	r := NewReceipt(m, "queue", "")
	r.setStatus(StatusQueued)
	r.ID, r.Attempts = out[0].ID, 0
	if f, ok := fault.As(failed); ok {
		r.Attempts, r.Faults = f.Attempts, lastFaults(f)
	}
	return r, nil
}

// lastFaults is what each provider answered last.
func lastFaults(f *fault.Error) []*fault.Error {
	tried := f.Tried
	if tried == nil {
		tried = []*fault.Error{f}
	}
	var out []*fault.Error
	at := map[string]int{}
	for _, t := range tried {
		if i, ok := at[t.Provider]; ok {
			out[i] = t
			continue
		}
		at[t.Provider] = len(out)
		out = append(out, t)
	}
	return out
}

// stored is a mail as the queue keeps it. Its form is stable: fields are added
// and never renamed; a version that isn't known goes to the dead letters.
type stored struct {
	Version int      `json:"v"`
	Tenant  string   `json:"tenant,omitempty"`
	Message *Message `json:"message"`
}

const storedVersion = 1

// maxQueued bounds what enqueueing copies of attachments: JSON writes them in
// base64, and [queue.MaxPayload] bounds the whole.
const maxQueued = 20 << 20

func (c *Client) job(ctx context.Context, m *Message, at time.Time) (queue.Job, error) {
	tenant := resilience.Tenant(ctx)
	data, err := json.Marshal(stored{storedVersion, tenant, m})
	if err != nil {
		return queue.Job{}, fault.New(fault.Invalid, fmt.Errorf("email: write the mail for the queue: %w", err))
	}
	j := queue.Job{ID: m.ID, Kind: c.kind, Payload: data, NotBefore: at, Expires: m.Expires, Priority: m.Priority}
	if m.InOrder {
		j.Key = digest(tenant, strings.ToLower(m.firstRecipient()))
	}
	if m.IdempotencyKey != "" {
		j.DedupeKey = digest(tenant, m.IdempotencyKey)
	}
	return j, nil
}

// digest keeps addresses and tenants' keys out of the queue's columns.
func digest(parts ...string) string {
	sum := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(sum, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func (m *Message) firstRecipient() string {
	for _, list := range [][]Address{m.To, m.Cc, m.Bcc} {
		if len(list) > 0 {
			return list[0].Address
		}
	}
	return ""
}

// Run delivers what is queued until ctx ends, then drains: see [queue.Queue].
// Any number of processes may run at once. What can't be delivered goes to the
// queue's dead letters with the reason; so does a mail that must go at most once
// and may have gone: nobody but a person, or the provider's events, can tell.
// While every provider is out of service, or has no room, the workers wait with
// the mails in their hands, so that an outage uses up no attempts of those behind.
func (c *Client) Run(ctx context.Context, options ...queue.RunOption) error {
	if c.queue == nil {
		return errNoQueue
	}
	c.workers.Add(1)
	defer c.workers.Add(-1)
	work := func(attempt context.Context, d queue.Delivery) error { return c.work(attempt, ctx, d) }
	return c.queue.Run(ctx, map[string]queue.Handler{c.kind: work}, options...)
}

// work makes one attempt at a queued mail, with all that the Client has. Run is
// the worker's context, which ends before ctx.
func (c *Client) work(ctx, run context.Context, d queue.Delivery) error {
	var s stored
	if err := json.Unmarshal(d.Payload, &s); err != nil || s.Message == nil {
		return queue.Bury(errors.New("email: the stored mail can't be read"))
	}
	if s.Version != storedVersion {
		return queue.Bury(fmt.Errorf("email: the stored mail has version %d, which this program doesn't know", s.Version))
	}
	m := s.Message
	if d.Attempt > 1 && !strings.HasPrefix(d.LastError, endedWell(d.Attempt-1)) { // the worker died while it was sending
		switch {
		case m.AtMostOnce:
			return queue.Bury(errUnsettled)
		case c.hold > 0:
			return queue.RetryAfter(fmt.Errorf("%s%w", endedWell(d.Attempt), errHeld), c.hold)
		}
	}
	if s.Tenant != "" {
		ctx = resilience.WithTenant(ctx, s.Tenant)
	}
	err := c.sendInTurn(ctx, run, m)
	if err == nil {
		return nil
	}
	switch {
	case m.AtMostOnce && fault.MayHaveActed(err):
		return queue.Bury(fmt.Errorf("%w: %w", errUnsettled, err))
	case ctx.Err() != nil: // the drain's end: it was cancelled by us, and comes again
	case !c.worthQueueing(m, err):
		return queue.Bury(err)
	}
	held := c.hold > 0 && fault.MayHaveActed(err)
	err = fmt.Errorf("%s%w", endedWell(d.Attempt), err)
	if f, ok := fault.As(err); held || ok && f.RetryAfter > usualWait(d.Attempt) {
		return queue.RetryAfter(err, c.firstWait(err))
	}
	return err
}

// usualWait is the least that the queue waits after that attempt by itself. What a
// provider asks for doesn't shorten it: one that always asks for a second would
// have used up all attempts of a mail in half a minute.
func usualWait(attempt int) time.Duration {
	return min(time.Second/2<<min(attempt-1, 20), time.Hour/2)
}

// sendInTurn sends, and waits with the mail in its hands while nobody is asked:
// every provider is out of service, or has no room. A worker that took the next
// mail would be refused as well, and so the whole backlog would be written anew
// and use up its attempts while nothing was attempted. The refusal is returned
// where the worker ends, or the mail expires.
func (c *Client) sendInTurn(ctx, run context.Context, m *Message) error {
	for {
		_, err := c.send(ctx, m)
		f, ok := fault.As(err)
		if !ok || !f.Local || !c.waits(ctx, m) {
			return err
		}
		// A probe that is out, or a person, may open the way at any time.
		wait := min(max(f.RetryAfter, time.Second), 5*time.Second)
		if !m.Expires.IsZero() {
			wait = min(wait, time.Until(m.Expires))
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-run.Done():
		case <-ctx.Done():
		}
		t.Stop()
		if run.Err() != nil || ctx.Err() != nil || m.Expired(time.Now()) {
			return err
		}
	}
}

// waits says whether a mail that was refused here is worth a worker's time. One of
// a tenant may have met a limit of his own, which is nothing to others. One that
// goes at most once would be given up if the worker died now.
func (c *Client) waits(ctx context.Context, m *Message) bool {
	if m.AtMostOnce {
		return false
	}
	return resilience.Tenant(ctx) == "" || !slices.ContainsFunc(c.Inspect(), takesMail)
}

func takesMail(s resilience.Status) bool {
	switch s.Mode {
	case resilience.ForcedOpen, resilience.Drained:
		return false
	case resilience.ForcedClosed:
		return true
	case resilience.Automatic:
	}
	return s.State == resilience.Closed && s.PausedFor == 0
}

// WithHold keeps a mail that may have gone, and may go twice, in the queue for
// that long before it goes again, in the hope of a delivery event: see
// [Client.Delivered]. So it does with one whose worker died while it was sending. It needs a queue; New refuses a hold without one.
func WithHold(d time.Duration) Option { return func(c *settings) { c.hold = d } }

var errHoldsNowhere = errors.New("email: WithHold needs a queue: see WithQueue")

// Delivered tells the Client, from the providers' delivery events, that mails of
// these IDs have gone: what still waits in the queue for want of that knowledge,
// or is a dead letter, is forgotten. Unknown IDs are ignored, and a mail that is
// being sent at this moment is left to its worker.
func (c *Client) Delivered(ctx context.Context, ids ...string) error {
	q, ok := c.queue.(interface {
		Cancel(ctx context.Context, ids ...string) ([]bool, error)
	})
	if !ok {
		return fault.New(fault.Unsupported, errors.New("email: the Client has no queue that can cancel"))
	}
	_, err := q.Cancel(ctx, ids...)
	return err
}

// errUnsettled is why a mail that goes at most once is given up.
var errUnsettled = errors.New("email: it may have been sent, and must not be sent twice")

// errHeld is why a mail isn't sent again at once when its worker has died.
var errHeld = errors.New("email: it may have been sent, and is held for the event that settles it")

// endedWell begins the error of an attempt that its worker outlived; of a mail
// that goes at most once, one that provably sent nothing. An attempt that is
// missing here died with its worker. The queue begins its own errors so, too.
func endedWell(attempt int) string { return fmt.Sprintf("attempt %d: ", attempt) }

// Health says whether mail goes out, and what stands in its way.
type Health struct {
	// Degraded: it goes out, but not as it should.
	Degraded bool
	// Down: no provider takes mail now, and nothing makes it durable.
	Down bool
	// Problems are the reasons, in words.
	Problems []string
	// Queue is what is in the queue, where there is one.
	Queue *queue.Stats
}

// oldMail is how long a mail may be ready for delivery before that is a problem.
const oldMail = 5 * time.Minute

// Health looks at the providers' state and at the queue; it sends nothing.
func (c *Client) Health(ctx context.Context) Health {
	var h Health
	add := func(format string, args ...any) {
		h.Degraded = true
		h.Problems = append(h.Problems, fmt.Sprintf(format, args...))
	}
	up := 0
	for _, s := range c.Inspect() {
		switch {
		case s.OpenFor > 0 || s.Mode == resilience.ForcedOpen || s.Mode == resilience.Drained:
			add("%s takes no mail: its breaker is open or it is out of service", s.Name)
		case s.PausedFor > 0:
			add("%s has asked to be left alone", s.Name)
		default:
			up++
		}
	}
	h.Down = up == 0 && c.queue == nil
	if c.queue == nil {
		return h
	}
	if c.workers.Load() == 0 {
		add("nobody works on the queue in this process: call Run")
	}
	stats, err := c.queue.Stats(ctx)
	if err != nil {
		add("the queue can't be asked: %v", err)
		h.Down = up == 0
		return h
	}
	h.Queue = &stats
	if !stats.Oldest.IsZero() && time.Since(stats.Oldest) > oldMail {
		add("a mail has waited in the queue since %s", stats.Oldest.UTC().Format(time.RFC3339))
	}
	if stats.Dead > 0 {
		add("%d mails are dead letters", stats.Dead)
	}
	return h
}
