package payment

import (
	"context"
	"net/http"
	"time"
)

// Hook is a Gateway that can read its provider's webhooks.
type Hook interface {
	// ReadEvent verifies an event over its raw body, and reads from it what object
	// it is about and nothing else: what has become of it is looked up. A signature
	// that doesn't fit, or is too old, is fault.Denied; a body that can't be read
	// fault.Invalid; where the provider must be asked and doesn't answer,
	// fault.Unavailable.
	ReadEvent(ctx context.Context, h http.Header, body []byte) (*Hint, error)
}

// Hint is what a webhook is about.
type Hint struct {
	// ID is the event's, Type the provider's word for it.
	ID, Type string
	Created  time.Time
	// Account is set where it is a connected one.
	Account string
	Live    bool
	// PaymentID is the payment's at the provider; RefundID is set where it is about
	// a refund; ChargeID and AuthorizationID where the event names those alone.
	PaymentID, ChargeID, AuthorizationID, RefundID string
	// Reference is what travelled with the payment; the zero value is a payment that
	// isn't ours, or an event that doesn't say.
	Reference Reference
	// Subject says what it is about.
	Subject Subject
}

// Subject is what an event is about.
type Subject string

// The subjects.
const (
	AboutPayment Subject = "payment"
	AboutRefund  Subject = "refund"
	AboutDispute Subject = "dispute"
	AboutOther   Subject = "other"
)
