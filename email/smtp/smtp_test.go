package smtp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/smtp"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/smtp"
	"github.com/smilefactory/integrations/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func letter() *email.Message {
	return &email.Message{
		ID: "m-1", From: email.Address{Name: "Ada", Address: "ada@example.com"},
		To: []email.Address{{Address: "to@example.org"}}, Cc: []email.Address{{Address: "cc@example.org"}}, Bcc: []email.Address{{Address: "bcc@example.org"}},
		Subject: "Grüße", Text: "line 1\n.line 2\n", HTML: "<b>html</b>",
	}
}

func TestBccIsInTheEnvelopeAlone(t *testing.T) {
	b := open(t, simulator.Config{}, smtp.Config{})
	receipt, err := b.Send(t.Context(), letter())
	require.NoError(t, err)
	m := b.sim.Mails.All()[0]
	assert.Equal(t, "ada@example.com", m.Sender)
	assert.Equal(t, []string{"to@example.org", "cc@example.org", "bcc@example.org"}, m.Recipients)
	assert.NotContains(t, strings.ToLower(string(m.Raw)), "bcc:") // with its colon: a boundary is of random hex
	assert.NotContains(t, string(m.Raw), "bcc@example.org")
	assert.Equal(t, m.ProviderID, receipt.ProviderID)
	assert.Contains(t, string(m.Raw), "Message-ID: <m-1@example.com>")
	assert.Equal(t, "m-1@example.com", receipt.MessageID)
	assert.Equal(t, "line 1\r\n.line 2\r\n", m.Text, "a leading dot survives")
	assert.NotContains(t, string(m.Raw), "Reply-To", "an empty list makes no field")
}

func TestAMailToBccAloneIsSent(t *testing.T) {
	b := open(t, simulator.Config{}, smtp.Config{})
	m := letter()
	m.To, m.Cc = nil, nil
	_, err := b.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Equal(t, []string{"bcc@example.org"}, b.sim.Mails.All()[0].Recipients)
}

func TestFileNamesArriveWhole(t *testing.T) {
	b := open(t, simulator.Config{}, smtp.Config{})
	m := letter()
	m.Attachments = []email.Attachment{
		{Name: `Überblick: "Q1"? <neu>|.pdf`, ContentType: "application/pdf; version=2", Data: []byte("x")},
		{Name: strings.Repeat("ü", 120) + ".bin", Data: bytes.Repeat([]byte{0}, 5000)},
	}
	_, err := b.Send(t.Context(), m)
	require.NoError(t, err)
	got := b.sim.Mails.All()[0].Attachments
	require.Len(t, got, 2)
	for i, a := range got {
		assert.Equal(t, m.Attachments[i].Name, a.Name)
		assert.Equal(t, m.Attachments[i].Data, a.Data)
	}
	assert.Equal(t, "application/octet-stream", got[1].Type)
}

func TestADomainTravelsInASCII(t *testing.T) {
	b := open(t, simulator.Config{}, smtp.Config{})
	m := letter()
	m.To[0].Address = "to@bücher.example"
	receipt, err := b.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Equal(t, "to@xn--bcher-kva.example", b.sim.Mails.All()[0].Recipients[0])
	assert.Equal(t, "to@bücher.example", receipt.Recipients[0].Address)
}

func TestANonASCIILocalPartNeedsSMTPUTF8(t *testing.T) {
	m := letter()
	m.Cc[0].Address = "jürgen@example.org"
	_, err := open(t, simulator.Config{}, smtp.Config{}).Send(t.Context(), m)
	refusedField(t, err, "cc[0].address")

	b := open(t, simulator.Config{SMTPUTF8: true}, smtp.Config{})
	_, err = b.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Contains(t, b.sim.Mails.All()[0].Recipients, "jürgen@example.org")
}

func refusedField(t *testing.T, err error, field string) {
	t.Helper()
	require.ErrorIs(t, err, fault.Unsupported)
	wrong, ok := errors.AsType[*email.FieldError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, field, wrong.Field)
}

