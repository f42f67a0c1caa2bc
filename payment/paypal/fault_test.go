package paypal_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/paypal"
	"github.com/smilefactory/integrations/payment"
)

// step is an operation that is sent with a key, on an attempt that is ready for it.
type step struct {
	path  string
	ready func(*bench) *payment.Attempt
	do    func(context.Context, *bench, *payment.Attempt) error
	moved func(*bench, *payment.Attempt) int // how often it has had its effect
	void  bool                               // no key
}

func taken(b *bench, a *payment.Attempt) int { return b.charges(a) }

var steps = map[string]step{
	"prepare": {createPath, func(b *bench) *payment.Attempt { return b.attempt() }, func(ctx context.Context, b *bench, a *payment.Attempt) error {
		p, err := b.Prepare(ctx, a)
		if err == nil {
			a.PaymentID = p.ID
		}
		return err
	}, func(*bench, *payment.Attempt) int { return 1 }, false},
	"capture order": {capturePath, func(b *bench) *payment.Attempt { return b.approved(simulator.Outcome{}) }, func(ctx context.Context, b *bench, a *payment.Attempt) error {
		_, err := b.Commit(ctx, a)
		return err
	}, taken, false},
	"authorize order": {authorizePath, func(b *bench) *payment.Attempt { return b.approved(simulator.Outcome{}, hold) }, func(ctx context.Context, b *bench, a *payment.Attempt) error {
		_, err := b.Commit(ctx, a)
		return err
	}, func(b *bench, a *payment.Attempt) int { return b.balance(a).OpenAuthorizations }, false},
	"capture authorization": {takePath, func(b *bench) *payment.Attempt { return b.held() }, func(ctx context.Context, b *bench, a *payment.Attempt) error {
		_, err := b.CaptureAttempt(ctx, a, usd(1999))
		return err
	}, taken, false},
	"void authorization": {voidPath, func(b *bench) *payment.Attempt { return b.held() }, func(ctx context.Context, b *bench, a *payment.Attempt) error {
		_, err := b.VoidAttempt(ctx, a)
		return err
	}, func(b *bench, a *payment.Attempt) int { return 1 - b.balance(a).OpenAuthorizations }, true},
	"refund capture": {refundPath, func(b *bench) *payment.Attempt { return b.paid() }, func(ctx context.Context, b *bench, a *payment.Attempt) error {
		_, err := b.RefundAttempt(ctx, refunding(a, "r-1", 1999))
		return err
	}, func(b *bench, a *payment.Attempt) int { return b.balance(a).Refunds }, false},
}

// wire are faults after which it isn't known whether anything was done.
var wire = map[string]sim.Fault{
	"reset in the body":        {At: sim.BeforeReading, Do: sim.Reset},
	"closed before acting":     {At: sim.BeforeActing, Do: sim.Close},
	"reset before acting":      {At: sim.BeforeActing, Do: sim.Reset},
	"closed after acting":      {At: sim.AfterActing, Do: sim.Close},
	"reset after acting":       {At: sim.AfterActing, Do: sim.Reset},
	"closed in the header":     {At: sim.MidHeader, Do: sim.Close},
	"closed in the answer":     {At: sim.MidAnswer, Do: sim.Close},
	"reset in the answer":      {At: sim.MidAnswer, Do: sim.Reset},
	"500":                      {At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.Error(500, "")},
	"500 after acting":         {At: sim.AfterActing, Do: sim.Answer, Reply: simulator.Error(500, "")},
	"502 page of a proxy":      {At: sim.AfterActing, Do: sim.Answer, Reply: sim.Reply{Status: 502, Header: http.Header{"Content-Type": {"text/html"}}, Body: "<html>planted</html>"}},
	"503":                      {At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.Error(503, "")},
	"501":                      {At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.Error(501, "")},
	"a success that is a page": {At: sim.AfterActing, Do: sim.Answer, Reply: sim.Reply{Status: 200, Body: "<html>planted</html>"}},
	"a success of nothing":     {At: sim.AfterActing, Do: sim.Answer, Reply: sim.Reply{Status: 201, Body: "{}"}},
	"a redirect":               {At: sim.BeforeActing, Do: sim.Answer, Reply: sim.Reply{Status: 307, Header: http.Header{"Location": {"/elsewhere"}}}},
	"a conflict without cause": {At: sim.AfterActing, Do: sim.Answer, Reply: sim.Reply{Status: 409, Body: "<html>"}},
	"a refusal without cause":  {At: sim.AfterActing, Do: sim.Answer, Reply: sim.Reply{Status: 422, Body: "<html>"}},
	"the same is under way":    {At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.Error(409, "PREVIOUS_REQUEST_IN_PROGRESS")},
	"a request timeout":        {At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.Error(408, "")},
}

