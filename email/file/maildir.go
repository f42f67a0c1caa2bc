package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/smilefactory/integrations/fault"
)

// maildir is a folder with tmp, new and cur (Bernstein, "Using maildir format").
type maildir struct {
	dir    string
	create func(name string) (output, error)
}

// output is a file that is being written.
type output interface {
	io.WriteCloser
	Sync() error
}

// create makes a file that isn't there yet, for its owner alone: mails hold tokens.
func create(name string) (output, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // in the user's own folder, under a name of ours
}

// deliver lets a whole file appear in new. Until it was moved there nothing has
// been delivered, and what was written is removed.
func (d maildir) deliver(ctx context.Context, name string, data []byte) error {
	if err := ctx.Err(); err != nil {
		return fault.New(fault.Unavailable, err)
	}
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o700); err != nil {
			return unavailable("make the maildir", err)
		}
	}
	tmp := filepath.Join(d.dir, "tmp", name)
	if err := d.write(tmp, data); err != nil {
		return unavailable("write the mail", err)
	}
	err := ctx.Err()
	if err == nil {
		err = os.Rename(tmp, filepath.Join(d.dir, "new", name))
	}
	if err != nil {
		_ = os.Remove(tmp)
		return unavailable("deliver the mail", err)
	}
	if err := syncDir(filepath.Join(d.dir, "new")); err != nil {
		return fault.New(fault.Uncertain, fmt.Errorf("file: flush the maildir: %w", err)) // the mail is there, if the power stays on
	}
	return nil
}

// write returns when the data is on the disk, or leaves nothing there.
func (d maildir) write(name string, data []byte) error {
	f, err := d.create(name)
	if err != nil {
		return err // a file of that name is another's
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(name)
	}
	return err
}

// syncDir makes a new name in a folder last. Windows has no such call.
func syncDir(name string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(name) //nolint:gosec // the folder is the caller's own
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func unavailable(what string, err error) error {
	return fault.New(fault.Unavailable, fmt.Errorf("file: %s: %w", what, err))
}
