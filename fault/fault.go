// Package fault is the vocabulary for what went wrong at an outside service.
//
// An adapter answers with a [Kind] and a cause; it makes one attempt and says
// truthfully what happened. Everything that decides what to do next reads one
// table, [Decide], from the error and from how far the operation may be
// repeated ([Safety]).
//
//	_, err := mail.Send(ctx, msg)
//	if errors.Is(err, fault.RateLimited) { … }
//
// A Kind is itself an error, so [errors.Is] works with it, and [errors.As]
// still reaches the vendor's own error behind it. The zero value of everything
// is the careful one: an Unknown fault may have acted, and an operation of the
// zero Safety is never repeated where it may have acted.
package fault

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind says what a fault means for the next step, independent of the provider.
type Kind uint8

// The kinds, in the order of the decision table.
const (
	// Unknown is the zero value: nothing is known, so it may have acted.
	Unknown Kind = iota
	// Invalid: the request is wrong, and would be wrong anywhere.
	Invalid
	// NotFound: the thing asked for isn't there.
	NotFound
	// Conflict: the state of the thing forbids it.
	Conflict
	// Rejected: understood and refused, such as a declined card or blocked content.
	Rejected
	// Unsupported: this provider can't do it; another may. Matches [errors.ErrUnsupported].
	Unsupported
	// Denied: the credentials or the account were refused.
	Denied
	// Exhausted: a quota or balance is used up.
	Exhausted
	// RateLimited: slow down; [Error.RetryAfter] says for how long, where known.
	RateLimited
	// Unavailable: provably nothing was done.
	Unavailable
	// Uncertain: it may have acted.
	Uncertain
	// Canceled: the caller gave up. It says who stopped, not that nothing happened.
	Canceled
	kinds
)

var kindNames = [kinds]string{
	"unknown", "invalid", "not found", "conflict", "rejected", "unsupported",
	"denied", "exhausted", "rate limited", "unavailable", "uncertain", "canceled",
}

// String is the kind in words, such as "rate limited".
func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// Error makes a Kind usable as an error and as the target of [errors.Is].
func (k Kind) Error() string { return k.String() }

// Is lets Unsupported match [errors.ErrUnsupported].
func (k Kind) Is(target error) bool {
	return k == Unsupported && target == errors.ErrUnsupported
}

// Error is one fault: what kind, at which provider, during which operation.
//
// Adapters fill Kind, Code, RequestID, RetryAfter, Deduped, Account and Err. The Client
// stamps a copy with Provider, Op and, for a whole failed call, Attempts and
// Tried; it never writes to an adapter's own error. No field may hold a secret,
// a message body or personal data.
type Error struct {
	Kind Kind
	// Provider is a path when Clients are nested: "eu/paypal".
	Provider string
	// Op is the operation as its domain names it: "email.send".
	Op string
	// Code is the vendor's own code, verbatim.
	Code string
	// RequestID is the vendor's id of the request, for a support ticket.
	RequestID string
	// RetryAfter is how long the provider asked to be left alone, capped at
	// [MaxRetryAfter]; zero where it didn't say.
	RetryAfter time.Duration
	// Deduped: the attempt carried a key by which this provider deduplicates,
	// so repeating it here is safe.
	Deduped bool
	// Account: the fault is that of one account, such as a user who has revoked
	// access, and says nothing about the provider. It counts against the breaker of
	// the call's key, and where the call has no key against nobody's.
	Account bool
	// Local: our own refusal (open breaker, limiter, full bulkhead, a wait that
	// the caller ended). Nothing reached the provider.
	Local bool
	// Attempts is how many attempts reached a provider; set on a failed call.
	Attempts int
	// Tried lists, oldest first, what each attempt answered; set on a failed call.
	Tried []*Error
	// Err is the cause, in the vendor's own type where there is one.
	Err error
}

// New returns a fault of that kind with a cause, which may be nil.
func New(k Kind, cause error) *Error { return &Error{Kind: k, Err: cause} }

