package smtp

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

// session is one conversation.
type session struct {
	*Sim
	conn   net.Conn
	in     *bufio.Reader
	secure bool
	greets bool // EHLO or HELO was said
	known  bool // AUTH succeeded
	utf8   bool // of this transaction

	sender     *string // nil outside a transaction
	recipients []string
}

// errOver ends a conversation.
var errOver = errors.New("over")

const (
	maxCommand = 2048 // RFC 5321, section 4.5.3.1.4: 512 octets, which extensions raise; AUTH to 12288 (RFC 4954, section 4)
	maxText    = 1000 // RFC 5321, section 4.5.3.1.6: a line of text with its CRLF
)

func (s *Sim) converse(conn net.Conn) {
	c := &session{Sim: s, conn: conn, in: bufio.NewReader(conn)}
	if s.cfg.ImplicitTLS && !c.encrypt() {
		return
	}
	// RFC 5321, section 3.1: 220, or 554 where there is no service.
	if c.step(Connect, "", func() string { return "220 localhost ESMTP simulator" }) != nil {
		return
	}
	for {
		line, err := c.line(maxCommand)
		if err != nil || c.command(line) != nil {
			return
		}
	}
}

func (c *session) encrypt() bool {
	switch step := c.take(TLS, ""); {
	case step.Hang:
		c.hang()
		return false
	case step.Drop != 0:
		_ = c.breakOff()
		return false
	}
	t := tls.Server(c.conn, c.tls)
	if t.Handshake() != nil {
		return false
	}
	c.conn, c.secure = t, true
	c.in = bufio.NewReader(t) // what came in the clear before it is forgotten (RFC 3207, section 4.2)
	return true
}

// line reads up to a CRLF, which it drops.
func (c *session) line(limit int) (string, error) {
	raw, err := c.in.ReadSlice('\n')
	line := string(raw)
	for errors.Is(err, bufio.ErrBufferFull) && len(line) <= limit {
		raw, err = c.in.ReadSlice('\n')
		line += string(raw)
	}
	if err != nil {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func (c *session) reply(line string) error {
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		return err
	}
	if strings.HasPrefix(line, "421") || strings.HasPrefix(line, "221") { // RFC 5321, sections 3.8 and 4.1.1.10
		return errOver
	}
	return nil
}

// step plays what the script says for this moment around act, which does what was asked for and is the reply.
func (c *session) step(at, arg string, act func() string) error {
	step := c.take(at, arg)
	if !c.pause(step.Delay) {
		return errOver
	}
	if step.Hang {
		c.hang()
		return errOver
	}
	if step.Drop == sim.BeforeActing {
		return c.breakOff()
	}
	reply := step.Reply
	if reply == "" || step.Acted {
		acted := act()
		if reply == "" {
			reply = acted
		}
	}
	if step.Drop == sim.AfterActing {
		return c.breakOff()
	}
	return c.reply(reply)
}

func (c *session) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.closed:
		return false
	}
}

// hang reads on and answers nothing, until the caller closes; Close closes the connection too.
func (c *session) hang() { _, _ = io.Copy(io.Discard, c.in) }

func (c *session) breakOff() error {
	raw := c.conn
	if t, ok := raw.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset, not a clean end
	}
	_ = raw.Close()
	return errOver
}

func (c *session) command(line string) error {
	verb, arg, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	switch verb {
	case "STARTTLS":
		return c.startTLS()
	case "AUTH":
		return c.auth(arg)
	case "DATA":
		return c.data()
	}
	return c.step(verb, arg, func() string {
		if len(line) > maxCommand {
			return "500 5.5.2 line too long" // RFC 5321, section 4.5.3.1.9
		}
		switch verb {
		case "EHLO", "HELO":
			return c.hello(verb, arg)
		case "MAIL":
			return c.mail(arg)
		case "RCPT":
			return c.rcpt(arg)
		case "RSET":
			c.reset()
			return "250 2.0.0 flushed"
		case "NOOP":
			return "250 2.0.0 ok"
		case "QUIT":
			return "221 2.0.0 bye"
		}
		return "500 5.5.2 command not recognized" // RFC 5321, section 4.2.4
	})
}

