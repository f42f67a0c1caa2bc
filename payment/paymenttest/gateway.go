package paymenttest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

// Subject is a Gateway under test, with what the suite must know and do at its
// provider's side.
type Subject struct {
	Gateway payment.Gateway
	// Good, Poor and Strict are methods that pay, are declined for want of funds, and
	// must be confirmed by the customer. A zero one is skipped, as a feature is that
	// the Gateway answers with fault.Unsupported.
	Good, Poor, Strict payment.Method
	// Confirm is the customer who does what the payment's Action asks of him. Where it
	// is nil nobody is there, and what follows the asking is skipped.
	Confirm func(t testing.TB, p *payment.Payment)
	// Charges are the amounts that the provider took for an order, by its own books.
	Charges func(order string) []payment.Money
	// Unready are the same Gateway, each with one thing wrong that it fails of before
	// anything is sent, by what it is: no connection can be had, no credentials.
	Unready map[string]payment.Gateway
}

// RunGateway checks that a Gateway keeps the contract of package payment. Each
// rule is a subtest with a Subject of its own, which open makes and t cleans up.
func RunGateway(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	for _, r := range gatewayRules {
		t.Run(r.says, func(t *testing.T) {
			s := open(t)
			r.check(&gatewayTest{TB: t, Subject: s})
		})
	}
}

type gatewayRule struct {
	says  string
	check func(t *gatewayTest)
}

var gatewayRules = []gatewayRule{
	{"to prepare moves nothing, and twice is once", preparesOnce},
	{"to commit moves the amount, and twice is once", commitsOnce},
	{"many commits at once move it once", commitsAtOnce},
	{"another attempt is another payment", numbersCount},
	{"a decline is an answer, with a reason and words for the customer", declines},
	{"what is fenced can't be committed", fences},
	{"a fence that comes too late says so", fencesTooLate},
	{"the customer's action is asked for, and then it is paid", acts},
	{"a method that must be confirmed asks for it", confirms},
	{"what is held is captured in part, and the rest let go", captures},
	{"what is held is voided", voids},
	{"refunds are made once each, and never more than was taken", refunds},
	{"a refund is found by its id, and by its provider's", findsRefunds},
	{"what travels with a payment comes back", comesBack},
	{"an unknown payment isn't found", findsNothing},
	{"a context that has ended lets nothing be sent", sendsNothing},
	{"what fails before anything is sent says so", failsBefore},
	{"a wrong request counts against nobody", countsAgainstNobody},
	{"what can't be taken is said without I/O", cantTake},
	{"an attempt isn't changed", changesNothing},
}

// gatewayTest is a rule at work.
type gatewayTest struct {
	testing.TB
	Subject
}

var orders sync.Map // ids are unique over a whole run, since providers remember keys

func (t *gatewayTest) attempt(m payment.Method) *payment.Attempt {
	for i := 0; ; i++ {
		id := fmt.Sprintf("suite-%d-%d", time.Now().UnixMilli()%1_000_000_000, i)
		if _, used := orders.LoadOrStore(id, true); used {
			continue
		}
		a := &payment.Attempt{
			Tenant: "tenant-1", Number: 1, Provider: "suite", Method: m, Began: time.Now(),
			Order: &payment.Order{
				ID: id, User: "user-1", Amount: payment.Money{Minor: 1999, Currency: "USD"},
				ReturnURL: "https://shop.example.com/return", Description: "Two books",
			},
		}
		if i, ok := t.Gateway.(payment.Identifier); ok {
			a.Identity = i.Identity()
		}
		return a
	}
}

// must ends the rule where an error came, and skips it where the Gateway can't.
func (t *gatewayTest) must(p *payment.Payment, err error) *payment.Payment {
	t.Helper()
	if errors.Is(err, fault.Unsupported) {
		t.Skipf("it can't: %v", err)
	}
	if err != nil {
		t.Fatalf("unexpected: %v", err)
	}
	return p
}

