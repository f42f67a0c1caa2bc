package payment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// Charge takes the money of an order, once. Called again for the same order it
// joins what there is: it waits for another call that works on it, goes on where
// one was cut off, and answers with the same result. Another amount, currency,
// payee, fee, user or way of capture for the same order is fault.Conflict; another
// method, or a higher Order.Try, is a new attempt, once the former is settled.
//
// A caller that gives up gets its answer at once, with a status of Unknown where
// money may move; what has begun goes on and is recorded.
func (c *Client) Charge(ctx context.Context, o *Order) (*Result, error) {
	return c.charge(ctx, o, true)
}

// Start is the first step of Charge: the payment is prepared, and nothing moves.
// The status is Ready, or NeedsAction where the customer must do something first.
// Finish, or Charge, is the second; without one the payment is fenced when
// Order.Expires says.
func (c *Client) Start(ctx context.Context, o *Order) (*Result, error) {
	return c.charge(ctx, o, false)
}

// Finish is the second step of Charge, after Start.
func (c *Client) Finish(ctx context.Context, orderID string) (*Result, error) {
	w, err := c.work(ctx, orderID)
	if err != nil {
		return nil, err
	}
	w.finishes = true
	return w.leased(ctx, mustExist, func(ctx context.Context) (*Result, error) {
		if w.e.last() == nil {
			return nil, fault.New(fault.NotFound, errNoEntry)
		}
		w.resumed(ctx)
		r, err := w.drive(ctx)
		return w.overtaken(ctx, r, err)
	})
}

func mustExist(e *Entry) error {
	if e.Version == 0 {
		return fault.New(fault.NotFound, errNoEntry)
	}
	return nil
}

// work begins a call on an order.
func (c *Client) work(ctx context.Context, orderID string) (*work, error) {
	tenant := resilience.Tenant(ctx)
	if orderID == "" || !isID(orderID, maxOrderID) {
		return nil, invalid("id", fmt.Sprintf("must be 1 to %d of [A-Za-z0-9_-]", maxOrderID))
	}
	if !isID(tenant, maxTenant) {
		return nil, invalid("tenant", fmt.Sprintf("must be at most %d of [A-Za-z0-9_-]", maxTenant))
	}
	return &work{c: c, caller: ctx, key: Key{tenant, orderID}}, nil
}

func (c *Client) charge(ctx context.Context, o *Order, commit bool) (*Result, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	w, err := c.work(ctx, o.ID)
	if err != nil {
		return nil, err
	}
	order := o.clone()
	order.Amount.Currency = o.currency()
	if err := ctx.Err(); err != nil {
		return nil, fault.New(fault.Canceled, err)
	}
	w.order = &order
	candidates, cant := w.candidates(&order)
	if cant != nil && !errors.Is(cant, fault.Unsupported) {
		return nil, cant
	}
	w.cant = cant
	e, err := c.entry(ctx, w.key)
	switch there := err == nil && e.last() != nil; {
	case cant != nil && !there: // else what became of it is the answer, whatever was changed since
		return nil, cant
	case there && e.paid() != nil: // many may ask for what is at its end
		if err := w.admit(&order)(e); err != nil {
			return nil, err
		}
		return w.known(e), nil
	}
	w.finishes = commit
	if !commit {
		w.mode = modeStart
	}
	return w.leased(ctx, w.admit(&order), func(ctx context.Context) (*Result, error) {
		r, err := w.attempts(ctx, &order, candidates)
		return w.overtaken(ctx, r, err)
	})
}

