package paypal

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash/crc32"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
	"github.com/smilefactory/integrations/payment"
)

const (
	// maxAge of a transmission. PayPal tries "up to 25 times over 3 days" (page
	// "Integrate webhooks"), and doesn't say whether the time of the transmission is
	// that of the first try, so an event may be as old, and a day older.
	maxAge = 4 * 24 * time.Hour
	// maxAhead is how far a clock may be behind PayPal's.
	maxAhead = 5 * time.Minute

	algorithm  = "SHA256withRSA"
	verifyPath = "/v1/notifications/verify-webhook-signature"
)

// transmission is how an event came (Webhooks v1 specification,
// verify_webhook_signature).
type transmission struct {
	Algorithm string `json:"auth_algo"`
	CertURL   string `json:"cert_url"`
	ID        string `json:"transmission_id"`
	Signature string `json:"transmission_sig"`
	Time      string `json:"transmission_time"`
	WebhookID string `json:"webhook_id"`
}

// ReadEvent verifies that PayPal sent an event to this webhook, and reads what it is
// about.
func (g *Gateway) ReadEvent(ctx context.Context, h http.Header, body []byte) (*payment.Hint, error) {
	if err := g.Check(); err != nil {
		return nil, fault.New(fault.Denied, err)
	}
	if g.WebhookID == "" {
		return nil, denied("WebhookID is required to read events")
	}
	t := transmission{
		h.Get("Paypal-Auth-Algo"), h.Get("Paypal-Cert-Url"), h.Get("Paypal-Transmission-Id"), h.Get("Paypal-Transmission-Sig"),
		h.Get("Paypal-Transmission-Time"), g.WebhookID,
	}
	if err := t.check(time.Now()); err != nil {
		return nil, err
	}
	verify := g.verify
	if g.VerifyAtPayPal {
		verify = g.ask
	}
	if err := verify(ctx, &t, body); err != nil {
		return nil, err
	}
	return g.hint(body)
}

func denied(why string) error { return fault.New(fault.Denied, errors.New("paypal: webhook: "+why)) }

func (t *transmission) check(now time.Time) error {
	at, err := time.Parse(time.RFC3339, t.Time)
	switch {
	case t.Signature == "" || t.ID == "":
		return denied("it isn't signed")
	case t.Algorithm != algorithm:
		return denied("it isn't signed with " + algorithm)
	case err != nil:
		return denied("its time isn't one of RFC 3339")
	case at.After(now.Add(maxAhead)):
		return denied("its time is in the future")
	case now.Sub(at) > maxAge:
		return denied("it is too old")
	}
	return nil
}

// verify checks the signature with PayPal's certificate (page "Integrate webhooks":
// over id, time, webhook id and the CRC-32 of the body as it came; that it is written
// in decimal is from PayPal's samples).
func (g *Gateway) verify(ctx context.Context, t *transmission, body []byte) error {
	sig, err := base64.StdEncoding.DecodeString(t.Signature)
	if err != nil {
		return denied("its signature isn't base64")
	}
	key, err := g.certs.key(ctx, g, t.CertURL)
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte(t.ID + "|" + t.Time + "|" + t.WebhookID + "|" + strconv.FormatUint(uint64(crc32.ChecksumIEEE(body)), 10)))
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], sig) != nil {
		return denied("its signature doesn't fit")
	}
	return nil
}

// ask lets PayPal check the signature. The event is sent as it came, byte for byte:
// written anew it would have another sum.
func (g *Gateway) ask(ctx context.Context, t *transmission, body []byte) error {
	if err := g.allowed(t.CertURL); err != nil {
		return err
	}
	if !json.Valid(body) {
		return fault.New(fault.Invalid, errors.New("paypal: webhook: it isn't JSON"))
	}
	head, err := transport.JSON(t)
	if err != nil {
		return denied("its header can't be written as JSON")
	}
	raw := bytes.Join([][]byte{bytes.TrimSuffix(head, []byte("}")), []byte(`,"webhook_event":`), body, []byte("}")}, nil)
	var said struct {
		Status string `json:"verification_status"`
	}
	err = g.call(ctx, &request{op: "verify webhook", method: http.MethodPost, path: verifyPath, body: verbatim(raw)}, &said)
	switch {
	case err != nil && fault.KindOf(err) == fault.Denied, err != nil && fault.KindOf(err) == fault.RateLimited:
		return err
	case err != nil: // whatever it was, it is to be asked again
		return fault.New(fault.Unavailable, err)
	case said.Status != "SUCCESS":
		return denied("PayPal says that its signature doesn't fit")
	}
	return nil
}

