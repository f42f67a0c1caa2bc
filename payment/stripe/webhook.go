package stripe

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

// tolerance is how far an event's time may be from ours, before or after
// (docs.stripe.com/webhooks, "Preventing replay attacks"; stripe-go v76 takes any
// time in the future).
const tolerance = 300 * time.Second

// ReadEvent verifies an event by any of the Webhook secrets, and reads what it is
// about. Events of any API version are taken, since what they are about is looked
// up.
func (g Gateway) ReadEvent(ctx context.Context, h http.Header, body []byte) (*payment.Hint, error) {
	s, err := readSignature(h.Get("Stripe-Signature"))
	if err != nil {
		return nil, fault.New(fault.Denied, err)
	}
	if away := time.Since(s.at); away > tolerance || away < -tolerance {
		return nil, fault.New(fault.Denied, errors.New("stripe: the webhook's time is more than five minutes away from ours"))
	}
	if err := g.verify(ctx, s, body); err != nil {
		return nil, err
	}
	return readHint(body)
}

// signature is the header Stripe-Signature: "t=1492774577,v1=5257a8…,v0=…".
type signature struct {
	time  string // as it was signed
	at    time.Time
	marks [][]byte // of scheme v1
}

var errSignature = errors.New("stripe: the header Stripe-Signature is missing or can't be read")

func readSignature(header string) (signature, error) {
	var s signature
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			seconds, err := strconv.ParseInt(value, 10, 64)
			if err != nil || s.time != "" {
				return s, errSignature
			}
			s.time, s.at = value, time.Unix(seconds, 0)
		case "v1":
			if mark, err := hex.DecodeString(value); err == nil && len(mark) == sha256.Size {
				s.marks = append(s.marks, mark)
			}
		}
	}
	if s.time == "" || len(s.marks) == 0 {
		return s, errSignature
	}
	return s, nil
}

// verify looks for a secret that made one of the signatures. An empty one fits
// nothing.
func (g Gateway) verify(ctx context.Context, s signature, body []byte) error {
	if len(g.Webhook) == 0 {
		return fault.New(fault.Denied, errors.New("stripe: Webhook is required"))
	}
	var missing error
	for _, source := range g.Webhook {
		v, err := source.Secret(ctx)
		switch {
		case err != nil:
			missing = err
		case v.IsZero():
			missing = errors.New("it is empty")
		case s.by(v.Reveal(), body):
			return nil
		}
	}
	switch {
	case missing != nil && ctx.Err() != nil:
		return fault.New(fault.Unavailable, fmt.Errorf("stripe: read Webhook: %w", missing))
	case missing != nil:
		return fault.New(fault.Denied, fmt.Errorf("stripe: read Webhook: %w", missing))
	}
	return fault.New(fault.Denied, errors.New("stripe: the webhook's signature fits none of the secrets"))
}

// by reports whether one of the marks was made with that secret. All are compared,
// each in constant time.
func (s signature) by(secret string, body []byte) bool {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(s.time + "."))
	mac.Write(body)
	want, fits := mac.Sum(nil), false
	for _, mark := range s.marks {
		fits = hmac.Equal(mark, want) || fits
	}
	return fits
}

// event is what is read of one (API reference, "The Event object").
type event struct {
	ID       string `json:"id"`
	Object   string `json:"object"`
	Type     string `json:"type"`
	Account  string `json:"account"`
	Created  int64  `json:"created"`
	Livemode bool   `json:"livemode"`
	Data     struct {
		Object struct {
			ID            string            `json:"id"`
			Object        string            `json:"object"`
			Metadata      map[string]string `json:"metadata"`
			PaymentIntent id                `json:"payment_intent"`
			Charge        id                `json:"charge"`
		} `json:"object"`
	} `json:"data"`
}

// id is an object's id, or that of an object in full.
type id string

// UnmarshalJSON takes a string, an object and null.
func (i *id) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*i = id(s)
		return nil
	}
	var full struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(data, &full); err != nil {
		return err
	}
	*i = id(full.ID)
	return nil
}

func readHint(body []byte) (*payment.Hint, error) {
	var e event
	if json.Unmarshal(body, &e) != nil || e.Object != "event" || e.ID == "" || e.Type == "" {
		return nil, fault.New(fault.Invalid, errors.New("stripe: the webhook is no event of Stripe's"))
	}
	o := e.Data.Object
	hint := &payment.Hint{
		ID: e.ID, Type: e.Type, Created: time.Unix(e.Created, 0), Account: e.Account, Live: e.Livemode,
		Reference: reference(o.Metadata), Subject: payment.AboutOther,
	}
	switch o.Object {
	case "payment_intent":
		hint.Subject, hint.PaymentID = payment.AboutPayment, o.ID
	case "charge":
		hint.Subject, hint.ChargeID, hint.PaymentID = payment.AboutPayment, o.ID, string(o.PaymentIntent)
	case "refund":
		hint.Subject, hint.RefundID = payment.AboutRefund, o.ID
		hint.ChargeID, hint.PaymentID = string(o.Charge), string(o.PaymentIntent)
	case "dispute":
		hint.Subject, hint.ChargeID, hint.PaymentID = payment.AboutDispute, string(o.Charge), string(o.PaymentIntent)
	}
	return hint, nil
}
