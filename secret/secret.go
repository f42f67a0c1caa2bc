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
	"time"
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

// Env reads an environment variable at each use.
func Env(name string) Source {
	return Func(func(context.Context) (Value, error) {
		v := NewValue(os.Getenv(name))
		if v.IsZero() {
			return v, fmt.Errorf("secret: environment variable %s is not set or empty", name)
		}
		return v, nil
	})
}

const (
	maxFile = 64 << 10
	// settled is the age from which a file's time can be trusted: a second write
	// within a file system's coarsest tick leaves time and size as they were.
	settled = 2 * time.Second
)

// File reads a file of at most 64 KiB, anew whenever it was written or replaced
// (as a mounted secret is, through a symbolic link). Line ends at its end are not
// part of the secret.
func File(path string) Source { return &file{path: path} }

type file struct {
	path string

	mu    sync.Mutex
	read  os.FileInfo // of the file that value is from; nil where it must be read again
	value Value
}

func (f *file) Secret(context.Context) (Value, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		return Value{}, fmt.Errorf("secret: %w", err)
	}
	if f.read != nil && os.SameFile(info, f.read) && info.ModTime().Equal(f.read.ModTime()) && info.Size() == f.read.Size() {
		return f.value, nil
	}
	v, err := f.load()
	if err != nil {
		return Value{}, err
	}
	f.value, f.read = v, nil
	if time.Since(info.ModTime()) > settled {
		f.read = info
	}
	return v, nil
}

func (f *file) load() (Value, error) {
	in, err := os.Open(f.path)
	if err != nil {
		return Value{}, fmt.Errorf("secret: %w", err)
	}
	defer in.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	switch {
	case err != nil:
		return Value{}, fmt.Errorf("secret: %w", err)
	case len(data) > maxFile:
		return Value{}, fmt.Errorf("secret: %s is larger than %d bytes", f.path, maxFile)
	}
	v := NewValue(strings.TrimRight(string(data), "\r\n"))
	if v.IsZero() {
		return v, fmt.Errorf("secret: %s is empty", f.path)
	}
	return v, nil
}
