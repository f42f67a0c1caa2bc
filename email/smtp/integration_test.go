package smtp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/emailtest"
	"github.com/smilefactory/integrations/email/smtp"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/servertest"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/smtp"
	"github.com/smilefactory/integrations/secret"
)

// mailpit is a Sender in front of a real server, which wants STARTTLS and a
// password, keeps what it took, and fails when it is told to.
type mailpit struct {
	*smtp.Sender
	url   string // of its API
	tls   *tls.Config
	wrong atomic.Bool // the password
	down  atomic.Bool // no connection can be had

	mu    sync.Mutex
	conns []net.Conn
}

// openMailpit empties the server, and fills in what cfg lacks.
func openMailpit(t *testing.T, cfg smtp.Config) *mailpit {
	t.Helper()
	m := &mailpit{url: servertest.Env(t, "INTEGRATIONS_MAILPIT_URL") + "/api/v1"}
	pem, err := os.ReadFile(servertest.Env(t, "INTEGRATIONS_MAILPIT_CA"))
	require.NoError(t, err)
	m.tls = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
	require.True(t, m.tls.RootCAs.AppendCertsFromPEM(pem))
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	m.api(t, http.MethodDelete, "/messages", nil, nil)
	m.chaos(t, "", 0)

	password := servertest.Env(t, "INTEGRATIONS_MAILPIT_PASSWORD")
	cfg.Addr = servertest.Env(t, "INTEGRATIONS_MAILPIT_SMTP")
	cfg.Username = servertest.Env(t, "INTEGRATIONS_MAILPIT_USERNAME")
	cfg.Password = secret.Func(func(context.Context) (secret.Value, error) {
		if m.wrong.Load() {
			return secret.NewValue("not-" + password), nil
		}
		return secret.NewValue(password), nil
	})
	if cfg.TLSConfig == nil {
		cfg.TLSConfig = m.tls
	}
	if cfg.Dial == nil {
		cfg.Dial = m.dial
	}
	m.Sender, err = smtp.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

func (m *mailpit) api(t *testing.T, method, path string, body, out any) {
	t.Helper()
	servertest.JSON(t, method, m.url+path, body, out)
}

// chaos makes the server answer so at a step, "Sender", "Recipient" or
// "Authentication"; without a step it behaves.
func (m *mailpit) chaos(t *testing.T, step string, code int) {
	t.Helper()
	triggers := map[string]any{}
	if step != "" {
		triggers[step] = map[string]int{"ErrorCode": code, "Probability": 100}
	}
	m.api(t, http.MethodPut, "/chaos", triggers, nil)
}

func (m *mailpit) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if m.down.Load() {
		return nil, syscall.ECONNREFUSED
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err == nil {
		m.mu.Lock()
		m.conns = append(m.conns, conn)
		m.mu.Unlock()
	}
	return conn, err
}

// drop closes what is open, so that the next mail needs a new connection.
func (m *mailpit) drop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		_ = c.Close()
	}
	m.conns = nil
}

// sent lists the mails, oldest first, from their MIME messages. To those the
// server adds a Bcc with the recipients of the envelope that no field names.
func (m *mailpit) sent(t *testing.T) []*email.Message {
	t.Helper()
	var list struct {
		Messages []struct{ ID string }
	}
	m.api(t, http.MethodGet, "/messages?limit=100000", nil, &list)
	var out []*email.Message
	for _, found := range slices.Backward(list.Messages) {
		var raw []byte
		m.api(t, http.MethodGet, "/message/"+found.ID+"/raw", nil, &raw)
		parsed, err := sim.ParseMIME(raw)
		require.NoError(t, err)
		out = append(out, decode(simulator.Mail{Mail: parsed}))
	}
	return out
}

func TestIntegrationConformance(t *testing.T) {
	servertest.Env(t, "INTEGRATIONS_MAILPIT_SMTP")
	emailtest.Run(t, func(t *testing.T) emailtest.Subject {
		m := openMailpit(t, smtp.Config{TagHeader: "X-Tag", MetadataHeaderPrefix: "X-Meta-"})
		return emailtest.Subject{
			Sender: m.Sender, Name: "smtp",
			Lacks: []emailtest.Feature{emailtest.SendAt}, Secrets: []string{os.Getenv("INTEGRATIONS_MAILPIT_PASSWORD")},
			Sent:  func() []*email.Message { return m.sent(t) },
			Break: func(trouble emailtest.Trouble) bool { return m.breakIt(t, trouble) },
			Heal: func() {
				m.down.Store(false)
				m.wrong.Store(false)
				m.chaos(t, "", 0)
			},
		}
	})
}

