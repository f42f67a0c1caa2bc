package smtp_test

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/internal/sim/smtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// caller speaks SMTP by hand.
type caller struct {
	t    *testing.T
	conn net.Conn
	text *textproto.Conn
}

func dial(t *testing.T, s *smtp.Sim) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	t.Cleanup(func() { _ = conn.Close() })
	return &caller{t, conn, textproto.NewConn(conn)}
}

func open(t *testing.T, cfg smtp.Config) *smtp.Sim {
	t.Helper()
	s := smtp.New(cfg)
	t.Cleanup(s.Close)
	return s
}

// answer is the next reply, its lines parted by "|".
func (c *caller) answer() string {
	c.t.Helper()
	var lines []string
	for {
		line, err := c.text.ReadLine()
		if err != nil {
			return "closed"
		}
		lines = append(lines, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(lines, "|")
		}
	}
}

func (c *caller) say(line string) string {
	c.t.Helper()
	if err := c.text.PrintfLine("%s", line); err != nil {
		return "closed"
	}
	return c.answer()
}

func (c *caller) encrypt(s *smtp.Sim) {
	c.t.Helper()
	require.Contains(c.t, c.say("STARTTLS"), "220")
	c.conn = tls.Client(c.conn, &tls.Config{RootCAs: s.Pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12})
	c.text = textproto.NewConn(c.conn)
}

func plain(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}

const message = "From: f@example.com\r\nTo: a@example.com\r\nSubject: s\r\nX-Message-Id: m-1\r\n\r\nhi\r\n..dot\r\n."

func TestAWholeConversation(t *testing.T) {
	s := open(t, smtp.Config{Username: "u", Password: "p"})
	c := dial(t, s)
	assert.Contains(t, c.answer(), "220 ")
	offers := c.say("EHLO me")
	assert.Contains(t, offers, "STARTTLS")
	assert.NotContains(t, offers, "AUTH", "no password is asked for in the clear")
	c.encrypt(s)
	offers = c.say("EHLO me")
	assert.Contains(t, offers, "AUTH PLAIN LOGIN")
	assert.NotContains(t, offers, "STARTTLS")
	assert.Contains(t, c.say("AUTH PLAIN "+plain("u", "p")), "235 2.7.0")
	for range 2 {
		assert.Contains(t, c.say("MAIL FROM:<f@example.com> BODY=8BITMIME"), "250")
		assert.Contains(t, c.say("RCPT TO:<a@example.com>"), "250")
		assert.Contains(t, c.say("RCPT TO:<hidden@example.com>"), "250")
		assert.Contains(t, c.say("DATA"), "354")
		assert.Contains(t, c.say(message), "250 2.0.0 Ok: queued as ")
	}
	assert.Contains(t, c.say("NOOP"), "250")
	assert.Contains(t, c.say("QUIT"), "221")
	assert.Equal(t, "closed", c.say("NOOP"))

	assert.Equal(t, 2, s.Mails.Count("m-1"))
	m := s.Mails.All()[0]
	assert.Equal(t, "hi\r\n.dot\r\n", m.Text)
	assert.Equal(t, []string{"a@example.com", "hidden@example.com"}, m.Recipients)
	require.Len(t, m.Bcc, 1)
	assert.Equal(t, "hidden@example.com", m.Bcc[0].Address)
	assert.Equal(t, 1, s.Connections())
	for at, n := range map[string]int{smtp.Connect: 1, "EHLO": 2, "AUTH": 1, "MAIL": 2, "RCPT": 4, smtp.End: 2, "RSET": 0} {
		assert.Equal(t, n, s.Came(at), at)
	}
}

func TestHELOOffersNothing(t *testing.T) {
	s := open(t, smtp.Config{NoTLS: true})
	c := dial(t, s)
	c.answer()
	assert.Equal(t, "250 localhost", c.say("HELO me"))
	for _, line := range []string{"MAIL FROM:<>", "RCPT TO:<a@example.com>", "DATA", message} {
		c.say(line)
	}
	assert.Equal(t, 1, s.Mails.Len(), "a bounce has no sender (RFC 5321, section 4.5.5)")
}

func TestLoginAsksTwice(t *testing.T) {
	s := open(t, smtp.Config{Username: "u", Password: "p", NoTLS: true})
	c := dial(t, s)
	c.answer()
	c.say("EHLO me")
	assert.Equal(t, "334 VXNlcm5hbWU6", c.say("AUTH LOGIN"))
	assert.Equal(t, "334 UGFzc3dvcmQ6", c.say("dQ=="))
	assert.Contains(t, c.say("cA=="), "235")
	assert.Contains(t, c.say("AUTH LOGIN"), "503", "once is enough")
}

