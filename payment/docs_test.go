package payment_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the documentation shows is code that runs: each block, or each part of it
// between two ellipses, stands in an example.
func TestTheCodeInTheDocumentationIsThatOfTheExamples(t *testing.T) {
	page, err := os.ReadFile("../docs/payment.md")
	require.NoError(t, err)
	files, err := filepath.Glob("*/example_test.go")
	require.NoError(t, err)
	var examples strings.Builder
	for _, f := range append(files, "example_test.go") {
		code, err := os.ReadFile(f)
		require.NoError(t, err)
		examples.WriteString(flat(string(code)))
	}
	blocks := strings.Split(string(page), "```go\n")[1:]
	require.NotEmpty(t, blocks)
	for _, b := range blocks {
		code, _, closed := strings.Cut(b, "```")
		require.True(t, closed)
		for part := range strings.SplitSeq(code, "…\n") {
			assert.Contains(t, examples.String(), flat(part))
		}
	}
}

// flat is code without its indentation.
func flat(code string) string {
	var out strings.Builder
	for line := range strings.Lines(code) {
		out.WriteString(strings.TrimSpace(line) + "\n")
	}
	return out.String()
}
