package file

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
)

// failing is a file whose disk has a trouble.
type failing struct {
	output
	write, sync, close error
}

func (f failing) Write(p []byte) (int, error) {
	if f.write != nil {
		n, _ := f.output.Write(p[:len(p)/2]) // as much as there was room for
		return n, f.write
	}
	return f.output.Write(p)
}

func (f failing) Sync() error { return errors.Join(f.output.Sync(), f.sync) }

func (f failing) Close() error { return errors.Join(f.output.Close(), f.close) }

func left(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	require.NoError(t, err)
	return found
}

func TestATroubleOfTheDiskDeliversNothingAndLeavesNothing(t *testing.T) {
	for name, trouble := range map[string]failing{
		"full while writing":  {write: syscall.ENOSPC},
		"full while flushing": {sync: syscall.ENOSPC},
		"broken":              {sync: syscall.EIO},
		"full while closing":  {close: syscall.EDQUOT},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := maildir{dir, func(name string) (output, error) {
				f, err := create(name)
				trouble.output = f
				return trouble, err
			}}
			err := d.deliver(t.Context(), "mail-1", []byte("From: a@example.com\n\nHi"))
			require.ErrorIs(t, err, fault.Unavailable)
			require.ErrorIs(t, err, errors.Join(trouble.write, trouble.sync, trouble.close).(interface{ Unwrap() []error }).Unwrap()[0])
			assert.Empty(t, left(t, dir))

			d.create = create
			require.NoError(t, d.deliver(t.Context(), "mail-1", []byte("From: a@example.com\n\nHi")), "once there is room")
			assert.Len(t, left(t, dir), 1)
		})
	}
}

func TestAContextThatEndsMeanwhileDeliversNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	d := maildir{dir, func(name string) (output, error) {
		cancel()
		return create(name)
	}}
	err := d.deliver(ctx, "mail-1", []byte("x"))
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, err, context.Canceled)
	assert.Empty(t, left(t, dir))
}

// A name that is there already is never written over.
func TestNoMailIsWrittenOverAnother(t *testing.T) {
	dir := t.TempDir()
	another := filepath.Join(dir, "tmp", "mail-1")
	require.NoError(t, os.MkdirAll(filepath.Dir(another), 0o700))
	require.NoError(t, os.WriteFile(another, []byte("another's"), 0o600))
	err := maildir{dir, create}.deliver(t.Context(), "mail-1", []byte("x"))
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, err, os.ErrExist)
	data, err := os.ReadFile(another)
	require.NoError(t, err)
	assert.Equal(t, "another's", string(data))
}
