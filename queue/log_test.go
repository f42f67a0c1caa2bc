package queue_test

import (
	"bytes"
	"log/slog"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/smilefactory/integrations/queue"
)

func TestALogHasTheLevelThatAnEventIsWorth(t *testing.T) {
	for name, c := range map[string]struct {
		event queue.Event
		want  string
	}{
		"done at once": {
			queue.Event{Type: queue.Finished, ID: "7", Kind: "mail", Attempt: 1, Took: time.Second},
			`level=DEBUG msg="queue: finished" kind=mail id=7 attempt=1 duration=1s`,
		},
		"done at a later attempt": {
			queue.Event{Type: queue.Finished, ID: "7", Kind: "mail", Attempt: 2, Took: time.Second},
			`level=INFO msg="queue: finished" kind=mail id=7 attempt=2 duration=1s`,
		},
		"to be tried again": {
			queue.Event{Type: queue.Retried, ID: "7", Kind: "mail", Attempt: 1, Took: time.Second, Wait: time.Minute, Err: errBoom},
			`level=INFO msg="queue: retried" kind=mail id=7 attempt=1 duration=1s err=boom next=2000-01-01T00:01:00.000Z`,
		},
		"dead": {
			queue.Event{Type: queue.Died, ID: "7", Kind: "mail", Attempt: 30, Took: time.Second, Err: queue.Bury(errBoom)},
			`level=ERROR msg="queue: died" kind=mail id=7 attempt=30 duration=1s err=boom`,
		},
		"lost to another worker": {
			queue.Event{Type: queue.LeaseLost, ID: "7", Kind: "mail", Attempt: 1, Took: time.Second},
			`level=WARN msg="queue: lease lost" kind=mail id=7 attempt=1 duration=1s`,
		},
		"not noted by the store": {
			queue.Event{Type: queue.StoreFailed, ID: "7", Kind: "mail", Attempt: 1, Wait: time.Second, Err: errBoom},
			`level=WARN msg="queue: store failed" kind=mail id=7 attempt=1 err=boom next=2000-01-01T00:00:01.000Z`,
		},
		"no claim": {
			queue.Event{Type: queue.StoreFailed, Wait: 5 * time.Second, Err: errBoom},
			`level=WARN msg="queue: store failed" err=boom next=2000-01-01T00:00:05.000Z`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // where the time is known
				var out bytes.Buffer
				queue.Log(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))(c.event)
				assert.Equal(t, "time=2000-01-01T00:00:00.000Z "+c.want+"\n", utc(out.String()))
			})
		})
	}
}

// utc writes the times of a bubble, which are in the machine's zone, as they are
// in UTC.
func utc(line string) string {
	return regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)`).ReplaceAllStringFunc(line, func(s string) string {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return s
		}
		return at.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	})
}

func TestALogThatIsNotGivenIsTheDefaultOne(t *testing.T) {
	assert.NotPanics(t, func() { queue.Log(nil)(queue.Event{Type: queue.Finished, Attempt: 1}) })
}
