package stripe

import (
	"context"
	"errors"
	"strings"
	"time"

	sdk "github.com/stripe/stripe-go/v76"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

// Prepare creates a PaymentIntent, unconfirmed.
func (g Gateway) Prepare(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	if err := g.CanTake(a); err != nil {
		return nil, err
	}
	method, err := g.method(ctx, a.Method.ID, step(a, "method"))
	if err != nil {
		return refusedBefore(a, err)
	}
	params := created(a, method)
	var pi *sdk.PaymentIntent
	ans, err := g.do(ctx, step(a, "prepare"), func(c api) (err error) {
		params.Params = c.params
		pi, err = c.intents().New(params)
		return first(err, func() error { return wanted(pi.Object, "payment_intent", pi.ID, "") })
	})
	if err != nil {
		return refusedBefore(a, err)
	}
	if ans.replayed() {
		return g.afterwards(ctx, with(a, pi.ID), "", nil)
	}
	return standing(step(a, "prepare"), a, pi)
}

// created are the parameters of an unconfirmed PaymentIntent (API reference,
// "Create a PaymentIntent").
func created(a *payment.Attempt, method string) *sdk.PaymentIntentParams {
	o := a.Order
	n, _ := amount(o.Amount) // CanTake has seen it
	return &sdk.PaymentIntentParams{
		Amount: &n, Currency: new(strings.ToLower(string(o.Amount.Currency))),
		PaymentMethod: some(method), Customer: some(a.Method.Customer), Description: some(o.Description),
		AutomaticPaymentMethods: &sdk.PaymentIntentAutomaticPaymentMethodsParams{
			Enabled: new(true), AllowRedirects: redirects(o.ReturnURL),
		},
		CaptureMethod:    capturing(o.Hold),
		SetupFutureUsage: future(o.Save),
		Metadata:         metadata(a.Reference()),
		Expand:           expand("latest_charge"),
	}
}

// redirects forbids methods that leave the page where there is no way back: since
// 2023-08-16 they are on unless they are forbidden, and a confirmation without
// return_url fails.
func redirects(returnURL string) *string {
	if returnURL != "" {
		return nil
	}
	return new("never")
}

func capturing(hold bool) *string {
	if !hold {
		return nil // Stripe's default takes the money at once
	}
	return new(string(sdk.PaymentIntentCaptureMethodManual))
}

func future(s payment.Save) *string {
	switch s {
	case payment.OnSession:
		return new(string(sdk.PaymentIntentSetupFutureUsageOnSession))
	case payment.OffSession:
		return new(string(sdk.PaymentIntentSetupFutureUsageOffSession))
	default:
		return nil
	}
}

// Commit confirms the PaymentIntent.
func (g Gateway) Commit(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	params := &sdk.PaymentIntentConfirmParams{ReturnURL: some(a.Order.ReturnURL), Expand: expand("latest_charge")}
	if a.Order.Presence == payment.MerchantInitiated {
		params.OffSession = new(true)
	}
	return g.move(ctx, a, step(a, "commit"), payment.Prepared, func(c api) (*sdk.PaymentIntent, error) {
		params.Params = c.params
		return c.intents().Confirm(a.PaymentID, params)
	})
}

// Fence cancels the PaymentIntent. It answers what became of it where it was too
// late for that.
func (g Gateway) Fence(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	if a.PaymentID == "" {
		p, err := g.LookUp(ctx, a)
		if err != nil {
			return nil, err
		}
		a = with(a, p.ID)
	}
	return g.cancel(ctx, a, sdk.PaymentIntentCancellationReasonAbandoned)
}

// cancel carries no key of ours: to cancel twice does no harm, and under a key a
// failure, or a refusal while it was processing, would be kept for a day.
func (g Gateway) cancel(ctx context.Context, a *payment.Attempt, why sdk.PaymentIntentCancellationReason) (*payment.Payment, error) {
	params := &sdk.PaymentIntentCancelParams{CancellationReason: new(string(why)), Expand: expand("latest_charge")}
	return g.move(ctx, a, write(a, ""), "", func(c api) (*sdk.PaymentIntent, error) {
		params.Params = c.params
		return c.intents().Cancel(a.PaymentID, params)
	})
}

// move changes a PaymentIntent and answers how it stands after that. A refusal
// because of its state is no error where it isn't in the state before any more:
// somebody else was first.
func (g Gateway) move(ctx context.Context, a *payment.Attempt, r request, before payment.State, ask func(api) (*sdk.PaymentIntent, error)) (*payment.Payment, error) {
	if a.PaymentID == "" {
		return nil, fault.New(fault.Invalid, &payment.FieldError{Field: "payment_id", Problem: "is missing: the payment isn't prepared"})
	}
	var pi *sdk.PaymentIntent
	ans, err := g.do(ctx, r, func(c api) (err error) {
		pi, err = ask(c)
		return first(err, func() error { return wanted(pi.Object, "payment_intent", pi.ID, a.PaymentID) })
	})
	said, _ := errors.AsType[*Error](err)
	switch {
	case err == nil && (!ans.replayed() || pi.Status == sdk.PaymentIntentStatusSucceeded || pi.Status == sdk.PaymentIntentStatusCanceled):
		return standing(r, a, pi)
	case said != nil && said.decline != nil && !ans.replayed():
		return refused(a, said), nil
	case err == nil, said != nil && (said.decline != nil || outOfState[sdk.ErrorCode(said.Code)]):
		return g.afterwards(ctx, a, before, err)
	}
	return nil, err
}

// outOfState are the codes of a step that doesn't fit the state of the intent.
var outOfState = map[sdk.ErrorCode]bool{
	sdk.ErrorCodePaymentIntentUnexpectedState:      true,
	sdk.ErrorCodeIntentInvalidState:                true,
	sdk.ErrorCodeChargeAlreadyCaptured:             true,
	sdk.ErrorCodeChargeExpiredForCapture:           true,
	sdk.ErrorCodeCaptureChargeAuthorizationExpired: true,
}

// afterwards looks up how it stands, where the answer to a step was an old one or a
// refusal for its state. Where that isn't known, nothing is: an earlier request
// with the same key may have acted.
func (g Gateway) afterwards(ctx context.Context, a *payment.Attempt, before payment.State, cause error) (*payment.Payment, error) {
	p, err := g.LookUp(ctx, a)
	switch {
	case err != nil:
		return nil, doubtful(err)
	case cause != nil && before != "" && p.State == before:
		return nil, cause
	}
	return p, nil
}

// LookUp retrieves the PaymentIntent. Where its id was never learnt it is looked for
// by its metadata among those created since the attempt began, in at most a
// thousand; Stripe's search lags behind and isn't used.
func (g Gateway) LookUp(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	if a.PaymentID == "" {
		return g.find(ctx, a)
	}
	params := &sdk.PaymentIntentParams{Expand: expand("latest_charge")}
	var pi *sdk.PaymentIntent
	_, err := g.do(ctx, read(a), func(c api) (err error) {
		params.Params = c.params
		pi, err = c.intents().Get(a.PaymentID, params)
		return first(err, func() error { return wanted(pi.Object, "payment_intent", pi.ID, a.PaymentID) })
	})
	if err != nil {
		return nil, err
	}
	return standing(read(a), a, pi)
}

const (
	pageSize = 100  // API reference, "Pagination"
	maxFind  = 1000 // of a list that something is looked for in
	// skew is how far the clock that Attempt.Began is of may be ahead of Stripe's, and
	// late how long after it a Prepare may have been repeated: keys are kept that long.
	skew = time.Minute
	late = 25 * time.Hour
)

func (g Gateway) find(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
	params := &sdk.PaymentIntentListParams{
		CreatedRange: &sdk.RangeQueryParams{GreaterThanOrEqual: a.Began.Add(-skew).Unix(), LesserThanOrEqual: a.Began.Add(late).Unix()},
		Customer:     some(a.Method.Customer),
		Expand:       expand("data.latest_charge"),
	}
	var pi *sdk.PaymentIntent
	seen := 0
	_, err := g.do(ctx, read(a), func(c api) error {
		params.ListParams = c.pages()
		all := c.intents().List(params)
		for ; pi == nil && seen < maxFind && all.Next(); seen++ {
			if reference(all.PaymentIntent().Metadata) == a.Reference() {
				pi = all.PaymentIntent()
			}
		}
		return all.Err()
	})
	switch {
	case err != nil:
		return nil, err
	case pi != nil:
		return standing(read(a), a, pi)
	case seen >= maxFind:
		return nil, fault.New(fault.Unavailable, errors.New("stripe: the payment is not among the last thousand since the attempt began, and may be before them"))
	}
	return nil, fault.New(fault.NotFound, errors.New("stripe: no payment has the attempt's metadata"))
}

// with is the attempt with the id of its payment.
func with(a *payment.Attempt, id string) *payment.Attempt {
	known := *a
	known.PaymentID = id
	return &known
}

// first is err, or where there is none what check says.
func first(err error, check func() error) error {
	if err != nil {
		return err
	}
	return check()
}

// some is nil for an empty string, which Stripe would take for a wish to unset.
func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func expand(fields ...string) []*string { return sdk.StringSlice(fields) }
