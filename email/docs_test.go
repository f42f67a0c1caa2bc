package email_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/docstest"
)

func TestTheCodeInTheDocumentationIsThatOfTheExamples(t *testing.T) {
	examples, err := filepath.Glob("*/example_test.go")
	require.NoError(t, err)
	docstest.Check(t, "../docs/email.md", append(examples, "example_test.go")...)
}
