package payment

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// Journal remembers orders, their attempts and refunds: one entry for each tenant
// and order, on which every step is noted before it is taken. It is safe for
// concurrent use. Its errors are of kind fault.Unavailable where nothing was
// stored, fault.Uncertain where that isn't known.
type Journal interface {
	// Update changes one entry, and nobody else does meanwhile. change gets it as it
	// is, the zero Entry but for its Key where there is none, and what it makes of it
	// is stored with a Version raised by one. An error of change leaves everything as
	// it was and comes back unchanged. change may run more than once; its context
	// carries the transaction, where there is one.
	Update(ctx context.Context, k Key, change func(ctx context.Context, e *Entry) error) (*Entry, error)
	// Entry is the entry as it stands; fault.NotFound where there is none.
	Entry(ctx context.Context, k Key) (*Entry, error)
	// Find is the key of the entry that has this id of a provider's, of those of
	// [Entry.IDs]; fault.NotFound where there is none.
	Find(ctx context.Context, id ProviderID) (Key, error)
	// Due lists at most n keys of entries whose Due is set and not after that,
	// soonest first.
	Due(ctx context.Context, until time.Time, n int) ([]Key, error)
	// Durable says whether entries outlive the process.
	Durable() bool
}

// Key names an entry.
type Key struct{ Tenant, Order string }

// ProviderID is an id that a provider gave to a payment, charge, authorisation or
// refund. Provider is its name, a path where Clients are nested.
type ProviderID struct{ Provider, ID string }

// Entry is what is known of one order. Its form in JSON is stable: fields are
// added and never renamed.
type Entry struct {
	Key Key
	// Version is the store's; 0 is an entry that isn't there.
	Version int64 `json:",omitempty"`
	// Order is what was asked for first. What the terms are can't be changed; methods
	// and the like are of each attempt.
	Order Order
	// Attempts are in their order; one at most isn't settled.
	Attempts []AttemptRecord `json:",omitempty"`
	Refunds  []RefundRecord  `json:",omitempty"`
	// Lease is who works on the entry.
	Lease Lease `json:",omitzero"`
	// Voided: nothing more is to be paid, unless a higher Order.Try asks for it.
	Voided bool `json:",omitempty"`
	// Due is when it needs looking after, zero where it doesn't.
	Due time.Time `json:",omitzero"`
	// Rounds counts how often it was looked after without an end.
	Rounds int `json:",omitempty"`
	// Events are the webhooks that had their effect, the last 64 of them.
	Events           []string `json:",omitempty"`
	Created, Updated time.Time
}

// Lease is a right to work on an entry until it ends. Token rises with each one,
// so that who lost it can't write any more.
type Lease struct {
	Token int64
	// Owner is random, by which a claim whose end isn't known is found again.
	Owner string
	Until time.Time
	// Writes counts what was stored under all leases, by which a write whose end
	// isn't known is found again.
	Writes int64
}

// AttemptState is where an attempt stands in the journal.
type AttemptState string

// The states of an attempt. Each is noted before what it is named after begins.
const (
	// AttemptNoted: the payment is being prepared, or it isn't known whether it was.
	AttemptNoted AttemptState = "noted"
	// AttemptPrepared: nothing moves unless we commit.
	AttemptPrepared AttemptState = "prepared"
	// AttemptOpen: the customer may complete it without us.
	AttemptOpen AttemptState = "open"
	// AttemptCommitting: the commit may be on its way, and it isn't known how it ended.
	AttemptCommitting AttemptState = "committing"
	// AttemptProcessing: the provider will say later.
	AttemptProcessing AttemptState = "processing"
	// AttemptHeld: the money is held. AttemptCapturing and AttemptVoiding: it may be
	// taken, or let go, and it isn't known whether it was.
	AttemptHeld      AttemptState = "held"
	AttemptCapturing AttemptState = "capturing"
	AttemptVoiding   AttemptState = "voiding"
	// AttemptPaid: the money was taken.
	AttemptPaid AttemptState = "paid"
	// AttemptDeclined, AttemptFenced, AttemptEnded: nothing moved and nothing will; it was
	// declined, fenced off by us, or canceled, voided or expired.
	AttemptDeclined AttemptState = "declined"
	AttemptFenced   AttemptState = "fenced"
	AttemptEnded    AttemptState = "ended"
)

// Settled reports whether nothing can move any more.
func (s AttemptState) Settled() bool {
	return s == AttemptDeclined || s == AttemptFenced || s == AttemptEnded
}

// doubtful reports whether a step may have been taken whose end isn't known.
func (s AttemptState) doubtful() bool {
	return s == AttemptNoted || s == AttemptCommitting || s == AttemptCapturing || s == AttemptVoiding
}

// moving reports whether money may be on its way.
func (s AttemptState) moving() bool {
	return s == AttemptCommitting || s == AttemptCapturing || s == AttemptVoiding || s == AttemptProcessing
}

