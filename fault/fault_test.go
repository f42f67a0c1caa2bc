package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
)

func TestDecideReadsTheTable(t *testing.T) {
	type v = fault.Verdict
	for kind, want := range map[fault.Kind][2]v{ // once; at least once
		fault.Unknown:     {{Count: true}, {true, true, true, true}},
		fault.Invalid:     {{}, {}},
		fault.NotFound:    {{}, {}},
		fault.Conflict:    {{}, {}},
		fault.Rejected:    {{}, {}},
		fault.Unsupported: {{Failover: true}, {Failover: true}},
		fault.Denied:      {{Failover: true, Count: true, Queue: true}, {Failover: true, Count: true, Queue: true}},
		fault.Exhausted:   {{Failover: true, Count: true, Queue: true}, {Failover: true, Count: true, Queue: true}},
		fault.RateLimited: {{Retry: true, Failover: true, Queue: true}, {Retry: true, Failover: true, Queue: true}},
		fault.Unavailable: {{true, true, true, true}, {true, true, true, true}},
		fault.Uncertain:   {{Count: true}, {true, true, true, true}},
		fault.Canceled:    {{}, {}},
	} {
		assert.Equal(t, want[0], fault.Decide(fault.New(kind, nil), fault.Once), "%v once", kind)
		assert.Equal(t, want[1], fault.Decide(fault.New(kind, nil), fault.AtLeastOnce), "%v at least once", kind)
		assert.Equal(t, want[1], fault.Decide(kind, fault.AtLeastOnce), "a bare %v", kind)
	}
}

func TestAKeyThatTheProviderDeduplicatesByMakesARepetitionHereSafe(t *testing.T) {
	v := fault.Decide(&fault.Error{Kind: fault.Uncertain, Deduped: true}, fault.Once)
	assert.Equal(t, fault.Verdict{Retry: true, Count: true}, v)
}

func TestOurOwnRefusalIsNeitherRetriedNorCounted(t *testing.T) {
	v := fault.Decide(&fault.Error{Kind: fault.Unavailable, Local: true}, fault.Once)
	assert.Equal(t, fault.Verdict{Failover: true, Queue: true}, v)
}

func TestAnErrorMatchesItsOwnKindAndReachesTheCauses(t *testing.T) {
	err := fmt.Errorf("wrapped: %w", &fault.Error{Kind: fault.Unavailable, Tried: []*fault.Error{
		{Kind: fault.RateLimited, Err: io.EOF}, {Kind: fault.Unavailable, Err: io.ErrUnexpectedEOF},
	}})
	assert.ErrorIs(t, err, fault.Unavailable)
	assert.NotErrorIs(t, err, fault.RateLimited)
	assert.ErrorIs(t, err, io.EOF)
	assert.ErrorIs(t, fault.New(fault.Unsupported, nil), errors.ErrUnsupported)
}

func TestStatuses(t *testing.T) {
	for status, want := range map[int]fault.Kind{
		400: fault.Invalid, 401: fault.Denied, 402: fault.Exhausted, 403: fault.Denied, 404: fault.NotFound, 408: fault.Uncertain, 409: fault.Conflict,
		410: fault.NotFound, 421: fault.Unavailable, 422: fault.Invalid, 425: fault.Unavailable, 429: fault.RateLimited, 451: fault.Rejected,
		500: fault.Uncertain, 501: fault.Unsupported, 502: fault.Uncertain, 503: fault.Uncertain, 504: fault.Uncertain, 302: fault.Unknown, 0: fault.Unknown,
	} {
		assert.Equal(t, want, fault.FromStatus(status), status)
	}
}

func TestAnAmbiguousAttemptIsSettledByALaterAnswerOfTheSameProviderAlone(t *testing.T) {
	uncertain := &fault.Error{Kind: fault.Uncertain, Provider: "a", Deduped: true}
	refused := &fault.Error{Kind: fault.Rejected, Provider: "a", Deduped: true}
	elsewhere := &fault.Error{Kind: fault.Rejected, Provider: "b", Deduped: true}
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"no error":                     {nil, false},
		"a foreign error":              {io.EOF, true},
		"a cancellation":               {context.Canceled, true},
		"our own refusal":              {&fault.Error{Kind: fault.Unavailable, Local: true}, false},
		"unavailable":                  {fault.New(fault.Unavailable, nil), false},
		"settled":                      {&fault.Error{Kind: fault.Rejected, Tried: []*fault.Error{uncertain, refused}}, false},
		"refused before":               {&fault.Error{Kind: fault.Rejected, Tried: []*fault.Error{refused, uncertain}}, true},
		"refused by another":           {&fault.Error{Kind: fault.Rejected, Tried: []*fault.Error{uncertain, elsewhere}}, true},
		"refused without the same key": {&fault.Error{Kind: fault.Rejected, Tried: []*fault.Error{uncertain, {Kind: fault.Rejected, Provider: "a"}}}, true},
	} {
		assert.Equal(t, c.want, fault.MayHaveActed(c.err), name)
	}
}

