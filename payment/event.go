package payment

import "context"

// EventType says what an [Event] reports.
type EventType string

// What may happen to an order, and around it.
const (
	// OrderChanged: Result says how the order stands now: another status, or another sum
	// of what was taken or given back, so Succeeded is told again after a refund.
	OrderChanged EventType = "order changed"
	// RefundChanged: Refund says how a refund stands now. One that failed has given
	// its amount back.
	RefundChanged EventType = "refund changed"
	// DuplicateCharge: a second attempt of the order took money too. It is refunded,
	// unless the Rules say otherwise.
	DuplicateCharge EventType = "duplicate charge"
	// HoldEnding: an authorisation ends within 24 hours.
	HoldEnding EventType = "hold ending"
	// Unsettled: it has not been possible for an hour or more to learn how a step ended.
	// It is reported again from time to time.
	Unsettled EventType = "unsettled"
	// Mismatch: the provider's amount or account isn't what was asked for.
	Mismatch EventType = "mismatch"
	// Dispute: the provider told of a dispute of the payment.
	Dispute EventType = "dispute"
	// JournalDown: Reconcile can't read the journal; Err says why.
	JournalDown EventType = "journal down"
	// Orphan: a webhook about one of our payments came, and for an hour nothing was in
	// the journal of it.
	Orphan EventType = "orphan"
	// Foreign: a webhook came about something that isn't ours.
	Foreign EventType = "foreign"
)

// Event is something that the service should know, whichever way it was learnt:
// by a call's answer, a webhook or a look-up.
type Event struct {
	Type          EventType
	Tenant, Order string
	Provider      string
	// Result is how the order stands, with all but Orphan and Foreign.
	Result *Result
	// Refund is set with RefundChanged, and with the refund of a DuplicateCharge.
	Refund *Refund
	// Hint is the webhook that brought it, but for refunds.
	Hint *Hint
	// Err is set with JournalDown.
	Err error
}

// Handler is told of events. OrderChanged, RefundChanged, DuplicateCharge and
// Dispute come in the journal's own transaction, with what they report:
// paymentsql.Tx(ctx) is that transaction, so that an order's delivery, say, is
// noted once, and exactly if the payment is. An error leaves both undone; the event
// comes again with the next look at the order. It must be quick, since the entry is
// locked, may run more than once for one transaction, and must not call the
// Client. The other events come by themselves: an error of Orphan and Foreign makes
// the provider send the webhook again, of the rest it is dropped.
type Handler func(ctx context.Context, e Event) error

// changes are the events that lie between two states of an entry.
func changes(was, is *Entry) []Event {
	var events []Event
	event := func(t EventType) Event {
		return Event{Type: t, Tenant: is.Key.Tenant, Order: is.Key.Order, Result: is.Result()}
	}
	before, now := was.Result(), is.Result()
	if before.Status != now.Status || before.Captured != now.Captured || before.Refunded != now.Refunded {
		if len(is.Attempts) > 0 && now.Status != Unknown && now.Status != Ready {
			e := event(OrderChanged)
			e.Provider = now.Provider
			events = append(events, e)
		}
	}
	for i := range is.Refunds {
		f := &is.Refunds[i]
		old := was.refund(f.ID)
		if f.State == RefundUnknown || old != nil && old.State == f.State {
			continue
		}
		e := event(RefundChanged)
		e.Refund, e.Provider = &f.Refund, is.attempt(f.Attempt).Provider
		events = append(events, e)
	}
	if first := is.paid(); first != nil {
		for i := range is.Attempts {
			a := &is.Attempts[i]
			if a.State == AttemptPaid && a != first && (len(was.Attempts) <= i || was.Attempts[i].State != AttemptPaid) {
				e := event(DuplicateCharge)
				e.Provider = a.Provider
				events = append(events, e)
			}
		}
	}
	return events
}