// candidates are the providers that can take the order, in order of preference;
// the others are noted with their reasons.
func (w *work) candidates(o *Order) ([]string, error) {
	var names []string
	var reasons []error
	chosen, err := w.c.chosen(o.Providers)
	if err != nil {
		return nil, err
	}
	for _, name := range chosen {
		a := &Attempt{Tenant: w.key.Tenant, Order: o, Provider: name, Method: byPath(o.Methods, name), Payee: byPath(o.Payees, name)}
		if err := w.c.canTake(a); err != nil {
			w.skipped = append(w.skipped, Skipped{name, err})
			reasons = append(reasons, fmt.Errorf("%s: %w", name, err))
			continue
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, fault.New(fault.Unsupported, fmt.Errorf("payment: no provider can take this order: %w", errors.Join(reasons...)))
	}
	return names, nil
}

// canTake asks the provider, and refuses to pay somebody else than who was named.
func (c *Client) canTake(a *Attempt) error {
	if len(a.Order.Payees) > 0 && a.Payee == "" {
		return fault.New(fault.Unsupported, &FieldError{"payees." + a.Provider, "is missing, and others are named"})
	}
	g, rest := c.gateway(a.Provider)
	asked := *a
	asked.Provider = cmp.Or(rest, a.Provider)
	return g.CanTake(&asked)
}

// chosen are the providers' paths that an order names, by path or by the
// provider's own name; all of them where it names none.
func (c *Client) chosen(providers []string) ([]string, error) {
	all := c.names()
	if len(providers) == 0 {
		return all, nil
	}
	var names []string
	for _, p := range providers {
		i := slices.IndexFunc(all, func(name string) bool { return name == p || path.Base(name) == p })
		if i < 0 {
			return nil, invalid("providers", "names one that this Client doesn't have")
		}
		names = append(names, all[i])
	}
	return names, nil
}

// byPath is what a map says of a provider, by its path or by its own name.
func byPath[V any](m map[string]V, provider string) V {
	if v, ok := m[provider]; ok {
		return v
	}
	return m[path.Base(provider)]
}

// admit lets an order into the journal, or compares it with what is there.
func (w *work) admit(o *Order) func(e *Entry) error {
	return func(e *Entry) error {
		if len(e.Attempts) == 0 {
			e.Order = *o
			return nil
		}
		if field := o.conflict(&e.Order); field != "" {
			return fault.New(fault.Conflict, &FieldError{field, "differs from what was asked for before under this id"})
		}
		if len(e.Attempts) >= maxAttempts {
			return fault.New(fault.Conflict, &FieldError{"id", "has too many attempts"})
		}
		return nil
	}
}

// conflict names the first term in which two calls for one order differ.
func (o *Order) conflict(first *Order) string {
	switch {
	case o.Amount.Minor != first.Amount.Minor:
		return "amount.minor"
	case o.currency() != first.currency():
		return "amount.currency"
	case !maps.Equal(o.Payees, first.Payees):
		return "payees"
	case o.Fee != first.Fee:
		return "fee"
	case o.Hold != first.Hold:
		return "hold"
	case o.User != first.User:
		return "user"
	}
	return ""
}

// joined is the answer where the lease could not be had: how the order stands by
// the journal, and the error.
func (w *work) joined(ctx context.Context, err error) (*Result, error) {
	if !errors.Is(err, ErrInProgress) {
		return nil, err
	}
	e, lookErr := w.c.entry(ctx, w.key)
	if lookErr != nil {
		return nil, err
	}
	w.e = e
	r := e.Result()
	if r.Status == Canceled || r.Status == Ready { // what the other call does changes that
		r.Status = Unknown
	}
	return r, err
}

// overtaken gives who has lost the lease the result of whoever had it after that,
// with no error where that call has ended what this one wanted.
func (w *work) overtaken(ctx context.Context, r *Result, err error) (*Result, error) {
	if !errors.Is(err, errLeaseLost) {
		return r, err
	}
	r, err = w.joined(ctx, inProgress())
	if r == nil || w.held(w.e) || w.order != nil && !w.order.asIn(w.e.last()) {
		return r, err
	}
	switch r.Status {
	case Succeeded, Authorized, Pending, Declined, NeedsCustomer:
		return r, nil
	default:
		return r, err
	}
}

// asIn reports whether an attempt is what the order asks for.
func (o *Order) asIn(a *AttemptRecord) bool {
	return maps.Equal(o.Methods, a.Methods) && o.Try <= a.Try
}

// attempts goes on with the newest attempt, or begins others, until one has an
// answer for the caller.
func (w *work) attempts(ctx context.Context, o *Order, candidates []string) (*Result, error) {
	w.tried = map[string]bool{}
	again, err := w.again(ctx, o, candidates)
	if err != nil {
		return w.result(), err
	}
	for {
		if again {
			if len(candidates) == 0 {
				return w.result(), w.cant
			}
			if err := w.note(ctx, o, w.nextOf(candidates)); err != nil {
				return nil, notSent(err)
			}
		}
		w.tried[w.e.last().Provider] = true
		w.others = w.nextOf(candidates) != ""
		r, err := w.drive(ctx)
		if !errors.Is(err, errAnother) {
			return r, err
		}
		again = true
	}
}

// errAnother: the attempt was fenced, and another provider may try.
var errAnother = errors.New("payment: another provider may try")

// again says whether the order needs a new attempt.
func (w *work) again(ctx context.Context, o *Order, candidates []string) (bool, error) {
	a := w.e.last()
	switch {
	case a == nil:
		return true, nil
	case w.e.Voided && o.Try <= a.Try:
		w.resumed(ctx)
		return false, nil
	case w.e.paid() != nil || a.State == AttemptHeld || a.State == AttemptCapturing || a.State == AttemptVoiding:
		return false, nil
	case a.State == AttemptFenced:
		return true, nil
	case a.status(&w.e.Order) == NeedsCustomer && o.Presence == CustomerPresent: // here he is
		return true, nil
	case o.asIn(a) && (len(candidates) == 0 || slices.Contains(candidates, a.Provider)):
		if (!a.State.Settled() || a.retryable()) && a.State != AttemptNoted {
			w.resumed(ctx)
		}
		return w.e.last().State == AttemptFenced, nil
	case !a.State.Settled() || a.retryable():
		if err := w.makeRoom(ctx); err != nil {
			return false, err
		}
	}
	return w.e.last().State.Settled(), nil
}

// makeRoom sees to it that the former attempt can't move money any more, for
// another one. It may turn out that it has.
func (w *work) makeRoom(ctx context.Context) error {
	w.goesOn = true
	w.mode = modeStop // until the next attempt is noted
	if err := w.settle(ctx); err != nil {
		return err
	}
	switch a := w.e.last(); {
	case a.State == AttemptPrepared, a.State == AttemptOpen, a.retryable():
		return w.fence(ctx, AttemptFenced, "another attempt was asked for")
	case a.State == AttemptCommitting, a.State == AttemptProcessing:
		return fault.New(fault.Conflict, errors.New("payment: the former attempt isn't settled yet"))
	}
	return nil
}

// nextOf is the first of the candidates that this call hasn't tried.
func (w *work) nextOf(candidates []string) string {
	for _, name := range candidates {
		if !w.tried[name] {
			return name
		}
	}
	return ""
}

// note writes a new attempt into the journal, before anything is sent.
func (w *work) note(ctx context.Context, o *Order, provider string) error {
	w.fresh, w.goesOn, w.mode = nil, false, modePay
	if !w.finishes {
		w.mode = modeStart
	}
	if now := w.c.rules.Now(); !o.Expires.IsZero() && !o.Expires.After(now) {
		return invalid("expires", "is past")
	}
	return w.update(ctx, func(e *Entry) error {
		now := w.c.rules.Now()
		e.Voided = false
		e.Order.ReturnURL, e.Order.CancelURL, e.Order.Presence, e.Order.Save = o.ReturnURL, o.CancelURL, o.Presence, o.Save
		e.Order.Description, e.Order.Expires = o.Description, o.Expires
		if e.Order.Expires.IsZero() {
			e.Order.Expires = now.Add(defaultExpires)
		}
		e.Rounds = 0
		e.Attempts = append(e.Attempts, AttemptRecord{
			Number: len(e.Attempts) + 1, Provider: provider, Identity: w.c.identity(provider), Methods: maps.Clone(o.Methods),
			Method: byPath(o.Methods, provider), Try: o.Try, State: AttemptNoted, Started: w.mode == modeStart, Began: now,
		})
		return nil
	})
}

// maxCommits bounds what one call does to a payment that is prepared again after
// each commit.
const maxCommits = 3

// drive takes the newest attempt as far as it goes.
func (w *work) drive(ctx context.Context) (*Result, error) {
	for commits := 0; ; {
		a := w.e.last()
		var err error
		switch {
		case a.State == AttemptNoted:
			err = w.prepare(ctx)
		case a.State == AttemptPrepared && !a.Approval && w.finishes && !w.e.Voided && commits < maxCommits:
			commits++
			err = w.commit(ctx)
		default:
			r := w.result()
			return r, w.because(r)
		}
		if w.doubted {
			return w.result(), err
		}
		if err != nil {
			return nil, err
		}
	}
}

// because is the error beside a result that isn't all that could be known.
func (w *work) because(r *Result) error {
	switch {
	case r.Status == Unknown:
		return r.unknown(w.cause)
	case r.Status == NeedsAction && r.Action == nil:
		return causes{errors.New("payment: the action could not be looked up"), w.cause}.of(fault.Unavailable)
	case r.Status == Ready && w.finishes:
		return causes{errors.New("payment: it could be neither committed nor fenced"), w.cause}.of(fault.Unavailable)
	}
	return nil
}

// resumed learns how the newest attempt stands, where an earlier call left it.
func (w *work) resumed(ctx context.Context) {
	if err := w.settle(ctx); err != nil {
		w.cause = err
	}
}
