package payment

import (
	"github.com/smilefactory/integrations/fault"
)

// step is one of the two steps of a charge.
type step uint8

const (
	prepareStep step = iota
	commitStep
)

// next is what may follow a step that failed.
type next uint8

const (
	// giveUp: the answer stands, and no other provider is tried.
	giveUp next = iota
	// tryAnother: provably nothing moved and nothing can, once the attempt is noted as
	// fenced, which keeps us from committing it.
	tryAnother
	// settle: it may have moved money. Look up, repeat with the same key, fence; only a
	// fence that held lets another provider try.
	settle
)

// after is the rule of when another provider may be tried. The same provider has
// been asked again, with the same key, as often as the policy says; err has the
// history of all that.
//
//	| outcome                                            | next            |
//	|-|-|
//	| nothing was sent (DNS, refused, TLS, no token)     | another         |
//	| refused by ourselves (open breaker, limits)        | another         |
//	| 429, and no attempt before that may have acted     | another         |
//	| the provider can't do it; its quota is used up     | another         |
//	| an ambiguous prepare                               | another: nobody knows its id, so nothing can commit it once it is fenced in the journal |
//	| 401, 403                                           | none, but by an opt-in |
//	| 400, 404, 409, the key was used for something else | none            |
//	| declined                                           | none: the customer decides |
//	| a commit that ended in 5xx, timeout, EOF, key in use, an unreadable answer | settle |
//	| canceled by the caller                             | none            |
func after(s step, err error, failoverOnDenied bool) next {
	if fault.MayHaveActed(err) {
		if s == commitStep {
			return settle
		}
		if fault.KindOf(err) == fault.Canceled {
			return giveUp
		}
		return tryAnother
	}
	switch fault.KindOf(err) {
	case fault.Unavailable, fault.RateLimited, fault.Unsupported, fault.Exhausted:
		return tryAnother
	case fault.Denied:
		if failoverOnDenied {
			return tryAnother
		}
		return giveUp
	default:
		return giveUp
	}
}