// Each rule is said in a conversation of its own, whose last reply is checked.
func TestEachRuleRefuses(t *testing.T) {
	open4 := smtp.Config{NoTLS: true, MaxSize: 200, MaxRecipients: 1}
	for name, tt := range map[string]struct {
		cfg  smtp.Config
		say  []string
		want string
	}{
		"TLS comes first":               {smtp.Config{}, []string{"EHLO me", "MAIL FROM:<f@example.com>"}, "530 5.7.0"},
		"no password in the clear":      {smtp.Config{Username: "u"}, []string{"EHLO me", "AUTH PLAIN x"}, "538"},
		"login comes before mail":       {smtp.Config{Username: "u", NoTLS: true}, []string{"EHLO me", "MAIL FROM:<f@example.com>"}, "530 5.7.0"},
		"a wrong password":              {smtp.Config{Username: "u", Password: "p", NoTLS: true}, []string{"EHLO me", "AUTH PLAIN " + plain("u", "x")}, "535 5.7.8"},
		"a wrong user":                  {smtp.Config{Username: "u", Password: "p", NoTLS: true}, []string{"EHLO me", "AUTH PLAIN " + plain("x", "p")}, "535 5.7.8"},
		"malformed credentials":         {smtp.Config{Username: "u", NoTLS: true}, []string{"EHLO me", "AUTH PLAIN eA=="}, "501"},
		"a cancelled login":             {smtp.Config{Username: "u", NoTLS: true}, []string{"EHLO me", "AUTH PLAIN", "*"}, "501"},
		"login before hello":            {smtp.Config{Username: "u", NoTLS: true}, []string{"AUTH PLAIN " + plain("u", "")}, "503"},
		"a login that is no base64":     {smtp.Config{Username: "u", NoTLS: true}, []string{"EHLO me", "AUTH PLAIN ***"}, "501"},
		"a login in mid-mail":           {smtp.Config{Username: "u", NoTLS: true}, []string{"EHLO me", "AUTH PLAIN " + plain("u", ""), "MAIL FROM:<f@example.com>", "AUTH PLAIN x"}, "503"},
		"RCPT in the clear":             {smtp.Config{}, []string{"EHLO me", "RCPT TO:<a@example.com>"}, "530 5.7.0"},
		"DATA in the clear":             {smtp.Config{}, []string{"EHLO me", "DATA"}, "530 5.7.0"},
		"MAIL without FROM":             {open4, []string{"EHLO me", "MAIL <f@example.com>"}, "501 5.1.7"},
		"MAIL without brackets":         {open4, []string{"EHLO me", "MAIL FROM:f@example.com"}, "501 5.1.7"},
		"RCPT with a parameter":         {open4, []string{"EHLO me", "MAIL FROM:<f@example.com>", "RCPT TO:<a@example.com> NOTIFY=NEVER"}, "555"},
		"a UTF-8 recipient":             {open4, []string{"EHLO me", "MAIL FROM:<f@example.com>", "RCPT TO:<ü@example.com>"}, "553 5.6.7"},
		"SMTPUTF8 that isn't offered":   {open4, []string{"EHLO me", "MAIL FROM:<f@example.com> SMTPUTF8"}, "555"},
		"another mechanism":             {smtp.Config{Username: "u", NoTLS: true}, []string{"EHLO me", "AUTH NTLM"}, "504"},
		"AUTH that isn't offered":       {open4, []string{"EHLO me", "AUTH PLAIN x"}, "502"},
		"STARTTLS that isn't offered":   {open4, []string{"EHLO me", "STARTTLS"}, "502"},
		"hello comes first":             {open4, []string{"MAIL FROM:<f@example.com>"}, "503"},
		"hello without a name":          {open4, []string{"EHLO"}, "501"},
		"a nested MAIL":                 {open4, []string{"EHLO me", "MAIL FROM:<f@example.com>", "MAIL FROM:<f@example.com>"}, "503"},
		"a bad sender":                  {open4, []string{"EHLO me", "MAIL FROM:<f>"}, "501 5.1.7"},
		"a space after the colon":       {open4, []string{"EHLO me", "MAIL FROM: <f@example.com>"}, "501 5.1.7"},
		"an unknown parameter":          {open4, []string{"EHLO me", "MAIL FROM:<f@example.com> X=Y"}, "555"},
		"UTF-8 without SMTPUTF8":        {open4, []string{"EHLO me", "MAIL FROM:<ü@example.com>"}, "553 5.6.7"},
		"RCPT before MAIL":              {open4, []string{"EHLO me", "RCPT TO:<a@example.com>"}, "503"},
		"a bad recipient":               {open4, []string{"EHLO me", "MAIL FROM:<f@example.com>", "RCPT TO:<a>"}, "501 5.1.3"},
		"too many recipients":           {open4, []string{"EHLO me", "MAIL FROM:<f@example.com>", "RCPT TO:<a@example.com>", "RCPT TO:<b@example.com>"}, "452 4.5.3"},
		"DATA without a recipient":      {open4, []string{"EHLO me", "MAIL FROM:<f@example.com>", "DATA"}, "503"},
		"RSET ends a transaction":       {open4, []string{"EHLO me", "MAIL FROM:<f@example.com>", "RSET", "RCPT TO:<a@example.com>"}, "503"},
		"EHLO ends a transaction":       {open4, []string{"EHLO me", "MAIL FROM:<f@example.com>", "EHLO me", "RCPT TO:<a@example.com>"}, "503"},
		"an unknown command":            {open4, []string{"EHLO me", "TURN"}, "500"},
		"an endless line":               {open4, []string{"EHLO me", "NOOP " + strings.Repeat("x", 3000)}, "500"},
		"a message that is too large":   {open4, data("From: f@example.com\r\n\r\n" + strings.Repeat("x\r\n", 100) + "."), "552 5.3.4"},
		"a line of text that is long":   {open4, data("From: f@example.com\r\n\r\n" + strings.Repeat("x", 1200) + "\r\n."), "500"},
		"a line far longer":             {open4, data("From: f@example.com\r\n\r\n" + strings.Repeat("x", 9000) + "\r\n."), "500"},
		"a bare LF":                     {open4, data("From: f@example.com\r\n\r\na\nb\r\n."), "554 5.6.0"},
		"what is no message":            {open4, data("hello\r\n."), "554 5.6.0"},
		"a long line with a dot's end":  {open4, data("From: f@example.com\r\n\r\n" + strings.Repeat("x", 4096) + ".\r\n."), "500"},
		"a dot after a bare LF is text": {open4, data("From: f@example.com\r\n\r\na\n.\r\nb\r\n."), "554 5.6.0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, tt.cfg)
			c := dial(t, s)
			last := c.answer()
			for _, line := range tt.say {
				last = c.say(line)
			}
			assert.True(t, strings.HasPrefix(last, tt.want), "%q", last)
			assert.Zero(t, s.Mails.Len())
			assert.Contains(t, c.say("NOOP"), "250", "the conversation goes on")
		})
	}
}