func TestWhatSMTPCannotDoIsRefusedBeforeAConnectionIsMade(t *testing.T) {
	for field, spoil := range map[string]func(*email.Message){
		"send_at":               func(m *email.Message) { m.SendAt = time.Now().Add(time.Hour) },
		"tags[1]":               func(m *email.Message) { m.Tags = []string{"a", "b,c"} },
		"headers[x-message-ID]": func(m *email.Message) { m.Headers = map[string]string{"x-message-ID": "x"} },
		"headers[X-TAG]":        func(m *email.Message) { m.Headers = map[string]string{"X-TAG": "x"} },
		"metadata[k]":           func(m *email.Message) { m.Metadata = map[string]string{"k": strings.Repeat("x", 990)} },
		"headers[X-Meta-A]":     func(m *email.Message) { m.Headers = map[string]string{"X-Meta-A": "x"} },
	} {
		b := open(t, simulator.Config{}, smtp.Config{TagHeader: "X-Tag", MetadataHeaderPrefix: "x-meta-"})
		m := letter()
		spoil(m)
		_, err := b.Send(t.Context(), m)
		refusedField(t, err, field)
		assert.Zero(t, b.sim.Connections())
	}
}

func TestAMailThatIsTooLargeIsNotSent(t *testing.T) {
	b := open(t, simulator.Config{MaxSize: 1000}, smtp.Config{})
	m := letter()
	m.Attachments = []email.Attachment{{Name: "a", Data: make([]byte, 2000)}}
	_, err := b.Send(t.Context(), m)
	refusedField(t, err, "attachments")
	assert.Equal(t, 1, b.sim.Connections())
	m.Attachments = nil
	_, err = b.Send(t.Context(), m)
	require.NoError(t, err)
	assert.Equal(t, 1, b.sim.Connections(), "the connection is still good")
}

func TestAReplyHasItsKind(t *testing.T) {
	for _, tt := range []struct {
		at, reply string
		kind      fault.Kind
		code      string
	}{
		{simulator.Connect, "421 4.3.2 shutting down", fault.Unavailable, "421 4.3.2"},
		{simulator.Connect, "421 4.7.0 too many connections", fault.RateLimited, "421 4.7.0"},
		{simulator.Connect, "554 no service", fault.Denied, "554"},
		{"STARTTLS", "454 4.7.0 TLS not available", fault.Unavailable, "454 4.7.0"},
		{"STARTTLS", "502 5.5.1 no", fault.Denied, "502 5.5.1"},
		{"AUTH", "535 5.7.8 invalid", fault.Denied, "535 5.7.8"},
		{"AUTH", "534 5.7.9 mechanism too weak", fault.Denied, "534 5.7.9"},
		{"AUTH", "432 4.7.12 transition needed", fault.Denied, "432 4.7.12"},
		{"AUTH", "454 4.7.0 temporary failure", fault.Unavailable, "454 4.7.0"},
		{"MAIL", "421 4.3.2 shutting down", fault.Unavailable, "421 4.3.2"},
		{"MAIL", "450 4.3.0 later", fault.Unavailable, "450 4.3.0"},
		{"MAIL", "451 local error", fault.Unavailable, "451"},
		{"MAIL", "452 4.3.1 storage", fault.Unavailable, "452 4.3.1"},
		{"MAIL", "450 4.7.28 rate limit", fault.RateLimited, "450 4.7.28"},
		{"MAIL", "501 5.1.7 bad sender", fault.Invalid, "501 5.1.7"},
		{"MAIL", "530 5.7.0 login first", fault.Denied, "530 5.7.0"},
		{"MAIL", "550 5.7.1 not your address", fault.Denied, "550 5.7.1"},
		{"MAIL", "553 5.7.1 not owned by user", fault.Denied, "553 5.7.1"},
		{"MAIL", "552 5.2.2 over quota", fault.Exhausted, "552 5.2.2"},
		{"MAIL", "552 5.3.4 too big", fault.Unsupported, "552 5.3.4"},
		{"MAIL", "555 5.5.4 parameter", fault.Unsupported, "555 5.5.4"},
		{"RCPT", "421 4.3.2 shutting down", fault.Unavailable, "421 4.3.2"},
		{"RCPT", "450 4.2.0 busy", fault.Unavailable, "450 4.2.0"},
		{"RCPT", "451 4.7.1 greylisted", fault.RateLimited, "451 4.7.1"},
		{"RCPT", "452 4.5.3 too many", fault.Unsupported, "452 4.5.3"},
		{"RCPT", "530 5.7.0 login first", fault.Denied, "530 5.7.0"},
		{"RCPT", "550 5.1.1 unknown", fault.Rejected, "550 5.1.1"},
		{"RCPT", "551 not local", fault.Rejected, "551"},
		{"RCPT", "552 5.2.2 full", fault.Rejected, "552 5.2.2"},
		{"RCPT", "553 name", fault.Rejected, "553"},
		{"RCPT", "554 5.7.1 refused", fault.Rejected, "554 5.7.1"},
		{"DATA", "421 4.3.2 shutting down", fault.Unavailable, "421 4.3.2"},
		{"DATA", "451 4.3.0 error", fault.Unavailable, "451 4.3.0"},
		{"DATA", "554 5.5.1 no valid recipients", fault.Rejected, "554 5.5.1"},
		{simulator.End, "421 4.3.2 shutting down", fault.Unavailable, "421 4.3.2"},
		{simulator.End, "451 4.3.0 error", fault.Unavailable, "451 4.3.0"},
		{simulator.End, "452 4.3.1 storage", fault.Unavailable, "452 4.3.1"},
		{simulator.End, "450 4.7.1 slow down", fault.RateLimited, "450 4.7.1"},
		{simulator.End, "550 5.7.1 policy", fault.Rejected, "550 5.7.1"},
		{simulator.End, "552 5.2.2 quota", fault.Exhausted, "552 5.2.2"},
		{simulator.End, "552 5.3.4 too big", fault.Unsupported, "552 5.3.4"},
		{simulator.End, "554 5.6.0 content", fault.Rejected, "554 5.6.0"},
		{simulator.End, "354 what", fault.Uncertain, "354"},
	} {
		t.Run(tt.at+" "+tt.reply, func(t *testing.T) {
			b := open(t, simulator.Config{}, smtp.Config{})
			b.sim.Always(simulator.Step{At: tt.at, Reply: tt.reply})
			_, err := b.Send(t.Context(), letter())
			f, ok := fault.As(err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, tt.kind, f.Kind)
			assert.Equal(t, tt.code, f.Code)
			said, ok := errors.AsType[*smtp.Error](err)
			require.True(t, ok)
			assert.Equal(t, tt.code, strings.TrimSpace(fmt.Sprint(said.Status)+" "+said.Enhanced))
			assert.Zero(t, b.sim.Mails.Len())

			b.sim.Heal()
			_, err = b.Send(t.Context(), letter())
			require.NoError(t, err, "the Sender is as good as before")
		})
	}
}

