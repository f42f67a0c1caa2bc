package email_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

var backupShop = email.Address{Name: "Shop", Address: "shop@backup.example"}

// references is the header field that a provider is handed for the thread.
func references(m *email.Message) string {
	for name, value := range m.HeaderFields() {
		if name == "References" {
			return value
		}
	}
	return ""
}

func TestFromWritesFromAnotherAddressAndAnswersGoWhereTheyWould(t *testing.T) {
	support := []email.Address{{Address: "support@example.com"}, {Address: "archive@example.com"}}
	for name, c := range map[string]struct{ given, want []email.Address }{
		"a message without Reply-To is answered to its own From": {nil, []email.Address{{Name: "Ada", Address: "ada@example.com"}}},
		"a message's Reply-To stays":                             {support, support},
	} {
		t.Run(name, func(t *testing.T) {
			var outbox emailtest.Outbox
			m := hello()
			m.ID, m.From.Name, m.ReplyTo = "mail-1", "Ada", c.given
			before := *m
			_, err := email.From(backupShop, &outbox).Send(t.Context(), m)
			require.NoError(t, err)
			assert.Equal(t, before, *m, "the caller's message is as it was")

			sent := outbox.Sent()[0]
			assert.Equal(t, backupShop, sent.From)
			assert.Equal(t, c.want, sent.ReplyTo)
			assert.Equal(t, before.ID, sent.ID)
		})
	}
}

func TestFromInFromWritesFromTheInnerAddress(t *testing.T) {
	var outbox emailtest.Outbox
	inner := email.From(email.Address{Address: "inner@inner.example"}, &outbox)
	m := hello()
	m.Thread = "order-4711"
	_, err := email.From(backupShop, inner).Send(t.Context(), m)
	require.NoError(t, err)
	sent := outbox.Sent()[0]
	assert.Equal(t, "inner@inner.example", sent.From.Address)
	assert.Equal(t, []email.Address{m.From}, sent.ReplyTo, "the message's own, not one on the way")
	assert.Equal(t, "<order-4711@example.com>", references(sent))
}

func TestAThreadHasOneRootOverAllProviders(t *testing.T) {
	first, second, third := &emailtest.Outbox{}, &emailtest.Outbox{}, &emailtest.Outbox{}
	client, err := email.New(email.Named("first", first),
		email.WithBackup(email.From(backupShop, email.Named("second", second))),
		email.WithBackup(email.Named("third", email.From(email.Address{Address: "shop@third.example"}, third))),
		email.WithPolicy(quick()))
	require.NoError(t, err)
	var seen []string
	for n, outbox := range []*emailtest.Outbox{first, second, third} {
		m := hello()
		m.From.Address, m.Thread, m.Subject = "ada@Bücher.example", "order-4711", fmt.Sprint("Order 4711, ", n)
		_, err := client.Send(t.Context(), m)
		require.NoError(t, err)
		sent := outbox.Sent()
		require.Len(t, sent, 1)
		seen = append(seen, references(sent[0]))
		outbox.FailAlways(fault.New(fault.Denied, nil))
	}
	assert.Equal(t, []string{"<order-4711@xn--bcher-kva.example>", "<order-4711@xn--bcher-kva.example>", "<order-4711@xn--bcher-kva.example>"}, seen)
}

func TestFromKeepsTheNameOfItsSender(t *testing.T) {
	var outbox emailtest.Outbox
	for name, s := range map[string]email.Sender{
		"outbox": email.From(backupShop, &outbox),
		"eu":     email.From(backupShop, email.Named("eu", &outbox)),
		"us":     email.Named("us", email.From(backupShop, &outbox)),
		"outer":  email.Named("outer", email.From(backupShop, email.Named("inner", &outbox))),
	} {
		assert.Equal(t, name, s.(interface{ Name() string }).Name())
		client, err := email.New(s)
		require.NoError(t, err)
		r, err := client.Send(t.Context(), hello())
		require.NoError(t, err)
		assert.Equal(t, name, r.Provider)
		sent := outbox.Sent()
		assert.Equal(t, backupShop, sent[len(sent)-1].From)
	}
}

