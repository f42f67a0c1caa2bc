package paypal

import (
	"context"
	"fmt"
	"net/http"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

const authorizationsPath = "/v2/payments/authorizations/"

// taking is capture_request of the Payments v2 specification.
type taking struct {
	Amount money `json:"amount"`
	Final  bool  `json:"final_capture"`
}

// CaptureAttempt takes some or all of what is held, and lets go of the rest. A refusal is
// fault.Rejected: what is held stays held.
func (g *Gateway) CaptureAttempt(ctx context.Context, a *payment.Attempt, amount payment.Money) (*payment.Payment, error) {
	if field, problem := payable(amount); field != "" {
		return nil, unsupported(field, problem)
	}
	id, err := g.held(ctx, a)
	if err != nil {
		return nil, err
	}
	if !kept(a.Began, paymentsKeep) {
		return g.settle(ctx, a, uncertain("capture authorization: the attempt began more than 45 days ago, and isn't sent again"))
	}
	r := &request{
		op: "capture authorization", method: http.MethodPost, path: authorizationsPath + id + "/capture",
		body: taking{moneyOf(amount), true}, key: a.CaptureKey(), deduped: true,
	}
	var c capture
	if err := g.call(ctx, r, &c); err != nil {
		return g.overHold(ctx, a, err)
	}
	return g.taken(a, id, &c, r)
}

// taken is how the payment stands after a capture.
func (g *Gateway) taken(a *payment.Attempt, id string, c *capture, r *request) (*payment.Payment, error) {
	p := g.ended(a, "")
	p.State, p.AuthorizationID = "", id
	if err := c.into(p); err != nil {
		return nil, r.mark(err)
	}
	if p.State == payment.Refused {
		f := fault.New(fault.Rejected, fmt.Errorf("paypal: the capture was declined, the money is still held: %s", p.Decline.Reason))
		f.Code = p.Decline.Code
		return nil, f
	}
	return p, nil
}

// held is the id of the authorization, which an attempt needn't know.
func (g *Gateway) held(ctx context.Context, a *payment.Attempt) (string, error) {
	if err := g.mine(a); err != nil {
		return "", err
	}
	if a.AuthorizationID != "" {
		return segment("authorization_id", a.AuthorizationID)
	}
	p, err := g.LookUp(ctx, a)
	switch {
	case err != nil:
		return "", err
	case p.AuthorizationID == "":
		return "", fault.New(fault.Conflict, &payment.FieldError{Field: "authorization_id", Problem: "there is none: nothing was held"})
	}
	return p.AuthorizationID, nil
}

// overHold looks up how it ended where PayPal says that it is over.
func (g *Gateway) overHold(ctx context.Context, a *payment.Attempt, cause error) (*payment.Payment, error) {
	switch issue(cause) {
	case "AUTHORIZATION_ALREADY_CAPTURED", "AUTHORIZATION_VOIDED", "AUTHORIZATION_EXPIRED", "PREVIOUSLY_CAPTURED", "PREVIOUSLY_VOIDED",
		"MAX_CAPTURE_COUNT_EXCEEDED":
	default:
		return nil, cause
	}
	p, err := g.LookUp(ctx, a)
	switch {
	case err != nil:
		return nil, unsettled(cause, err)
	case p.State == payment.Held:
		return nil, unsettled(cause, uncertain("PayPal says that the hold is over, and shows it as open"))
	}
	return p, nil
}

// VoidAttempt lets go of what is held. PayPal keeps no request id for it; the second time it
// says that it was done, which is a success.
func (g *Gateway) VoidAttempt(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	id, err := g.held(ctx, a)
	if err != nil {
		return nil, err
	}
	r := &request{op: "void authorization", method: http.MethodPost, path: authorizationsPath + id + "/void"}
	if err := g.call(ctx, r, nil); err != nil {
		return g.overHold(ctx, a, err)
	}
	p := g.ended(a, "VOIDED")
	p.AuthorizationID = id
	return p, nil
}