func TestABrokenConnectionIsUncertainOnlyOnceTheMessageWasBegun(t *testing.T) {
	for _, tt := range []struct {
		step  simulator.Step
		kind  fault.Kind
		acted int
	}{
		{simulator.Step{At: simulator.Connect, Drop: sim.BeforeActing}, fault.Unavailable, 0},
		{simulator.Step{At: "EHLO", Drop: sim.BeforeActing}, fault.Unavailable, 0},
		{simulator.Step{At: "STARTTLS", Drop: sim.BeforeActing}, fault.Unavailable, 0},
		{simulator.Step{At: simulator.TLS, Drop: sim.BeforeActing}, fault.Unavailable, 0},
		{simulator.Step{At: "AUTH", Drop: sim.BeforeActing}, fault.Unavailable, 0},
		{simulator.Step{At: "MAIL", Drop: sim.BeforeActing}, fault.Unavailable, 0},
		{simulator.Step{At: "RCPT", Drop: sim.AfterActing}, fault.Unavailable, 0},
		{simulator.Step{At: "DATA", Drop: sim.BeforeActing}, fault.Unavailable, 0},
		{simulator.Step{At: "MAIL", Reply: "nonsense"}, fault.Unavailable, 0},
		{simulator.Step{At: simulator.End, Drop: sim.BeforeActing}, fault.Uncertain, 0},
		{simulator.Step{At: simulator.End, Drop: sim.AfterActing}, fault.Uncertain, 1},
		{simulator.Step{At: simulator.End, Acted: true, Reply: "nonsense"}, fault.Uncertain, 1},
	} {
		t.Run(fmt.Sprintf("%+v", tt.step), func(t *testing.T) {
			b := open(t, simulator.Config{}, smtp.Config{})
			b.sim.Next(tt.step)
			_, err := b.Send(t.Context(), letter())
			require.ErrorIs(t, err, tt.kind)
			assert.Equal(t, tt.acted, b.sim.Mails.Len())
			_, err = b.Send(t.Context(), letter())
			require.NoError(t, err, "the Sender is as good as before")
		})
	}
}

