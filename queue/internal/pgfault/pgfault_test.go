package pgfault

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/smilefactory/integrations/fault"
)

var (
	errBoom    = errors.New("boom")
	refused    = &pgconn.PgError{Code: "53100", SeverityUnlocalized: "ERROR"}
	terminated = &pgconn.PgError{Code: "57P01", SeverityUnlocalized: "FATAL"}
	conflict   = fault.New(fault.Conflict, errBoom)
)

func TestWhatADatabaseErrorSaysOfTheJobs(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		kind fault.Kind
	}{
		"the server refused":                        {refused, fault.Unavailable},
		"the connection was lost before the commit": {NothingDone(errBoom), fault.Unavailable},
		"the connection was lost in the commit":     {errBoom, fault.Uncertain},
		"the server ended the connection in it":     {terminated, fault.Uncertain},
		"what is known already stays":               {NothingDone(conflict), fault.Conflict},
	} {
		assert.Equal(t, c.kind, fault.KindOf(Of(t.Context(), "queue/x", c.err)), name)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Equal(t, fault.Canceled, fault.KindOf(Of(gone, "queue/x", errBoom)), "the caller gave up")
	f, _ := fault.As(Of(t.Context(), "queue/x", refused))
	assert.Equal(t, "53100", f.Code)
	assert.ErrorContains(t, f, "queue/x: ")
	assert.NoError(t, Of(t.Context(), "queue/x", nil))
}

func TestWhatIsRepeated(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		times int
	}{
		"a deadlock":                      {NothingDone(&pgconn.PgError{Code: deadlockDetected}), 5},
		"a serialisation failure":         {&pgconn.PgError{Code: serializationFailure}, 5},
		"a connection lost before commit": {NothingDone(errBoom), 5},
		"one lost in the commit":          {errBoom, 1},
		"a full disk":                     {NothingDone(refused), 1},
		"a conflict":                      {NothingDone(conflict), 1},
		"a success":                       {nil, 1},
	} {
		times := 0
		err := Retry(t.Context(), func() error {
			times++
			return c.err
		})
		assert.Equal(t, c.err, err, name)
		assert.Equal(t, c.times, times, name)
	}
}