// A void reads no body: what is done is in the status.
var readsNoBody = map[string]bool{"a success that is a page": true, "a success of nothing": true, "closed in the answer": true, "reset in the answer": true}

func TestAnAmbiguousStepIsUncertainAndItsRepetitionMovesMoneyOnce(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for op, s := range steps {
			for name, f := range wire {
				t.Run(op+" "+name+protocol(http2), func(t *testing.T) {
					b := openOver(t, http2)
					a := s.ready(b)
					f.On, f.Times = on(s.path), 1
					b.sim.Add(f)
					err := s.do(t.Context(), b, a)
					if s.void && readsNoBody[name] && err == nil {
						return
					}
					require.Error(t, err)
					e, ok := fault.As(err)
					require.True(t, ok)
					isFault(t, err, fault.Uncertain, e.Code)
					assert.True(t, fault.MayHaveActed(err))
					assert.Equal(t, !s.void, e.Deduped)
					assert.False(t, fault.Decide(err, fault.Once).Failover)
					require.NoError(t, s.do(t.Context(), b, a))
					assert.Equal(t, 1, s.moved(b, a))
				})
			}
		}
	}
}

func protocol(http2 bool) string {
	if http2 {
		return " over HTTP/2"
	}
	return ""
}

func TestAStepIsSentOnce(t *testing.T) {
	for op, s := range steps {
		b := open(t)
		a := s.ready(b)
		b.sim.Add(sim.Fault{On: on(s.path), At: sim.BeforeActing, Do: sim.Close})
		require.Error(t, s.do(t.Context(), b, a), op)
		assert.Len(t, b.sim.Calls(on(s.path)), 1, "%s isn't repeated unseen when a kept connection breaks", op)
	}
}

func TestRefusalsOfEachStep(t *testing.T) {
	for op, s := range steps {
		for _, c := range []struct {
			status int
			issue  string
			kind   fault.Kind
			code   string
		}{
			{400, "INVALID_PARAMETER_SYNTAX", fault.Invalid, "INVALID_PARAMETER_SYNTAX"},
			{403, "PERMISSION_DENIED", fault.Denied, "PERMISSION_DENIED"},
			{403, "", fault.Denied, "NOT_AUTHORIZED"},
			{404, "INVALID_RESOURCE_ID", fault.NotFound, "INVALID_RESOURCE_ID"},
			{415, "", fault.Invalid, "UNSUPPORTED_MEDIA_TYPE"},
			{422, "PAYEE_ACCOUNT_RESTRICTED", fault.Denied, "PAYEE_ACCOUNT_RESTRICTED"},
			{422, "SOMETHING_NEW", fault.Rejected, "SOMETHING_NEW"},
			{422, "PAYPAL_REQUEST_ID_PREVIOUSLY_USED", fault.Conflict, "PAYPAL_REQUEST_ID_PREVIOUSLY_USED"},
		} {
			b := open(t)
			a := s.ready(b)
			b.sim.Add(answers(on(s.path), simulator.Error(c.status, c.issue)))
			f := isFault(t, s.do(t.Context(), b, a), c.kind, c.code)
			assert.NotEmpty(t, f.RequestID, "Paypal-Debug-Id, for a support ticket")
			assert.False(t, fault.MayHaveActed(f), op)
			assert.False(t, f.Settles(), op)
		}
		b := open(t)
		a := s.ready(b)
		b.sim.Add(answers(on(s.path), simulator.RateLimited(7*time.Second)))
		f := isFault(t, s.do(t.Context(), b, a), fault.RateLimited, "RATE_LIMIT_REACHED")
		assert.Equal(t, 7*time.Second, f.RetryAfter)
		require.NoError(t, s.do(t.Context(), b, a))
		assert.Equal(t, 1, s.moved(b, a), op)
	}
}

func TestAnAnswerOfSomethingBeforePayPalSaysNothing(t *testing.T) {
	for op, s := range steps {
		for _, status := range []int{400, 404, 405, 410} {
			b := open(t)
			a := s.ready(b)
			b.sim.Add(answers(on(s.path), sim.Reply{Status: status, Body: "<html>planted"}))
			isFault(t, s.do(t.Context(), b, a), fault.Uncertain, strconv.Itoa(status))
			require.NoError(t, s.do(t.Context(), b, a), op)
			assert.Equal(t, 1, s.moved(b, a), op)
		}
	}
	b := open(t)
	a := b.prepared(func(a *payment.Attempt) { a.Began = time.Now().Add(-4 * time.Hour) })
	b.sim.Add(sim.Fault{On: got(orderPath), At: sim.BeforeActing, Do: sim.Answer, Reply: sim.Reply{Status: 404, Body: "<html>planted"}})
	_, err := b.LookUp(t.Context(), a)
	isFault(t, err, fault.Uncertain, "404")
	_, err = b.Fence(t.Context(), a)
	isFault(t, err, fault.Uncertain, "404")
}

