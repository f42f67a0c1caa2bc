package paymenttest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

const (
	signature = "Bank-Signature"
	hookKey   = "the Bank's own"
)

// Webhook is the request with which a Bank tells about a payment, signed. The
// same id twice is the same event.
func (b *Bank) Webhook(url, id, paymentID string) *http.Request {
	h := payment.Hint{ID: id, Type: "payment.changed", Created: b.now(), Live: b.Live, PaymentID: paymentID, Subject: payment.AboutPayment}
	b.change(paymentID, func(a *account) { h.Reference = a.Reference })
	return SignedWebhook(url, h)
}

// SignedWebhook is the request of a Bank for any hint.
func SignedWebhook(url string, h payment.Hint) *http.Request {
	body, err := json.Marshal(h)
	if err != nil {
		panic(err) // a Hint has nothing that can't be written
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	r.Header.Set(signature, sign(body))
	return r
}

func sign(body []byte) string {
	m := hmac.New(sha256.New, []byte(hookKey))
	m.Write(body)
	return hex.EncodeToString(m.Sum(nil))
}

// ReadEvent reads what Webhook wrote.
func (b *Bank) ReadEvent(_ context.Context, h http.Header, body []byte) (*payment.Hint, error) {
	if !hmac.Equal([]byte(h.Get(signature)), []byte(sign(body))) {
		return nil, fault.New(fault.Denied, errors.New("paymenttest: the signature doesn't fit"))
	}
	var hint payment.Hint
	if err := json.Unmarshal(body, &hint); err != nil {
		return nil, fault.New(fault.Invalid, err)
	}
	return &hint, nil
}
