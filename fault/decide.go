package fault

// Safety says how far an operation may be repeated. The zero value is the
// strictest.
type Safety uint8

const (
	// Once is never repeated where it may have acted, unless the same provider
	// deduplicates by a key that the attempt carried.
	Once Safety = iota
	// AtLeastOnce tolerates a duplicate, as most mail does.
	AtLeastOnce
	// Idempotent gives the same result however often and wherever it runs.
	Idempotent
	// Read changes nothing.
	Read
)

var safetyNames = [...]string{"once", "at least once", "idempotent", "read"}

// String is the safety in words.
func (s Safety) String() string {
	if int(s) < len(safetyNames) {
		return safetyNames[s]
	}
	return "invalid safety"
}

// Verdict is what a fault allows. An operation may forbid what it allows, and
// never allow what it forbids.
type Verdict struct {
	// Retry: the same provider may be asked again, after RetryAfter if it said so.
	Retry bool
	// Failover: the next provider may be asked.
	Failover bool
	// Count: it counts against the provider's circuit breaker.
	Count bool
	// Queue: it is worth trying again later.
	Queue bool
}

// rule is a row of the table. The three-valued columns are decided by the
// safety of the operation.
type rule struct {
	retry, failover, queue when
	count                  bool
}

type when uint8

const (
	no when = iota
	yes
	ifSafeHere      // the operation tolerates it, or this provider deduplicates
	ifSafeElsewhere // the operation tolerates it
)

// table is the contract of the whole library: every decision is read from here.
var table = [kinds]rule{
	//            retry here    try the backup     worth queueing    against the breaker
	Unknown:     {ifSafeHere, ifSafeElsewhere, ifSafeElsewhere, true},
	Invalid:     {no, no, no, false},
	NotFound:    {no, no, no, false},
	Conflict:    {no, no, no, false},
	Rejected:    {no, no, no, false},
	Unsupported: {no, yes, no, false},
	Denied:      {no, yes, yes, true},
	Exhausted:   {no, yes, yes, true},
	RateLimited: {yes, yes, yes, false},
	Unavailable: {yes, yes, yes, true},
	Uncertain:   {ifSafeHere, ifSafeElsewhere, ifSafeElsewhere, true},
	Canceled:    {no, no, no, false},
}

// Decide reads the table for one answer of one provider. Our own refusals
// ([Error.Local]) are neither retried nor counted; the next provider is asked
// at once. History that a single answer doesn't show (an earlier attempt that
// may have acted) is the caller's to keep.
func Decide(err error, s Safety) Verdict {
	if err == nil {
		return Verdict{}
	}
	e, ok := As(err)
	if !ok {
		return decide(KindOf(err), s, false)
	}
	v := decide(e.Kind, s, e.Deduped)
	if e.Local {
		v.Retry, v.Count = false, false
	}
	return v
}

func decide(k Kind, s Safety, deduped bool) Verdict {
	if k >= kinds {
		k = Unknown
	}
	safe := s >= AtLeastOnce && s <= Read // any other value is the strictest
	holds := func(w when) bool {
		return w == yes || w == ifSafeElsewhere && safe || w == ifSafeHere && (safe || deduped)
	}
	r := table[k]
	return Verdict{Retry: holds(r.retry), Failover: holds(r.failover), Count: r.count, Queue: holds(r.queue)}
}
