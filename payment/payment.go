// Package payment takes money through any provider, with others behind it, and
// never twice.
//
//	pay, err := payment.New(stripe.Gateway{Key: key},
//		payment.WithBackup(&paypal.Gateway{ClientID: id, Secret: pass}),
//		payment.WithJournal(journal)) // paymentsql.Open(ctx, db)
//	…
//	result, err := pay.Charge(ctx, &payment.Order{
//		ID: "order-4711", User: "user-42",
//		Amount:  payment.Money{Minor: 1999, Currency: "USD"},
//		Methods: map[string]payment.Method{"stripe": {ID: "pm_…"}},
//		ReturnURL: "https://shop.example.com/paid?order=order-4711",
//	})
//	switch {
//	case err != nil:                              // it isn't known, or wasn't done: Resume tells
//	case result.Status == payment.Succeeded:      // deliver
//	case result.Status == payment.NeedsAction:    // result.Action.ServeHTTP(w, r)
//	case result.Status == payment.Declined:       // show result.Decline.Message
//	}
//
// A [Gateway] is one provider, in two steps: to prepare moves nothing, to commit
// is the only step that moves money. A [Client] is made of Gateways, and its
// [Journal] remembers every step before it is taken. Rules that a caller must
// know:
//
//   - One order is charged at most once, over all providers, calls and processes
//     that share a journal. A second call of Charge for the order joins the first.
//   - A decline and an action that the customer must take are results, with no
//     error. An error means not knowing or not doing; what isn't known is
//     [Unknown], with both a result and an error of kind fault.Uncertain.
//   - [Client.Resume] is the one way to learn how it ended, for the page that the
//     customer returns to, for webhooks and for polling. It asks the provider.
//   - Another provider is tried only where the first one provably moved nothing
//     and can't any more.
//   - Nothing here has a place for a card's number or code: those belong into the
//     provider's own form, whose token is the [Method].
package payment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/smilefactory/integrations/secret"
)

// Gateway is the contract: one provider, one attempt a call. Errors carry a
// fault.Kind, and say truly whether something may have been done. A Gateway may
// also have a method Name() string, and implement [Identifier], [Capturer],
// [Refunder], [Wallet] and [Hook]; what it lacks is fault.Unsupported.
type Gateway interface {
	// CanTake says without any I/O why it can't take an attempt that has no number
	// yet, as an error of kind fault.Unsupported: the currency or its decimals, the
	// amount, a saved method that is missing. Nothing is rounded or converted.
	CanTake(a *Attempt) error
	// Prepare makes the payment known to the provider, and moves nothing. The same
	// Attempt prepared twice is one payment: it carries [Attempt.Key].
	Prepare(ctx context.Context, a *Attempt) (*Payment, error)
	// Commit moves the money of a prepared payment, or holds it where the order is
	// captured later. The same Attempt committed twice moves it once.
	Commit(ctx context.Context, a *Attempt) (*Payment, error)
	// LookUp asks how a payment stands. fault.NotFound: the provider doesn't know it.
	LookUp(ctx context.Context, a *Attempt) (*Payment, error)
	// Fence makes sure that the payment can never move money, and answers how it
	// stands after that: Canceled, or further on where it was too late. A provider
	// that can't is fault.Unsupported.
	Fence(ctx context.Context, a *Attempt) (*Payment, error)
}

// Identifier is a Gateway that knows whose account it charges.
type Identifier interface {
	// Identity is the account, as far as the settings tell, and whether its money
	// is real. It becomes part of every key, and webhooks are checked against it: those
	// of the other mode are refused, those of another account [Foreign].
	Identity() Identity
}

// Identity is an account at a provider.
type Identity struct {
	Account string
	Live    bool
}

// Capturer is a Gateway that can hold money first and take it later.
type Capturer interface {
	// CaptureAttempt takes some or all of what is held, and lets go of the rest.
	CaptureAttempt(ctx context.Context, a *Attempt, amount Money) (*Payment, error)
	// VoidAttempt lets go of what is held.
	VoidAttempt(ctx context.Context, a *Attempt) (*Payment, error)
}

// Refunder is a Gateway that gives money back.
type Refunder interface {
	// RefundAttempt asks for a refund. The same id asked for twice is one refund.
	RefundAttempt(ctx context.Context, r *Refunding) (*Refund, error)
	// LookUpRefund says how a refund stands: by its provider's id where that is
	// known, else by looking for the caller's id among the payment's refunds.
	LookUpRefund(ctx context.Context, r *Refunding) (*Refund, error)
}