func (c *session) reset() { c.sender, c.recipients, c.utf8 = nil, nil, false }

// hello resets the transaction (RFC 5321, section 4.1.4).
func (c *session) hello(verb, name string) string {
	if name == "" {
		return "501 5.5.4 a name is required" // RFC 5321, section 4.1.1.1
	}
	c.greets = true
	c.reset()
	if verb == "HELO" {
		return "250 localhost"
	}
	offers := []string{"localhost", "PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", fmt.Sprintf("SIZE %d", c.cfg.MaxSize)}
	if c.offersTLS() {
		offers = append(offers, "STARTTLS")
	}
	if c.cfg.Username != "" && !c.offersTLS() { // RFC 4954, section 4: PLAIN isn't offered in the clear
		offers = append(offers, "AUTH "+strings.Join(c.cfg.Mechanisms, " "))
	}
	if c.cfg.SMTPUTF8 {
		offers = append(offers, "SMTPUTF8")
	}
	for i := range offers[:len(offers)-1] {
		offers[i] = "250-" + offers[i]
	}
	offers[len(offers)-1] = "250 " + offers[len(offers)-1]
	return strings.Join(offers, "\r\n")
}

func (c *session) offersTLS() bool { return !c.secure && !c.cfg.NoTLS }

// startTLS forgets all that was said before (RFC 3207, section 4.2).
func (c *session) startTLS() error {
	accepted := false
	err := c.step("STARTTLS", "", func() string {
		if !c.offersTLS() {
			return "502 5.5.1 not offered" // RFC 5321, section 4.2.4
		}
		accepted = true
		return "220 2.0.0 ready"
	})
	if err != nil || !accepted {
		return err
	}
	if !c.encrypt() {
		return errOver
	}
	c.greets = false
	c.reset()
	return nil
}

// admit is the refusal of what needs TLS, a greeting and a login first, or empty.
func (c *session) admit() string {
	switch {
	case c.offersTLS():
		return "530 5.7.0 Must issue a STARTTLS command first" // RFC 3207, section 4
	case !c.greets:
		return "503 5.5.1 EHLO first" // RFC 5321, section 4.1.4
	case c.cfg.Username != "" && !c.known:
		return "530 5.7.0 Authentication required" // RFC 4954, section 6
	}
	return ""
}

func (c *session) mail(arg string) string {
	if refusal := c.admit(); refusal != "" {
		return refusal
	}
	addr, params, ok := path(arg, "FROM:")
	c.utf8 = slices.Contains(params, "SMTPUTF8") && c.cfg.SMTPUTF8
	switch {
	case c.sender != nil:
		return "503 5.5.1 nested MAIL command" // RFC 5321, section 4.1.4
	case !ok || addr != "" && !sim.ValidAddress(addr):
		return "501 5.1.7 bad sender address" // RFC 5321, section 4.3.2; RFC 3463, section 3.2
	case !c.speaks(addr):
		return "553 5.6.7 SMTPUTF8 is required" // RFC 6531, section 3.5
	case slices.ContainsFunc(params, func(p string) bool { return !c.knows(p) }):
		return "555 5.5.4 parameter not recognized" // RFC 5321, section 4.1.1.11
	}
	c.sender = &addr
	return "250 2.1.0 ok"
}

func (c *session) knows(param string) bool {
	return strings.HasPrefix(param, "BODY=") || strings.HasPrefix(param, "SIZE=") || param == "SMTPUTF8" && c.cfg.SMTPUTF8
}

func (c *session) speaks(addr string) bool { return sim.IsASCII(addr) || c.utf8 }

