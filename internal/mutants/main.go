// Command mutants checks that tests find the faults that they are there for. It
// copies the tree to a temporary folder, breaks one rule of the code after
// another there, and runs the one test that must then fail.
//
//	go run ./internal/mutants [-v] [regexp]
//
// A mutant is an edit of the source, word for word. One that doesn't fit exactly
// once is stale, which is a failure like a mutant that survives: who rewrites the
// code also rewrites its mutants. The work tree is only read.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"time"
)

func main() {
	verbose := flag.Bool("v", false, "print what the test said that found a mutant")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, flag.Arg(0), *verbose)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run tries the mutants whose name the expression fits.
func run(ctx context.Context, expression string, verbose bool) error {
	wanted, err := regexp.Compile(expression)
	if err != nil {
		return err
	}
	chosen := slices.DeleteFunc(slices.Clone(mutants), func(m mutant) bool { return !wanted.MatchString(m.name) })
	return check(ctx, os.Stdout, ".", chosen, verbose)
}

// check tries mutants of the repository at root, and prints a line for each. One
// that isn't found is an error.
func check(ctx context.Context, out io.Writer, root string, chosen []mutant, verbose bool) error {
	c, err := copyOf(ctx, root)
	if err != nil {
		return err
	}
	defer c.remove()
	start := time.Now()
	if err := c.passes(ctx, chosen); err != nil {
		return fmt.Errorf("without a mutant: %w", err)
	}
	fmt.Fprintf(out, "Without a mutant the tests pass: %.0f s\n\n", time.Since(start).Seconds())
	found := c.each(ctx, out, chosen, verbose)
	fmt.Fprintf(out, "\n%d of %d mutants were found, in %.0f s\n", found, len(chosen), time.Since(start).Seconds())
	if found < len(chosen) || found == 0 {
		return errors.New("not every mutant was found")
	}
	return ctx.Err()
}

// each tries mutants, one on each processor, and counts those that were found.
func (c *tree) each(ctx context.Context, out io.Writer, chosen []mutant, verbose bool) (found int) {
	fmt.Fprintln(out, "| mutant | in | found by | s |\n|-|-|-|-|")
	var mu sync.Mutex
	todo := make(chan mutant)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for m := range todo {
				start := time.Now()
				v := c.try(ctx, m)
				mu.Lock()
				if v.found {
					found++
				}
				fmt.Fprintf(out, "| %s | %s | %s | %.1f |\n", m.name, m.edits[0].file, v.by, time.Since(start).Seconds())
				if verbose || !v.found {
					fmt.Fprintln(out, v.said)
				}
				mu.Unlock()
			}
		})
	}
	for _, m := range chosen {
		todo <- m
	}
	close(todo)
	workers.Wait()
	return found
}