// Order is what is to be paid. The zero value of every field but ID and Amount
// is a choice.
type Order struct {
	// ID is the caller's: 1 to 44 of [A-Za-z0-9_-]. It is unique within a tenant.
	ID string
	// Amount is what the customer pays; an empty currency is USD. A charge has a
	// positive one.
	Amount Money
	// Methods are what the customer pays with, by the provider's name. Where there
	// is none, the provider's own form asks the customer.
	Methods map[string]Method `json:",omitempty"`
	// Providers are those that may be tried, by name, in this order, where the customer
	// chose one, as a button "Pay with PayPal" does. Empty: all, in the Client's order.
	Providers []string `json:",omitempty"`
	// User is the caller's opaque id of the customer: no address, no name. At most
	// 36 of [A-Za-z0-9_-].
	User string `json:",omitempty"`
	// ReturnURL is where the customer comes back to after an action, CancelURL where
	// he gives up; https, but for the loopback. An empty CancelURL is the ReturnURL.
	ReturnURL, CancelURL string `json:",omitempty"`
	// Presence says who starts the payment.
	Presence Presence `json:",omitempty"`
	// Save keeps the method for later payments.
	Save Save `json:",omitempty"`
	// Hold takes no money yet: the payment is Authorized until Capture or Void.
	Hold bool `json:",omitempty"`
	// Fee is the platform's share, which is reckoned and recorded.
	Fee Fee `json:",omitzero"`
	// Payees are the accounts that get the money, by the provider's name; where there
	// is none, the Gateway's own.
	Payees map[string]string `json:",omitempty"`
	// Description is shown to the customer: at most 127 characters, no personal data.
	Description string `json:",omitempty"`
	// Try tells a wanted second attempt with the same method after a decline from
	// the repetition of a call: it is higher than that of the former. The page that
	// the customer sees may carry Result.Attempt: then a double click joins, and the
	// next page's click is a new try.
	Try int `json:",omitempty"`
	// Expires is until when the customer may complete an action; 24 hours after the
	// first call where it is zero. Then the payment is fenced.
	Expires time.Time `json:",omitzero"`
}

// clone is a copy that shares nothing.
func (o *Order) clone() Order {
	c := *o
	c.Methods, c.Payees, c.Providers = maps.Clone(o.Methods), maps.Clone(o.Payees), slices.Clone(o.Providers)
	return c
}

// Method is a payment method as its provider knows it.
type Method struct {
	// ID is the provider's id or one-time token of it: never a card's number. It may
	// be empty where a known Customer is to choose in the provider's form.
	ID string
	// Customer is the provider's id of the customer whose it is, for a saved one.
	Customer string `json:",omitempty"`
}

// Presence says whether the customer is there.
type Presence uint8

// Who starts a payment.
const (
	// CustomerPresent: the customer is there and can take an action.
	CustomerPresent Presence = iota
	// MerchantInitiated: nobody is there; the method was saved for that. A payment
	// that needs the customer is [NeedsCustomer].
	MerchantInitiated
)

// Save says for what a method is kept.
type Save uint8

// What a method is kept for.
const (
	SaveNot     Save = iota
	OnSession        // for payments with the customer present
	OffSession       // also for merchant initiated ones
	saveUnknown      // and what follows
)

// Attempt is one try to pay an order at one provider. The journal numbers them.
type Attempt struct {
	Tenant string
	Order  *Order
	// Number counts the order's attempts over all providers, from 1.
	Number   int
	Identity Identity
	// Provider is its name, a path ("eu/stripe") where Clients are nested.
	Provider string
	// Method is what it is paid with, zero where the customer is still to say, and
	// Payee who gets it, empty for the account's owner. A Gateway reads these, not
	// the maps of Order, whose keys may be other names of it.
	Method Method
	Payee  string
	// PaymentID is the provider's id of it, known once it is prepared.
	PaymentID string
	// ChargeID and AuthorizationID are the provider's ids of the money taken and held,
	// where they are others.
	ChargeID, AuthorizationID string
	// Captures counts the captures that the provider has refused so far.
	Captures int
	// Began is when the attempt was noted.
	Began time.Time
}