func TestNothingIsSentWithoutAConnection(t *testing.T) {
	for op, s := range steps {
		b := open(t)
		a := s.ready(b)
		b.HTTPClient = &http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route") },
		}}
		isFault(t, s.do(t.Context(), b, a), fault.Unavailable, "")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		isFault(t, s.do(ctx, b, a), fault.Unavailable, "")
		b.BaseURL = "http://api.example.com"
		isFault(t, s.do(t.Context(), b, a), fault.Denied, "")
		assert.Empty(t, b.sim.Calls(on(s.path)), op)
	}
}

func TestACallerWhoGivesUpGetsAnAnswerAtOnce(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for op, s := range steps {
			t.Run(op+protocol(http2), func(t *testing.T) {
				b := openOver(t, http2)
				a := s.ready(b)
				gate := sim.NewGate()
				defer gate.Open()
				b.sim.Add(sim.Fault{On: on(s.path), At: sim.BeforeActing, Do: sim.Stall, Gate: gate, Times: 1})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- s.do(ctx, b, a) }()
				<-gate.Arrived()
				began := time.Now()
				cancel()
				err := <-done
				assert.Less(t, time.Since(began), 50*time.Millisecond)
				f := isFault(t, err, fault.Uncertain, "")
				require.ErrorIs(t, f, context.Canceled)
				assert.Equal(t, !s.void, f.Deduped)
			})
		}
	}
}

// While the first is under way, a second one with its key is told so.
func TestADuplicateOfWhatIsUnderWayIsUncertain(t *testing.T) {
	for op, s := range steps {
		b := open(t)
		a := s.ready(b)
		gate := sim.NewGate()
		b.sim.Add(sim.Fault{On: on(s.path), At: sim.BeforeActing, Do: sim.Stall, Gate: gate, Nth: 1})
		done := make(chan error, 1)
		first := *a
		go func() { done <- s.do(t.Context(), b, &first) }()
		<-gate.Arrived()
		f := isFault(t, s.do(t.Context(), b, a), fault.Uncertain, "PREVIOUS_REQUEST_IN_PROGRESS")
		assert.Equal(t, !s.void, f.Deduped)
		gate.Open()
		require.NoError(t, <-done)
		require.NoError(t, s.do(t.Context(), b, a))
		assert.Equal(t, 1, s.moved(b, a), op)
	}
}

func TestALookUpThatFailsSaysSo(t *testing.T) {
	b := open(t)
	a := b.prepared()
	for name, c := range map[string]struct {
		reply sim.Reply
		kind  fault.Kind
	}{
		"a page":                    {sim.Reply{Status: 200, Body: "<html>"}, fault.Uncertain},
		"another order":             {sim.Reply{Status: 200, Body: `{"id":"X","status":"COMPLETED","purchase_units":[{"amount":{"currency_code":"USD","value":"19.99"}}]}`}, fault.Uncertain},
		"an amount that isn't one":  {sim.Reply{Status: 200, Body: order(a, "APPROVED", `"amount":{"currency_code":"USD","value":"a lot"}`)}, fault.Uncertain},
		"a status that isn't known": {sim.Reply{Status: 200, Body: order(a, "DANCING", amount)}, fault.Uncertain},
		"no payment":                {sim.Reply{Status: 200, Body: order(a, "COMPLETED", amount)}, fault.Uncertain},
		"a capture of no status":    {sim.Reply{Status: 200, Body: order(a, "COMPLETED", amount+`,"payments":{"captures":[{"id":"C1",`+amount+`}]}`)}, fault.Uncertain},
		"a capture of no amount":    {sim.Reply{Status: 200, Body: order(a, "COMPLETED", amount+`,"payments":{"captures":[{"id":"C1","status":"COMPLETED"}]}`)}, fault.Uncertain},
		"two currencies":            {sim.Reply{Status: 200, Body: order(a, "COMPLETED", amount+`,"payments":{"captures":[{"id":"C1","status":"COMPLETED","amount":{"currency_code":"EUR","value":"1.00"}}]}`)}, fault.Uncertain},
		"an odd authorization":      {sim.Reply{Status: 200, Body: order(a, "COMPLETED", amount+`,"payments":{"authorizations":[{"id":"A1","status":"ODD"}]}`)}, fault.Uncertain},
		"an authorization without":  {sim.Reply{Status: 200, Body: order(a, "COMPLETED", amount+`,"payments":{"authorizations":[{"id":"A1","status":"CAPTURED"}]}`)}, fault.Uncertain},
		"a refund of no amount":     {sim.Reply{Status: 200, Body: order(a, "COMPLETED", amount+`,"payments":{"captures":[{"id":"C1","status":"COMPLETED",`+amount+`}],"refunds":[{"id":"R1","status":"COMPLETED"}]}`)}, fault.Uncertain},
		"no link":                   {sim.Reply{Status: 200, Body: order(a, "CREATED", amount)}, fault.Uncertain},
		"a link to a script":        {sim.Reply{Status: 200, Body: `{"links":[{"rel":"approve","href":"javascript:alert(1)"}],` + order(a, "CREATED", amount)[1:]}, fault.Uncertain},
		"500":                       {simulator.Error(500, ""), fault.Uncertain},
		"forbidden":                 {simulator.Error(403, ""), fault.Denied},
	} {
		b.sim.Add(sim.Fault{On: got(orderPath), At: sim.BeforeActing, Do: sim.Answer, Reply: c.reply})
		_, err := b.LookUp(t.Context(), a)
		require.ErrorIs(t, err, c.kind, name)
		_, err = b.Fence(t.Context(), a)
		require.ErrorIs(t, err, c.kind, name)
		b.sim.Heal()
	}
}