func data(text string) []string {
	return []string{"EHLO me", "MAIL FROM:<f@example.com>", "RCPT TO:<a@example.com>", "DATA", text}
}

func TestUTF8IsTakenWhereItIsOffered(t *testing.T) {
	c := dial(t, open(t, smtp.Config{NoTLS: true, SMTPUTF8: true}))
	c.answer()
	assert.Contains(t, c.say("EHLO me"), "SMTPUTF8")
	assert.Contains(t, c.say("MAIL FROM:<ü@example.com> SMTPUTF8"), "250")
	assert.Contains(t, c.say("RCPT TO:<ä@example.com>"), "250")
}

func TestCommandsMayComeInOneGo(t *testing.T) {
	s := open(t, smtp.Config{NoTLS: true})
	c := dial(t, s)
	c.answer()
	assert.Contains(t, c.say("EHLO me"), "PIPELINING")
	_, err := io.WriteString(c.conn, "MAIL FROM:<f@example.com>\r\nRCPT TO:<a@example.com>\r\nDATA\r\n")
	require.NoError(t, err)
	for _, want := range []string{"250", "250", "354"} {
		assert.Contains(t, c.answer(), want)
	}
	assert.Contains(t, c.say(message), "250")
	assert.Equal(t, 1, s.Mails.Len())
}

func TestWhatCameBeforeTLSIsForgotten(t *testing.T) {
	s := open(t, smtp.Config{})
	c := dial(t, s)
	c.answer()
	c.say("EHLO me")
	c.encrypt(s)
	assert.Contains(t, c.say("MAIL FROM:<f@example.com>"), "503", "EHLO must be said again")
}

