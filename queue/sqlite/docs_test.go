package sqlite

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the documentation shows is code that runs: each block, or each part of it
// between two ellipses, stands in an example or in a test.
func TestTheCodeInTheDocumentationRuns(t *testing.T) {
	page, err := os.ReadFile("../../docs/queue.md")
	require.NoError(t, err)
	var code strings.Builder
	for _, name := range []string{"example_test.go", "sqlite_test.go", "../example_test.go"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		code.WriteString(flat(string(text)))
	}
	blocks := strings.Split(string(page), "```go\n")[1:]
	require.NotEmpty(t, blocks)
	for _, b := range blocks {
		block, _, closed := strings.Cut(b, "```")
		require.True(t, closed)
		for part := range strings.SplitSeq(block, "…\n") {
			assert.Contains(t, code.String(), flat(part))
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