func TestASenderWithoutANameStillNeedsOne(t *testing.T) {
	nameless := email.From(backupShop, sends(new(emailtest.Outbox).Send))
	_, err := email.New(nameless)
	require.ErrorContains(t, err, "name")
	_, err = email.New(email.Named("it", nameless))
	require.NoError(t, err)
}

func TestFromIsCheckedWithItsSender(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for want, s := range map[string]email.Sender{
		"email: From: the address":         email.From(email.Address{Address: "shop"}, &emailtest.Outbox{}),
		"email: From: the name":            email.From(email.Address{Name: "Shop\r\nBcc: x@example.com", Address: "shop@example.com"}, &emailtest.Outbox{}),
		"email: From: the name ":           email.From(email.Address{Name: long, Address: "shop@example.com"}, &emailtest.Outbox{}),
		"checked: Key is required":         email.From(backupShop, &checked{}),
		`email: member "eu": checked: Key`: email.From(backupShop, email.Named("eu", &checked{})),
		`email: member "us": email: From`:  email.Named("us", email.From(email.Address{}, &checked{})),
		"no provider":                      email.From(backupShop, nil),
	} {
		_, err := email.New(s)
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), long)
	}
	_, err := email.New(email.From(backupShop, &emailtest.Outbox{}))
	require.NoError(t, err)
}

func TestAWrongMessageIsRefusedBeforeFromChangesIt(t *testing.T) {
	var outbox emailtest.Outbox
	s := email.From(backupShop, &outbox)
	m := hello()
	m.From.Address = "nobody" // which From would hide
	_, err := s.Send(t.Context(), m)
	refused, ok := errors.AsType[*email.FieldError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, "from.address", refused.Field)
	_, err = s.Send(t.Context(), nil)
	require.ErrorIs(t, err, fault.Invalid)
	assert.Empty(t, outbox.Sent())
}

func TestAClientUnderFromStaysInSight(t *testing.T) {
	first, second := &emailtest.Outbox{}, &emailtest.Outbox{}
	inner, err := email.New(email.Named("first", first), email.WithBackup(email.Named("second", second)), email.WithName("eu"), email.WithPolicy(quick()))
	require.NoError(t, err)
	for name, s := range map[string]email.Sender{"eu": email.From(backupShop, inner), "us": email.From(backupShop, email.Named("us", inner))} {
		outer, err := email.New(s, email.WithBackup(&emailtest.Outbox{}), email.WithPolicy(quick()))
		require.NoError(t, err)
		var names []string
		for _, status := range outer.Inspect() {
			names = append(names, status.Name)
		}
		assert.Equal(t, []string{name + "/first", name + "/second", "outbox"}, names)

		require.NoError(t, outer.Control().Switch(name+"/first", resilience.Drained))
		r, err := outer.Send(t.Context(), hello())
		require.NoError(t, err)
		assert.Equal(t, name+"/second", r.Provider)
		require.NoError(t, outer.Control().Switch(name+"/first", resilience.Automatic))
	}
	assert.Empty(t, first.Sent())
	for _, m := range second.Sent() {
		assert.Equal(t, backupShop, m.From)
	}
	_, inspects := email.From(backupShop, first).(resilience.Inspector)
	assert.False(t, inspects, "a provider by itself isn't taken for a Client")
}

func TestASenderUnderFromConforms(t *testing.T) {
	emailtest.Run(t, func(t *testing.T) emailtest.Subject {
		var o emailtest.Outbox
		s := subject(&o, email.From(backupShop, &o), "outbox")
		s.Sent = func() []*email.Message { return asWritten(t, &o) }
		return s
	})
}

// asWritten are the mails that went, with the From that the suite writes from.
func asWritten(t *testing.T, o *emailtest.Outbox) []*email.Message {
	t.Helper()
	all := o.Sent()
	for i, m := range all {
		assert.Equal(t, backupShop, m.From)
		written := *m
		written.From = email.Address{Name: "Ada Lövelace", Address: "ada@example.com"}
		all[i] = &written
	}
	return all
}

// sends is a Sender without a name.
type sends func(context.Context, *email.Message) (*email.Receipt, error)

func (s sends) Send(ctx context.Context, m *email.Message) (*email.Receipt, error) { return s(ctx, m) }
