package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNoMutantIsStale: who changes the code that one breaks must change it too.
func TestNoMutantIsStale(t *testing.T) {
	c := &tree{src: "../.."}
	names := map[string]bool{}
	for _, m := range mutants {
		_, err := c.apply(m.edits)
		assert.NoError(t, err, m.name)
		assert.False(t, names[m.name], "two are called %q", m.name)
		names[m.name] = true
	}
}

// module is a repository with one rule and three tests.
func module(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":     "module example.com/m\n\ngo 1.26\n",
		"p/p.go":     "package p\n\n// Less is the rule.\nfunc Less(a, b int) bool { return a < b }\n",
		"p/again.go": "package p\n\nvar _, _ = 1, 1\n",
		"p/p_test.go": `package p

import "testing"

func TestLess(t *testing.T) {
	t.Run("two numbers", func(t *testing.T) {
		if Less(2, 1) {
			t.Error("2 < 1")
		}
	})
}

func TestNothing(t *testing.T) { Less(1, 2) }

func TestSkipped(t *testing.T) { t.Skip() }
`,
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return dir
}

func TestAMutantMustBeFoundByTheTestThatIsNamed(t *testing.T) {
	t.Parallel()
	wrong := []edit{{"p/p.go", "a < b", "a > b"}}
	for name, row := range map[string]struct {
		mutant mutant
		says   string // in its line; empty where it is found
	}{
		"a test that fails":              {mutant{"m", wrong, "p", "TestLess"}, ""},
		"a case of one":                  {mutant{"m", wrong, "p", "TestLess/two numbers"}, ""},
		"a panic":                        {mutant{"m", []edit{{"p/p.go", "return a < b", "panic(a + b)"}}, "p", "TestNothing"}, ""},
		"a test that passes":             {mutant{"m", wrong, "p", "TestNothing"}, "SURVIVED TestNothing"},
		"code that isn't there":          {mutant{"m", []edit{{"p/p.go", "a <= b", ""}}, "p", "TestLess"}, "STALE"},
		"code that is there twice":       {mutant{"m", []edit{{"p/again.go", "1", "2"}}, "p", "TestLess"}, "STALE"},
		"a file that isn't there":        {mutant{"m", []edit{{"p/q.go", "1", "2"}}, "p", "TestLess"}, "STALE"},
		"code that the compiler stops":   {mutant{"m", []edit{{"p/p.go", "a < b", "a"}}, "p", "TestLess"}, "DOESN'T COMPILE"},
		"a test that isn't there":        {mutant{"m", wrong, "p", "TestMore"}, "no test"},
		"a case that isn't there":        {mutant{"m", wrong, "p", "TestLess/three"}, "no test"},
		"a test that doesn't run at all": {mutant{"m", wrong, "p", "TestSkipped"}, "no test"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := module(t)
			var out strings.Builder
			err := check(t.Context(), &out, dir, []mutant{row.mutant}, false)
			if err != nil {
				out.WriteString(err.Error())
			}
			if row.says == "" {
				require.NoError(t, err)
				assert.Contains(t, out.String(), "1 of 1 mutants were found")
				return
			}
			require.Error(t, err)
			assert.Contains(t, out.String(), row.says)
			data, err := os.ReadFile(filepath.Join(dir, "p/p.go"))
			require.NoError(t, err)
			assert.Contains(t, string(data), "a < b", "the work tree is only read")
		})
	}
}

func TestATreeThatFailsByItselfProvesNothing(t *testing.T) {
	dir := module(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "p/p.go"), []byte("package p\n\nfunc Less(a, b int) bool { return a != b }\n"), 0o600))
	err := check(t.Context(), new(strings.Builder), dir, []mutant{{"m", []edit{{"p/p.go", "!=", "=="}}, "p", "TestLess"}}, false)
	require.ErrorContains(t, err, "without a mutant")
}
