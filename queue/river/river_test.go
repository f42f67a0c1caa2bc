package river

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	riverqueue "github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
)

var errBoom = errors.New("boom")

func TestOpenRefusesWhatCanNotBeWithoutAnyIO(t *testing.T) {
	for _, name := range []string{"River", "1river", "a-b", `a"b`, "a.b", "a;b", "a b", "é", strings.Repeat("a", 47)} {
		_, err := Open(t.Context(), nil, WithSchema(name))
		require.ErrorIs(t, err, fault.Invalid, "%q", name)
		require.ErrorContains(t, err, "schema")
	}
	for _, name := range []string{"", "Mail", "a b", "a.b", "a--b", "-a", "a_", strings.Repeat("a", 65)} {
		_, err := Open(t.Context(), nil, WithQueue(name))
		require.ErrorIs(t, err, fault.Invalid, "%q", name)
		require.ErrorContains(t, err, "queue")
	}
	_, err := Open(t.Context(), nil, WithKeys(queue.Keys{}))
	require.ErrorContains(t, err, "Keys.Current")
}

func TestAServerThatIsNotThereIsUnavailable(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), "postgres://nobody@127.0.0.1:1/none?sslmode=disable")
	require.NoError(t, err)
	defer pool.Close()
	_, err = Open(t.Context(), pool)
	require.ErrorIs(t, err, fault.Unavailable)
}

// record is what an Engine makes of a job.
func record(t *testing.T, now time.Time, j queue.Job) queue.Record {
	t.Helper()
	e, err := queue.NewEngine(&store{})
	require.NoError(t, err)
	records, err := e.Records(t.Context(), now, j)
	require.NoError(t, err)
	return records[0]
}

func TestOur21PrioritiesAreRiversFour(t *testing.T) {
	for p, want := range map[int]int{10: 1, 6: 1, 5: 2, 1: 2, 0: 3, -1: 4, -10: 4} {
		for _, now := range []time.Time{time.Now(), time.UnixMicro(1_000_000_999_999)} {
			r := record(t, now, queue.Job{Kind: "a", Priority: p})
			assert.Equal(t, want, riverPriority(&r), "%d", p)
		}
	}
}

func TestARecordBecomesARiverJob(t *testing.T) {
	s := &store{queue: "mail"}
	now := time.Now()
	later, latest := now.Add(time.Hour), now.Add(2*time.Hour)
	for name, c := range map[string]struct {
		notBefore, expires, want time.Time
	}{
		"at once":                              {},
		"what is due already is not scheduled": {notBefore: now.Add(-time.Hour)},
		"later":                                {notBefore: later, want: later},
		"later, and it expires after that":     {notBefore: later, expires: latest, want: later},
		"it dies when it expires":              {notBefore: latest, expires: later, want: later},
		"an expiry alone does not delay":       {expires: later},
	} {
		r := record(t, now, queue.Job{Kind: "a", ID: "mine", MaxAttempts: 7, NotBefore: c.notBefore, Expires: c.expires})
		p := s.params(now, &r)
		assert.Equal(t, "integrations:a", p.Args.Kind(), name)
		assert.Equal(t, "mail", p.InsertOpts.Queue, name)
		assert.Equal(t, 7, p.InsertOpts.MaxAttempts, name)
		assert.True(t, c.want.Equal(p.InsertOpts.ScheduledAt), "%s: %v", name, p.InsertOpts.ScheduledAt)
	}
}

// row is a River job as it comes back.
func row(t *testing.T, s *store, now time.Time, j queue.Job) (*rivertype.JobRow, *args) {
	t.Helper()
	r := record(t, now, j)
	p := s.params(now, &r)
	encoded, err := json.Marshal(p.Args)
	require.NoError(t, err)
	var a args
	require.NoError(t, json.Unmarshal(encoded, &a))
	return &rivertype.JobRow{
		ID: 4711, Kind: p.Args.Kind(), EncodedArgs: encoded, Metadata: p.InsertOpts.Metadata, MaxAttempts: p.InsertOpts.MaxAttempts, Attempt: 1, CreatedAt: now,
	}, &a
}

func TestARiverJobBecomesTheRecordAgain(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_123)
	j := queue.Job{
		Kind: "a", ID: "mine", Payload: []byte("päy\x00load"), DedupeKey: "once", Priority: -3, MaxAttempts: 7,
		NotBefore: now.Add(time.Minute), Expires: now.Add(time.Hour),
	}
	want := record(t, now, j)
	r, a := row(t, &store{queue: "mail"}, now, j)
	got := claimed(r, a).Record
	want.DedupeHash, want.DedupeUntil = [32]byte{}, time.Time{} // which are in the other table
	assert.Equal(t, want, got)
}

