package resilience

import (
	"fmt"
	"strings"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// Explanation is what a provider's answer would lead to.
type Explanation struct {
	Kind fault.Kind
	// MayHaveActed: the provider may have done what was asked all the same.
	MayHaveActed bool
	// Local: it is a refusal of ours, and nothing reached the provider.
	Local bool
	// Retries is how often the same provider is asked again at most, after the
	// waits from MinWait to MaxWait; the provider's own RetryAfter is in both.
	Retries          int
	MinWait, MaxWait time.Duration
	// Failover: the next provider is asked; Pause: this one is left alone for
	// that long meanwhile.
	Failover bool
	Pause    time.Duration
	// Count: it counts against the provider's breaker.
	Count bool
	// Queue: it is worth trying again later.
	Queue bool
}

// Explain says what an error would do to a call of that operation under that
// policy, at a provider that has a backup behind it, without doing it. Budget,
// deadlines and history, which only a call has, may allow less.
func Explain(p Policy, op Op, err error) Explanation {
	var v fault.Verdict
	if err != nil {
		v = op.verdict(faultOf(err))
	}
	e := Explanation{
		Kind: fault.KindOf(err), MayHaveActed: fault.MayHaveActed(err),
		Failover: v.Failover, Count: v.Count && p.Breaker.on(), Queue: v.Queue,
	}
	var after time.Duration
	if f, ok := fault.As(err); ok {
		e.Local, after = f.Local, min(f.RetryAfter, maxPause)
	}
	if e.Kind == fault.RateLimited && v.Failover && !e.Local {
		e.Pause = pauseFor(after)
		return e
	}
	if v.Retry && p.Retries > 0 && after <= p.MaxWait {
		e.Retries = p.Retries
		e.MinWait, e.MaxWait = p.Backoff.between(after)
	}
	return e
}

func faultOf(err error) *fault.Error {
	if f, ok := fault.As(err); ok {
		return f
	}
	return &fault.Error{Kind: fault.KindOf(err), Err: err}
}

// between is the shortest and the longest wait.
func (b Backoff) between(after time.Duration) (shortest, longest time.Duration) {
	shortest = time.Duration(float64(b.Initial) * (1 - b.Jitter))
	longest = b.Max
	if longest == 0 {
		longest = time.Duration(float64(time.Minute) * (1 + b.Jitter)) // the default of cenkalti/backoff
	}
	return max(shortest, after), max(longest, after)
}

// String is one line, such as "uncertain, may have acted: asked again up to 2
// times after 50ms to 2s, then the backup; counts against the breaker; worth
// queueing".
func (e Explanation) String() string {
	var b strings.Builder
	b.WriteString(e.Kind.String())
	switch {
	case e.Local:
		b.WriteString(", our own refusal")
	case e.MayHaveActed:
		b.WriteString(", may have acted")
	}
	var next []string
	if e.Retries > 0 {
		next = append(next, fmt.Sprintf("asked again up to %d times after %v to %v", e.Retries, e.MinWait, e.MaxWait))
	}
	if e.Failover {
		next = append(next, "the backup")
	}
	if next == nil {
		next = []string{"the call ends"}
	}
	b.WriteString(": " + strings.Join(next, ", then "))
	if e.Pause > 0 {
		fmt.Fprintf(&b, "; paused for %v", e.Pause)
	}
	if e.Count {
		b.WriteString("; counts against the breaker")
	}
	if e.Queue {
		b.WriteString("; worth queueing")
	}
	return b.String()
}
