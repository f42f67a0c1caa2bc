// Package docstest checks that the code in a page of documentation runs.
package docstest

import (
	"os"
	"strings"
	"testing"
)

// Check lets every block of Go in the page, or each part of it between two
// ellipses, stand in one of the files, which are tests and examples. Indentation
// may differ.
func Check(t *testing.T, page string, files ...string) {
	t.Helper()
	var code strings.Builder
	for _, f := range files {
		code.WriteString(flat(read(t, f)))
	}
	blocks := strings.Split(read(t, page), "```go\n")[1:]
	if len(blocks) == 0 {
		t.Fatalf("%s shows no code", page)
	}
	for _, b := range blocks {
		block, _, closed := strings.Cut(b, "```")
		if !closed {
			t.Fatalf("%s: a block isn't closed", page)
		}
		for part := range strings.SplitSeq(block, "…\n") {
			if !strings.Contains(code.String(), flat(part)) {
				t.Errorf("%s: no example or test has\n%s", page, part)
			}
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// flat is code without its indentation.
func flat(code string) string {
	var out strings.Builder
	for line := range strings.Lines(code) {
		out.WriteString(strings.TrimSpace(line) + "\n")
	}
	return out.String()
}
