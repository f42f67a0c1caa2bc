package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

func TestExplainSaysInALineWhatAnErrorDoes(t *testing.T) {
	const again = "asked again up to 2 times after 50ms to 2s"
	for want, c := range map[string]struct {
		safety fault.Safety
		err    error
	}{
		"unavailable: " + again + ", then the backup; counts against the breaker; worth queueing":               {fault.Once, fault.New(fault.Unavailable, nil)},
		"uncertain, may have acted: the call ends; counts against the breaker":                                  {fault.Once, fault.New(fault.Uncertain, nil)},
		"uncertain, may have acted: " + again + "; counts against the breaker":                                  {fault.Once, &fault.Error{Kind: fault.Uncertain, Deduped: true}},
		"uncertain, may have acted: " + again + ", then the backup; counts against the breaker; worth queueing": {fault.AtLeastOnce, context.DeadlineExceeded},
		"invalid: the call ends":                                                                              {fault.Read, fault.New(fault.Invalid, nil)},
		"canceled, may have acted: the call ends":                                                             {fault.Read, context.Canceled},
		"unsupported: the backup":                                                                             {fault.Read, errors.ErrUnsupported},
		"denied: the backup; counts against the breaker; worth queueing":                                      {fault.Once, fault.New(fault.Denied, nil)},
		"rate limited: the backup; paused for 7s; worth queueing":                                             {fault.Once, &fault.Error{Kind: fault.RateLimited, RetryAfter: 7 * time.Second}},
		"unavailable, our own refusal: the backup; worth queueing":                                            {fault.Once, &fault.Error{Kind: fault.Unavailable, Local: true}},
		"unavailable: the backup; counts against the breaker; worth queueing":                                 {fault.Once, &fault.Error{Kind: fault.Unavailable, RetryAfter: time.Minute}},
		"unknown, may have acted: " + again + ", then the backup; counts against the breaker; worth queueing": {fault.Idempotent, errors.New("x")},
	} {
		e := resilience.Explain(resilience.Default, resilience.Op{Name: "test.op", Safety: c.safety}, c.err)
		assert.Equal(t, want, e.String())
	}
}

// What Explain says of an error is what a call does with it.
func TestExplainAgreesWithTheCall(t *testing.T) {
	for k := fault.Unknown; k <= fault.Canceled; k++ {
		for _, safety := range []fault.Safety{fault.Once, fault.AtLeastOnce, fault.Idempotent, fault.Read} {
			for _, dedupes := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					answer := &fault.Error{Kind: k, Deduped: dedupes}
					if k == fault.Canceled {
						answer.Kind = fault.Uncertain // nobody here cancelled
					}
					op := resilience.Op{Name: "test.op", Safety: safety}
					e := resilience.Explain(resilience.Default, op, answer)
					one, two := &provider{fn: func(context.Context) error { return answer }}, &provider{}
					g := group(t, resilience.Default, one, two)
					_, err := resilience.Call(t.Context(), g, op, asker.Ask, "q")
					name := fmt.Sprint(k, " ", safety, " ", dedupes)
					require.Equal(t, e.Failover, err == nil, name)
					assert.EqualValues(t, 1+e.Retries, one.calls.Load(), name)
					s := g.Inspect()[0]
					assert.GreaterOrEqual(t, s.PausedFor, e.Pause, name)
					assert.LessOrEqual(t, s.PausedFor, e.Pause+e.Pause/10, name)
					assert.Equal(t, e.Count, s.Failures > 0, name)
				})
			}
		}
	}
}

func ExampleExplain() {
	op := resilience.Op{Name: "payment.charge"} // once
	fmt.Println(resilience.Explain(resilience.Default, op, fault.New(fault.Uncertain, errors.New("no answer"))))
	fmt.Println(resilience.Explain(resilience.Default, op, fault.New(fault.Unavailable, errors.New("connection refused"))))
	// Output:
	// uncertain, may have acted: the call ends; counts against the breaker
	// unavailable: asked again up to 2 times after 50ms to 2s, then the backup; counts against the breaker; worth queueing
}