func (t *gatewayTest) prepared(m payment.Method) *payment.Attempt {
	t.Helper()
	a := t.attempt(m)
	t.note(a, t.must(t.Gateway.Prepare(t.Context(), a)))
	return a
}

// note is what the journal would remember.
func (t *gatewayTest) note(a *payment.Attempt, p *payment.Payment) {
	for to, from := range map[*string]string{&a.PaymentID: p.ID, &a.ChargeID: p.ChargeID, &a.AuthorizationID: p.AuthorizationID} {
		if from != "" {
			*to = from
		}
	}
}

func (t *gatewayTest) commit(a *payment.Attempt) *payment.Payment {
	t.Helper()
	p := t.must(t.Gateway.Commit(t.Context(), a))
	t.note(a, p)
	return p
}

// lookUp checks that the provider shows the state.
func (t *gatewayTest) lookUp(a *payment.Attempt, want payment.State) *payment.Payment {
	t.Helper()
	p := t.must(t.Gateway.LookUp(t.Context(), a))
	if p.State != want {
		t.Fatalf("it is %q when it is looked up, not %q", p.State, want)
	}
	t.note(a, p)
	return p
}

func (t *gatewayTest) charged(a *payment.Attempt, want ...int64) {
	t.Helper()
	var got []int64
	for _, m := range t.Charges(a.Order.ID) {
		got = append(got, m.Minor)
		if m.Currency != a.Order.Amount.Currency {
			t.Errorf("%v were taken, of another currency", m)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("the provider took %v, not %v", got, want)
	}
}

func (t *gatewayTest) good() payment.Method { return t.needs(t.Good, "a good method") }

func (t *gatewayTest) needs(m payment.Method, what string) payment.Method {
	t.Helper()
	if m == (payment.Method{}) {
		t.Skip("there is no such method here: " + what)
	}
	return m
}

func preparesOnce(t *gatewayTest) {
	a := t.prepared(t.good())
	t.charged(a)
	again := *a
	again.PaymentID = ""
	if p := t.must(t.Gateway.Prepare(t.Context(), &again)); p.ID != a.PaymentID {
		t.Errorf("prepared twice it is %q and %q", a.PaymentID, p.ID)
	}
	if p := t.lookUp(a, payment.Prepared); p.Action != nil || p.Amount != a.Order.Amount {
		t.Errorf("it is %+v", p)
	}
	t.charged(a)
}

func commitsOnce(t *gatewayTest) {
	a := t.prepared(t.good())
	for range 3 {
		p := t.commit(a)
		if p.State != payment.Paid || p.Captured != a.Order.Amount || p.Amount != a.Order.Amount {
			t.Fatalf("it is %q with %v of %v", p.State, p.Captured, p.Amount)
		}
	}
	t.lookUp(a, payment.Paid)
	t.charged(a, 1999)
}

func commitsAtOnce(t *gatewayTest) {
	a := t.prepared(t.good())
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			own := *a
			_, _ = t.Gateway.Commit(t.Context(), &own) // some are told that another is on its way
		})
	}
	calls.Wait()
	t.lookUp(a, payment.Paid)
	t.charged(a, 1999)
}

func numbersCount(t *gatewayTest) {
	a := t.prepared(t.good())
	b := *a
	b.Number, b.PaymentID = 2, ""
	p := t.must(t.Gateway.Prepare(t.Context(), &b))
	if p.ID == a.PaymentID {
		t.Error("the second attempt is the first one's payment")
	}
}

func declines(t *gatewayTest) {
	a := t.prepared(t.needs(t.Poor, "one that is declined"))
	p := t.commit(a)
	if p.State != payment.Refused || p.Decline == nil {
		t.Fatalf("it is %q with %+v", p.State, p.Decline)
	}
	if p.Decline.Reason != payment.InsufficientFunds || p.Decline.Message == "" || p.Decline.Code == "" {
		t.Errorf("it was declined with %+v", p.Decline)
	}
	t.charged(a)
}