func TestKindsOfForeignErrors(t *testing.T) {
	for want, errs := range map[fault.Kind][]error{
		fault.Unknown:     {io.EOF, errors.New("x")},
		fault.Canceled:    {context.Canceled, fmt.Errorf("x: %w", context.Canceled)},
		fault.Uncertain:   {context.DeadlineExceeded},
		fault.Unsupported: {errors.ErrUnsupported, http.ErrNotSupported},
		fault.Denied:      {fault.Denied, fmt.Errorf("x: %w", fault.Denied), fmt.Errorf("x: %w", fault.New(fault.Denied, io.EOF))},
	} {
		for _, err := range errs {
			assert.Equal(t, want, fault.KindOf(err), "%v", err)
		}
	}
}

func TestRetryAfterIsTakenAgainstTheAnswersOwnClock(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	server := now.Add(3 * time.Hour) // its clock is wrong
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "\t8": 8 * time.Second, "0": 0, "-1": 0, "1.5": 1500 * time.Millisecond, ".2": 200 * time.Millisecond, "1.2.3": 0, ".": 0, "1e3": 0, "soon": 0, "3600": time.Hour,
		"3601": fault.MaxRetryAfter, "99999999999999999999999999": fault.MaxRetryAfter, "-99999999999999999999999999": 0,
		server.Add(9 * time.Second).Format(http.TimeFormat): 9 * time.Second,
		server.Add(-time.Second).Format(http.TimeFormat):    0,
		server.Add(48 * time.Hour).Format(http.TimeFormat):  fault.MaxRetryAfter,
	} {
		h := http.Header{"Retry-After": {value}, "Date": {server.Format(http.TimeFormat)}}
		assert.Equal(t, want, fault.RetryAfter(h, now), value)
	}
}

func FuzzRetryAfterStaysWithinItsBounds(f *testing.F) {
	f.Add("7", "")
	f.Add("Fri, 02 Jan 2026 03:04:05 GMT", "Fri, 02 Jan 2026 03:04:00 GMT")
	f.Fuzz(func(t *testing.T, value, date string) {
		d := fault.RetryAfter(http.Header{"Retry-After": {value}, "Date": {date}}, time.Now())
		if d < 0 || d > fault.MaxRetryAfter {
			t.Errorf("%q at %q: %v", value, date, d)
		}
	})
}

func TestASafetyThatDoesNotExistIsTheStrictest(t *testing.T) {
	assert.Equal(t, fault.Decide(fault.Uncertain, fault.Once), fault.Decide(fault.Uncertain, fault.Safety(77)))
}

// joined is a tree of errors of a type of its own.
type joined []error

func (joined) Error() string     { return "joined" }
func (j joined) Unwrap() []error { return j }

func TestOfJoinedFaultsTheMostCarefulRules(t *testing.T) {
	unavailable, uncertain, rejected := fault.New(fault.Unavailable, nil), fault.New(fault.Uncertain, nil), fault.New(fault.Rejected, nil)
	for want, errs := range map[fault.Kind][]error{
		fault.Uncertain: {
			errors.Join(unavailable, uncertain), errors.Join(uncertain, unavailable),
			joined{rejected, joined{io.EOF, uncertain}},
			fmt.Errorf("%w, then %w", unavailable, fmt.Errorf("wrapped: %w", uncertain)),
		},
		fault.Rejected:    {errors.Join(unavailable, rejected), joined{unavailable, rejected}},
		fault.Unavailable: {errors.Join(io.EOF, unavailable), joined{io.EOF, nil, unavailable}},
	} {
		for _, err := range errs {
			assert.Equal(t, want, fault.KindOf(err), "%v", err)
			assert.Equal(t, fault.Decide(want, fault.Once), fault.Decide(err, fault.Once), "%v", err)
		}
	}
}

type attempt struct{ exchange fault.Exchange }

func (a *attempt) Note(f func(*fault.Exchange)) { f(&a.exchange) }
func (*attempt) Alive()                         {}

func TestATraceNotesTheTarget(t *testing.T) {
	fault.Note(t.Context(), func(*fault.Exchange) { t.Error("there is no attempt") })
	fault.Alive(t.Context())
	a := &attempt{}
	ctx, _ := fault.Trace(context.WithValue(t.Context(), fault.AttemptKey{}, a))
	require.Error(t, get(ctx, &http.Client{Transport: &http.Transport{}}, "http://127.0.0.1:1/"))
	assert.Equal(t, "127.0.0.1:1", a.exchange.Target)
}
