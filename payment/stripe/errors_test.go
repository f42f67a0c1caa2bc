package stripe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/stripe"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/stripe"
)

// saying is an answer with an error object.
func saying(status int, kind, code, param, message string) sim.Reply {
	body := fmt.Sprintf(`{"error": {"type": %q, "code": %q, "param": %q, "message": %q}}`, kind, code, param, message)
	return sim.Reply{Status: status, Header: http.Header{"Request-Id": {"req_4711"}}, Body: body}
}

func TestWhatStripesAnswersMean(t *testing.T) {
	const invalid = "invalid_request_error"
	html := sim.Reply{Status: 502, Header: http.Header{"Content-Type": {"text/html"}}, Body: "<html>"}
	for name, c := range map[string]struct {
		answer      sim.Reply
		write, read fault.Kind
	}{
		"a wrong parameter":                        {saying(400, invalid, "parameter_unknown", "x", "m"), fault.Invalid, fault.Invalid},
		"a wrong parameter without a code":         {saying(400, invalid, "", "x", "m"), fault.Invalid, fault.Invalid},
		"a parameter that names nothing":           {saying(400, invalid, "resource_missing", "customer", "m"), fault.Invalid, fault.Invalid},
		"a path that names nothing":                {saying(404, invalid, "resource_missing", "intent", "m"), fault.NotFound, fault.NotFound},
		"no such path: BaseURL leads elsewhere":    {saying(404, invalid, "", "", "m"), fault.Denied, fault.Denied},
		"a wrong key":                              {saying(401, invalid, "", "", "m"), fault.Denied, fault.Denied},
		"an expired key":                           {saying(401, invalid, "api_key_expired", "", "m"), fault.Denied, fault.Denied},
		"a key without the permission":             {saying(403, invalid, "", "", "m"), fault.Denied, fault.Denied},
		"an account that the key has no access to": {saying(403, invalid, "account_invalid", "", "m"), fault.Denied, fault.Denied},
		"an object of the other mode":              {saying(400, invalid, "livemode_mismatch", "", "m"), fault.Denied, fault.Denied},
		"an account that is not activated":         {saying(400, invalid, "testmode_charges_only", "", "m"), fault.Denied, fault.Denied},
		"less than the settlement currency takes":  {saying(400, invalid, "amount_too_small", "amount", "m"), fault.Unsupported, fault.Unsupported},
		"a kind of method that is off":             {saying(400, invalid, "payment_method_unactivated", "", "m"), fault.Unsupported, fault.Unsupported},
		"failed for another reason than a card":    {saying(402, invalid, "", "", "m"), fault.Rejected, fault.Rejected},
		"the same key, other parameters":           {saying(400, "idempotency_error", "", "", "m"), fault.Conflict, fault.Conflict},
		"the key is in use":                        {saying(409, "idempotency_error", "idempotency_key_in_use", "", "m"), fault.Uncertain, fault.Unavailable},
		"a conflict without a code":                {saying(409, invalid, "", "", "m"), fault.Uncertain, fault.Unavailable},
		"too many requests":                        {simulator.RateLimited(), fault.RateLimited, fault.RateLimited},
		"too many requests, by a proxy":            {sim.Reply{Status: 429, Body: "slow down"}, fault.RateLimited, fault.RateLimited},
		"the object is locked":                     {simulator.LockTimeout(), fault.RateLimited, fault.RateLimited},
		"the object is locked, with 409":           {saying(409, invalid, "lock_timeout", "", "m"), fault.RateLimited, fault.RateLimited},
		"a server's trouble":                       {simulator.ServerError(500, ""), fault.Uncertain, fault.Unavailable},
		"a server's trouble, with a code":          {saying(500, "api_error", "lock_timeout", "", "m"), fault.Uncertain, fault.Unavailable},
		"not implemented":                          {sim.Reply{Status: 501, Body: "{}"}, fault.Uncertain, fault.Unavailable},
		"not implemented, in Stripe's words":       {saying(501, "api_error", "", "", "m"), fault.Uncertain, fault.Unavailable},
		"a page of a proxy":                        {html, fault.Uncertain, fault.Unavailable},
		"unavailable":                              {simulator.ServerError(503, "true"), fault.Uncertain, fault.Unavailable},
		"timed out at a gateway":                   {sim.Reply{Status: 504, Body: "late"}, fault.Uncertain, fault.Unavailable},
		"something outside of Stripe failed":       {saying(424, "api_error", "", "", "m"), fault.Uncertain, fault.Unavailable},
		"failed, and it can't be read why":         {sim.Reply{Status: 402, Body: "<html>"}, fault.Uncertain, fault.Unavailable},
		"denied by a proxy":                        {sim.Reply{Status: 403, Body: "<html>"}, fault.Denied, fault.Denied},
		"an error without an error":                {sim.Reply{Status: 500, Body: "{}"}, fault.Uncertain, fault.Unavailable},
		"success without content":                  {sim.Reply{Status: 200, Body: ""}, fault.Uncertain, fault.Unavailable},
		"success of a portal":                      {sim.Reply{Status: 200, Body: "<html>"}, fault.Uncertain, fault.Unavailable},
		"success with an empty object":             {sim.Reply{Status: 200, Body: "{}"}, fault.Uncertain, fault.Unavailable},
		"success of another object":                {sim.Reply{Status: 200, Body: `{"object":"payment_intent","id":"pi_other","status":"succeeded","currency":"usd"}`}, fault.Uncertain, fault.Unavailable},
		"success with a currency of Mars":          {sim.Reply{Status: 200, Body: `{"object":"payment_intent","id":"PI","status":"succeeded","currency":"mar"}`}, fault.Uncertain, fault.Unavailable},
		"success with a status of tomorrow":        {sim.Reply{Status: 200, Body: `{"object":"payment_intent","id":"PI","status":"teleported","currency":"usd"}`}, fault.Uncertain, fault.Unavailable},
		"a redirect, which is not followed":        {sim.Reply{Status: 302, Header: http.Header{"Location": {"/v1/elsewhere"}}, Body: `{"object":"payment_intent","id":"PI","status":"succeeded","currency":"usd"}`}, fault.Uncertain, fault.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			a := b.prepared(t, "pm_card_visa")
			c.answer.Body = strings.ReplaceAll(c.answer.Body, `"PI"`, `"`+a.PaymentID+`"`)
			b.sim.Faults.Add(sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: c.answer})
			for _, do := range []struct {
				step
				want    fault.Kind
				deduped bool
			}{{b.Commit, c.write, true}, {b.LookUp, c.read, false}} {
				p, err := do.step(t.Context(), a)
				require.ErrorIs(t, err, do.want)
				assert.Nil(t, p)
				f, _ := fault.As(err)
				assert.Equal(t, do.deduped, f.Deduped)
				assert.Equal(t, c.answer.Header.Get("Request-Id"), f.RequestID)
				assert.ErrorContains(t, err, "stripe: ")
			}
			assert.Empty(t, b.sim.Charges("order-1"))
		})
	}
}