func fences(t *gatewayTest) {
	a := t.prepared(t.good())
	if p := t.must(t.Gateway.Fence(t.Context(), a)); p.State != payment.Ended {
		t.Fatalf("it is %q", p.State)
	}
	if p, err := t.Gateway.Commit(t.Context(), a); err == nil && p.State != payment.Ended {
		t.Errorf("it could be committed: %q", p.State)
	}
	if p := t.must(t.Gateway.Fence(t.Context(), a)); p.State != payment.Ended {
		t.Errorf("fenced twice it is %q", p.State)
	}
	t.lookUp(a, payment.Ended)
	t.charged(a)
}

func fencesTooLate(t *gatewayTest) {
	a := t.prepared(t.good())
	t.commit(a)
	if p := t.must(t.Gateway.Fence(t.Context(), a)); p.State != payment.Paid {
		t.Errorf("it is %q", p.State)
	}
	t.charged(a, 1999)
}

// finish commits where it is for us to do so.
func (t *gatewayTest) finish(a *payment.Attempt) {
	t.Helper()
	if p := t.must(t.Gateway.LookUp(t.Context(), a)); p.State == payment.Prepared && p.Action == nil {
		t.commit(a)
	}
	t.lookUp(a, payment.Paid)
	t.charged(a, 1999)
}

func (t *gatewayTest) asks(p *payment.Payment) {
	t.Helper()
	if p.State != payment.Prepared && p.State != payment.Actionable || p.Action == nil {
		t.Fatalf("it is %q with %+v", p.State, p.Action)
	}
	if (p.Action.RedirectURL == "") == p.Action.ClientSecret.IsZero() {
		t.Error("the action must be a page or a secret")
	}
}

func acts(t *gatewayTest) {
	a := t.attempt(payment.Method{})
	p := t.must(t.Gateway.Prepare(t.Context(), a))
	t.note(a, p)
	t.asks(p)
	t.asks(t.must(t.Gateway.LookUp(t.Context(), a))) // for whoever comes back
	t.charged(a)
	t.confirm(p)
	t.finish(a)
}

func (t *gatewayTest) confirm(p *payment.Payment) {
	t.Helper()
	if t.Confirm == nil {
		t.Skip("the action is asked for, but nobody is there to do it")
	}
	t.Confirm(t, p)
}

func confirms(t *gatewayTest) {
	a := t.prepared(t.needs(t.Strict, "one that must be confirmed"))
	p := t.commit(a)
	t.asks(p)
	t.charged(a)
	t.confirm(p)
	t.finish(a)
}

func (t *gatewayTest) held() (*payment.Attempt, payment.Capturer) {
	t.Helper()
	c, ok := t.Gateway.(payment.Capturer)
	if !ok {
		t.Skip("it can't hold money")
	}
	a := t.attempt(t.good())
	a.Order.Hold = true
	t.note(a, t.must(t.Gateway.Prepare(t.Context(), a)))
	if p := t.commit(a); p.State != payment.Held {
		t.Fatalf("it is %q", p.State)
	}
	t.lookUp(a, payment.Held)
	t.charged(a)
	return a, c
}

func captures(t *gatewayTest) {
	a, c := t.held()
	for range 2 {
		p, err := c.CaptureAttempt(t.Context(), a, payment.Money{Minor: 500, Currency: "USD"})
		if t.must(p, err).State != payment.Paid || p.Captured.Minor != 500 {
			t.Fatalf("it is %q with %v", p.State, p.Captured)
		}
		t.note(a, p)
	}
	if p := t.lookUp(a, payment.Paid); p.Captured.Minor != 500 {
		t.Errorf("%v were captured", p.Captured)
	}
	t.charged(a, 500)
}

func voids(t *gatewayTest) {
	a, c := t.held()
	for range 2 {
		p, err := c.VoidAttempt(t.Context(), a)
		if t.must(p, err).State != payment.Ended {
			t.Fatalf("it is %q", p.State)
		}
	}
	t.lookUp(a, payment.Ended)
	t.charged(a)
}

