package matrix_test

// What must come of a cell, by the table of when another provider may be tried
// (the facts of the providers: DESIGN, "Deciding after a failure"), and not by the
// code that is tested.

// effect is what a flaw means to the request that it hits.
type effect uint8

const (
	unsent    effect = iota // provably: no connection was had
	refused                 // 429: understood, and not done
	doubt                   // it may have been done
	inUse                   // another request with the key is under way
	undefined               // of the process, the caller, the journal
)

func (c cell) effect() effect {
	switch {
	case !c.Flaw.ofWire():
		return undefined
	case c.Step == inDNS || c.Step == inDial || c.Step == inTLS:
		return unsent
	case c.Flaw == status429:
		return refused
	case c.Flaw == status409:
		return inUse
	}
	return doubt
}

// succeeds reports whether the first call must answer with a success: the table
// allows another provider, which is healthy, or the same one is healthy when it
// is asked again with the same key.
func (c cell) succeeds() bool {
	switch {
	case c.Decline || c.Flaw == cancels:
		return false
	case c.Flaw.among(ofProcess): // the other process has healthy providers
		return c.Op != resume || !c.Day
	case c.Flaw.among(ofJournal):
		return c.journalSucceeds()
	case c.follows():
		return c.followerSucceeds()
	case c.Extent == once:
		return c.againSucceeds()
	case c.Phase == failover: // nobody else is left
		return c.Op != charge && c.settlesByLookUp() || c.Op == charge && c.Hit == toCommit && c.settlesByLookUp()
	case c.Op != charge:
		return c.settlesByLookUp()
	case c.Hit == toCommit:
		return c.committedSucceeds()
	case c.Hit == toPrepare: // unconfirmed and ambiguous: yes, after the intent is fenced off
		return c.effect() != inUse
	}
	return true // no access token: yes
}

// journalSucceeds: before the send nothing is sent; after the answer of a step
// that moves money, what is true is told.
func (c cell) journalSucceeds() bool {
	harmless := c.Flaw == journalSlow || c.Flaw == journalKept && c.Extent == once
	switch {
	case harmless && c.follows():
		return c.fencedOrDone()
	case harmless:
		return true
	case c.Step == inNote || c.Hit == toPrepare:
		return c.Flaw == journalKept
	}
	return c.Hit == c.moves() || c.Op == resume && c.Done
}

// againSucceeds: the same provider is asked again, with the same key.
func (c cell) againSucceeds() bool {
	switch {
	case c.Op == void && c.target() == "paypal": // without a key
		return c.effect() == unsent || c.effect() == refused || c.settlesByLookUp()
	case c.Flaw == late && c.target() == "paypal":
		return c.Hit != toCommit && c.Op == charge && c.Phase != failover
	case c.Flaw == late:
		return c.Op == charge && c.Phase != failover
	case c.Op == resume && c.kept():
		return false // it asks for the old answer, and once
	case c.kept() && (c.Step == written || c.Hit == toPrepare): // fenced off, and the other one is asked
		return c.Op == charge && c.Phase != failover
	}
	return true
}

// kept reports whether the failure is Stripe's answer to the key for a day
// ("Idempotency": 500s included).
func (c cell) kept() bool {
	return c.target() == "stripe" && (c.Flaw == noRetry500 || c.Flaw == status500) && (c.Step == written || c.Step == acted)
}

// settlesByLookUp: it was done, and the look-up says so.
func (c cell) settlesByLookUp() bool {
	wasDone := c.Step == acted || c.Step == inReply
	return wasDone && c.Op != resume && // which asks the provider once
		c.Extent != provider && c.Hit == c.moves()
}

func (c cell) committedSucceeds() bool {
	clean := c.Phase != doubted
	fences := c.Primary == "stripe" && c.Extent == lasting
	switch c.effect() {
	case unsent, refused:
		return clean || fences
	case inUse:
		return false
	default:
		return c.settlesByLookUp() || fences
	}
}

// followerSucceeds: the step before was cut off each time, and how it ended hangs
// on this request.
func (c cell) followerSucceeds() bool {
	return c.Extent == once && c.Flaw != late && c.fencedOrDone()
}

// fencedOrDone: the look-up finds it, or it can be fenced off.
func (c cell) fencedOrDone() bool {
	return c.Done || c.Op == charge && c.target() == "stripe" && c.Phase != failover
}

// staysAway reports whether the other provider must not even be asked.
func (c cell) staysAway() bool {
	switch {
	case c.Phase == failover, c.Flaw.among(ofProcess) && c.Op == charge:
		return false
	case c.Op != charge || c.Decline && c.Extent == once && !c.kept() && c.Flaw != late: // the customer decides
		return true
	case c.Hit == toLogin || c.Hit == toPrepare || !c.Flaw.ofWire():
		return false
	case c.target() == "paypal": // what can't be fenced off is looked up, and nothing else
		return c.effect() == doubt || c.effect() == inUse || c.Phase == doubted || c.follows()
	case c.Hit == toCommit:
		return c.Extent == provider && (c.effect() == doubt || c.Phase == doubted)
	case c.Hit == toLookUp:
		return c.Extent != once || c.Done
	}
	return c.Extent == provider
}