func TestWhatMakesNoSenseHasNoPayloadAndAName(t *testing.T) {
	r, a := row(t, &store{queue: "mail"}, time.Now(), queue.Job{Kind: "a", ID: "mine", Payload: []byte("p")})
	for name, change := range map[string]func(r *rivertype.JobRow, a *args){
		"no metadata":         func(r *rivertype.JobRow, _ *args) { r.Metadata = nil },
		"metadata of others":  func(r *rivertype.JobRow, _ *args) { r.Metadata = []byte(`{"river":1}`) },
		"metadata of no use":  func(r *rivertype.JobRow, _ *args) { r.Metadata = []byte(`{"integrations":"x"}`) },
		"metadata without id": func(r *rivertype.JobRow, _ *args) { r.Metadata = []byte(`{"integrations":{}}`) },
	} {
		r, a := *r, *a
		change(&r, &a)
		c := claimed(&r, &a)
		assert.Empty(t, c.Payload, name)
		assert.Equal(t, "river-4711", c.ID, name)
		assert.Equal(t, "a", c.Kind, name)
	}
	for _, wrong := range []string{`[]`, `"x"`, `{"id":3}`, `{"id":"mine","payload":"&"}`, `{"id":"other","payload":"AA=="}`, `null`, `{}`} {
		var a args
		require.NoError(t, json.Unmarshal([]byte(wrong), &a), "River would repeat it: %s", wrong)
		c := claimed(r, &a)
		assert.Empty(t, c.Payload, wrong)
		assert.Equal(t, "mine", c.ID, wrong)
	}
}

func TestTheLastErrorIsThatOfTheAttemptBefore(t *testing.T) {
	said := func(attempt int, text string) rivertype.AttemptError {
		return rivertype.AttemptError{Attempt: attempt, Error: text}
	}
	for name, c := range map[string]struct {
		errs []rivertype.AttemptError
		want string
	}{
		"none":                                   {nil, ""},
		"it answered":                            {[]rivertype.AttemptError{said(1, "a"), said(2, "b")}, "b"},
		"its worker died, and River rescued it":  {[]rivertype.AttemptError{said(1, "a"), said(2, rescued)}, ""},
		"its worker died, and nothing was noted": {[]rivertype.AttemptError{said(1, "a")}, ""},
	} {
		assert.Equal(t, c.want, answerOf(c.errs, 2), name)
	}
}

func TestWhatRiverIsTold(t *testing.T) {
	in := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		attempt int
		settled queue.Settlement
		check   func(t *testing.T, err error)
	}{
		"done": {1, queue.Settlement{Outcome: queue.Done}, func(t *testing.T, err error) { require.NoError(t, err) }},
		"what dies before its last attempt is cancelled": {1, queue.Settlement{Outcome: queue.Buries, Reason: "buried: boom"}, func(t *testing.T, err error) {
			require.ErrorIs(t, err, &riverqueue.JobCancelError{})
			require.ErrorContains(t, err, "buried: boom")
		}},
		"what has no attempt left is an error, which discards": {3, queue.Settlement{Outcome: queue.Buries, Reason: "no attempt is left"}, func(t *testing.T, err error) {
			require.NotErrorIs(t, err, &riverqueue.JobCancelError{})
			require.EqualError(t, err, "no attempt is left")
		}},
		"again": {2, queue.Settlement{Outcome: queue.Again, Reason: "boom", At: in}, func(t *testing.T, err error) { require.EqualError(t, err, "boom") }},
		"again after the last attempt isn't counted": {3, queue.Settlement{Outcome: queue.Again, Reason: "no keys", At: in}, func(t *testing.T, err error) {
			var snooze *riverqueue.JobSnoozeError
			require.ErrorAs(t, err, &snooze)
			require.InDelta(t, time.Hour, snooze.Duration, float64(time.Minute))
		}},
		"a text that JSON in PostgreSQL can't hold": {1, queue.Settlement{Outcome: queue.Again, Reason: "\x00 and \xff"}, func(t *testing.T, err error) { require.EqualError(t, err, "� and �") }},
		"a handler that was cancelled isn't taken for River's own stop, which counts no attempt": {1, queue.Settlement{Outcome: queue.Again, Reason: context.Canceled.Error()}, func(t *testing.T, err error) {
			require.NotErrorIs(t, err, context.Canceled)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			job := &riverqueue.Job[args]{JobRow: &rivertype.JobRow{Attempt: c.attempt, MaxAttempts: 3}}
			c.check(t, answer(job, time.Time{}, c.settled))
		})
	}
}

func TestTheNextAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for name, c := range map[string]struct {
			at, expires, want time.Time
		}{
			"is when the Engine says":               {at: now.Add(time.Hour), want: now.Add(time.Hour)},
			"is at the expiry, if that is sooner":   {at: now.Add(time.Hour), expires: now.Add(time.Minute), want: now.Add(time.Minute)},
			"is no sooner for an expiry later":      {at: now.Add(time.Hour), expires: now.Add(2 * time.Hour), want: now.Add(time.Hour)},
			"is now where its time has passed":      {at: now.Add(-time.Second), want: now},
			"is now for one that expired meanwhile": {at: now.Add(time.Hour), expires: now.Add(-time.Second), want: now},
		} {
			job := &riverqueue.Job[args]{JobRow: &rivertype.JobRow{Attempt: 1, MaxAttempts: 3}}
			require.Error(t, answer(job, c.expires, queue.Settlement{Outcome: queue.Again, At: c.at}))
			assert.True(t, c.want.Equal((&worker{}).NextRetry(job)), name)
		}
		rescued := &riverqueue.Job[args]{JobRow: &rivertype.JobRow{}}
		assert.True(t, now.Equal((&worker{}).NextRetry(rescued)), "one whose worker died runs at once")
		assert.True(t, now.Equal((&keeper{}).NextRetry(rescued)), "also where the leader only knows its kind")
		assert.Positive(t, (&keeper{}).Timeout(rescued), "else a leader without JobTimeout would rescue none")
	})
}