// CaptureKey is the idempotency key of the next capture.
func (a *Attempt) CaptureKey() string { return a.Key("capture:" + strconv.Itoa(a.Captures)) }

// Key is the idempotency key of a step of this attempt: 64 hexadecimal digits,
// the same at every repetition, another one for every attempt, step, account,
// mode and tenant.
func (a *Attempt) Key(step string) string {
	h := sha256.New()
	for _, part := range []string{
		a.Tenant, a.Provider, a.Identity.Account, strconv.FormatBool(a.Identity.Live), a.Order.ID, strconv.Itoa(a.Number), step,
	} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// State is where a payment stands at its provider.
type State string

// The states. Money has moved in Succeeded, is held in Authorized, and may yet
// move in Actionable and Processing.
const (
	// Prepared: nothing moves unless Commit is called. With an Action the customer
	// must approve first.
	Prepared State = "prepared"
	// Actionable: the customer must act, and may complete it without us.
	Actionable State = "actionable"
	// Processing: the provider will say later.
	Processing State = "processing"
	// Held: the money is reserved, and taken by Capture.
	Held State = "held"
	// Paid: the money was taken.
	Paid State = "paid"
	// Refused: the method was declined. Nothing moved.
	Refused State = "refused"
	// Ended: canceled, voided or expired. Nothing moves any more.
	Ended State = "ended"
)

// Payment is how a payment stands at its provider.
type Payment struct {
	// ID, ChargeID and AuthorizationID are the provider's, as in [Attempt].
	ID, ChargeID, AuthorizationID string
	State                         State
	// Amount is what was asked for, Captured what was taken of it, Refunded what was
	// given back, each as the provider says.
	Amount, Captured, Refunded Money
	// Action is what the customer must do, with Prepared and Actionable.
	Action *NextAction
	// Decline says why, with Refused.
	Decline *Decline
	// Reason is the provider's word for why it is Processing or Ended.
	Reason string
	// HeldUntil is when an authorisation ends; zero where it isn't known.
	HeldUntil time.Time
	// Saved is the method that was kept for later, where Order.Save asked for it.
	Saved Method
	// Live says whether the money is real, Reference is what travelled with it.
	Live      bool
	Reference Reference
}

// Decline says why a method was declined.
type Decline struct {
	Reason DeclineReason
	// Code is the provider's own.
	Code string `json:",omitempty"`
	// Message may be shown to the customer.
	Message string
	// Retryable: the same method may work later.
	Retryable bool `json:",omitempty"`
}

// Refunding is a refund to be made.
type Refunding struct {
	Attempt *Attempt
	// ID is the caller's: 1 to 44 of [A-Za-z0-9_-], unique within the order.
	ID     string
	Amount Money
	// Whole: it is all that is left, which some providers do without an amount.
	Whole bool
	// ProviderID is known once the provider has answered.
	ProviderID string
	// Began is when it was noted, and its key first used.
	Began time.Time
}

// Key is the idempotency key of the refund.
func (r *Refunding) Key() string { return r.Attempt.Key("refund:" + r.ID) }

// RefundState is where a refund stands.
type RefundState string

// The states of a refund.
const (
	RefundPending   RefundState = "pending"
	RefundSucceeded RefundState = "succeeded"
	RefundFailed    RefundState = "failed"
	// RefundUnknown: it may have been made. Its amount stays reserved.
	RefundUnknown RefundState = "unknown"
)

// Refund is how a refund stands.
type Refund struct {
	// ID is the caller's, ProviderID the provider's.
	ID, ProviderID string
	State          RefundState
	Amount         Money
	// FeeReturned is how much of the fee goes back with it: see [Fee.Returned].
	FeeReturned Money
	// Reason is the provider's word for a failure.
	Reason string
	// Recorded: the journal knows it.
	Recorded bool
}

// NextAction is what the customer must do: go to a page, or let the provider's
// script in the browser do it with a secret.
type NextAction struct {
	// Provider is whose it is.
	Provider string
	// RedirectURL is the page, empty where ClientSecret is set. It may carry a secret
	// too, as Stripe's does: it is for that customer alone.
	RedirectURL string
	// ClientSecret is for the provider's script. It lets its holder pay, so it goes
	// to that customer alone, and into no log.
	ClientSecret secret.Value
	// Expires is when it is too late; zero where the provider says nothing.
	Expires time.Time
}
