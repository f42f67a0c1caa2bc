package sqlite

import (
	"testing"

	"github.com/smilefactory/integrations/internal/docstest"
)

func TestTheCodeInTheDocumentationRuns(t *testing.T) {
	docstest.Check(t, "../../docs/queue.md", "example_test.go", "sqlite_test.go", "../example_test.go")
}