// Error says what was tried and why it failed, one provider after the other.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op)
		b.WriteString(": ")
	}
	if len(e.Tried) == 0 {
		e.describe(&b)
		return b.String()
	}
	b.WriteString(e.Kind.String())
	if e.Attempts > 0 {
		b.WriteString(" after ")
		b.WriteString(strconv.Itoa(e.Attempts))
		b.WriteString(plural(e.Attempts, " attempt", " attempts"))
	}
	sep := ": "
	for i := 0; i < len(e.Tried); {
		n := 1 // runs of the same answer print once
		for i+n < len(e.Tried) && e.Tried[i].sameAs(e.Tried[i+n]) {
			n++
		}
		b.WriteString(sep)
		e.Tried[i].describe(&b)
		if n > 1 {
			b.WriteString(" (" + strconv.Itoa(n) + " times)")
		}
		sep = "; "
		i += n
	}
	if e.Err != nil { // why the call ended, where that is not one of the answers
		b.WriteString(sep)
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func (e *Error) sameAs(o *Error) bool {
	return e.Kind == o.Kind && e.Provider == o.Provider && e.Code == o.Code && e.Local == o.Local &&
		(e.Err == o.Err || e.Err != nil && o.Err != nil && e.Err.Error() == o.Err.Error())
}

// describe writes provider, kind, code, cause and request id, without the operation.
func (e *Error) describe(b *strings.Builder) {
	if e.Provider != "" {
		b.WriteString(e.Provider)
		b.WriteString(": ")
	}
	b.WriteString(e.Kind.String())
	if e.Code != "" {
		b.WriteString(" (")
		b.WriteString(e.Code)
		b.WriteString(")")
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	if e.RequestID != "" {
		b.WriteString(" [request ")
		b.WriteString(e.RequestID)
		b.WriteString("]")
	}
	if e.RetryAfter > 0 {
		b.WriteString(", retry after ")
		b.WriteString(e.RetryAfter.Round(time.Millisecond).String())
	}
}

// Is matches the fault's own kind, and no other: a call that ended Uncertain
// doesn't match RateLimited because one of its attempts was.
func (e *Error) Is(target error) bool {
	if k, ok := target.(Kind); ok {
		return e.Kind == k
	}
	if e.Local && e.Err == target { // compared here, since Unwrap allocates and a refusal must cost nothing
		return true
	}
	return target == errors.ErrUnsupported && e.Kind == Unsupported
}

// Unwrap gives the causes, so that errors.As reaches the vendor's own errors.
// The kinds of the attempts in Tried stay out of reach on purpose: see Is.
func (e *Error) Unwrap() []error {
	if len(e.Tried) == 0 {
		if e.Err == nil {
			return nil
		}
		return []error{e.Err}
	}
	causes := make([]error, 0, len(e.Tried)+1)
	for _, t := range slices.Backward(e.Tried) { // the last answer first
		causes = append(causes, t.Unwrap()...)
	}
	if e.Err != nil {
		causes = append(causes, e.Err)
	}
	return causes
}

// As finds the *Error in err's tree. Where several are joined (errors.Join) it is
// the most careful of them: one that may have acted hides behind no other.
func As(err error) (*Error, bool) {
	if e, ok := err.(*Error); ok { //nolint:errorlint // the usual case, at no cost
		return e, true
	}
	e := mostCareful(err)
	return e, e != nil
}

func mostCareful(err error) *Error {
	switch x := err.(type) { //nolint:errorlint // this is what walks the tree
	case *Error:
		return x
	case interface{ Unwrap() []error }:
		var found *Error
		for _, joined := range x.Unwrap() {
			if e := mostCareful(joined); e != nil && (found == nil || care(e) > care(found)) {
				found = e
			}
		}
		return found
	}
	if inner := errors.Unwrap(err); inner != nil {
		return mostCareful(inner)
	}
	e, _ := errors.AsType[*Error](err) // a type of its own that says so by As
	return e
}

// care orders faults that are joined: those that may have acted come first, then
// those that nobody may repeat, then the rest.
func care(e *Error) int {
	switch {
	case MayHaveActed(e):
		return 2
	case !Decide(e, Once).Failover:
		return 1
	}
	return 0
}

// KindOf is the kind of an error that may or may not be a fault. A bare
// context.Canceled is Canceled, a bare context.DeadlineExceeded is Uncertain
// (who set the deadline isn't known here); anything else foreign is Unknown.
func KindOf(err error) Kind {
	if e, ok := As(err); ok {
		return e.Kind
	}
	if k, ok := errors.AsType[Kind](err); ok {
		return k
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return Uncertain
	case errors.Is(err, errors.ErrUnsupported):
		return Unsupported
	}
	return Unknown
}

// MayHaveActed reports whether a call that failed with err may have had its
// effect at a provider all the same. For a failed call every attempt is asked,
// not just the last: an ambiguous one is settled only by a later answer of the
// same provider that refuses a request which it recognised by its key.
func MayHaveActed(err error) bool {
	if err == nil {
		return false
	}
	e, ok := As(err)
	if !ok {
		return mayHaveActed(KindOf(err))
	}
	if e.Local {
		return false
	}
	if len(e.Tried) == 0 {
		return mayHaveActed(e.Kind)
	}
	for i, t := range e.Tried {
		if MayHaveActed(t) && !slices.ContainsFunc(e.Tried[i+1:], func(o *Error) bool { return o.Provider == t.Provider && o.Settles() }) {
			return true
		}
	}
	return e.Kind == Uncertain
}

// Settles reports whether the answer says what became of an earlier attempt at
// the same provider that may have acted: it recognised the key that both carried
// and refused all the same.
func (e *Error) Settles() bool { return e.Kind == Rejected && e.Deduped }

func mayHaveActed(k Kind) bool { return k == Unknown || k == Uncertain || k == Canceled }