func TestAnyTwoHundredForTheMessageMeansTaken(t *testing.T) {
	b := open(t, simulator.Config{}, smtp.Config{})
	b.sim.Next(simulator.Step{At: simulator.End, Acted: true, Reply: "251 taken"})
	_, err := b.Send(t.Context(), letter())
	require.NoError(t, err)
}

func TestSomeRecipientsMayBeRefused(t *testing.T) {
	b := open(t, simulator.Config{}, smtp.Config{})
	b.sim.Next(simulator.Step{At: "RCPT", For: "cc@", Reply: "550 5.1.1 no such user"})
	receipt, err := b.Send(t.Context(), letter())
	require.NoError(t, err)
	assert.Equal(t, email.StatusAccepted, receipt.Status)
	assert.Equal(t, []email.Recipient{
		{Address: "to@example.org", Status: email.StatusAccepted},
		{Address: "cc@example.org", Status: email.StatusRefused, Code: "550 5.1.1"},
		{Address: "bcc@example.org", Status: email.StatusAccepted},
	}, receipt.Recipients)
	assert.Equal(t, []string{"to@example.org", "bcc@example.org"}, b.sim.Mails.All()[0].Recipients)
}

func TestAPassingRefusalOfOneRecipientKeepsTheWholeMail(t *testing.T) {
	b := open(t, simulator.Config{}, smtp.Config{})
	b.sim.Next(simulator.Step{At: "RCPT", For: "cc@", Reply: "450 4.2.1 busy"})
	_, err := b.Send(t.Context(), letter())
	require.ErrorIs(t, err, fault.Unavailable)
	assert.Zero(t, b.sim.Mails.Len())
	_, err = b.Send(t.Context(), letter())
	require.NoError(t, err)
	assert.Len(t, b.sim.Mails.All()[0].Recipients, 3)
	assert.Equal(t, 1, b.sim.Connections(), "the transaction was reset")
}

func TestAfterASuccessNothingCanFail(t *testing.T) {
	b := open(t, simulator.Config{}, smtp.Config{})
	b.sim.Always(simulator.Step{At: "RSET", Reply: "500 no"}, simulator.Step{At: "QUIT", Reply: "500 no"}, simulator.Step{At: "NOOP", Reply: "500 no"})
	for range 3 {
		_, err := b.Send(t.Context(), letter())
		require.NoError(t, err)
	}
	assert.Equal(t, 3, b.sim.Mails.Len())
	assert.Equal(t, 1, b.sim.Connections())
}

func TestTheContextInterruptsEveryPhase(t *testing.T) {
	for _, at := range []string{simulator.Connect, "EHLO", "STARTTLS", simulator.TLS, "AUTH", "MAIL", "RCPT", "DATA", simulator.End} {
		for name, end := range map[string]struct {
			make func(context.Context) (context.Context, context.CancelFunc)
			err  error
		}{
			"deadline": {func(c context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(c, 60*time.Millisecond)
			}, context.DeadlineExceeded},
			"cancel": {func(c context.Context) (context.Context, context.CancelFunc) {
				c, cancel := context.WithCancel(c)
				time.AfterFunc(60*time.Millisecond, cancel)
				return c, cancel
			}, context.Canceled},
		} {
			t.Run(at+" "+name, func(t *testing.T) {
				b := open(t, simulator.Config{}, smtp.Config{})
				b.sim.Next(simulator.Step{At: at, Hang: true})
				ctx, cancel := end.make(t.Context())
				defer cancel()
				_, err := b.Send(ctx, letter()) // how soon is measured by the conformance suite
				require.ErrorIs(t, err, end.err)
				want := fault.Unavailable
				if at == simulator.End {
					want = fault.Uncertain
				}
				assert.Equal(t, want, fault.KindOf(err))
				b.sim.Heal() // on a slow machine it may not have come so far
				_, err = b.Send(t.Context(), letter())
				require.NoError(t, err)
			})
		}
	}
}

func TestAConnectionIsUsedAgain(t *testing.T) {
	b := open(t, simulator.Config{}, smtp.Config{})
	for range 10 {
		_, err := b.Send(t.Context(), letter())
		require.NoError(t, err)
	}
	assert.Equal(t, 1, b.sim.Connections())
}

