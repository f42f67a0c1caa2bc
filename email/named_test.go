package email_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

func hello() *email.Message {
	return &email.Message{
		From: email.Address{Address: "ada@example.com"}, To: []email.Address{{Address: "grace@example.org"}}, Subject: "Hello", Text: "Hi",
	}
}

func TestTwoSendersOfOneNameNeedOthers(t *testing.T) {
	first, second := &emailtest.Outbox{}, &emailtest.Outbox{}
	_, err := email.New(first, email.WithBackup(second))
	require.ErrorContains(t, err, `"outbox"`)
	_, err = email.New(email.Named("eu", first), email.WithBackup(email.Named("eu", second)))
	require.ErrorContains(t, err, `"eu"`)
	_, err = email.New(email.Named("Not A Name", first))
	require.ErrorContains(t, err, "Not A Name")

	client, err := email.New(email.Named("eu", first), email.WithBackup(email.Named("us", second)))
	require.NoError(t, err)
	first.FailAlways(fault.New(fault.Denied, nil))
	receipt, err := client.Send(t.Context(), hello())
	require.NoError(t, err)
	assert.Equal(t, "us", receipt.Provider)
	assert.Equal(t, 2, receipt.Attempts)
	second.FailAlways(fault.New(fault.Denied, nil))
	_, err = client.Send(t.Context(), hello())
	assert.ErrorContains(t, err, "eu: denied; us: denied")
}

func TestANameByItselfIsASendersName(t *testing.T) {
	var outbox emailtest.Outbox
	s := email.Named("eu", &outbox)
	assert.Equal(t, "eu", s.(interface{ Name() string }).Name())
	receipt, err := s.Send(t.Context(), hello())
	require.NoError(t, err)
	assert.Equal(t, "eu", receipt.Provider)
	outbox.Fail(fault.New(fault.RateLimited, nil))
	_, err = s.Send(t.Context(), hello())
	require.ErrorIs(t, err, fault.RateLimited)
	assert.Len(t, outbox.Sent(), 1)
}

func TestANamedSenderConforms(t *testing.T) {
	emailtest.Run(t, func(*testing.T) emailtest.Subject {
		var o emailtest.Outbox
		return subject(&o, email.Named("eu", &o), "eu")
	})
}

func TestTheLastNameCounts(t *testing.T) {
	var outbox emailtest.Outbox
	s := email.Named("outer", email.Named("inner", &outbox))
	receipt, err := s.Send(t.Context(), hello())
	require.NoError(t, err)
	assert.Equal(t, "outer", receipt.Provider)
	assert.Same(t, &outbox, email.Named("", s), "an empty name is the Sender's own")
}

func TestANamedClientSaysWhichOfItsProvidersAnswered(t *testing.T) {
	client, err := email.New(&emailtest.Outbox{})
	require.NoError(t, err)
	named := email.Named("eu", client)
	receipt, err := named.Send(t.Context(), hello())
	require.NoError(t, err)
	assert.Equal(t, "eu/outbox", receipt.Provider)

	outer, err := email.New(named)
	require.NoError(t, err)
	receipt, err = outer.Send(t.Context(), hello())
	require.NoError(t, err)
	assert.Equal(t, "eu/outbox", receipt.Provider)
	assert.Equal(t, "eu/outbox", outer.Inspect()[0].Name, "the Client inside is seen as one")
}

// checked is incomplete.
type checked struct{ emailtest.Outbox }

func (*checked) Check() error { return errors.New("checked: Key is required") }

func TestANameHidesNothingOfASender(t *testing.T) {
	_, err := email.New(email.Named("eu", &checked{}))
	require.EqualError(t, err, `email: member "eu": checked: Key is required`)
	_, err = email.New(&checked{})
	require.EqualError(t, err, "checked: Key is required")
	_, err = email.New(email.Named("eu", nil))
	require.ErrorContains(t, err, "no provider")
}

func TestAMemberMayHaveAPolicyOfItsOwn(t *testing.T) {
	own := resilience.Default
	own.Retries = 0
	down := fault.New(fault.Unavailable, nil)
	eu, us := &failing{err: down}, &failing{err: down}
	client, err := email.New(email.Named("eu", eu), email.WithBackup(email.Named("us", us)), email.WithPolicy(own, "us"))
	require.NoError(t, err)
	_, err = client.Send(t.Context(), hello())
	require.ErrorIs(t, err, fault.Unavailable)
	assert.Equal(t, 3, eu.asked)
	assert.Equal(t, 1, us.asked)
	_, err = email.New(eu, email.WithPolicy(own, "nobody"))
	require.ErrorContains(t, err, `"nobody"`)
}

type failing struct {
	err   error
	asked int
}

func (*failing) Name() string { return "failing" }

func (f *failing) Send(context.Context, *email.Message) (*email.Receipt, error) {
	f.asked++
	return nil, f.err
}
