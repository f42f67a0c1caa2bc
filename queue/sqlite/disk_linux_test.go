package sqlite

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
)

// disk is a small file system of the test's own, and what makes it larger.
func disk(t *testing.T, size string) (dir string, resize func(size string)) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skip("a file system can't be mounted here: ", err)
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, 0)) })
	return dir, func(size string) {
		require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size="+size))
	}
}

func TestAFullDiskStoresNothingByHalvesAndLosesNothing(t *testing.T) {
	dir, resize := disk(t, "2m")
	path := filepath.Join(dir, "queue.db")
	q, err := Open(t.Context(), path)
	require.NoError(t, err)
	stored := full(t, q)
	for n, err := 0, error(nil); err == nil; n++ { // no page is left
		small := fmt.Sprintf("%-20s", fmt.Sprint("small ", n))
		if _, err = q.Enqueue(t.Context(), job(small)); err == nil {
			stored = append(stored, small)
		}
	}

	// The disk is full for workers as well: they report it and go on.
	s := work(t, q, nil, func(o *queue.RunOptions) { o.Lease = time.Minute })
	eventually(t, "the worker is told", func() bool { return len(s.failures()) >= 3 })
	resize("64m")
	enqueue(t, q, "room again          ")
	awaitEmpty(t, q)
	s.stop()
	delivered(t, s, append(stored, "room again          "))
	for _, err := range s.failures() {
		assert.ErrorIs(t, err, fault.Unavailable)
		assert.ErrorContains(t, err, "there is no room for it")
	}
	require.NoError(t, q.Close(context.WithoutCancel(t.Context())))
}

// The process ends while the disk is full, and another begins.
func TestAQueueOnAFullDiskIsOpenedAgainWithAllThatWasStored(t *testing.T) {
	dir, resize := disk(t, "2m")
	path := filepath.Join(dir, "queue.db")
	q, err := Open(t.Context(), path)
	require.NoError(t, err)
	stored := full(t, q)
	require.NoError(t, q.Close(t.Context()))

	q, err = Open(t.Context(), path)
	require.NoError(t, err)
	assert.Equal(t, len(stored), stats(t, q).Ready)
	require.NoError(t, q.Close(t.Context()))
	resize("64m")
	q, err = Open(t.Context(), path)
	require.NoError(t, err)
	s := work(t, q, nil, asIs)
	awaitEmpty(t, q)
	s.stop()
	delivered(t, s, stored)
	require.NoError(t, q.Close(t.Context()))
}

// A worker that can't say that its job is done says so again while its lease
// lasts; after that the job comes again.
func TestAJobThatEndsWhileTheDiskIsFullIsNotLost(t *testing.T) {
	dir, resize := disk(t, "2m")
	q, err := Open(t.Context(), filepath.Join(dir, "queue.db"))
	require.NoError(t, err)
	enqueue(t, q, "a")
	filled := make(chan struct{})
	s := work(t, q, func(ctx context.Context, d queue.Delivery) error {
		if d.Attempt > 1 || string(d.Payload) != "a" {
			return nil
		}
		for err := error(nil); err == nil; {
			large := queue.Job{Kind: "other", Payload: []byte(strings.Repeat("x", 50_000))}
			_, err = q.Enqueue(ctx, large)
		}
		for err := error(nil); err == nil; {
			_, err = q.Enqueue(ctx, queue.Job{Kind: "other"})
		}
		close(filled)
		return nil
	}, func(o *queue.RunOptions) { o.Lease = time.Minute })
	<-filled
	eventually(t, "the worker can't say that it is done", func() bool { return len(s.failures()) >= 2 })
	resize("64m")
	eventually(t, "it is done", func() bool { return stats(t, q).Running == 0 })
	s.stop()
	assert.Equal(t, []string{"a"}, s.payloads(), "once")
	require.NoError(t, q.Close(context.WithoutCancel(t.Context())))
}