func TestTheCodeOfAnErrorIsStripesAndReachable(t *testing.T) {
	b := open(t)
	b.sim.Faults.Add(sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: saying(400, "invalid_request_error", "parameter_unknown", "amont", "Received unknown parameter: amont")})
	_, err := b.Prepare(t.Context(), b.attempt("pm_card_visa"))
	said, ok := errors.AsType[*stripe.Error](err)
	require.True(t, ok)
	assert.Equal(t, []any{400, "invalid_request_error", "parameter_unknown", "amont"}, []any{said.Status, said.Type, said.Code, said.Param})
	assert.EqualError(t, err, "invalid (parameter_unknown): stripe: status 400, invalid_request_error, parameter amont: Received unknown parameter: amont [request req_4711]")
}

func TestRetryAfterIsRead(t *testing.T) {
	b := open(t)
	reply := simulator.RateLimited()
	reply.Header.Set("Retry-After", "7")
	b.sim.Faults.Add(sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: reply})
	_, err := b.Prepare(t.Context(), b.attempt("pm_card_visa"))
	f, ok := fault.As(err)
	require.True(t, ok)
	assert.Equal(t, 7*time.Second, f.RetryAfter)
	assert.Equal(t, "rate_limit", f.Code)
}

func TestStripeSaysWhetherTheSameKeyIsWorthAnotherTry(t *testing.T) {
	for should, again := range map[string]bool{"": true, "true": true, "false": false} {
		b := open(t)
		a := b.prepared(t, "pm_card_visa")
		b.sim.Faults.Add(sim.Fault{On: on(confirmPath), At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.ServerError(500, should)})
		_, err := b.Commit(t.Context(), a)
		require.ErrorIs(t, err, fault.Uncertain)
		assert.Equal(t, again, fault.Decide(err, fault.Once).Retry, "Stripe-Should-Retry: %q", should)
		assert.True(t, fault.MayHaveActed(err))
		assert.Len(t, b.sim.Faults.Calls(on(confirmPath)), 1, "the adapter makes one attempt")
	}
}

func TestAKeptFailureStaysUnderItsKeyAndTheLookUpTells(t *testing.T) {
	for moment, want := range map[sim.When]payment.State{sim.BeforeActing: payment.Prepared, sim.AfterActing: payment.Paid} {
		b := open(t)
		a := b.prepared(t, "pm_card_visa")
		b.sim.Faults.Add(sim.Fault{On: on(confirmPath), At: moment, Do: sim.Answer, Kept: true, Times: 1, Reply: simulator.ServerError(500, "")})
		for range 2 {
			_, err := b.Commit(t.Context(), a)
			require.ErrorIs(t, err, fault.Uncertain)
		}
		p, err := b.LookUp(t.Context(), a)
		require.NoError(t, err)
		assert.Equal(t, want, p.State)
	}
}