func (c *session) rcpt(arg string) string {
	if refusal := c.admit(); refusal != "" {
		return refusal
	}
	addr, params, ok := path(arg, "TO:")
	switch {
	case c.sender == nil:
		return "503 5.5.1 MAIL first" // RFC 5321, section 4.1.4
	case len(params) > 0:
		return "555 5.5.4 parameter not recognized" // RFC 5321, section 4.1.1.11
	case !ok || !sim.ValidAddress(addr):
		return "501 5.1.3 bad recipient address" // RFC 5321, section 4.3.2; RFC 3463, section 3.2
	case !c.speaks(addr):
		return "553 5.6.7 SMTPUTF8 is required" // RFC 6531, section 3.5
	case len(c.recipients) >= c.cfg.MaxRecipients:
		return "452 4.5.3 too many recipients" // RFC 5321, section 4.5.3.1.10
	}
	c.recipients = append(c.recipients, addr)
	return "250 2.1.5 ok"
}

// path reads "FROM:<a@b> PARAM…" (RFC 5321, section 4.1.2); no space stands after the colon (section 3.3).
func path(arg, word string) (addr string, params []string, ok bool) {
	if len(arg) < len(word) || !strings.EqualFold(arg[:len(word)], word) {
		return "", nil, false
	}
	inside, rest, ok := strings.Cut(arg[len(word):], ">")
	if !ok || !strings.HasPrefix(inside, "<") {
		return "", nil, false
	}
	return inside[1:], strings.Fields(rest), true
}

func (c *session) data() error {
	refusal := c.admit()
	if refusal == "" && len(c.recipients) == 0 {
		refusal = "503 5.5.1 no valid recipients" // RFC 5321, section 4.1.1.4
	}
	taken := false
	if err := c.step("DATA", "", func() string {
		if refusal != "" {
			return refusal
		}
		taken = true
		return "354 end with a dot"
	}); err != nil || !taken {
		return err
	}
	raw, problem, err := c.text()
	if err != nil {
		return err
	}
	err = c.step(End, "", func() string {
		if problem != "" {
			return problem
		}
		return c.keep(raw)
	})
	c.reset()
	return err
}

// text reads a message up to its dot, without the stuffed ones (RFC 5321, section 4.5.2). Only a dot between two CRLF ends
// it (section 4.1.1.4), whatever is wrong with the message.
func (c *session) text() (raw []byte, problem string, err error) {
	start := true // of a line
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, "", err
		}
		if start && string(line) == ".\r\n" {
			return raw, problem, nil
		}
		if problem == "" {
			problem = c.flaw(line, len(raw))
		}
		if start {
			line = bytes.TrimPrefix(line, []byte("."))
		}
		start = bytes.HasSuffix(line, []byte("\r\n"))
		if problem == "" {
			raw = append(raw, line...)
		}
	}
}

// flaw is the refusal of a message for one of its lines, or empty.
func (c *session) flaw(line []byte, before int) string {
	switch {
	case len(line) > maxText:
		return "500 5.5.2 line too long" // RFC 5321, section 4.5.3.1.9
	case !bytes.HasSuffix(line, []byte("\r\n")) || bytes.ContainsRune(line[:len(line)-2], '\r'):
		return "554 5.6.0 bare CR or LF" // RFC 5321, section 2.3.8
	case before+len(line) > c.cfg.MaxSize:
		return "552 5.3.4 message size exceeds fixed maximum message size" // RFC 1870, section 6.3
	}
	return ""
}

func (c *session) keep(raw []byte) string {
	parsed, err := sim.ParseMIME(raw)
	if err != nil {
		return "554 5.6.0 not a message" // RFC 5321, section 6.3
	}
	m := Mail{Mail: parsed, Sender: *c.sender, Recipients: slices.Clone(c.recipients), Raw: raw}
	m.Bcc, m.ProviderID = nil, rand.Text()[:10]
	for _, r := range m.Recipients {
		if !slices.ContainsFunc(slices.Concat(m.To, m.Cc), func(a address) bool { return strings.EqualFold(a.Address, r) }) {
			m.Bcc = append(m.Bcc, address{Address: r})
		}
	}
	c.Mails.Add(m.ID, m)
	return "250 2.0.0 Ok: queued as " + m.ProviderID
}