const amount = `"amount":{"currency_code":"USD","value":"19.99"}`

func order(a *payment.Attempt, status, unit string) string {
	return `{"id":"` + a.PaymentID + `","status":"` + status + `","purchase_units":[{` + unit + `}]}`
}

func TestOrdersAsPayPalMayShowThem(t *testing.T) {
	b := open(t)
	a := b.prepared()
	for name, c := range map[string]struct {
		status, payments string
		want             payment.State
		captured         int64
	}{
		"two captures":                       {"COMPLETED", `"captures":[{"id":"C1","status":"COMPLETED","amount":{"currency_code":"USD","value":"5.00"}},{"id":"C2","status":"PARTIALLY_REFUNDED","amount":{"currency_code":"USD","value":"3"}}]`, payment.Paid, 800},
		"a declined one before a paid one":   {"COMPLETED", `"captures":[{"id":"C1","status":"DECLINED",` + amount + `},{"id":"C2","status":"COMPLETED",` + amount + `}]`, payment.Paid, 1999},
		"a paid one before a declined one":   {"COMPLETED", `"captures":[{"id":"C2","status":"REFUNDED",` + amount + `},{"id":"C1","status":"FAILED",` + amount + `}]`, payment.Paid, 1999},
		"a declined one before a pending":    {"COMPLETED", `"captures":[{"id":"C1","status":"DECLINED",` + amount + `},{"id":"C2","status":"PENDING",` + amount + `}]`, payment.Processing, 0},
		"a declined capture of what is held": {"COMPLETED", `"authorizations":[{"id":"A1","status":"CREATED"}],"captures":[{"id":"C1","status":"DECLINED",` + amount + `}]`, payment.Held, 0},
		"a voided order with a void hold":    {"VOIDED", `"authorizations":[{"id":"A1","status":"VOIDED"}]`, payment.Ended, 0},
		"a voided order that was captured":   {"VOIDED", `"captures":[{"id":"C1","status":"COMPLETED",` + amount + `}]`, payment.Paid, 1999},
		"a voided order without payments":    {"VOIDED", ``, payment.Ended, 0},
		"a renewed hold":                     {"COMPLETED", `"authorizations":[{"id":"A1","status":"VOIDED"},{"id":"A2","status":"CREATED"}]`, payment.Held, 0},
		"a hold that ran out":                {"COMPLETED", `"authorizations":[{"id":"A1","status":"EXPIRED"}]`, payment.Ended, 0},
	} {
		b.sim.Add(sim.Fault{On: got(orderPath), At: sim.BeforeActing, Do: sim.Answer, Reply: sim.Reply{
			Status: 200, Body: order(a, c.status, amount+`,"payments":{`+c.payments+`}`),
		}})
		p, err := b.LookUp(t.Context(), a)
		require.NoError(t, err, name)
		assert.Equal(t, []any{c.want, usd(c.captured)}, []any{p.State, p.Captured}, name)
		b.sim.Heal()
	}
}
