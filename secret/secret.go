// Package secret holds credentials so that they don't end up in a log.
//
//	sender := sendgrid.Sender{Key: secret.Env("SENDGRID_API_KEY")}
//
// A [Source] is asked for each use, so a key can rotate without a restart. A
// [Value] prints, marshals and logs as "[redacted]"; only Reveal shows it.
package secret

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"unicode"
)

const redacted = "[redacted]"

// Value is a secret. Its zero value is no secret.
type Value struct{ reveal func() string } // a func: reflection prints no more than its address

// NewValue wraps a secret.
func NewValue(s string) Value {
	if s == "" {
		return Value{}
	}
	return Value{func() string { return s }}
}

// Reveal is the secret itself, for the request alone.
func (v Value) Reveal() string {
	if v.reveal == nil {
		return ""
	}
	return v.reveal()
}

// IsZero reports whether there is no secret.
func (v Value) IsZero() bool { return v.reveal == nil }

// Equal compares in constant time.
func (v Value) Equal(o Value) bool {
	return subtle.ConstantTimeCompare([]byte(v.Reveal()), []byte(o.Reveal())) == 1
}

// Format prints "[redacted]" for every verb.
func (Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String is "[redacted]".
func (Value) String() string { return redacted }

// MarshalText gives "[redacted]", in JSON too.
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue gives "[redacted]".
func (Value) LogValue() slog.Value { return slog.StringValue(redacted) }

// Source gives a secret whenever one is needed. It is safe for concurrent use.
// Its errors name the source, never what it holds.
type Source interface {
	Secret(ctx context.Context) (Value, error)
}

// Func makes a function a Source, for a vault or a cloud's secret manager.
type Func func(ctx context.Context) (Value, error)

// Secret calls f.
func (f Func) Secret(ctx context.Context) (Value, error) { return f(ctx) }

// Literal is a Source of a secret that is at hand.
func Literal(s string) Source {
	v := NewValue(s)
	return Func(func(context.Context) (Value, error) {
		if v.IsZero() {
			return v, errors.New("secret: the literal is empty")
		}
		return v, nil
	})
}

// Env reads an environment variable at each use. A byte order mark and the line
// ends at its end are not part of the secret.
func Env(name string) Source {
	return Func(func(context.Context) (Value, error) {
		s, ok := os.LookupEnv(name)
		if !ok {
			return Value{}, fmt.Errorf("secret: environment variable %s is not set", name)
		}
		return text("environment variable "+name, s)
	})
}

// File reads a file of at most 64 KiB at each use, so that a new secret is seen
// however it got there: written in place, moved there, or by a symbolic link as
// mounted secrets are. A byte order mark, and the line ends at its end, are not
// part of the secret; other control characters than tab and line ends inside, as
// files that aren't text and those in UTF-16 have, are refused.
//
// A pipe, such as /dev/fd/63 of a shell's <(vault read …), gives what it holds
// once, and that is kept. Callers at the same time share one read, and each waits
// for it no longer than its context.
func File(path string) Source { return &file{path: path} }

const maxFile = 64 << 10

type file struct {
	path string

	mu   sync.Mutex
	read *read // under way, or of a pipe; nil where the next caller begins one
}

// read is one read of the file; value and err are set once done is closed.
type read struct {
	done  chan struct{}
	value Value
	err   error
}

func (f *file) Secret(ctx context.Context) (Value, error) {
	if ctx.Err() != nil {
		return Value{}, f.left(ctx)
	}
	r := f.join()
	select {
	case <-r.done:
		return r.value, r.err
	case <-ctx.Done():
		return Value{}, f.left(ctx)
	}
}

func (f *file) left(ctx context.Context) error {
	return fmt.Errorf("secret: read %s: %w", f.path, ctx.Err())
}

// join gives the read that is under way, or begins one. It has a goroutine of its
// own, since nothing ends a system call that opens a pipe nobody writes to.
func (f *file) join() *read {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.read != nil {
		return f.read
	}
	r := &read{done: make(chan struct{})}
	f.read = r
	go func() {
		defer close(r.done)
		var again bool
		r.value, again, r.err = load(f.path)
		if again || r.err != nil {
			f.mu.Lock()
			f.read = nil
			f.mu.Unlock()
		}
	}()
	return r
}

// load reads the file, and says whether it can be read again.
func load(path string) (v Value, again bool, err error) {
	in, err := os.Open(path) //nolint:gosec // the caller's own choice
	if err != nil {
		return Value{}, true, fmt.Errorf("secret: %w", err)
	}
	defer in.Close() //nolint:errcheck // only read
	info, err := in.Stat()
	if err != nil {
		return Value{}, true, fmt.Errorf("secret: %w", err)
	}
	again = info.Mode().IsRegular()
	data, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	switch {
	case err != nil:
		return Value{}, again, fmt.Errorf("secret: %w", err)
	case len(data) > maxFile:
		return Value{}, again, fmt.Errorf("secret: %s is larger than %d bytes", path, maxFile)
	}
	v, err = text(path, string(data))
	return v, again, err
}

// text is the secret in what a source holds: an editor's byte order mark and the
// line ends at the end aren't part of it. Line ends inside are (a key in PEM).
func text(source, s string) (Value, error) {
	s = strings.TrimRight(strings.TrimPrefix(s, "\ufeff"), "\r\n")
	switch {
	case s == "":
		return Value{}, fmt.Errorf("secret: %s is empty", source)
	case strings.HasPrefix(s, "\xff\xfe"), strings.HasPrefix(s, "\xfe\xff"):
		return Value{}, fmt.Errorf("secret: %s is in UTF-16; it must be in UTF-8", source)
	case strings.ContainsFunc(s, notText):
		return Value{}, fmt.Errorf("secret: %s holds control characters, as text in UTF-8 doesn't", source)
	}
	return NewValue(s), nil
}

func notText(r rune) bool {
	return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t'
}