// breakIt leaves out what a real server doesn't do on request: to hang, to break
// off, to be slow. Those are the simulator's.
func (m *mailpit) breakIt(t *testing.T, trouble emailtest.Trouble) bool {
	switch trouble {
	case emailtest.Unreachable:
		m.down.Store(true)
	case emailtest.BadCredentials:
		m.wrong.Store(true)
	case emailtest.ServerError:
		m.chaos(t, "Sender", 451)
	case emailtest.Blocked:
		m.chaos(t, "Recipient", 550)
	default:
		return false
	}
	m.drop()
	return true
}

// shown is a mail as the server understood it, by a MIME parser that isn't ours.
type shown struct {
	From                 email.Address
	To, Cc, Bcc, ReplyTo []email.Address
	Subject, Text, HTML  string
	Attachments, Inline  []shownFile
	ReturnPath           string
	MessageID            string
}

type shownFile struct{ PartID, FileName, ContentType, ContentID string }

func TestIntegrationAMailArrivesWhole(t *testing.T) {
	m := openMailpit(t, smtp.Config{TagHeader: "X-Tag", MetadataHeaderPrefix: "X-Meta-"})
	want := letter()
	want.ReplyTo = []email.Address{{Name: "Désk", Address: "reply@example.com"}, {Address: "second@example.com"}}
	want.Text, want.HTML = "line 1 ✓\n.line 2\n", `<p>ünd <img src="cid:logo"></p>`
	want.Attachments = []email.Attachment{
		{Name: `Überblick "Q1".csv`, ContentType: "text/csv", Data: []byte("a,b\r\n.\r\n1,2\r\n")},
		{Name: "logo.png", ContentType: "image/png", ContentID: "logo", Data: []byte("\x89PNG\x00\r\n\xff")},
	}
	want.Headers = map[string]string{"X-Campaign": strings.Repeat("spring ✓ ", 20) + "end"}
	want.Tags, want.Metadata = []string{"a", "b"}, map[string]string{"order": "7"}
	want.Unsubscribe = email.Unsubscribe{URL: "https://example.com/u?x=1", OneClick: true}
	receipt, err := m.Send(t.Context(), want)
	require.NoError(t, err)

	var got shown
	m.api(t, http.MethodGet, "/message/"+receipt.ProviderID, nil, &got)
	assert.Equal(t, want.From, got.From)
	assert.Equal(t, want.To, got.To)
	assert.Equal(t, want.Cc, got.Cc)
	assert.Equal(t, want.Bcc, got.Bcc)
	assert.Equal(t, want.ReplyTo, got.ReplyTo)
	assert.Equal(t, want.Subject, got.Subject)
	assert.Equal(t, want.Text, strings.ReplaceAll(got.Text, "\r\n", "\n"))
	assert.Equal(t, want.HTML, strings.TrimSpace(got.HTML))
	assert.Equal(t, "ada@example.com", got.ReturnPath)
	assert.Equal(t, "m-1@example.com", got.MessageID)
	m.sameFile(t, receipt.ProviderID, want.Attachments[:1], got.Attachments)
	m.sameFile(t, receipt.ProviderID, want.Attachments[1:], got.Inline)

	var headers map[string][]string
	m.api(t, http.MethodGet, "/message/"+receipt.ProviderID+"/headers", nil, &headers)
	assert.Equal(t, "m-1", headers["X-Message-Id"][0])
	assert.Equal(t, "a, b", headers["X-Tag"][0])
	assert.Equal(t, "7", headers["X-Meta-Order"][0])
	assert.Equal(t, "<https://example.com/u?x=1>", headers["List-Unsubscribe"][0])
	assert.Equal(t, "List-Unsubscribe=One-Click", headers["List-Unsubscribe-Post"][0])
	assert.Equal(t, want.Headers["X-Campaign"], m.sent(t)[0].Headers["X-Campaign"], "folded, and whole again")
}

func (m *mailpit) sameFile(t *testing.T, id string, want []email.Attachment, got []shownFile) {
	t.Helper()
	require.Len(t, got, len(want))
	for i, a := range want {
		assert.Equal(t, shownFile{got[i].PartID, a.Name, a.ContentType, a.ContentID}, got[i])
		var data []byte
		m.api(t, http.MethodGet, "/message/"+id+"/part/"+got[i].PartID, nil, &data)
		assert.Equal(t, a.Data, data)
	}
}