func TestAStaleConnectionIsReplacedWithoutAWord(t *testing.T) {
	for name, age := range map[string]func(*bench){
		"the server has closed it":     func(b *bench) { b.sim.Drop() },
		"the server says 421 at first": func(b *bench) { b.sim.Next(simulator.Step{At: "MAIL", Reply: "421 4.4.2 idle too long"}) },
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, simulator.Config{}, smtp.Config{})
			_, err := b.Send(t.Context(), letter())
			require.NoError(t, err)
			age(b)
			_, err = b.Send(t.Context(), letter())
			require.NoError(t, err)
			assert.Equal(t, 2, b.sim.Mails.Len())
			assert.Equal(t, 2, b.sim.Connections())
		})
	}
}

func TestIdleConnectionsAge(t *testing.T) {
	b := open(t, simulator.Config{}, smtp.Config{IdleTimeout: time.Millisecond})
	_, err := b.Send(t.Context(), letter())
	require.NoError(t, err)
	assert.Eventually(t, func() bool { return b.sim.Open() == 0 }, 5*time.Second, time.Millisecond)
}

func TestThePoolBoundsConnections(t *testing.T) {
	b := open(t, simulator.Config{}, smtp.Config{PoolSize: 2})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := b.Send(t.Context(), letter())
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, b.sim.Connections(), 2)

	b.sim.Always(simulator.Step{At: "MAIL", Hang: true})
	hanging, cancel := context.WithCancel(t.Context())
	for range 2 {
		wg.Go(func() { _, _ = b.Send(hanging, letter()) })
	}
	require.Eventually(t, func() bool { return b.sim.Open() == 2 }, 5*time.Second, time.Millisecond)
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	_, err := b.Send(ctx, letter())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.False(t, fault.MayHaveActed(err))
	cancel()
	wg.Wait()
}

func TestAfterCloseNothingIsSent(t *testing.T) {
	b := open(t, simulator.Config{}, smtp.Config{})
	_, err := b.Send(t.Context(), letter())
	require.NoError(t, err)
	require.NoError(t, b.Close())
	_, err = b.Send(t.Context(), letter())
	require.ErrorIs(t, err, net.ErrClosed)
	require.ErrorIs(t, err, fault.Unavailable)
	assert.Eventually(t, func() bool { return b.sim.Open() == 0 }, 5*time.Second, time.Millisecond)
}

func TestEveryTLSModeAndMechanismWorks(t *testing.T) {
	for name, tt := range map[string]struct {
		server simulator.Config
		cfg    smtp.Config
	}{
		"STARTTLS, LOGIN":      {simulator.Config{Mechanisms: []string{"LOGIN"}}, smtp.Config{}},
		"implicit TLS, PLAIN":  {simulator.Config{ImplicitTLS: true}, smtp.Config{TLS: smtp.ImplicitTLS}},
		"in the clear, PLAIN":  {simulator.Config{NoTLS: true}, smtp.Config{TLS: smtp.Plaintext}},
		"in the clear, LOGIN":  {simulator.Config{NoTLS: true, Mechanisms: []string{"LOGIN"}}, smtp.Config{TLS: smtp.Plaintext}},
		"implicit TLS, at all": {simulator.Config{ImplicitTLS: true, Mechanisms: []string{"LOGIN", "X"}}, smtp.Config{TLS: smtp.ImplicitTLS}},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, tt.server, tt.cfg)
			_, err := b.Send(t.Context(), letter())
			require.NoError(t, err)
		})
	}
}

func TestNothingGoesInTheClearUnasked(t *testing.T) {
	b := open(t, simulator.Config{NoTLS: true}, smtp.Config{})
	_, err := b.Send(t.Context(), letter())
	require.ErrorIs(t, err, fault.Denied)
	assert.ErrorContains(t, err, "STARTTLS")
	assert.Zero(t, b.sim.Mails.Len())

	b = open(t, simulator.Config{}, smtp.Config{TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}})
	_, err = b.Send(t.Context(), letter())
	require.ErrorIs(t, err, fault.Unavailable)
	assert.ErrorContains(t, err, "certificate")

	b = open(t, simulator.Config{Mechanisms: []string{"CRAM-MD5"}}, smtp.Config{})
	_, err = b.Send(t.Context(), letter())
	require.ErrorIs(t, err, fault.Denied)
}

