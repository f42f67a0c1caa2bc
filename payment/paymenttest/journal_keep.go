package paymenttest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

func keepsFields(t *journalTest) {
	k := key("order-1")
	want := fullEntry(t.TB, k)
	got := t.update(k, func(e *payment.Entry) { *e = *fullEntry(t.TB, k) })
	want.Version = 1
	t.is("what Update answers", got, want)
	t.is("what is there", t.entry(k), want)

	k = key("order-2") // with nothing but what has no zero value
	bare := func(e *payment.Entry) {
		e.Attempts = []payment.AttemptRecord{{Number: 1}, {Number: 2, Decline: &payment.Decline{}}}
		e.Refunds = []payment.RefundRecord{{Attempt: 1}}
	}
	want = &payment.Entry{Key: k, Version: 1}
	bare(want)
	t.update(k, bare)
	t.is("of an entry without anything", t.entry(k), want)
}

func keepsMany(t *journalTest) {
	const n = 200
	k := key("order-1")
	one := fullEntry(t.TB, k)
	many := func(e *payment.Entry) {
		*e = *one.Clone()
		e.Attempts, e.Refunds = nil, nil
		for i := range n {
			a, r := one.Attempts[0], one.Refunds[0]
			a.Number, a.PaymentID, a.ChargeID, a.AuthorizationID = i+1, fmt.Sprint("pay_", i), fmt.Sprint("charge_", i), fmt.Sprint("auth_", i)
			r.ID, r.ProviderID, r.Attempt = fmt.Sprint("r-", i), fmt.Sprint("refund_", i), i+1
			e.Attempts, e.Refunds = append(e.Attempts, a), append(e.Refunds, r)
		}
	}
	var want payment.Entry
	many(&want)
	want.Version = 1
	t.update(k, many)
	t.is("what is there", t.entry(k), &want)
	for _, id := range want.IDs() {
		t.finds("of many", id, k)
	}
}

// scribble writes over all that two copies might share.
func scribble(e *payment.Entry) {
	for name := range e.Order.Methods {
		e.Order.Methods[name] = payment.Method{ID: "scribble"}
	}
	for name := range e.Order.Payees {
		e.Order.Payees[name] = "scribble"
	}
	for i := range e.Attempts {
		a := &e.Attempts[i]
		for name := range a.Methods {
			a.Methods[name] = payment.Method{ID: "scribble"}
		}
		if a.Decline != nil {
			a.Decline.Message = "scribble"
		}
		a.State = "scribble"
	}
	for i := range e.Refunds {
		e.Refunds[i].State = "scribble"
	}
	for i := range e.Events {
		e.Events[i] = "scribble"
	}
	e.Rounds = -1
}

func sharesNothing(t *journalTest) {
	k := key("order-1")
	want := fullEntry(t.TB, k)
	want.Version = 1
	given := fullEntry(t.TB, k)
	var kept *payment.Entry
	answered := t.update(k, func(e *payment.Entry) { *e = *given; kept = e })
	for name, e := range map[string]*payment.Entry{
		"what a change was given": kept, "what a change put in": given, "what Update answered": answered, "what Entry answered": t.entry(k),
	} {
		scribble(e)
		t.is("after writing over "+name, t.entry(k), want)
	}
	no := errors.New("no")
	_, err := t.Update(t.Context(), k, func(_ context.Context, e *payment.Entry) error {
		scribble(e)
		return no
	})
	if !errors.Is(err, no) {
		t.Errorf("update: %v", err)
	}
	t.is("after a change that failed", t.entry(k), want)
}

func endedContext(t *journalTest) {
	was := t.update(key("known"), func(e *payment.Entry) { e.Created = suiteTime })
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	for name, ctx := range map[string]context.Context{"canceled": canceled, "too late": late} {
		for k, was := range map[payment.Key]*payment.Entry{key("known"): was, key("new"): nil} {
			e, err := t.Update(ctx, k, func(_ context.Context, e *payment.Entry) error {
				spoil(e)
				return nil
			})
			if fault.KindOf(err) != fault.Unavailable || e != nil {
				t.Errorf("%s: Update answers %v, and the error %v, want fault.Unavailable", name, e, err)
			}
			t.unspoilt(name, k, was)
		}
	}
}

func endingContext(t *journalTest) {
	k := key("order-1")
	was := t.update(k, func(e *payment.Entry) { e.Created = suiteTime })
	ctx, cancel := context.WithCancel(t.Context())
	e, err := t.Update(ctx, k, func(_ context.Context, e *payment.Entry) error {
		e.Rounds = 7
		cancel()
		return nil
	})
	switch is := t.entry(k); {
	case err == nil:
		t.is("what was stored", is, e)
		if e.Rounds != 7 {
			t.Errorf("Update answers that it was stored, and the entry is %v", e)
		}
	case fault.KindOf(err) == fault.Unavailable:
		t.is("what was not stored", is, was)
	case fault.KindOf(err) != fault.Uncertain:
		t.Errorf("update: the error is %v, want fault.Unavailable or fault.Uncertain", err)
	}
	t.update(k, func(e *payment.Entry) { e.Lease.Token = math.MaxInt64 })
}

type contextKey struct{}

func passesContext(t *journalTest) {
	ctx := context.WithValue(t.Context(), contextKey{}, "value")
	_, err := t.Update(ctx, key("order-1"), func(ctx context.Context, _ *payment.Entry) error {
		if ctx.Value(contextKey{}) != "value" || ctx.Err() != nil {
			t.Errorf("a change's context has the value %v, and the error %v", ctx.Value(contextKey{}), ctx.Err())
		}
		return nil
	})
	if err != nil {
		t.Errorf("update: %v", err)
	}
}

func staysDurable(t *journalTest) {
	durable := t.Durable()
	t.update(key("order-1"), func(*payment.Entry) {})
	if t.Durable() != durable {
		t.Errorf("Durable was %v, and is %v", durable, !durable)
	}
}