// Mails go both before and after each refusal through the same Sender.
func TestIntegrationAServersRefusalHasItsKind(t *testing.T) {
	m := openMailpit(t, smtp.Config{})
	for _, c := range []struct {
		step string
		code int
		kind fault.Kind
	}{
		{"Sender", 451, fault.Unavailable},
		{"Sender", 550, fault.Denied},
		{"Sender", 552, fault.Exhausted},
		{"Recipient", 451, fault.Unavailable},
		{"Recipient", 550, fault.Rejected},
		{"Authentication", 454, fault.Unavailable},
		{"Authentication", 535, fault.Denied},
	} {
		t.Run(fmt.Sprintf("%s %d", c.step, c.code), func(t *testing.T) {
			before := len(m.sent(t))
			m.chaos(t, c.step, c.code)
			if c.step == "Authentication" {
				m.drop()
			}
			_, err := m.Send(t.Context(), letter())
			m.chaos(t, "", 0)
			require.ErrorIs(t, err, c.kind)
			assert.Len(t, m.sent(t), before)
			_, err = m.Send(t.Context(), letter())
			require.NoError(t, err)
			assert.Len(t, m.sent(t), before+1)
		})
	}
}

func TestIntegrationAWrongPasswordIsDenied(t *testing.T) {
	m := openMailpit(t, smtp.Config{})
	m.wrong.Store(true)
	_, err := m.Send(t.Context(), letter())
	require.ErrorIs(t, err, fault.Denied)
	assert.ErrorContains(t, err, "535")
	assert.NotContains(t, err.Error(), os.Getenv("INTEGRATIONS_MAILPIT_PASSWORD"))
	assert.Empty(t, m.sent(t))
}

func TestIntegrationAServerThatIsNotTrustedIsSentNothing(t *testing.T) {
	m := openMailpit(t, smtp.Config{TLSConfig: &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}})
	_, err := m.Send(t.Context(), letter())
	require.ErrorIs(t, err, fault.Unavailable)
	assert.ErrorAs(t, err, new(*tls.CertificateVerificationError))
	assert.Empty(t, m.sent(t))
}

// Where a server offers both, PLAIN is taken; so its offer is cut down to LOGIN
// here, and the server itself remains.
func TestIntegrationAuthLogin(t *testing.T) {
	var m *mailpit
	var conn *loginOnly
	m = openMailpit(t, smtp.Config{TLS: smtp.Plaintext, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var err error
		conn, err = dialTLS(ctx, network, addr, m.tls)
		return conn, err
	}})
	_, err := m.Send(t.Context(), letter())
	require.NoError(t, err)
	assert.Contains(t, conn.written.String(), "AUTH LOGIN")
	assert.Len(t, m.sent(t), 1)
	_ = conn.Conn.Close()
	m.wrong.Store(true)
	_, err = m.Send(t.Context(), letter())
	require.ErrorIs(t, err, fault.Denied)
}

// loginOnly is a connection after STARTTLS, in whose answers PLAIN is missing.
type loginOnly struct {
	net.Conn
	unread  string
	written strings.Builder
}

func dialTLS(ctx context.Context, network, addr string, cfg *tls.Config) (*loginOnly, error) {
	raw, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	text := textproto.NewConn(raw)
	for _, step := range []struct {
		command string
		code    int
	}{{"", 220}, {"EHLO test", 250}, {"STARTTLS", 220}} {
		if step.command != "" {
			err = text.PrintfLine("%s", step.command)
		}
		if err == nil {
			_, _, err = text.ReadResponse(step.code)
		}
		if err != nil {
			_ = raw.Close()
			return nil, err
		}
	}
	return &loginOnly{Conn: tls.Client(raw, cfg), unread: "220 again\r\n"}, nil
}

func (c *loginOnly) Read(p []byte) (int, error) {
	if c.unread == "" {
		buf := make([]byte, 4096)
		n, err := c.Conn.Read(buf)
		if err != nil {
			return 0, err
		}
		c.unread = strings.ReplaceAll(string(buf[:n]), "PLAIN", "")
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

func (c *loginOnly) Write(p []byte) (int, error) {
	c.written.Write(p)
	return c.Conn.Write(p)
}

// With fewer connections than senders, mails wait for each other.
func TestIntegrationManyMailsAtOnceShareAFewConnections(t *testing.T) {
	m := openMailpit(t, smtp.Config{PoolSize: 2})
	const each = 50
	servertest.AtOnce(each, func(n int) {
		mail := letter()
		mail.ID = fmt.Sprintf("m-%d", n)
		_, err := m.Send(t.Context(), mail)
		assert.NoError(t, err)
	})
	seen := map[string]int{}
	for _, sent := range m.sent(t) {
		seen[sent.ID]++
	}
	assert.Len(t, seen, 16*each)
	for id, times := range seen {
		assert.Equal(t, 1, times, id)
	}
}