func TestTheSameKeyWithOtherParametersIsAConflictThatChangesNothing(t *testing.T) {
	b := open(t)
	a := b.prepared(t, "pm_card_visa")
	a.Order.Amount.Minor = 2999
	_, err := b.Prepare(t.Context(), a)
	require.ErrorIs(t, err, fault.Conflict)
	f, _ := fault.As(err)
	assert.False(t, f.Settles())
	assert.Equal(t, fault.Verdict{}, fault.Decide(err, fault.Once))
}

func TestAKeyInUseIsWaitedFor(t *testing.T) {
	b := open(t)
	a := b.prepared(t, "pm_card_visa")
	gate := sim.NewGate()
	b.sim.Faults.Add(sim.Fault{On: on(confirmPath), At: sim.BeforeActing, Do: sim.Stall, Gate: gate, Times: 1})
	first := make(chan error, 1)
	go func() {
		_, err := b.Commit(context.WithoutCancel(t.Context()), a)
		first <- err
	}()
	<-gate.Arrived()
	_, err := b.Commit(t.Context(), a)
	require.ErrorIs(t, err, fault.Uncertain)
	f, _ := fault.As(err)
	assert.Equal(t, "idempotency_key_in_use", f.Code)
	assert.True(t, f.Deduped)
	assert.False(t, f.Settles())
	gate.Open()
	require.NoError(t, <-first)
	p, err := b.Commit(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Paid, p.State)
	assert.Len(t, b.sim.Charges("order-1"), 1)
}

func TestALockedObjectWasNotTouched(t *testing.T) {
	b := open(t)
	a := b.prepared(t, "pm_card_visa")
	unlock := b.sim.Lock(a.PaymentID)
	_, err := b.Commit(t.Context(), a)
	require.ErrorIs(t, err, fault.RateLimited)
	unlock()
	p, err := b.Commit(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Paid, p.State)
}

// Whatever breaks the connection, and whenever: the step is uncertain, its
// repetition tells the truth, and the money moved once.
func TestABrokenConnectionIsUncertainAndTheSameKeyTellsTheTruth(t *testing.T) {
	moments := map[string]sim.When{
		"before the body was read": sim.BeforeReading, "before acting": sim.BeforeActing, "after acting": sim.AfterActing,
		"in the header of the answer": sim.MidHeader, "in the answer": sim.MidAnswer,
	}
	for _, http2 := range []bool{false, true} {
		for moment, at := range moments {
			for how, do := range map[string]sim.Action{"reset": sim.Reset, "close": sim.Close} {
				t.Run(fmt.Sprintf("%s %s, HTTP/2 %t", how, moment, http2), func(t *testing.T) {
					b := openOver(t, http2)
					plan := func(path string) { b.sim.Faults.Add(sim.Fault{On: on(path), At: at, Do: do}) }
					uncertain := func(do step, a *payment.Attempt) {
						t.Helper()
						_, err := do(t.Context(), a)
						require.ErrorIs(t, err, fault.Uncertain)
						f, _ := fault.As(err)
						assert.True(t, f.Deduped)
						b.sim.Faults.Heal()
					}
					a := b.attempt("pm_card_visa")
					plan(createPath)
					uncertain(b.Prepare, a)
					p, err := b.Prepare(t.Context(), a)
					require.NoError(t, err)
					a.PaymentID = p.ID
					plan(confirmPath)
					uncertain(b.Commit, a)
					p, err = b.Commit(t.Context(), a)
					require.NoError(t, err)
					assert.Equal(t, payment.Paid, p.State)
					assert.Len(t, b.sim.Charges("order-1"), 1)

					plan(cancelPath)
					uncertain(b.Fence, a)
					b.sim.Faults.Add(sim.Fault{On: sim.Match{Method: http.MethodGet}, At: at, Do: do})
					_, err = b.LookUp(t.Context(), a)
					require.ErrorIs(t, err, fault.Unavailable, "a look-up changes nothing")
				})
			}
		}
	}
}

func TestWhatNeverReachedStripeIsUnavailable(t *testing.T) {
	b := open(t)
	a := b.prepared(t, "pm_card_visa")
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }}
	b.HTTPClient = &http.Client{Transport: transport}
	for _, do := range []step{b.Prepare, b.Commit, b.Fence, b.VoidAttempt, b.LookUp} {
		_, err := do(t.Context(), a)
		require.ErrorIs(t, err, fault.Unavailable)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		assert.False(t, fault.MayHaveActed(err))
	}
}

