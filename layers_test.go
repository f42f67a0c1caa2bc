// Package integrations holds nothing but the test of its layers.
package integrations_test

import (
	"os/exec"
	"strings"
	"testing"
)

func TestAPackageCompilesNothingOfAnotherLayer(t *testing.T) {
	const sendgrid, aws, gomail = "github.com/sendgrid/", "github.com/aws/", "github.com/wneessen/"
	const module = "github.com/smilefactory/integrations/"
	for pkg, forbidden := range map[string][]string{
		"fault":          {module + "email", module + "resilience", "github.com/sony/"},
		"secret":         {module + "email", module + "resilience", module + "fault"},
		"resilience":     {module + "email", module + "secret", sendgrid, aws},
		"email":          {sendgrid, aws, gomail, "github.com/stretchr/", module + "internal/sim", module + "secret"},
		"email/sendgrid": {aws, gomail, module + "email/ses"},
		"email/smtp":     {sendgrid, aws, module + "email/ses", module + "email/sendgrid"},
		"email/ses":      {sendgrid, module + "email/sendgrid"},
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+pkg).Output()
		if err != nil {
			t.Fatal(err)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			for _, f := range forbidden {
				if strings.HasPrefix(dep, f) {
					t.Errorf("%s compiles %s", pkg, dep)
				}
			}
		}
	}
}
