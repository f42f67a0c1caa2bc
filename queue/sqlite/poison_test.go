package sqlite

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/queue"
)

// poisoned names, in the environment, the file on which this program is a worker
// that one of its jobs kills.
const poisoned = "QUEUE_SQLITE_POISONED"

// die works until a job kills the process.
func die(path string) error {
	ctx := context.Background()
	q, err := Open(ctx, path)
	if err != nil {
		return err
	}
	return q.Run(ctx, map[string]queue.Handler{"test": func(_ context.Context, d queue.Delivery) error {
		if string(d.Payload) == "poison" {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it arrives
		}
		return nil
	}}, queue.With(func(o *queue.RunOptions) { o.Lease, o.Workers, o.Poll = time.Second, 1, 20*time.Millisecond }))
}

func TestAJobThatKillsItsProcessIsADeadLetterInTheEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "queue.db")
	q := at(t, path)
	poison := queue.Job{ID: "poison", Kind: "test", Payload: []byte("poison"), MaxAttempts: 2, Key: "k"}
	_, err := q.Enqueue(t.Context(), poison, job("fine"), queue.Job{Kind: "test", Payload: []byte("behind it"), Key: "k"})
	require.NoError(t, err)
	for n := range poison.MaxAttempts {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), poisoned+"="+path)
		said, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), "worker %d: %s", n, said)
	}
	assert.Equal(t, queue.Stats{Running: 1, Waiting: 1}, stats(t, q), "nobody knows yet, and what is behind it waits")
	s := work(t, q, nil, asIs)
	awaitEmpty(t, q)
	s.stop()
	assert.Equal(t, []string{"behind it"}, s.payloads(), "the poison has had its two attempts")
	dead, err := q.Dead(t.Context(), "", 10)
	require.NoError(t, err)
	require.Len(t, dead, 1)
	assert.Equal(t, "poison", dead[0].ID)
	assert.Equal(t, queue.ReasonWorkerDied, dead[0].Reason)
	assert.Equal(t, "poison", string(dead[0].Payload))
}
