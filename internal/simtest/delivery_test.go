package simtest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/fault"
)

// unsettled are the troubles after which an HTTP provider may have acted, with
// how often it has, and whether SMTP knows more: a reply of 451 to a message is
// proof that it wasn't taken.
var unsettled = []struct {
	trouble     emailtest.Trouble
	acts        int
	smtpSettles bool
}{
	{emailtest.Reset, 0, false},
	{emailtest.ResetAfter, 1, false},
	{emailtest.Hang, 0, false},
	{emailtest.ServerError, 0, true},
}

func TestAMailThatMustGoAtMostOnceNeverGoesTwice(t *testing.T) {
	for first, second := range backups {
		for _, tt := range unsettled {
			t.Run(first+"/"+tt.trouble.String(), func(t *testing.T) {
				primary, backup := providers[first](t), providers[second](t)
				p := quick()
				p.Timeout = 100 * time.Millisecond // of an attempt at a provider that hangs
				mail := client(t, p, 0, primary, backup)
				primary.Break(tt.trouble)
				m := hello()
				m.AtMostOnce = true
				_, err := mail.Send(t.Context(), m)
				if tt.smtpSettles && first == "smtp" {
					require.NoError(t, err)
					assert.Equal(t, []int{0, 1}, []int{primary.taken(m.ID), backup.taken(m.ID)})
					return
				}
				require.ErrorIs(t, err, fault.Uncertain)
				assert.Equal(t, tt.acts, primary.taken(m.ID))
				assert.Zero(t, backup.taken(m.ID))
				asked := 1
				if primary.dedupes {
					asked = 3 // it is safe to ask again here
				}
				assert.Equal(t, asked, primary.requests())
				assert.Zero(t, backup.requests(), "the backup isn't even asked")
			})
		}
	}
}

func TestByDefaultAMailGoesAtLeastOnce(t *testing.T) {
	for first, second := range backups {
		for _, tt := range unsettled {
			t.Run(first+"/"+tt.trouble.String(), func(t *testing.T) {
				primary, backup := providers[first](t), providers[second](t)
				p := quick()
				p.Timeout = 100 * time.Millisecond
				mail := client(t, p, 0, primary, backup)
				primary.Break(tt.trouble)
				receipt, err := mail.Send(t.Context(), hello())
				require.NoError(t, err)
				assert.Equal(t, second, receipt.Provider)
				assert.Equal(t, 1, backup.taken("m-1"))
				asked := 3 // with two retries
				if tt.trouble == emailtest.Hang {
					asked = 1 // a timeout goes to the untried backup instead
				}
				assert.Equal(t, asked, primary.requests())
				arrived := asked * tt.acts // so often it arrived twice: this is the price
				if primary.dedupes {
					arrived = tt.acts
				}
				assert.Equal(t, arrived, primary.taken("m-1"))
				assert.Equal(t, asked+1, receipt.Attempts, "what is told is what was on the wire")
			})
		}
	}
}

func TestAMailIsNotLostWhereThePrimaryRefusedItForSure(t *testing.T) {
	for first, second := range backups {
		for _, trouble := range []emailtest.Trouble{emailtest.Unreachable, emailtest.Throttled, emailtest.BadCredentials} {
			for _, once := range []bool{true, false} {
				t.Run(first+"/"+trouble.String(), func(t *testing.T) {
					primary, backup := providers[first](t), providers[second](t)
					mail := client(t, quick(), 0, primary, backup)
					primary.Break(trouble)
					m := hello()
					m.AtMostOnce = once
					receipt, err := mail.Send(t.Context(), m)
					require.NoError(t, err)
					assert.Equal(t, second, receipt.Provider)
					assert.Equal(t, []int{0, 1}, []int{primary.taken("m-1"), backup.taken("m-1")})
				})
			}
		}
	}
}

// Two retries of an SDK under two of ours would make nine attempts of three.
func TestTrap09TheSDKsOwnRetriesAreOff(t *testing.T) {
	for name, open := range providers {
		for _, trouble := range []emailtest.Trouble{emailtest.ServerError, emailtest.Throttled, emailtest.Reset, emailtest.ResetAfter} {
			t.Run(name+"/"+trouble.String(), func(t *testing.T) {
				alone := open(t)
				alone.Break(trouble)
				_, err := alone.Sender.Send(t.Context(), hello())
				require.Error(t, err)
				assert.Equal(t, 1, alone.requests(), "a Sender makes one attempt")

				inside := open(t)
				mail := client(t, quick(), 0, inside)
				inside.Break(trouble)
				_, err = mail.Send(t.Context(), hello())
				require.Error(t, err)
				assert.Equal(t, 3, inside.requests(), "a Client with two retries makes three")
			})
		}
		t.Run(name+" as primary and as backup", func(t *testing.T) {
			primary, backup := open(t), providers[backups[name]](t)
			mail := client(t, quick(), 0, primary, backup)
			primary.Break(emailtest.ServerError)
			backup.Break(emailtest.ServerError)
			_, err := mail.Send(t.Context(), hello())
			require.Error(t, err)
			assert.Equal(t, []int{3, 3}, []int{primary.requests(), backup.requests()})
		})
	}
}