func (t *gatewayTest) refunder() payment.Refunder {
	t.Helper()
	r, ok := t.Gateway.(payment.Refunder)
	if !ok {
		t.Skip("it can't refund")
	}
	return r
}

func refunds(t *gatewayTest) {
	r := t.refunder()
	a := t.prepared(t.good())
	t.commit(a)
	for _, part := range []struct {
		id    string
		minor int64
	}{{"r1", 500}, {"r1", 500}, {"r2", 1499}, {"r2", 1499}} {
		f, err := r.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: part.id, Amount: payment.Money{Minor: part.minor, Currency: "USD"}})
		if err != nil || f.State != payment.RefundSucceeded && f.State != payment.RefundPending || f.ProviderID == "" {
			t.Fatalf("%s: %+v, %v", part.id, f, err)
		}
	}
	if p := t.lookUp(a, payment.Paid); p.Refunded.Minor != 1999 {
		t.Errorf("%v were given back", p.Refunded)
	}
	_, err := r.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: "r3", Amount: payment.Money{Minor: 1, Currency: "USD"}})
	if err == nil || fault.MayHaveActed(err) {
		t.Errorf("a cent more was answered with %v", err)
	}
}

func findsRefunds(t *gatewayTest) {
	r := t.refunder()
	a := t.prepared(t.good())
	t.commit(a)
	ask := &payment.Refunding{Attempt: a, ID: "r1", Amount: payment.Money{Minor: 500, Currency: "USD"}}
	if _, err := r.LookUpRefund(t.Context(), ask); !errors.Is(err, fault.NotFound) {
		t.Errorf("one that wasn't made is %v", err)
	}
	made, err := r.RefundAttempt(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"", made.ProviderID} {
		ask.ProviderID = id
		found, err := r.LookUpRefund(t.Context(), ask)
		if err != nil || found.ProviderID != made.ProviderID || found.Amount != ask.Amount {
			t.Errorf("it was found as %+v, %v", found, err)
		}
	}
}

func comesBack(t *gatewayTest) {
	a := t.prepared(t.good())
	t.commit(a)
	p := t.lookUp(a, payment.Paid)
	if p.Reference.Order != a.Order.ID || p.Reference.Attempt != 1 || p.Reference.Tenant != "tenant-1" || p.Reference.User != "user-1" {
		t.Errorf("it came back with %+v", p.Reference)
	}
	if p.Live != a.Identity.Live || p.ID != a.PaymentID {
		t.Errorf("it came back as %q, live %v", p.ID, p.Live)
	}
}

func findsNothing(t *gatewayTest) {
	_, err := t.Gateway.LookUp(t.Context(), unknown(t.prepared(t.good())))
	if !errors.Is(err, fault.NotFound) {
		t.Errorf("it is %v", err)
	}
}

// unknown is the attempt with the id of a payment that isn't there.
func unknown(a *payment.Attempt) *payment.Attempt {
	out, id := *a, []rune(a.PaymentID)
	last := len(id) - 1
	id[last] = map[bool]rune{true: '8', false: '7'}[id[last] == '7']
	out.PaymentID = string(id)
	return &out
}

// unprepared is the attempt as it was before Prepare.
func unprepared(a *payment.Attempt) *payment.Attempt {
	out := *a
	out.PaymentID = ""
	return &out
}

func usd(minor int64) payment.Money { return payment.Money{Minor: minor, Currency: "USD"} }

// calls are the errors of all that a Gateway can be asked for an attempt which is
// prepared.
func calls(ctx context.Context, g payment.Gateway, a *payment.Attempt) map[string]error {
	errs := map[string]error{}
	_, errs["prepare"] = g.Prepare(ctx, unprepared(a))
	_, errs["commit"] = g.Commit(ctx, a)
	_, errs["look up"] = g.LookUp(ctx, a)
	_, errs["fence"] = g.Fence(ctx, a)
	if c, ok := g.(payment.Capturer); ok {
		_, errs["capture"] = c.CaptureAttempt(ctx, a, usd(500))
		_, errs["void"] = c.VoidAttempt(ctx, a)
	}
	if r, ok := g.(payment.Refunder); ok {
		back := &payment.Refunding{Attempt: a, ID: "r1", Amount: usd(500)}
		_, errs["refund"] = r.RefundAttempt(ctx, back)
		_, errs["look up a refund"] = r.LookUpRefund(ctx, back)
	}
	return errs
}

