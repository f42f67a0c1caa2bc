package limits_test

import (
	"net/mail"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/internal/limits"
	"github.com/smilefactory/integrations/fault"
)

func TestNoLimitBrokenIsNoError(t *testing.T) {
	var b limits.Broken
	b.Require(true, "to", "x")
	assert.NoError(t, b.Unsupported())
}

func TestEveryBrokenLimitIsNamed(t *testing.T) {
	var b limits.Broken
	m := &email.Message{
		From: email.Address{Address: "jürgen@example.com"}, To: []email.Address{{Address: "a@example.org"}, {Address: "ä@example.org"}},
		ReplyTo: []email.Address{{Address: "r@bücher.example"}}, Attachments: []email.Attachment{{Name: "a.pdf"}, {Name: "b.EXE"}, {Name: "exe"}},
	}
	b.Require(false, "send_at", "is too far ahead")
	b.LocalParts(m, "must be ASCII before the @")
	b.FileTypes(m, []string{".exe"}, "has an extension that is refused")
	err := b.Unsupported()
	require.ErrorIs(t, err, fault.Unsupported)
	assert.EqualError(t, err, "unsupported: email: send_at: is too far ahead\nemail: from.address: must be ASCII before the @\n"+
		"email: to[1].address: must be ASCII before the @\nemail: attachments[1].name: has an extension that is refused")
}

func TestAMailboxReadsAsItWasWritten(t *testing.T) {
	for want, a := range map[string]email.Address{
		"a@example.com":                      {Address: "a@example.com"},
		"Ada Lövelace <a@example.com>":       {Name: "Ada Lövelace", Address: "a@example.com"},
		`"Acme, Inc." <a@example.com>`:       {Name: "Acme, Inc.", Address: "a@example.com"},
		`"Grace \"G\" \\ H" <g@example.org>`: {Name: `Grace "G" \ H`, Address: "g@example.org"},
		`"a@b <c>" <g@example.org>`:          {Name: "a@b <c>", Address: "g@example.org"},
		`" Ada " <a@example.com>`:            {Name: " Ada ", Address: "a@example.com"},
		"Ada <a@xn--bcher-kva.example>":      {Name: "Ada", Address: "a@bücher.example"},
	} {
		got := limits.Mailbox(a)
		assert.Equal(t, want, got)
		parsed, err := mail.ParseAddress(got)
		require.NoError(t, err)
		assert.Equal(t, email.ASCIIDomain(a), *parsed)
	}
	assert.Equal(t, []string{"a@example.com", "B <b@example.com>"}, limits.Mailboxes([]email.Address{{Address: "a@example.com"}, {Name: "B", Address: "b@example.com"}}))
	assert.Empty(t, limits.Mailboxes(nil))
}