// work offers a job to a handover, as River does.
func work(h *handover, id string) <-chan error {
	answered := make(chan error, 1)
	complete := func(context.Context, *riverqueue.Job[args]) error { return errBoom } // River does it then
	go func() {
		about, _ := json.Marshal(metadata{&about{ID: id}})
		answered <- (&worker{jobs: h, complete: complete}).Work(context.Background(), &riverqueue.Job[args]{
			JobRow: &rivertype.JobRow{Metadata: about, MaxAttempts: 3, Attempt: 1}, Args: args{ID: id},
		})
	}()
	return answered
}

func TestTheEngineGetsWhatRiverOffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandover(&store{})
		due, err := h.Due(t.Context(), nil)
		require.NoError(t, err)
		assert.True(t, due.IsZero())
		woken := h.Woken()
		a, b := work(h, "a"), work(h, "b")
		<-woken
		synctest.Wait()
		due, err = h.Due(t.Context(), nil)
		require.NoError(t, err)
		assert.False(t, due.After(time.Now()), "an offer that came between a claim and its wait isn't slept over")
		got, err := h.Claim(t.Context(), queue.Claim{N: 3})
		require.NoError(t, err)
		require.Len(t, got, 2)
		assert.NotEqual(t, got[0].Token, got[1].Token)
		for _, c := range got {
			lost, err := h.Settle(t.Context(), time.Now(), []queue.Settlement{{ID: c.ID, Token: c.Token, Outcome: queue.Extend}})
			require.NoError(t, err)
			assert.Equal(t, []bool{false}, lost)
		}
		synctest.Wait()
		assert.Empty(t, a, "a sign of life settles nothing")
		for _, c := range got {
			s := queue.Settlement{ID: c.ID, Token: c.Token}
			if c.ID == "b" {
				s.Outcome, s.Reason = queue.Again, "boom"
			}
			_, err := h.Settle(t.Context(), time.Now(), []queue.Settlement{s})
			require.NoError(t, err)
		}
		require.NoError(t, <-a)
		require.EqualError(t, <-b, "boom")
	})
}

func TestWhatTheEngineNoLongerTakesGoesBackUncounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandover(&store{})
		before := work(h, "a")
		synctest.Wait()
		h.close()
		after := work(h, "b")
		for _, answered := range []<-chan error{before, after} {
			var snooze *riverqueue.JobSnoozeError
			require.ErrorAs(t, <-answered, &snooze)
			assert.Zero(t, snooze.Duration)
		}
		got, err := h.Claim(t.Context(), queue.Claim{N: 3})
		require.NoError(t, err)
		assert.Empty(t, got)
	})
}

func TestRegisterRefusesWhatIsWrongOrKnown(t *testing.T) {
	workers := riverqueue.NewWorkers()
	require.NoError(t, Register(workers, "email.send", "a"))
	for _, kinds := range [][]string{{"email.send"}, {"b", "b"}, {"Wrong"}, {""}} {
		err := Register(workers, kinds...)
		require.ErrorIs(t, err, fault.Invalid)
		require.ErrorContains(t, err, "kind")
	}
	err := (&keeper{}).Work(t.Context(), nil)
	var snooze *riverqueue.JobSnoozeError
	require.ErrorAs(t, err, &snooze, "it never fails a job that it has no handler for")
}

func TestRiversErrorsAreReported(t *testing.T) {
	var got []queue.Event
	log := slog.New(&reporter{observe: func(e queue.Event) { got = append(got, e) }})
	log.Info("quiet")
	log.With("client", 1).WithGroup("g").Error("Error fetching jobs", "queue", "mail", "err", errBoom)
	require.Len(t, got, 1)
	assert.Equal(t, queue.StoreFailed, got[0].Type)
	require.EqualError(t, got[0].Err, "queue/river: Error fetching jobs: boom")
}

// The package's text says what is otherwise than in the contract. Figures in it are
// the code's, and River's.
func TestTheTextKeepsUp(t *testing.T) {
	source, err := os.ReadFile("river.go")
	require.NoError(t, err)
	text := strings.Join(strings.Fields(strings.ReplaceAll(string(source), "//", "")), " ")
	for _, says := range []string{
		"No order:", "They don't age", "6 to 10 are its 1, 1 to 5 its 2, 0 its 3", "Leases: River has none", "after twice the [queue.RunOptions].Lease",
		fmt.Sprintf("of kind %q is one of River's kind %q", "email.send", args{kind: "email.send"}.Kind()),
	} {
		assert.Contains(t, text, says)
	}
	assert.Equal(t, time.Second, longestPoll, "one at least every second")
}