func sendsNothing(t *gatewayTest) {
	a := t.prepared(t.good())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for call, err := range calls(ctx, t.Gateway, a) {
		if err == nil || fault.MayHaveActed(err) && !errors.Is(err, fault.Canceled) {
			t.Errorf("%s: it answered %v", call, err)
		}
	}
	t.charged(a)
	t.lookUp(a, payment.Prepared)
}

func failsBefore(t *gatewayTest) {
	if len(t.Unready) == 0 {
		t.Skip("nothing is wrong with this Gateway")
	}
	a := t.prepared(t.good())
	for what, g := range t.Unready {
		for call, err := range calls(t.Context(), g, a) {
			if !errors.Is(err, fault.Unavailable) && !errors.Is(err, fault.Denied) {
				t.Errorf("%s, %s: want kind unavailable or denied, got %v", what, call, err)
			}
		}
	}
	t.charged(a)
	t.lookUp(a, payment.Prepared)
}

// countsAgainstNobody leaves it to the provider what it refuses.
func countsAgainstNobody(t *gatewayTest) {
	refuses := func(what string, err error) {
		t.Helper()
		if err != nil && fault.Decide(err, fault.Once).Count {
			t.Errorf("%s: want a fault of the request, got %v", what, err)
		}
	}
	for what, change := range untakeable {
		a := t.attempt(t.Good)
		change(a)
		_, err := t.Gateway.Prepare(t.Context(), a)
		refuses("prepare "+what, err)
	}
	a := t.prepared(t.good())
	if r, ok := t.Gateway.(payment.Refunder); ok {
		_, err := r.RefundAttempt(t.Context(), &payment.Refunding{Attempt: a, ID: "r1", Amount: usd(500)})
		refuses("refund what wasn't paid", err)
	}
	_, err := t.Gateway.Commit(t.Context(), unprepared(a))
	refuses("commit what wasn't prepared", err)
	_, err = t.Gateway.Commit(t.Context(), unknown(a))
	refuses("commit what isn't there", err)
	held, c := t.held()
	_, err = c.CaptureAttempt(t.Context(), held, usd(19990))
	refuses("capture more than is held", err)
}

// untakeable are orders that no provider takes.
var untakeable = map[string]func(a *payment.Attempt){
	"a tenth of a cent's worth of it": func(a *payment.Attempt) { a.Order.Amount = payment.Money{Minor: 1, Currency: "KWD"} },
	"nobody there and nothing saved": func(a *payment.Attempt) {
		a.Method, a.Order.Presence = payment.Method{}, payment.MerchantInitiated
	},
}

func cantTake(t *gatewayTest) {
	if err := t.Gateway.CanTake(t.attempt(t.Good)); err != nil {
		t.Errorf("a plain order: %v", err)
	}
	for what, change := range untakeable {
		a := t.attempt(t.Good)
		change(a)
		err := t.Gateway.CanTake(a)
		if !errors.Is(err, fault.Unsupported) {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if _, ok := errors.AsType[*payment.FieldError](err); !ok || !strings.Contains(err.Error(), ": ") {
			t.Errorf("%s: %v doesn't name the field", what, err)
		}
	}
}

func changesNothing(t *gatewayTest) {
	a := t.prepared(t.good())
	before, order := *a, *a.Order
	t.must(t.Gateway.Commit(t.Context(), a))
	t.must(t.Gateway.LookUp(t.Context(), a))
	if !reflect.DeepEqual(*a.Order, order) || *a != before {
		t.Error("the attempt was changed")
	}
}
