//go:build unix

package secret_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/secret"
)

// pipe is a named one, and a function that hands a reader all it will ever get.
func pipe(t *testing.T) (path string, write func(string)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	return path, func(s string) {
		w, err := os.OpenFile(path, os.O_WRONLY, 0) // when a reader is there
		require.NoError(t, err)
		_, err = w.WriteString(s)
		require.NoError(t, err)
		require.NoError(t, w.Close())
	}
}

func TestAPipeIsWaitedForAsLongAsTheContextLasts(t *testing.T) {
	path, write := pipe(t)
	source := secret.File(path)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			_, err := source.Secret(ctx)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, path)
		})
	}
	all.Wait()
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	assert.LessOrEqual(t, strings.Count(string(stacks), "secret.load("), 1, "all callers share one read")
	write("key\n")
	v, err := source.Secret(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "key", v.Reveal(), "what came after everybody had left is there for the next")
}

func TestAPipeIsReadOnceAndKept(t *testing.T) {
	path, write := pipe(t)
	source := secret.File(path)
	go write("key\n")
	for range 3 {
		v, err := source.Secret(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "key", v.Reveal())
	}
}

func TestAPipeThatGaveNothingIsReadAgain(t *testing.T) {
	path, write := pipe(t)
	source := secret.File(path)
	go write("\n")
	_, err := source.Secret(t.Context())
	require.ErrorContains(t, err, "is empty")
	go write("key")
	v, err := source.Secret(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "key", v.Reveal())
}