func TestAStepDecidesWhatIsDoneAndWhatIsHeard(t *testing.T) {
	for name, tt := range map[string]struct {
		step  smtp.Step
		want  string // the last reply
		acted int
	}{
		"nothing":             {smtp.Step{At: "VRFY"}, "250", 1},
		"a reply to MAIL":     {smtp.Step{At: "MAIL", Reply: "451 4.3.0 later"}, "503", 0},
		"a reply to one RCPT": {smtp.Step{At: "RCPT", For: "a@", Reply: "550 5.1.1 no"}, "503", 0},
		"for another address": {smtp.Step{At: "RCPT", For: "b@", Reply: "550 5.1.1 no"}, "250", 1},
		"a reply to the dot":  {smtp.Step{At: smtp.End, Reply: "451 4.3.0 later"}, "451", 0},
		"acted":               {smtp.Step{At: smtp.End, Reply: "451 4.3.0 later", Acted: true}, "451", 1},
		"dropped before":      {smtp.Step{At: smtp.End, Drop: sim.BeforeActing}, "closed", 0},
		"dropped after":       {smtp.Step{At: smtp.End, Drop: sim.AfterActing}, "closed", 1},
		"421 closes":          {smtp.Step{At: "EHLO", Reply: "421 4.3.2 bye"}, "closed", 0},
		"a delay":             {smtp.Step{At: smtp.End, Delay: time.Millisecond}, "250", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, smtp.Config{NoTLS: true})
			s.Next(tt.step)
			c := dial(t, s)
			last := c.answer()
			for _, line := range []string{"EHLO me", "MAIL FROM:<f@example.com>", "RCPT TO:<a@example.com>", "DATA"} {
				last = c.say(line)
			}
			if strings.HasPrefix(last, "354") {
				last = c.say(message)
			}
			assert.True(t, strings.HasPrefix(last, tt.want), "%q", last)
			assert.Equal(t, tt.acted, s.Mails.Len())
		})
	}
}

func TestHealLetsEverythingPass(t *testing.T) {
	s := open(t, smtp.Config{NoTLS: true})
	s.Always(smtp.Step{At: "NOOP", Reply: "500 no"})
	s.Next(smtp.Step{At: "NOOP", Reply: "501 no"})
	c := dial(t, s)
	c.answer()
	assert.Contains(t, c.say("NOOP"), "501")
	assert.Contains(t, c.say("NOOP"), "500")
	s.Heal()
	assert.Contains(t, c.say("NOOP"), "250")
}

func TestAHandshakeCanHangAndBreakOff(t *testing.T) {
	for _, cfg := range []smtp.Config{{}, {ImplicitTLS: true}} {
		for _, step := range []smtp.Step{{At: smtp.TLS, Hang: true}, {At: smtp.TLS, Drop: sim.BeforeActing}} {
			if cfg.ImplicitTLS && !step.Hang {
				continue // so early that the connection may not be had
			}
			s := open(t, cfg)
			s.Next(step)
			c := dial(t, s)
			if !cfg.ImplicitTLS {
				c.answer()
				c.say("EHLO me")
				require.Contains(t, c.say("STARTTLS"), "220")
			}
			require.NoError(t, c.conn.SetDeadline(time.Now().Add(50*time.Millisecond)))
			err := tls.Client(c.conn, &tls.Config{RootCAs: s.Pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}).Handshake()
			assert.Equal(t, step.Hang, errors.Is(err, os.ErrDeadlineExceeded), "%v", err)
			require.Error(t, err)
		}
	}
}

func TestCloseReleasesHangsAndDelays(t *testing.T) {
	for _, step := range []smtp.Step{{At: "NOOP", Hang: true}, {At: "NOOP", Delay: time.Hour}, {At: smtp.Connect, Hang: true}} {
		s := smtp.New(smtp.Config{NoTLS: true})
		s.Next(step)
		c := dial(t, s)
		require.NoError(t, c.text.PrintfLine("NOOP"))
		require.Eventually(t, func() bool { return s.Connections() == 1 }, 5*time.Second, time.Millisecond)
		done := make(chan struct{})
		go func() { s.Close(); close(done) }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("Close waits")
		}
	}
}

func TestDropBreaksOffWhatIsOpen(t *testing.T) {
	s := open(t, smtp.Config{NoTLS: true})
	c := dial(t, s)
	c.answer()
	require.Equal(t, 1, s.Open())
	s.Drop()
	assert.Equal(t, "closed", c.say("NOOP"))
	assert.Eventually(t, func() bool { return s.Open() == 0 }, 5*time.Second, time.Millisecond)
}
