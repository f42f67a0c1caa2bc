package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
)

// mutant is a fault in the code, and the test that must find it.
type mutant struct {
	name  string
	edits []edit
	pkg   string // the test's folder
	test  string // such as TestX or TestX/case, with blanks
}

// edit replaces one piece of a file, which must be there once.
type edit struct{ file, old, new string }

// tree is a copy of the repository, in a folder that goes with it.
type tree struct {
	src, bin string
	n        atomic.Int64
}

// left are the folders that no test of a mutant needs.
var left = []string{".git", ".cache", "bench", "bin", "tools"}

// copyOf copies the repository whose root that is.
func copyOf(ctx context.Context, root string) (*tree, error) {
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		return nil, fmt.Errorf("it must be started in the root of the repository: %w", err)
	}
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return nil, err
	}
	c := &tree{src: filepath.Join(dir, "src"), bin: dir}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		rel, _ := filepath.Rel(root, path)
		switch {
		case d.IsDir() && slices.Contains(left, rel):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(c.src, rel), 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(c.src, rel), data, 0o600)
	})
	if err != nil {
		c.remove()
		return nil, err
	}
	return c, nil
}

func (c *tree) remove() { _ = os.RemoveAll(c.bin) }

// passes builds the packages as they are, and runs the tests that mutants name:
// each must be there, run and pass.
func (c *tree) passes(ctx context.Context, all []mutant) error {
	tests := map[string][]string{}
	for _, m := range all {
		if !slices.Contains(tests[m.pkg], m.test) {
			tests[m.pkg] = append(tests[m.pkg], m.test)
		}
	}
	done := make(chan error)
	turn := make(chan struct{}, runtime.GOMAXPROCS(0))
	for pkg, names := range tests {
		go func() {
			turn <- struct{}{}
			err := c.pass(ctx, pkg, names)
			<-turn
			done <- err
		}()
	}
	var errs []error
	for range tests {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}

// pass does so for one package.
func (c *tree) pass(ctx context.Context, pkg string, names []string) error {
	bin, said, err := c.build(ctx, pkg, nil)
	if err != nil {
		return fmt.Errorf("%s doesn't compile: %w\n%s", pkg, err, said)
	}
	said, err = c.run(ctx, bin, pkg, names...)
	if err != nil {
		return fmt.Errorf("%s fails: %w\n%s", pkg, err, said)
	}
	for _, name := range names {
		if !ended(said, "PASS", name) {
			return fmt.Errorf("%s has no test %q that runs", pkg, name)
		}
	}
	return nil
}

// verdict is what became of a mutant. said is what the tools said.
type verdict struct {
	found bool
	by    string
	said  string
}

// try builds a mutant and runs its test.
func (c *tree) try(ctx context.Context, m mutant) verdict {
	changed, err := c.apply(m.edits)
	if err != nil {
		return verdict{by: "nobody: it is STALE", said: err.Error()}
	}
	bin, said, err := c.build(ctx, m.pkg, changed)
	if err != nil {
		return verdict{by: "nobody: it DOESN'T COMPILE", said: said}
	}
	defer os.Remove(bin) //nolint:errcheck // it goes with the folder
	said, err = c.run(ctx, bin, m.pkg, m.test)
	switch {
	case err != nil && ended(said, "FAIL", m.test):
		return verdict{true, m.test, said}
	case ctx.Err() != nil:
		return verdict{by: "nobody: interrupted"}
	case err != nil && strings.Contains(said, "=== RUN   "+written(m.test)+"\n") && !ended(said, "PASS", m.test) && !ended(said, "SKIP", m.test):
		return verdict{true, m.test + ", by a panic", said} // or a deadlock, which package testing ends by one
	case err != nil:
		return verdict{by: "nobody: another thing failed", said: said}
	}
	return verdict{by: "nobody: it SURVIVED " + m.test, said: said}
}

// apply makes the edits, and answers the files' new contents.
func (c *tree) apply(edits []edit) (map[string]string, error) {
	changed := map[string]string{}
	for _, e := range edits {
		text, ok := changed[e.file]
		if !ok {
			data, err := os.ReadFile(filepath.Join(c.src, e.file))
			if err != nil {
				return nil, err
			}
			text = string(data)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, fmt.Errorf("%s has %d times, and must have once:\n%s", e.file, n, e.old)
		}
		changed[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	return changed, nil
}

// build makes a test binary of a package, with some files changed: the compiler
// reads those from elsewhere, so that mutants don't wait for one another. It doesn't
// optimise, and the linker leaves symbols out, which saves a third of the time.
func (c *tree) build(ctx context.Context, pkg string, changed map[string]string) (bin, said string, err error) {
	n := c.n.Add(1)
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for file, text := range changed {
		to := filepath.Join(c.bin, fmt.Sprintf("%d-%d.go", n, len(overlay.Replace)))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return "", "", err
		}
		overlay.Replace[filepath.Join(c.src, file)] = to
	}
	data, _ := json.Marshal(overlay)
	list := filepath.Join(c.bin, fmt.Sprintf("%d.json", n))
	if err := os.WriteFile(list, data, 0o600); err != nil {
		return "", "", err
	}
	bin = filepath.Join(c.bin, fmt.Sprintf("%d.test", n))
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-overlay", list, "-gcflags=-N -l", "-ldflags=-s -w", "-o", bin, "./"+pkg)
	cmd.Dir = c.src
	out, err := cmd.CombinedOutput()
	return bin, string(out), err
}

// patience is how long a test may take that a mutant may hang.
const patience = "60s"

// run runs those tests of a package, and no others.
func (c *tree) run(ctx context.Context, bin, pkg string, tests ...string) (said string, err error) {
	var patterns []string
	for _, test := range tests {
		pattern := "^" + regexp.QuoteMeta(written(test)) + "$"
		patterns = append(patterns, strings.ReplaceAll(pattern, "/", "$/^"))
	}
	cmd := exec.CommandContext(ctx, bin, "-test.v", "-test.count=1", "-test.timeout="+patience, "-test.run="+strings.Join(patterns, "|"))
	cmd.Dir = filepath.Join(c.src, pkg)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// ended reports whether a test has ended in that way.
func ended(said, how, test string) bool {
	return strings.Contains(said, "--- "+how+": "+written(test)+" (")
}

// written is a test's name as package testing writes it.
func written(test string) string { return strings.ReplaceAll(test, " ", "_") }
