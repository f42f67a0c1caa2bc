package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	sendgridsim "github.com/smilefactory/integrations/internal/sim/sendgrid"
	smtpsim "github.com/smilefactory/integrations/internal/sim/smtp"
)

func canceled(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// staged is a stage on which nothing was played.
func staged(t *testing.T, out io.Writer) *stage {
	t.Helper()
	s := &stage{out: out, providers: newProviders()}
	t.Cleanup(s.close)
	return s
}

func noEnv(string) string { return "" }

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestAMistakeInTheFlagsIsNamed(t *testing.T) {
	keys := env(map[string]string{"SENDGRID_API_KEY": "SG.key"})
	for name, tt := range map[string]struct {
		args []string
		env  func(string) string
		want string
	}{
		"an unknown flag":          {[]string{"-smpt", "x"}, noEnv, "-smpt"},
		"a word":                   {[]string{"now"}, noEnv, `"now"`},
		"from without a provider":  {[]string{"-from", "a@example.com"}, noEnv, "-from is for a real mail"},
		"a user without a server":  {[]string{"-smtp-user", "u"}, noEnv, "-smtp-user is for a real mail"},
		"no addresses":             {[]string{"-smtp", "localhost:25"}, noEnv, "-from and -to"},
		"no recipient":             {[]string{"-smtp", "localhost:25", "-from", "a@example.com"}, noEnv, "-from and -to"},
		"no key":                   {[]string{"-sendgrid-key-from-env", "-from", "a@example.com", "-to", "b@example.org"}, noEnv, "SENDGRID_API_KEY"},
		"a user for SendGrid":      {[]string{"-sendgrid-key-from-env", "-smtp-user", "u", "-from", "a@example.com", "-to", "b@example.org"}, keys, "are for -smtp"},
		"a server without a port":  {[]string{"-smtp", "localhost", "-from", "a@example.com", "-to", "b@example.org"}, noEnv, "host:port"},
		"a server without a host":  {[]string{"-smtp", ":25", "-from", "a@example.com", "-to", "b@example.org"}, noEnv, "host:port"},
		"another mode":             {[]string{"-smtp", "localhost:25", "-smtp-tls", "ssl", "-from", "a@example.com", "-to", "b@example.org"}, noEnv, "-smtp-tls"},
		"no password":              {[]string{"-smtp", "localhost:25", "-smtp-user", "u", "-from", "a@example.com", "-to", "b@example.org"}, noEnv, "SMTP_PASSWORD"},
		"no encryption elsewhere":  {[]string{"-smtp", "mail.example.com:25", "-smtp-tls", "none", "-from", "a@example.com", "-to", "b@example.org"}, noEnv, "Plaintext"},
		"a sender without a host":  {[]string{"-smtp", "localhost:25", "-from", "a", "-to", "b@example.org"}, noEnv, "from.address"},
		"a recipient without host": {[]string{"-smtp", "localhost:25", "-from", "a@example.com", "-to", "b"}, noEnv, "to[0].address"},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), io.Discard, tt.args, tt.env)
			require.ErrorContains(t, err, tt.want)
			_, ok := errors.AsType[usageError](err)
			assert.True(t, ok, "the exit status is 2")
		})
	}
}

func TestHelpNamesEveryFlag(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, []string{"-help"}, noEnv))
	for _, name := range []string{"-sendgrid-key-from-env", "-smtp ", "-smtp-user", "-smtp-tls", "-from", "-to"} {
		assert.Contains(t, out.String(), name)
	}
}

func TestARealMailGoesThroughSMTP(t *testing.T) {
	server := smtpsim.New(smtpsim.Config{NoTLS: true, Username: "u", Password: "p"})
	defer server.Close()
	t.Setenv("SMTP_PASSWORD", "p")
	password := env(map[string]string{"SMTP_PASSWORD": "p"})
	args := []string{"-smtp", server.Addr, "-smtp-tls", "none", "-smtp-user", "u", "-from", "a@example.com", "-to", "b@example.org"}
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, args, password))
	require.Equal(t, 1, server.Mails.Len())
	m := server.Mails.All()[0]
	assert.Equal(t, []string{"b@example.org"}, m.Recipients)
	assert.Equal(t, "smtp took the mail as "+m.ProviderID+", attempts: 1\n", out.String())

	args[3] = "starttls" // which this server doesn't offer
	require.ErrorIs(t, run(t.Context(), &out, args, password), fault.Denied)
	require.ErrorIs(t, run(canceled(t), &out, args, password), context.Canceled)
	assert.Equal(t, 1, server.Mails.Len())
}

func TestWithBothTheServerIsTheBackup(t *testing.T) {
	server, sg := smtpsim.New(smtpsim.Config{NoTLS: true}), sendgridsim.New(sendgridsim.Config{Key: "SG.key"})
	defer server.Close()
	defer sg.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	t.Setenv("SENDGRID_API_KEY", "SG.key")
	o := options{sendgrid: true, sendgrids: sg.URL, smtp: server.Addr, smtpTLS: "none", from: "a@example.com", to: "b@example.org"}
	require.NoError(t, sendReal(t.Context(), io.Discard, o))
	assert.Equal(t, []int{1, 0}, []int{sg.Mails.Len(), server.Mails.Len()})

	sg.SetKey("another")
	var out bytes.Buffer
	require.NoError(t, sendReal(t.Context(), &out, o))
	assert.Equal(t, []int{1, 1}, []int{sg.Mails.Len(), server.Mails.Len()})
	assert.Contains(t, out.String(), "smtp took the mail")
}
