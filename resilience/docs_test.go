package resilience_test

import (
	"testing"

	"github.com/smilefactory/integrations/internal/docstest"
)

func TestTheCodeInTheDocumentationIsThatOfTheExamples(t *testing.T) {
	docstest.Check(t, "../docs/resilience.md", "example_test.go", "example_guide_test.go")
}