// AttemptRecord is one attempt.
type AttemptRecord struct {
	Number   int
	Provider string
	Identity Identity
	// Methods are those of the call that began it, Method the one it is paid with.
	Methods map[string]Method `json:",omitempty"`
	Method  Method            `json:",omitzero"`
	Try     int               `json:",omitempty"`
	State   AttemptState
	// PaymentID, ChargeID and AuthorizationID are the provider's.
	PaymentID, ChargeID, AuthorizationID string `json:",omitempty"`
	// Approval: it is prepared, and the customer must approve before it is committed.
	Approval bool `json:",omitempty"`
	// Opened: the customer was given what lets him complete it without us, and may try
	// again after a decline.
	Opened bool `json:",omitempty"`
	// Fencing: it is being fenced for another attempt, so that who finds it ended knows
	// that another may follow.
	Fencing bool `json:",omitempty"`
	// Started: it is committed by Finish or Charge alone.
	Started bool `json:",omitempty"`
	// Committer is the token of the lease under which it was first committed;
	// Recommitted, that another one did too.
	Committer   int64 `json:",omitempty"`
	Recommitted bool  `json:",omitempty"`
	// Captures counts those that the provider refused: the next has another key.
	Captures int `json:",omitempty"`
	// Capturing is the amount of a capture that isn't known to have ended.
	Capturing Money `json:",omitzero"`
	Captured  Money `json:",omitzero"`
	// Elsewhere is what was given back and isn't one of the Refunds, as on the
	// provider's own pages.
	Elsewhere Money     `json:",omitzero"`
	Saved     Method    `json:",omitzero"`
	Decline   *Decline  `json:",omitempty"`
	Reason    string    `json:",omitempty"`
	HeldUntil time.Time `json:",omitzero"`
	Began     time.Time
	Settled   time.Time `json:",omitzero"`
	// PaidIn is the entry's version that first knew it to be paid: clocks differ.
	PaidIn int64 `json:",omitempty"`
}

// RefundRecord is one refund, noted with its amount before it is asked for.
type RefundRecord struct {
	Refund
	Attempt int
	Whole   bool `json:",omitempty"`
	// Asks counts how often the provider was asked for it: what one call couldn't
	// send, another may have. Owner is random, by which the first call finds its own.
	Asks  int
	Owner string
	Began time.Time
}

// The errors of an entry.
var (
	// ErrInProgress: another call works on the order.
	ErrInProgress = errors.New("payment: another call is working on this order")
	// errLeaseLost: another one has taken over.
	errLeaseLost = fault.New(fault.Conflict, errors.New("payment: the lease on the order was lost to another process"))
)

// last is the newest attempt, nil where there is none.
func (e *Entry) last() *AttemptRecord {
	if len(e.Attempts) == 0 {
		return nil
	}
	return &e.Attempts[len(e.Attempts)-1]
}

// attempt is the one of that number, nil where there is none.
func (e *Entry) attempt(number int) *AttemptRecord {
	if number < 1 || number > len(e.Attempts) {
		return nil
	}
	return &e.Attempts[number-1]
}

// paid is the attempt whose money was taken first.
func (e *Entry) paid() *AttemptRecord {
	var first *AttemptRecord
	for i := range e.Attempts {
		a := &e.Attempts[i]
		if a.State == AttemptPaid && (first == nil || a.PaidIn < first.PaidIn) {
			first = a
		}
	}
	return first
}

// refund is the refund with the caller's id.
func (e *Entry) refund(id string) *RefundRecord {
	for i := range e.Refunds {
		if e.Refunds[i].ID == id {
			return &e.Refunds[i]
		}
	}
	return nil
}

// IDs are the provider's ids in the entry, by which webhooks find it.
func (e *Entry) IDs() []ProviderID {
	var ids []ProviderID
	add := func(provider, id string) {
		p := ProviderID{provider, id}
		if id != "" && !slices.Contains(ids, p) {
			ids = append(ids, p)
		}
	}
	for _, a := range e.Attempts {
		add(a.Provider, a.PaymentID)
		add(a.Provider, a.ChargeID)
		add(a.Provider, a.AuthorizationID)
	}
	for _, r := range e.Refunds {
		if a := e.attempt(r.Attempt); a != nil {
			add(a.Provider, r.ProviderID)
		}
	}
	return ids
}

// Clone is a deep copy.
func (e *Entry) Clone() *Entry {
	c := *e
	c.Order = e.Order.clone()
	c.Attempts = slices.Clone(e.Attempts)
	for i := range c.Attempts {
		a := &c.Attempts[i]
		a.Methods = maps.Clone(a.Methods)
		if a.Decline != nil {
			d := *a.Decline
			a.Decline = &d
		}
	}
	c.Refunds = slices.Clone(e.Refunds)
	c.Events = slices.Clone(e.Events)
	return &c
}

const keptEvents = 64

// see notes that a webhook has had its effect.
func (e *Entry) see(event string) {
	if slices.Contains(e.Events, event) {
		return
	}
	e.Events = append(e.Events, event)
	if n := len(e.Events) - keptEvents; n > 0 {
		e.Events = slices.Delete(e.Events, 0, n)
	}
}