func TestNewNamesTheWrongSetting(t *testing.T) {
	ok := smtp.Config{Addr: "mail.example.com:587"}
	for want, change := range map[string]func(*smtp.Config){
		"Addr":        func(c *smtp.Config) { c.Addr = "mail.example.com" },
		"Plaintext":   func(c *smtp.Config) { c.TLS = smtp.Plaintext },
		"mode":        func(c *smtp.Config) { c.TLS = 9 },
		"Password is": func(c *smtp.Config) { c.Username = "u" },
		"Username is": func(c *smtp.Config) { c.Password = secret.Literal("p") },
		"PoolSize":    func(c *smtp.Config) { c.PoolSize = -1 },
		"TagHeader":   func(c *smtp.Config) { c.TagHeader = "X\r\nBcc" },
		"HelloName":   func(c *smtp.Config) { c.HelloName = "a b" },
	} {
		c := ok
		change(&c)
		_, err := smtp.New(c)
		assert.ErrorContains(t, err, want)
	}
	s, err := smtp.New(ok)
	require.NoError(t, err)
	assert.Equal(t, "smtp", s.Name())
	s, err = smtp.New(smtp.Config{Addr: "127.0.0.1:25", TLS: smtp.Plaintext, Name: "relay"})
	require.NoError(t, err)
	assert.Equal(t, "relay", s.Name())
}

func TestErrorsHoldNeitherAddressesNorPasswords(t *testing.T) {
	for _, step := range []simulator.Step{
		{At: "RCPT", Reply: "550 5.1.1 <to@example.org>: Recipient address rejected"},
		{At: "MAIL", Reply: "553 5.7.1 ada@example.com not owned by " + user},
		{At: "AUTH", Reply: "535 5.7.8 not " + password},
		{At: "MAIL", Reply: "garbled to@example.org"},
	} {
		b := open(t, simulator.Config{}, smtp.Config{})
		b.sim.Always(step)
		_, err := b.Send(t.Context(), letter())
		require.Error(t, err)
		for _, private := range []string{"example.org", "example.com", password} {
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), private)
		}
	}
}

func TestThePasswordIsAskedForWithEveryConnection(t *testing.T) {
	current, broken := password, error(nil)
	b := open(t, simulator.Config{}, smtp.Config{Username: user, Password: secret.Func(func(context.Context) (secret.Value, error) {
		return secret.NewValue(current), broken
	})})
	_, err := b.Send(t.Context(), letter())
	require.NoError(t, err)
	current = "rotated"
	b.sim.SetPassword(current)
	b.sim.Drop()
	_, err = b.Send(t.Context(), letter())
	require.NoError(t, err)
	broken = errors.New("vault is sealed")
	b.sim.Drop()
	_, err = b.Send(t.Context(), letter())
	require.ErrorIs(t, err, fault.Denied)
	require.ErrorIs(t, err, broken)
}

func TestAServerCannotTalkUsToDeath(t *testing.T) {
	b := open(t, simulator.Config{}, smtp.Config{})
	b.sim.Next(simulator.Step{At: "MAIL", Reply: "250 " + strings.Repeat("x", 3<<20)})
	_, err := b.Send(t.Context(), letter())
	require.ErrorIs(t, err, fault.Unavailable)
}

func TestTheServersIDOfAMail(t *testing.T) {
	for reply, want := range map[string]string{
		"250 2.0.0 Ok: queued as 4XyZ12":                             "4XyZ12",
		"250 OK id=1abc23-0004Ef-Gh":                                 "1abc23-0004Ef-Gh",
		"250 2.6.0 <m-1@example.com> Queued mail 123.x for delivery": "123.x",
		"250 2.0.0 OK 1700000000 a1-20020a05 - gsmtp":                "OK 1700000000 a1-20020a05 - gsmtp",
		"250 2.0.0 accepted for to@example.org":                      "accepted for (address)",
		"250 ":                                                       "m-1@example.com",
	} {
		b := open(t, simulator.Config{}, smtp.Config{})
		b.sim.Next(simulator.Step{At: simulator.End, Acted: true, Reply: reply})
		receipt, err := b.Send(t.Context(), letter())
		require.NoError(t, err)
		assert.Equal(t, want, receipt.ProviderID)
	}
}
