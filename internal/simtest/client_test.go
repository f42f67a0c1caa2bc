package simtest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
)

// backups stand behind each provider.
var backups = map[string]string{"sendgrid": "ses", "ses": "smtp", "smtp": "postmark", "postmark": "resend", "resend": "sendgrid"}

func TestAClientOverRealAdaptersConforms(t *testing.T) {
	for first, second := range backups {
		for deep, name := range []string{first, "email/" + first} {
			t.Run(name, func(t *testing.T) {
				emailtest.Run(t, func(t *testing.T) emailtest.Subject {
					primary, backup := providers[first](t), providers[second](t)
					s := primary.Subject
					s.Sender, s.Name, s.Retries = client(t, quick(), deep, primary, backup), name, true
					s.Waits, s.Lacks = nil, nil
					s.Sent = func() []*email.Message { return append(primary.Sent(), backup.Sent()...) }
					s.Break = func(trouble emailtest.Trouble) bool {
						if trouble == emailtest.Hang { // or the backup takes it
							backup.Break(trouble)
						}
						return primary.Break(trouble)
					}
					s.Heal = func() { primary.Heal(); backup.Heal() }
					return s
				})
			})
		}
	}
}

func TestNestingMakesNoMoreRequestsThanFlat(t *testing.T) {
	for name, deep := range map[string]int{"flat": 0, "one deep": 1, "three deep": 3} {
		t.Run(name, func(t *testing.T) {
			primary, backup := openSendGrid(t), openSES(t)
			primary.Break(emailtest.ServerError)
			backup.Break(emailtest.ServerError)
			_, err := client(t, quick(), deep, primary, backup).Send(t.Context(), hello())
			require.Error(t, err)
			assert.Equal(t, 3, primary.requests())
			assert.Equal(t, 3, backup.requests())
			assert.ErrorContains(t, err, "after 6 attempts")
		})
	}
}

func TestTwoAccountsOfOneProviderAreToldApart(t *testing.T) {
	eu, us := openSendGrid(t), openSendGrid(t)
	mail, err := email.New(email.Named("sendgrid-eu", eu.Sender), email.WithBackup(email.Named("sendgrid-us", us.Sender)), email.WithPolicy(quick()))
	require.NoError(t, err)
	eu.Break(emailtest.BadCredentials)
	receipt, err := mail.Send(t.Context(), hello())
	require.NoError(t, err)
	assert.Equal(t, "sendgrid-us", receipt.Provider)
	assert.Equal(t, []int{0, 1}, []int{eu.taken("m-1"), us.taken("m-1")})

	eu.Heal()
	receipt, err = mail.Send(t.Context(), hello())
	require.NoError(t, err)
	assert.Equal(t, "sendgrid-eu", receipt.Provider)
	assert.Equal(t, 1, eu.taken("m-1"))

	_, err = email.New(eu.Sender, email.WithBackup(us.Sender))
	assert.ErrorContains(t, err, `"sendgrid"`)
}