// verbatim is JSON that is sent as it stands.
type verbatim []byte

// event is event of the Webhooks v1 specification, with what of the resources of all
// kinds says whose they are.
type event struct {
	ID       string   `json:"id"`
	Type     string   `json:"event_type"`
	Kind     string   `json:"resource_type"`
	Created  string   `json:"create_time"`
	Resource resource `json:"resource"`
}

type resource struct {
	ID       string `json:"id"`
	OrderID  string `json:"order_id"` // of CHECKOUT.PAYMENT-APPROVAL.REVERSED
	CustomID string `json:"custom_id"`
	Payee    payee  `json:"payee"`
	Units    []unit `json:"purchase_units"`
	Links    links  `json:"links"`
	Related  struct {
		IDs struct {
			Order         string `json:"order_id"`
			Authorization string `json:"authorization_id"`
			Capture       string `json:"capture_id"`
		} `json:"related_ids"`
	} `json:"supplementary_data"`
	Disputed []struct {
		Transaction string `json:"seller_transaction_id"`
		CustomID    string `json:"custom"` // page "Disputes", disputed_transactions
	} `json:"disputed_transactions"`
}

// hint is what a verified event is about.
func (g *Gateway) hint(body []byte) (*payment.Hint, error) {
	var e event
	if err := json.Unmarshal(body, &e); err != nil || e.ID == "" || e.Type == "" {
		return nil, fault.New(fault.Invalid, errors.New("paypal: webhook: it isn't an event with an id and a type"))
	}
	out := &payment.Hint{ID: e.ID, Type: e.Type, Live: !g.Sandbox}
	out.Created, _ = time.Parse(time.RFC3339, e.Created)
	e.about(out)
	if owner := e.Resource.owner(); g.MerchantID != "" && owner != g.MerchantID {
		out.Account = owner
	}
	return out, nil
}

func (r *resource) owner() string {
	if r.Payee.MerchantID == "" && len(r.Units) > 0 && r.Units[0].Payee != nil {
		return r.Units[0].Payee.MerchantID
	}
	return r.Payee.MerchantID
}

func (r *resource) reference() payment.Reference {
	switch {
	case r.CustomID == "" && len(r.Units) > 0:
		return payment.ParseReference(r.Units[0].CustomID)
	case r.CustomID == "" && len(r.Disputed) > 0:
		return payment.ParseReference(r.Disputed[0].CustomID)
	}
	return payment.ParseReference(r.CustomID)
}

// capture is whose a refund is, by its link "up".
func (r *resource) capture() string {
	for _, link := range r.Links {
		if _, id, ok := strings.Cut(link.Href, "/v2/payments/captures/"); ok && link.Rel == "up" {
			return only(ids, id)
		}
	}
	return r.Related.IDs.Capture
}

// about sorts an event by its type (page "Webhook event names").
func (e *event) about(out *payment.Hint) {
	r := &e.Resource
	out.Subject, out.Reference = payment.AboutOther, r.reference()
	switch {
	case strings.HasPrefix(e.Type, "CHECKOUT."):
		out.Subject, out.PaymentID = payment.AboutPayment, cmp.Or(r.OrderID, r.ID)
	case strings.HasPrefix(e.Type, "PAYMENT.REFUND."), e.Type == "PAYMENT.CAPTURE.REFUNDED", e.Type == "PAYMENT.CAPTURE.REVERSED":
		out.Subject, out.PaymentID = payment.AboutRefund, r.Related.IDs.Order
		if e.Kind == "capture" {
			out.ChargeID = r.ID
			return
		}
		out.RefundID, out.ChargeID = r.ID, r.capture()
	case strings.HasPrefix(e.Type, "PAYMENT.CAPTURE."):
		out.Subject, out.ChargeID, out.PaymentID, out.AuthorizationID = payment.AboutPayment, r.ID, r.Related.IDs.Order, r.Related.IDs.Authorization
	case strings.HasPrefix(e.Type, "PAYMENT.AUTHORIZATION."):
		out.Subject, out.AuthorizationID, out.PaymentID = payment.AboutPayment, r.ID, r.Related.IDs.Order
	case strings.HasPrefix(e.Type, "CUSTOMER.DISPUTE."):
		out.Subject = payment.AboutDispute
		if len(r.Disputed) > 0 {
			out.ChargeID = r.Disputed[0].Transaction
		}
	}
}