// net/http repeats a request on a dead keep-alive connection where there is an
// Idempotency-Key: the same key makes it one.
func TestAReplayOfTheTransportsIsOneCharge(t *testing.T) {
	b := open(t)
	a := b.prepared(t, "pm_card_visa")
	b.sim.Faults.Add(sim.Fault{On: on(confirmPath), At: sim.AfterActing, Do: sim.Close, Times: 1})
	p, err := b.Commit(t.Context(), a)
	require.NoError(t, err)
	assert.Equal(t, payment.Paid, p.State)
	assert.Len(t, b.sim.Faults.Calls(on(confirmPath)), 2)
	assert.Len(t, b.sim.Charges("order-1"), 1)
}

func TestACallerWhoGivesUpIsAnsweredAtOnce(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for moment, at := range map[string]sim.When{"before acting": sim.BeforeActing, "after acting": sim.AfterActing, "in the answer": sim.MidAnswer} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %t", moment, http2), func(t *testing.T) {
				b := openOver(t, http2)
				a := b.prepared(t, "pm_card_visa")
				gate := sim.NewGate()
				b.sim.Faults.Add(sim.Fault{On: on(confirmPath), At: at, Do: sim.Stall, Gate: gate})
				defer gate.Open()
				ctx, cancel := context.WithCancel(t.Context())
				var gone time.Time
				go func() {
					<-gate.Arrived()
					gone = time.Now()
					cancel()
				}()
				_, err := b.Commit(ctx, a)
				took := time.Since(gone)
				require.ErrorIs(t, err, context.Canceled)
				require.ErrorIs(t, err, fault.Uncertain)
				assert.Less(t, took, 50*time.Millisecond)
			})
		}
	}
}

func TestAnEndlessAnswerIsCut(t *testing.T) {
	b := open(t)
	b.HTTPClient = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(endless{})}, nil
	})}
	_, err := b.Prepare(t.Context(), b.attempt("pm_card_visa"))
	require.ErrorIs(t, err, fault.Uncertain)
	assert.Less(t, len(err.Error()), 200)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '{'
	}
	return len(p), nil
}

func TestNothingPrivateIsInAnError(t *testing.T) {
	const clientSecret = "pi_1_secret_planted"
	planted := strings.Join([]string{
		key, "sk_live_planted", "whsec_planted", clientSecret, "4242424242424242", "4242 4242 4242 4242", "4242-4242-4242-4242",
		"ada.planted@example.com", returnURL, "Planted description",
	}, " | ")
	full, err := json.Marshal(map[string]any{"error": map[string]any{
		"type": planted, "code": planted, "decline_code": planted, "param": planted, "message": planted + "\nX-Injected: 1",
		"payment_intent": map[string]any{"id": "pi_1", "client_secret": clientSecret, "receipt_email": "ada.planted@example.com"},
		"setup_intent":   map[string]any{"id": "seti_1", "client_secret": "seti_1_secret_planted"},
		"payment_method": map[string]any{"id": "pm_1", "billing_details": map[string]string{"name": "Ada Planted", "email": "ada.planted@example.com"}},
	}})
	require.NoError(t, err)
	for name, reply := range map[string]sim.Reply{
		"an error in full":         {Status: 400, Body: string(full), Header: http.Header{"Request-Id": {planted}}},
		"an error of the server's": {Status: 500, Body: string(full)},
		"no error in the error":    {Status: 500, Body: `{"note":"` + planted + `"}`},
		"a page":                   {Status: 502, Body: "<html>" + planted},
		"a success that broke off": {Status: 200, Body: `{"object":"payment_intent","client_secret":"` + clientSecret + `"`},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			a := b.prepared(t, "pm_card_visa")
			b.sim.Faults.Add(sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: reply})
			refund := func(ctx context.Context, a *payment.Attempt) (*payment.Payment, error) {
				_, err := b.RefundAttempt(ctx, &payment.Refunding{Attempt: a, ID: "r", Amount: a.Order.Amount})
				return nil, err
			}
			for _, do := range []step{b.Prepare, b.Commit, b.LookUp, b.Fence, refund} {
				_, err := do(t.Context(), a)
				require.Error(t, err)
				for _, shown := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err), chain(err)} {
					assert.NotContains(t, strings.ToLower(shown), "planted")
					assert.NotContains(t, shown, "4242")
					assert.NotContains(t, shown, "\n")
				}
			}
		})
	}
}

// chain prints every error that can be reached.
func chain(err error) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%v %+v %#v ", err, err, err)
	switch e := err.(type) { //nolint:errorlint // each link by itself
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			out.WriteString(chain(inner))
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			out.WriteString(chain(inner))
		}
	}
	return out.String()
}
