package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/queuetest"
)

// TestMain is another process's too: a worker that one of its jobs kills.
func TestMain(m *testing.M) {
	if path := os.Getenv(poisoned); path != "" {
		fmt.Fprintln(os.Stderr, die(path))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// file is a queue in a file of the test's own.
func file(t *testing.T) *Queue {
	t.Helper()
	return at(t, filepath.Join(t.TempDir(), "queue.db"))
}

func at(t *testing.T, path string, options ...queue.Option) *Queue {
	t.Helper()
	q, err := Open(t.Context(), path, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(context.Background()); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return q
}

func TestQueueKeepsEveryRule(t *testing.T) {
	queuetest.Run(t, func(t *testing.T) queuetest.Subject { return queuetest.Of(t, file(t).store) })
}

func TestStoreKeepsEveryRule(t *testing.T) {
	queuetest.RunStore(t, func(t *testing.T) queue.Store { return file(t).store })
}
